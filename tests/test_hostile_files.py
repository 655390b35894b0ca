"""Model files from strangers: nothing in them runs, and what is no correct model is an error, soon and for little."""

import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.library.header import ModelMetadata
from distill.models.exchange import export_safetensors
from distill.models.persistence import load_any, save_model, save_model_v2
from distill.models.vae import ConvVAE
from distill.models.vqvae import ConvVQVAE
from distill.training.checkpoint import save_vqvae_checkpoint
from support.checkpoints import checkpoint
from support.models import HEALTH, MEL, NARROW


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A real file of each kind, with nets of a tenth of the width."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.models.blocks.WIDTHS", NARROW)
        sizes = {"codebook_dim": 8, "codebook_size": 8, "num_quantizers": 2}
        about = {"name": "v", "model_id": "1", "save_date": "2026-01-01"}
        curves = {"val_losses": [0.5, 0.25]}
        v2 = save_model_v2(
            ConvVQVAE(**sizes, n_mels=32),
            MEL,
            sizes,
            {"seed": 1},
            ModelMetadata(**about),
            folder / "v2",
            HEALTH,
            curves,
        )
        vae = ConvVAE(latent_dim=4, n_mels=32, frames=64)
        v1 = save_model(vae, MEL, {"seed": 1}, ModelMetadata(**about), folder / "v1", None, curves)
    return {"v1": v1, "v2": v2, "checkpoint": save_vqvae_checkpoint(folder / "checkpoints", checkpoint())}


# A worker reads files as every part of distill would, and tells for each what became of it.

READER = """if True:
    import hashlib, json, resource, sys, time
    import torch
    import distill.models.blocks
    distill.models.blocks.WIDTHS = (4, 16, 32)
    from pathlib import Path
    from distill.errors import DistillError
    from distill.library.catalog import ModelLibrary
    from distill.library.header import ModelMetadata, read_header
    from distill.models.archive import read_archive
    from distill.models.exchange import import_model
    from distill.models.persistence import load_any, load_model, load_model_v2, save_model_from_checkpoint
    from distill.training.checkpoint import find_checkpoint, read_checkpoint

    torch.set_num_threads(1)
    KNOWN = {("torch._utils", "_rebuild_tensor_v2"), ("collections", "OrderedDict")}
    watching = False

    def watch(event, arguments):
        if not watching:
            return
        if event.split(".")[0] in ("subprocess", "socket", "shutil", "ftplib", "urllib", "webbrowser"):
            raise SystemExit(f"{event} {arguments}")
        if event in ("os.system", "os.exec", "os.posix_spawn", "os.fork"):
            raise SystemExit(f"{event} {arguments}")
        if event == "pickle.find_class" and tuple(arguments) not in KNOWN and arguments[0] != "torch":
            raise SystemExit(f"{event} {arguments}")

    sys.addaudithook(watch)

    def weights(path):
        state = read_archive(path)["model_state_dict"]
        return hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in sorted(state))).hexdigest()

    READERS = {
        "header": read_header,
        "listing": lambda path: ModelLibrary(path.parent).entries(),
        "any": lambda path: (load_any(path), weights(path))[1],
        "v1": load_model,
        "v2": load_model_v2,
        "vqvae checkpoint": lambda path: read_checkpoint(path, "vqvae") and None,
        "vae checkpoint": lambda path: read_checkpoint(path, "vae") and None,
        "run folder": lambda path: find_checkpoint(path, "vqvae"),
        "rescue": lambda path: save_model_from_checkpoint(path, ModelMetadata(name="x"), path.parent / "rescued"),
        "import": lambda path: import_model(path, path.parent / "imported"),
    }
    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(peak()), flush=True)
    for line in sys.stdin:
        path, readers = json.loads(line)
        told = {}
        for name in readers:
            watching, started = True, time.process_time()
            try:
                result = READERS[name](Path(path))
                told[name] = ["read", result if isinstance(result, str) else ""]
            except DistillError as error:
                told[name] = ["refused", type(error).__name__ + ": " + str(error)[:300]]
            except Exception as error:
                told[name] = ["broke", type(error).__name__ + ": " + str(error)[:300]]
            watching = False
            told[name].append(time.process_time() - started)
        print(json.dumps([told, peak()]), flush=True)
"""


