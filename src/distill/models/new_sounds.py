"""New sounds from an RVQ-VAE and its prior: drawn, varied, continued, filled in, morphed, looped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from distill.audio.limiter import limit_peaks
from distill.audio.recording import Samples
from distill.errors import ConfigError, TrainPrior
from distill.models.prior import UNKNOWN, CodePrior, Conditions, embed, is_sounding
from distill.models.sampling import Draw, Kept, Target, sample
from distill.models.settings import USUAL_TEMPERATURE
from distill.models.targets import between, bridge, crossed, going_on, near_to, padded

if TYPE_CHECKING:
    from distill.models.loaded_vqvae import LoadedVQModel

MAX_SECONDS = 600.0
_AT_ONCE = 4  # sounds drawn together: always so many, because floats depend on how many there are
_SPARE = 4  # columns more than asked for: a sound may end a little later, and is followed by silence
_ONSET = 10 ** (-40 / 20)  # of the peak: before, it is silent
_BEFORE_ONSET_S = 0.002
_FADE_S = 0.005
_CANDIDATES = 8  # fillings of a gap, of which the one that leads best to what follows is taken
_FOLLOWING = 4  # columns after a gap that this is judged by
_LOOP_FADE_S = 0.03
_SEEN_AHEAD = 3  # frames before the end of a sound, in which a window sees it break off
_CONTINUED = 0.7  # how near what follows a sound is drawn to what is expected there
_BRIDGED = 0.85  # how near what fills a gap is drawn to what lies between its borders
_GUIDANCE = 0.7  # how near new sounds are drawn to what lies between two of the collection's
_MORPH_FREEDOM = 0.5  # by which a sound in the middle between two may differ from the mean of both


@dataclass(frozen=True)
class NewSounds:
    """What is asked of new sounds: a seed for each, their length in seconds (any, if None), and how bold they are."""

    seeds: Sequence[int]
    seconds: float | None = None
    temperature: float = USUAL_TEMPERATURE

    def __post_init__(self) -> None:
        check_seconds(self.seconds)
        if not 0.05 <= self.temperature <= 3:
            raise ConfigError(f"temperature is {self.temperature}", "it must be from 0.05 to 3")


def check_seconds(seconds: float | None) -> None:
    """Raise `ConfigError` for an impossible length."""
    if seconds is not None and not 0 < seconds <= MAX_SECONDS:
        raise ConfigError(f"seconds is {seconds}", f"it must be above 0 and at most {MAX_SECONDS:.0f}")


def prior_of(loaded: "LoadedVQModel") -> CodePrior:
    """The model's prior; raises `ConfigError` if it has none."""
    prior = getattr(loaded.model, "prior", None)
    if not isinstance(prior, CodePrior):
        raise ConfigError(f"the model {loaded.metadata.name!r} has no prior, so it makes no new sounds", TrainPrior())
    return prior


def generate(loaded: "LoadedVQModel", asked: NewSounds) -> Iterator[Samples]:
    """New sounds float32 `[S]`; raises `ConfigError` without a prior."""
    return new_sounds(loaded, prior_of(loaded), asked)


def new_sounds(loaded: "LoadedVQModel", prior: CodePrior, asked: NewSounds) -> Iterator[Samples]:
    """New sounds float32 `[S]` from a prior that need not be the model's own yet."""
    for codes in draw_codes(loaded, prior, asked):
        yield finished(loaded, amplified(render(loaded, codes), float(prior.gain)), asked.seconds)


def draw_codes(
    loaded: "LoadedVQModel", prior: CodePrior, asked: NewSounds, like: Sequence[Tensor] | None = None
) -> Iterator[Tensor]:
    """The codes `[W, H, Q]` of new sounds, each up to its last column that sounds.

    They are `like` other codes `[W, H, Q]`, which sound from the first column to the last, or like the collection's.
    """
    codebooks, known = _codebooks(loaded), prior.all_anchors if like is None else like

    def draw(seeds: tuple[int, ...]) -> Tensor:
        chosen = [crossed(prior, known, codebooks, seed) for seed in seeds]
        conditions = _conditions(loaded, prior, asked, chosen)
        columns = int(conditions.columns.max()) + _SPARE
        target = Target(torch.stack([padded(vectors, columns - 1) for vectors in chosen]), None, _GUIDANCE)
        return sample(prior, codebooks, Draw(columns, conditions, seeds, asked.temperature), target=target)

    return map(_ended, _drawn_together(draw, asked.seeds))


