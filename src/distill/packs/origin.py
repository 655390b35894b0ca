"""Where a sound that was made comes from, as a file name and as a sentence."""

from dataclasses import dataclass, field

from distill.storage import safe_stem

_SENTENCES = {
    "new": "a new sound",
    "loop": "a new loop",
    "varied": "varied from {}",
    "extended": "{}, and how it could go on",
    "inpainted": "{} with a part made anew",
    "morph": "between {}",
    "edited": "{}, its codes edited by hand",
    "decoded": "played from the codes {}",
}


@dataclass(frozen=True)
class Origin:
    """What made a sound: a `model`, a `way` (new, varied, morph, …), from which `sources`, by how much, and a seed."""

    model: str
    way: str
    sources: tuple[str, ...] = ()
    amounts: dict[str, float] = field(default_factory=dict)
    seed: int | None = None
    model_id: str = ""

    @property
    def series(self) -> str:
        """The name of this sound but for its seed: a file name's stem."""
        amounts = "_".join(f"{name}{amount:g}" for name, amount in self.amounts.items())
        return safe_stem("_".join(part for part in (self.model, *self.sources, self.way, amounts) if part))

    @property
    def stem(self) -> str:
        """A file name's stem that says all of it."""
        return self.series if self.seed is None else f"{self.series}_seed{self.seed:03d}"

    @property
    def sentence(self) -> str:
        """All of it for people."""
        said = _SENTENCES.get(self.way, self.way).format(" and ".join(self.sources))
        details = [f"{name} {amount:g}" for name, amount in self.amounts.items()]
        details += [] if self.seed is None else [f"seed {self.seed}"]
        return f"{said} ({', '.join(details)})" if details else said