class Worker:
    """The process that reads; it is asked one file at a time, and must outlive them all."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.memory = self.before = json.loads(self.process.stdout.readline())

    def read(self, path: Path, *readers: str) -> dict[str, list[Any]]:
        """What became of the file for each reader: `[read | refused | broke, in words, seconds of work]`."""
        self.process.stdin.write(json.dumps([str(path), readers]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the process ended: {self.process.wait()}"
        told, self.memory = json.loads(line)
        return told

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait() == 0


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


EVERY_READER = ("header", "listing", "any", "v1", "v2", "vqvae checkpoint", "vae checkpoint", "rescue", "import")


# Payloads


class Calls:
    """Pickled as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class Builds(Calls):
    """Pickled as a call whose result is given a state."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (*self.call, {"a": 1})


def by_hand(module: str, name: str, argument: str) -> dict[str, bytes]:
    """The ways in which the pickle language can call a function, written out."""
    text = b"X" + struct.pack("<I", len(argument)) + argument.encode()
    named = f"c{module}\n{name}\n".encode()
    short = b"\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode()
    return {
        "REDUCE": named + b"(" + text + b"tR.",
        "INST": b"(" + text + f"i{module}\n{name}\n.".encode(),
        "OBJ": b"(" + named + text + b"o.",
        "NEWOBJ": b"\x80\x02" + named + text + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + named + text + b"\x85}\x92.",
        "STACK_GLOBAL": b"\x80\x04" + short + b"\x93" + text + b"\x85R.",
        "EXT1": b"\x80\x02\x82\x01" + text + b"\x85R.",
        "PERSID": b"P" + argument.encode() + b"\n.",
        "BUFFER": b"\x80\x05\x97.",
    }


def payloads(canary: Path, whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Files that touch `canary` if anything in them is run."""
    touch, write = f"touch '{canary}'", f"open({str(canary)!r}, 'w')"
    calls = {
        "os.system": Calls(os.system, touch),
        "os.popen": Calls(os.popen, touch),
        "subprocess": Calls(subprocess.check_call, ["touch", str(canary)]),
        "eval": Calls(eval, write),
        "exec": Calls(exec, write),
        "open": Calls(open, str(canary), "w"),
        "import": Calls(__import__, "antigravity"),
        "getattr": Calls(getattr, "x", "upper"),
        "path": Calls(Path(canary).touch),
        "torch.load": Calls(torch.load, str(canary)),
        "torch.hub": Calls(torch.hub.load, str(canary), "x"),
        "torch.save": Calls(torch.save, 1, str(canary)),
        "jit": Calls(torch.jit.load, str(canary)),
        "built": Builds(os.system, touch),
        "bytearray": bytearray(b"x"),
        "set": {1, 2},
        "bytes": b"x",
        "complex": 1j,
    }
    content = torch.load(io.BytesIO(whole), weights_only=True)
    for name, call in calls.items():
        for place in ("metadata", "model_state_dict"):
            buffer = io.BytesIO()
            torch.save({**content, place: {**content.get(place, {}), "more": call}}, buffer)
            yield f"{name} in {place}", buffer.getvalue()
        yield f"{name} as the key of a tensor", saved({**content, "model_state_dict": Odd(call)})
        yield f"{name} as a plain pickle", pickle.dumps(call, protocol=2)
    for name, program in by_hand("os", "system", touch).items():
        yield f"{name} in the pickle", with_member(whole, "data.pkl", program)
        yield f"{name} behind the pickle", with_member(whole, "data.pkl", pickle_of(whole) + program)
        yield f"{name} before the pickle", with_member(whole, "data.pkl", program[:-1] + b"0" + pickle_of(whole))
        yield f"{name} alone", program
    for name in (
        "code/__torch__.py",
        "data.pkl",
        "../../x",
        "/tmp/x",
        "constants.pkl",
        ".data/x",
        "data/0/x",
        "data/-1",
    ):
        yield f"a member {name}", with_more(whole, name, write.encode())
    yield "an old torch file", legacy(content, calls["os.system"])
    yield "a tar", tar_of(calls["os.system"])
    yield "a sparse tensor", saved(content | {"model_state_dict": {"a": torch.eye(3).to_sparse()}})
    yield "a parameter", saved(content | {"model_state_dict": {"a": torch.nn.Parameter(torch.ones(2))}})
    yield "a module", saved(content | {"model_state_dict": torch.nn.Linear(2, 2)})
    yield "numpy", saved(content | {"metadata": torch.zeros(2).numpy()})


