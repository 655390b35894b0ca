"""A run in TensorBoard, which `pip install 'distill-audio[tensorboard]'` brings.

python examples/tensorboard_callback.py FOLDER, and beside it: tensorboard --logdir tensorboard
"""

import sys
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

import distill
from distill.training.metrics import EpochEvent, Event, event_to_dict


class ToTensorBoard:
    """Writes every figure of every epoch, of any family, to a folder."""

    def __init__(self, folder: Path) -> None:
        self.writer = SummaryWriter(str(folder))

    def __call__(self, event: Event) -> None:
        """Write an event, if it is that of an epoch."""
        if not isinstance(event, EpochEvent):
            return
        fields = event_to_dict(event)
        for level, health in (fields.pop("codebook_health", None) or {}).items():
            fields |= {f"{level}/{name}": value for name, value in health.items()}
        for name, value in fields.items():
            if isinstance(value, int | float):
                self.writer.add_scalar(name, value, event.epoch)
        self.writer.flush()


if __name__ == "__main__":
    distill.train(sys.argv[1], callback=ToTensorBoard(Path("tensorboard")))
