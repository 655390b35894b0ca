"""Where a model is computed: what is asked for is there or refused, and nothing is used that only some devices have."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from distill.audio.limiter import limit_peaks
from distill.audio.mel import band_edges, mel_filters
from distill.data.collection import find_audio_files
from distill.errors import ConfigError
from distill.training.config import TrainingConfig, VQVAEConfig
from distill.training.device import resolve_device
from distill.training.loop import train, train_vqvae

pytestmark = pytest.mark.usefixtures("quick_runs")


def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    missing = next(kind for kind in ("cuda", "mps") if not getattr(torch, kind).is_available())
    with pytest.raises(ConfigError, match=f"device {missing} is not available on this machine; available: auto, .*cpu"):
        resolve_device(missing)


def test_each_process_of_torchrun_has_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert resolve_device("cuda") == resolve_device("auto") == torch.device("cuda", 3)
    assert resolve_device("cpu") == torch.device("cpu")


class NothingDouble(TorchDispatchMode):
    """Notes every operation that makes numbers of twice the usual length, which Apple's GPUs do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outcome = func(*args, **(kwargs or {}))
        made = [leaf.dtype for leaf in tree_leaves(outcome) if isinstance(leaf, torch.Tensor)]
        if torch.float64 in made or torch.complex128 in made:
            self.found.add(str(func))
        return outcome


@pytest.mark.parametrize("family", ["vqvae", "vae"])
def test_a_run_needs_no_double_precision(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    of_windows = {2048: mel_filters(48_000, 2048, 128), 512: mel_filters(48_000, 512, 64)}  # made on the CPU
    monkeypatch.setattr("distill.audio.mel.mel_filters", lambda _, n_fft, __: of_windows[n_fft])
    edges = band_edges(48_000, 128).float()
    monkeypatch.setattr("distill.audio.starting_phases.band_edges", lambda _, __: edges)
    files, shared = find_audio_files(collection), {"max_epochs": 1, "batch_size": 4, "chunk_duration_s": 0.5}
    with NothingDouble() as mode:
        if family == "vqvae":
            train_vqvae(VQVAEConfig(codebook_size=16, **shared), files, tmp_path, models_dir=tmp_path / "models")
        else:
            train(TrainingConfig(**shared), files, tmp_path, models_dir=tmp_path / "models")
    assert mode.found == set()


def test_a_sound_beyond_full_scale_needs_no_double_precision() -> None:
    with NothingDouble() as mode:
        limit_peaks(torch.linspace(-3, 3, 5000)[None, None])
    assert mode.found == set()