class Odd(dict):
    """A dictionary that pickles as what it was given."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, ([("weight", self.call)],)


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def legacy(content: object, call: object) -> bytes:
    buffer = io.BytesIO()
    torch.save({"format": "distill_model", "x": call}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def tar_of(call: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("pickle", "storages", "tensors", "sys_info"):
            data = pickle.dumps(call, protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def members_of(whole: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def pickle_of(whole: bytes) -> bytes:
    return next(data for name, data in members_of(whole).items() if name.endswith("/data.pkl"))


def laid_out(members: list[tuple[str, bytes]]) -> bytes:
    """An archive in torch's own layout, so that what is in it is what is judged."""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer, True)
    for name, data in members:
        if name not in ("version", ".format_version", ".storage_alignment", ".data/serialization_id"):
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    return buffer.getvalue()


def with_member(whole: bytes, member: str, data: bytes) -> bytes:
    parts = {name.partition("/")[2]: content for name, content in members_of(whole).items()}
    return laid_out(list((parts | {member: data}).items()))


def with_more(whole: bytes, member: str, data: bytes) -> bytes:
    buffer = io.BytesIO(whole)
    root = next(iter(members_of(whole))).partition("/")[0]
    with pytest.MonkeyPatch.context() as patch, zipfile.ZipFile(buffer, "a") as archive:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # of a name that is there already
        archive.writestr(f"{root}/{member}", data)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol", "ignore:Sparse")
def test_no_payload_is_run_by_any_reader(files: dict[str, Path], worker: Worker, tmp_path: Path) -> None:
    canary, seen = tmp_path / "canary", 0
    for name, data in payloads(canary, files["v2"].read_bytes()):
        path = tmp_path / "from a stranger" / "x.distill"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        for reader, (outcome, words, _) in worker.read(path, *EVERY_READER).items():
            assert outcome == "refused" or reader == "listing", (name, reader, words)
        assert not canary.exists(), name
        seen += 1
    assert seen > 100


# Mutants

Mutant = tuple[str, bytes]


def mutants(whole: bytes, rng: random.Random, count: int) -> Iterator[Mutant]:
    """`count` variants of a file: damaged, cut, shuffled, lying."""
    makers = [
        flipped,
        flipped_at_the_edges,
        cut,
        cut_at_the_edges,
        swapped,
        lying,
        with_a_hostile_value,
        with_a_hostile_pickle,
    ]
    for number in range(count):
        maker = makers[number % len(makers)]
        yield f"{maker.__name__} {number}", maker(whole, rng)


def edges(whole: bytes, rng: random.Random) -> int:
    """A place in a header, the pickle, or the directory."""
    start = whole.rindex(b"PK\x06\x06") - 4000
    return rng.choice([rng.randrange(300), rng.randrange(2000), rng.randrange(start, len(whole))])


def flip(whole: bytes, place: int, rng: random.Random) -> bytes:
    return whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :]


def flipped(whole: bytes, rng: random.Random) -> bytes:
    return flip(whole, rng.randrange(len(whole)), rng)


def flipped_at_the_edges(whole: bytes, rng: random.Random) -> bytes:
    return flip(whole, edges(whole, rng), rng)


def cut(whole: bytes, rng: random.Random) -> bytes:
    return whole[: rng.randrange(len(whole))]


def cut_at_the_edges(whole: bytes, rng: random.Random) -> bytes:
    place = edges(whole, rng)
    return rng.choice([whole[:place], whole[place:], whole[:place] + whole[place + rng.randrange(1, 9) :]])


