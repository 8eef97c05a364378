"""A multi-scale flow of affine coupling layers: a bijection for images.

Pixels are gathered into channels, some steps of flow follow, half the channels are done, and the rest goes on at half
the resolution. A step mixes the channels and then shifts and scales half of them by what a small convolutional network
makes of the others.

References:
    Dinh, L., Sohl-Dickstein, J. & Bengio, S. 2017. Density estimation using Real NVP. https://arxiv.org/abs/1605.08803
        (equations 7 and 8, the coupling layer; section 3.6, the multi-scale architecture)
    Kingma, D. P. & Dhariwal, P. 2018. Glow: generative flow with invertible 1 × 1 convolutions.
        https://arxiv.org/abs/1807.03039 (equations 9 and 10: the mixing of channels, by its LU decomposition)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfam.networks.base import Shape
from genfam.networks.bijections import Bijection, InvertibleNetwork
from genfam.networks.convolutional import ResidualBlock, patched
from genfam.networks.embeddings import Codes
from genfam.ranges import Count, CountOrNone

LARGEST_LOG_SCALE = 2.0  # of one coupling layer


class Mixing(nn.Module):
    """An invertible 1 × 1 convolution W = L U P: a fixed permutation first, triangular factors that are learnt.

    Args:
        channels: at least 1.
        seed: of the permutation, which is architecture.
    """

    order: Tensor

    def __init__(self, channels: int, seed: int) -> None:
        super().__init__()
        order = torch.randperm(channels, generator=torch.Generator().manual_seed(seed), device="cpu")
        self.register_buffer("order", order.to(torch.get_default_device()))
        self.lower = nn.Parameter(torch.zeros(channels, channels))
        self.upper = nn.Parameter(torch.zeros(channels, channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def _factors(self) -> tuple[Tensor, Tensor]:
        one = torch.eye(len(self.shift), dtype=self.lower.dtype, device=self.lower.device)
        return self.lower.tril(-1) + one, self.upper.triu(1) + self.log_scale.exp().diag()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> (B, C, H, W), and log |det| of one event, a scalar."""
        lower, upper = self._factors()
        with torch.autocast(x.device.type, enabled=False):  # of what is inverted nothing may be rounded away
            weight = (lower @ upper)[:, self.order]
            z = F.conv2d(x, weight[:, :, None, None], self.shift)
        return z, self.log_scale.sum() * (x.shape[2] * x.shape[3])

    def inverse(self, z: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        lower, upper = self._factors()
        flat: Tensor = (z - self.shift[:, None, None]).flatten(2)
        flat = torch.linalg.solve_triangular(lower, flat, upper=False, unitriangular=True)
        flat = torch.linalg.solve_triangular(upper, flat, upper=True)
        return flat[:, self.order].view_as(z)


class Conditioner(nn.Module):
    """What the kept channels say of the others: a small convolutional network, zero at first.

    Args:
        inputs, outputs: channels.
        size: (H, W).
        width: channels within.
        hidden: units of a fully connected layer over all positions; 0 = none.
        classes: values of the condition, whose code is added at every position; 0 = none.
    """

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(inputs, width, 3, padding=1)
        self.codes = Codes(classes, width) if classes else None
        self.block = ResidualBlock(width, "silu")
        self.dense: nn.Module | None = None
        if hidden:
            flat = width * size[0] * size[1]
            last = nn.Linear(hidden, flat)
            nn.init.zeros_(last.weight)  # begins as the identity
            self.dense = nn.Sequential(nn.SiLU(), nn.Flatten(), nn.Linear(flat, hidden), nn.SiLU(), last)
        self.exit = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)  # type: ignore[arg-type]  # Conv2d's bias is typed as optional

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        h = self.enter(x)
        if self.codes is not None:
            h = h + self.codes(condition)[:, :, None, None]
        h = self.block(h)
        if self.dense is not None:
            h = h + self.dense(h).view_as(h)
        out: Tensor = self.exit(F.silu(h))
        return out


