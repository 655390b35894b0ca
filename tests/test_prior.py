"""The prior: a distribution over codes that can be checked by counting, and draws from it."""

import itertools

import pytest
import torch
from torch import Tensor

from distill.models.prior import UNKNOWN, CodePrior, Conditions, embed, is_sounding
from distill.models.sampling import Draw, Target, sample
from distill.models.settings import PriorSettings

ROWS, LEVELS, SIZE, DIM = 2, 2, 3, 4
SETTINGS = PriorSettings(width=24, hidden=24, layers=1, dropout=0.0, anchor_columns=64)


def codebooks(seed: int = 0) -> Tensor:
    books = torch.randn(LEVELS, SIZE, DIM, generator=torch.Generator().manual_seed(seed))
    return books * torch.tensor([1.0, 0.3])[:, None, None]


def prior(seed: int = 0) -> CodePrior:
    torch.manual_seed(seed)
    return CodePrior(ROWS, LEVELS, SIZE, DIM, SETTINGS).eval()


def anything(count: int) -> Conditions:
    return Conditions(torch.full((count,), UNKNOWN), torch.full((count,), UNKNOWN))


def draw(columns: int, count: int, temperature: float = 1.0, first_seed: int = 0) -> Draw:
    return Draw(columns, anything(count), tuple(range(first_seed, first_seed + count)), temperature)


def all_columns() -> Tensor:
    """Every column that can sound, `[K ** (H·Q), H, Q]`."""
    codes = list(itertools.product(range(SIZE), repeat=ROWS * LEVELS))
    return torch.tensor(codes).view(-1, ROWS, LEVELS)


@torch.no_grad()
def probabilities(model: CodePrior, sounds: Tensor) -> Tensor:
    """The probability of the last column of each of `[B, W, H, Q]`, given those before it and that it sounds."""
    before = sounds[:, :-1]
    bits = [
        float(model.bits(one[None], codebooks(), anything(1)).levels.sum() * ROWS * int(is_sounding(one[None]).sum()))
        for one in sounds
    ]
    earlier = float(
        model.bits(before[:1], codebooks(), anything(1)).levels.sum() * ROWS * int(is_sounding(before[:1]).sum())
    )
    return 2.0 ** -(torch.tensor(bits) - earlier)


def grammar(count: int, seed: int = 0) -> Tensor:
    """Sounds `[N, 8, H, Q]` that count up: a code is the one before it plus one, but one in ten is any."""
    generator = torch.Generator().manual_seed(seed)
    sounds = torch.full((count, 8, ROWS, LEVELS), -1)
    code = torch.randint(SIZE, (count,), generator=generator)
    for column in range(1, 6):  # silence, five columns, silence
        sounds[:, column] = code[:, None, None]
        wrong = torch.rand(count, generator=generator) < 0.1
        code = torch.where(wrong, torch.randint(SIZE, (count,), generator=generator), (code + 1) % SIZE)
    return sounds


def trained(sounds: Tensor, steps: int = 250) -> CodePrior:
    model = prior()
    model.start_from(sounds, codebooks())
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for step in range(steps):
        batch = sounds[torch.randperm(len(sounds), generator=torch.Generator().manual_seed(step))[:64]]
        bits = model.bits(batch, codebooks(), model.conditions_of(batch, codebooks()))
        loss = bits.levels.mean() + bits.end
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("before", [0, 1, 3])
def test_the_probabilities_of_all_columns_add_up_to_one(before):
    model = prior()
    first = torch.full((1, 1, ROWS, LEVELS), -1)
    past = torch.cat([first, all_columns()[7 : 7 + before][None]], dim=1)
    sounds = torch.cat([past.expand(len(all_columns()), -1, -1, -1), all_columns()[:, None]], dim=1)
    found = probabilities(model, sounds)
    assert (found > 0).all()
    assert float(found.sum()) == pytest.approx(1, abs=1e-4)


def test_columns_are_drawn_as_often_as_is_probable():
    model = prior(seed=3)
    count = 4000
    drawn = sample(model, codebooks(), draw(2, count))[:, 1]
    number = (drawn.flatten(1) * SIZE ** torch.arange(ROWS * LEVELS - 1, -1, -1)).sum(dim=1)
    seen = torch.bincount(number, minlength=len(all_columns())) / count
    first = torch.full((len(all_columns()), 1, ROWS, LEVELS), -1)
    expected = probabilities(model, torch.cat([first, all_columns()[:, None]], dim=1))
    deviation = (expected * (1 - expected) / count).sqrt()
    assert ((seen - expected).abs() < 5 * deviation + 1e-3).all()
    assert float(torch.corrcoef(torch.stack([seen, expected]))[0, 1]) > 0.8


