"""The public interface of Python stands beside this test: what changes in it is a decision, and is in the changelog."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import distill
from distill import errors
from distill.models.loaded import LoadedFamily

PINNED = Path(__file__).with_suffix(".txt")


def signature(function: object) -> str:
    """The arguments of a function, without types, which every version of Python writes in its own way."""
    found = inspect.signature(function)  # type: ignore[arg-type]
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in found.parameters.values()]
    return str(inspect.Signature(bare))


def members(name: str, cls: type) -> Iterator[str]:
    """What a class has that is not private, a line each."""
    if "__dataclass_fields__" in vars(cls):
        yield f"{name}{signature(cls)}"
    for key, value in sorted(vars(cls).items()):
        if key.startswith("_"):
            continue
        inner = getattr(value, "__func__", value)
        yield f"{name}.{key}{signature(inner)}" if callable(inner) else f"{name}.{key}"


def public() -> Iterator[str]:
    """Every name that others may rely on, with its arguments."""
    for name in sorted(distill.__all__):
        value = getattr(distill, name)
        yield from (
            members(f"distill.{name}", value) if isinstance(value, type) else [f"distill.{name}{signature(value)}"]
        )
    yield from members("model", LoadedFamily)
    for name, value in sorted(vars(errors).items()):
        if isinstance(value, type) and issubclass(value, errors.DistillError):
            yield f"distill.errors.{name} < {value.__base__.__name__}"


def test_the_public_interface_is_the_pinned_one() -> None:
    # A name or an argument that others use goes only as CONTRIBUTING.md says; then the file is written anew from this.
    assert "\n".join(public()) + "\n" == PINNED.read_text(encoding="utf-8")


def test_there_is_one_version() -> None:
    root = PINNED.parent.parent
    assert f"\n## {distill.__version__}" in (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {distill.__version__}\n" in (root / "CITATION.cff").read_text(encoding="utf-8")
