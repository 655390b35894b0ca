"""The codes of a sound as a value: a sound to codes and back, files of them, and what is refused."""

import dataclasses
import io
import os
import zipfile

import numpy as np
import pytest

from distill.errors import CodesError, ConfigError
from distill.models.codes import Codes
from distill.models.loaded_vqvae import LoadedVQModel
from distill.models.persistence import load_model_v2
from support.models import save_rvq_vae, small_rvq_vae
from support.sounds import tone

RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedVQModel:
    return load_model_v2(save_rvq_vae(small_rvq_vae(), tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def codes(model) -> Codes:
    return model.encode(np.pad(tone(330, 0.6, rate=RATE), (0, 8000)), RATE)


def changed(codes: Codes, change) -> Codes:
    grid = codes.grid.copy()
    change(grid)
    return dataclasses.replace(codes, grid=grid)


def test_a_sound_played_from_its_codes_is_its_reconstruction(model):
    sound = tone(330, 0.6, rate=RATE)
    np.testing.assert_allclose(model.decode(model.encode(sound)), model.reconstruct(sound), atol=1e-5)


def test_codes_say_what_they_are_of(model, codes):
    assert (codes.grid.dtype, codes.grid.shape[:2]) == (np.int64, (2, 2))
    assert codes.grid.shape[2] >= codes.seconds / model.codebook.column_seconds
    assert (codes.model, codes.seconds) == (model.metadata.model_id, 1.1)
    assert model.codebook.counts(codes).sum() == (codes.grid >= 0).sum()
    with pytest.raises(ValueError, match="read-only"):
        codes.grid[:] = 0


def test_a_file_of_codes_is_read_back_and_needs_no_pickle(codes, tmp_path):
    path = codes.save(tmp_path / "kick.npz")
    assert Codes.load(path) == codes
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["grid"], codes.grid)


def test_what_is_taken_out_of_the_grid_is_silent_and_a_level_less_is_coarser(model, codes):
    silent = model.decode(changed(codes, lambda grid: grid.fill(-1)))
    assert len(silent) == len(model.decode(codes))
    assert np.abs(silent).max() < 1e-6
    one, muted = (
        model.decode(dataclasses.replace(codes, grid=codes.grid[:1])),
        model.decode(changed(codes, lambda grid: grid[1].fill(-1))),
    )
    np.testing.assert_array_equal(one, muted)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda c: dataclasses.replace(c, model="0" * 32), "codes of the model '000"),
        (lambda c: changed(c, lambda grid: grid.fill(8)), "codes up to 7"),
        (lambda c: dataclasses.replace(c, grid=np.zeros((2, 3, 9), int)), "2 levels of 2 rows"),
        (lambda c: dataclasses.replace(c, grid=np.zeros((3, 2, 9), int)), "2 levels of 2 rows"),
        (lambda c: dataclasses.replace(c, seconds=99.0), "so many columns"),
        (lambda c: changed(c, lambda grid: grid.fill(-2)), "the codes are from -2"),
        (lambda c: dataclasses.replace(c, grid=np.zeros((2, 2, 9))), "integers"),
        (lambda c: dataclasses.replace(c, grid=np.zeros((2, 2), int)), "integers"),
        (lambda c: dataclasses.replace(c, grid=np.zeros((5, 2, 9), int)), "larger than that of any model"),
        (lambda c: dataclasses.replace(c, seconds=float("nan")), "last nan s"),
    ],
)
def test_codes_that_the_model_cannot_have_are_refused(model, codes, make, said):
    with pytest.raises(CodesError, match=said):
        model.decode(make(codes))


def packed(compression=zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def array(value, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(value), allow_pickle=pickled)
    return buffer.getvalue()


GRID, ID, SECONDS = (array(np.zeros((2, 2, 3), "<i4")), array(np.asarray("x", "<U64")), array(np.float64(0.2)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no archive"),
        (b"RIFF" * 100, "no archive"),
        (packed(grid=GRID, model=ID), "does not hold just"),
        (packed(grid=GRID, model=ID, seconds=SECONDS, more=GRID), "does not hold just"),
        (packed(grid=array(np.array([{}]), True), model=ID, seconds=SECONDS), "its grid is not int32"),
        (packed(grid=GRID[:-4], model=ID, seconds=SECONDS), "not as large as it says"),
        (
            packed(grid=GRID.replace(b"2, 3)", b"2,1<<40)"), model=ID, seconds=SECONDS),
            "no archive of arrays, or damaged",
        ),
        (packed(grid=array(np.zeros((2, 2, 3))), model=ID, seconds=SECONDS), "its grid is not int32"),
        (packed(grid=bytes(1 << 27), model=ID, seconds=SECONDS), "far too large"),
        (packed(grid=GRID, model=ID, seconds=array(np.float64(np.inf))), "last inf s"),
        (packed(grid=GRID, model=array(np.asarray(["x"] * 2, "<U64")), seconds=SECONDS), "more than one"),
        (packed(grid=GRID, model=ID, seconds=SECONDS)[:-30], "no archive"),
    ],
)
def test_a_file_that_is_no_codes_is_refused_in_one_sentence(tmp_path, content, said):
    (tmp_path / "codes.npz").write_bytes(content)
    with pytest.raises(CodesError, match=said) as refused:
        Codes.load(tmp_path / "codes.npz")
    assert str(refused.value).startswith(str(tmp_path / "codes.npz"))


def test_damage_anywhere_in_a_file_is_found_or_harmless(codes, tmp_path):
    whole, path = codes.to_bytes(), tmp_path / "codes.npz"
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            assert Codes.load(path) == codes
        except CodesError:
            continue


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none"):
        with pytest.raises(CodesError, match=path.name):
            Codes.load(path)


def test_a_model_without_codes_says_so(tmp_path):
    from distill.models.loaded_vae import LoadedModel

    model = LoadedModel.__new__(LoadedModel)
    object.__setattr__(model, "metadata", type("About", (), {"name": "between"}))
    assert model.codebook is None
    with pytest.raises(ConfigError, match="'between' is a vae model, which has no codes"):
        model.encode(np.zeros(100, np.float32))
