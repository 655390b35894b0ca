"""Models that turn mels into codes or latents and back, and the files that hold them.

Shapes: B batch, M mel bins, T frames, D codebook_dim, Q levels, K codebook_size, H × W the grid (16 × 16 mel
cells to a vector), N = H·W vectors.
"""

from typing import Any

_FROM_PERSISTENCE = (
    "MODEL_FILE_EXTENSION",
    "MODEL_FORMAT_MARKER",
    "SAVED_MODEL_VERSION",
    "SAVED_MODEL_VERSION_V2",
    "LoadedModel",
    "LoadedVQModel",
    "ModelMetadata",
    "delete_model",
    "load_model",
    "load_model_v2",
    "save_model",
    "save_model_from_checkpoint",
    "save_model_v2",
)

__all__ = list(_FROM_PERSISTENCE)


def __getattr__(name: str) -> Any:
    # Resolved on first use: persistence imports torch, and `distill.models.settings` must be importable without it.
    if name in _FROM_PERSISTENCE:
        from distill.models import persistence

        return getattr(persistence, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
