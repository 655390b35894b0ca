"""Chunks and their split depend on what the files contain and on the seed, and on nothing else."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distill.audio.reader import AudioReader
from distill.audio.spectrogram import PADDING, AudioSpectrogram, SpectrogramConfig, mark_end
from distill.data import chunks
from distill.data.batches import Loader, initial_batches, split_by_file
from distill.data.chunks import NO_CHUNK, SPEED_EPOCHS, SPEEDS, ChunkDataset, MelDataset
from distill.data.collection import Sound, find_audio_files
from distill.errors import CollectionError
from distill.training.config import EngineConfig
from distill.training.dataset import create_data_loaders
from support.sounds import RATE, tone, write_collection

SLOW_RATE = 8_000  # fewer samples, same behaviour
CHUNK = 800  # samples in 0.1 s at that rate


def config(**settings: object) -> EngineConfig:
    return EngineConfig(**({"batch_size": 3, "chunk_duration_s": 0.1, "val_fraction": 0.5} | settings))


def loaders(folder: Path, **settings: object) -> tuple[Loader, Loader]:
    return create_data_loaders(find_audio_files(folder), config(**settings), SLOW_RATE)


def epoch(loader: Loader, number: int = 0) -> list[Tensor]:
    loader.batch_sampler.set_epoch(number)
    return list(loader)


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other))


def sounds(lengths: list[int]) -> list[Sound]:
    rng = np.random.default_rng(0)
    waves = [rng.uniform(0.1, 0.9, length).astype(np.float32) for length in lengths]
    return [Sound(Path(f"{n}.wav"), f"{n:064x}", wave) for n, wave in enumerate(waves)]


def digests(pair: tuple[Loader, Loader]) -> tuple[set[str], set[str]]:
    return set(pair[0].dataset.digests), set(pair[1].dataset.digests)


# The split


@given(st.sets(st.text("0123456789abcdef", min_size=8, max_size=8), min_size=2), st.floats(0.01, 0.99), st.integers(0))
def test_every_file_is_on_one_side_and_no_side_is_empty(files: set[str], share: float, seed: int) -> None:
    train, validation = split_by_file(sorted(files), share, seed)
    assert train | validation == files
    assert train & validation == set()
    assert train
    assert validation


@given(st.integers(2, 60), st.sampled_from([0.1, 0.2, 0.3, 0.5]))
def test_the_share_held_out_is_the_one_asked_for(count: int, share: float) -> None:
    _, validation = split_by_file([str(n) for n in range(count)], share, 0)
    assert abs(len(validation) - share * count) <= 1


@given(st.permutations([str(n) for n in range(12)]))
def test_the_split_does_not_depend_on_the_order_of_the_files(shuffled: list[str]) -> None:
    assert split_by_file(shuffled, 0.3, 5) == split_by_file(sorted(shuffled), 0.3, 5)


def test_the_split_depends_on_the_seed() -> None:
    files = [str(n) for n in range(12)]
    assert len({frozenset(split_by_file(files, 0.5, seed)[1]) for seed in range(10)}) > 5


def test_no_chunk_of_a_file_is_on_the_side_the_file_is_not_on(collection: Path) -> None:
    train, validation = loaders(collection)
    assert len(train.dataset.digests) == len(validation.dataset.digests) == 3
    assert digests((train, validation))[0] & digests((train, validation))[1] == set()


def test_the_order_of_the_paths_changes_nothing(collection: Path) -> None:
    paths = find_audio_files(collection)
    forwards = create_data_loaders(paths, config(), SLOW_RATE)
    backwards = create_data_loaders([str(path) for path in reversed(paths)], config(), SLOW_RATE)
    assert all(same(epoch(a), epoch(b)) for a, b in zip(forwards, backwards))


def test_the_same_files_elsewhere_under_other_names_give_the_same_batches(collection: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "deeper"
    moved.mkdir(parents=True)
    for number, path in enumerate(find_audio_files(collection)):
        shutil.copy(path, moved / f"{(7 * number) % 6}_renamed.wav")

    here, there = loaders(collection), loaders(moved)

    for number in range(2):
        assert all(same(epoch(a, number), epoch(b, number)) for a, b in zip(here, there))


def test_another_seed_gives_other_batches(collection: Path) -> None:
    assert not same(epoch(loaders(collection, seed=0)[0]), epoch(loaders(collection, seed=1)[0]))


@pytest.mark.parametrize("seed", range(4))
def test_a_file_and_its_copies_are_never_on_both_sides(collection: Path, seed: int) -> None:
    for path in find_audio_files(collection):
        shutil.copy(path, path.with_name(f"copy_of_{path.name}"))
    train, validation = digests(loaders(collection, seed=seed))
    assert (len(train), len(validation)) == (3, 3)
    assert train & validation == set()


# The chunks


@given(st.lists(st.integers(1, 3 * CHUNK), min_size=1, max_size=5))
def test_unvaried_chunks_hold_every_sample_once_and_zeros_after_the_end(lengths: list[int]) -> None:
    given_sounds = sounds(lengths)
    dataset = ChunkDataset(given_sounds, CHUNK, SLOW_RATE, seed=0, augment=False)
    cut = [dataset[0, index, index] for index in range(len(dataset))]

    assert len(cut) == sum(-(-length // CHUNK) for length in lengths)
    for number, sound in enumerate(given_sounds):
        pieces = [chunk[0] for chunk, place in zip(cut, dataset.chunks) if place.sound == number]
        whole = torch.cat(pieces).numpy()
        np.testing.assert_array_equal(whole[: len(sound.waveform)], sound.waveform)
        assert (whole[len(sound.waveform) :] == 0).all()


def test_validation_batches_are_the_held_out_files_from_end_to_end(collection: Path) -> None:
    _, validation = loaders(collection)
    shown = torch.cat(epoch(validation)).flatten().numpy()
    padded = [np.pad(wave[:], (0, -len(wave) % CHUNK)) for wave in validation.dataset.waveforms]
    np.testing.assert_allclose(shown, np.concatenate(padded), atol=1e-8)


def test_a_chunk_cut_inside_a_pause_ends_in_sound_that_nobody_hears(tmp_path: Path) -> None:
    wave = np.zeros(2 * CHUNK, np.float32)
    wave[:10] = wave[-10:] = 0.5
    dataset = ChunkDataset([Sound(tmp_path, "a", wave)], CHUNK, SLOW_RATE, seed=0, augment=False)
    first = dataset[0, 0, 0][0]
    assert 0 < float(first[-1]) < 1e-8
    np.testing.assert_array_equal(first[:-1].numpy(), wave[: CHUNK - 1])


@given(st.lists(st.integers(1, 3 * CHUNK), min_size=1, max_size=3), st.integers(0, 50), st.integers(0, 5))
def test_varied_chunks_keep_length_and_range_and_are_never_silent(lengths: list[int], number: int, seed: int) -> None:
    dataset = ChunkDataset(sounds(lengths), CHUNK, SLOW_RATE, seed, augment=True)
    for place in range(len(dataset)):
        chunk = dataset[number, place, place]
        assert chunk.shape == (1, CHUNK)
        assert chunk.dtype == torch.float32
        assert 0 < float(chunk.abs().max()) <= 1


def test_half_of_the_varied_chunks_are_played_faster_or_slower() -> None:
    wave = np.sin(2 * np.pi * 1000 / SLOW_RATE * np.arange(20 * CHUNK)).astype(np.float32)
    tones = [Sound(Path(f"{name}.wav"), name, wave) for name in "abcdefghij"]
    dataset = ChunkDataset(tones, CHUNK, SLOW_RATE, seed=0, augment=True)
    shown = torch.cat([dataset[number, 0, 7 * number % len(dataset)] for number in range(400)])
    pitch = torch.fft.rfft(shown * torch.hann_window(CHUNK)).abs().argmax(dim=-1) * SLOW_RATE / CHUNK
    unchanged = pitch == 1000
    assert 0.43 < float(unchanged.float().mean()) < 0.6  # some of the others hardly change
    assert 620 <= float(pitch.min()) < 750
    assert 1350 < float(pitch.max()) <= 1600


def test_a_sound_keeps_its_varied_speed_for_some_epochs_and_comes_back_to_it_after_all_others() -> None:
    wave = np.sin(2 * np.pi * 1000 / SLOW_RATE * np.arange(20 * CHUNK)).astype(np.float32)
    dataset = ChunkDataset([Sound(Path("a.wav"), "a", wave)], CHUNK, SLOW_RATE, seed=0, augment=True)
    turn = SPEED_EPOCHS * SPEEDS
    speeds = [{dataset._cut((number, place, 0)).speed for place in range(20)} - {1.0} for number in range(turn + 8)]
    assert all(len(of_an_epoch) == 1 for of_an_epoch in speeds)
    assert all(len(set.union(*speeds[first : first + SPEED_EPOCHS])) == 1 for first in range(0, turn, SPEED_EPOCHS))
    assert len(set.union(*speeds[:turn])) == SPEEDS
    assert speeds[turn:] == speeds[:8]


def test_a_first_look_goes_on_through_varied_epochs_and_once_through_what_does_not_vary(tmp_path: Path) -> None:
    write_collection(tmp_path, 4)
    varied, _ = loaders(tmp_path)
    seen = list(initial_batches(varied, 3))
    assert same(seen[: len(varied)], epoch(varied, 3))
    assert same(seen[len(varied) : 2 * len(varied)], epoch(varied, 3 + SPEED_EPOCHS))  # when every speed is another
    assert len(seen) > 2 * len(varied)
    plain, _ = loaders(tmp_path, augment=False)
    assert same(list(initial_batches(plain, 3)), epoch(plain, 3))


@given(st.lists(st.integers(1, 3 * CHUNK), min_size=1, max_size=5), st.integers(1, 8))
def test_examples_show_every_sound_before_any_sound_twice(lengths: list[int], count: int) -> None:
    dataset = ChunkDataset(sounds(lengths), CHUNK, SLOW_RATE, seed=0, augment=False)
    shown = [dataset.chunks[index].sound for index in dataset.examples(count)]
    assert len(shown) == min(count, len(dataset))
    assert len(set(shown)) == min(count, len(lengths))
    assert shown[: len(lengths)] == list(range(len(lengths)))[:count]


def test_a_chunk_is_called_by_its_sound_and_from_where_on() -> None:
    dataset = ChunkDataset(sounds([3 * CHUNK, CHUNK]), CHUNK, SLOW_RATE, seed=0, augment=False)
    assert [dataset.title(index) for index in dataset.examples(9)] == [
        "0.wav", "1.wav", "0.wav, from 0.1 s", "0.wav, from 0.2 s",
    ]  # fmt: skip


def test_a_folder_of_sounds_shorter_than_a_chunk_is_padded_and_not_dropped(tmp_path: Path) -> None:
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", tone(200 * (number + 1), 0.03), RATE)
    for loader in loaders(tmp_path):
        batches = epoch(loader)
        assert [batch.shape for batch in batches] == [(2, 1, CHUNK)]
        assert (torch.cat(batches).abs().amax(dim=-1) > 0.05).all()


def test_batches_are_waveforms_in_range_and_the_last_one_is_not_dropped(collection: Path) -> None:
    train, validation = loaders(collection, batch_size=4)
    for loader in (train, validation):
        batches = epoch(loader)
        assert sum(len(batch) for batch in batches) == len(loader.dataset)
        assert all(batch.shape[1:] == (1, CHUNK) and batch.abs().max() <= 1 for batch in batches)


def test_an_epoch_shows_each_training_chunk_as_often_as_there_are_copies(collection: Path) -> None:
    train, _ = loaders(collection, augmentation_copies=3)
    shown = sorted(index for batch in train.batch_sampler for _, _, index in batch)
    assert shown == sorted(3 * list(range(len(train.dataset))))
    assert len(torch.cat(epoch(train)).unique(dim=0)) == len(shown)


def test_without_augmentation_a_chunk_is_the_same_every_time_it_is_shown(collection: Path) -> None:
    train, _ = loaders(collection, augmentation_copies=3, augment=False)
    shown = torch.cat([*epoch(train, 0), *epoch(train, 1)])
    assert len(shown) == 6 * len(train.dataset)
    assert len(shown.unique(dim=0)) == len(train.dataset)


def test_a_varied_sound_begins_anywhere_within_its_first_fifth_of_a_second() -> None:
    sound = Sound(Path("a.wav"), "a", np.ones(8 * SLOW_RATE, np.float32))
    dataset = ChunkDataset([sound], SLOW_RATE, SLOW_RATE, 0, augment=True)
    first = [int(dataset[number, 0, 0].nonzero()[0, 1]) for number in range(200)]
    leads = [lead for lead in first if lead > 0]
    assert 0.3 < len(leads) / len(first) < 0.7  # the others begin within the sound
    assert max(leads) <= SLOW_RATE / 5
    in_columns = np.histogram(leads, bins=5, range=(0, SLOW_RATE / 5))[0]
    assert in_columns.min() > 0.4 * in_columns.mean()
    assert all(int(dataset[number, 1, 1].nonzero()[0, 1]) == 0 for number in range(50))  # a chunk from inside does not


# As mels

MEL = SpectrogramConfig(sample_rate=SLOW_RATE, n_fft=256, hop_length=64, n_mels=32)
LONGER = 5 * CHUNK


def mel_dataset(lengths: list[int], *, augment: bool, seed: int = 0) -> MelDataset:
    return MelDataset(sounds(lengths), LONGER, MEL, seed, augment)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 3 * LONGER), min_size=1, max_size=3))
def test_unvaried_mels_are_those_of_the_whole_sounds_cut_in_pieces(lengths: list[int]) -> None:
    dataset = mel_dataset(lengths, augment=False)
    spectrogram = AudioSpectrogram(MEL)
    for index, chunk in enumerate(dataset.chunks):
        mel = dataset[0, index, index]
        whole = spectrogram.waveform_to_mel(mark_end(torch.from_numpy(dataset.waveforms[chunk.sound]))[None, None])[0]
        start = min(round(chunk.start / MEL.hop_length), whole.shape[-1] - 1)
        piece = whole[..., start : start + mel.shape[-1]]
        assert mel.shape == (1, MEL.n_mels, spectrogram.frames(LONGER))
        torch.testing.assert_close(mel[..., : piece.shape[-1]], piece, atol=1e-5, rtol=0)
        assert (mel[..., piece.shape[-1] :] == PADDING).all()


@settings(max_examples=30)
@given(st.integers(0, 30), st.integers(0, 3))
def test_a_varied_mel_is_about_that_of_the_varied_waveform(number: int, seed: int) -> None:
    wave = np.random.default_rng(seed).standard_normal(4 * LONGER).cumsum()
    wave = np.cos(wave / 20).astype(np.float32) * np.hanning(len(wave)).astype(np.float32)
    given_sounds = [Sound(Path("a.wav"), "a", wave)]
    as_mels = MelDataset(given_sounds, LONGER, MEL, seed, augment=True)
    as_waveforms = ChunkDataset(given_sounds, LONGER, SLOW_RATE, seed, augment=True)
    for place in range(len(as_mels)):
        key = number, place, place
        mel = AudioSpectrogram(MEL).waveform_to_mel(as_waveforms[key][None])[0]
        inner = slice(4, -4)  # cut out of the whole, a mel has neighbours where a waveform has none
        apart = (as_mels[key] - mel)[..., inner].abs().mean()
        assert apart < 0.06  # half a hop apart at most, and a gain that clips nowhere in the whole sound


@settings(max_examples=30)
@given(st.lists(st.integers(1, 2 * LONGER), min_size=1, max_size=3), st.integers(0, 9))
def test_a_mel_is_the_same_whatever_was_asked_for_before(lengths: list[int], number: int) -> None:
    used, fresh = mel_dataset(lengths, augment=True), mel_dataset(lengths, augment=True)
    for earlier in range(12):
        used[earlier, 0, 0]
    for place in range(len(used)):
        assert torch.equal(used[number, place, place], fresh[number, place, place])


def test_the_mel_of_a_sound_is_computed_once_for_each_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    whole = AudioSpectrogram.whole_mel
    monkeypatch.setattr(AudioSpectrogram, "whole_mel", lambda self, x: (computed.append(len(x)), whole(self, x))[1])
    dataset = mel_dataset([LONGER, 2 * LONGER], augment=True)
    for number in range(2 * SPEED_EPOCHS):
        for place in range(30):
            dataset[number, place, place % len(dataset)]
    lead = 3 * MEL.hop_length  # of silence before a sound
    assert computed.count(lead + LONGER) == computed.count(lead + 2 * LONGER) == 1  # as they are
    assert 2 * 2 <= len(computed) - 2 <= 2 * 3  # two or three spells of one speed for each sound


def test_a_process_without_a_part_of_a_batch_gets_a_mel_in_which_nothing_counts() -> None:
    assert (mel_dataset([LONGER], augment=True)[NO_CHUNK] == PADDING).all()


def test_loaders_give_mels_where_those_fit_in_memory_and_waveforms_where_not(
    collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = find_audio_files(collection)
    for loader in create_data_loaders(paths, config(), SLOW_RATE, spectrogram=MEL):
        assert all(batch.shape[1:] == (1, MEL.n_mels, 1 + CHUNK // MEL.hop_length) for batch in epoch(loader))
    for limit, too_little in (("_MEL_BYTES", 1000), ("_MEL_SOUND_S", 0.1)):
        with monkeypatch.context() as patch:
            patch.setattr(chunks, limit, too_little)
            for loader in create_data_loaders(paths, config(), SLOW_RATE, spectrogram=MEL):
                assert all(batch.shape[1:] == (1, CHUNK) for batch in epoch(loader))


# The epochs


def test_epochs_differ_and_each_is_the_same_whenever_it_comes(collection: Path) -> None:
    train, validation = loaders(collection)
    first, second = epoch(train, 0), epoch(train, 1)
    assert not same(first, second)
    assert same(first, epoch(train, 0))
    assert same(second, epoch(loaders(collection)[0], 1))
    assert same(epoch(validation, 0), epoch(validation, 1))


def test_worker_processes_change_nothing(collection: Path) -> None:
    alone, helped = loaders(collection), loaders(collection, num_workers=2)
    state = torch.get_rng_state()
    for number in (0, 3):
        assert same(epoch(alone[0], number), epoch(helped[0], number))
    assert same(epoch(alone[1]), epoch(helped[1]))
    assert torch.equal(torch.get_rng_state(), state)


def test_going_through_the_batches_does_not_move_the_global_random_state(collection: Path) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for loader in loaders(collection):
        epoch(loader)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_each_file_is_decoded_once_however_many_epochs_follow(
    collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []
    read = AudioReader.read
    monkeypatch.setattr(AudioReader, "read", lambda reader, path: (decoded.append(path), read(reader, path))[1])
    for loader in loaders(collection):
        for number in range(3):
            epoch(loader, number)
    assert sorted(decoded) == find_audio_files(collection)


# What cannot be trained on


def test_two_files_are_enough(tmp_path: Path) -> None:
    train, validation = loaders(write_collection(tmp_path / "two", 2))
    assert len(train.dataset) > 0
    assert len(validation.dataset) > 0


@pytest.mark.parametrize("paths", [[], ["gone.wav", "gone_too.wav"]])
def test_no_readable_file_is_said_so(paths: list[str]) -> None:
    with pytest.raises(CollectionError, match=f"no usable sound file among {len(paths)} given; .* at least two"):
        create_data_loaders(paths, config())


def test_a_single_file_cannot_be_split_and_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"only one usable sound file among 1 given; .* at least two different"):
        loaders(write_collection(tmp_path / "one", 1))


def test_copies_of_one_file_are_one_file(tmp_path: Path) -> None:
    folder = write_collection(tmp_path / "copies", 1)
    shutil.copy(folder / "tone_00.wav", folder / "copy.wav")
    with pytest.raises(CollectionError, match="only one usable sound file among 2 given"):
        loaders(folder)


def test_files_without_any_sound_are_refused(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(1000 * number), RATE)
    with pytest.raises(CollectionError, match="no usable sound file among 3 given"):
        loaders(tmp_path)


def test_what_is_left_out_is_named_in_the_log(collection: Path, caplog: pytest.LogCaptureFixture) -> None:
    soundfile.write(collection / "nothing.wav", np.zeros(4800), RATE)
    (collection / "text.wav").write_text("no sound")
    with caplog.at_level(logging.WARNING, "distill"):
        loaders(collection)
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        f"{collection / 'nothing.wav'} left out: silent",
        f"{collection / 'text.wav'} left out: not readable as audio",
    ]
