"""New sounds from a VAE: sampled, moved along named directions, or interpolated between two sounds.

Latents are sampled from a density fitted to those of the training sounds, not from the prior: where the two differ,
the decoder has learnt nothing (Ghosh et al. 2020, "ex-post density estimation"). It is a Gaussian around each of some
sounds; one around all of them has its mass between sounds, where all is a quiet blur.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distill.audio.recording import Samples
from distill.audio.spectrogram import mark_end
from distill.errors import ConfigError
from distill.models.vae import overlap_add

if TYPE_CHECKING:
    from distill.models.loaded_vae import LoadedModel

MAX_SECONDS = 600.0
_WIDTH = 0.5  # of the Gaussian around a sound, beside the spread of all sounds


def named_directions(loaded: "LoadedModel") -> dict[str, dict[str, Any]]:
    """The named directions of the model's analysis; raises `ConfigError` when it has no analysis."""
    if loaded.analysis is None:
        raise ConfigError(f"the model {loaded.metadata.name!r} was saved without an analysis of its latent space")
    return {c["name"]: c for c in loaded.analysis["components"] if "name" in c}


def sample_latents(loaded: "LoadedModel", count: int, seed: int, temperature: float | None = None) -> Tensor:
    """Sample latents float `[count, L]` from the density fitted to the training sounds, one for each seed from `seed`.

    It has about their mean and their covariance; deviations are multiplied by the `temperature`. For models of distill
    0.1.0 it is a single Gaussian, and for those without an analysis, as one rescued from a checkpoint, the prior.
    """
    return torch.stack([sample_walk(loaded, seed + number, temperature)[0] for number in range(count)])


def sample_walk(loaded: "LoadedModel", seed: int, temperature: float | None = None) -> Tensor:
    """The latent of a seed, and another for a long sound to go to: float `[2, L]`, each as `sample_latents` says."""
    mean, directions, spread = _basis(loaded)
    random = torch.Generator().manual_seed(seed)  # on the CPU, so that a seed gives the same sounds on every device
    scattered = (torch.randn(2, len(spread), generator=random) * spread) @ directions
    examples = torch.tensor((loaded.analysis or {}).get("examples", []))
    if len(examples):
        # Drawn in towards the mean, so that all of them together have the covariance of the sounds.
        chosen = examples[torch.randint(len(examples), (2,), generator=random)] - mean
        scattered = (1 - _WIDTH**2) ** 0.5 * chosen + _WIDTH * scattered
    return (mean + (1.0 if temperature is None else temperature) * scattered).to(loaded.device)


def move(loaded: "LoadedModel", latents: Tensor, amounts: Mapping[str, float]) -> Tensor:
    """Move `latents` `[N, L]` by `amounts` standard deviations along named directions; raises `ConfigError`."""
    known = named_directions(loaded) if amounts else {}  # without moves, a model needs no analysis
    for name, amount in amounts.items():
        if name not in known:
            raise ConfigError(f"{name!r} is not a direction of this model", f"it has {', '.join(known)}")
        step = torch.tensor(known[name]["direction"], device=latents.device) * known[name]["std"]
        latents = latents + amount * step
    return latents


def between(loaded: "LoadedModel", first: Samples, second: Samples, share: float) -> Tensor:
    """The latent `[L]` at `share` (0 to 1) of the way between two sounds, each mono float `[S]` at the model's rate."""
    start, end = (_latent_of(loaded, torch.from_numpy(sound)) for sound in (first, second))
    return torch.lerp(start, end, share)


def vary(loaded: "LoadedModel", sound: Samples, strength: float, count: int, seed: int) -> Iterator[Samples]:
    """Sounds at `strength` (0 to 1) of the way from one, mono float `[S]` at the model's rate, to `count` new ones.

    Raises `ConfigError` for another strength.
    """
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength is {strength}", "it must be from 0, the sound itself, to 1, a new sound")
    start = _latent_of(loaded, torch.from_numpy(sound))
    for latent in sample_latents(loaded, count, seed):
        yield render(loaded, torch.lerp(start, latent, strength), len(sound) / loaded.sample_rate)


@torch.no_grad()
def _latent_of(loaded: "LoadedModel", waveform: Tensor) -> Tensor:
    """The latent `[L]` of the first chunk of a sound `[S]`."""
    mel = loaded.spectrogram.waveform_to_mel(mark_end(waveform.to(loaded.device))[None, None])
    return loaded.model.encode(mel[..., : loaded.model.frames])[0][0]


@torch.no_grad()
def render(loaded: "LoadedModel", latent: Tensor, seconds: float, towards: Tensor | None = None) -> Samples:
    """Render a latent `[L]` to sound float32 `[S]`; a sound longer than a chunk goes `towards` another latent and back.

    Raises `ConfigError` for an impossible length.
    """
    if not 0 < seconds <= MAX_SECONDS:
        raise ConfigError(f"seconds is {seconds}", f"it must be above 0 and at most {MAX_SECONDS:.0f}")
    samples = max(1, round(seconds * loaded.sample_rate))
    frames, hop = loaded.spectrogram.frames(samples), loaded.model.frames // 2
    windows = 1 + -(-max(0, frames - loaded.model.frames) // hop)
    # One latent per half-overlapping window, on a half wave of a sine: away from `latent`, and back to it.
    place = torch.linspace(0, 1, windows + 1, device=latent.device)[:-1, None] * (windows > 1)
    path = torch.lerp(latent, latent if towards is None else towards, (torch.pi * place).sin())
    mel = overlap_add(loaded.model.decode(path), hop)[..., :frames]
    sound: Samples = loaded.spectrogram.mel_to_waveform(mel, samples)[0, 0].cpu().numpy()
    return sound


def _basis(loaded: "LoadedModel") -> tuple[Tensor, Tensor, Tensor]:
    """Mean `[L]`, directions `[C, L]` and standard deviations `[C]` of the latents of sounds."""
    if loaded.analysis is None:
        size = loaded.model.latent_dim
        return torch.zeros(size), torch.eye(size), torch.ones(size)
    analysis = loaded.analysis
    components = analysis["components"]
    directions = torch.tensor([component["direction"] for component in components])
    return torch.tensor(analysis["mean"]), directions, torch.tensor([component["std"] for component in components])
