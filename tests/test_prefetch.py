"""Long collections: training begins with the sounds that are decoded, and ends as if all had been there."""

import errno
import gc
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from distill.audio.reader import AudioReader
from distill.audio.spectrogram import AudioSpectrogram, real_frames
from distill.data import chunks, prefetch, probe
from distill.data.batches import split_by_file
from distill.data.collection import find_audio_files
from distill.data.opening import open_collection
from distill.data.prefetch import PrefetchedWaveform
from distill.data.reading import read_each
from distill.data.waveforms import WaveformStore
from distill.errors import Cancelled, CollectionError, StorageError
from distill.models import quantizer
from distill.models.vqvae import ConvVQVAE
from distill.training import loop
from distill.training.dataset import create_data_loaders
from distill.training.execution import run_training
from distill.training.loop import train_vqvae
from distill.training.metrics import TrainingCompleteEvent, VQStepMetrics
from distill.training.preview import generate_vqvae_reconstruction_preview
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder
from support.runs import same_run, small_config
from support.sounds import RATE, tone, write_collection
from support.stops import StopAt
from support.waiting import PATIENCE_S

pytestmark = pytest.mark.usefixtures("quick_runs")

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every collection is long: half a second is a part that is mixed, and more than a model starts from."""
    monkeypatch.setattr(probe, "_LONG_BYTES", 0)
    monkeypatch.setattr(probe, "_LONG_S", 0)
    monkeypatch.setattr(chunks, "_PART_S", 0.5)
    monkeypatch.setattr(chunks, "_PART_SOUNDS", 1)
    monkeypatch.setattr(loop, "_START_VECTORS", 16)
    monkeypatch.setattr(quantizer, "_KMEANS_VECTORS", 16)
    monkeypatch.setattr(quantizer, "_KMEANS_VECTORS_PER_CODE", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "kit", 10)


class Gate:
    """Lets so many sounds be decoded, and the others once it is opened; `when_awaited` is called when one is needed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
        self.open, self.passed, self.stop = threading.Event(), list[Path](), threading.Event()
        self.when_awaited: Callable[[], object] = lambda: None
        gate = self

        class Pending(prefetch._Pending):
            def __init__(self, begin: int, window: prefetch._Window) -> None:
                super().__init__(begin, window)
                self.held = getattr(window, "sounds", 0) >= free
                window.sounds = getattr(window, "sounds", 0) + 1

            def request(self) -> object:
                if self.held and not gate.open.is_set():
                    gate.when_awaited()
                return super().request()

        def held_up(*arguments: object) -> Iterator[tuple[Path, object]]:
            self.stop = arguments[-1]
            for number, outcome in enumerate(read_each(*arguments)):
                while number >= free and not self.open.wait(0.05):
                    if self.stop.is_set():
                        raise Cancelled("stopped at the gate")
                self.passed.append(outcome[0])
                yield outcome

        monkeypatch.setattr(prefetch, "_Pending", Pending)
        monkeypatch.setattr(prefetch, "read_each", held_up)


# Probing headers


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.aiff", "a.mp3"])
def test_a_glance_sees_what_a_scan_does_without_the_samples(write_sound: Write, name: str) -> None:
    stereo = np.stack([tone(440, 0.7, rate=44_100), tone(220, 0.7, rate=44_100)], axis=1)
    path = write_sound(name, stereo, 44_100)
    (seen,), (decoded,) = probe.probe_headers([path]).files, open_collection([path]).files
    for fact in ("path", "format", "sample_rate", "channels", "duration_s", "short", "usable"):
        assert getattr(seen, fact) == getattr(decoded, fact)
    assert np.isnan(seen.peak)


def test_what_a_header_already_rules_out_is_told_as_by_a_scan(write_sound: Write, tmp_path: Path) -> None:
    good = write_sound("good.wav", tone(440, 0.2))
    paths = [good, tmp_path / "gone.wav", write_sound("none.wav", np.zeros(0)), tmp_path / "sounds" / "text.flac"]
    paths[-1].write_text("no sound")
    assert probe.probe_headers(paths).unreadable == open_collection(paths).unreadable
    assert len(probe.probe_headers(paths).unreadable) == 3


