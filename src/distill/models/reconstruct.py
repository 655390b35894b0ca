"""Reconstruction of sounds of any length: mel block by mel block, each with enough context to leave no seam."""

from collections.abc import Callable

import torch
from torch import Tensor

from distill.audio.spectrogram import AudioSpectrogram
from distill.models.blocks import STRIDE

_BLOCK = 128 * STRIDE  # frames: 22 s at 48 kHz
CONTEXT = 8 * STRIDE  # frames on either side; more than encoder and decoder see together (about 105)


@torch.no_grad()
def reconstruct_waveform(
    mel_to_mel: Callable[[Tensor], Tensor],
    spectrogram: AudioSpectrogram,
    waveform: Tensor,
    context: int = CONTEXT,
) -> Tensor:
    """Pass float `[S]` at the spectrogram's rate through `mel_to_mel` and back to sound: float `[S]`, equally long."""
    # The vocoder gets the mel as a whole: it has blocks of its own, which continue each other's phases.
    mel = reconstruct_mel(mel_to_mel, spectrogram, waveform, context)
    return spectrogram.mel_to_waveform(mel, length=len(waveform))[0, 0]


@torch.no_grad()
def reconstruct_mel(
    mel_to_mel: Callable[[Tensor], Tensor],
    spectrogram: AudioSpectrogram,
    waveform: Tensor,
    context: int = CONTEXT,
) -> Tensor:
    """Pass the mel of float `[S]` at the spectrogram's rate through `mel_to_mel`: float `[1, 1, M, T]`.

    `context` is the number of frames on either side of a block that the model sees with it.
    """
    frames = spectrogram.frames(len(waveform))
    made = []
    for start in range(0, frames, _BLOCK):
        first, stop = max(0, start - context), min(frames, start + _BLOCK + context)
        mel = spectrogram.mel_of_frames(waveform, first, stop)
        made.append(mel_to_mel(mel)[..., start - first : min(frames, start + _BLOCK) - first])
    return torch.cat(made, dim=-1)
