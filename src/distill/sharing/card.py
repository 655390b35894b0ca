"""The card of a shared model: what it was trained on, how well, under which licence, and how to use it."""

import json

from distill.families import find_family
from distill.library.header import Header
from distill.training.config import LEVEL_NAMES

PICTURE = "training.png"
_LICENCES = {  # that the hub knows by these names; of any other it shows the text
    *("cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
    *("cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "mit", "apache-2.0", "unlicense"),
}


def card(header: Header, repository: str) -> str:
    """The card of a model in `repository`, as Markdown with a YAML head."""
    parts = [_head(header), _about(header), _figures(header), _licence(header), _use(header, repository)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(header: Header) -> str:
    about = header.metadata
    licence = about.licence.lower()
    known = {"license": licence} if licence in _LICENCES else {"license": "other", "license_name": about.licence}
    fields = {
        **(known if licence else {}),
        "library_name": "distill",
        "tags": ["audio", "distill", header.model_type, *about.tags],
    }
    # JSON is YAML, and no text in it can end a line.
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in fields.items()), "---"])


def _about(header: Header) -> str:
    about, family = header.metadata, find_family(header.model_type)
    kind = family.title if family else header.model_type
    by = f" by {_line(about.author)}" if about.author else ""
    sounds = f"{about.file_count} sounds, {about.duration_s:.0f} seconds in all"
    makes = "It makes new sounds of their kind" if header.generates else "It plays any sound as if made of them"
    return (
        f"# {_line(about.name)}\n\nA small model of sound{by} ({kind}), trained with distill on {sounds}. {makes}, "
        f"mono at {header.sample_rate} Hz.\n\n![How its training went]({PICTURE})"
    )


def _figures(header: Header) -> str:
    about = header.metadata
    rows = [f"| epochs | {about.epochs}, of which number {about.kept_epoch} was kept |"]
    if about.val_loss is not None:
        rows.append(f"| loss on the sounds set aside | {about.val_loss:.4f} |")
    for level, health in enumerate((header.health or {}).values()):
        used = f"{health['utilization']:.0%} of {header.settings['codebook_size']}"
        rows.append(f"| codes used, level {level} ({LEVEL_NAMES[level]}) | {used} |")
    return "\n".join(["| | |", "|---|---|", *rows])


def _licence(header: Header) -> str:
    licence = header.metadata.licence
    said = f"The sounds it was trained on are under {_line(licence)}." if licence else "Nothing is said of its sounds."
    kept = " The file holds the codes of some of them, which the model can play." if header.generates else ""
    return f"## Licence of the sounds\n\n{said}{kept}"


def _use(header: Header, repository: str) -> str:
    name = json.dumps(_line(header.metadata.name), ensure_ascii=False)
    first = f"generate {name} -n 8" if header.generates else f"reconstruct {name} kick.wav"
    return (
        f"## Use\n\n```sh\npip install 'distill-audio[hub]'\ndistill pull {repository}\ndistill {first} -o sounds/\n```"
    )


def _line(text: str) -> str:
    """The text as one line that starts nothing of Markdown's or HTML's."""
    return " ".join(text.split()).replace("<", "&lt;").replace("[", "\\[").replace("`", "'")
