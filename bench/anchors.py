"""What a reconstruction is held against on the same files: Opus, the mel alone, and the first plan of the model."""

import dataclasses
import sys
from collections.abc import Iterator

from distill.audio.spectrogram import AudioSpectrogram, mark_end
from held_out import Split
from mel_distance import RATE
from opus import KBPS, available, through_opus
from phase import with_found_phase, with_true_phase
from rows import Row

ANCHORS = ("opus", "inversion", "first-plan")

OPUS = {kbps: f"Opus {kbps}" for kbps in KBPS}
INVERSION = "mel inversion"
FIRST_PLAN = "first plan"


def opus_rows(split: Split) -> Iterator[Row]:
    """The test files through Opus at each rate; none, and a word about it, where the tools are missing."""
    if not available():
        print("opusenc and opusdec are missing (Debian: opus-tools); the Opus rows are left out", file=sys.stderr)
        return
    for kbps, system in OPUS.items():
        copies, bits = zip(*(through_opus(sound, kbps) for sound in split.originals))
        kbits = sum(bits) / split.seconds / 1000
        yield {"system": system, "distances": dataclasses.asdict(split.distances(copies)), "kbits": kbits}


def inversion_row(split: Split) -> Row:
    """The test files' own mels made sound again: the best that any model of these mels can do with this phase search.

    Beside it the same with the true phases, which leaves what is lost by the mel itself.
    """
    spectrogram = AudioSpectrogram()
    assert spectrogram.config.sample_rate == RATE
    pairs = [(spectrogram.waveform_to_mel(mark_end(sound)[None, None]), sound) for sound in split.originals]
    found = split.distances(with_found_phase(spectrogram, mel, sound) for mel, sound in pairs)
    true = split.distances(with_true_phase(spectrogram, mel, sound) for mel, sound in pairs)
    return {"system": INVERSION, "distances": dataclasses.asdict(found), "true_phase": dataclasses.asdict(true)}


def first_plan_row(split: Split, minutes: float, seed: int) -> Row:
    """The first plan's architecture, trained for as long as ours."""
    from first_plan import train_first_plan  # its quantizer takes seconds to import

    trained = train_first_plan(split.train, minutes, seed)
    distances = split.distances(trained.model.reconstruct(sound) for sound in split.originals)
    run = {"epochs": trained.epochs, "steps": trained.steps, "elapsed": trained.elapsed}
    return {"system": FIRST_PLAN, "distances": dataclasses.asdict(distances), "kbits": trained.kbits, "run": run}
