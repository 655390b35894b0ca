"""New sounds from the default model: a run ends with a prior in its file, and everything that can be made with it."""

import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import distill
from distill.audio.spectrogram import SpectrogramConfig
from distill.errors import ConfigError, ModelFileError, TrainPrior
from distill.models.archive import read_archive, write_archive
from distill.models.codes import Codes
from distill.models.loaded_vqvae import LoadedVQModel
from distill.models.new_sounds import codes_of, redrawn
from distill.models.persistence import load_model_v2
from distill.models.prior import CodePrior, embed
from distill.models.targets import going_on
from distill.training.execution import run_training
from distill.training.loop import train_vqvae
from distill.training.metrics import PriorEpochMetrics, PriorStepMetrics, TrainingCompleteEvent, VQStepMetrics
from distill.training.prior_loop import PriorObjective
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder
from support.commands import assert_refused, run, strict
from support.runs import make_runs_quick, small_config
from support.sounds import write_collection


@pytest.fixture(autouse=True, scope="module")
def quick():
    with pytest.MonkeyPatch.context() as patch:
        make_runs_quick(patch)
        yield


def trained(folder: Path, sounds: list[Path], callback=None, cancel=None, resume: bool = False, **changes):
    return train_vqvae(
        small_config(with_prior=True, **changes), sounds, folder / "run",
        models_dir=folder / "models", model_name="kit", callback=callback, cancel_event=cancel,
        resume_from=folder / "run" if resume else None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> list[Path]:
    return sorted(write_collection(tmp_path_factory.mktemp("sounds"), 8).iterdir())


@pytest.fixture(scope="module")
def kit(tmp_path_factory, sounds) -> Path:
    folder = tmp_path_factory.mktemp("kit")
    trained(folder, sounds)
    return folder


@pytest.fixture(scope="module")
def model(kit) -> LoadedVQModel:
    loaded = distill.load("kit", models_dir=kit / "models")
    assert isinstance(loaded, LoadedVQModel)
    return loaded


@pytest.fixture(scope="module")
def sound(model, sounds) -> np.ndarray:
    return model.waveform(sounds[-1])


# The run


def test_a_run_trains_the_prior_last_and_tells_its_end_once(tmp_path, sounds):
    events = []
    trained(tmp_path, sounds, callback=events.append)
    kinds = [type(event) for event in events if isinstance(event, VQStepMetrics | PriorStepMetrics)]
    assert kinds == sorted(kinds, key=lambda kind: kind is PriorStepMetrics)
    assert set(kinds) == {VQStepMetrics, PriorStepMetrics}
    assert [type(event) for event in events].count(TrainingCompleteEvent) == 1
    assert isinstance(events[-1], TrainingCompleteEvent)
    last = [event for event in events if isinstance(event, PriorEpochMetrics)][-1]
    assert last.val_code_bits > 0
    assert last.unigram_bits > 0
    assert {event.read_info().family for event in (RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run/prior"))} == {
        "vqvae", "prior",
    }  # fmt: skip


def test_the_file_has_the_prior_under_its_prefix_and_loads_with_it(kit, model):
    content = read_archive(next((kit / "models").glob("*.distill")))
    assert content["vqvae_config"]["prior"]["width"] == 16
    assert any(name.startswith("prior.memory.") for name in content["model_state_dict"])
    assert isinstance(model.model.prior, CodePrior)
    assert model.generates
    assert model.lacks == []


def test_without_a_prior_the_rest_of_the_file_is_the_same_to_the_bit(kit, tmp_path, sounds):
    train_vqvae(small_config(), sounds, tmp_path / "run", models_dir=tmp_path / "models", model_name="kit")
    with_prior, without = (
        read_archive(next((folder / "models").glob("*.distill")))["model_state_dict"] for folder in (kit, tmp_path)
    )
    assert without.keys() == {name for name in with_prior if not name.startswith("prior.")}
    assert all(torch.equal(with_prior[name], without[name]) for name in without)


@pytest.mark.parametrize("stop", [(0, 0), (0, 2), (1, 1)])
def test_a_run_stopped_while_its_prior_is_trained_goes_on_to_the_same_bits(kit, tmp_path, sounds, stop):
    cancel = threading.Event()

    def at_step(event):
        if isinstance(event, PriorStepMetrics) and (event.epoch, event.step) == stop:
            cancel.set()

    trained(tmp_path, sounds, callback=at_step, cancel=cancel)
    assert RunFolder(tmp_path / "run").read_info().model_path is None
    assert load_model_v2(next((tmp_path / "models").glob("*.distill"))).lacks == ["prior"]
    events = []
    trained(tmp_path, sounds, callback=events.append, resume=True)
    assert not [event for event in events if isinstance(event, VQStepMetrics)]
    assert RunFolder(tmp_path / "run").read_info().model_path
    one, other = (read_archive(next((f / "models").glob("*.distill")))["model_state_dict"] for f in (kit, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_model_without_a_prior_is_given_one_and_told_of_copies(tmp_path, sounds, monkeypatch):
    monkeypatch.setattr(PriorObjective, "_copied", lambda *_: 0.3)
    trained_without = train_vqvae(small_config(), sounds, tmp_path / "run", models_dir=tmp_path / "m", model_name="kit")
    assert trained_without
    folder = sounds[0].parent
    places = ("--models-dir", tmp_path / "m", "--output-dir", tmp_path / "p")
    said = run("train", "--prior-only", "kit", folder, "--epochs", 1, *places)
    assert said.code == 0
    assert "New sounds (prior): epoch 1/1" in said.out
    assert "near copies 30% (usual: up to 10%)" in said.out
    assert said.out.count("warning: new sounds come close to being copies: 30% of them") == 1
    assert distill.load("kit", models_dir=tmp_path / "m").generates


@pytest.mark.parametrize(
    ("name", "value"), [("anchors", 16), ("anchors", -2), ("anchor_lengths", -1), ("anchor_lengths", 999)]
)
def test_a_prior_with_codes_that_there_are_not_is_refused(kit, tmp_path, name, value):
    content = read_archive(next((kit / "models").glob("*.distill")))
    content["model_state_dict"][f"prior.{name}"][3] = value
    write_archive(tmp_path / "hostile.distill", content)
    with pytest.raises(ModelFileError, match="its prior is damaged"):
        load_model_v2(tmp_path / "hostile.distill")


def test_a_model_of_another_mel_is_given_a_prior_of_its_own_codes(tmp_path, sounds):
    log_mel = SpectrogramConfig(sample_rate=24_000, n_fft=1024, hop_length=256, n_mels=64)
    places = {"models_dir": tmp_path / "m", "model_name": "older"}
    train_vqvae(small_config(), sounds, tmp_path / "run", spectrogram_config=log_mel, **places)
    places = {"models_dir": tmp_path / "m", "output_dir": tmp_path / "p"}
    older = distill.train_prior("older", sounds[0].parent, **places, max_epochs=1)
    (made,) = older.generate(1, seconds=0.4)
    assert distill.load("older", models_dir=tmp_path / "m").generates
    assert len(made) == round(0.4 * 24_000)


# What is made with it


def test_new_sounds_differ_from_each_other_are_within_full_scale_and_the_same_for_a_seed(model):
    made = list(model.generate(5, seed=3))
    again = list(model.generate(5, seed=3))
    assert len({sound.tobytes() for sound in made}) == 5
    assert all(np.array_equal(one, other) for one, other in zip(again, made, strict=True))
    assert all(np.abs(sound).max() <= 1 for sound in made)
    assert all(np.isfinite(sound).all() for sound in made)
    assert all(abs(sound[-1]) < 1e-3 for sound in made)


def test_a_seed_is_a_sound_however_it_is_asked_for(model, sound):
    together = list(model.generate(6, seed=3))
    assert all(np.array_equal(one, next(model.generate(1, seed=3 + n))) for n, one in enumerate(together))
    varied = list(model.vary(sound, 0.4, count=5, seed=3))
    assert all(np.array_equal(one, next(model.vary(sound, 0.4, seed=3 + n))) for n, one in enumerate(varied))


def test_a_model_is_saved_as_it_was_loaded(kit, model, tmp_path):
    (original,) = (kit / "models").glob("*.distill")
    saved, found = (read_archive(path) for path in (model.save(tmp_path / "copy.distill"), original))
    weights, expected = saved.pop("model_state_dict"), found.pop("model_state_dict")
    assert saved == found
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    again = distill.load(tmp_path / "copy.distill")
    assert np.array_equal(next(again.generate(1)), next(model.generate(1)))


@pytest.mark.parametrize("seconds", [0.05, 0.7, 2.0])
def test_new_sounds_have_the_length_that_is_asked_for(model, seconds):
    (sound,) = model.generate(1, seconds=seconds)
    assert len(sound) == round(seconds * model.sample_rate)


def test_new_sounds_are_about_as_loud_as_the_collection(model, sounds):
    def level(heard):
        return 10 * np.log10(np.square(heard).mean() + 1e-12)

    # The four that a quick run is levelled by: of other sounds of so small a model, the loudness is any.
    made = np.median([level(sound) for sound in model.generate(4)])
    assert made == pytest.approx(np.median([level(model.waveform(path)) for path in sounds]), abs=1.5)


def test_a_varied_sound_is_the_reconstruction_at_0_and_less_and_less_like_it(model, sound):
    codes = codes_of(model, sound)

    def difference(strength):
        made = list(model.vary(sound, strength, count=4, seed=9))
        return float(np.mean([(_bands(model, one, len(sound)) - source).abs().mean() for one in made]))

    (same,) = model.vary(sound, 0.0)
    reconstructed = model.reconstruct(sound, model.sample_rate)
    source = _bands(model, same, len(sound))
    assert torch.equal(codes_of(model, sound), codes)
    assert float((source - _bands(model, reconstructed, len(sound))).abs().mean()) < 0.05
    found = [difference(strength) for strength in (0.1, 0.4, 0.7, 1.0)]
    assert found[0] < found[1] < found[-1]


def _bands(model: LoadedVQModel, sound: np.ndarray, length: int) -> torch.Tensor:
    fitted = np.pad(sound[:length], (0, max(0, length - len(sound))))
    return model.spectrogram.waveform_to_mel(torch.from_numpy(fitted)[None, None])


def test_an_extended_sound_begins_as_the_sound_and_lasts_longer(model, sound):
    made = model.extend(sound, 0.5, seed=1)
    assert len(made) == len(sound) + round(0.5 * model.sample_rate)
    half = len(sound) // 2
    before, after = (_bands(model, one, half) for one in (model.reconstruct(sound, model.sample_rate), made))
    assert float((before - after).abs().mean()) < 0.1


def test_a_filled_gap_leaves_what_is_around_it(model, sound):
    rate, columns = model.sample_rate, model.column_samples
    made = model.inpaint(sound, 0.25, 0.35, seed=2)
    assert len(made) == len(sound)
    before = round(0.25 * rate) - 2 * columns
    kept = (_bands(model, one, max(columns, before)) for one in (made, model.reconstruct(sound, rate)))
    first, second = kept
    assert float((first - second).abs().mean()) < 0.1


@pytest.mark.parametrize("strength", [0.3, 0.8, 1.0])
def test_columns_that_are_drawn_anew_leave_the_others_at_any_strength(model, sound, strength):
    codes = codes_of(model, sound)
    free = torch.zeros_like(codes, dtype=torch.bool)
    free[2:4] = True
    made = redrawn(model, codes, free, seed=1, strength=strength)
    assert torch.equal(made[~free], codes[~free])
    assert not torch.equal(made, codes)
    assert torch.equal(made, redrawn(model, codes, free, seed=1, strength=strength))


def test_a_gap_is_filled_with_what_leads_from_one_border_to_the_other(model):
    """In a steady sound, what fills a gap is as it was before, not just any sound of the collection."""
    rate = model.sample_rate
    steady = (0.3 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)
    vectors = embed(codes_of(model, steady), model.model.quantizer.codebooks)
    filled = embed(codes_of(model, model.inpaint(steady, 0.4, 0.6)), model.model.quantizer.codebooks)
    middle = len(vectors) // 2
    assert float((filled - vectors)[middle].norm()) < 0.5 * float(vectors[middle].norm())


def test_a_sound_goes_on_growing_softer_as_it_did_and_never_louder():
    fading = torch.rand(4, 3) * (0.9 ** torch.arange(12))[:, None, None]
    assert torch.allclose(going_on(fading[:6], 12), fading, atol=1e-6)
    rising = going_on(fading[:6].flip(0), 9)
    assert torch.equal(rising[6:], fading[0].expand(3, -1, -1))
    assert not going_on(torch.zeros(2, 4, 3), 5).any()


def test_a_morph_goes_from_one_sound_to_the_other(model, sounds):
    first, second = (model.waveform(path) for path in sounds[:2])
    steps = list(model.morph(first, second, 3))
    assert np.array_equal(steps[1], *model.morph(first, second, [0.5]))
    ends = [next(model.vary(one, 0.0)) for one in (first, second)]
    assert np.allclose(steps[0], ends[0], atol=1e-4)
    assert len(steps[2]) == len(second)
    assert all(np.isfinite(step).all() for step in steps)


def test_the_end_of_a_loop_meets_its_beginning(model):
    for loop in model.generate(3, seconds=0.8, loop=True):
        assert len(loop) % model.column_samples == 0
        step = np.abs(np.diff(np.concatenate([loop[-50:], loop[:50]])))
        inside = np.abs(np.diff(loop))
        assert step[49] <= max(inside.max(), 1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda m, s: list(m.generate(1, seconds=0.0)), "seconds is 0.0"),
        (lambda m, s: list(m.generate(1, seconds=601)), "at most 600"),
        (lambda m, s: list(m.generate(1, temperature=9)), "temperature is 9"),
        (lambda m, s: list(m.generate(1, moves={"brightness": 1.0})), "'brightness' is not a direction"),
        (lambda m, s: list(m.vary(s, 1.5)), "strength is 1.5"),
        (lambda m, s: list(m.vary(s, float("nan"))), "strength is nan"),
        (lambda m, s: list(m.morph(s, s, 1)), "steps is 1"),
        (lambda m, s: list(m.morph(s, s, [0.5, 1.5])), "steps is"),
        (lambda m, s: m.inpaint(s, 0.4, 0.2), "the gap is from 0.4 to 0.2 s"),
        (lambda m, s: m.inpaint(s, 0.1, 99.0), "it must lie in the sound"),
        (lambda m, s: m.extend(s[:200], 1.0), "shorter than a column"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(model, sound, make, said):
    with pytest.raises(ConfigError, match=said):
        make(model, sound)


def test_a_model_without_a_prior_says_how_to_get_one(tmp_path, sounds):
    train_vqvae(small_config(), sounds, tmp_path / "run", models_dir=tmp_path / "m", model_name="plain")
    plain = distill.load("plain", models_dir=tmp_path / "m")
    assert plain.lacks == ["prior"]
    assert not plain.generates
    with pytest.raises(ConfigError, match="has no prior") as refused:
        list(plain.generate(1))
    assert isinstance(refused.value.remedy, TrainPrior)
    assert_refused(run("generate", "plain", "--models-dir", tmp_path / "m", "-o", tmp_path / "out"), 1, "--prior-only")


# The command line


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (("generate", "kit", "-n", 3), 3),
        (("generate", "kit", "-n", 1, "--loop", "--seconds", 0.5), 1),
        (("vary", "kit", "SOUND", "--strength", 0.3, "-n", 2), 2),
        (("extend", "kit", "SOUND", "--seconds", 0.3), 1),
        (("inpaint", "kit", "SOUND", "--from", 0.2, "--to", 0.4), 1),
        (("morph", "kit", "SOUND", "OTHER", "--steps", 3), 3),
    ],
)
def test_commands_write_what_they_make(kit, sounds, tmp_path, arguments, count):
    files = {"SOUND": sounds[-1], "OTHER": sounds[1]}
    given = [files.get(item, item) for item in arguments]
    said = run(*given, "--models-dir", kit / "models", "-o", tmp_path / "out")
    assert said.code == 0, said.err
    written = sorted((tmp_path / "out").glob("*.wav"))
    assert len(written) == count
    assert all(soundfile.info(path).frames > 100 for path in written)
    assert run(*given, "--models-dir", kit / "models", "-o", tmp_path / "out").code == 0
    assert len(list((tmp_path / "out").glob("*.wav"))) == 2 * count, "a second time goes on counting"


def test_a_sound_becomes_codes_in_a_file_and_a_sound_again(kit, model, sounds, tmp_path):
    places = ("--models-dir", kit / "models", "-o", tmp_path)
    said = run("encode", "kit", sounds[-1], *places, "--json")
    assert said.code == 0, said.err
    (about,) = strict(said.out)["codes"]
    codes = Codes.load(about["file"])
    assert codes == model.encode(sounds[-1])
    assert about["shape"] == list(codes.grid.shape)
    assert_refused(run("encode", "kit", sounds[-1], *places), 1, "is there already")
    assert run("decode", "kit", about["file"], *places, "--no-trim", "--no-fade", "--bits", "32f").code == 0
    heard, _ = soundfile.read(tmp_path / f"kit_{sounds[-1].stem}_decoded.wav", dtype="float32")
    np.testing.assert_allclose(heard, model.decode(codes), atol=1e-6)
    Codes(codes.grid, "another", codes.seconds).save(tmp_path / "foreign.npz")
    assert_refused(run("decode", "kit", tmp_path / "foreign.npz", *places), 1, "codes of the model 'another'")


def test_sounds_are_written_as_a_sampler_wants_them(kit, tmp_path):
    places = ("--models-dir", kit / "models", "-o", tmp_path)
    form = ("--peak", -1, "--rate", 44_100, "--bits", "16", "--stereo", "--pack", "--zip", "--json")
    said = run("generate", "kit", "-n", 2, *places, *form)
    assert said.code == 0, said.err
    told = strict(said.out)
    for number, about in enumerate(told["sounds"]):
        info = soundfile.info(about["file"])
        assert (info.samplerate, info.subtype, info.channels) == (44_100, "PCM_16", 2)
        assert about["peak_dbfs"] == pytest.approx(-1, abs=1e-3)
        assert (about["seed"], about["seconds"]) == (number, pytest.approx(info.duration))
    assert {Path(path).name for path in told["pack"]} == {
        "kit.sfz", "kit.dspreset", "kit.multisample", "kit.txt", "kit.zip"
    }  # fmt: skip
    assert all(Path(path).is_file() for path in told["pack"])
    again = strict(run("generate", "kit", "-n", 1, *places, "--pack", "--json").out)
    assert (Path(again["pack"][0]).name, again["sounds"][0]["seed"]) == ("kit_2.sfz", 2)


@pytest.mark.parametrize("wrong", [("--peak", 1), ("--rate", 100), ("--bits", 12), ("--peak", "nan")], ids=str)
def test_what_no_sound_file_can_have_is_a_usage_error(kit, tmp_path, wrong):
    said = run("generate", "kit", "--models-dir", kit / "models", "-o", tmp_path / "out", *wrong)
    assert_refused(said, 2, wrong[0])
    assert not (tmp_path / "out").exists()


def test_seeds_end_where_they_end(kit, tmp_path):
    said = run("generate", "kit", "--models-dir", kit / "models", "-o", tmp_path, "-n", 2, "--seed", 2**32 - 1)
    assert_refused(said, 2, "the last seed is 4294967295")


def test_no_prior_is_trained_where_none_is_wanted(tmp_path, sounds):
    request = TrainingRequest.for_folder(
        sounds[0].parent, models_dir=tmp_path / "m", output_dir=tmp_path / "run", max_epochs=1, with_prior=False
    )
    run_training(request)
    assert not (tmp_path / "run" / "prior").exists()
    assert request.config.with_prior is False
    assert TrainingRequest.for_folder(
        sounds[0].parent, models_dir=tmp_path / "m", output_dir=tmp_path / "r"
    ).config.with_prior
