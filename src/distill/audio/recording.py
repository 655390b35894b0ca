"""A decoded sound file."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Recording:
    """A decoded file: `samples` float32 `[frames, channels]` at `sample_rate` Hz, as the file has them."""

    samples: Samples
    sample_rate: int
    format: str
    declared_frames: int

    @property
    def truncated(self) -> bool:
        """Whether the header promised at least 0.1 s more than could be decoded."""
        return self.declared_frames - len(self.samples) > 0.1 * self.sample_rate

    def mono(self, sample_rate: int) -> Samples:
        """Float32 `[frames]` at `sample_rate` Hz: the mean of the channels, scaled down if it exceeds ±1."""
        mixed = self.samples.mean(axis=1, dtype=np.float32)
        resampled = np.asarray(soxr.resample(mixed, self.sample_rate, sample_rate), dtype=np.float32)
        resampled = resampled if len(resampled) else mixed[:1]  # a few frames at a high rate: keep one
        peak = float(np.abs(resampled).max(initial=0.0))
        return resampled / np.float32(peak) if peak > 1 else resampled
