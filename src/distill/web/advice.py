"""What settings and figures mean, in words for somebody who has not read the paper."""

from typing import Any

from distill.training.config import LEVEL_NAMES
from distill.training.health import Verdict, verdict
from distill.training.metrics import CodebookHealth
from distill.training.request import TrainingRequest
from distill.training.run_info import RunInfo

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


def reasons(request: TrainingRequest, chosen: set[str]) -> list[str]:
    """Why the settings of a request are what they are; `chosen` are those that the user has decided."""
    config, files = request.config, len(request.file_paths)
    held_out = max(1, round(config.val_fraction * files))
    told = [
        config.why(files, request.seconds, chosen),
        f"{held_out} of the {files} sounds {'is' if held_out == 1 else 'are'} kept aside, to check the learning with "
        "sounds that were not learnt from.",
    ]
    if config.augment:
        told.append(
            "Sounds are varied in loudness, in speed and in where they are cut, so that few of them teach more."
        )
    return told


def with_verdicts(epoch: dict[str, Any], info: RunInfo) -> dict[str, Any]:
    """The entry of an epoch in a run's log, with the `verdicts` on its levels of codes, where it has any."""
    health = epoch.get("codebook_health")
    if not health:
        return epoch
    size = info.model_settings["codebook_size"]
    return epoch | {"verdicts": level_verdicts(health, size, info.validation_vectors or 0)}
