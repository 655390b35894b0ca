"""Where a sound of a model comes from, as a value that a page can keep: the same source is always the same sound."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Seed = Annotated[int, Field(ge=0, lt=2**32)]
_MAX_LIKE = 64  # sounds that one is to be like


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InUse(_Source):
    """A sound that was dropped, made or kept on the page, by its id; only kept ones are never forgotten."""

    kind: Literal["sound"]
    sound: str
    name: str = ""  # for the page


class Seeded(_Source):
    """A new sound."""

    kind: Literal["seed"]
    seed: Seed


class OfCollection(_Source):
    """One of the sounds of the collection that the model keeps the codes of."""

    kind: Literal["collection"]
    number: Annotated[int, Field(ge=0)]


class Between(_Source):
    """A sound on the way from one to another."""

    kind: Literal["between"]
    first: "Source"
    second: "Source"
    share: Annotated[float, Field(ge=0, le=1)]


class Like(_Source):
    """A new sound that is like some others."""

    kind: Literal["like"]
    sounds: Annotated[tuple["Source", ...], Field(min_length=1, max_length=_MAX_LIKE)]
    seed: Seed


Source = Annotated[InUse | Seeded | OfCollection | Between | Like, Field(discriminator="kind")]
