"""Kill it, fill the disk, take the disk away: what distill said was saved is there, and the run can go on."""

import errno
import functools
import io
import itertools
import os
import random
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from distill.audio.io import write_wav
from distill.audio.spectrogram import SpectrogramConfig
from distill.data.collection import find_audio_files
from distill.errors import CheckpointError, LibraryError, StorageError
from distill.library.catalog import ModelEntry, ModelLibrary
from distill.library.header import ModelMetadata
from distill.models.format import read_content
from distill.models.persistence import add_to_library, delete_model, load_any, rename_model, save_model_v2
from distill.models.vqvae import ConvVQVAE
from distill.storage import atomic_write, storage_errors
from distill.training.checkpoint import find_checkpoint, list_checkpoints, read_checkpoint, write_checkpoint
from distill.training.loop import train_vqvae
from distill.training.metrics import VQEpochMetrics, VQStepMetrics
from distill.training.run_folder import RunFolder
from support.checkpoints import checkpoint, same
from support.commands import run
from support.faults import Disk, FaultyOS, failing, kill, striking
from support.models import write_model
from support.processes import in_child
from support.runs import make_runs_quick, run_info, same_run, small_config
from support.sounds import write_collection
from support.stops import StopAt


@pytest.fixture(scope="module", autouse=True)
def small_and_quick() -> Iterator[None]:
    """Nets of a tenth of the width, and a picture that costs no time: the files are what matters here."""
    with pytest.MonkeyPatch.context() as patch:
        make_runs_quick(patch)
        patch.setattr("distill.training.loop.draw_vqvae_run", lambda path, *_: atomic_write(path, b"picture" * 5000))
        yield


# One save of each kind


@dataclass(frozen=True)
class Kind:
    """A kind of file: how a folder gets from state `n - 1` to `n`, how it is read, and what is read then."""

    write: Callable[[Path, int], object]
    read: Callable[[Path], Any]
    state: Callable[[int], Any]
    mend: Callable[[Path], object] = lambda folder: None  # what is always done before the first write
    acts: int = 1  # how many writes in a row are each of another sort


SAVED = checkpoint()


def write_nth_checkpoint(folder: Path, n: int) -> None:
    write_checkpoint(folder / "checkpoints", replace(SAVED, epoch=n, val_loss=1 / (n % 7 + 1)), 2)


def newest_epoch(folder: Path) -> int:
    paths = list_checkpoints(folder / "checkpoints")
    if not paths:
        return 0
    assert [read_checkpoint(path, "vqvae").epoch for path in paths][-1] == find_checkpoint(folder, "vqvae").epoch
    return find_checkpoint(folder, "vqvae").epoch


ACTS = 3


def models_after(n: int) -> dict[str, str]:
    """Every third write adds a model, the one after renames it, the third deletes the one before."""
    models: dict[str, str] = {}
    for number, act in (divmod(k, ACTS) for k in range(n)):
        if act == 2:
            models.pop(f"id-{number - 1}", None)
        else:
            models[f"id-{number}"] = f"{'old' if act == 0 else 'new'} {number}"
    return models


def listed(folder: Path) -> dict[str, str]:
    entries = ModelLibrary(folder).entries()
    assert ModelLibrary(folder).rebuild() == sorted(entries, key=lambda entry: entry.file)
    assert len({entry.model_id for entry in entries}) == len(entries)
    assert not list(folder.glob("library.broken*"))
    assert not list(folder.glob("*.tmp"))
    return {entry.model_id: entry.name for entry in entries}


def read_models(folder: Path) -> dict[str, str]:
    names = listed(folder)
    assert {loaded_id(path, path.stat().st_mtime_ns) for path in folder.glob("*.distill")} == set(names)
    return names