class Step(nn.Module):
    """Mixing, then an affine coupling (Real NVP, equations 7 and 8) whose log-scales are bounded.

    Args:
        channels: at least 2.
        size, width, hidden, classes: see `Conditioner`.
        seed: see `Mixing`.
    """

    def __init__(self, channels: int, size: tuple[int, int], width: int, hidden: int, classes: int, seed: int) -> None:
        super().__init__()
        self.kept = channels // 2
        self.mixing = Mixing(channels, seed)
        self.conditioner = Conditioner(self.kept, 2 * (channels - self.kept), size, width, hidden, classes)

    def _shift_and_log_scale(self, kept: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        shift, raw = self.conditioner(kept, condition).to(kept.dtype).chunk(2, dim=1)
        return shift, LARGEST_LOG_SCALE * torch.tanh(raw / LARGEST_LOG_SCALE)

    def forward(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> (B, C, H, W), (B,)."""
        x, log_volume = self.mixing(x)
        kept, changed = x[:, : self.kept], x[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(kept, condition)
        changed = changed * torch.exp(log_scale) + shift
        return torch.cat([kept, changed], dim=1), log_volume + log_scale.flatten(1).sum(dim=1)

    def inverse(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        kept, changed = z[:, : self.kept], z[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(kept, condition)
        changed = (changed - shift) * torch.exp(-log_scale)
        out: Tensor = self.mixing.inverse(torch.cat([kept, changed], dim=1))
        return out


class MultiScaleFlow(Bijection):
    """Images to noise, scale by scale.

    Args:
        shape: (C, H, W).
        patch: pixels per side that are gathered into the channels of the first scale; 2 at each later one.
        scales: at most; fewer where an image cannot be halved as often.
        steps: of flow at each scale.
        width: channels of the networks at the first scale, twice as many at each later one.
        hidden: units of a fully connected layer at the last scale; 0 = none.
        classes: values of the condition; 0 = none.
    """

    def __init__(
        self, shape: Shape, patch: int, scales: int, steps: int, width: int, hidden: int, classes: int
    ) -> None:
        super().__init__()
        size = patched((shape[1], shape[2]), patch)
        channels = shape[0] * patch**2
        while scales > 1 and (size[0] % 2 ** (scales - 1) or size[1] % 2 ** (scales - 1)):
            scales -= 1
        gathers, stages = [patch] + [2] * (scales - 1), []
        for scale in range(scales):
            dense = hidden if scale == scales - 1 else 0
            stages.append(
                nn.ModuleList(
                    Step(channels, size, width * 2**scale, dense, classes, scale * steps + index)
                    for index in range(steps)
                )
            )
            size, channels = (size[0] // 2, size[1] // 2), 4 * (channels - channels // 2)
        self.stages = nn.ModuleList(stages)
        self.gather = nn.ModuleList(nn.PixelUnshuffle(factor) for factor in gathers)
        self.spread = nn.ModuleList(nn.PixelShuffle(factor) for factor in gathers)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `Bijection.forward`; the channels that are done first come first."""
        h, log_volume, done = x, torch.zeros(len(x), dtype=x.dtype, device=x.device), []
        for scale, stage in enumerate(self.stages):
            h = self.gather[scale](h)
            assert isinstance(stage, nn.ModuleList)
            for step in stage:
                h, more = step(h, condition)
                log_volume = log_volume + more
            if scale < len(self.stages) - 1:
                half = h.shape[1] // 2
                done.append(h[:, :half].flatten(1))
                h = h[:, half:]
        return torch.cat([*done, h.flatten(1)], dim=1).view_as(x), log_volume

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `Bijection.inverse`."""
        rest, parts, (channels, height, width) = z.flatten(1), [], z.shape[1:]
        for scale, gather in enumerate(self.gather):
            assert isinstance(gather, nn.PixelUnshuffle)
            factor = gather.downscale_factor
            channels, height, width = channels * factor**2, height // factor, width // factor
            half = channels // 2 if scale < len(self.stages) - 1 else 0
            parts.append(rest[:, : half * height * width].unflatten(1, (half, height, width)))
            rest, channels = rest[:, half * height * width :], channels - half
        h: Tensor = rest.unflatten(1, (channels, height, width))
        for scale in reversed(range(len(self.stages))):
            h = torch.cat([parts[scale], h], dim=1)
            stage = self.stages[scale]
            assert isinstance(stage, nn.ModuleList)
            for step in reversed(stage):
                assert isinstance(step, Step)
                h = step.inverse(h, condition)
            h = self.spread[scale](h)
        return h


class MultiScale(InvertibleNetwork):
    """A multi-scale flow, for images of at least 4 × 4.

    Args:
        patch, scales, steps, hidden: see `MultiScaleFlow`.
    """

    def __init__(self, patch: Count = 2, scales: Count = 2, steps: Count = 4, hidden: CountOrNone = 0) -> None:
        self.patch, self.scales, self.steps, self.hidden = patch, scales, steps, hidden

    def bijection(self, shape: Shape, width: int, classes: int = 0) -> Bijection:
        """See `InvertibleNetwork.bijection`.

        Raises:
            ValueError: no images, or a single channel of unpatched pixels, which has no half.
        """
        if len(shape) != 3 or min(shape[1:]) < 4 or math.prod((shape[0], self.patch, self.patch)) < 2:
            raise ValueError(
                "network: expected images of at least 4 × 4 pixels, in patches if they have one channel, for a "
                f"MultiScale, got events of {shape} and patch={self.patch}"
            )
        return MultiScaleFlow(shape, self.patch, self.scales, self.steps, width, self.hidden, classes)
