"""Kept sounds as those of a pack."""

from collections.abc import Sequence

from distill.audio.finish import Finish
from distill.packs.origin import Origin
from distill.packs.sounds import MadeSound, SoundFile, finish_sound
from distill.storage import safe_stem
from distill.web.tray import KeptSound


def packed(sounds: Sequence[KeptSound], finish: Finish, bits: str, loop: bool) -> list[SoundFile]:
    """The sounds finished, numbered in their order, so that no two have one name; raises `AudioError`."""
    digits = len(str(len(sounds)))
    return [
        finish_sound(made_sound(kept, f"{number:0{digits}} {kept.name}"), finish, bits=bits, loop=loop)
        for number, kept in enumerate(sounds, start=1)
    ]


def made_sound(kept: KeptSound, name: str) -> MadeSound:
    """A kept sound under a name that is fit for a file; raises `AudioError`."""
    samples, rate = kept.read()
    origin = kept.origin or Origin("", "a sound that was dropped on the page")
    return MadeSound(safe_stem(name), samples, rate, origin, seamless=origin.way == "loop")
