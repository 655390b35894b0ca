"""Model files: what is saved comes back bit for bit, and nothing else is taken for a model."""

import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import distill.models
from distill.audio.spectrogram import AudioSpectrogram
from distill.errors import ConfigError, ModelFileError, StorageError
from distill.library.catalog import ModelLibrary
from distill.library.header import read_header
from distill.models import persistence
from distill.models.persistence import (
    LoadedVQModel,
    ModelMetadata,
    describe_model,
    load_any,
    load_model_v2,
    rename_model,
    save_model_v2,
)
from distill.models.vqvae import ConvVQVAE
from distill.training.config import VQVAEConfig
from support.models import BANDS, CURVES, HEALTH, MEL, SIZES, save_rvq_vae, small_rvq_vae
from support.sounds import tone

pytestmark = pytest.mark.usefixtures("narrow_nets")

KEYS = {
    "format",
    "version",
    "model_type",
    "model_state_dict",
    "vqvae_config",
    "spectrogram_config",
    "training_config",
    "codebook_health_snapshot",
    "loss_curve_history",
    "metadata",
}


@pytest.fixture(scope="module")
def model(narrow_nets) -> ConvVQVAE:
    return small_rvq_vae()


@pytest.fixture
def saved(model, tmp_path) -> Path:
    return save_rvq_vae(model, tmp_path / "models")


@pytest.fixture
def content(saved) -> dict:
    return torch.load(saved, weights_only=True)


@pytest.fixture
def write(tmp_path):
    """`write(content)` → a file that holds just that."""

    def write_content(content: object) -> Path:
        torch.save(content, tmp_path / "other.distill")
        return tmp_path / "other.distill"

    return write_content


