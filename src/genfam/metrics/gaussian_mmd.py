"""Squared maximum mean discrepancy with a Gaussian kernel; of CLIP features with the published settings, the CMMD.

References:
    S. Jayasumana et al. (2024). Rethinking FID: Towards a Better Evaluation Metric for Image Generation.
    https://arxiv.org/abs/2401.09603 (CMMD: CLIP features of length one, σ = 10, times 1,000)
    A. Gretton et al. (2012). A Kernel Two-Sample Test. JMLR 13, section 8 (σ: the median distance).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import refusal
from genfam.metrics.kernel import squared_mmd
from genfam.metrics.vendi import directions
from genfam.ranges import Several
from genfam.types import Estimate, Kind, Measurement

CLIP_WIDTH, SCALE = 10.0, 1000.0
PAIRS = 1000  # reference events, the first, whose median distance is the kernel's width


def gaussian_kernel(x: Tensor, y: Tensor, width: float) -> Tensor:
    """exp(−‖x − y‖² / 2σ²): (N, d), (M, d) float64 -> (N, M)."""
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1) - 2 * x @ y.T
    return squares.clamp_min_(0).mul_(-0.5 / width**2).exp_()


class GaussianMMD(Metric):
    """`gmmd_<extractor>`, or `cmmd` in CLIP's features: lower is better; unbiased, so about 0 for real data.

    Both are 1,000 times the squared discrepancy, as the CMMD is published. It has an upper bound of 2,000, but with a
    width of the median distance it is far from it, unless samples lie outside all data.
    """

    on_curve = True

    def __init__(self, most: Several = 10_000) -> None:
        """`most`: the first so many of either set enter; time grows with the product of their sizes."""
        self.most = most

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """One measurement; not applicable where features are not finite or most reference events are equal."""
        is_clip = evaluation.extractor.name == "clip"
        name = "cmmd" if is_clip else f"gmmd_{evaluation.extractor.name}"
        reason = refusal(evaluation)
        if reason:
            return [Measurement.not_applicable(name, reason, kind=Kind.DISTANCE)]
        x, y = (part[: self.most].double() for part in (evaluation.sample_features, evaluation.reference_features))
        if is_clip:
            x, y = directions(x), directions(y)
        centre = y.mean(dim=0)  # products of features far from the origin would leave little but rounding
        x, y = x - centre, y - centre
        width = CLIP_WIDTH if is_clip else float(torch.pdist(y[:PAIRS]).median())
        if not width > 0.0:
            return [Measurement.not_applicable(name, "most reference events are equal", kind=Kind.DISTANCE)]
        found = squared_mmd(x, y, partial(gaussian_kernel, width=width))
        errors = SCALE * (found.stderr or 0.0), SCALE * (found.draw_stderr or 0.0)
        estimate = Estimate(SCALE * found.value, errors[0], found.n, errors[1])
        kernel = "exp(-|x-y|^2/2s^2), " + (f"s={CLIP_WIDTH:g}, |x|=1" if is_clip else f"s=median of {PAIRS} reference")
        protocol = evaluation.protocol(kernel=f"{kernel}, unbiased, times {SCALE:g}", most=self.most)
        return [Measurement(name, "1", False, estimate, protocol, Kind.DISTANCE)]