def swapped(whole: bytes, rng: random.Random) -> bytes:
    """Two members change their contents, or their names."""
    parts = [(name.partition("/")[2], data) for name, data in members_of(whole).items()]
    a, b = rng.sample(range(len(parts)), 2)
    parts[a], parts[b] = (parts[a][0], parts[b][1]), (parts[b][0], parts[a][1])
    return laid_out(parts)


def lying(whole: bytes, rng: random.Random) -> bytes:
    """A number of the pickle is another one: sizes, shapes, strides, offsets, counts."""
    program = bytearray(pickle_of(whole))
    for _ in range(rng.randrange(1, 4)):
        numbers = [place for place in range(len(program) - 5) if program[place] in b"KMJ"]
        place = rng.choice(numbers)
        width = {75: 1, 77: 2, 74: 4}[program[place]]
        value = rng.choice(
            [0, 1, 2, 127, 255, (1 << 8 * width - 1) - 1, (1 << 8 * width) - 1, rng.randrange(1 << 8 * width)]
        )
        program[place + 1 : place + 1 + width] = value.to_bytes(width, "little")
    return with_member(whole, "data.pkl", bytes(program))


HOSTILE = [
    10**9, 10**30, -1, 0, 2**31, 2**63, -(2**63), 1e308, float("nan"), float("inf"), True, None,
    "", "x" * 100_000, "\0",
    "../../etc/passwd", "__class__", [], {}, [[[[]]]], {"__init__": 1}, {"a": {"b": {"c": {}}}}, [0] * 10_000, (1, 2),
    {str(n): n for n in range(1000)},
]  # fmt: skip


def with_a_hostile_value(whole: bytes, rng: random.Random) -> bytes:
    """A value somewhere in the structure is another one, of any type and size; or a key is gone, or new."""
    content = torch.load(io.BytesIO(whole), weights_only=True)
    where = content
    while True:
        key = rng.choice(list(where))
        if not isinstance(where[key], dict) or not where[key] or rng.random() < 0.2:
            break
        where = where[key]
    action = rng.random()
    if action < 0.15:
        del where[key]
    elif action < 0.3:
        where[rng.choice(["", "more", "__class__", "../x", 5, "x" * 5000])] = rng.choice(HOSTILE)
    elif isinstance(where[key], torch.Tensor) and action < 0.8:
        tensor = where[key]
        where[key] = rng.choice(
            [
                tensor[None],
                tensor.double(),
                tensor.half(),
                tensor * float("nan"),
                torch.zeros(0),
                tensor.flatten()[:1],
                torch.zeros(1).expand(1 << 20),
                torch.zeros(10**6),
                tensor.long(),
                torch.zeros(()),
                tensor.to_sparse(),
            ]
        )
    else:
        where[key] = rng.choice(HOSTILE)
    return saved(content)


def with_a_hostile_pickle(whole: bytes, rng: random.Random) -> bytes:
    """A pickle made to cost time or memory."""
    deep, many = b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".", b"\x80\x02]" + b"(" + b"}" * 3_000_000 + b"e."
    laughs = b"\x80\x02]q\x00" + b"".join(
        b"](" + b"h" + bytes([n]) + (b"h" + bytes([n])) * 9 + b"eq" + bytes([n + 1]) for n in range(40)
    )
    programs = [
        deep, many, laughs + b".",
        b"\x80\x02Nr\xff\xff\xff\xff.",  # a memo of four thousand million places
        b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\xff" * 1000 + b".",  # LONG4
        b"\x80\x02\x8a\xff" + b"\xff" * 255 + b".",
        b"\x80\x02X\xff\xff\xff\xffx.",
        b"\x80\x02" + b"\x85" * 500_000 + b".",
        b"\x80\x02)" + b"\x85" * 400_000 + b"}" + b"N\x86.",
        b"\x80\x02})" + b"\x85" * 30 + b"Ns.",
        b"\x80\x02" + b"N" * 500_000 + b".",
        b"", b".", b"\x80\x02.", b"\x80\xff.", bytes(rng.randrange(256) for _ in range(200)),
    ]  # fmt: skip
    return with_member(whole, "data.pkl", rng.choice(programs))


