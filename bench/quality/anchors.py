"""Anchors, measured on the same held-out files as our models: Opus, the mel inverted, and the first plan's model."""

import dataclasses
import sys
from collections.abc import Iterator

from bench.quality.mel_distance import RATE
from bench.quality.opus import KBPS, available, encode_and_decode
from bench.quality.phase import with_reconstructed_phase, with_true_phase
from bench.quality.split import Split
from bench.shared.rows import Row
from distill.audio.spectrogram import AudioSpectrogram, mark_end
from distill.families import get_family

ANCHORS = ("opus", "inversion", "first-plan")

OPUS = {kbps: f"Opus {kbps}" for kbps in KBPS}
INVERSION = "mel inversion"
FIRST_PLAN = "first plan"


def opus_rows(split: Split) -> Iterator[Row]:
    """A row for Opus at each bit rate; none, with a message, when the tools are missing."""
    if not available():
        print("opusenc and opusdec are missing (Debian: opus-tools); the Opus rows are left out", file=sys.stderr)
        return
    for kbps, system in OPUS.items():
        reconstructions, bits = zip(*(encode_and_decode(sound, kbps) for sound in split.originals))
        kbits = sum(bits) / split.seconds / 1000
        yield {"system": system, "distances": dataclasses.asdict(split.distances(reconstructions)), "kbits": kbits}


def inversion_row(split: Split) -> Row:
    """The originals' own mels inverted: the best to expect of any model of these mels with this phase reconstruction.

    The same with the true phases is measured too; it shows the loss due to the mel alone.
    """
    spectrogram = AudioSpectrogram(get_family("vqvae").spectrogram)
    assert spectrogram.config.sample_rate == RATE
    pairs = [(spectrogram.waveform_to_mel(mark_end(sound)[None, None]), sound) for sound in split.originals]
    reconstructed = split.distances(with_reconstructed_phase(spectrogram, mel, sound) for mel, sound in pairs)
    true = split.distances(with_true_phase(spectrogram, mel, sound) for mel, sound in pairs)
    return {"system": INVERSION, "distances": dataclasses.asdict(reconstructed), "true_phase": dataclasses.asdict(true)}


def first_plan_row(split: Split, minutes: float, seed: int) -> Row:
    """The first plan's model, trained for as long as ours."""
    from bench.quality.first_plan import train_first_plan  # its quantizer takes seconds to import

    trained = train_first_plan(split.train, minutes, seed)
    distances = split.distances(trained.model.reconstruct(sound) for sound in split.originals)
    run = {"epochs": trained.epochs, "steps": trained.steps, "elapsed": trained.elapsed}
    return {"system": FIRST_PLAN, "distances": dataclasses.asdict(distances), "kbits": trained.kbits, "run": run}