@functools.cache  # loading takes its time, and most models are still what they were
def loaded_id(path: Path, modified_ns: int) -> str:
    return load_any(path).metadata.model_id


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is in a model file."""
    model = ConvVQVAE(codebook_dim=8, codebook_size=8, num_quantizers=2)
    folder = tmp_path_factory.mktemp("content")
    path = save_model_v2(model, SpectrogramConfig(), {}, {}, ModelMetadata(name="model"), folder)
    return read_content(path)


def model_writer(content: dict[str, Any]) -> Callable[[Path, int], object]:
    def write(folder: Path, n: int) -> None:
        number, act = divmod(n - 1, ACTS)
        library = ModelLibrary(folder)
        if act == 0:
            add_to_library(content, ModelMetadata(name=f"old {number}", model_id=f"id-{number}"), folder)
        elif act == 1:
            rename_model(library, library.find(f"id-{number}"), f"new {number}")
        elif number:
            delete_model(f"id-{number - 1}", folder)

    return write


def write_index(folder: Path, n: int) -> None:
    """What `model_writer` does, with the files of next to no weights that the library alone knows how to read."""
    number, act = divmod(n - 1, ACTS)
    library = ModelLibrary(folder)

    def data() -> bytes:
        name = f"{'old' if act == 0 else 'new'} {number}"
        return write_model(folder.parent / "next.distill", name, model_id=f"id-{number}").read_bytes()

    if act == 0:
        with library.new_file(f"model {number}") as path:
            atomic_write(path, data())
            library.add(ModelEntry.of_file(path))
    elif act == 1:
        old = library.path(library.find(f"id-{number}"))
        with library.new_file(f"other {number}") as path, storage_errors(path):
            atomic_write(old, data())
            old.rename(path)
            library.add(ModelEntry.of_file(path))
    elif number:
        library.remove(f"id-{number - 1}")


def event(n: int) -> VQStepMetrics:
    return VQStepMetrics(n, 0, 1, *[0.5] * 6)


def write_event(folder: Path, n: int) -> None:
    RunFolder(folder).append(event(n))
    RunFolder(folder).sync_events()


def write_info(folder: Path, n: int) -> None:
    RunFolder(folder).write_info(run_info(train_files=n, model_name="x" * 10_000))


def read_info(folder: Path) -> int:
    return RunFolder(folder).read_info().train_files if RunFolder(folder).info_path.exists() else 0


def write_sound(folder: Path, n: int) -> None:
    write_wav(folder / "preview.wav", np.full(20_000, n / 10_000), 48_000)


def read_sound(folder: Path) -> int:
    if not (folder / "preview.wav").exists():
        return 0
    samples, _ = soundfile.read(folder / "preview.wav")
    assert len(samples) == 20_000
    return round(samples[0] * 10_000)


KINDS = {
    "checkpoints": Kind(write_nth_checkpoint, newest_epoch, int),
    "models": Kind(write_index, read_models, models_after, acts=ACTS),  # `write` is that of `content`
    "index": Kind(write_index, listed, models_after, acts=ACTS),
    "events": Kind(
        write_event,
        lambda folder: RunFolder(folder).events(),
        lambda n: [event(k) for k in range(1, n + 1)],
        lambda folder: RunFolder(folder).rewind(10**9, 0),
    ),
    "run.json": Kind(write_info, read_info, int),
    "previews": Kind(write_sound, read_sound, int),
}


@pytest.fixture
def kind(request: pytest.FixtureRequest, content: dict[str, Any]) -> Kind:
    kind = KINDS[request.param]
    return replace(kind, write=model_writer(content)) if request.param == "models" else kind


each_kind = pytest.mark.parametrize("kind", KINDS, indirect=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


# Killed, at a system call: what is on disk changes nowhere else

NEVER = -1


@each_kind
@pytest.mark.parametrize("kills", [5, pytest.param(170, marks=pytest.mark.soak)])
def test_killed_at_any_moment_what_was_said_to_be_saved_is_there(
    kind: Kind, kills: int, folder: Path, counted: Callable[[str, int], None]
) -> None:
    moments, done = random.Random(kills), 1
    with striking(NEVER, kill) as calls:
        kind.write(folder, 1)

    def work(say: Callable[[object], None]) -> None:
        with striking(at, kill):
            kind.mend(folder)
            for n in itertools.count(done + 1):
                kind.write(folder, n)
                say(n)

    for _ in range(kills):
        at = moments.randrange(5 * calls.count)
        said = in_child(work)
        saved = int(said[-1]) if said else done
        reached = kind.read(folder)
        assert reached in (kind.state(saved), kind.state(saved + 1))
        done = saved + (reached == kind.state(saved + 1))
    assert done > kills // 5  # they were killed at work, and not all before it
    counted("kills of what writes files", kills)


# An error at every system call


@each_kind
@pytest.mark.parametrize(
    "number", [errno.ENOSPC, pytest.param(errno.EIO, marks=pytest.mark.soak)], ids=["ENOSPC", "EIO"]
)
def test_whichever_system_call_fails_the_state_is_the_old_or_the_new_one_and_a_second_try_works(
    kind: Kind, number: int, folder: Path
) -> None:
    n = at = 0
    struck = [""] * kind.acts
    while at == 0 or any(struck):
        for act in range(kind.acts):
            with failing(at, number) as faulty:
                try:
                    kind.write(folder, n + 1)
                    possible = [n + 1]
                except (StorageError, LibraryError):
                    possible = [n, n + 1]
            struck[act] = faulty.struck
            reached = kind.read(folder)
            assert reached in map(kind.state, possible), (at, faulty.struck)
            if reached != kind.state(n + 1):
                kind.write(folder, n + 1)
                assert kind.read(folder) == kind.state(n + 1)
            n += 1
        at += 1
    assert at > 5


def test_a_model_that_could_not_be_added_is_added_once_by_a_second_try(content: dict[str, Any], folder: Path) -> None:
    failed, at = True, 0
    while failed:
        models, metadata, done = folder / str(at), ModelMetadata(name="kick"), False
        with failing(at, errno.ENOSPC) as faulty, suppress(StorageError):
            add_to_library(content, metadata, models)
            done = True
        if not done:
            add_to_library(content, metadata, models)
        failed = bool(faulty.struck)
        assert [(entry.name, entry.file) for entry in ModelLibrary(models).entries()] == [("kick", "kick.distill")]
        at += 1


# Whole runs

CONFIG = small_config(augmentation_copies=2, max_epochs=3, checkpoint_interval=1, max_checkpoints=2)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return find_audio_files(write_collection(tmp_path_factory.mktemp("sounds")))


@dataclass(frozen=True)
class Whole:
    """A run that went through: its folder, and how much it wrote."""

    folder: Path
    written: int


@pytest.fixture(scope="module")
def whole(sounds: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    base = tmp_path_factory.mktemp("whole")
    with on(Disk()) as disk:
        train_vqvae(CONFIG, sounds, base / "run", models_dir=base / "models")
    return Whole(base / "run", disk.written)


@contextmanager
def on(disk: Disk) -> Iterator[Disk]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.storage.os", disk)
        yield disk


def go_on(sounds: list[Path], folder: Path) -> None:
    """What is done after a run was broken off: resume it, or start it again where it had not begun."""
    begun = list_checkpoints(folder / "checkpoints")
    train_vqvae(CONFIG, sounds, folder, models_dir=folder.parent / "models", resume_from=folder if begun else None)


def only_model(models: Path) -> torch.nn.Module:
    (entry,) = ModelLibrary(models).entries()
    return load_any(models / entry.file).model


def assert_ended_alike(folder: Path, whole: Whole) -> None:
    """The run and its one model are those of the run that went through, and nothing half-written lies about."""
    same_run(folder, whole.folder)
    mine, theirs = (only_model(base.parent / "models").state_dict() for base in (folder, whole.folder))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert not list(folder.parent.rglob("*.tmp"))
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.folder.iterdir()}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 11))])
def test_a_run_killed_at_any_moment_ends_like_the_uninterrupted_one(
    seed: int, sounds: list[Path], whole: Whole, tmp_path: Path
) -> None:
    with striking(NEVER, kill) as calls:
        train_vqvae(CONFIG, sounds, tmp_path / "counted")

    def work(say: Callable[[object], None]) -> None:
        with striking(at, kill):
            go_on(sounds, tmp_path / "run")

    moments = random.Random(seed)
    for _ in range(2):
        at = moments.randrange(calls.count)
        in_child(work)
    go_on(sounds, tmp_path / "run")
    assert_ended_alike(tmp_path / "run", whole)


def assert_nothing_lost(folder: Path, disk: Disk) -> None:
    """Every file is what it was when it was last complete; a log is that, or longer by whole lines."""
    logs = {"events.jsonl": RunFolder.log, "usage.jsonl": RunFolder.usage}
    for path in (path for path in folder.rglob("*") if path.is_file() and path.name not in LOCKS):
        before, now = disk.placed.get(path, b"") if path.name in logs else disk.placed[path], path.read_bytes()
        if path.name in logs:
            assert now[: len(before)] == before
            assert now.count(b"\n") == len(logs[path.name](RunFolder(path.parent)))
            assert now.endswith(b"\n") or not now
        else:
            assert now == before
    placed = [path for path in disk.placed if path.suffix == ".pt"]
    kept = list_checkpoints(folder / "run" / "checkpoints")
    assert kept[-1:] == placed[-1:]
    for path in kept:
        read_checkpoint(path, "vqvae")


LOCKS = (".lock", ".library.lock", ".library.queue")


def places(count: int, sample: int) -> list[Any]:
    """`count` places in the course of a run, 0 to 1; `sample` of them outside the soak, half of these are slow."""
    every = count // sample
    sampled = {n: [pytest.mark.slow] * (n // every % 2) for n in range(every // 2, count, every)}
    return [pytest.param((n + 0.5) / count, marks=sampled.get(n, pytest.mark.soak)) for n in range(count)]


@pytest.mark.parametrize("share", places(50, 4))
def test_where_the_disk_is_full_nothing_is_lost_and_with_room_again_the_run_goes_on(
    share: float, sounds: list[Path], whole: Whole, tmp_path: Path
) -> None:
    with (
        on(Disk(room=int(share * whole.written))) as disk,
        pytest.raises(
            StorageError, match=r"No space left on device \([\d,.]+ [kM]B needed, [\d,.]+ MB free\); free some"
        ),
    ):
        go_on(sounds, tmp_path / "run")
    assert_nothing_lost(tmp_path, disk)
    go_on(sounds, tmp_path / "run")
    assert_ended_alike(tmp_path / "run", whole)


@pytest.mark.parametrize("files", [7, *(pytest.param(n, marks=pytest.mark.soak) for n in (0, 1, 2, 3, 4, 9, 12, 16))])
def test_where_the_disk_turns_read_only_nothing_is_lost_and_then_the_run_goes_on(
    files: int, sounds: list[Path], whole: Whole, tmp_path: Path
) -> None:
    with on(Disk(files=files)) as disk, pytest.raises(StorageError, match="choose a folder that you may write to"):
        go_on(sounds, tmp_path / "run")
    assert_nothing_lost(tmp_path, disk)
    go_on(sounds, tmp_path / "run")
    assert_ended_alike(tmp_path / "run", whole)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.soak
def test_on_a_real_full_disk_nothing_is_lost_and_with_room_again_the_run_goes_on(
    sounds: list[Path], whole: Whole, tiny_disk: Path
) -> None:
    filling = tiny_disk / "filling"
    filling.write_bytes(bytes(1_400_000))
    with pytest.raises(StorageError, match=r"No space left on device \([\d,.]+ [kM]B needed, [\d,.]+ [kM]B free\)"):
        go_on(sounds, tiny_disk / "run")
    assert [read_checkpoint(path, "vqvae") for path in list_checkpoints(tiny_disk / "run" / "checkpoints")]
    filling.unlink()
    subprocess.run(["mount", "-o", "remount,size=32m", tiny_disk], check=True)
    go_on(sounds, tiny_disk / "run")
    assert_ended_alike(tiny_disk / "run", whole)


@pytest.fixture
def shut_folder() -> Iterator[Path]:
    """A folder that everyone can get to, for who is no longer root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_anyone(work: Callable[[], object]) -> str:
    """What error `work` ends with when it is done, in a process of its own, by a user with no special rights."""

    def without_rights(say: Callable[[object], None]) -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            work()
            say("done")
        except (StorageError, LibraryError) as error:
            say(error)

    return " ".join(in_child(without_rights))


