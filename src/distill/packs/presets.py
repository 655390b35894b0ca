"""The presets of samplers: SFZ, DecentSampler, and the multisample of Bitwig and others; and a text for people."""

import io
import zipfile
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from distill import __version__
from distill.packs.keys import Zone
from distill.packs.sounds import SoundFile

ARCHIVE_DATE = (1980, 1, 1, 0, 0, 0)  # of all members, so that the same pack is the same to the byte

_RELEASE_S = 0.3  # of a sound that is held as long as its key
_WHOLE_S = 60.0  # longer than any one-shot: it plays to its end, however short the key is held


def sfz(zones: Sequence[Zone]) -> str:
    """An SFZ instrument (sfzformat.com)."""
    return "\n".join(["// made with distill", *map(_region, zones), ""])


def _region(zone: Zone) -> str:
    sound, lines = zone.sound, [f"sample={zone.sound.file}", f"lokey={zone.low}", f"hikey={zone.high}"]
    lines += [f"pitch_keycenter={zone.root}", f"tune={round(zone.cents)}"]
    if sound.loop:
        # SFZ's last sample is played.
        mode = f"loop_mode=loop_continuous loop_start={sound.loop.start} loop_end={sound.loop.stop - 1}"
    else:
        mode = "loop_mode=one_shot" if zone.one_shot else "loop_mode=no_loop"
    return "\n".join(["", "<region>", *lines, mode, f"ampeg_release={_RELEASE_S}"])


def dspreset(zones: Sequence[Zone]) -> bytes:
    """A DecentSampler preset."""
    root = ET.Element("DecentSampler", minVersion="1.0.0")
    groups = ET.SubElement(root, "groups")
    group = ET.SubElement(groups, "group")
    for zone in zones:
        sound = zone.sound
        plays_whole = zone.one_shot and not sound.loop
        about = {
            "path": sound.file, "rootNote": str(zone.root), "loNote": str(zone.low), "hiNote": str(zone.high),
            "tuning": f"{zone.cents / 100:.4f}", "attack": "0", "release": f"{_WHOLE_S if plays_whole else _RELEASE_S}",
        }  # fmt: skip
        if sound.loop:
            about |= {"loopEnabled": "true", "loopStart": str(sound.loop.start), "loopEnd": str(sound.loop.stop - 1)}
        ET.SubElement(group, "sample", about)
    return _xml(root)


def multisample(name: str, zones: Sequence[Zone]) -> bytes:
    """A multisample: an archive of the sounds and their map."""
    root = ET.Element("multisample", name=name)
    for tag, text in (("generator", "distill"), ("category", ""), ("creator", ""), ("description", "")):
        ET.SubElement(root, tag).text = text
    ET.SubElement(root, "keywords")
    for zone in zones:
        _multisample_zone(root, zone)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # samplers read it in place
        archive.writestr(zipfile.ZipInfo("multisample.xml", ARCHIVE_DATE), _xml(root))
        for zone in zones:
            archive.writestr(zipfile.ZipInfo(zone.sound.file, ARCHIVE_DATE), zone.sound.wav)
    return buffer.getvalue()


def _multisample_zone(root: ET.Element, zone: Zone) -> None:
    sound = zone.sound
    sample = ET.SubElement(
        root, "sample",
        {"file": sound.file, "gain": "0.00", "sample-start": "0.000", "sample-stop": f"{sound.frames:.3f}",
         "zone-logic": "always-play"},
    )  # fmt: skip
    ET.SubElement(
        sample, "key",
        {"root": str(zone.root), "low": str(zone.low), "high": str(zone.high), "low-fade": "0", "high-fade": "0",
         "track": "0.0000" if zone.one_shot else "1.0000", "tune": f"{zone.cents / 100:.4f}"},
    )  # fmt: skip
    ET.SubElement(sample, "velocity", {"low": "0", "high": "127", "low-fade": "0", "high-fade": "0"})
    start, stop = (sound.loop.start, sound.loop.stop) if sound.loop else (0, sound.frames)
    mode = "loop" if sound.loop else "off"
    ET.SubElement(sample, "loop", {"mode": mode, "start": f"{start:.3f}", "stop": f"{stop:.3f}", "fade": "0.0000"})


def text(name: str, sounds: Sequence[SoundFile]) -> str:
    """What a pack says of itself to people: where each sound comes from."""
    models = dict.fromkeys((sound.origin.model, sound.origin.model_id) for sound in sounds)
    lines = [name, "", f"Made with distill {__version__} by:"]
    lines += [f"  {model}{f' (model {key})' if key else ''}" for model, key in models]
    lines += ["", *(f"{sound.file}: {_described(sound)}" for sound in sounds), ""]
    return "\n".join(lines)


def _described(sound: SoundFile) -> str:
    about = f"{sound.origin.sentence}; {sound.seconds:.2f} s"
    about += "" if sound.key is None else f", {_key_name(sound.key)}"
    return about + ("" if sound.loop is None else f", loops from {sound.loop.start} to {sound.loop.stop}")


def _key_name(key: float) -> str:
    nearest = round(key)
    names = ("C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B")
    return f"{names[nearest % 12]} {nearest // 12 - 1} {100 * (key - nearest):+.0f} cents"


def _xml(root: ET.Element) -> bytes:
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return content
