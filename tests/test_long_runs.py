"""A run of very many epochs: it takes no more of the machine at its end than at its beginning."""

import gc
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from distill.data.collection import find_audio_files
from distill.training.loop import train_vqvae
from distill.training.metrics import VQEpochMetrics
from support.runs import small_config
from support.sounds import write_collection

pytestmark = pytest.mark.usefixtures("quick_runs")

PER_EPOCH = 8_000  # bytes: the events of an epoch are kept, with the health of each level


@pytest.mark.soak
@pytest.mark.parametrize("epochs", [10_000])
def test_memory_handles_and_threads_stay_as_they_are(
    epochs: int, tmp_path: Path, counted: Callable[[str, int], None]
) -> None:
    process, seen = psutil.Process(), []

    def callback(event: object) -> None:
        if isinstance(event, VQEpochMetrics) and (event.epoch + 1) % (epochs // 5) == 0:
            gc.collect()
            seen.append((process.memory_info().rss, process.num_fds(), process.num_threads()))

    sounds = find_audio_files(write_collection(tmp_path / "kit", 3))
    config = small_config(max_epochs=epochs, preview_interval=epochs, checkpoint_interval=epochs // 10)
    train_vqvae(config, sounds, tmp_path / "run", callback=callback)
    (first, *handles), *_, (last, *handles_at_the_end) = seen
    assert handles == handles_at_the_end
    assert last - first < PER_EPOCH * epochs, [rss for rss, *_ in seen]
    counted("epochs of one run", epochs)
