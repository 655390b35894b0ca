"""distill: train a generative audio model on your own small collection of sounds.

The data flow, with shapes (legend in `distill.models`):

    audio files ─ decode, mono, resample ─▶ waveform ─ split by file, cut into chunks ─▶ [B,1,S] in [-1,1]
       ─ AudioSpectrogram (or before cutting) ─▶ mel [B,1,M,T]
       ─ encoder ─▶ [B,D,H,W] ─ residual quantizer ─▶ codes [B,H·W,Q]
       ─ decoder ─▶ mel [B,1,M,T] ─ its vocoder ─▶ waveform ─▶ audio file
    config ─▶ training engine ─▶ events ─▶ CLI · web · run folder      engine ─▶ checkpoint ─▶ .distill ─▶ library

Folders, lowest layer first; each imports only from those before it: `audio`, `data`, `library`, `packs` → `models` →
`training` → `web` → `cli`.
"""

import gc
from typing import Any

__version__ = "0.2.0"
__all__ = ["Codes", "load", "train", "train_prior", "write_wav"]


def __getattr__(name: str) -> Any:
    # On first use, because the API imports torch and `distill --help` must not wait for it.
    if name in __all__:
        collecting = gc.isenabled()
        gc.disable()  # imports leave no garbage, and looking for it among torch's objects takes as long as they do
        try:
            from distill import api
        finally:
            if collecting:
                gc.enable()
        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
