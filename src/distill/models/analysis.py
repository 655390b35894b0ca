"""What the latent space of a VAE is like: its main directions, and what each of them does to the sound.

The directions are the principal components of the training set's latents. Each is swept while the sound is decoded,
and takes its name from the property that changes most.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from distill.audio.spectrogram import SILENCE

_COMPONENTS = 8  # that get a name; all are kept for sampling
_SWEEP = (-2.0, -1.0, 0.0, 1.0, 2.0)  # standard deviations
_LOUDEST = 1.5  # mel units: what a decoder makes beyond is no sound, and its energy no finite number
_AUDIBLE = 0.01  # where the sounds differ by less in a property, a change of it is not heard
_BASES = 16  # training sounds from which each sweep starts


def loudness(mel: Tensor) -> Tensor:
    """Mean over the frames of the level of the loudest band, in mel units: `[N, M, T]` → `[N]`."""
    return mel.amax(dim=1).mean(dim=-1)


def brightness(mel: Tensor) -> Tensor:
    """Spectral centroid as a share of the mel axis: `[N, M, T]` → `[N]` in [0, 1]."""
    energy = _energy(mel).sum(dim=-1)
    band = torch.linspace(0, 1, mel.shape[1], device=mel.device)
    return (energy * band).sum(dim=1) / energy.sum(dim=1)


def noisiness(mel: Tensor) -> Tensor:
    """Spectral flatness (geometric over arithmetic mean of the bands' energy): `[N, M, T]` → `[N]` in [0, 1]."""
    energy = _energy(mel).sum(dim=-1)
    return energy.log().mean(dim=1).exp() / energy.mean(dim=1)


def attack(mel: Tensor) -> Tensor:
    """When the energy has reached half of its sum, as a share of the time axis: `[N, M, T]` → `[N]` in [0, 1]."""
    energy = _energy(mel).sum(dim=1)
    reached = energy.cumsum(dim=-1) >= 0.5 * energy.sum(dim=-1, keepdim=True)
    return reached.float().argmax(dim=-1) / mel.shape[-1]


def pitch_clarity(mel: Tensor) -> Tensor:
    """How far the strongest band stands out from its surroundings: `[N, M, T]` → `[N]` in mel units."""
    level = mel.mean(dim=-1)
    around = torch.nn.functional.avg_pool1d(level.unsqueeze(1), 15, stride=1, padding=7, count_include_pad=False)
    return (level - around.squeeze(1)).amax(dim=1)


PROPERTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "loudness": loudness,
    "brightness": brightness,
    "noisiness": noisiness,
    "attack": attack,
    "pitch_clarity": pitch_clarity,
}


def _energy(mel: Tensor) -> Tensor:
    # A mel is linear in decibels, 3 decades of magnitude to a unit; what is silent weighs nothing to speak of.
    return 10 ** (6 * (mel.clamp(SILENCE, _LOUDEST) - 1))


@torch.no_grad()
def analyse_latent_space(decode: Callable[[Tensor], Tensor], latents: Tensor) -> dict[str, Any]:
    """The analysis of float latents `[N, L]`, with `decode` from `[n, L]` to mels `[n, 1, M, T]`; plain values only.

    `mean` `[L]`; `components`, strongest first, each with its unit `direction` `[L]` and `std`; the leading ones also
    have `name`, `effects` (what one standard deviation does to each property, in standard deviations of that property
    over the sounds) and `safe_range`, in standard deviations, within which 95 % of the sounds lie.
    """
    mean = latents.mean(dim=0)
    _, singular, directions = torch.linalg.svd((latents - mean).cpu(), full_matrices=False)  # not every GPU has it
    singular, directions = singular.to(latents.device), directions.to(latents.device)
    spread = singular / max(1, len(latents) - 1) ** 0.5
    bases = latents[:: max(1, len(latents) // _BASES)][:_BASES]
    usual = {name: of(decode(bases).squeeze(1)).std(correction=0) for name, of in PROPERTIES.items()}
    taken: set[str] = set()
    components = []
    for number, (direction, std) in enumerate(zip(directions, spread)):
        component: dict[str, Any] = {"direction": direction.tolist(), "std": float(std)}
        if number < _COMPONENTS and std > 1e-4:
            effects = _effects(decode, bases, direction * std, usual)
            strongest = max(effects, key=lambda name: abs(effects[name]))
            if effects[strongest] < 0:  # more of the component is to mean more of what it is called after
                direction, effects = -direction, {name: -effect for name, effect in effects.items()}
            component |= {"direction": direction.tolist(), "effects": effects, "name": _free(strongest, taken)}
            place = ((latents - mean) @ direction / std).cpu()
            component["safe_range"] = torch.quantile(place, torch.tensor([0.025, 0.975])).tolist()
        components.append(component)
    return {"mean": mean.tolist(), "components": components}


def _effects(
    decode: Callable[[Tensor], Tensor], bases: Tensor, step: Tensor, usual: dict[str, Tensor]
) -> dict[str, float]:
    """Slope of each property along `step`, averaged over the bases, in standard deviations of the property."""
    sweep = torch.tensor(_SWEEP, device=bases.device)
    latents = bases[:, None] + sweep[:, None] * step
    mels = decode(latents.flatten(0, 1)).squeeze(1)
    effects = {}
    for name, of in PROPERTIES.items():
        values = of(mels).reshape(len(bases), len(sweep))
        slope = (values * sweep).sum(dim=1) / sweep.square().sum()
        effects[name] = float(slope.mean() / usual[name].clamp(min=_AUDIBLE))
    return effects


def _free(name: str, taken: set[str]) -> str:
    """`name`, with a number when another direction has it already."""
    free = next(n for n in (name, *(f"{name}_{count}" for count in range(2, _COMPONENTS + 1))) if n not in taken)
    taken.add(free)
    return free
