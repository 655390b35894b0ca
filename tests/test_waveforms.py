"""Decoded sounds: in memory while they are few, in a file that goes with them when they are many."""

import errno
import gc
import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.audio.reader import AudioReader
from distill.data.collection import find_audio_files
from distill.data.opening import open_collection
from distill.data.waveforms import WaveformStore
from distill.errors import StorageError
from distill.training.config import VQVAEConfig
from distill.training.dataset import create_data_loaders
from distill.training.execution import run_training
from distill.training.request import TrainingRequest
from support.sounds import write_collection

RATE = 48_000


def waves(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, length).astype(np.float32) for length in lengths]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(0, 400), st.data())
def test_a_part_is_the_same_from_memory_and_from_the_disk(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], memory: int, data: st.DataObject
) -> None:
    given_waves = waves(*lengths)
    store = WaveformStore(memory, tmp_path_factory.mktemp("cache"))
    kept = [store.keep(wave) for wave in given_waves]
    for wave, held in zip(given_waves, kept):
        start, stop = sorted(data.draw(st.tuples(st.integers(0, 60), st.integers(0, 60))))
        assert len(held) == len(wave)
        np.testing.assert_array_equal(held[start:stop], wave[start:stop])


def test_the_file_is_there_as_long_as_a_waveform_in_it_and_goes_with_the_last(tmp_path: Path) -> None:
    store = WaveformStore(100, tmp_path)
    kept = [store.keep(wave) for wave in waves(20, 20, 20)]
    assert [isinstance(one, np.ndarray) for one in kept] == [True, False, False]
    del store
    gc.collect()
    assert len(list(tmp_path.iterdir())) == 1
    kept.clear()
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        kept = WaveformStore(0, tmp_path).keep(*waves(5))
        os._exit(len(kept))
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    kept = WaveformStore(0, tmp_path).keep(*waves(5))
    assert not left.exists()
    assert len(kept) == 5


def test_no_room_for_the_sounds_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full(np.ndarray):
        tofile = full

    with pytest.raises(StorageError, match=r"No space left on device .* needed, .* free"):
        WaveformStore(0, tmp_path).keep(waves(5)[0].view(Full))


def test_memory_stays_flat_however_many_sounds_there_are(tmp_path: Path) -> None:
    (wave,) = waves(200_000)
    tracemalloc.start()
    store = WaveformStore(2 * wave.nbytes, tmp_path)
    kept = [store.keep(wave.copy()) for _ in range(40)]
    assert sum(float(one[1000:2000].sum()) for one in kept) == pytest.approx(
        40 * float(wave[1000:2000].sum()), rel=1e-5
    )
    assert tracemalloc.get_traced_memory()[1] < 4 * wave.nbytes
    tracemalloc.stop()


def test_training_from_the_disk_gives_what_training_from_memory_gives(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = VQVAEConfig(codebook_size=16, batch_size=4)
    paths = find_audio_files(collection)
    in_memory = create_data_loaders(paths, config)
    monkeypatch.setattr("distill.data.opening.WaveformStore", lambda: WaveformStore(0, tmp_path))
    from_disk = create_data_loaders(paths, config)
    for one, other in zip(in_memory, from_disk):
        assert all(torch.equal(a, b) for a, b in zip(one, other))


def test_a_planned_run_decodes_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    read: list[Path] = []
    usual: Callable[..., object] = AudioReader.read
    monkeypatch.setattr(AudioReader, "read", lambda self, path: (read.append(path), usual(self, path))[1])
    folder = write_collection(tmp_path / "kit", 4)
    request = TrainingRequest.for_folder(
        folder, output_dir=tmp_path / "run", max_epochs=1, codebook_size=16, batch_size=4
    )
    run_training(request)
    assert sorted(read) == find_audio_files(folder)
    assert request.sounds is not None
    again = open_collection(request.file_paths, RATE).sounds
    for one, other in zip(request.sounds, again):
        assert (one.path, one.digest) == (other.path, other.digest)
        np.testing.assert_array_equal(one.waveform[:], other.waveform[:])


def test_a_run_on_decoded_sounds_that_is_cancelled_before_it_begins_leaves_nothing(tmp_path: Path, home: Path) -> None:
    folder, cancelled = write_collection(tmp_path / "kit", 4), threading.Event()
    request = TrainingRequest.for_folder(folder, output_dir=tmp_path / "run", max_epochs=1)
    cancelled.set()
    assert run_training(request, cancel_event=cancelled)["best_checkpoint_path"] is None
    assert not (tmp_path / "run").exists()