def refused(path: Path) -> str:
    """The message with which `path` is refused, as the contract's ValueError and as our own."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        load_model_v2(path)
    assert isinstance(caught.value, ModelFileError)
    return str(caught.value)


# What is written


def test_the_constants_are_the_contracts():
    assert persistence.MODEL_FORMAT_MARKER == "distill_model"
    assert (persistence.SAVED_MODEL_VERSION, persistence.SAVED_MODEL_VERSION_V2) == (1, 2)
    assert persistence.MODEL_FILE_EXTENSION == ".distill"


@pytest.mark.parametrize("name", distill.models.__all__)
def test_the_models_package_passes_on_what_persistence_has(name):
    assert getattr(distill.models, name) is getattr(persistence, name)


def test_the_models_package_has_nothing_else():
    assert not hasattr(distill.models, "save_model_v3")


def test_a_file_has_exactly_the_keys_of_the_contract(content):
    assert content.keys() == KEYS
    assert (content["format"], content["version"], content["model_type"]) == ("distill_model", 2, "vqvae")


def test_a_file_holds_the_settings_the_health_and_the_curves_it_was_given(content, model):
    assert content["vqvae_config"] == model.settings
    assert content["spectrogram_config"] == dataclasses.asdict(MEL)
    assert content["training_config"] == {"max_epochs": 2}
    assert content["codebook_health_snapshot"] == HEALTH
    assert content["loss_curve_history"] == CURVES | {"val_losses": [2.5, None]}  # no file holds a NaN
    assert content["metadata"]["name"] == "Kicks"


def test_health_and_curves_may_be_left_out(model, tmp_path):
    path = save_model_v2(model, MEL, model.settings, {}, ModelMetadata(), tmp_path)
    assert load_model_v2(path).codebook_health is None


def test_an_empty_id_and_date_are_filled_in_and_given_ones_kept(model, tmp_path):
    fresh = [load_model_v2(save_rvq_vae(model, tmp_path)).metadata for _ in range(2)]
    assert len({about.model_id for about in fresh} - {""}) == 2
    assert all(about.save_date.startswith("20") for about in fresh)
    kept = load_model_v2(save_rvq_vae(model, tmp_path, model_id="mine", save_date="1999-12-31")).metadata
    assert (kept.model_id, kept.save_date) == ("mine", "1999-12-31")


def test_a_saved_model_is_in_the_index_of_its_folder(saved):
    [entry] = ModelLibrary(saved.parent).entries()
    about = load_model_v2(saved).metadata
    assert (entry.model_id, entry.name, entry.file) == (about.model_id, "Kicks", "Kicks.distill")
    assert (entry.model_type, entry.num_quantizers, entry.codebook_size) == ("vqvae", 2, 8)
    assert entry.size_bytes == saved.stat().st_size


def test_a_taken_file_name_gets_a_counter(model, tmp_path):
    names = [save_rvq_vae(model, tmp_path).name for _ in range(3)]
    assert names == ["Kicks.distill", "Kicks_2.distill", "Kicks_3.distill"]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "..", " ", "🥁", "a/b\\c:d", "con\n", "x" * 200, "音" * 200])
def test_no_name_leads_out_of_the_library(model, tmp_path, name):
    path = save_rvq_vae(model, tmp_path / "models", name)
    assert path.parent == tmp_path / "models"
    assert {p.name for p in tmp_path.iterdir()} <= {"models", "home"}
    assert load_model_v2(path).metadata.name == name


@settings(max_examples=20)
@given(name=st.text(min_size=1, max_size=200))
def test_any_name_can_be_saved_loaded_and_found(model, tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("models")
    path = save_rvq_vae(model, folder, name)
    assert path.parent == folder
    assert load_model_v2(path).metadata.name == name
    assert ModelLibrary(folder).find(name).file == path.name


def test_a_model_must_have_a_name():
    with pytest.raises(ConfigError, match="name"):
        ModelMetadata(name="")


@pytest.mark.parametrize("wrong", [{"codebook_size": 16}, {"num_quantizers": 3}, {"dropout": 0.5}])
def test_settings_of_another_model_are_refused_before_anything_is_written(model, tmp_path, wrong):
    with pytest.raises(ModelFileError, match=next(iter(wrong))):
        save_model_v2(model, MEL, model.settings | wrong, {}, ModelMetadata(), tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_numbers_from_numpy_do_not_make_a_file_that_cannot_be_read(model, tmp_path):
    health = {"level_0": {"utilization": np.float64(0.5), "perplexity": np.float32(2), "dead_codes": np.int64(4)}}
    path = save_model_v2(model, MEL, model.settings, {}, ModelMetadata(), tmp_path, health)
    assert load_model_v2(path).codebook_health == health


@pytest.mark.skipif(os.name == "nt", reason="no file size limits on Windows")
def test_a_disk_that_fills_up_is_a_storage_error_and_leaves_no_file(tmp_path):
    script = f"""if True:
        import resource, signal
        from pathlib import Path
        from distill.errors import StorageError
        from distill.models.persistence import *
        from distill.models.vqvae import ConvVQVAE
        from distill.audio.spectrogram import SpectrogramConfig
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            save_model_v2(ConvVQVAE(8, 8, 2), SpectrogramConfig(), {{}}, {{}}, ModelMetadata(), {str(tmp_path / "m")!r})
        except StorageError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, "model.distill" in done.stdout) == (0, True), done.stderr
    assert [path.name for path in (tmp_path / "m").iterdir() if not path.name.startswith(".library.")] == []


# What is read back


def test_a_loaded_model_gives_the_same_output_bit_for_bit(model, saved):
    mel = torch.rand(2, 1, 32, 48) * 2 - 1
    loaded = load_model_v2(saved)
    was_training = model.training
    with torch.no_grad():
        for ours, theirs in zip(loaded.model(mel), model.eval()(mel)):
            assert torch.equal(ours, theirs)
    model.train(was_training)


def test_every_tensor_of_the_state_comes_back(model, saved):
    back = load_model_v2(saved).model.state_dict()
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(value, back[name]) for name, value in model.state_dict().items())


def test_a_loaded_model_is_in_eval_mode_with_all_that_belongs_to_it(saved):
    loaded = load_model_v2(str(saved))
    assert [field.name for field in dataclasses.fields(LoadedVQModel)] == [
        "model",
        "spectrogram",
        "metadata",
        "device",
        "codebook_health",
        "vqvae_config",
    ]
    assert not any(module.training for module in loaded.model.modules())
    assert isinstance(loaded.spectrogram, AudioSpectrogram)
    assert loaded.spectrogram.config == MEL
    assert loaded.device == torch.device("cpu")
    assert loaded.codebook_health == HEALTH
    assert loaded.vqvae_config == VQVAEConfig(**SIZES).model_settings() | {"n_mels": BANDS}


def test_a_loaded_model_reconstructs_a_sound_at_its_own_rate_and_full_length(saved):
    loaded = load_model_v2(saved)
    made = loaded.reconstruct(tone(440, 0.3), sample_rate=48_000)
    assert (made.dtype, len(made), loaded.sample_rate) == (np.float32, 4800, 16_000)
    assert np.isfinite(made).all()
    with pytest.raises(ConfigError, match="1 to 2"):
        loaded.reconstruct(tone(440, 0.3), levels=3)