def test_where_the_header_does_not_say_how_long_a_sound_is_it_is_counted(write_sound: Write) -> None:
    path = write_sound("a.flac", tone(440, 0.7))
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # 36 bits of STREAMINFO: how many samples there are, 0 where it was not known
    data[22:26] = bytes(4)
    path.write_bytes(data)
    with AudioReader() as reader:
        assert reader.header(path).frames == round(0.7 * RATE)
        assert reader.read(path).samples.shape == (round(0.7 * RATE), 1)  # and the process is ready for the next


def test_copies_are_told_by_all_their_bytes_and_fall_on_one_side_by_some(folder: Path, write_sound: Write) -> None:
    shutil.copy(folder / "tone_03.wav", folder / "tone_03 copy.wav")
    stem = np.zeros(RATE, np.float32)  # two recordings that only sound where nobody looks
    for place in (10_000, 30_000):
        stem[place : place + 1000] = tone(440, 1000 / RATE)
        shutil.move(write_sound("stem.wav", stem, subtype="FLOAT"), folder / f"stem {place}.wav")
    found = probe.probe_headers(find_audio_files(folder))
    copies = [file for file in found.files if file.duplicate_of]
    assert [(file.path.name, file.duplicate_of.name) for file in copies] == [("tone_03.wav", "tone_03 copy.wav")]
    assert [file.reason for file in found.left_out] == [f"duplicate of {folder / 'tone_03 copy.wav'}"]
    stems = [file for file in found.files if file.path.name.startswith("stem")]
    assert len({file.digest for file in stems}) == 1
    for seed in range(4):
        sides = [set(loader.dataset.digests) for loader in create_data_loaders(find_audio_files(folder), config(seed))]
        assert sides[0].isdisjoint(sides[1])


def config(seed: int = 0, **settings: object):
    return small_config(**({"seed": seed, "augmentation_copies": 2, "max_epochs": 2} | settings))


def test_sounds_that_cannot_be_told_apart_are_no_collection(write_sound: Write) -> None:
    paths = [write_sound(f"{number}.wav", np.zeros(RATE)) for number in range(3)]
    with pytest.raises(CollectionError, match="only one usable sound file among 3 given"):
        create_data_loaders(paths, config())


