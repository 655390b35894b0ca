"""Models go out as weights and JSON, and come in only after the same checks as any other."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from distill.audio.spectrogram import SpectrogramConfig
from distill.errors import LibraryError, ModelFileError
from distill.library.catalog import ModelLibrary
from distill.library.header import ModelMetadata
from distill.models.archive import read_archive
from distill.models.exchange import export_safetensors, import_model
from distill.models.persistence import load_any, save_model
from distill.models.vae import ConvVAE
from distill.models.vqvae import ConvVQVAE
from support.commands import run
from support.models import save_rvq_vae, small_rvq_vae

pytestmark = pytest.mark.usefixtures("narrow_nets")

ANALYSIS = {"mean": [0.0, 1.0], "components": [{"direction": [0.6, 0.8], "std": 1.5}]}


@pytest.fixture(scope="module")
def model(narrow_nets) -> ConvVQVAE:
    return small_rvq_vae()


@pytest.fixture(params=["vqvae", "vae"])
def saved(request, model, tmp_path) -> Path:
    """A saved model of either family."""
    if request.param == "vqvae":
        return save_rvq_vae(model, tmp_path / "models", dataset_name="Trommeln 🥁")
    vae = ConvVAE(latent_dim=2, n_mels=32, frames=64)
    mel = SpectrogramConfig(sample_rate=16_000, n_fft=512, hop_length=160, n_mels=32)
    return save_model(vae, mel, {"seed": 3}, ModelMetadata(name="Vae"), tmp_path / "models", ANALYSIS)


@pytest.fixture
def exported(saved, tmp_path) -> Path:
    return export_safetensors(saved, tmp_path / "out.safetensors")


def parts(path: Path) -> tuple[dict, dict]:
    """The JSON and the tensors, read as any other program would."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["distill"]), load_file(path)


def rewrite(path: Path, content: dict, weights: dict) -> Path:
    save_file(weights, path, metadata={"distill": json.dumps(content)})
    return path


def test_a_model_comes_back_as_it_went_out(saved, exported, tmp_path):
    back = import_model(exported, tmp_path / "elsewhere")
    assert back.name == saved.name
    before, after = read_archive(saved), read_archive(back)
    weights, same = before.pop("model_state_dict"), after.pop("model_state_dict")
    assert after == before
    assert weights.keys() == same.keys()
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    sound = torch.rand(16_000).numpy()
    assert (load_any(back).reconstruct(sound) == load_any(saved).reconstruct(sound)).all()


def test_another_program_finds_weights_and_plain_json(saved, exported):
    content, weights = parts(exported)
    assert content["metadata"]["name"] == load_any(saved).metadata.name
    assert weights.keys() == load_any(saved).model.state_dict().keys()


def test_a_model_that_is_there_already_is_not_added_twice(saved, exported):
    with pytest.raises(LibraryError, match=f"in the library already, as .* \\({saved.name}\\)"):
        import_model(exported, saved.parent)
    with pytest.raises(LibraryError, match="in the library already"):
        import_model(saved, saved.parent)
    assert len(ModelLibrary(saved.parent).entries()) == 1


def test_a_distill_file_is_imported_as_well(saved, tmp_path):
    back = import_model(saved, tmp_path / "elsewhere")
    assert dataclasses.replace(load_any(back).metadata) == load_any(saved).metadata


def odd_settings(content: dict) -> dict:
    (key,) = {"vqvae_config", "vae_config"} & content.keys()
    return content | {key: content[key] | {"dropout": 10**9}}


def each(change):
    """The weights with `change` made to each that is of floating point."""

    def changed(content, weights):
        return content, {name: change(w) if w.is_floating_point() else w for name, w in weights.items()}

    return changed


NESTED = json.loads("[" * 20 + "]" * 20)
WRONG = {
    "no metadata": lambda content, weights: ({}, weights),
    "a list": lambda content, weights: ([1], weights),
    "of a newer version": lambda content, weights: (content | {"version": 3}, weights),
    "a weight missing": lambda content, weights: (content, dict(list(weights.items())[1:])),
    "a weight more": lambda content, weights: (content, weights | {"more": torch.zeros(1)}),
    "weights in the json": lambda content, weights: (content | {"model_state_dict": {}}, weights),
    "a weight not finite": each(lambda weight: weight / 0),
    "of another shape": each(lambda weight: weight[None]),
    "of another type": each(lambda weight: weight.double()),
    "odd settings": lambda content, weights: (odd_settings(content), weights),
    "without a name": lambda content, weights: (content | {"metadata": {"name": ""}}, weights),
    "deep": lambda content, weights: (content | {"training_config": {"a": NESTED}}, weights),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_not_as_it_should_be_is_refused_and_leaves_nothing(exported, tmp_path, wrong):
    with pytest.raises(ModelFileError, match=r"out\.safetensors"):
        import_model(rewrite(exported, *wrong(*parts(exported))), tmp_path / "elsewhere")
    assert not list((tmp_path / "elsewhere").glob("*.distill"))


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_comes_in_whole(exported, tmp_path, data):
    whole = exported.read_bytes()
    place = data.draw(st.integers(0, 4000))
    damaged = bytearray(whole[: data.draw(st.sampled_from([len(whole), place]))])
    if place < len(damaged):
        damaged[place] ^= data.draw(st.integers(1, 255))
    (tmp_path / "x.safetensors").write_bytes(damaged)
    try:
        load_any(import_model(tmp_path / "x.safetensors", tmp_path / "elsewhere"))
    except (ModelFileError, LibraryError):
        return


def test_on_the_command_line_a_model_goes_out_and_comes_in(saved, tmp_path):
    name = load_any(saved).metadata.name
    said = run("export", name, "--models-dir", saved.parent, "-o", tmp_path / "x.safetensors")
    assert said.code == 0, said.err
    said = run("export", saved, "-o", tmp_path / "x.safetensors")
    assert (said.code, said.out) == (1, "")
    assert "is there already; choose another file with -o" in said.err
    said = run("import", tmp_path / "x.safetensors", "--models-dir", tmp_path / "other")
    assert said.code == 0, said.err
    assert str(tmp_path / "other" / saved.name) in said.out
    said = run("import", tmp_path / "missing.safetensors")
    assert (said.code, said.out) == (1, "")
    assert "no such file" in said.err