KINDS = {"v1": ("any", "header", "v1"), "v2": ("any", "header", "v2"), "checkpoint": ("vqvae checkpoint",)}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [56, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_mutant_is_a_typed_error_or_a_correct_model_soon_and_for_little(
    files: dict[str, Path], worker: Worker, tmp_path: Path, kind: str, count: int, counted: Callable[[str, int], None]
) -> None:
    whole, rng = files[kind].read_bytes(), random.Random(kind)
    path = tmp_path / f"x{files[kind].suffix}"
    path.write_bytes(whole)
    right = worker.read(path, *KINDS[kind])
    assert right.pop("header", ["read"])[0] == "read"
    largest, refused = len(whole), 0
    for name, data in mutants(whole, rng, count):
        path.write_bytes(data)
        largest = max(largest, len(data))
        for reader, (outcome, words, seconds) in worker.read(path, *KINDS[kind]).items():
            assert outcome != "broke", (name, reader, words)
            assert seconds < 5, (name, reader, seconds)
            refused += outcome == "refused"
            if outcome == "read" and reader == "any" and name.startswith(("flipped", "cut")):
                assert words == right["any"][1], (name, "other weights were taken for a model")
    assert refused > count / 2
    assert worker.memory - worker.before < 2 * largest + 200e6, (worker.memory - worker.before) / 1e6
    counted(f"mutants of a {kind} file", count)


def json_value(value: Any, rng: random.Random) -> Any:
    """The same value of JSON, with another one somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return value | {key: json_value(value[key], rng)}
    return rng.choice([None, True, -1, 2**62, 1e300, "", "x" * 1000, [], {}, [[]], {"a": {}}])


def safetensors_mutant(whole: bytes, rng: random.Random) -> bytes:
    """A safetensors file with a bit changed, cut, or with another value somewhere in its header or its JSON."""
    length = 8 + struct.unpack_from("<Q", whole)[0]
    match rng.randrange(5):
        case 0:
            return flip(whole, rng.randrange(len(whole)), rng)
        case 1:
            return flip(whole, rng.randrange(length), rng)
        case 2:
            return cut(whole, rng)
    header = json.loads(whole[8:length])
    if rng.random() < 0.5:
        content = json_value(json.loads(header["__metadata__"]["distill"]), rng)
        header["__metadata__"]["distill"] = json.dumps(content)
    else:
        header = json_value(header, rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + whole[length:]


@pytest.mark.parametrize("count", [60, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_mutant_of_an_exported_model_is_a_typed_error_or_a_correct_model(
    files: dict[str, Path], worker: Worker, tmp_path: Path, count: int, counted: Callable[[str, int], None]
) -> None:
    whole, rng = export_safetensors(files["v2"], tmp_path / "whole.safetensors").read_bytes(), random.Random(0)
    outcomes = Counter[str]()
    for number in range(count):
        path = tmp_path / f"x{number}.safetensors"
        path.write_bytes(safetensors_mutant(whole, rng))
        ((outcome, words, seconds),) = worker.read(path, "import").values()
        assert outcome != "broke", (number, words)
        assert seconds < 5
        outcomes[outcome] += 1
        path.unlink()
    assert outcomes["refused"] > count / 2
    counted("mutants of a safetensors file", count)


def test_a_truncation_anywhere_near_an_end_is_refused(files: dict[str, Path], worker: Worker, tmp_path: Path) -> None:
    whole = files["v2"].read_bytes()
    path = tmp_path / "x.distill"
    for length in (*range(0, 400, 7), *range(len(whole) - 400, len(whole), 3)):
        path.write_bytes(whole[:length])
        told = worker.read(path, "any", "header")
        assert {outcome for outcome, *_ in told.values()} == {"refused"}, length


def test_a_reader_of_zip_can_be_shown_nothing_that_torch_does_not_see(
    files: dict[str, Path], worker: Worker, tmp_path: Path
) -> None:
    whole = files["v2"].read_bytes()
    with_comment = io.BytesIO(whole)
    with zipfile.ZipFile(with_comment, "a") as archive:
        archive.comment = b"x" * 100
    rewritten = io.BytesIO()
    with zipfile.ZipFile(rewritten, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members_of(whole).items():
            archive.writestr(name, data)
    tricks = {
        "two archives": whole + whole,
        "something before": b"MZ" + whole,
        "something behind": whole + b"x",
        "a comment": with_comment.getvalue(),
        "compressed": rewritten.getvalue(),
        "a bomb": bomb(),
    }
    for name, data in tricks.items():
        (tmp_path / "x.distill").write_bytes(data)
        told = worker.read(tmp_path / "x.distill", "any", "header", "import")
        assert {outcome for outcome, *_ in told.values()} == {"refused"}, (name, told)


def bomb() -> bytes:
    """A gigabyte of zeros in a megabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data.pkl", "w") as file:
        for _ in range(256):
            file.write(bytes(1 << 20))
    return buffer.getvalue()


def sparse(size: int) -> Callable[[Path], object]:
    """A file of so many zeros that takes no room."""
    return lambda path: (path.touch(), os.truncate(path, size))


def many_empty_tensors(path: Path) -> None:
    """A safetensors file of 200,000 tensors of no numbers."""
    header = {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(200_000)}
    text = json.dumps({"__metadata__": {"distill": "{}"}} | header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


def a_huge_tensor(path: Path) -> None:
    """A safetensors file of a model with a tensor of 3.5 GB of zeros beside its own."""
    length = 7 << 29
    weights = {"junk": {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}}
    content = {"format": "distill_model", "version": 2, "model_type": "vqvae", "vqvae_config": {}}
    text = json.dumps({"__metadata__": {"distill": json.dumps(content)}} | weights).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + length)


PLACED = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "4 GiB of zeros": sparse((4 << 30) - 1),
    "20 GB of zeros": sparse(20 * 10**9),
    "many empty tensors": many_empty_tensors,
    "a huge tensor": a_huge_tensor,
}


