"""Modes covered, share of high-quality samples, reverse KL of mode frequencies.

The protocol is PacGAN's: a sample is of high quality if it lies on a mode (within 3σ of its centre, which is the
source's matter), a mode is covered if it has at least one high-quality sample, and the reverse KL compares the
high-quality samples' mode frequencies with p_data's. For images without known modes the classes of the extractor's
classifier are the modes, as with stacked MNIST.

References:
    Z. Lin, A. Khetan, G. Fanti & S. Oh (2018). PacGAN: The power of two samples in generative adversarial networks.
    https://arxiv.org/abs/1712.04086, section 4.1.
    A. Srivastava et al. (2017). VEEGAN. https://arxiv.org/abs/1705.07761 (stacked MNIST).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import plug_in_kl, share
from genfam.types import Estimate, Kind, KnownModes, Measurement

NAMES = {"modes_covered": "modes", "high_quality_share": "1", "mode_reverse_kl": "nats"}


def mode_counts(modes: Tensor, count: int) -> Tensor:
    """(N,) mode indices, −1 = off every mode -> (count,) int64 samples on each.

    Raises:
        ValueError: an index that is neither −1 nor in 0..count − 1.
    """
    if len(modes) and not (int(modes.min()) >= -1 and int(modes.max()) < count):
        raise ValueError(f"expected modes in -1..{count - 1}, got {int(modes.min())}..{int(modes.max())}")
    return torch.bincount(modes[modes >= 0], minlength=count)


def covered(counts: Tensor, n: int) -> Estimate:
    """Number of modes with at least one of n samples.

    The standard error is that of the multinomial bootstrap in closed form: with p̂ = counts / n, a mode is missed by a
    resample with probability (1 − p̂_k)^n, two together with (1 − p̂_j − p̂_k)^n. A mode that no sample reached has
    p̂ = 0, so the error says nothing about modes that more samples would find.

    Args:
        counts: (K,) samples on each mode.
        n: all samples, those off every mode included.
    """
    rare = counts[counts > 0].double() / n
    # Modes this frequent are in every resample (missed with probability < e^−40): spare K² work on them.
    rare = rare[rare * n < 40]
    missed = (1 - rare).pow(n)
    both = (1 - rare[:, None] - rare[None, :]).clamp_min(0).pow(n)
    covariance = both - torch.outer(missed, missed)
    covariance.diagonal().copy_(missed * (1 - missed))
    return Estimate(float((counts > 0).sum()), math.sqrt(max(float(covariance.sum()), 0.0)), n)


class Modes(Metric):
    """`modes_covered`, `high_quality_share` (higher is better) and `mode_reverse_kl` (lower is better).

    `mode_reverse_kl` is a plug-in estimate, too high by (K − 1) / 2N for perfect samples: see the oracle's value. A
    high-quality share above the oracle's means samples that are too concentrated.
    """

    on_curve = True

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Three measurements.

        Not applicable where neither the source knows its modes nor the extractor has classes; without known modes
        there is no share; no KL where no sample is on any mode.
        """
        data, extractor = evaluation.data, evaluation.extractor
        if isinstance(data, KnownModes):
            masses = data.mode_masses.double().cpu()
            assigned = data.assign(evaluation.samples).cpu()
            protocol = evaluation.protocol(features=False, modes=f"known:{len(masses)}")
            quality = Measurement("high_quality_share", "1", True, share(assigned >= 0), protocol, Kind.FIDELITY)
        elif extractor.n_classes > 0:
            bad = int((~torch.isfinite(evaluation.samples.double().flatten(1)).all(dim=1)).sum())
            if bad:
                reason = f"{bad} of {len(evaluation.samples)} samples are not finite"
                return self._refuse(reason)
            masses = self._class_masses(evaluation)
            assigned = evaluation.sample_classes
            protocol = evaluation.protocol(modes=f"classes:{len(masses)}")
            reason = "the modes are classes, and a classifier gives every sample one: none is off every mode"
            quality = Measurement.not_applicable("high_quality_share", reason, kind=Kind.FIDELITY)
        else:
            reason = f"{data.name} has no known modes and extractor {extractor.name} has no classes"
            return self._refuse(reason)
        counts = mode_counts(assigned, len(masses))
        reached = covered(counts, len(assigned))
        first = Measurement("modes_covered", "modes", True, reached, protocol, Kind.COVERAGE)
        return [first, quality, self._reverse_kl(counts, masses, protocol)]

    @staticmethod
    def _refuse(reason: str) -> list[Measurement]:
        return [
            Measurement.not_applicable(name, reason, unit, Kind.FIDELITY if unit == "1" else Kind.COVERAGE)
            for name, unit in NAMES.items()
        ]

    @staticmethod
    def _class_masses(evaluation: Evaluation) -> Tensor:
        """(K,) what the source states, else the reference's frequencies as classified."""
        stated = getattr(evaluation.data, "mode_masses", None)
        n_classes = evaluation.extractor.n_classes
        if stated is None:
            counts = mode_counts(evaluation.reference_classes, n_classes)
            return counts.double() / counts.sum()
        masses: Tensor = stated.double().cpu()
        if len(masses) != n_classes:
            raise ValueError(f"{evaluation.data.name}: expected mode_masses of {n_classes} classes, got {len(masses)}")
        return masses

    @staticmethod
    def _reverse_kl(counts: Tensor, masses: Tensor, protocol: dict[str, str]) -> Measurement:
        name, unit = "mode_reverse_kl", NAMES["mode_reverse_kl"]
        if not counts.any():
            return Measurement.not_applicable(name, "no sample lies on any mode", unit, Kind.COVERAGE)
        impossible = int(((counts > 0) & (masses <= 0)).sum())
        if impossible:
            reason = f"infinite: samples lie on {impossible} modes to which p_data gives no mass"
            return Measurement.not_applicable(name, reason, unit, Kind.COVERAGE)
        value, stderr = plug_in_kl(counts, masses)
        return Measurement(name, unit, False, Estimate(value, stderr, int(counts.sum())), protocol, Kind.COVERAGE)
