"""Views of a run: plain lines for a log, lines of JSON, and the summary; `live.py` has the view for a terminal."""

import dataclasses
import shlex
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.markup import escape

from distill.cli.console import duration, err, out, plural, print_json
from distill.cli.messages import COMMAND_LINE
from distill.cli.tables import level_table
from distill.errors import CheckpointError
from distill.families import family_of_event
from distill.library.header import read_header
from distill.notices import Notice
from distill.training.health import verdict
from distill.training.metrics import (
    USUALLY_COPIED,
    CodebookHealth,
    EpochEvent,
    Event,
    PreviewEvent,
    event_to_dict,
)
from distill.training.run_folder import RunFolder
from distill.training.run_info import RunInfo

if TYPE_CHECKING:
    from distill.training.request import TrainingRequest

_SHOWN_SETTINGS = {
    "codebook_size": "codebook size",
    "num_quantizers": "levels",
    "codebook_dim": "codebook dim",
    "max_epochs": "epochs",
    "minutes": "minutes",
    "learning_rate": "learning rate",
    "batch_size": "batch size",
    "commitment_weight": "commitment",
    "latent_dim": "latent dimensions",
    "kl_weight_max": "KL weight",
    "seed": "seed",
}


class View(ABC):
    """A view of a run for the train command; a context manager around the training."""

    def __init__(self, request: "TrainingRequest") -> None:
        self.request = request
        self.warnings: dict[tuple[Any, ...], str] = {}  # the subject of each warning → its latest text
        self.epoch = 0  # the one being trained, counted from 1, as people do
        self.state = ""  # the latest remark on the state of the model

    def info(self) -> RunInfo | None:
        """The record in the run's folder, or None before there is one."""
        try:
            return RunFolder(self.request.output_dir).read_info()
        except CheckpointError:
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def event(self, event: Event) -> None:
        """Show an event."""
        self.epoch = getattr(event, "epoch", self.epoch - 1) + 1  # unchanged by an event that belongs to no epoch

    def warning(self, notice: Notice) -> None:
        """Keep a warning; a later one on the same subject takes its place."""
        message = notice.worded(COMMAND_LINE)
        self.warnings[notice.subject] = f"{message} (epoch {self.epoch})" if self.epoch else message

    @abstractmethod
    def say(self, message: str) -> None:
        """Show a message while the run goes on."""

    def status(self, notice: Notice) -> None:
        """Keep a remark on the state of the model; each replaces the one before."""
        self.state = notice.worded(COMMAND_LINE)

    def interrupted(self) -> None:
        """Say that the run was stopped and how to go on with it."""
        if self.info() is None:
            err.print("stopped before training began; nothing is lost, start it again with the same command")
            return
        folder = shlex.quote(str(self.request.output_dir))  # so that the line can be pasted into a shell
        err.print(f"stopped; a checkpoint is saved. Go on with:\n  distill train --resume {folder}", markup=False)

    @abstractmethod
    def summary(self, result: dict[str, Any]) -> None:
        """Show the outcome of the finished run."""


def settings_lines(view: View) -> list[str]:
    """The settings of a run, each marked (auto) or (override)."""
    config, info = view.request.config, view.info()
    values = {name: getattr(config, name, None) for name in _SHOWN_SETTINGS}
    # With a time budget, the configured maximum of epochs says nothing; the run's record has the planned number.
    unplanned = None if config.minutes else config.max_epochs
    values["max_epochs"] = info.total_epochs if info else unplanned
    return [
        f"{label} {values[name]} ({'override' if name in view.request.chosen else 'auto'})"
        for name, label in _SHOWN_SETTINGS.items()
        if values[name] is not None
    ]


class JsonView(View):
    """A view of one JSON object per line: every event, every warning, and a summary."""

    def event(self, event: Event) -> None:
        """Print the event."""
        super().event(event)
        print_json(event_to_dict(event))

    def warning(self, notice: Notice) -> None:
        """Print the warning."""
        super().warning(notice)
        print_json({"event": "Warning", "message": notice.worded(COMMAND_LINE), **notice.to_dict()})

    def say(self, message: str) -> None:
        """Print the message."""
        print_json({"event": "Notice", "message": message})

    def status(self, notice: Notice) -> None:
        """Print the remark."""
        print_json({"event": "Notice", "message": notice.worded(COMMAND_LINE), **notice.to_dict()})

    def interrupted(self) -> None:
        """Print where the run can be resumed."""
        print_json({"event": "Interrupted", "resume": str(self.request.output_dir) if self.info() else None})

    def summary(self, result: dict[str, Any]) -> None:
        """Print the run's facts and outcome."""
        print_json({"event": "Summary", **outcome(self, result)})


def outcome(view: View, result: dict[str, Any]) -> dict[str, Any]:
    """The outcome of a run as plain values."""
    history = result["metrics_history"]
    best = history.epoch_metrics[history.get_best_epoch()]
    info, folder = view.info(), RunFolder(view.request.output_dir)
    return {
        "model_path": info.model_path if info else None,
        "run_folder": str(folder.path),
        "picture": str(folder.picture_path),
        "previews": str(folder.previews),
        "epochs": len(history.epoch_metrics),
        "best_epoch": best.epoch,
        "train_loss": best.train_loss,
        "val_loss": best.val_loss,
        "overfitting_gap": best.overfitting_gap,
        "codebook_health": result.get("final_codebook_health"),
        "kl_divergence": getattr(best, "kl_divergence", None),
        "directions": [c["name"] for c in (result.get("analysis") or {}).get("components", []) if "name" in c],
        "validation_vectors": (info.validation_vectors if info else None) or 0,
        "settings": dataclasses.asdict(view.request.config) | {"max_epochs": info.total_epochs if info else None},
        "sample_rate": view.request.spectrogram_config.sample_rate,
        "overridden": sorted(view.request.chosen),
        "warnings": list(view.warnings.values()),
        "elapsed_seconds": history.epoch_metrics[-1].elapsed_seconds,
    }


