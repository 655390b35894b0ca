"""The sounds of a pack: as they were made, and finished as files."""

from dataclasses import dataclass

from distill.audio.finish import Finish, finished
from distill.audio.io import wav_bytes
from distill.audio.loops import Loop, find_loop, seamless
from distill.audio.pitch import midi_key
from distill.audio.recording import Samples, peak_of
from distill.audio.sampler_chunk import with_sampler_chunk
from distill.packs.origin import Origin


@dataclass(frozen=True, eq=False)
class MadeSound:
    """A sound float32 `[S]` or `[S, 2]` at `rate` Hz, its `name` (a file's stem), and where it comes from.

    What is `seamless` is a loop as a whole.
    """

    name: str
    samples: Samples
    rate: int
    origin: Origin
    seamless: bool = False


@dataclass(frozen=True, eq=False)
class SoundFile:
    """A finished sound: the content of its WAV file and what a preset has to know of it."""

    name: str
    wav: bytes
    frames: int
    rate: int
    peak: float  # 1 is full scale
    key: float | None  # MIDI, with its fraction, where the pitch is clear
    loop: Loop | None
    origin: Origin

    @property
    def file(self) -> str:
        """Its file name."""
        return f"{self.name}.wav"

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.frames / self.rate


def finish_sound(sound: MadeSound, finish: Finish, *, bits: str = "24", loop: bool = False) -> SoundFile:
    """Finish a sound, with the best loop it has if a `loop` is wanted; raises `ConfigError` for impossible bits."""
    samples, rate = finished(sound.samples, sound.rate, finish, seamless=sound.seamless), finish.rate or sound.rate
    found = Loop(0, len(samples)) if sound.seamless else find_loop(samples, rate) if loop else None
    if found and not sound.seamless:
        samples = seamless(samples, found, rate)
    key = midi_key(samples, rate)
    wav = with_sampler_chunk(wav_bytes(samples, rate, bits=bits), rate, key, found)
    return SoundFile(sound.name, wav, len(samples), rate, peak_of(samples), key, found, sound.origin)
