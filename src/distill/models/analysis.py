"""Analysis of a VAE's latent space: its principal directions, and how each of them changes the sound.

The directions are the principal components of the training set's latents. Each is swept while sounds are decoded,
and named after the audible property that changes most, and where another does more of that, after what changes with it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from distill.audio.spectrogram import SILENCE

_COMPONENTS = 8  # are named; all of them are kept for sampling
_SWEEP = (-2.0, -1.0, 0.0, 1.0, 2.0)  # standard deviations
_LOUDEST = 1.5  # mel units; louder output is a decoder's overshoot, and its energy could overflow
_AUDIBLE = 0.01  # a smaller spread of a property over the sounds is inaudible, so a change of it must name no direction
_BASES = 16  # training sounds that each sweep starts from
_MAINLY = 0.5  # of its strongest effect: a direction is not called after one that is weaker
_SIDE = 0.2  # spreads of a property per standard deviation: an effect that a name can tell directions apart by


def loudness(mel: Tensor) -> Tensor:
    """Level of the loudest band in mel units, averaged over the frames: `[N, M, T]` → `[N]`."""
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
    """Time by which half of the energy has arrived, as a share of the time axis: `[N, M, T]` → `[N]` in [0, 1]."""
    energy = _energy(mel).sum(dim=1)
    reached = energy.cumsum(dim=-1) >= 0.5 * energy.sum(dim=-1, keepdim=True)
    return reached.float().argmax(dim=-1) / mel.shape[-1]  # argmax gives the first of equal values


def pitch_clarity(mel: Tensor) -> Tensor:
    """Level of the strongest band above its surroundings: `[N, M, T]` → `[N]` in mel units."""
    level = mel.mean(dim=-1)
    # The zeros of the pooling's padding must not count: in mel units, 0 is halfway up the scale.
    around = torch.nn.functional.avg_pool1d(level.unsqueeze(1), 15, stride=1, padding=7, count_include_pad=False)
    return (level - around.squeeze(1)).amax(dim=1)


PROPERTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "loudness": loudness,
    "brightness": brightness,
    "noisiness": noisiness,
    "attack": attack,
    "pitch_clarity": pitch_clarity,
}


_MORE_AND_LESS = {
    "loudness": ("louder", "quieter"),
    "brightness": ("brighter", "darker"),
    "noisiness": ("noisier", "purer"),
    "attack": ("later", "earlier"),
    "pitch_clarity": ("clearer", "vaguer"),
}


def _energy(mel: Tensor) -> Tensor:
    # A mel is linear in decibels, 3 decades of magnitude to a unit, so 6 of energy. The clamp keeps the energy above 0,
    # because `noisiness` takes its logarithm.
    return 10 ** (6 * (mel.clamp(SILENCE, _LOUDEST) - 1))


@torch.no_grad()
def analyse_latent_space(decode: Callable[[Tensor], Tensor], latents: Tensor) -> dict[str, Any]:
    """Analyse float latents `[N, L]`, given `decode` from `[n, L]` to mels `[n, 1, M, T]` in decibels.

    Returns plain values only: `mean` `[L]`; `components`, strongest first, each with its unit `direction` `[L]` and
    `std`; the leading ones also have `name`, `effects` (the change of each property per standard deviation along the
    direction, in standard deviations of that property over the sounds) and `safe_range`, in standard deviations, which
    holds 95 % of the sounds.
    """
    mean = latents.mean(dim=0)
    # On the CPU: not every GPU backend has a singular value decomposition.
    _, singular, directions = torch.linalg.svd((latents - mean).cpu(), full_matrices=False)
    singular, directions = singular.to(latents.device), directions.to(latents.device)
    spread = singular / max(1, len(latents) - 1) ** 0.5
    bases = latents[:: max(1, len(latents) // _BASES)][:_BASES]
    # correction=0: with a single sound, the usual estimate of a standard deviation is NaN.
    usual = {name: of(decode(bases).squeeze(1)).std(correction=0) for name, of in PROPERTIES.items()}
    # Where the sounds do not differ, there is nothing to name.
    leading = [(direction, std) for direction, std in zip(directions, spread) if std > 1e-4][:_COMPONENTS]
    effects = [_effects(decode, bases, direction * std, usual) for direction, std in leading]
    components: list[dict[str, Any]] = [
        {"direction": direction.tolist(), "std": float(std)} for direction, std in zip(directions, spread)
    ]
    mains = _main_properties(effects)
    for component, (direction, std), effect, main in zip(components, leading, effects, mains):
        # Moving up a direction called "brightness" should make sounds brighter.
        sign = -1 if effect[main] < 0 else 1
        component["direction"] = (sign * direction).tolist()
        component["effects"] = {name: sign * value for name, value in effect.items()}
        place = (sign * ((latents - mean) @ direction) / std).cpu()
        component["safe_range"] = torch.quantile(place, torch.tensor([0.025, 0.975])).tolist()
    for component, name in zip(
        components, _names(mains, [component["effects"] for component in components[: len(mains)]])
    ):
        component["name"] = name
    return {"mean": mean.tolist(), "components": components}


def _effects(
    decode: Callable[[Tensor], Tensor], bases: Tensor, step: Tensor, usual: dict[str, Tensor]
) -> dict[str, float]:
    """Slopes of the properties along `step`, averaged over the bases, in standard deviations of each property."""
    sweep = torch.tensor(_SWEEP, device=bases.device)
    latents = bases[:, None] + sweep[:, None] * step
    mels = decode(latents.flatten(0, 1)).squeeze(1)
    effects = {}
    for name, of in PROPERTIES.items():
        values = of(mels).reshape(len(bases), len(sweep))
        slope = (values * sweep).sum(dim=1) / sweep.square().sum()  # least squares; the sweep is symmetric about 0
        effects[name] = float(slope.mean() / usual[name].clamp(min=_AUDIBLE))
    return effects


def _main_properties(effects: list[dict[str, float]]) -> list[str]:
    """The property that each direction is called after: the strongest, or one that it changes more than any other."""
    strongest = [max(effect, key=lambda name: abs(effect[name])) for effect in effects]
    sizes = [(abs(size), -number, name) for number, effect in enumerate(effects) for name, size in effect.items()]
    mains: dict[int, str] = {}
    for size, place, name in sorted(sizes, reverse=True):
        number = -place
        if (
            number not in mains
            and name not in mains.values()
            and size >= _MAINLY * abs(effects[number][strongest[number]])
        ):
            mains[number] = name
    return [mains.get(number, name) for number, name in enumerate(strongest)]


def _names(mains: list[str], effects: list[dict[str, float]]) -> list[str]:
    """A name for each direction: its main property, and for all but the strongest in it, what else changes."""
    names: dict[int, str] = {}
    for number in sorted(range(len(mains)), key=lambda number: -effects[number][mains[number]]):
        main, effect = mains[number], effects[number]
        others = sorted((name for name in effect if name != main), key=lambda name: -abs(effect[name]))
        sides = [_MORE_AND_LESS[name][effect[name] < 0] for name in others if abs(effect[name]) >= _SIDE]
        worded = ["_".join([main, *sides[:count]]) for count in range(len(sides) + 1)]
        numbered = [f"{main}_{count}" for count in range(2, _COMPONENTS + 1)]
        names[number] = next(name for name in (*worded, *numbered) if name not in names.values())
    return [names[number] for number in range(len(mains))]
