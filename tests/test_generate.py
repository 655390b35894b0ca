"""New sounds from a VAE, and the v1 files it lives in: saved, loaded, drawn, moved, walked; on the command line too."""

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import distill
from distill.audio.io import read_waveform
from distill.audio.spectrogram import SpectrogramConfig, mark_end
from distill.data.collection import find_audio_files
from distill.errors import AudioError, ConfigError, LibraryError, ModelFileError
from distill.library.catalog import ModelLibrary
from distill.models.analysis import PROPERTIES
from distill.models.generate import between, move, named_directions, render, sample_latents
from distill.models.loaded_vae import LoadedModel
from distill.models.loaded_vqvae import LoadedVQModel
from distill.models.persistence import (
    ModelMetadata,
    delete_model,
    load_any,
    load_model,
    load_model_v2,
    rename_model,
    save_model,
    save_model_from_checkpoint,
    save_model_v2,
)
from distill.models.vae import ConvVAE
from distill.models.vqvae import ConvVQVAE
from distill.training.checkpoint import list_checkpoints
from distill.training.config import TrainingConfig
from distill.training.loop import train
from support.commands import Said, assert_refused, run, strict
from support.sounds import RATE, tone, write_collection
from support.stops import StopAt

pytestmark = pytest.mark.usefixtures("narrow_nets")

