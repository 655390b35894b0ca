"""Time of each stage of a training step, against the roofline of the machine, and of decoding files."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from torch import nn

from bench.shared.rows import Row
from bench.speed.roofline import Machine, Work, WorkCounter, measure_machine, nbytes
from bench.speed.step import CASES, OurStep
from bench.speed.timing import Call, Setting, Spread, comparison, interleaved, milliseconds, ratios, repeated, timed
from distill.audio.reader import AudioReader
from distill.models.losses import vqvae_loss

_CASE = "batch 32, 4 x 1,024 codes"
_STEPS = 10
_WARM_UP = 5
_RATE, _SECONDS, _FILES = 48_000, 10, 6  # of the decoded sounds


def stages(setting: Setting) -> Iterator[Row]:
    """The stages of a step, then the decoding of files."""
    ours = OurStep(setting.device, CASES[_CASE])  # a step of its own: running in stages would disturb its CUDA graph
    step = StagedStep(OurStep(setting.device, CASES[_CASE]))
    repeated(ours, _WARM_UP)()
    repeated(step, _WARM_UP)()
    times = {name: [0.0] * setting.repetitions for name in step.stages}
    whole, machines = [0.0] * setting.repetitions, []
    for repetition in range(setting.repetitions):
        for _ in range(_STEPS):
            for name, stage in step.stages.items():
                times[name][repetition] += timed(stage, setting.device) / _STEPS
        whole[repetition] = timed(repeated(ours, _STEPS), setting.device) / _STEPS
        machines.append(measure_machine(setting.device))
    yield {
        "part": "stages",
        "case": _CASE,
        "repetitions": setting.repetitions,
        "machine": asdict(Machine.best(machines)),
        "step_ms": asdict(Spread.of([1e3 * seconds for seconds in whole])),
        "stages": stage_rows(times, step.work(), machines),
    }
    yield from decoding(setting)


def stage_rows(times: dict[str, list[float]], work: dict[str, Work], machines: list[Machine]) -> list[dict[str, Any]]:
    """Time, work and floor of each stage; a floor is computed from the machine's peaks in the same repetition."""
    floors = {name: [work[name].floor(machine) for machine in machines] for name in times}
    medians = {name: statistics.median(values) for name, values in times.items()}
    return [
        {
            "name": name,
            "ms": asdict(Spread.of([1e3 * seconds for seconds in times[name]])),
            "share": medians[name] / sum(medians.values()),
            "gflop": work[name].flop / 1e9,
            "mb": work[name].nbytes / 1e6,
            "floor_ms": statistics.median(floors[name]) * 1e3,
            "factor": statistics.median(ratios(times[name], floors[name])),
        }
        for name in times
    ]


class StagedStep:
    """The work of `TrainStep` in stages; each leaves its result for the next."""

    def __init__(self, ours: OurStep) -> None:
        self.ours, self.model, self.spectrogram = ours, ours.model, ours.context.spectrogram
        self.stages: dict[str, Call] = {
            "mel": self._to_mel,
            "copy of the buffers": self._copy,
            "encoder": self._encode,
            "quantizer": self._quantize,
            "decoder": self._decode,
            "loss": self._compute_loss,
            "backward": self._backward,
            "clipping and optimizer": self._update,
        }

    def __call__(self) -> None:
        """Take one step."""
        for stage in self.stages.values():
            stage()

    def _to_mel(self) -> None:
        self.waveform = next(self.ours.batches)
        self.mel = self.spectrogram.waveform_to_mel(self.waveform)

    def _copy(self) -> None:
        self.before = {name: buffer.clone() for name, buffer in self.model.named_buffers()}

    def _encode(self) -> None:
        self.vectors = self.model.encode(self.mel)

    def _quantize(self) -> None:
        self.columns = self.model.grid.sounding(self.mel)
        self.quantized, _, self.commitment = self.model.quantize(self.vectors, self.columns)

    def _decode(self) -> None:
        whole = self.model.grid.silence(self.model.decode(self.quantized), self.columns)
        self.recon = whole[..., : self.mel.shape[-2], : self.mel.shape[-1]]

    def _compute_loss(self) -> None:
        weight = self.ours.config.commitment_weight
        power = self.spectrogram.config.power
        self.total = vqvae_loss(self.recon, self.mel, self.commitment, weight, power)[0]
        self.ours.optimizer.zero_grad(set_to_none=True)

    def _backward(self) -> None:
        self.total.backward()  # type: ignore[no-untyped-call]

    def _update(self) -> None:
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.ours.config.gradient_clip_norm)
        if self.total.isfinite() & norm.isfinite():
            self.ours.optimizer.step()

    def work(self) -> dict[str, Work]:
        """Least work of each stage: its FLOP, its input, output and weights once, and the bytes saved for backward."""
        counter = WorkCounter(self.model.parameters())
        flop: dict[str, float] = {}
        saved = {}
        for name, stage in self.stages.items():
            before = counter.saved
            flop[name] = counter.flop(stage)
            saved[name] = counter.saved - before
        config, frames = self.spectrogram.config, len(self.mel) * self.mel.shape[-1]
        flop["mel"] += frames * _fft_flop(config.n_fft)
        if config.detail is not None:
            flop["mel"] += frames * (config.hop_length / config.detail.hop_length) * _fft_flop(config.detail.n_fft)
        buffers, weights = nbytes(self.model.buffers()), nbytes(self.model.parameters())
        moved = {
            "mel": nbytes([self.waveform, self.mel]),
            "copy of the buffers": 2 * buffers,
            "encoder": nbytes([self.mel, *self.model.encoder.parameters(), self.vectors]),
            "quantizer": nbytes([self.vectors, self.quantized]) + 2 * buffers,
            "decoder": nbytes([self.quantized, *self.model.decoder.parameters(), self.recon]),
            "loss": nbytes([self.mel, self.recon]),
            "backward": sum(saved.values()) + 2 * weights,  # weights read, gradients written
            "clipping and optimizer": 8 * weights,  # gradients read twice; weights and both moments read and written
        }
        return {name: Work(flop[name], moved[name] + saved[name]) for name in self.stages}


def _fft_flop(n: int) -> float:
    """The usual estimate for the Fourier transform of n real numbers."""
    return 2.5 * n * math.log2(n)


def decoding(setting: Setting) -> Iterator[Row]:
    """Reading sound files in a child process, against libsndfile in this process."""
    sound = np.random.default_rng(0).normal(scale=0.1, size=_RATE * _SECONDS)
    for suffix in ("wav", "flac"):
        paths = [setting.work / f"{number}.{suffix}" for number in range(_FILES)]
        for path in paths:
            soundfile.write(path, sound, _RATE, subtype="PCM_24")
        with AudioReader() as reader:
            reader.read(paths[0])  # starts the child process
            calls: dict[str, Call] = {
                "ours": partial(_read_all, reader.read, paths),
                "libsndfile": partial(_read_all, partial(soundfile.read, dtype="float32"), paths),
            }
            times = interleaved(calls, setting.repetitions)
        rate = {"ours, audio s/s": _FILES * _SECONDS / statistics.median(times["ours"])}
        case = f"decoding, {suffix}"
        values = ratios(times["ours"], times["libsndfile"])
        yield comparison(
            "stages", case, "times as long as libsndfile alone", values, milliseconds(times, _FILES) | rate
        )


def _read_all(read: Any, paths: list[Path]) -> None:
    for path in paths:
        read(path)
