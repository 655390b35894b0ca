"""The reference for "times as fast": a training step as the original plan describes it, in plain PyTorch.

One step: 1 s waveforms at 48 kHz to a log mel (128 bands), four stride-2 convolutions up to 256 channels with batch
norm, a 1x1 projection to 128, three levels of `vector_quantize_pytorch.ResidualVQ`, a mirrored decoder, a three-scale
MSE plus 0.25 x commitment, backward, gradient clipping, AdamW.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vector_quantize_pytorch import ResidualVQ

RATE = 48_000
_N_FFT, _HOP, _BANDS = 2048, 512, 128
_WIDTHS = (1, 32, 64, 128, 256)


def noise(batch: int, device: torch.device, batches: int = 2) -> list[Tensor]:
    """Batches of 1 s waveforms `[B, 1, S]`, generated beforehand so that a step does not include it."""
    return [torch.randn(batch, 1, RATE, device=device) * 0.1 for _ in range(batches)]


class ReferenceStep:
    """A model and its optimizer; a call takes one training step on noise and returns its loss."""

    def __init__(self, device: torch.device, batch: int, codebook_size: int) -> None:
        torch.manual_seed(0)
        self.filters = torch.rand(_BANDS, _N_FFT // 2 + 1, device=device) / _N_FFT
        self.window = torch.hann_window(_N_FFT, device=device)
        self.encoder = nn.Sequential(
            *[m for i in range(4) for m in _block(nn.Conv2d(_WIDTHS[i], _WIDTHS[i + 1], 3, 2, 1), _WIDTHS[i + 1])],
            nn.Conv2d(256, 128, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(128, 256, 1),
            *[
                m
                for i in (4, 3, 2)
                for m in _block(nn.ConvTranspose2d(_WIDTHS[i], _WIDTHS[i - 1], 3, 2, 1, 1), _WIDTHS[i - 1])
            ],
            nn.ConvTranspose2d(32, 1, 3, 2, 1, 1),
            nn.Softplus(),
        )
        self.quantizer = ResidualVQ(
            dim=128, codebook_size=codebook_size, num_quantizers=3, decay=0.95, commitment_weight=1.0,
            threshold_ema_dead_code=2, kmeans_init=True, kmeans_iters=10,
        )  # fmt: skip
        self.model = nn.ModuleList([self.encoder, self.quantizer, self.decoder]).to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.batches = itertools.cycle(noise(batch, device))

    def __call__(self) -> float:
        """Take one step."""
        target = self._mel(next(self.batches))
        height, width = target.shape[-2:]
        z = self.encoder(F.pad(target, (0, -width % 16, 0, -height % 16)))
        b, d, h, w = z.shape
        q, _, commitment = self.quantizer(z.permute(0, 2, 3, 1).reshape(b, h * w, d))
        out = self.decoder(q.reshape(b, h, w, d).permute(0, 3, 1, 2))[..., :height, :width]
        scales = [F.mse_loss(F.avg_pool2d(out, s), F.avg_pool2d(target, s)) for s in (1, 2, 4)]
        loss: Tensor = sum(scales) / 3 + 0.25 * commitment.sum()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()

    def _mel(self, x: Tensor) -> Tensor:
        power = torch.stft(x.squeeze(1), _N_FFT, _HOP, window=self.window, return_complex=True).abs().pow(2)
        return torch.log1p(self.filters @ power).unsqueeze(1)


def _block(conv: nn.Module, channels: int) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Dropout2d(0.1)]