def test_a_trained_prior_reproduces_the_statistics_of_its_sounds():
    sounds = grammar(400)
    model = trained(sounds)
    asked = Conditions(torch.full((300,), 5.0), torch.full((300,), UNKNOWN))
    drawn = sample(model, codebooks(), Draw(8, asked, tuple(range(300))))

    def follows(codes: Tensor) -> float:
        heard = is_sounding(codes)
        pairs = heard[:, 1:] & heard[:, :-1]
        return float((((codes[:, :-1, 0, 0] + 1) % SIZE) == codes[:, 1:, 0, 0])[pairs].double().mean())

    assert follows(drawn) == pytest.approx(follows(sounds), abs=0.08)
    lengths = is_sounding(drawn).sum(dim=1).float()
    assert float((lengths - 5).abs().mean()) < 0.5
    with torch.no_grad():
        held_out = grammar(100, seed=1)
        bits = model.bits(held_out, codebooks(), model.conditions_of(held_out, codebooks()))
    assert float(bits.levels.mean()) < 0.5 * float(model.unigram_bits(held_out))


def test_a_prefix_is_never_altered_and_decides_what_follows():
    model, prefix = prior(seed=1), grammar(6)[:, :4]
    drawn = sample(model, codebooks(), draw(8, 6), prefix)
    assert torch.equal(drawn[:, :4], prefix)
    assert drawn.shape[1] == 8


def test_a_sound_does_not_depend_on_those_drawn_with_it():
    model = prior(seed=2)
    together = sample(model, codebooks(), draw(6, 5))
    for number in range(5):
        assert torch.equal(together[number], sample(model, codebooks(), draw(6, 1, first_seed=number))[0])


def test_random_numbers_of_the_caller_are_left_alone():
    model = prior()
    before = torch.get_rng_state()
    sample(model, codebooks(), draw(4, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_low_temperature_draws_the_likeliest_code_of_each_row():
    model = prior(seed=4)
    cold = sample(model, codebooks(), draw(2, 40, temperature=0.05))[:, 1]
    warm = sample(model, codebooks(), draw(2, 40, temperature=1.0))[:, 1]
    assert len(cold.unique(dim=0)) < len(warm.unique(dim=0))


def test_near_to_a_target_its_own_codes_are_drawn_and_distance_rises_with_freedom():
    model, source = prior(), grammar(60)[:, 1:6]
    vectors = embed(source, codebooks())

    def distance(nearness: float) -> float:
        target = Target(vectors, is_sounding(source), nearness)
        drawn = sample(model, codebooks(), draw(5, 60), source[:, :0], target)
        return float((embed(drawn, codebooks()) - vectors).square().mean())

    found = [distance(nearness) for nearness in (1.0, 0.9, 0.6, 0.3, 0.0)]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found == sorted(found)


def test_conditions_tell_length_and_loudness_where_the_end_is_in_view():
    model, sounds = prior(), grammar(10)
    model.start_from(sounds, codebooks())
    asked = model.conditions_of(sounds, codebooks())
    assert asked.columns.tolist() == [5.0] * 10
    assert float(asked.loudness.square().mean().sqrt()) == pytest.approx(1, abs=0.1)
    assert model.conditions_of(sounds[:, :5], codebooks()).columns.tolist() == [UNKNOWN] * 10


def test_sounds_are_kept_as_anchors_as_far_as_there_is_room():
    model, sounds = prior(), grammar(40)
    model.start_from(sounds, codebooks())
    assert model.anchor_count == 64 // 5
    assert torch.equal(model.anchor(3), sounds[3, 1:6])


def test_silence_alone_teaches_nothing_and_breaks_nothing():
    model = prior()
    silence = torch.full((2, 4, ROWS, LEVELS), -1)
    model.start_from(silence, codebooks())
    assert not model.started
    bits = model.train().bits(silence, codebooks(), anything(2))
    assert torch.isfinite(bits.levels).all()
    assert torch.isfinite(bits.end)
