"""Values as strict JSON, which has no NaN and no infinities. Imports no torch."""

import math
from typing import Any

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_json(value: Any) -> Any:
    """A form of `value` for strict JSON: NaN and infinities, which JSON lacks, become their names."""
    if isinstance(value, float) and not math.isfinite(value):
        return next(name for name, number in _NON_FINITE.items() if str(number) == str(value))
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, list | tuple) else value


def from_json(value: Any) -> Any:
    """The inverse of `to_json`."""
    if isinstance(value, dict):
        return {key: from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value