KEYS = {
    "format", "version", "model_type", "model_state_dict", "vae_config", "spectrogram_config", "training_config",
    "latent_analysis", "loss_curve_history", "metadata",
}  # fmt: skip
MEL = SpectrogramConfig(sample_rate=16_000, n_fft=512, hop_length=160, n_mels=32)
ANALYSIS = {
    "mean": [0.0] * 4,
    "components": [
        {
            "direction": [1.0, 0.0, 0.0, 0.0], "std": 2.0, "name": "brightness",
            "effects": dict.fromkeys(PROPERTIES, 0.5), "safe_range": [-1.5, 2.0],
        },
        {"direction": [0.0, 1.0, 0.0, 0.0], "std": 0.0},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sounds, a VAE trained on them by the command, and an RVQ-VAE beside it; tests only read it."""
    world = tmp_path_factory.mktemp("world")
    write_collection(world / "kit", 4)
    said = run(
        "train", world / "kit", "--model", "vae", "--epochs", 3, "--batch-size", 8, "--learning-rate", 0.005,
        "--output-dir", world / "run", "--models-dir", world / "models",
    )  # fmt: skip
    assert said.code == 0, said.err
    (world / "said.txt").write_text(said.out)
    codes = ConvVQVAE(codebook_dim=8, codebook_size=8, num_quantizers=2)
    save_model_v2(codes, SpectrogramConfig(), {}, {}, ModelMetadata(name="Codes"), world / "models")
    return world


@pytest.fixture(scope="module")
def trained(world: Path) -> LoadedModel:
    return load_model(world / "models" / "kit.distill")


@pytest.fixture
def model() -> ConvVAE:
    torch.manual_seed(0)
    return ConvVAE(latent_dim=4, n_mels=32, frames=48)


def save(model: ConvVAE, folder: Path, **changes: object) -> Path:
    about = ModelMetadata(name="Pads")
    return save_model(model, MEL, {"max_epochs": 2}, about, folder, **({"analysis": ANALYSIS} | changes))


@pytest.fixture
def saved(model: ConvVAE, tmp_path: Path) -> Path:
    return save(model, tmp_path / "models")


# v1 files


def test_a_file_has_exactly_its_keys_and_is_of_version_1(saved):
    content = torch.load(saved, weights_only=True)
    assert content.keys() == KEYS
    assert (content["format"], content["version"], content["model_type"]) == ("distill_model", 1, "vae")


def test_what_is_saved_comes_back(model, saved):
    loaded = load_model(str(saved))
    assert [field.name for field in dataclasses.fields(LoadedModel)] == [
        "model", "spectrogram", "metadata", "device", "analysis"
    ]  # fmt: skip
    assert loaded.analysis == ANALYSIS
    assert loaded.spectrogram.config == MEL
    assert loaded.metadata.name == "Pads"
    assert loaded.metadata.model_id
    assert not any(module.training for module in loaded.model.modules())
    mel = torch.rand(2, 1, 32, 40) - 0.5
    for ours, theirs in zip(loaded.model(mel), model.eval()(mel)):
        assert torch.equal(ours, theirs)


def test_the_analysis_may_be_left_out(model, tmp_path):
    loaded = load_model(save(model, tmp_path, analysis=None))
    assert loaded.analysis is None
    with pytest.raises(ConfigError, match="without an analysis"):
        move(loaded, sample_latents(loaded, 1, 0), {"brightness": 1.0})


def test_without_an_analysis_latents_come_from_the_prior(model, tmp_path):
    latents = sample_latents(load_model(save(model, tmp_path, analysis=None)), 2000, 0)
    assert latents.mean().abs() < 0.05
    assert latents.std() == pytest.approx(1, abs=0.05)


def test_a_model_without_an_analysis_can_still_walk(model, tmp_path, write_sound):
    save(model, tmp_path / "models", analysis=None)
    ends = [write_sound(name, tone(frequency, 0.2)) for name, frequency in (("a.wav", 200), ("b.wav", 900))]
    said = run(
        "generate", "Pads", "--models-dir", tmp_path / "models", "-o", tmp_path / "walk", "--interpolate", *ends,
        "--steps", 2, "--seconds", 0.2,
    )  # fmt: skip
    assert said.code == 0, said.err


def test_a_v1_model_reconstructs_a_sound_of_any_length_and_has_no_levels(saved):
    loaded = load_model(saved)
    made = loaded.reconstruct(tone(440, 1.3), sample_rate=RATE)
    assert (made.dtype, len(made), loaded.sample_rate) == (np.float32, 20_800, 16_000)
    assert np.isfinite(made).all()
    with pytest.raises(ConfigError, match="no levels"):
        loaded.reconstruct(tone(440, 0.3), levels=1)


def test_each_loader_says_which_function_the_other_familys_file_needs(saved, world):
    with pytest.raises(ValueError, match=re.escape("Not a v1 VAE model. Use load_model_v2() for v2 models.")):
        load_model(world / "models" / "Codes.distill")
    with pytest.raises(ValueError, match=re.escape("Not a v2 VQ-VAE model. Use load_model() for v1 models.")):
        load_model_v2(saved)


def test_load_takes_either_family(world):
    assert isinstance(distill.load("kit", models_dir=world / "models"), LoadedModel)
    assert isinstance(distill.load("Codes", models_dir=world / "models"), LoadedVQModel)
    assert isinstance(load_any(world / "models" / "kit.distill"), LoadedModel)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "vqvae"},
        {"latent_analysis": "text"},
        {"latent_analysis": {"mean": [0.0] * 4}},
        {"latent_analysis": ANALYSIS | {"mean": [0.0] * 3}},
        {"latent_analysis": ANALYSIS | {"components": [{"name": "brightness"}]}},
        {"latent_analysis": ANALYSIS | {"examples": [[0.0] * 4, [0.0] * 5]}},
        {"vae_config": {"latent_dim": 4}},
        {"vae_config": {"latent_dim": 10**9, "dropout": 0.2, "n_mels": 32, "frames": 48}},
        {"vae_config": {"latent_dim": 4, "dropout": 0.2, "n_mels": 32, "frames": 47}},
        {"spectrogram_config": dataclasses.asdict(MEL) | {"n_mels": 64}},
        {"model_state_dict": {}},
        {"kl_weight": 1.0},
    ],
    ids=lambda changes: f"{next(iter(changes))} {str(*changes.values())[:30]}",
)
def test_a_damaged_file_is_refused_when_it_is_loaded_and_not_when_it_is_used(saved, changes):
    torch.save(torch.load(saved, weights_only=True) | changes, saved)
    with pytest.raises(ModelFileError):
        load_model(saved)


def test_a_checkpoint_becomes_a_model_with_its_best_weights(world, trained, tmp_path):
    checkpoint = list_checkpoints(world / "run" / "checkpoints")[-1]
    loaded = load_model(save_model_from_checkpoint(checkpoint, ModelMetadata(name="Rescued"), tmp_path))
    weights = trained.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in loaded.model.state_dict().items())
    assert loaded.spectrogram.config == trained.spectrogram.config
    assert [entry.name for entry in ModelLibrary(tmp_path).entries()] == ["Rescued"]


@pytest.mark.parametrize("content", [{}, [1], {"family": "vqvae"}, {"family": "vae"}], ids=str)
def test_what_is_no_checkpoint_of_a_vae_makes_no_model(content, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ModelFileError):
        save_model_from_checkpoint(tmp_path / "x.pt", ModelMetadata(), tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_deleted_model_is_gone_from_disk_and_index(saved):
    delete_model(load_model(saved).metadata.model_id, saved.parent)
    assert not saved.exists()
    assert ModelLibrary(saved.parent).entries() == []
    with pytest.raises(LibraryError):
        delete_model("unknown", saved.parent)


def test_a_renamed_model_keeps_its_analysis(saved):
    library = ModelLibrary(saved.parent)
    loaded = load_model(rename_model(library, library.find("Pads"), "Drones"))
    assert (loaded.metadata.name, loaded.analysis) == ("Drones", ANALYSIS)


# Latents: drawn, moved, walked


def test_the_same_seed_draws_the_same_latents_and_another_draws_others(trained):
    one = sample_latents(trained, 5, seed=3)
    assert one.shape == (5, trained.model.latent_dim)
    assert torch.equal(one, sample_latents(trained, 5, seed=3))
    assert not torch.equal(one, sample_latents(trained, 5, seed=4))
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    sample_latents(trained, 5, seed=3)
    assert torch.equal(torch.rand(2), expected)


def test_a_seed_is_a_sound_however_it_is_asked_for(trained):
    together = list(trained.generate(3, seconds=1.2, seed=5))
    assert all(np.array_equal(one, *trained.generate(1, 1.2, seed=5 + n)) for n, one in enumerate(together))
    varied = list(trained.vary(tone(300, 0.3), 0.5, count=2, seed=5))
    assert np.array_equal(varied[1], *trained.vary(tone(300, 0.3), 0.5, seed=6))


def test_latents_are_drawn_from_where_the_training_sounds_are(saved):
    drawn = sample_latents(load_model(saved), 4000, seed=0)
    torch.testing.assert_close(drawn.mean(dim=0), torch.zeros(4), atol=0.1, rtol=0)
    torch.testing.assert_close(drawn.std(dim=0), torch.tensor([2.0, 0, 0, 0]), atol=0.1, rtol=0)


EXAMPLES = [[6.0, 0.0, 0.0, 0.0], [-6.0, 0.0, 0.0, 0.0], [0.0, 6.0, 0.0, 0.0], [0.0, -6.0, 0.0, 0.0]]


def test_latents_are_drawn_around_the_examples_and_spread_like_the_sounds(model, tmp_path):
    spread = 6 / 2**0.5  # of the examples, in each of the two directions
    components = [{"direction": row, "std": spread} for row in torch.eye(4)[:2].tolist()]
    analysis = {"mean": [0.0] * 4, "components": components, "examples": EXAMPLES}
    loaded = load_model(save(model, tmp_path, analysis=analysis))
    drawn = sample_latents(loaded, 4000, seed=0)
    torch.testing.assert_close(drawn.mean(dim=0), torch.zeros(4), atol=0.3, rtol=0)
    torch.testing.assert_close(drawn.std(dim=0), torch.tensor([spread, spread, 0, 0]), rtol=0.05, atol=0)
    distance = torch.cdist(drawn, 0.75**0.5 * torch.tensor(EXAMPLES)).amin(dim=1)
    assert distance.square().mean().sqrt() < 0.8 * spread  # one Gaussian around all would have more


def test_a_move_is_so_many_standard_deviations_along_the_direction(saved):
    loaded = load_model(saved)
    moved = move(loaded, torch.zeros(2, 4), {"brightness": 1.5})
    assert torch.equal(moved, torch.tensor([[3.0, 0, 0, 0]] * 2))
    assert torch.equal(move(loaded, moved, {}), moved)


def test_more_of_a_direction_is_more_of_what_it_is_called_after(trained):
    # Of the directions that change a property, the one that does so most has the bare name.
    name, direction = next((name, found) for name, found in named_directions(trained).items() if name in PROPERTIES)
    measure, decibels = PROPERTIES[name], trained.spectrogram.decibels
    start = sample_latents(trained, 8, seed=1)
    with torch.no_grad():
        less, more = (
            measure(decibels(trained.model.decode(move(trained, start, {name: amount}))).squeeze(1)).mean()
            for amount in (-1.0, 1.0)
        )
    assert more > less
    assert direction["effects"][name] > 0


def test_an_unknown_direction_is_refused_by_naming_the_known(trained):
    with pytest.raises(ConfigError, match=f"'wetness' is not a direction.*{next(iter(named_directions(trained)))}"):
        move(trained, sample_latents(trained, 1, 0), {"wetness": 1.0})


def test_a_walk_begins_at_one_sound_and_ends_at_the_other(trained, world):
    ends = [world / "kit" / name for name in ("tone_00.wav", "tone_03.wav")]
    sounds = [read_waveform(path, RATE) for path in ends]
    walk = torch.stack([between(trained, *sounds, step / 4) for step in range(5)])
    for place, path in zip((0, -1), ends):
        waveform = mark_end(torch.from_numpy(read_waveform(path, RATE)))
        with torch.no_grad():
            latent, _ = trained.model.encode(trained.spectrogram.waveform_to_mel(waveform[None, None]))
        torch.testing.assert_close(walk[place], latent[0])
    torch.testing.assert_close(walk.diff(dim=0), ((walk[-1] - walk[0]) / 4).expand(4, -1), atol=1e-4, rtol=1e-3)


def test_a_walk_may_begin_with_a_sound_longer_than_a_chunk(trained, world, write_sound):
    long = write_sound("long.wav", tone(220, 2.5))
    (sound,) = trained.morph(long, world / "kit" / "tone_00.wav", [0.5])
    assert np.isfinite(sound).all()
    with pytest.raises(AudioError):
        next(trained.morph(long, world / "missing.wav", [0.5]))


# Rendering


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 0.2, 1.0, 1.02, 3.1])
def test_a_sound_is_exactly_as_long_as_asked(trained, seconds):
    one, other = sample_latents(trained, 2, seed=0)
    sound = render(trained, one, seconds, other)
    assert (sound.dtype, len(sound)) == (np.float32, max(1, round(seconds * RATE)))
    assert np.isfinite(sound).all()
    if seconds >= 0.2:
        assert np.abs(sound).max() > 1e-3


def test_a_long_sound_goes_on_sounding_to_its_end(trained):
    sound = render(trained, sample_latents(trained, 1, seed=0)[0], 4.0)
    assert all(np.abs(quarter).max() > 1e-3 for quarter in np.array_split(sound, 4))


def test_a_long_sound_moves_towards_the_other_while_a_short_one_does_not(trained):
    one, other = sample_latents(trained, 2, seed=0)
    assert not np.array_equal(render(trained, one, 2.5, other), render(trained, one, 2.5))
    assert np.array_equal(render(trained, one, 0.5, other), render(trained, one, 0.5))


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 601])
def test_impossible_lengths_are_refused(trained, seconds):
    with pytest.raises(ConfigError, match="seconds"):
        render(trained, sample_latents(trained, 1, seed=0)[0], seconds)


# On the command line


def generate(world: Path, folder: Path, *options: object, model: str = "kit") -> Said:
    return run("generate", model, "--models-dir", world / "models", "-o", folder, *options)


def sounds(folder: Path) -> list[np.ndarray]:
    return [soundfile.read(path)[0] for path in sorted(folder.glob("*.wav"))]


def test_generate_writes_so_many_different_sounds_of_that_length(world, tmp_path):
    said = generate(world, tmp_path / "new", "-n", 3, "--seed", 3, "--seconds", 0.4, "--no-trim")
    assert said.code == 0, said.err
    made = sounds(tmp_path / "new")
    assert said.out.splitlines() == [str(tmp_path / "new" / f"kit_new_seed00{n}.wav") for n in (3, 4, 5)]
    assert [len(sound) for sound in made] == [19_200] * 3
    assert len({sound.tobytes() for sound in made}) == 3
    assert all(np.abs(sound).max() > 1e-3 for sound in made)


def test_the_seed_decides_the_sounds(world, tmp_path):
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        assert generate(world, tmp_path / name, "-n", 1, "--seed", seed, "--seconds", 0.2).code == 0
    one, again, other = (sounds(tmp_path / name)[0] for name in ("one", "again", "other"))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_sounds_that_are_there_are_not_replaced_unless_asked(world, tmp_path):
    def names() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir())

    short = ("-n", 2, "--seconds", 0.1)
    for _ in range(2):
        assert generate(world, tmp_path, *short).code == 0
    assert names() == [f"kit_new_seed00{n}.wav" for n in range(4)]
    assert len({sound.tobytes() for sound in sounds(tmp_path)}) == 4
    (tmp_path / "kit_new_seed003.wav").write_bytes(b"mine")
    assert generate(world, tmp_path, "-n", 1, "--seconds", 0.1, "--seed", 3).code == 0
    assert "kit_new_seed003_2.wav" in names()
    assert (tmp_path / "kit_new_seed003.wav").read_bytes() == b"mine"
    assert generate(world, tmp_path, *short, "--seed", 3, "--overwrite").code == 0
    assert len(names()) == 6
    assert (tmp_path / "kit_new_seed003.wav").read_bytes() != b"mine"


def test_set_moves_the_sounds_and_warns_only_beyond_where_sounds_are(world, trained, tmp_path):
    name, direction = next(iter(named_directions(trained).items()))
    inside = 0.5 * direction["safe_range"][1]
    short = ("-n", 1, "--seconds", 0.2)
    generate(world, tmp_path / "plain", *short)
    said = generate(world, tmp_path / "inside", *short, "--set", f"{name}={inside:+.3f}")
    assert (said.code, said.err) == (0, "")
    said = generate(world, tmp_path / "outside", *short, "--set", f"{name}=+50")
    assert said.code == 0
    assert f"{name} +50 is outside" in said.err
    plain, moved = (sounds(tmp_path / folder)[0] for folder in ("plain", "inside"))
    assert not np.array_equal(plain, moved)


def test_an_unknown_direction_on_the_command_line_names_the_known(world, trained, tmp_path):
    said = generate(world, tmp_path / "new", "--set", "wetness=1")
    assert_refused(said, 1, "'wetness' is not a direction")
    assert all(name in said.err for name in named_directions(trained))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("wrong", ["brightness", "brightness=", "brightness=loud", "brightness=nan", "brightness=1e9"])
def test_a_set_that_makes_no_sense_is_a_usage_error(world, tmp_path, wrong):
    said = generate(world, tmp_path, "--set", wrong)
    assert said.code == 2
    assert f"--set {wrong}" in " ".join(said.err.split())


def test_interpolate_walks_between_two_sounds(world, tmp_path):
    ends = (world / "kit" / "tone_00.wav", world / "kit" / "tone_03.wav")
    said = generate(world, tmp_path / "walk", "--interpolate", *ends, "--steps", 4, "--seconds", 0.3, "--no-trim")
    assert said.code == 0, said.err
    assert "distill morph" in said.err
    made = sounds(tmp_path / "walk")
    assert [len(sound) for sound in made] == [14_400] * 4
    assert len({sound.tobytes() for sound in made}) == 4


def test_interpolate_names_a_sound_that_is_not_there(world, tmp_path):
    ends = (world / "kit" / "tone_00.wav", world / "missing.wav")
    assert_refused(generate(world, tmp_path / "walk", "--interpolate", *ends), 1, "missing.wav")


def test_a_varied_sound_of_a_vae_is_between_it_and_a_new_one(trained):
    sound = tone(300, 0.5)
    made = {strength: next(trained.vary(sound, strength, seed=3)) for strength in (0.0, 0.2, 1.0)}
    assert {len(one) for one in made.values()} == {round(0.5 * trained.sample_rate)}
    mels = {
        strength: trained.spectrogram.waveform_to_mel(torch.from_numpy(one)[None, None])
        for strength, one in made.items()
    }
    near, far = (float((mels[0.0] - mels[strength]).abs().mean()) for strength in (0.2, 1.0))
    assert 0 < near < far
    with pytest.raises(ConfigError, match="strength is 2"):
        next(trained.vary(sound, 2))


def test_a_vae_refuses_to_extend_and_to_fill_a_gap_in_a_sentence(trained):
    with pytest.raises(ConfigError, match="a model of codes can"):
        trained.extend(tone(300, 0.5), 1.0)
    with pytest.raises(ConfigError, match="a model of codes can"):
        trained.inpaint(tone(300, 0.5), 0.1, 0.2)


def test_a_model_of_codes_without_a_prior_cannot_generate_and_says_what_helps(world, tmp_path):
    said = generate(world, tmp_path / "new", model="Codes")
    assert_refused(said, 1, "--prior-only")
    assert "makes no new sounds" in said.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("option", [("-n", 0), ("--seconds", 0), ("--steps", 1), ("--seed", -1)], ids=str)
def test_options_out_of_range_are_usage_errors(world, tmp_path, option):
    assert generate(world, tmp_path, *option).code == 2


@pytest.mark.parametrize(
    "option", [("--codebook-size", 64), ("--rvq-levels", 2), ("--commitment-weight", 0.5)], ids=str
)
def test_settings_of_codes_make_no_sense_for_a_vae(world, tmp_path, option):
    said = run("train", world / "kit", "--model", "vae", *option, "--output-dir", tmp_path / "run")
    assert said.code == 2
    assert "a vae does not use" in said.err
    assert not (tmp_path / "run").exists()


# One code path for both families


def test_training_a_vae_shows_its_latent_space(world):
    said = (world / "said.txt").read_text()
    assert re.search(r"latent space: \d+ of 64 dimensions active, KL [\d.]+ nats", said)
    assert "latent dimensions 64 (auto)" in said
    assert "codebook" not in said
    facts = json.loads((world / "run" / "run.json").read_text())
    assert facts["family"] == "vae"
    assert (world / "run" / "run.png").is_file()


def test_show_lists_the_directions_with_their_safe_range(world, trained):
    said = run("models", "show", "kit", "--models-dir", world / "models")
    assert said.code == 0
    for name, direction in named_directions(trained).items():
        low, high = direction["safe_range"]
        assert re.search(rf"^ *{name} +{re.escape(f'{low:+.1f} to {high:+.1f}')}", said.out, re.MULTILINE)
    header = strict(run("models", "show", "kit", "--models-dir", world / "models", "--json").out)
    assert header["analysis"] == trained.analysis


def test_the_library_lists_both_families(world):
    said = run("models", "list", "--models-dir", world / "models", "--json")
    assert {entry["name"]: entry["model_type"] for entry in strict(said.out)} == {"kit": "vae", "Codes": "vqvae"}
    assert run("models", "list", "--models-dir", world / "models").code == 0


def test_reconstruct_works_by_the_same_command(world, tmp_path):
    source = world / "kit" / "tone_03.wav"
    arguments = ("reconstruct", "kit", source, "-o", tmp_path / "out", "--models-dir", world / "models")
    assert run(*arguments).code == 0
    assert soundfile.info(tmp_path / "out" / "tone_03.wav").frames == soundfile.info(source).frames
    assert_refused(run(*arguments, "--overwrite", "--levels", 2), 1, "no levels")


def test_a_stopped_vae_run_goes_on_by_the_same_command(world, tmp_path):
    stop = StopAt(object)
    config = TrainingConfig(latent_dim=8, batch_size=4, max_epochs=2, val_fraction=0.5, preview_interval=99)
    train(
        config, find_audio_files(world / "kit"), tmp_path / "run", callback=stop, cancel_event=stop.cancel,
        models_dir=tmp_path / "models", model_name="Resumed",
    )  # fmt: skip
    assert not (tmp_path / "models").exists()
    said = run("train", "--resume", tmp_path / "run")
    assert said.code == 0, said.err
    assert load_model(tmp_path / "models" / "Resumed.distill").analysis
    assert_refused(run("train", "--resume", tmp_path / "run"), 1, "this run is finished")
