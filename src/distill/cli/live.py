"""The view of a run on a terminal: progress, losses and the state of the model, redrawn in place."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distill.cli.console import duration, out, plural
from distill.cli.tables import level_table
from distill.cli.views import TextView, copied_text, part_title
from distill.paths import printable
from distill.training.metrics import EpochEvent, Event, PreviewEvent, StepEvent, TrainingCompleteEvent

if TYPE_CHECKING:
    from distill.training.request import TrainingRequest

_WARNINGS_SHOWN = 6


class LiveView(TextView):
    """A view with progress, losses and one row per level, redrawn in place; warnings stay below."""

    def __init__(self, request: "TrainingRequest") -> None:
        super().__init__(request)
        self._step: StepEvent | None = None
        self._epoch: EpochEvent | None = None
        self._copied = ""  # the latest remark on how near to copies new sounds are
        self._vectors = 0
        self._part = ""
        self._remark, self._notice = "looking at the sounds", ""
        self._live = Live(console=out, refresh_per_second=8, get_renderable=self._draw)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def event(self, event: Event) -> None:
        """Update the view."""
        super().event(event)
        if isinstance(event, StepEvent):
            if type(event) is not type(self._step):  # a part of the model, whose epochs are counted anew
                self._epoch, self._part = None, part_title(event)
            self._step = event
            if event.step:  # a remark from between two epochs stays for the first step
                self._remark = ""
        elif isinstance(event, EpochEvent):
            self._epoch, self._copied = event, copied_text(event) or self._copied
            if not self._vectors:  # looked up once: the number is in the run's record, which is on disk
                info = self.info()
                self._vectors = (info.validation_vectors if info else None) or 0
        elif isinstance(event, PreviewEvent):
            self._remark = f"previews in {Path(event.audio_path).parent}"
        elif isinstance(event, TrainingCompleteEvent):
            self._remark = self._notice = ""

    def say(self, message: str) -> None:
        """Keep the message on the screen."""
        self._notice = message

    def _draw(self) -> RenderableType:
        parts: list[RenderableType] = [self._headline(), self._progress()]
        health = getattr(self._epoch, "codebook_health", None)
        if health:
            parts.append(level_table(health, self._codes(), self._vectors))
        if self.state:
            parts.append(_wrapped(self.state))
        parts += [_wrapped(f"! {text}", "yellow") for text in list(self.warnings.values())[-_WARNINGS_SHOWN:]]
        parts += [_wrapped(text, "dim") for text in (self._remark, self._notice) if text]
        return Group(*parts)

    def _headline(self) -> Text:
        config, files = self.request.config, plural(len(self.request.file_paths), "file")
        source = "override" if config.size_setting in self.request.chosen else "auto"
        what = f"  {files}, {config.headline()} "
        return Text.assemble((printable(self.request.model_name), "bold"), what, (f"({source})", "dim"))

    def _progress(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        step, epoch = self._step, self._epoch
        if step is None:
            return grid
        total = epoch.total_epochs if epoch else self.request.config.max_epochs
        # With a time budget, the number of epochs is planned only after the first of them has been timed.
        settled = epoch is not None or (self.request.config.minutes is None and not self._part)
        grid.add_row(
            f"{self._part}epoch {step.epoch + 1}/{total if settled else '?'}",
            ProgressBar(total=total, completed=step.epoch + (step.step + 1) / step.total_steps, width=30),
            f"{duration(epoch.eta_seconds)} left" if epoch else "",
        )
        grid.add_row(
            f"step {step.step + 1}/{step.total_steps}",
            ProgressBar(total=step.total_steps, completed=step.step + 1, width=30),
            f"loss {step.train_loss:.4f}" if math.isfinite(step.train_loss) else "loss not finite: step skipped",
        )
        if epoch:
            losses = f"train {epoch.train_loss:.4f}  validation {epoch.val_loss:.4f}"
            grid.add_row("losses", losses, f"gap {epoch.overfitting_gap:+.0%}")
        if self._copied:
            grid.add_row("new sounds", self._copied, "")
        return grid


def _wrapped(text: str, style: str = "") -> Text:
    """A text that goes on in the next line, where the console itself would let the live display cut it off."""
    return Text(printable(text), style, no_wrap=False, overflow="fold")
