"""The command line's words for remedies, which name its options and commands."""

import logging

from distill.errors import (
    CutRecordings,
    FindSounds,
    GeneratingFamily,
    ListModels,
    LowerLearningRate,
    NewRun,
    RaiseLimit,
    ResumeRun,
    TrainPrior,
    UsedFolder,
    Vocabulary,
)
from distill.notices import Notice
from distill.paths import printable_lines

COMMAND_LINE: Vocabulary = {
    RaiseLimit: lambda it: f"{'lower' if it.name.startswith('min_') else 'raise'} it with --limit {it.name}={it.value}",
    LowerLearningRate: lambda _: "try a lower --learning-rate, and look for odd files with `distill inspect`",
    ResumeRun: lambda it: f"{it.first}{', and ' if it.first else ''}continue the run with --resume",
    FindSounds: lambda _: "give the folder they are in now with --sounds, put them back, or start a new run",
    NewRun: lambda it: f"{it.otherwise}{', or ' if it.otherwise else ''}start a new run without --resume",
    UsedFolder: lambda _: "continue that run with --resume, or give another folder",
    GeneratingFamily: lambda it: (
        f"`distill reconstruct` plays sounds through it; a model trained with --model {it.families} makes new ones"
    ),
    TrainPrior: lambda _: "`distill train --prior-only MODEL FOLDER` adds one, from the sounds that it was trained on",
    CutRecordings: lambda _: (
        "--cut silence makes several sounds of a long recording, and --cut 2 makes them 2 seconds long"
    ),
    ListModels: lambda _: "`distill models list` shows which models there are",
}


class NoticeFormatter(logging.Formatter):
    """Formats notices in the command line's words, and other records as usual."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as text that is safe to print."""
        text = record.msg.worded(COMMAND_LINE) if isinstance(record.msg, Notice) else super().format(record)
        return printable_lines(text)
