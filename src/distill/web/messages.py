"""What goes wrong, said to somebody who sees a page and not a command line."""

import re
from typing import Any

_PAGE_WORDS = [
    (r"; raise it with --limit (?:hours|gib)=\S+", "; cut it into shorter files"),
    (r"; raise it with --limit channels=\S+", "; save it with fewer channels, as stereo or mono"),
    (r"; (?:raise|lower) it with --limit m(?:ax|in)_hz=\S+", "; save it with a usual rate, as 44100 or 48000 Hz"),
    (r"a lower --learning-rate", "a lower learning rate"),
    (r"with `distill inspect`", "on the page of the collection"),
    (r" without --resume\b", ""),
    (r"by --resume\b", "by Resume"),
]

_FIELDS = {
    "path": "the folder",
    "name": "the name",
    "excluded": "the list of sounds to leave out",
    "family": "the family",
    "settings": "the list of settings",
    "collection": "the collection",
    "undo": "the key to undo",
    "which": "the picture",
    "share": "the share of the second sound",
    "start": "the first epoch",
    "levels": "the number of levels",
    "seed": "the seed",
    "seconds": "the length in seconds",
}

_WRONG = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_too_short": "is empty",
    "string_too_long": "is too long: at most {max_length} characters",
    "string_pattern_mismatch": "has characters that cannot be shown",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt:.15g}",
    "greater_than_equal": "must be at least {ge:.15g}",
    "less_than": "must be less than {lt:.15g}",
    "less_than_equal": "must be at most {le:.15g}",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be a list of settings",
}


def in_page_words(sentence: str) -> str:
    """`sentence` with what can be done on the page in place of options of the command line."""
    for pattern, words in _PAGE_WORDS:
        sentence = re.sub(pattern, words, sentence)
    return sentence


def what_is_wrong(error: dict[str, Any]) -> str:
    """A sentence for one of pydantic's errors on a request."""
    names = [part for part in error["loc"][1:] if isinstance(part, str)]
    if error["type"] == "json_invalid" or not names:
        return "this request cannot be read"
    field = _FIELDS.get(names[0], names[0].replace("_", " "))
    return f"{field} {_WRONG.get(error['type'], 'is not what it can be').format(**error.get('ctx', {}))}"
