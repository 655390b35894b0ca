"""What settings and figures mean, in words for somebody who has not read the paper."""

import math
from typing import Any

from distill.training.config import LEVEL_NAMES, VECTORS_PER_SECOND, VQVAEConfig
from distill.training.health import Verdict, verdict
from distill.training.metrics import CodebookHealth
from distill.training.request import RunPlan

LEVELS = {
    2: "Two levels: the fewest codes for a second of sound. Broad strokes, quick to learn, easy to look through.",
    3: "Three levels: a good balance of detail and simplicity.",
    4: "Four levels: the most detail. Each level adds codes, and needs sounds to learn them from.",
}

_ENOUGH = 3  # vectors for each code; with fewer, idle codes are to be expected

_COLOURS: dict[Verdict, str] = {"healthy": "green", "underused": "amber", "collapsed": "red"}


def level_verdicts(health: CodebookHealth, codebook_size: int, vectors: int) -> list[dict[str, str]]:
    """For each level a `word`, its traffic-light `colour`, and `advice`."""
    found = []
    for number, level in enumerate(health.values()):
        word = verdict(level, codebook_size, vectors)
        advice = _advice(word, LEVEL_NAMES[number])
        if word == "healthy" and vectors < _ENOUGH * codebook_size:
            advice = f"Only {vectors} places of sound were counted, too few to use every code; so far all is well."
        found.append({"word": word, "colour": _COLOURS[word], "advice": advice})
    return found


def _advice(word: Verdict, name: str) -> str:
    return {
        "healthy": f"{name} uses its codes well; there is nothing to do.",
        "underused": f"Most codes of {name} lie idle. More different sounds would use them; fewer levels or a smaller "
        "codebook would do with less.",
        "collapsed": f"Nearly everything in {name} has become one code, so this level says nothing. Start again with a "
        "smaller codebook or a lower learning rate.",
    }[word]


def kilobits(config: VQVAEConfig) -> float:
    """How many kbit/s the codes of such a model take."""
    return config.num_quantizers * math.log2(config.codebook_size) * VECTORS_PER_SECOND / 1000


def reasons(plan: RunPlan, chosen: set[str]) -> list[str]:
    """Why the settings of a plan are what they are; `chosen` are those that the user has decided."""
    said = [_codes(plan.config, plan.seconds, chosen)] if isinstance(plan.config, VQVAEConfig) else [_latent(plan)]
    held_out = max(1, round(plan.config.val_fraction * len(plan.file_paths)))
    said.append(
        f"{held_out} of the {len(plan.file_paths)} sounds {'is' if held_out == 1 else 'are'} kept aside, to check the "
        "learning with sounds that were not learnt from."
    )
    if plan.config.augment:
        said.append(
            "Sounds are varied in loudness, in speed and in where they are cut, so that few of them teach more."
        )
    return said


def _codes(config: VQVAEConfig, seconds: float, chosen: set[str]) -> str:
    codes = f"{config.num_quantizers} levels of {config.codebook_size} codes, about {kilobits(config):.1f} kbit/s"
    if chosen & {"num_quantizers", "codebook_size"}:
        return f"{codes}: partly chosen by you."
    vectors = seconds * VECTORS_PER_SECOND / config.codebook_size
    return f"{codes}: {_duration(seconds)} of sound give each code about {vectors:.0f} examples to be learnt from. " + (
        "With more sound the codebooks would be larger." if config.codebook_size < 600 else "That is plenty."
    )


def _latent(plan: RunPlan) -> str:
    return (
        f"{getattr(plan.config, 'latent_dim', '?')} numbers describe a sound; the settings are those for "
        f"{len(plan.file_paths)} files."
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def with_verdicts(epoch: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """The entry of an epoch of an RVQ-VAE in a run's log, with the `verdicts` on its levels."""
    health = epoch.get("codebook_health") or {}
    size = facts["model_settings"]["codebook_size"]
    return epoch | {"verdicts": level_verdicts(health, size, facts.get("validation_vectors", 0))}
