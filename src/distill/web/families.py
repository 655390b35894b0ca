"""The registry of model families as JSON for the page, which knows no family by name."""

import dataclasses
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticKnownError

from distill.families import Family, all_families


def family_list() -> list[dict[str, Any]]:
    """The JSON of the families that can be trained, the default one first."""
    return [_as_json(family) for family in all_families()]


def default_family() -> str:
    """The name of the family that is trained if none is asked for."""
    return next(iter(all_families())).name


def _as_json(family: Family) -> dict[str, Any]:
    panel = family.panel
    return {
        "name": family.name,
        "title": family.title,
        "summary": family.summary,
        "settings": [field.name for field in dataclasses.fields(family.config)],
        "losses": [dataclasses.asdict(loss) for loss in family.losses],
        # Pairs, because an object does not promise an order.
        "panel": panel and {"title": panel.title, "text": panel.text, "figures": list(panel.figures.items())},
        "has_codes": family.has_codes,
        "generates": family.generates,
        "parts": list(family.file.parts),
    }


def _registered(name: str) -> str:
    names = [family.name for family in all_families()]
    if name not in names:
        raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, names))})
    return name


FamilyName = Annotated[str, AfterValidator(_registered)]  # in the body of a request
