"""Exported networks, run by onnxruntime, do what the model does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.audio.spectrogram import SpectrogramConfig
from distill.families import get_family
from distill.library.header import ModelMetadata
from distill.models.format import add_part
from distill.models.persistence import load_any, save_model
from distill.models.settings import PriorSettings
from distill.models.vae import ConvVAE
from support.commands import assert_refused, run
from support.models import save_rvq_vae, small_rvq_vae

pytestmark = pytest.mark.usefixtures("narrow_nets")


@pytest.fixture(scope="module")
def codec(narrow_nets, tmp_path_factory) -> Path:
    """An RVQ-VAE with a prior that has learnt what needs no training."""
    model = small_rvq_vae()
    small = PriorSettings(width=12, hidden=16, layers=2, anchor_columns=16)
    prior = add_part(get_family("vqvae"), model, "prior", small)
    with torch.no_grad():
        codes = model.eval().encode_to_codes(torch.rand(4, 1, 32, 64) * 2 - 1)
        prior.start_from(model.columns(codes), model.quantizer.codebooks)
    return save_rvq_vae(model, tmp_path_factory.mktemp("onnx") / "models")


def session(path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


@pytest.mark.slow
def test_the_graphs_of_a_codec_encode_decode_and_tell_what_comes_next(codec, tmp_path):
    said = run("export", codec, "--format", "onnx", "-o", tmp_path / "out")
    assert (said.code, said.err) == (0, ""), said.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "decoder.onnx", "encoder.onnx", "model.json", "prior.onnx",
    ]  # fmt: skip
    model = load_any(codec)
    assert json.loads((tmp_path / "out" / "model.json").read_text())["spectrogram_config"]["n_mels"] == 32
    sound = np.concatenate([np.sin(np.arange(8_000) * 0.3), np.zeros(4_000), np.ones(20)]).astype(np.float32) * 0.5
    codes = model.encode(sound)
    mel = model.spectrogram.waveform_to_mel(torch.from_numpy(sound)[None, None])
    whole = model.model.grid.pad(mel)
    (grid,) = session(tmp_path / "out" / "encoder.onnx").run(None, {"mel": whole.numpy()})
    assert (grid == codes.grid).mean() > 0.99
    assert (grid == -1).any()  # where nothing sounds
    (decoded,) = session(tmp_path / "out" / "decoder.onnx").run(None, {"codes": codes.grid.astype(np.int64)})
    expected = model.model.reconstruct(mel)
    np.testing.assert_allclose(decoded[..., : mel.shape[-1]], expected.numpy(), rtol=1e-5, atol=1e-5)
    assert_step_by_step(session(tmp_path / "out" / "prior.onnx"), model, codes.grid.astype(np.int64))


def assert_step_by_step(prior, model, grid) -> None:
    """The bits of each level, column by column from the graph, are those that the prior gives for all at once."""
    net, codebooks = model.model.prior, model.model.quantizer.codebooks
    columns = torch.from_numpy(grid).permute(2, 1, 0)[None]
    asked = net.conditions_of(columns, codebooks)
    with torch.no_grad():
        expected = net.eval().bits(columns, codebooks, asked)
    memory, place, bits, ends = np.zeros((2, 1, 12), np.float32), 0.0, [], []
    before = np.full_like(grid[..., 0], -1)
    for number in range(grid.shape[2]):
        place = place + 1 if place or before[0, 0] != -1 else 0.0
        inputs = {
            "before": before,
            "column": grid[..., number],
            "begun": np.array([float(number > 0)], np.float32),
            "place": np.array([place], np.float32),
            "asked": np.array([asked.columns.item(), asked.loudness.item()], np.float32),
            "memory": memory,
        }
        sounds, logits, memory = prior.run(None, inputs)
        sounding = grid[0, 0, number] != -1
        ends.append(-np.log2(sounds[0] if sounding else 1 - sounds[0]))
        if sounding:
            share = torch.from_numpy(logits).log_softmax(dim=-1)
            bits.append(-share.gather(-1, torch.from_numpy(grid[..., number, None]))[..., 0].mean(dim=1) / np.log(2))
        before = grid[..., number]
    np.testing.assert_allclose(torch.stack(bits).mean(dim=0).numpy(), expected.levels.numpy(), rtol=1e-4)
    np.testing.assert_allclose(np.mean(ends), expected.end.item(), rtol=1e-4)


@pytest.mark.slow
def test_the_graphs_of_a_vae_encode_and_decode(tmp_path):
    vae = ConvVAE(latent_dim=2, n_mels=32, frames=64)
    mels = SpectrogramConfig(sample_rate=16_000, n_fft=512, hop_length=160, n_mels=32)
    path = save_model(vae, mels, {}, ModelMetadata(name="Vae"), tmp_path / "models")
    assert run("export", path, "--format", "onnx", "-o", tmp_path / "out").code == 0
    mel = torch.rand(1, 1, 32, 64) * 2 - 1
    (latent,) = session(tmp_path / "out" / "encoder.onnx").run(None, {"mel": mel.numpy()})
    (decoded,) = session(tmp_path / "out" / "decoder.onnx").run(None, {"latent": latent})
    with torch.no_grad():
        expected, mu, _ = load_any(path).model(mel)
    np.testing.assert_allclose(latent, mu.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(decoded, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_without_the_extra_packages_it_is_said_what_to_install(codec, tmp_path, monkeypatch):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    said = run("export", codec, "--format", "onnx", "-o", tmp_path / "out")
    assert_refused(said, 1, "distill-audio[onnx]")
    assert not (tmp_path / "out").exists()
