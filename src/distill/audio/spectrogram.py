"""The mel spectrogram that every model here reads and writes, from waveforms and back to them."""

import dataclasses

import torch
from torch import Tensor, nn

from distill.audio.mel import PADDING as PADDING
from distill.audio.mel import SILENCE as SILENCE
from distill.audio.mel import MelScale
from distill.audio.settings import DETAIL_RATIO
from distill.audio.settings import SpectrogramConfig as SpectrogramConfig
from distill.audio.stft import magnitudes, stft
from distill.audio.two_windows import TwoWindowSearch
from distill.audio.vocoder import PhaseSearch, Vocoder

_TINY = 1e-9  # -180 dB: inaudible, but not zero
_CACHED_SAMPLES = 200_000  # whose spectrum fits a processor's cache: more at once are twice as slow


def mark_end(waveform: Tensor) -> Tensor:
    """Make sure that the last sample of float `[..., S]` is not zero: then silence at its end is no padding."""
    last = waveform[..., -1:]
    return torch.cat([waveform[..., :-1], torch.where(last == 0, _TINY, last)], dim=-1)


def real_frames(mel: Tensor) -> Tensor:
    """Bool `[B, 1, 1, T]`: True for the frames of a mel `[B, 1, M, T]` that are sound, not padding."""
    return mel.amax(dim=2, keepdim=True) != PADDING  # nothing is below it


class AudioSpectrogram(nn.Module):
    """Converts waveforms `[B, 1, S]` in [-1, 1] to mels `[B, 1, M, T]`, T = 1 + S // hop, and back with its `vocoder`.

    M is `config.rows`. The vocoder is a `PhaseSearch`, or a `TwoWindowSearch` for mels with detail, unless another is
    given. The state dict holds nothing but the vocoder's own state.
    """

    window: Tensor
    detail_window: Tensor

    def __init__(self, config: SpectrogramConfig | None = None, vocoder: Vocoder | None = None) -> None:
        super().__init__()
        self.config = config or SpectrogramConfig()
        self.mel_scale = MelScale(self.config)
        self.detail_scale = None if self.config.detail is None else MelScale(self.config.detail)
        self.register_buffer("window", torch.hann_window(self.config.n_fft), persistent=False)
        self.register_buffer("detail_window", torch.hann_window(self.config.n_fft // DETAIL_RATIO), persistent=False)
        self.vocoder: Vocoder = self._phase_search() if vocoder is None else vocoder

    def _phase_search(self) -> Vocoder:
        if self.detail_scale is None:
            return PhaseSearch(self.mel_scale)
        return TwoWindowSearch(self.mel_scale, self.detail_scale)

    def frames(self, samples: int) -> int:
        """The number of mel frames of a waveform of `samples` samples."""
        return 1 + samples // self.config.hop_length

    @torch.no_grad()
    def waveform_to_mel(self, waveform: Tensor) -> Tensor:
        """Mel float32 `[B, 1, M, T]` of float `[B, 1, S]`; frames after the end of a waveform are `PADDING`."""
        sounds = waveform.squeeze(1).float()
        at_once = max(1, _CACHED_SAMPLES // sounds.shape[-1]) if sounds.device.type == "cpu" else len(sounds)
        return torch.cat([self._mel(some) for some in torch.split(sounds, at_once)]).unsqueeze(1)

    def mel_to_waveform(self, mel: Tensor, length: int | None = None) -> Tensor:
        """Sound float32 `[B, 1, S]` of mels `[B, 1, M, T]`; S is `length`, or (T - 1) · hop if None."""
        return self.vocoder(mel, length)

    def mel_of_frames(self, waveform: Tensor, first: int, stop: int) -> Tensor:
        """Frames [first, stop) of the mel of float `waveform` `[S]`, all of it sound: `[1, 1, M, stop - first]`."""
        hop = self.config.hop_length
        # The samples that the windows of these frames reach, so that they are the same as in the mel of the whole.
        reach = -(-self.config.n_fft // (2 * hop))
        begin = max(0, first - reach)
        end = min(len(waveform), (stop + reach) * hop)
        mel = self.waveform_to_mel(mark_end(waveform[begin * hop : end])[None, None])
        return mel[..., first - begin : stop - begin]

    def whole_mel(self, waveform: Tensor) -> Tensor:
        """The mel of float `waveform` `[S]` of any length, all of it sound: float32 `[1, 1, M, T]`."""
        frames, step = self.frames(len(waveform)), -(-_CACHED_SAMPLES // self.config.hop_length)
        starts = range(0, frames, step)
        return torch.cat([self.mel_of_frames(waveform, at, min(frames, at + step)) for at in starts], dim=-1)

    def louder(self, mel: Tensor, gain: Tensor) -> Tensor:
        """Mels float `[..., T, M]` of the same sounds `gain` times as loud; silence and padding stay as they are."""
        if self.detail_scale is None:
            return self.mel_scale.louder(mel, gain)
        bands, detail = mel[..., : self.config.n_mels], mel[..., self.config.n_mels :]
        return torch.cat([self.mel_scale.louder(bands, gain), self.detail_scale.louder(detail, gain)], dim=-1)

    def decibels(self, mel: Tensor) -> Tensor:
        """The bands of mels `[..., M, T]` as values linear in decibels, for the eye: float `[..., n_mels, T]`."""
        if self.config.power is None:
            return mel
        bands = mel[..., : self.config.n_mels, :]
        plain = MelScale(dataclasses.replace(self.config, power=None, detail_mels=0)).to(mel.device)
        return plain.values(self.mel_scale.magnitudes(bands)).masked_fill(bands == PADDING, PADDING)

    def _mel(self, sounds: Tensor) -> Tensor:
        """Mel `[B, M, T]` of float `[B, S]`."""
        magnitude = magnitudes(stft(sounds, self.window, self.config.hop_length))
        mel = self.mel_scale.values(self.mel_scale.band_magnitudes(magnitude))
        if self.detail_scale is not None:
            mel = torch.cat([mel, self._detail(self.detail_scale, sounds, mel.shape[-1])], dim=1)
        return mel.masked_fill(self._after_end(sounds), PADDING)

    def _detail(self, scale: MelScale, sounds: Tensor, frames: int) -> Tensor:
        """The rows of detail `[B, 4 · bands, T]` of float `[B, S]`, moment after moment."""
        # To the end of the last frame: three moments more than the sound itself has.
        padded = nn.functional.pad(sounds, (0, frames * self.config.hop_length - 1 - sounds.shape[-1]))
        magnitude = magnitudes(stft(padded, self.detail_window, scale.config.hop_length))
        detail = scale.values(scale.band_magnitudes(magnitude))
        return detail.reshape(*detail.shape[:2], frames, DETAIL_RATIO).movedim(-1, 1).flatten(1, 2)

    def _after_end(self, sounds: Tensor) -> Tensor:
        """Bool `[B, 1, T]`: True for frames centred after the last sample that is not zero."""
        position = torch.arange(1, sounds.shape[-1] + 1, device=sounds.device, dtype=torch.int32)
        length = ((sounds != 0) * position).amax(dim=-1)[:, None, None]
        frame = torch.arange(self.frames(sounds.shape[-1]), device=sounds.device)
        return (frame * self.config.hop_length > length) | (length == 0)
