"""The analysis of a latent space whose truth is known: decoders in which one latent is one property of the sound."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.audio.spectrogram import SILENCE, AudioSpectrogram
from distill.families import get_family
from distill.models.analysis import PROPERTIES, analyse_latent_space

LATENTS, BANDS, FRAMES = 6, 64, 48
Decoder = Callable[[Tensor], Tensor]


def gaussian(size: int, centre: Tensor, width: float) -> Tensor:
    """A bump `[N, size]` of height 1 for centres `[N]`."""
    place = torch.arange(size, dtype=torch.float32)
    return (-(((place - centre[:, None]) / width) ** 2)).exp()


def blob(z: Tensor, level: float | Tensor = 0.0, band: float | Tensor = 30.0, frame: float | Tensor = 20.0) -> Tensor:
    """A blob `[N, 1, M, T]` in the time-frequency plane, at a level, a band and a frame."""
    level, band, frame = (torch.as_tensor(value, dtype=torch.float32).expand(len(z)) for value in (level, band, frame))
    blob = gaussian(BANDS, band, 4.0)[:, :, None] * gaussian(FRAMES, frame, 12.0)[:, None, :]
    return (SILENCE + (0.9 + level[:, None, None]) * blob)[:, None]


def louder(z: Tensor, level: Tensor, band: float | Tensor = 30.0) -> Tensor:
    """A blob over a murmur, the whole of it at a level `[N]`: with one band, nothing but the loudness changes."""
    return SILENCE + 0.5 + 0.5 * (blob(z, band=band) - SILENCE) + level[:, None, None, None]


def loud(z: Tensor) -> Tensor:
    return louder(z, 0.1 * z[:, 0])


def bright(z: Tensor) -> Tensor:
    return blob(z, band=30 + 5 * z[:, 0])


def late(z: Tensor) -> Tensor:
    return blob(z, frame=22 + 4 * z[:, 0])


DECODERS = {"loudness": loud, "brightness": bright, "attack": late}


def latents(count: int = 200, seed: int = 0) -> Tensor:
    """Latents about a mean that is not zero; the first spreads most."""
    drawn = torch.randn(count, LATENTS, generator=torch.Generator().manual_seed(seed))
    return drawn * torch.tensor([1.0, 0.3, 0.2, 0.1, 0.05, 0.02]) + torch.tensor([0.0, 3.0, -1.0, 0.5, 0.0, 0.0])


def measured(name: str, decode: Decoder, z: Tensor) -> float:
    return PROPERTIES[name](decode(z).squeeze(1)).mean().item()


def named(analysis: dict[str, Any]) -> list[dict[str, Any]]:
    return [component for component in analysis["components"] if "name" in component]


# The properties themselves


def test_a_louder_sound_is_louder_and_nothing_else():
    quiet, loud_ = blob(torch.zeros(1), level=-0.2)[:, 0], blob(torch.zeros(1))[:, 0]
    assert PROPERTIES["loudness"](loud_) > PROPERTIES["loudness"](quiet)
    assert PROPERTIES["brightness"](loud_) == pytest.approx(PROPERTIES["brightness"](quiet), abs=0.01)


@pytest.mark.parametrize("band", [10, 32, 60])
def test_the_brightness_of_a_single_band_is_its_place(band):
    mel = torch.full((1, BANDS, FRAMES), SILENCE)
    mel[:, band] = 0.5
    assert PROPERTIES["brightness"](mel).item() == pytest.approx(band / (BANDS - 1), abs=1e-4)


def test_white_noise_is_noisy_and_a_tone_is_clear():
    noise, tone = torch.zeros(1, BANDS, FRAMES), torch.full((1, BANDS, FRAMES), SILENCE)
    tone[:, 20] = 0.0
    assert PROPERTIES["noisiness"](noise).item() == pytest.approx(1, abs=1e-4)
    assert PROPERTIES["noisiness"](tone).item() < 0.01
    assert PROPERTIES["pitch_clarity"](tone) > 0.5 > abs(PROPERTIES["pitch_clarity"](noise))


@pytest.mark.parametrize("frame", [0, 12, 47])
def test_the_attack_is_when_the_energy_comes(frame):
    mel = torch.full((1, BANDS, FRAMES), SILENCE)
    mel[:, :, frame] = 0.5
    assert PROPERTIES["attack"](mel).item() == pytest.approx(frame / FRAMES)


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_sound_has_the_same_properties_in_either_mel(name):
    sound = 0.3 * torch.randn(1, 1, 24_000, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 0, 24_000)
    either = [AudioSpectrogram(), AudioSpectrogram(get_family("vae").spectrogram)]
    plain, detailed = (PROPERTIES[name](mel.decibels(mel.waveform_to_mel(sound))[:, 0]).item() for mel in either)
    assert detailed == pytest.approx(plain, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", PROPERTIES)
@pytest.mark.parametrize("level", [-1.0, SILENCE, 0.0, 1.5])
def test_every_property_of_any_flat_mel_is_a_finite_number(name, level):
    values = PROPERTIES[name](torch.full((3, BANDS, FRAMES), level))
    assert values.shape == (3,)
    assert torch.isfinite(values).all()


# Names and signs (what a decoder changes beside its own property is far too little to be heard)


@pytest.mark.parametrize("sign", [1, -1], ids=["as is", "reversed"])
@pytest.mark.parametrize("name", DECODERS)
def test_the_strongest_direction_is_called_after_what_it_does_and_more_is_more(name, sign):
    def decode(z: Tensor) -> Tensor:
        return DECODERS[name](sign * z)

    first = analyse_latent_space(decode, latents())["components"][0]
    assert first["name"] == name
    assert first["effects"][name] > 0
    direction = torch.tensor(first["direction"])
    assert direction[0].item() == pytest.approx(sign, abs=0.05)
    step = direction * first["std"]
    assert measured(name, decode, latents(20) + step) > measured(name, decode, latents(20) - step)


@pytest.mark.parametrize("name", DECODERS)
def test_an_effect_is_counted_in_spreads_of_the_property_per_standard_deviation(name):
    # Only the first latent moves the property, so one deviation of it is about one spread.
    first = analyse_latent_space(DECODERS[name], latents())["components"][0]
    assert 0.5 < first["effects"][name] < 1.6
    assert first["effects"].keys() == PROPERTIES.keys()


def test_effects_have_the_sign_of_the_change():
    def decode(z: Tensor) -> Tensor:  # brighter means quieter
        return blob(z, band=30 + 6 * z[:, 0], level=-0.05 * z[:, 0])

    first = analyse_latent_space(decode, latents())["components"][0]
    sign = 1 if torch.tensor(first["direction"])[0] > 0 else -1
    assert first["effects"]["brightness"] * sign > 0.5
    assert first["effects"]["loudness"] * sign < -0.5


def test_two_directions_of_one_property_have_two_names():
    def decode(z: Tensor) -> Tensor:
        return louder(z, 0.08 * z[:, 0] + 0.2 * (z[:, 1] - 3))

    names = [component["name"] for component in named(analyse_latent_space(decode, latents()))]
    assert names[:2] == ["loudness", "loudness_2"]
    assert len(set(names)) == len(names)


def test_directions_of_one_property_are_told_apart_by_what_else_they_change():
    def decode(z: Tensor) -> Tensor:  # two change the loudness, the weaker of them a little of the brightness as well
        return louder(z, 0.08 * z[:, 0] + 0.2 * (z[:, 1] - 3), band=30 + 2 * (z[:, 1] - 3) - 25 * (z[:, 2] + 1))

    names = [component["name"] for component in named(analyse_latent_space(decode, latents()))]
    assert names[:3] == ["loudness", "loudness_brighter", "brightness"]


def test_a_property_names_the_direction_that_changes_it_most():
    def decode(z: Tensor) -> Tensor:  # the second is brighter still than it is louder
        return louder(z, 0.1 * z[:, 0] + 0.15 * (z[:, 1] - 3), band=30 + 20 * (z[:, 1] - 3))

    names = [component["name"] for component in named(analyse_latent_space(decode, latents()))]
    assert names[:2] == ["loudness", "brightness"]


def test_a_rare_jump_in_what_the_sounds_share_does_not_outweigh_what_they_differ_in():
    # In all sounds the energy comes at the same frame; only far out on one sweep it comes a frame later.
    z = latents(16)
    last = 1.1 * (z[:, 1] - 3).max()

    def decode(z: Tensor) -> Tensor:
        sound = louder(z, 0.3 * (z[:, 1] - 3))
        later = torch.cat([torch.full((len(z), 1, BANDS, 1), SILENCE), sound[..., :-1]], dim=-1)
        return torch.where((z[:, 1] - 3 > last)[:, None, None, None], later, sound)

    components = named(analyse_latent_space(decode, z))
    assert max(abs(component["effects"]["attack"]) for component in components) < 10
    assert "attack" not in [component["name"] for component in components[:2]]


# The axes


def test_directions_are_an_orthonormal_frame_with_the_widest_first():
    components = analyse_latent_space(loud, latents())["components"]
    directions = torch.tensor([component["direction"] for component in components])
    torch.testing.assert_close(directions @ directions.T, torch.eye(LATENTS), atol=1e-4, rtol=0)
    spread = [component["std"] for component in components]
    assert spread == sorted(spread, reverse=True)


def test_mean_and_spread_are_those_of_the_latents():
    z = latents()
    analysis = analyse_latent_space(loud, z)
    torch.testing.assert_close(torch.tensor(analysis["mean"]), z.mean(dim=0))
    directions = torch.tensor([component["direction"] for component in analysis["components"]])
    along = ((z - z.mean(dim=0)) @ directions.T).std(dim=0)
    torch.testing.assert_close(along, torch.tensor([c["std"] for c in analysis["components"]]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("sign", [1, -1], ids=["as is", "reversed"])
def test_the_safe_range_holds_95_of_100_sounds(sign):
    z = latents(400) ** 3 * sign  # skewed by the mean: a range that forgot the sign would miss
    analysis = analyse_latent_space(loud, z)
    for component in named(analysis):
        place = (z - torch.tensor(analysis["mean"])) @ torch.tensor(component["direction"]) / component["std"]
        low, high = component["safe_range"]
        assert low < 0 < high
        assert ((place >= low - 1e-4) & (place <= high + 1e-4)).float().mean().item() == pytest.approx(0.95, abs=0.01)


def test_eight_directions_at_most_have_a_name():
    z = torch.randn(100, 20, generator=torch.Generator().manual_seed(0))
    analysis = analyse_latent_space(loud, z)
    assert [("name" in component) for component in analysis["components"]] == [True] * 8 + [False] * 12


# Plain values, whatever comes


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(finite(item) for item in value.values())
    if isinstance(value, list):
        return all(finite(item) for item in value)
    return isinstance(value, str) or math.isfinite(value)


@pytest.mark.parametrize("count", [1, 2, 3, LATENTS - 1, 200])
def test_any_number_of_sounds_gives_plain_finite_values(count):
    analysis = analyse_latent_space(bright, latents(count))
    assert json.loads(json.dumps(analysis, allow_nan=False)) == analysis
    assert finite(analysis)
    assert len(analysis["mean"]) == LATENTS
    assert all(len(component["direction"]) == LATENTS for component in analysis["components"])


def test_two_sounds_span_one_named_direction():
    components = named(analyse_latent_space(bright, latents(2)))
    assert len(components) == 1
    assert components[0]["safe_range"] == pytest.approx([-0.95 / 2**0.5, 0.95 / 2**0.5], rel=0.01)


def test_sounds_that_all_have_one_latent_have_no_direction_to_name():
    analysis = analyse_latent_space(loud, torch.ones(30, LATENTS))
    assert named(analysis) == []
    assert finite(analysis)
    assert json.dumps(analysis, allow_nan=False)


def test_a_decoder_that_ignores_its_latent_gives_no_numbers_that_are_none():
    analysis = analyse_latent_space(lambda z: blob(z), latents())
    assert finite(analysis)


def test_silence_can_be_analysed():
    assert finite(analyse_latent_space(lambda z: torch.full((len(z), 1, BANDS, FRAMES), SILENCE), latents()))
