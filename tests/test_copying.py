"""Copies among new sounds: told from sounds that are only of the same kind."""

import pytest
import torch
from torch import Tensor

from distill.training.copying import Originals

FRAME_RATE = 20.0  # windows of ten frames


def sounds(count: int, seed: int, frames: int = 40) -> list[Tensor]:
    """Mels `[64, T]` of one kind: a few bands that come and go, each sound in a way of its own."""
    generator = torch.Generator().manual_seed(seed)
    shapes = torch.rand(6, 64, generator=torch.Generator().manual_seed(0))
    made = []
    for _ in range(count):
        strength = torch.rand(6, 1, generator=generator)
        turns = torch.rand(6, 1, generator=generator) * torch.linspace(0, 9, frames)
        made.append(0.3 * shapes.T @ (strength * (1 + turns.sin())) - 0.9)
    return made


@pytest.fixture(scope="module")
def originals() -> Originals:
    found = Originals.of(sounds(40, seed=1), sounds(8, seed=2), FRAME_RATE)
    assert found is not None
    return found


def test_as_many_windows_of_other_real_sounds_are_near_copies_as_is_usual(originals: Originals) -> None:
    assert originals.copied(sounds(200, seed=3)) == pytest.approx(0.1, abs=0.05)


def test_a_sound_that_was_trained_on_is_a_copy_wherever_it_begins(originals: Originals) -> None:
    trained = sounds(40, seed=1)
    assert originals.copied(trained) == 1
    assert originals.copied([torch.roll(one, 1, dims=1) for one in trained]) > 0.5
    half = [*trained[:20], *sounds(20, seed=4)]
    assert 0.5 <= originals.copied(half) <= 0.7


def test_sounds_of_another_kind_are_no_copies(originals: Originals) -> None:
    assert originals.copied([-0.9 - one for one in sounds(20, seed=5)]) < 0.05


def test_silence_is_nobodys_copy(originals: Originals) -> None:
    silence = torch.full((64, 80), -1.0)
    assert originals.copied([silence]) == 0
    trained, heard = sounds(40, seed=1), sounds(200, seed=3)
    with_tails = Originals.of([torch.cat([one, silence], dim=1) for one in trained], [], FRAME_RATE)
    assert with_tails is not None
    assert with_tails.copied([torch.cat([one, silence], dim=1) for one in heard]) < 0.3


def test_a_little_sound_does_not_tell_what_is_usual() -> None:
    assert Originals.of(sounds(1, seed=1), sounds(1, seed=2), FRAME_RATE) is None
    assert Originals.of([], [], FRAME_RATE) is None
