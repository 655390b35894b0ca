"""Explanations of settings and figures for people who have not read the paper."""

from collections.abc import Collection

from distill.training.config import LEVEL_NAMES
from distill.training.health import Verdict, verdict
from distill.training.metrics import CodebookHealth
from distill.training.request import TrainingRequest

LEVELS = {
    2: "Two levels: the fewest codes for a second of sound. Broad strokes, quick to learn, easy to look through.",
    3: "Three levels: a good balance of detail and simplicity.",
    4: "Four levels: the most detail. Each level adds codes, and needs sounds to learn them from.",
}

_ENOUGH = 3  # vectors per code; with fewer, idle codes are to be expected

_COLOURS: dict[Verdict, str] = {"healthy": "green", "underused": "amber", "collapsed": "red"}


def level_verdicts(
    health: CodebookHealth | None, codebook_size: int | None, vectors: int
) -> list[dict[str, str]] | None:
    """A `word` for each level, its traffic-light `colour`, and `advice`; None where there are no codes to judge."""
    if health is None or codebook_size is None:
        return None
    found = []
    for number, level in enumerate(health.values()):
        word = verdict(level, codebook_size, vectors)
        advice = _advice(word, LEVEL_NAMES[number] if number < len(LEVEL_NAMES) else f"Level {number + 1}")
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


def reasons(request: TrainingRequest, chosen: Collection[str]) -> list[str]:
    """The reasons for the settings of a request, a sentence each; `chosen` are those that the user has changed."""
    files = len(request.file_paths)
    held_out = max(1, round(request.config.val_fraction * files))
    sentences = [
        request.config.why(files, request.seconds, chosen, request.spectrogram_config.frame_rate),
        f"{held_out} of the {files} sounds {'is' if held_out == 1 else 'are'} kept aside, to check the learning on "
        "sounds that were not learnt from.",
        f"The model is {request.rate_remark}: what is stereo is mixed, and other rates are converted.",
    ]
    if request.config.augment:
        sentences.append(
            "Sounds are varied in loudness, in speed and in where they are cut, so that a few of them teach more."
        )
    return sentences