def vary(loaded: "LoadedVQModel", sound: Samples, strength: float, seeds: Sequence[int]) -> Iterator[Samples]:
    """Sounds that differ from float `[S]`, from not at all (`strength` 0) to as far as a new one (1)."""
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength is {strength}", "it must be from 0, the sound itself, to 1, a new sound")
    prior, codes = prior_of(loaded), codes_of(loaded, sound)

    def draw(some: tuple[int, ...]) -> Tensor:
        return _sample_near(loaded, prior, _vectors(loaded, codes), 1 - strength, some)

    for made in [codes] * len(seeds) if strength == 0 else _drawn_together(draw, seeds):
        rendered = render(loaded, made)
        yield _cut(rendered, len(sound)) if strength <= 0.5 else finished(loaded, rendered, None)


def extend(loaded: "LoadedVQModel", sound: Samples, seconds: float, seed: int, temperature: float) -> Samples:
    """The sound float `[S]`, as the model has it, and `seconds` of how it could go on."""
    check_seconds(seconds)
    if len(sound) < loaded.column_samples:
        raise ConfigError("the sound is shorter than a column of codes", f"{loaded.column_seconds:.2g} s are enough")
    prior, codes = prior_of(loaded), codes_of(loaded, sound)
    # The last columns show the sound breaking off.
    codes = codes[: max(1, (loaded.spectrogram.frames(len(sound)) - _SEEN_AHEAD) // loaded.model.grid.hop)]
    samples = len(sound) + round(seconds * loaded.sample_rate)
    columns = 1 + -(-samples // loaded.column_samples)
    draw = Draw(columns, _asked(loaded, 1, columns), (seed,), temperature)
    target = Target(going_on(_vectors(loaded, codes), columns).unsqueeze(0), None, _CONTINUED)
    made = sample(prior, _codebooks(loaded), draw, codes.unsqueeze(0), target)
    return _faded(loaded, _cut(render(loaded, made[0]), samples))


def inpaint(loaded: "LoadedVQModel", sound: Samples, start: float, end: float, seed: int) -> Samples:
    """The sound float `[S]`, as the model has it, with what is between two times in seconds made anew."""
    length = len(sound) / loaded.sample_rate
    if not 0 <= start < end <= length:
        lies = f"it must lie in the sound, which lasts {length:.3g} s"
        raise ConfigError(f"the gap is from {start:g} to {end:g} s", lies)
    codes, rate = codes_of(loaded, sound), loaded.sample_rate
    first = max(1, round(start * rate / loaded.column_samples))
    stop = max(first + 1, round(end * rate / loaded.column_samples))
    free = torch.zeros_like(codes, dtype=torch.bool)
    free[first : stop + 1] = True
    return _cut(render(loaded, redrawn(loaded, codes, free, seed)), len(sound))


def redrawn(loaded: "LoadedVQModel", codes: Tensor, free: Tensor, seed: int, strength: float = 1.0) -> Tensor:
    """Codes `[W, H, Q]` with new ones in the `free` places, a bool for each.

    They differ from the old ones as far as `strength`, from not at all (0) to as far as they may (1). Of several
    drawings, the one that leads best to what follows is taken. Raises `ConfigError` without a prior.
    """
    prior, codebooks = prior_of(loaded), _codebooks(loaded)
    if strength == 0 or not free.any():
        return codes
    columns = free.flatten(1).any(dim=1).nonzero()
    first, stop = int(columns.min()), int(columns.max()) + 1
    asked = _asked(loaded, _CANDIDATES, len(codes))
    seeds = tuple(seed * _CANDIDATES + number for number in range(_CANDIDATES))
    begun = codes[:first].expand(_CANDIDATES, -1, -1, -1)
    vectors = _vectors(loaded, codes)
    near = vectors if strength < 1 else bridge(vectors, first, stop)
    target = None if near is None else near_to(near, 1 - strength if strength < 1 else _BRIDGED, _CANDIDATES)
    filled = sample(prior, codebooks, Draw(stop, asked, seeds), begun, target, Kept(codes, free))
    following = codes[stop:]
    best = min(filled, key=lambda one: _information(loaded, prior, one, following[:_FOLLOWING], len(codes)))
    return torch.cat([best, following])


def morph(
    loaded: "LoadedVQModel", first: Samples, second: Samples, shares: Sequence[float], seed: int
) -> Iterator[Samples]:
    """Sounds at `shares` (0 to 1) of the way from one sound float `[S]` to another, each a sound of its own."""
    prior_of(loaded)  # raises before anything is computed
    ends = [codes_of(loaded, sound) for sound in (first, second)]
    for share in shares:
        if share in (0, 1):
            yield _cut(render(loaded, ends[int(share)]), len((first, second)[int(share)]))
            continue
        made = draw_between(loaded, ends[0], ends[1], share, seed)
        yield _cut(render(loaded, made), round((1 - share) * len(first) + share * len(second)))


def draw_between(loaded: "LoadedVQModel", first: Tensor, second: Tensor, share: float, seed: int) -> Tensor:
    """Codes `[W, H, Q]` at `share` (above 0, below 1) of the way from codes `[W1, H, Q]` to others `[W2, H, Q]`."""
    vectors = between(_vectors(loaded, first), _vectors(loaded, second), share)
    nearness = 1 - _MORPH_FREEDOM * 2 * min(share, 1 - share)
    return _sample_near(loaded, prior_of(loaded), vectors, nearness, (seed,))[0]


def loop(loaded: "LoadedVQModel", asked: NewSounds) -> Iterator[Samples]:
    """New sounds whose end meets their beginning."""
    prior = prior_of(loaded)
    seconds = asked.seconds or 1.0
    columns = max(2, round(seconds * loaded.sample_rate / loaded.column_samples))
    for seed in asked.seeds:
        # Without an end, and more than is needed, so that there is a choice of where it meets its beginning.
        draw = Draw(2 * columns + 3, _asked(loaded, 1), (seed,), asked.temperature, endless=True)
        codes = sample(prior, _codebooks(loaded), draw)[0]
        vectors = _vectors(loaded, codes).flatten(1)
        begin = min(range(2, columns + 2), key=lambda at: float((vectors[at] - vectors[at + columns]).square().sum()))
        period = codes[begin : begin + columns]
        sound = render(loaded, torch.cat([period, period, period]))
        length, fade = columns * loaded.column_samples, round(_LOOP_FADE_S * loaded.sample_rate)
        made = sound[length : 2 * length].copy()
        ramp = np.linspace(0, 1, fade, dtype=np.float32)
        # What leads up to the beginning is faded in at the end, as samplers do it.
        made[-fade:] = made[-fade:] * (1 - ramp) + sound[length - fade : length] * ramp
        yield made


def codes_of(loaded: "LoadedVQModel", sound: Samples) -> Tensor:
    """The codes `[W, H, Q]` of a sound float `[S]` at the model's rate."""
    return torch.from_numpy(loaded.encode(sound).grid.T.copy()).to(loaded.device)


@torch.no_grad()
def render(loaded: "LoadedVQModel", codes: Tensor) -> Samples:
    """The sound float32 `[S]` of codes `[W, H, Q]`."""
    mel = loaded.model.decode_columns(codes.unsqueeze(0))
    sound: Samples = loaded.spectrogram.mel_to_waveform(mel)[0, 0].cpu().numpy()
    return sound


def amplified(sound: Samples, gain: float) -> Samples:
    """A sound float32 `[S]`, `gain` times as loud, but within full scale."""
    made: Samples = limit_peaks(torch.from_numpy(sound * np.float32(gain))[None, None])[0, 0].numpy()
    return made


def finished(loaded: "LoadedVQModel", sound: Samples, seconds: float | None) -> Samples:
    """A new sound from its onset on, of the length asked for, faded out where it is cut."""
    loud = np.flatnonzero(np.abs(sound) > _ONSET * max(float(np.abs(sound).max()), 1e-9))
    start = max(0, int(loud[0]) - round(_BEFORE_ONSET_S * loaded.sample_rate)) if len(loud) else 0
    sound = sound[start:]
    if seconds is not None:
        sound = _cut(sound, max(1, round(seconds * loaded.sample_rate)))
    return _faded(loaded, sound)


def _drawn_together(draw: Callable[[tuple[int, ...]], Tensor], seeds: Sequence[int]) -> Iterator[Tensor]:
    """What `draw` `[B, W, H, Q]` makes of each of the seeds, to the bit as if it was given alone."""
    for start in range(0, len(seeds), _AT_ONCE):
        some = seeds[start : start + _AT_ONCE]
        yield from draw((*some, *[some[-1]] * (_AT_ONCE - len(some))))[: len(some)]


def _sample_near(
    loaded: "LoadedVQModel", prior: CodePrior, vectors: Tensor, nearness: float, seeds: tuple[int, ...]
) -> Tensor:
    """Codes `[B, W, H, Q]` that are near to `vectors` `[W, H, D]`, which are 0 where nothing sounds."""
    sounding, count = (vectors != 0).flatten(1).any(dim=1), len(seeds)
    columns = len(vectors) + (0 if nearness > 0.5 else _SPARE)
    draw = Draw(columns, _asked(loaded, count, columns=int(sounding.sum())), seeds)
    nothing = torch.zeros(count, 0, prior.rows, prior.levels, dtype=torch.int64, device=vectors.device)
    return sample(prior, _codebooks(loaded), draw, nothing, near_to(vectors, nearness, count))


def _asked(loaded: "LoadedVQModel", count: int, columns: float = UNKNOWN) -> Conditions:
    """The conditions of `count` sounds of so many columns, as loud as may be."""
    length = torch.full((count,), float(columns), device=loaded.device)
    return Conditions(length, torch.full_like(length, UNKNOWN))


def _conditions(loaded: "LoadedVQModel", prior: CodePrior, asked: NewSounds, targets: Sequence[Tensor]) -> Conditions:
    """The lengths and the loudness of targets `[W, H, D]`, or the length that is asked for."""
    loudness = torch.stack([one.square().mean().sqrt() for one in targets]) / prior.loudness_scale
    columns = torch.tensor([float(len(one)) for one in targets], device=loudness.device)
    if asked.seconds is not None:
        columns = torch.full_like(columns, max(1.0, asked.seconds * loaded.sample_rate / loaded.column_samples))
    return Conditions(columns, loudness)


@torch.no_grad()
def _information(loaded: "LoadedVQModel", prior: CodePrior, codes: Tensor, following: Tensor, columns: int) -> float:
    """The information in what follows codes `[W, H, Q]`, in bits, over the number of codes in a column."""
    whole = torch.cat([codes, following]).unsqueeze(0)
    asked, parts = _asked(loaded, 1, columns), (whole, whole[:, : len(codes)])
    together, alone = (prior.bits(part, _codebooks(loaded), asked).levels.mean() for part in parts)
    return float(together * whole.shape[1] - alone * len(codes))


def _codebooks(loaded: "LoadedVQModel") -> Tensor:
    return loaded.model.quantizer.codebooks


def _vectors(loaded: "LoadedVQModel", codes: Tensor) -> Tensor:
    return embed(codes, _codebooks(loaded))


def _ended(codes: Tensor) -> Tensor:
    """`[W, H, Q]` up to a silent column after the last that sounds."""
    sounding = is_sounding(codes.unsqueeze(0))[0].nonzero()
    return codes[: int(sounding.max()) + 2] if len(sounding) else codes[:2]


def _cut(sound: Samples, samples: int) -> Samples:
    return np.pad(sound[:samples], (0, max(0, samples - len(sound))))


def _faded(loaded: "LoadedVQModel", sound: Samples) -> Samples:
    fade = min(len(sound), round(_FADE_S * loaded.sample_rate))
    ramp = np.linspace(1, 0, fade, dtype=np.float32)
    return np.concatenate([sound[: len(sound) - fade], sound[len(sound) - fade :] * ramp])