def shut(folder: Path, closed: bool) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o555 if closed else 0o755) if path.is_dir() else (0o444 if closed else 0o644))


@each_kind
def test_a_read_only_folder_is_refused_with_advice_and_left_as_it_is(kind: Kind, shut_folder: Path) -> None:
    folder = shut_folder / "folder"
    folder.mkdir()
    kind.write(folder, 1)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shut(folder, closed=True)
    assert "Permission denied; choose a folder that you may write to" in as_anyone(lambda: kind.write(folder, 2))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    shut(folder, closed=False)
    assert kind.read(folder) == kind.state(1)
    kind.write(folder, 2)
    assert kind.read(folder) == kind.state(2)


def test_a_run_in_a_read_only_folder_is_refused_with_advice(sounds: list[Path], shut_folder: Path) -> None:
    shut_folder.chmod(0o555)
    said = as_anyone(lambda: train_vqvae(CONFIG, sounds, shut_folder / "run"))
    assert "Permission denied; choose a folder that you may write to" in said
    assert not list(shut_folder.iterdir())


# A run that cannot fit


@pytest.mark.parametrize(
    ("free", "warned"),
    [({}, []), ({"run": 0}, ["run"]), ({"models": 0}, ["models"]), ({"run": 0, "models": 0}, ["run", "models"])],
    ids=["enough", "no room for the run", "no room for the model", "no room at all"],
)
def test_a_run_that_will_not_fit_is_told_before_it_begins(
    free: dict[str, int], warned: list[str], sounds, tmp_path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr("distill.training.setup.free_bytes", lambda place: free.get(place.name, 10**12))
    first = StopAt(VQStepMetrics, epoch=0, step=0)
    run, models = tmp_path / "run", tmp_path / "models"
    train_vqvae(CONFIG, sounds, run, callback=first, cancel_event=first.cancel, models_dir=models)
    told = re.findall(
        r"(\S+): the run will need about [\d.]+ [kM]B there, but only 0\.0 kB are free; free some space", caplog.text
    )
    assert told == [str(tmp_path / name) for name in warned]


def test_a_run_that_fits_in_what_is_said_to_be_needed_goes_through(sounds, tmp_path, monkeypatch, caplog) -> None:
    most = {"run": 0, "models": 0}

    class Watched(Disk):
        def replace(self, source: Path, target: Path) -> None:
            for name in most:
                files = (path for path in (tmp_path / name).rglob("*") if path.is_file())
                most[name] = max(most[name], sum(path.stat().st_size for path in files))
            super().replace(source, target)

    with on(Watched()):
        go_on(sounds, tmp_path / "run")
    shutil.rmtree(tmp_path / "run"), shutil.rmtree(tmp_path / "models")
    monkeypatch.setattr("distill.training.setup.free_bytes", lambda place: most[place.name] - 1)
    first = StopAt(VQStepMetrics, epoch=0, step=0)
    models = tmp_path / "models"
    train_vqvae(CONFIG, sounds, tmp_path / "run", callback=first, cancel_event=first.cancel, models_dir=models)
    assert caplog.text.count("free some space, or") == 2


# A damaged checkpoint


def flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def within_its_largest_tensor(data: bytes) -> int:
    largest = max(zipfile.ZipFile(io.BytesIO(data)).infolist(), key=lambda member: member.file_size)
    return largest.header_offset + largest.file_size


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda data: data[: len(data) // 2],
    "zeros at the end": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "one bit": lambda data: flipped(data, within_its_largest_tensor(data), 2),
    "empty": lambda data: b"",
}
each_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


@pytest.fixture(scope="module")
def stopped(sounds: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in its last epoch; tests work on copies."""
    base = tmp_path_factory.mktemp("stopped")
    stop = StopAt(VQStepMetrics, epoch=2, step=0)
    train_vqvae(
        CONFIG, sounds, base / "run", callback=stop, cancel_event=stop.cancel, models_dir=base / "models",
        dataset_name="tones",
    )  # fmt: skip
    return base / "run"


def damaged_copy(stopped: Path, to: Path, damage: Callable[[bytes], bytes]) -> tuple[Path, bytes]:
    """A copy of the run, its newest checkpoint damaged; where that is, and what it holds now."""
    shutil.copytree(stopped, to)
    newest = list_checkpoints(to / "checkpoints")[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    return newest, newest.read_bytes()


def assert_kept_aside(newest: Path, content: bytes) -> None:
    assert newest.with_name(newest.name + ".damaged").read_bytes() == content
    for path in list_checkpoints(newest.parent):
        read_checkpoint(path, "vqvae")


@each_damage
def test_from_a_damaged_newest_checkpoint_a_run_goes_back_to_the_one_before_and_says_so(
    damage, stopped, sounds, whole, tmp_path, caplog
) -> None:
    newest, content = damaged_copy(stopped, tmp_path / "run", damage)
    before = list_checkpoints(newest.parent)[-2]
    go_on(sounds, tmp_path / "run")
    assert f"{newest}: " in caplog.text
    assert f"it was set aside, and the run resumes from the one before it, {before.name}" in caplog.text
    assert_kept_aside(newest, content)
    assert_ended_alike(tmp_path / "run", whole)


@pytest.mark.parametrize(
    "damage", [DAMAGES["one bit"], pytest.param(DAMAGES["empty"], marks=pytest.mark.soak)], ids=["one bit", "empty"]
)
def test_distill_train_resume_does_so_as_well(damage, stopped, whole, tmp_path) -> None:
    newest, content = damaged_copy(stopped, tmp_path / "run", damage)
    said = run("train", "--resume", tmp_path / "run", "--models-dir", tmp_path / "models")
    assert said.code == 0, said
    told = "".join((said.err + said.out).split())  # in lines as wide as the terminal
    assert newest.name in told
    assert "setaside,andtherunresumesfromtheonebeforeit" in told
    assert_kept_aside(newest, content)
    assert_ended_alike(tmp_path / "run", whole)


@pytest.mark.parametrize("keep", [1, 3])
def test_whatever_damaged_checkpoints_lie_about_the_one_just_written_is_kept(keep: int, folder: Path) -> None:
    places = [folder / f"checkpoint_{n:05d}_00000_{loss}.pt" for n in (0, 9, 10, 11) for loss in ("0.001", "none")]
    for path in places:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"damaged")
    for n in (1, 2, 3):
        written = write_checkpoint(folder, replace(SAVED, epoch=n, val_loss=0.5), keep)
        assert read_checkpoint(written, "vqvae").epoch == n


def test_at_every_moment_of_a_run_that_keeps_one_checkpoint_there_is_a_good_one(sounds, tmp_path) -> None:
    folder, seen = tmp_path / "run", []

    def look(event: object) -> None:
        if isinstance(event, VQEpochMetrics):
            for path in list_checkpoints(folder / "checkpoints")[:-1]:
                path.write_bytes(b"damaged")  # all but the newest
            seen.append(find_checkpoint(folder, "vqvae").epoch)

    train_vqvae(replace(CONFIG, max_checkpoints=1), sounds, folder, callback=look)
    assert seen == [0, 1, 2]
    assert find_checkpoint(folder, "vqvae").epoch == 3


def test_a_way_back_that_is_broken_off_loses_no_event(stopped, sounds, whole, tmp_path, monkeypatch) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    older = list_checkpoints(tmp_path / "run" / "checkpoints")[0]
    for half in ("distill.training.snapshot.drop_later", "distill.training.run_folder.RunFolder.rewind"):
        with monkeypatch.context() as patch:
            patch.setattr(half, broken_off)
            with pytest.raises(StorageError):
                train_vqvae(CONFIG, sounds, tmp_path / "run", resume_from=older)
        (*_, last) = (event for event in RunFolder(tmp_path / "run").events() if isinstance(event, VQStepMetrics))
        assert last.epoch == 2
    go_on(sounds, tmp_path / "run")
    assert_ended_alike(tmp_path / "run", whole)


def broken_off(*_: object) -> None:
    raise StorageError("the disk is gone")


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_checkpoint_with_any_bit_changed_is_refused_or_means_the_same(count: int, folder: Path) -> None:
    path = write_checkpoint(folder, SAVED)
    data, draw = path.read_bytes(), random.Random(0)
    bits = [(draw.randrange(len(data)), draw.randrange(8)) for _ in range(count)]
    bits += [(found.start() + 38, 4) for found in re.finditer(b"PK\x01\x02", data)]  # makes a folder of a tensor
    for bit in bits:
        path.write_bytes(flipped(data, *bit))
        try:
            read = read_checkpoint(path, "vqvae")
        except CheckpointError:
            continue
        assert all(same(getattr(read, field.name), getattr(SAVED, field.name)) for field in fields(SAVED)), bit


# What the killed leave behind


def half_written(folder: Path) -> tuple[Path, Path]:
    """Two half-written files in `folder`: of a killed process, and of this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.storage.os", FaultyOS(2, kill))
        in_child(lambda say: atomic_write(folder / "file", b"new"))
    (dead,) = folder.glob("*.tmp")
    host, _, rest = dead.name.removeprefix(".distill-").split("-")
    mine = folder / f".distill-{host}-{os.getpid()}-{rest}"
    mine.write_bytes(b"half")
    return dead, mine


def test_the_next_listing_of_the_library_clears_away_what_the_killed_left(tmp_path: Path) -> None:
    write_model(tmp_path / "kick.distill")
    dead, mine = half_written(tmp_path)
    assert [entry.name for entry in ModelLibrary(tmp_path).entries()] == ["kick"]
    assert not dead.exists()
    assert mine.exists()


def test_the_next_run_clears_away_what_the_killed_left(stopped, sounds, tmp_path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    left = [half_written(tmp_path / "run" / name) for name in ("", "checkpoints", "previews")]
    go_on(sounds, tmp_path / "run")
    assert not any(dead.exists() for dead, _ in left)
    assert all(mine.exists() for _, mine in left)