@pytest.mark.parametrize("kind", PLACED)
@pytest.mark.parametrize("suffix", [".distill", ".safetensors", ".pt"])
def test_what_is_no_model_is_refused_unread(worker: Worker, tmp_path: Path, kind: str, suffix: str) -> None:
    PLACED[kind](tmp_path / f"x{suffix}")
    readers = ("import",) if suffix == ".safetensors" else EVERY_READER
    for reader, (outcome, words, seconds) in worker.read(tmp_path / f"x{suffix}", *readers).items():
        # Listing passes over it; a folder is taken for that of a run, without any checkpoint.
        assert outcome == ("read" if reader == "listing" else "refused"), (reader, words)
        assert seconds < 1, (reader, seconds)
    assert worker.memory - worker.before < 300e6  # of all tests so far


def test_a_model_with_more_numbers_than_its_settings_say_is_refused_unread(
    files: dict[str, Path], worker: Worker, tmp_path: Path
) -> None:
    content = torch.load(files["v2"], weights_only=True)
    content["model_state_dict"]["junk"] = torch.zeros(50 << 20, dtype=torch.uint8).view(torch.int32)
    content["model_state_dict"]["more"] = torch.zeros(30 << 20, dtype=torch.bool)
    torch.save(content, tmp_path / "x.distill")
    for reader in ("any", "v2", "import"):
        ((outcome, words, seconds),) = worker.read(tmp_path / "x.distill", reader).values()
        assert (outcome, "do not fit its settings" in words) == ("refused", True), words
        assert seconds < 1


def test_the_numbers_of_a_model_are_protected_by_their_checksums(files: dict[str, Path], tmp_path: Path) -> None:
    whole = files["v2"].read_bytes()
    middle = len(whole) // 2
    (tmp_path / "x.distill").write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    assert zlib.crc32(whole) != zlib.crc32((tmp_path / "x.distill").read_bytes())
    with pytest.raises(ValueError, match="a checksum does not agree"):
        load_any(tmp_path / "x.distill")
