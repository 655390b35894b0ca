"""Digests of the results of small trainings of both families, to show that a change does not alter training.

    python -m bench.digests

Run it before and after the change: on one machine with one version of torch, every line must stay the same. The columns
are the digests of the model's weights, of the metrics without times, and of the preview files.
"""

import argparse
import hashlib
import json
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import nn

from distill.training.config import TrainingConfig, VQVAEConfig, get_adaptive_config, get_adaptive_vqvae_config
from distill.training.loop import train, train_vqvae
from distill.training.metrics import Event

_RATE = 48_000
_FILES = 8
_CONFIGS: dict[str, VQVAEConfig | TrainingConfig] = {
    "vqvae": get_adaptive_vqvae_config(_FILES, 8.0, max_epochs=4, seed=3, checkpoint_interval=2, preview_interval=4),
    "vqvae large": VQVAEConfig(codebook_size=96, num_quantizers=3, max_epochs=3, seed=1, dropout=0.1),
    "vqvae plain": VQVAEConfig(codebook_size=32, num_quantizers=2, max_epochs=3, seed=5, augment=False, batch_size=4),
    "vae": get_adaptive_config(_FILES, max_epochs=3, seed=3, augmentation_copies=2, preview_interval=3),
    "vae plain": TrainingConfig(max_epochs=3, seed=2, augment=False, kl_warmup_fraction=0.0),
}
_RESUMED = ("vqvae", "vae")
_EVENTS_BEFORE_CANCEL = 7  # into the second epoch
_TIMES = ("step_time_s", "eta_seconds", "elapsed_seconds")


def main() -> None:
    """Print a line for each configuration, and for those that are cancelled and resumed."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        files = write_tones(work / "sounds")
        for run, config in _CONFIGS.items():
            folder = work / run
            result = run_training(config, files, folder, models_dir=work / "models", model_name=run)
            print(f"{run:12}", *result_digests(result), digest_files(folder / "previews"), flush=True)
        for name in _RESUMED:
            run = f"{name} resumed"
            result = cancel_and_resume(_CONFIGS[name], files, work / run)
            print(f"{run:12}", *result_digests(result), flush=True)


def write_tones(folder: Path) -> list[Path]:
    """Write decaying tones with a little noise, of different pitches and lengths."""
    folder.mkdir()
    paths = [folder / f"tone_{number:02d}.wav" for number in range(_FILES)]
    for number, path in enumerate(paths):
        frequency, seconds = 110 * 2 ** (number / 3), 0.2 + 1.6 * number / (_FILES - 1)
        time = np.arange(round(seconds * _RATE)) / _RATE
        noise = np.random.default_rng(number).normal(scale=0.02, size=len(time))
        sound = (np.sin(2 * np.pi * frequency * time) * 0.45 + noise) * np.exp(-6 * time)
        soundfile.write(path, sound.astype(np.float32), _RATE, subtype="PCM_24")
    return paths


def run_training(
    config: VQVAEConfig | TrainingConfig, files: list[Path], folder: Path, **options: Any
) -> dict[str, Any]:
    """Train on the CPU with the function for the config's family."""
    if isinstance(config, VQVAEConfig):
        return train_vqvae(config, files, folder, device="cpu", **options)
    return train(config, files, folder, device="cpu", **options)


def cancel_and_resume(config: VQVAEConfig | TrainingConfig, files: list[Path], folder: Path) -> dict[str, Any]:
    """Cancel a training after some events, and resume it from its run folder."""
    cancel, events = threading.Event(), 0

    def count(_: Event) -> None:
        nonlocal events
        events += 1
        if events == _EVENTS_BEFORE_CANCEL:
            cancel.set()

    run_training(config, files, folder, callback=count, cancel_event=cancel)
    return run_training(config, files, folder, resume_from=folder)


def result_digests(result: dict[str, Any]) -> tuple[str, str]:
    """Digests of the weights and of the metrics without times."""
    history = result["metrics_history"].to_dict()
    for event in history["step_metrics"] + history["epoch_metrics"]:
        for name in _TIMES:
            event.pop(name, None)
    return digest_weights(result["model"]), digest([json.dumps(history, sort_keys=True).encode()])


def digest_weights(model: nn.Module) -> str:
    """Digest of the names and values of a model's parameters and buffers."""
    state = sorted(model.state_dict().items())
    return digest(part for name, value in state for part in (name.encode(), value.numpy().tobytes()))


def digest_files(folder: Path) -> str:
    """Digest of the names and contents of a folder's WAV files."""
    return digest(part for path in sorted(folder.glob("*.wav")) for part in (path.name.encode(), path.read_bytes()))


def digest(parts: Iterable[bytes]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of some bytes."""
    sha256 = hashlib.sha256()
    for part in parts:
        sha256.update(part)
    return sha256.hexdigest()[:16]


if __name__ == "__main__":
    main()
