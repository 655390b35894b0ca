"""The worker process that decodes sound files: requests on stdin, answers on stdout, until stdin closes.

It imports nothing that it can do without, to start soon: no torch, no resampling, no validation (its limits come
validated); PyAV only for files that need it.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from distill.audio.decode import NO_FRAMES, Source, checked_blocks, opened
from distill.audio.limit_checks import LimitChecks
from distill.audio.protocol import BLOCK_BYTES, Kind, send, send_json
from distill.errors import AudioError

_MEMORY = 1 << 30  # bytes of address space for the decoding of one file


def main() -> None:
    """Answer one request after another."""
    requests, answers = _take_pipes()
    _limit_resources()
    send(answers, Kind.READY)
    for line in requests:
        request = json.loads(line)
        try:
            answer = _answer_header if request["header_only"] else _answer
            answer(os.fsdecode(bytes.fromhex(request["path"])), LimitChecks(**request["limits"]), answers)
        except AudioError as error:
            _refuse(answers, error)
        except MemoryError:
            _refuse(answers, AudioError("decoding it takes more memory than one file may use"))
        except Exception as error:  # whatever a decoder raises is a reason to refuse the file, not to end the process
            _refuse(answers, AudioError(f"not readable as audio ({type(error).__name__}: {error})"))
    os._exit(0)  # without Python's own shutdown, because the reader is waiting for it


def _refuse(answers: BinaryIO, error: AudioError) -> None:
    send_json(answers, Kind.REFUSED, error.to_dict())


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take over stdin and stdout for the protocol; a library that prints finds the null device in their place."""
    pipes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    return pipes


def _limit_resources() -> None:
    """Forbid core dumps and more than another 1 GiB of address space, where the system has such limits."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # only Linux tells how much is in use
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, resource.RLIM_INFINITY))


def _answer(path: str, limits: LimitChecks, answers: BinaryIO) -> None:
    """Decode the file at `path` into messages; raises `AudioError` to refuse it."""
    with opened(path, limits) as source:
        if source.claimed_frames is not None:
            _send_recording(source, limits, answers)
            return
        # A first pass only counts: the reader must not have to keep the samples of a file that turns out too long.
        _count(source, limits, answers)
    with opened(path, limits) as source:
        _send_recording(source, limits, answers)


def _answer_header(path: str, limits: LimitChecks, answers: BinaryIO) -> None:
    """Answer with everything but the samples; raises `AudioError` to refuse the file for its header."""
    with opened(path, limits) as source:
        frames = source.claimed_frames
        if frames is None:
            frames = _count(source, limits, answers)
        if frames == 0:
            raise AudioError(NO_FRAMES)
        _send_header(source, answers)
        send_json(answers, Kind.END, {"declared_frames": frames})


def _count(source: Source, limits: LimitChecks, answers: BinaryIO) -> int:
    frames = 0
    for block in checked_blocks(source, limits):
        frames += len(block)
        send_json(answers, Kind.COUNTED, len(block) / source.sample_rate)  # a sign of progress, for the deadline
    return frames


def _send_header(source: Source, answers: BinaryIO) -> None:
    header = {"sample_rate": source.sample_rate, "channels": source.channels, "format": source.format}
    send_json(answers, Kind.HEADER, header)


def _send_recording(source: Source, limits: LimitChecks, answers: BinaryIO) -> None:
    _send_header(source, answers)
    frames = 0
    for block in checked_blocks(source, limits):
        frames += len(block)
        samples = memoryview(block.tobytes())
        for start in range(0, len(samples), BLOCK_BYTES):
            send(answers, Kind.BLOCK, samples[start : start + BLOCK_BYTES])
    end = {"declared_frames": source.declared(frames), "unfinished": source.unfinished}
    send_json(answers, Kind.END, end)


if __name__ == "__main__":
    main()
