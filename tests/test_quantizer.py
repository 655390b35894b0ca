"""The residual quantizer: what it codes, how its codebooks learn, and the traps others fell into."""

import itertools
from copy import deepcopy

import numpy as np
import pytest
import scipy.cluster.vq
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from distill.models.quantizer import NO_CODE, ResidualQuantizer, _smallest, kmeans

DIM, SIZE, LEVELS = 6, 16, 3


def small(**options) -> ResidualQuantizer:
    torch.manual_seed(0)
    return ResidualQuantizer(DIM, SIZE, LEVELS, **{"kmeans_init": False, "dead_threshold": 0.0, "beam": 1, **options})


def vectors(batch: int = 4, count: int = 12, seed: int = 1, dim: int = DIM) -> Tensor:
    return torch.randn(batch, count, dim, generator=torch.Generator().manual_seed(seed))


def clusters(count: int, each: int, spread: float = 0.02, seed: int = 3, dim: int = DIM) -> tuple[Tensor, Tensor]:
    """Centres `[count, dim]` and `each` vectors around each of them `[count · each, dim]`, in mixed order."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, dim, generator=generator) * 2
    around = centres.repeat(each, 1) + spread * torch.randn(count * each, dim, generator=generator)
    return centres, around[torch.randperm(len(around), generator=generator)]


def buffers(quantizer: ResidualQuantizer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in quantizer.state_dict().items()}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor], **tolerance: float) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], msg=lambda text, n=name: f"{n}: {text}", **tolerance)


# --- against vector-quantize-pytorch ---------------------------------------------------------------------------


def twin_of(ours: ResidualQuantizer):
    """Their `ResidualVQ` holding our state; k-means and dead codes off, the raw commitment, plain straight-through."""
    from vector_quantize_pytorch import ResidualVQ

    theirs = ResidualVQ(
        dim=ours.dim,
        codebook_size=ours.size,
        num_quantizers=ours.levels,
        decay=ours.decay,
        kmeans_init=False,
        threshold_ema_dead_code=0,
        commitment_weight=1.0,
        rotation_trick=False,
    )
    for level, layer in enumerate(theirs.layers):
        layer._codebook.embed.copy_(ours.codebooks[level][None])
        layer._codebook.embed_avg.copy_(ours.sums[level][None])
        layer._codebook.cluster_size.copy_(ours.usage[level][None])
    return theirs


@pytest.mark.parametrize("padded", [False, True], ids=["every_vector", "some_masked_out"])
def test_it_trains_as_vector_quantize_pytorch_does(padded):
    ours = small(decay=0.9).train()
    theirs = twin_of(ours).train()
    for step in range(8):
        x = vectors(seed=step)
        mask = torch.arange(x.shape[1]).expand(x.shape[:2]) < torch.tensor([[12], [5], [9], [1]]) if padded else None
        mine, other = ours(x, mask), theirs(x, mask=mask)
        coded = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
        assert torch.equal(mine.indices[coded], other[1][coded])
        torch.testing.assert_close(mine.vectors, other[0])
        torch.testing.assert_close(mine.commitment, other[2])
        for level, layer in enumerate(theirs.layers):
            torch.testing.assert_close(ours.codebooks[level], layer._codebook.embed[0])
            torch.testing.assert_close(ours.usage[level], layer._codebook.cluster_size[0])
            torch.testing.assert_close(ours.sums[level], layer._codebook.embed_avg[0])


def test_it_codes_and_decodes_as_vector_quantize_pytorch_does_in_eval_mode():
    ours = small().eval()
    theirs = twin_of(ours).eval()
    x = vectors()
    mine, (quantized, indices, _) = ours(x), theirs(x)
    assert torch.equal(mine.indices, indices)
    torch.testing.assert_close(mine.vectors, quantized)
    torch.testing.assert_close(ours.embed(indices), theirs.get_output_from_indices(indices))


def test_the_commitment_gradient_is_that_of_vector_quantize_pytorch():
    ours = small().train()
    theirs = twin_of(ours).train()
    x, y = vectors().requires_grad_(), vectors().requires_grad_()
    ours(x).commitment.sum().backward()
    theirs(y)[2].sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


# --- one forward pass ------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 20), st.booleans(), st.data())
def test_indices_are_codes_where_there_is_something_to_code_and_minus_one_elsewhere(batch, count, training, data):
    mask = torch.from_numpy(data.draw(arrays(bool, (batch, count))))
    found = small(dead_threshold=2.0).train(training)(vectors(batch, count), mask)
    assert found.indices.shape == (batch, count, LEVELS)
    assert found.indices.dtype == torch.int64
    assert torch.equal(found.indices == NO_CODE, ~mask.unsqueeze(-1).expand(-1, -1, LEVELS))
    assert (found.indices < SIZE).all()
    assert (found.indices >= NO_CODE).all()
    assert (found.vectors[~mask] == 0).all()
    assert torch.isfinite(found.commitment).all()


def test_the_gradient_passes_straight_through_once_whatever_the_number_of_levels():
    x, slope = vectors().requires_grad_(), vectors(seed=9)
    (small().train()(x).vectors * slope).sum().backward()
    torch.testing.assert_close(x.grad, slope)


def test_no_gradient_passes_through_what_is_not_coded():
    x, mask = vectors().requires_grad_(), torch.ones(4, 12, dtype=torch.bool)
    mask[:, 8:] = False
    found = small().train()(x, mask)
    (found.vectors.sum() + found.commitment.sum()).backward()
    assert (x.grad[:, 8:] == 0).all()
    assert (x.grad[:, :8] != 0).any(dim=-1).all()


def test_each_levels_commitment_pulls_on_the_encoder_with_its_own_residual():
    # Trap 2: without a detached residual the gradient of every level after the first is dead.
    quantizer, x = small().eval(), vectors().requires_grad_()
    found = quantizer(x)
    for level in range(LEVELS):
        (gradient,) = torch.autograd.grad(found.commitment[level], x, retain_graph=True)
        left_over = x.detach() - quantizer.embed(found.indices[..., : level + 1])
        torch.testing.assert_close(gradient, 2 * left_over / x.numel())
        assert (gradient.norm(dim=-1) > 1e-6).all()


def test_the_commitment_in_eval_mode_is_the_mean_squared_rest_after_each_level():
    quantizer, x = small().eval(), vectors()
    found = quantizer(x)
    residuals = [(x - quantizer.embed(found.indices[..., : level + 1])).square().mean() for level in range(LEVELS)]
    torch.testing.assert_close(found.commitment, torch.stack(residuals))
    assert (found.commitment > 0).all()


def test_training_and_eval_report_the_same_codes_and_commitment_for_the_same_codebooks():
    quantizer, x = small(), vectors()
    seen = quantizer.eval()(x)
    learnt = quantizer.train()(x)
    assert torch.equal(seen.indices, learnt.indices)
    torch.testing.assert_close(seen.commitment, learnt.commitment)


@pytest.mark.parametrize("kmeans_init", [False, True])
def test_an_eval_forward_changes_no_buffer_and_never_runs_k_means(kmeans_init):
    quantizer = small(kmeans_init=kmeans_init, dead_threshold=2.0).eval()
    before = buffers(quantizer)
    found = quantizer(vectors(count=50))
    assert_same(before, buffers(quantizer), rtol=0, atol=0)
    assert quantizer.ready is not kmeans_init
    assert (found.commitment > 0).all()


def test_a_wide_beam_finds_the_best_of_all_sums():
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(DIM, 4, LEVELS, kmeans_init=False, beam=16).eval()
    x = vectors(1, 200)
    every = torch.cartesian_prod(*[torch.arange(4)] * LEVELS)
    best = torch.cdist(x[0], quantizer.embed(every)).amin(dim=1)
    found = (x[0] - quantizer.embed(quantizer(x).indices[0])).norm(dim=1)
    torch.testing.assert_close(found, best)


def test_the_beam_comes_nearer_than_the_nearest_code_of_each_level():
    x = vectors(1, 500)
    greedy, searched = (small(beam=beam).eval()(x) for beam in (1, 8))
    assert searched.commitment[-1] < 0.97 * greedy.commitment[-1]


def test_a_prefix_of_the_levels_decodes_to_the_sum_of_their_codes():
    quantizer, x = small().eval(), vectors()
    indices = quantizer(x).indices
    partial = torch.zeros_like(x)
    for level in range(LEVELS):
        partial = partial + quantizer.codebooks[level][indices[..., level]]
        torch.testing.assert_close(quantizer.embed(indices[..., : level + 1]), partial)


def test_what_has_no_code_decodes_to_zero():
    assert (small().embed(torch.full((2, 3, LEVELS), NO_CODE)) == 0).all()


# --- k-means ---------------------------------------------------------------------------------------------------


def test_the_first_training_forward_places_the_codebooks_by_k_means():
    quantizer = small(kmeans_init=True).train()
    _, around = clusters(SIZE, 20)
    first = quantizer(around[None]).commitment
    assert quantizer.ready
    assert bool(quantizer.initialized)
    assert first[0] < 0.1 * around.square().mean()


def test_k_means_goes_level_by_level_so_that_each_level_lowers_the_error():
    # Trap 5: all levels from one small batch leave the later codebooks next to zero.
    quantizer = small(kmeans_init=True)
    x = vectors(1, 3000)[0]
    quantizer.initialize(x)
    indices = quantizer.eval()(x[None]).indices[0]
    rest, errors = x, [x.square().mean().item()]
    for level in range(LEVELS):
        norm = quantizer.codebooks[level].square().mean().sqrt()
        assert norm > 0.5 * rest.square().mean().sqrt(), f"codebook {level} is next to zero"
        rest = x - quantizer.embed(indices[:, : level + 1])
        errors.append(rest.square().mean().item())
    assert all(later < 0.8 * earlier for earlier, later in itertools.pairwise(errors))


def test_k_means_is_as_good_as_scipys():
    x = vectors(1, 900)[0]
    quantizer = small(kmeans_init=True)
    quantizer.initialize(x)
    centres, _ = scipy.cluster.vq.kmeans2(x.numpy().astype(np.float64), SIZE, iter=10, minit="++", rng=0)
    _, distance = scipy.cluster.vq.vq(x.numpy(), centres)
    ours = quantizer.eval()(x[None]).commitment[0].item() * DIM
    assert ours == pytest.approx(float(np.mean(distance**2)), rel=0.08)


def test_k_means_gives_all_codes_about_as_much_to_do_without_losing_sight_of_the_error(monkeypatch):
    x = torch.randn(4000, DIM, generator=torch.Generator().manual_seed(0)).exp()  # dense near zero, with a long tail

    def outcome(small_share: float) -> tuple[float, float]:
        monkeypatch.setattr("distill.models.quantizer._SMALL_SHARE", small_share)
        torch.manual_seed(0)
        centres, sizes = kmeans(x, 64, 10)
        return float(torch.special.entr(sizes / sizes.sum()).sum().exp()), float(torch.cdist(x, centres).amin(1).mean())

    (plain, error), (even, error_then) = outcome(0.0), outcome(0.5)
    assert even > 1.1 * plain
    assert error_then < 1.05 * error


def test_k_means_on_more_vectors_than_it_needs_still_finds_the_clusters():
    centres, around = clusters(SIZE, 2000)
    quantizer = small(kmeans_init=True)
    quantizer.initialize(around)
    assert (torch.cdist(centres, quantizer.codebooks[0]).amin(dim=1) < 0.05).all()


@pytest.mark.parametrize("count", [400, 4000], ids=["all_of_them", "more_than_it_needs"])
def test_k_means_over_several_batches_counts_usage_per_batch(count):
    quantizer = small(kmeans_init=True)
    quantizer.initialize(vectors(1, count)[0], batches=4)
    torch.testing.assert_close(quantizer.usage.sum(dim=-1), torch.full((LEVELS,), count / 4))
    torch.testing.assert_close(quantizer.sums, quantizer.codebooks * quantizer.usage[..., None])


def test_k_means_waits_for_the_first_batch_that_has_something_to_code():
    quantizer, x = small(kmeans_init=True).train(), vectors()
    quantizer(x, torch.zeros(4, 12, dtype=torch.bool))
    assert not quantizer.ready
    quantizer(x)
    assert quantizer.ready


@pytest.mark.parametrize("count", [1, 5, SIZE])
def test_fewer_vectors_than_codes_still_give_codebooks_that_train(count):
    quantizer, x = small(kmeans_init=True, dead_threshold=2.0).train(), vectors(1, count)
    for _ in range(30):
        found = quantizer(x)
    assert all(torch.isfinite(value).all() for value in buffers(quantizer).values())
    assert found.commitment[-1] < 1e-3


def test_vectors_that_are_not_numbers_do_not_stop_k_means():
    # The loss of such a batch is NaN, and the step is skipped for it; the run must get as far as that.
    quantizer = small(kmeans_init=True).train()
    x = vectors()
    x[0, 0] = torch.nan
    found = quantizer(x)
    assert found.commitment.isnan().all()


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 9), st.integers(1, 12))
def test_the_smallest_are_those_that_sorting_everything_finds(rows: int, parents: int, codes: int, count: int) -> None:
    distances = torch.rand(rows, parents, codes, generator=torch.Generator().manual_seed(rows))
    parent, code = _smallest(distances, count)
    order = distances.flatten(1).argsort(dim=1)[:, : parent.shape[1]]
    torch.testing.assert_close(parent * codes + code, order)
    assert parent.shape[1] == min(count, parents * min(count, codes))


# --- dead codes ------------------------------------------------------------------------------------------------


def with_a_dead_code(dead: int | slice = 5, each: int = 10, **options) -> tuple[ResidualQuantizer, Tensor]:
    """A one-level quantizer on 16 clusters, one code of which (or some) is lost far away, and the vectors of all."""
    centres, around = clusters(SIZE, each)
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(DIM, SIZE, 1, kmeans_init=False, decay=0.9, **options).train()
    quantizer.codebooks.copy_(centres[None])
    quantizer.codebooks[0, dead] = 100.0
    quantizer.usage.fill_(each)
    quantizer.usage[0, dead] = 0.01
    quantizer.sums.copy_(quantizer.codebooks * quantizer.usage[..., None])
    return quantizer, around[None]


def test_a_reset_code_is_a_vector_of_the_batch_and_survives_the_step():
    # Trap 3: the moving average of the same step must not write over it.
    quantizer, x = with_a_dead_code()
    quantizer(x)
    code = quantizer.codebooks[0, 5]
    assert (x[0] == code).all(dim=-1).any()
    torch.testing.assert_close(quantizer.sums[0, 5] / quantizer.usage[0, 5], code)


def test_a_reset_code_outlives_the_next_steps_even_when_nothing_chooses_it():
    quantizer, x = with_a_dead_code()
    quantizer(x)
    code = quantizer.codebooks[0, 5].clone()
    elsewhere = x[:, (x[0] - code).norm(dim=-1) > 1]
    for _ in range(5):
        quantizer(elsewhere)
    torch.testing.assert_close(quantizer.codebooks[0, 5], code, rtol=0, atol=1e-3)


def test_a_reset_code_comes_into_use():
    quantizer, x = with_a_dead_code()
    assert not (quantizer(x).indices == 5).any()
    for _ in range(20):
        found = quantizer(x)
    assert (found.indices == 5).any()


def test_of_a_codebook_half_lost_every_code_comes_into_use():
    quantizer, x = with_a_dead_code(slice(None, None, 2), each=3)
    before = quantizer(x).commitment[0]
    for _ in range(400):
        found = quantizer(x)
    assert quantizer.get_codebook_utilization(found.indices)["level_0"]["utilization"] == 1
    assert found.commitment[0] < 0.4 * before


def test_codes_die_only_below_the_threshold():
    quantizer, x = with_a_dead_code(dead_threshold=0.0)
    quantizer(x)
    assert quantizer.codebooks[0, 5].norm() > 100


def test_small_batches_do_not_declare_living_codes_dead():
    # Trap 4: 24 vectors for 32 codes leave every code under an absolute threshold of two vectors.
    size, generator = 32, torch.Generator().manual_seed(0)
    centres = torch.randn(size, DIM, generator=generator) * 3
    quantizer = ResidualQuantizer(DIM, size, 1, kmeans_init=False, dead_threshold=2.0).train()
    quantizer.codebooks.copy_(centres[None])
    quantizer.sums.copy_(centres[None])
    untouched = deepcopy(quantizer)
    untouched.dead_threshold = 0.0
    for _ in range(40):
        chosen = torch.randperm(size, generator=generator)[:24]
        x = (centres[chosen] + 0.05 * torch.randn(24, DIM, generator=generator))[None]
        quantizer(x)
        untouched(x)
    assert (quantizer.usage < 2).all()
    assert_same(buffers(untouched), buffers(quantizer))


def test_a_code_that_nothing_chooses_is_revived_in_small_batches_too():
    size, generator = 32, torch.Generator().manual_seed(0)
    centres = torch.randn(size, DIM, generator=generator) * 3
    quantizer = ResidualQuantizer(DIM, size, 1, kmeans_init=False, dead_threshold=2.0, decay=0.8).train()
    quantizer.codebooks.copy_(centres[None])
    quantizer.codebooks[0, 7] = 1000.0
    quantizer.sums.copy_(quantizer.codebooks)
    for _ in range(40):
        quantizer(centres[torch.randperm(size, generator=generator)[:24]][None])
    assert quantizer.codebooks[0, 7].norm() < 100


def test_more_dead_codes_than_vectors_take_each_vector_once():
    quantizer, x = small(dead_threshold=2.0).train(), vectors(1, 4)
    quantizer.codebooks.fill_(50.0)
    quantizer.usage.fill_(0.0)
    quantizer.usage[:, 0] = SIZE
    quantizer.sums.copy_(quantizer.codebooks * quantizer.usage[..., None])
    quantizer(x)
    same = (quantizer.codebooks[0][:, None] == x[0]).all(dim=-1)  # [K, 4]
    assert same.any(dim=0).all()
    assert (same.sum(dim=0) == 1).all()


# --- padding ---------------------------------------------------------------------------------------------------


def test_padding_leaves_the_same_buffers_commitment_and_health_as_no_padding():
    # Trap 7
    x = vectors(2, 10)
    filler = torch.full((2, 30, DIM), 7.0)
    mask = torch.cat([torch.ones(2, 10), torch.zeros(2, 30)], dim=1).bool()
    bare, padded = small().train(), small().train()
    for _ in range(4):
        alone, among = bare(x), padded(torch.cat([x, filler], dim=1), mask)
        assert torch.equal(alone.indices, among.indices[:, :10])
        torch.testing.assert_close(alone.vectors, among.vectors[:, :10])
        torch.testing.assert_close(alone.commitment, among.commitment)
    assert_same(buffers(bare), buffers(padded))
    assert bare.get_codebook_utilization(alone.indices) == padded.get_codebook_utilization(among.indices)


def test_neither_k_means_nor_a_reset_code_is_drawn_from_padding():
    quantizer = small(kmeans_init=True, dead_threshold=2.0, decay=0.5).train()
    x, mask = vectors(4, 12), torch.ones(4, 12, dtype=torch.bool)
    x[:, 3:], mask[:, 3:] = 1e6, False
    for step in range(10):
        x[:, :3] = vectors(4, 3, seed=step)
        quantizer(x, mask)
    assert quantizer.codebooks.abs().max() < 10


def test_a_batch_of_nothing_but_padding_moves_nothing():
    quantizer, x = small(dead_threshold=2.0).train(), vectors()
    quantizer(x)
    before = quantizer.codebooks.clone()
    found = quantizer(x, torch.zeros(4, 12, dtype=torch.bool))
    assert (found.commitment == 0).all()
    torch.testing.assert_close(quantizer.codebooks, before, rtol=1e-3, atol=1e-4)


# --- health ----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(arrays(np.int64, st.tuples(st.integers(1, 60), st.just(LEVELS)), elements=st.integers(NO_CODE, SIZE - 1)))
def test_health_is_what_scipy_counts(indices):
    health = small().get_codebook_utilization(torch.from_numpy(indices))
    assert list(health) == [f"level_{level}" for level in range(LEVELS)]
    for level, figures in enumerate(health.values()):
        counts = np.bincount(indices[:, level][indices[:, level] != NO_CODE], minlength=SIZE)
        perplexity = np.exp(scipy.stats.entropy(counts)) if counts.any() else 1.0
        assert figures == {
            "utilization": pytest.approx((counts > 0).sum() / SIZE),
            "perplexity": pytest.approx(perplexity, rel=1e-5),
            "dead_codes": (counts == 0).sum(),
        }
        assert [type(figure) for figure in figures.values()] == [float, float, int]


def test_health_of_known_codes():
    even = torch.arange(SIZE)
    half = even % (SIZE // 2)
    one = torch.zeros_like(even)
    health = small().get_codebook_utilization(torch.stack([even, half, one], dim=-1))
    assert health == {
        "level_0": {"utilization": 1.0, "perplexity": pytest.approx(16), "dead_codes": 0},
        "level_1": {"utilization": 0.5, "perplexity": pytest.approx(8), "dead_codes": 8},
        "level_2": {"utilization": 1 / 16, "perplexity": pytest.approx(1), "dead_codes": 15},
    }


def test_health_over_a_set_counts_all_its_batches():
    # Trap 6: a batch of 4 vectors uses 4 of 16 codes at most; the set uses them all.
    batches = [torch.arange(start, start + 4).reshape(1, 4, 1).expand(-1, -1, LEVELS) for start in range(0, SIZE, 4)]
    quantizer = small()
    assert quantizer.get_codebook_utilization(batches[0])["level_0"]["utilization"] == 0.25
    assert quantizer.get_codebook_utilization(torch.cat(batches))["level_0"]["utilization"] == 1.0


# --- state, determinism, speed ---------------------------------------------------------------------------------


def trained(quantizer: ResidualQuantizer, steps: int, seed: int) -> ResidualQuantizer:
    torch.manual_seed(seed)
    quantizer.train()
    for step in range(steps):
        quantizer(vectors(seed=seed + step))
    return quantizer


def test_a_state_dict_is_the_whole_state():
    options = {"kmeans_init": True, "dead_threshold": 2.0, "decay": 0.6}
    first = trained(small(**options), steps=4, seed=10)
    second = small(**options)
    assert not second.ready
    second.load_state_dict(first.state_dict())
    x = vectors(seed=99)
    for ours, theirs in zip(first.eval()(x), second.eval()(x)):
        assert torch.equal(ours, theirs)
    assert_same(buffers(trained(first, 4, seed=20)), buffers(trained(second, 4, seed=20)), rtol=0, atol=0)


def test_loading_the_state_of_a_fresh_quantizer_lets_k_means_run_again():
    fresh = small(kmeans_init=True)
    used = trained(small(kmeans_init=True), steps=2, seed=0)
    used.load_state_dict(fresh.state_dict())
    assert not used.ready


def test_the_same_seed_gives_the_same_codebooks():
    options = {"kmeans_init": True, "dead_threshold": 2.0, "decay": 0.6}
    once, again = (trained(small(**options), steps=5, seed=3) for _ in range(2))
    assert_same(buffers(once), buffers(again), rtol=0, atol=0)


class NoHostSync(TorchDispatchMode):
    """Raises where a tensor's values decide what Python, or the shape of a result, does next."""

    WAITING = frozenset({"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "unique2"})

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indexed_by = args[1] if name in ("index", "index_put", "index_put_") else ()
        by_mask = any(index is not None and index.dtype == torch.bool for index in indexed_by)
        if name in self.WAITING or by_mask:
            raise AssertionError(f"a training step waits for the device: {func}")
        return func(*args, **(kwargs or {}))


def test_a_training_step_never_waits_for_the_device():
    quantizer = trained(small(kmeans_init=True, dead_threshold=2.0), steps=1, seed=0)
    x, mask = vectors().requires_grad_(), torch.ones(4, 12, dtype=torch.bool)
    with NoHostSync():
        found = quantizer(x, mask)
        (found.vectors.sum() + found.commitment.sum()).backward()


def test_a_wait_for_the_device_would_be_noticed():
    with NoHostSync(), pytest.raises(AssertionError, match="waits"):
        bool(torch.ones(()))
    with NoHostSync(), pytest.raises(AssertionError, match="waits"):
        torch.ones(3)[torch.ones(3, dtype=torch.bool)]