def test_training_config_may_be_a_dataclass(model, tmp_path):
    path = save_model_v2(model, MEL, VQVAEConfig(**SIZES), VQVAEConfig(seed=5), ModelMetadata(), tmp_path)
    assert torch.load(path, weights_only=True)["training_config"]["seed"] == 5


# What is refused


class Payload:
    """Unpickles into a shell command."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch '{self.canary}'",)


@pytest.mark.parametrize("bytes_", [b"", b"hello", b"PK\x03\x04", b"\x80\x02}.", bytes(range(256)) * 50], ids=repr)
def test_what_is_no_archive_is_refused(tmp_path, bytes_):
    path = tmp_path / "x.distill"
    path.write_bytes(bytes_)
    assert str(path) in refused(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "no such" in refused(tmp_path / "missing.distill")
    refused(tmp_path)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(saved, share):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    assert refused(saved).count("cut short") == 1


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_plain_pickle_with_a_payload_is_refused_and_not_run(tmp_path):
    path, canary = tmp_path / "x.distill", tmp_path / "canary"
    path.write_bytes(pickle.dumps({"format": "distill_model", "version": 2, "x": Payload(canary)}, protocol=2))
    refused(path)
    assert not canary.exists()
    pickle.loads(path.read_bytes())  # an ordinary unpickler does run it
    assert canary.exists()


@pytest.mark.parametrize("key", sorted(KEYS))
def test_a_payload_in_any_field_is_refused_and_not_run(content, write, tmp_path, key):
    refused(write(content | {key: Payload(tmp_path / "canary")}))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("other", [{}, {"state_dict": {}}, [1, 2], torch.zeros(3), "distill_model", None], ids=repr)
def test_another_programs_file_is_refused(write, other):
    assert "not a distill model" in refused(write(other))


@pytest.mark.parametrize("key", sorted(KEYS))
def test_a_file_without_one_of_its_keys_is_refused(content, write, key):
    del content[key]
    refused(write(content))


def test_a_file_with_a_key_too_many_is_refused_by_name(content, write):
    assert "kl_weight" in refused(write(content | {"kl_weight": 1.0}))


def test_a_v1_file_is_sent_to_load_model(content, write):
    v1 = {"format": "distill_model", "version": 1, "model_type": "vae", "metadata": {"name": "old"}}
    assert refused(write(v1)) == "Not a v2 VQ-VAE model. Use load_model() for v1 models."


def test_a_file_of_a_later_version_is_refused_as_made_by_a_newer_distill(content, write):
    assert "newer distill" in refused(write(content | {"version": 3}))
    assert "newer distill" in refused(write({"format": "distill_model", "version": 99}))


@pytest.mark.parametrize("version", [0, -1, "2", 2.5, None, [2]], ids=repr)
def test_a_senseless_version_is_refused(content, write, version):
    assert "version" in refused(write(content | {"version": version}))


def test_another_family_is_refused(content, write):
    other = write(content | {"model_type": "prior"})
    assert refused(other) == "Not a v2 VQ-VAE model. Use load_model() for v1 models."
    with pytest.raises(ModelFileError, match="its family 'prior' is not known"):
        load_any(other)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(content, write, value):
    content["model_state_dict"]["quantizer.codebooks"][0, 0, 0] = value
    assert "finite" in refused(write(content))


def test_weights_of_another_shape_are_refused(content, write):
    weights = content["model_state_dict"]
    weights["encoder.linear.bias"] = torch.zeros(9)
    assert "do not fit" in refused(write(content))


@pytest.mark.parametrize(
    "weights",
    [
        None,
        [],
        {},
        {1: torch.zeros(3)},
        {"encoder.0.weight": [1.0]},
        {"x": torch.zeros(3)},
        {"x": torch.zeros(2, 2).to_sparse()},
        {"x": torch.empty(3, device="meta")},
    ],
    ids=["none", "list", "empty", "number for a name", "list of numbers", "unknown name", "sparse", "without data"],
)
def test_weights_of_another_kind_are_refused(content, write, weights):
    refused(write(content | {"model_state_dict": weights}))


@pytest.mark.filterwarnings("ignore:Casting complex")
def test_complex_weights_are_refused(content, write):
    weights = content["model_state_dict"]
    weights["encoder.linear.weight"] = weights["encoder.linear.weight"].to(torch.complex64) * 1j
    refused(write(content))


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("vqvae_config", {"codebook_size": 10**9}),
        ("vqvae_config", {"codebook_size": "large"}),
        ("vqvae_config", {"codebook_size": None}),
        ("vqvae_config", {"codebook_dim": -8}),
        ("vqvae_config", {"num_quantizers": 10**30}),
        ("vqvae_config", {"decay": float("nan")}),
        ("vqvae_config", {"surprise": 1}),
        ("vqvae_config", {5: 1}),
        ("spectrogram_config", {"n_fft": 10**9}),
        ("spectrogram_config", {"hop_length": 0}),
        ("spectrogram_config", {"sample_rate": "48k"}),
        ("spectrogram_config", {"magnitude_floor": float("nan")}),
        ("spectrogram_config", {"mel": "bark"}),
        ("metadata", {"name": None}),
        ("metadata", {"epochs": "all"}),
        ("metadata", {"composer": "x"}),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{next(iter(value))}",
)
def test_absurd_settings_are_refused(content, write, part, values):
    assert "settings are damaged" in refused(write(content | {part: content[part] | values}))


@pytest.mark.parametrize("part", ["vqvae_config", "spectrogram_config", "metadata"])
@pytest.mark.parametrize("value", [None, "text", [1], 5, torch.zeros(2)], ids=repr)
def test_settings_of_the_wrong_type_are_refused(content, write, part, value):
    refused(write(content | {part: value}))


@pytest.mark.parametrize("health", ["good", 5, [1], {"level_0": 0.5}, {"level_0": {"utilization": "half"}}], ids=repr)
def test_health_of_the_wrong_type_is_refused(content, write, health):
    refused(write(content | {"codebook_health_snapshot": health}))


def test_large_settings_beside_small_weights_are_refused_before_the_memory_is_taken(content, write):
    resource = pytest.importorskip("resource")
    content["vqvae_config"] |= {"codebook_size": 65_536, "codebook_dim": 256}  # 4 x 128 MB if it were built
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "do not fit" in refused(write(content))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_settings_that_contradict_the_weights_are_refused(content, write):
    content["vqvae_config"]["codebook_size"] = 16
    assert "do not fit" in refused(write(content))


# Renaming


def test_a_renamed_model_keeps_its_id_and_is_found_after_a_rebuild(saved):
    library = ModelLibrary(saved.parent)
    [entry] = library.entries()
    path = rename_model(library, entry, "Größere Trommel")
    assert not saved.exists()
    library.rebuild()
    [found] = library.entries()
    assert library.find("Größere Trommel") == found == library.find(entry.model_id)
    assert (library.path(found), found.save_date) == (path, entry.save_date)
    assert load_model_v2(path).metadata.name == read_header(path).metadata.name == "Größere Trommel"


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_a_refused_new_name_leaves_the_model_as_it_was(saved, name):
    library = ModelLibrary(saved.parent)
    [entry] = library.entries()
    with pytest.raises(ConfigError, match="name"):
        rename_model(library, entry, name)
    assert library.entries() == [entry]
    assert load_model_v2(saved).metadata.name == "Kicks"


def test_renaming_a_model_that_is_gone_is_refused(saved):
    library = ModelLibrary(saved.parent)
    [entry] = library.entries()
    saved.unlink()
    with pytest.raises(ModelFileError, match="no such"):
        rename_model(library, entry, "new")


def test_what_is_said_of_a_model_is_kept_in_its_file_and_nothing_else_changes(saved):
    library = ModelLibrary(saved.parent)
    (entry,) = library.entries()
    before = load_any(saved)
    path = describe_model(library, entry, author="Ann", licence="CC0-1.0", tags=["drums"])
    after = load_any(path)
    assert dataclasses.replace(before.metadata, author="Ann", licence="CC0-1.0", tags=["drums"]) == after.metadata
    assert all(torch.equal(a, b) for a, b in zip(before.model.state_dict().values(), after.model.state_dict().values()))
    assert read_header(path).facts()["tags"] == "drums"
    with pytest.raises(ConfigError, match="tags"):
        describe_model(library, entry, tags=["x" * 51])
    assert read_header(path).metadata == after.metadata


def test_a_library_that_cannot_be_made_is_a_storage_error(model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        save_rvq_vae(model, tmp_path / "file" / "models")