class TextView(View):
    """Base class of the views for people, with the summary that they share."""

    def _codes(self) -> int:
        """The codebook size; 0 for a family without codes."""
        return int(getattr(self.request.config, "codebook_size", 0))

    def summary(self, result: dict[str, Any]) -> None:
        """Print losses, levels, settings, warnings and the paths of all results."""
        end = outcome(self, result)
        out.print(
            f"\n[bold]{escape(self.request.model_name)}[/]: "
            f"{plural(end['epochs'], 'epoch')} in {duration(end['elapsed_seconds'])}; "
            f"kept epoch {end['best_epoch'] + 1}: validation loss {end['val_loss']:.4f}, "
            f"training loss {end['train_loss']:.4f}"
        )
        if end["codebook_health"]:
            out.print(level_table(end["codebook_health"], self._codes(), end["validation_vectors"]))
        if end["directions"]:
            out.print(f"directions to move sounds in: {', '.join(end['directions'])}")
        out.print("settings: " + ", ".join(settings_lines(self)), markup=False)
        for warning in end["warnings"]:
            out.print(f"warning met: {warning}", style="yellow", markup=False)
        for label in ("model", "previews", "picture", "run folder"):
            path = end[{"model": "model_path", "run folder": "run_folder"}.get(label, label)]
            out.print(f"{label + ':':<12}{path}", markup=False)
        if end["model_path"]:
            self._next_steps(Path(end["model_path"]))

    def _next_steps(self, model: Path) -> None:
        """Say what can be done with the model, in lines that can be pasted into a shell."""
        for remark in read_header(model).remarks:
            out.print(f"note: {remark.worded(COMMAND_LINE)}", style="yellow", markup=False)
        name, sound = shlex.quote(str(model)), shlex.quote(str(self.request.file_paths[0]))
        out.print("what next:")
        out.print(f"  hear a sound of yours through it: distill reconstruct {name} {sound} -o heard/", markup=False)
        if self.request.family.generates:
            out.print(f"  make new sounds: distill generate {name} -n 8 -o new/", markup=False)
        out.print("  do both in a browser: distill web")


def part_title(event: Event) -> str:
    """The title of the part of a model that is being trained, with a colon; empty where it is the model itself."""
    family = family_of_event(event)
    return f"{family.title}: " if family and family.part_of else ""


def copied_text(event: EpochEvent) -> str:
    """How near to copies the new sounds of a prior are; empty for other events, and where nobody has looked."""
    copied = getattr(event, "copied", None)
    return "" if copied is None else f"near copies {copied:.0%} (usual: up to {USUALLY_COPIED:.0%})"


class PlainView(TextView):
    """A view of plain lines for a log: one per epoch, and each warning when it is new."""

    _previewed = -1  # the last epoch whose previews have been announced

    def __enter__(self) -> Self:
        out.print(f"training {self.request.model_name} on {len(self.request.file_paths)} files", markup=False)
        out.print("settings: " + ", ".join(settings_lines(self)), markup=False)
        out.print(f"run folder: {self.request.output_dir}", markup=False)
        return self

    def event(self, event: Event) -> None:
        """Print a line for an epoch or a preview."""
        super().event(event)
        if isinstance(event, EpochEvent):
            out.print(self._epoch_line(event), markup=False)
        elif isinstance(event, PreviewEvent) and event.epoch != self._previewed:  # there is an event for each file
            self._previewed = event.epoch
            out.print(f"epoch {event.epoch + 1}: previews in {Path(event.audio_path).parent}", markup=False)

    def _epoch_line(self, event: EpochEvent) -> str:
        health = getattr(event, "codebook_health", None)
        parts = self._levels(health) if health else [self.state] if self.state else self._losses(event)
        return (
            f"{part_title(event)}epoch {event.epoch + 1}/{event.total_epochs} train {event.train_loss:.4f} validation "
            f"{event.val_loss:.4f} | {' | '.join(parts)} | {duration(event.eta_seconds)} left"
        )

    def _losses(self, event: EpochEvent) -> list[str]:
        family = family_of_event(event) or self.request.family
        losses = [f"{loss.label} {getattr(event, loss.field):.4f}" for loss in family.losses]
        return losses + [text for text in (copied_text(event),) if text]

    def _levels(self, health: CodebookHealth) -> list[str]:
        info = self.info()
        vectors = (info.validation_vectors if info else None) or 0
        return [
            f"L{number} {level['utilization']:.0%} perplexity {level['perplexity']:.1f} dead {level['dead_codes']:.0f} "
            f"{verdict(level, self._codes(), vectors)}"
            for number, level in enumerate(health.values())
        ]

    def warning(self, notice: Notice) -> None:
        """Print a warning the first time its subject comes up."""
        if notice.subject not in self.warnings:
            out.print(f"warning: {notice.worded(COMMAND_LINE)}", markup=False)
        super().warning(notice)

    def say(self, message: str) -> None:
        """Print the message."""
        out.print(message, markup=False)
