"""The training step as the original plan describes it, written the plain way: what "times as fast" is measured against.

    bench/reference_step.py [--device cpu|cuda] [--batch 32] [--steps 20] [--codebook-size 256] [--threads N]

One step: 1 s waveforms at 48 kHz to a log mel (128 bands), four stride-2 convolutions up to 256 channels with batch
norm, a 1x1 projection to 128, three levels of `vector_quantize_pytorch.ResidualVQ`, the mirror image back, a
three-scale MSE plus 0.25 x commitment, backward, gradient clipping, AdamW. `speed.py` times it in turn with ours, which
is how it should be used: on its own it prints a time that drifts with the machine.
"""

import argparse
import itertools
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vector_quantize_pytorch import ResidualVQ

from speed_turns import settling

RATE = 48_000
_N_FFT, _HOP, _BANDS = 2048, 512, 128
_WIDTHS = (1, 32, 64, 128, 256)
_WARM_UP = 5  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--codebook-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    step, settle, times = ReferenceStep(device, args.batch, args.codebook_size), settling(device), []
    for _ in range(args.steps + _WARM_UP):
        settle()
        begun = time.perf_counter()
        step()
        settle()
        times.append(time.perf_counter() - begun)
    median = statistics.median(times[_WARM_UP:])
    rate = f"{args.batch / median:.0f} audio seconds per second"
    print(f"reference step  {median * 1e3:.1f} ms  {rate}  ({device}, batch {args.batch})")


def noise(batch: int, device: torch.device, batches: int = 2) -> list[Tensor]:
    """Batches of waveforms `[B, 1, S]` of 1 s, drawn beforehand: drawing them is no part of a step."""
    return [torch.randn(batch, 1, RATE, device=device) * 0.1 for _ in range(batches)]


class ReferenceStep:
    """A model and its optimizer; every call is one training step on noise, and returns its loss."""

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
        """One step."""
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


if __name__ == "__main__":
    main()