def test_a_collection_is_long_by_size_and_by_duration(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = find_audio_files(folder)
    size, seconds = 2 * sum(path.stat().st_size for path in paths), open_collection(paths).duration_s
    for bytes_allowed, seconds_allowed, long in [
        (size - 1, seconds - 0.01, True),
        (size, seconds - 0.01, False),
        (size - 1, seconds + 0.01, False),
    ]:
        monkeypatch.setattr(probe, "_LONG_BYTES", bytes_allowed)
        monkeypatch.setattr(probe, "_LONG_S", seconds_allowed)
        assert (probe.probe_headers(paths) is not None) == long


def test_a_part_has_enough_sounds_for_enough_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_PART_S", 10.0)
    monkeypatch.setattr(chunks, "_PART_SOUNDS", 3)
    assert chunks._parts([4] * 7) == [0, 0, 0, 1, 1, 1, 2]
    assert chunks._parts([1] * 12) == [0] * 10 + [1, 1]
    assert chunks._parts([60] * 5) == [0, 0, 0, 1, 1]
    assert chunks._parts([]) == []


def test_what_is_left_of_a_long_folder_may_be_short(folder: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    used = find_audio_files(folder)
    monkeypatch.setattr(probe, "_LONG_BYTES", 2 * sum(path.stat().st_size for path in used))
    (folder / "no sound.wav").write_bytes(bytes(1 << 20))
    request = TrainingRequest.for_folder(folder, output_dir=folder.with_name("run"))
    assert request.file_paths == tuple(used)
    assert not any(isinstance(sound.waveform, PrefetchedWaveform) for sound in request.sounds)


# Training


def test_the_first_step_is_taken_while_most_sounds_are_still_to_be_decoded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, at_first_step = Gate(monkeypatch, free=6), list[int]()

    def callback(event: object) -> None:
        if isinstance(event, VQStepMetrics) and not at_first_step:
            at_first_step.append(len(gate.passed))
            gate.open.set()

    result = train_vqvae(config(), find_audio_files(folder), tmp_path / "run", callback=callback)
    assert at_first_step == [6]
    assert len(gate.passed) == 10
    assert len(result["metrics_history"].epoch_metrics) == 2
    assert all(np.isfinite(event.val_loss) for event in result["metrics_history"].epoch_metrics)


@pytest.mark.parametrize("family", ["vqvae", "vae"])
def test_how_fast_sounds_are_decoded_changes_nothing(
    folder: Path, tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    settings = {"family": family, "max_epochs": 2, "batch_size": 4, "chunk_duration_s": 0.5, "augmentation_copies": 2}
    slow, quick = (
        TrainingRequest.for_folder(folder, output_dir=tmp_path / name, **settings) for name in ("slow", "quick")
    )
    assert all(isinstance(sound.waveform, PrefetchedWaveform) for sound in slow.sounds)
    with monkeypatch.context() as patch:
        gate = Gate(patch, free=2)
        gate.when_awaited = gate.open.set
        run_training(slow)
    decoding = prefetch.start_prefetch(quick.sounds, RATE)
    for sound in quick.sounds:
        sound.waveform[:]
    del decoding
    run_training(quick)
    same_run(tmp_path / "slow", tmp_path / "quick", family)


def test_the_first_epoch_goes_through_part_after_part_and_later_ones_mix_all(folder: Path) -> None:
    loader, _ = create_data_loaders(find_audio_files(folder), config())
    first, second = (loader.dataset.order(epoch, 2) for epoch in (0, 1))
    parts = [loader.dataset._part(index) for index in first]
    assert parts == sorted(parts)
    assert len(set(parts)) > 3
    assert sorted(first) == sorted(second)
    later = [loader.dataset._part(index) for index in second]
    assert later != sorted(later)


def test_a_cancellation_does_not_wait_for_a_sound_and_the_run_goes_on_as_if_nothing_had_been(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    whole = TrainingRequest.for_folder(folder, output_dir=tmp_path / "whole", **vars(config()))
    run_training(whole)
    stopped = TrainingRequest.for_folder(folder, output_dir=tmp_path / "stopped", **vars(config()))
    with monkeypatch.context() as patch:
        cancel = threading.Event()
        Gate(patch, free=4).when_awaited = cancel.set  # and it never opens
        run_training(stopped, cancel_event=cancel)
    steps = [event.step for event in RunFolder(tmp_path / "stopped").events() if isinstance(event, VQStepMetrics)]
    assert 0 < len(steps) < len(list(create_data_loaders(whole.file_paths, whole.config)[0]))
    assert steps == list(range(len(steps)))
    run_training(TrainingRequest.resume(tmp_path / "stopped"))
    same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_cancellation_while_validation_sounds_are_awaited_is_one_like_any_other(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = find_audio_files(folder)
    train_vqvae(config(), paths, tmp_path / "whole")
    loader, _ = create_data_loaders(paths, config())
    with monkeypatch.context() as patch:
        cancel = threading.Event()
        Gate(patch, free=len(loader.dataset.digests)).when_awaited = cancel.set
        train_vqvae(config(), paths, tmp_path / "stopped", cancel_event=cancel)
    *done, complete = RunFolder(tmp_path / "stopped").events()
    assert [(type(event), event.step) for event in done] == [(VQStepMetrics, step) for step in range(len(loader))]
    assert isinstance(complete, TrainingCompleteEvent)
    train_vqvae(config(), paths, tmp_path / "stopped", resume_from=tmp_path / "stopped")
    same_run(tmp_path / "whole", tmp_path / "stopped")


# What only decoding tells


def test_what_turns_out_silent_or_damaged_counts_in_nothing_and_is_told_once(
    folder: Path, write_sound: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent = write_sound("silent.wav", np.zeros(RATE))
    damaged = write_sound("damaged.wav", np.full(RATE, np.nan), subtype="FLOAT")
    half = write_sound("half.wav", np.concatenate([tone(300, 0.3), np.zeros(RATE)]), subtype="FLOAT")
    paths = [silent, damaged, half, *find_audio_files(folder)]
    cfg = config(chunk_duration_s=0.2, max_epochs=3)
    with caplog.at_level(logging.WARNING):
        result = train_vqvae(cfg, paths, tmp_path / "run")
    messages = [entry["message"] for entry in RunFolder(tmp_path / "run").log() if entry["event"] == "Warning"]
    assert [message for message in messages if "left out" in message] == [
        message for message in caplog.messages if "left out" in message
    ]
    assert sorted(message for message in messages if "left out" in message) == [
        f"{damaged} left out: the file holds samples that are not numbers (NaN or infinity)",
        f"{silent} left out: silent",
    ]
    for loader in create_data_loaders(paths, cfg):
        dataset = loader.dataset
        for index, chunk in enumerate(dataset.chunks):
            there = dataset.waveform((0, 0, index)).any()
            assert there == (dataset.names[chunk.sound] not in ("silent.wav", "damaged.wav"))
    assert all(np.isfinite(event.train_loss) for event in result["metrics_history"].epoch_metrics)


def test_a_batch_of_nothing_teaches_nothing(folder: Path, write_sound: Write) -> None:
    paths = [write_sound(f"{number}.wav", np.full(RATE + number, 1e-5)) for number in range(3)]
    loaders = create_data_loaders([*paths, *find_audio_files(folder)], config(chunk_duration_s=0.1, batch_size=1))
    empty = [not real_frames(AudioSpectrogram().waveform_to_mel(batch)).any() for batch in loaders[0]]
    assert any(empty)
    assert not all(empty)


def test_a_run_whose_validation_sounds_are_all_silent_says_so(folder: Path, write_sound: Write, tmp_path: Path) -> None:
    silent = [write_sound(f"{number}.wav", np.full(RATE + number, 1e-5)) for number in range(3)]
    paths = [*silent, *find_audio_files(folder)]
    digests = {file.path: file.digest for file in probe.probe_headers(paths).files}
    quiet = {digests[path] for path in silent}
    seed = next(seed for seed in range(100) if split_by_file(list(digests.values()), 0.1, seed)[1] <= quiet)
    with pytest.raises(CollectionError, match="set aside for validation are silent or damaged"):
        train_vqvae(config(seed, val_fraction=0.1), paths, tmp_path / "run")


def test_a_preview_of_a_sound_that_is_not_there_is_a_file_like_any_other(tmp_path: Path) -> None:
    waveforms = torch.zeros(2, 1, RATE)
    waveforms[0] = 0.1
    paths = generate_vqvae_reconstruction_preview(
        ConvVQVAE(codebook_size=16), AudioSpectrogram(), waveforms, tmp_path, 0, "cpu"
    )
    assert [soundfile.info(path).frames for path in paths] == [RATE, RATE, 1, 1]


def test_a_run_stopped_while_all_was_silence_goes_on(folder: Path, write_sound: Write, tmp_path: Path) -> None:
    paths = [write_sound(f"{number}.wav", np.full(RATE // 5 + number, 1e-5)) for number in range(20)]
    paths += find_audio_files(folder)
    every = (config(seed, chunk_duration_s=0.1) for seed in range(100))
    sounds = open_collection(paths, RATE).sounds
    settings = next(one for one in every if not next(iter(create_data_loaders(paths, one, sounds=sounds)[0])).any())
    stop = StopAt(VQStepMetrics, epoch=0, step=0)
    train_vqvae(settings, paths, tmp_path / "run", callback=stop, cancel_event=stop.cancel)
    train_vqvae(settings, paths, tmp_path / "whole")
    train_vqvae(settings, paths, tmp_path / "run", resume_from=tmp_path / "run")
    same_run(tmp_path / "whole", tmp_path / "run")


def test_a_disk_that_is_taken_away_ends_the_run_and_does_not_pass_for_silence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = find_audio_files(folder)
    with monkeypatch.context() as patch:
        gate = Gate(patch, free=0)
        loaders = create_data_loaders(paths, config())
        folder.rename(tmp_path / "gone")
        gate.open.set()
        with pytest.raises(StorageError, match="can no longer be read; bring it back, then continue the run"):
            loaders[1].dataset.waveforms[-1][:]


def test_a_full_disk_ends_the_run_with_its_reason(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []

    def full(store: WaveformStore, waveform: np.ndarray) -> np.ndarray:
        kept.append(waveform)
        if len(kept) > 7:
            raise StorageError(f"No space left on device ({errno.ENOSPC})")
        return waveform

    monkeypatch.setattr(WaveformStore, "keep", full)
    with pytest.raises(StorageError, match="No space left"):
        train_vqvae(config(), find_audio_files(folder), tmp_path / "run")
    assert any(isinstance(event, VQStepMetrics) for event in RunFolder(tmp_path / "run").events())


def test_nothing_goes_on_being_decoded_for_a_run_that_is_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, free=2)
    loaders = list(create_data_loaders(find_audio_files(folder), config()))
    loaders[0].dataset.waveforms[1][:]
    (work,) = (thread for thread in threading.enumerate() if thread.name == "distill-ahead")
    del loaders[0]
    gc.collect()
    assert not gate.stop.is_set()  # the validation half is still in use
    gc.disable()  # what decodes must not wait for that
    del loaders
    assert gate.stop.is_set()
    gc.enable()
    work.join()
    assert len(gate.passed) == 2


def test_worker_processes_begin_when_all_is_there(folder: Path) -> None:
    paths = find_audio_files(folder)
    here, apart = (create_data_loaders(paths, config(num_workers=workers))[0] for workers in (0, 1))
    assert all(torch.equal(one, other) for one, other in zip(here, apart, strict=True))


def test_the_rate_of_a_long_collection_is_that_of_its_headers(folder: Path, tmp_path: Path) -> None:
    assert TrainingRequest.for_folder(folder).spectrogram_config.sample_rate == RATE
    other = write_collection(tmp_path / "other", 3, rate=44_100)
    request = TrainingRequest.for_folder(other)
    assert request.spectrogram_config.sample_rate == 44_100
    for sound in request.sounds:
        assert isinstance(sound.waveform, PrefetchedWaveform)
        assert len(sound.waveform) == soundfile.info(sound.path).frames
    assert TrainingRequest.for_folder(other, sample_rate=RATE).spectrogram_config.sample_rate == RATE


def test_part_of_what_is_awaited_is_part_of_what_was_decoded(folder: Path) -> None:
    decoded = {file.path: file for file in open_collection(find_audio_files(folder)).files}
    sounds = prefetch.prefetched_sounds(probe.probe_headers(list(decoded)), 32_000)
    decoding = prefetch.start_prefetch(sounds, 32_000)
    with AudioReader() as reader:
        for sound in sounds:
            whole = reader.read(sound.path).mono(32_000)
            assert len(sound.waveform) == pytest.approx(len(whole), abs=1)
            np.testing.assert_array_equal(sound.waveform[100:900], whole[100:900])
            np.testing.assert_array_equal(sound.waveform[len(whole) - 10 :], whole[-10:])
    del decoding


def test_no_more_is_decoded_than_is_about_to_be_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "_AHEAD_S", 0.5)
    waits, wait_for = threading.Event(), prefetch._Window.wait_for

    def waited_for(window: prefetch._Window, begin: int, stop: threading.Event) -> None:
        if begin > window._frames_ahead:
            waits.set()
        wait_for(window, begin, stop)

    monkeypatch.setattr(prefetch._Window, "wait_for", waited_for)
    dataset = create_data_loaders(find_audio_files(folder), config())[0].dataset
    waveforms = dataset.waveforms
    waveforms[0][:]
    assert waits.wait(PATIENCE_S)
    ahead_of_it = [sum(map(len, waveforms[:number])) / RATE for number, one in enumerate(waveforms) if one.decoded]
    assert 0.5 < ahead_of_it[-1] < 1.0
    waveforms[-1][:]
    assert all(waveform.decoded for waveform in waveforms)
