"""Validated settings: pydantic dataclasses that raise distill's own errors."""

import dataclasses
from typing import Any, Self

from pydantic import ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator

from distill.errors import ConfigError

VALIDATED = ConfigDict(extra="forbid", validate_assignment=True)
_MAX_LISTED = 20  # more come from no person, and each takes a thousand times the memory of its value


def _config_error(cls: type, error: ValidationError) -> ConfigError:
    if error.error_count() > _MAX_LISTED:
        return ConfigError(f"{error.error_count()} values of {cls.__name__} are invalid")
    reasons, remedy = [], ""
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"]) or "value"
        if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            reasons.append(f"{name} is not a setting of {cls.__name__}")
            remedy = f"the known ones are {', '.join(field.name for field in dataclasses.fields(cls))}"
        else:
            reasons.append(f"{name} is {short(item['input'])}: {plain(item['msg'])}")
    return ConfigError("; ".join(reasons), remedy)


_PLAIN = {  # of pydantic's messages
    "Value error, ": "",
    "Input should": "it should",
    "a valid integer": "a whole number",
    "a valid ": "a ",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    ", unable to parse string as an integer": "",
    ", unable to parse string as a number": "",
    ", got a number with a fractional part": "",
}


def plain(message: str) -> str:
    """A message of pydantic's without the terms of programmers."""
    for term, word in _PLAIN.items():
        message = message.replace(term, word)
    return message


def short(value: Any) -> str:
    """A form of `value` for messages, at most 80 characters long."""
    try:
        text = repr(value)
    except ValueError:  # an int with more digits than Python prints
        return "a huge number"
    return text if len(text) <= 80 else text[:77] + "..."


class Validated:
    """Mix-in for `@dataclass(config=VALIDATED)`: a bad value raises `ConfigError`, at creation and assignment."""

    @model_validator(mode="wrap")
    @classmethod
    def _raise_ours(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise _config_error(cls, error) from None
