"""Modes: planted collapse, PacGAN's counts, known KL values, errors against the bootstrap."""

import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from genfam.metrics.base import Extractor
from genfam.metrics.estimators import plug_in_kl
from genfam.metrics.modes import Modes, covered, mode_counts
from genfam.types import Event, Kind, KnownModes, Status


@dataclass
class Line:
    """Modes at 0, 1, 2, ...; on a mode within 0.3 of it."""

    name: str = "line"
    event: Event = field(default_factory=lambda: Event((1,)))
    mode_masses: Tensor = field(default_factory=lambda: torch.full((4,), 0.25))

    def assign(self, x):
        nearest = x[:, 0].round().long()
        on = ((x[:, 0] - nearest).abs() < 0.3) & (nearest >= 0) & (nearest < len(self.mode_masses))
        return torch.where(on, nearest, -1)


class Parity(Extractor):
    """Two classes: even and odd."""

    name, n_classes, fingerprint = "parity", 2, "parity"

    def features(self, x):
        return x.flatten(1).double()

    def classify(self, x):
        return x[:, 0].long() % 2


def points(*values):
    return torch.tensor(values)[:, None]


def test_planted_collapse(evaluate, by_name):
    assert isinstance(Line(), KnownModes)
    samples = points(*[0.0] * 60, *[1.1] * 20, *[2.5] * 20)  # one mode heavy, one light, a fifth of the samples off
    found = by_name(Modes(), evaluate(samples, samples, data=Line()))
    assert found["modes_covered"].estimate.value == 2
    assert found["high_quality_share"].estimate.value == pytest.approx(0.8)
    assert found["high_quality_share"].estimate.stderr == pytest.approx(math.sqrt(0.8 * 0.2 / 100), rel=0.05)
    expected = 0.75 * math.log(0.75 / 0.25) + 0.25 * math.log(0.25 / 0.25)
    assert found["mode_reverse_kl"].estimate.value == pytest.approx(expected)
    assert found["mode_reverse_kl"].estimate.n == 80
    assert [m.unit for m in found.values()] == ["modes", "1", "nats"]
    assert [m.kind for m in found.values()] == [Kind.COVERAGE, Kind.FIDELITY, Kind.COVERAGE]


def test_collapse_onto_one_of_k_equal_modes_is_log_k(evaluate, by_name):
    found = by_name(Modes(), evaluate(points(*[3.0] * 50), points(0.0), data=Line()))
    assert found["mode_reverse_kl"].estimate.value == pytest.approx(math.log(4))
    assert found["modes_covered"].estimate.value == 1


def test_one_high_quality_sample_covers_a_mode(evaluate, by_name):
    samples = points(*[0.0] * 997, 1.0, 2.0, 3.0)
    found = by_name(Modes(), evaluate(samples, samples, data=Line()))["modes_covered"].estimate
    assert found.value == 4
    # Each rare mode is in a resample with probability 1 − e^−1, almost independently.
    assert found.stderr == pytest.approx(math.sqrt(3 * math.exp(-1) * (1 - math.exp(-1))), rel=0.2)


def test_error_of_modes_covered_is_the_bootstraps():
    counts, n = torch.tensor([400, 90, 5, 2, 1, 1, 0]), 520
    rng = np.random.default_rng(0)
    draws = rng.multinomial(n, [*(counts / n).double().tolist(), 1 - float(counts.sum()) / n], size=20_000)
    spread = float(np.std((draws[:, :-1] > 0).sum(axis=1)))
    assert covered(counts, n).stderr == pytest.approx(spread, rel=0.03)


def test_nothing_on_any_mode(evaluate, by_name):
    found = by_name(Modes(), evaluate(points(0.5, 1.5, math.nan), points(0.0), data=Line()))
    assert found["modes_covered"].estimate.value == 0
    assert found["high_quality_share"].estimate.value == 0
    assert found["high_quality_share"].estimate.stderr > 0
    assert found["mode_reverse_kl"].status is Status.NOT_APPLICABLE
    assert "no sample" in found["mode_reverse_kl"].reason


def test_a_mode_without_mass_makes_the_kl_infinite(evaluate, by_name):
    data = Line(mode_masses=torch.tensor([0.5, 0.5, 0.0, 0.0]))
    found = by_name(Modes(), evaluate(points(0.0, 2.0), points(0.0), data=data))["mode_reverse_kl"]
    assert found.status is Status.NOT_APPLICABLE
    assert "infinite" in found.reason


def test_plug_in_kl_bias_and_error_by_simulation():
    masses = torch.tensor([0.5, 0.3, 0.2]).double()
    model = [0.2, 0.3, 0.5]
    truth = sum(q * math.log(q / float(p)) for q, p in zip(model, masses, strict=True))
    rng = np.random.default_rng(1)
    found = [plug_in_kl(torch.from_numpy(rng.multinomial(500, model)), masses) for _ in range(400)]
    values = np.array([value for value, _ in found])
    assert np.mean([stderr for _, stderr in found]) == pytest.approx(values.std(), rel=0.12)
    assert values.mean() - truth == pytest.approx(0, abs=4 * values.std() / 20)
    perfect = [plug_in_kl(torch.from_numpy(rng.multinomial(500, masses)), masses)[0] for _ in range(2000)]
    assert np.mean(perfect) == pytest.approx((3 - 1) / (2 * 500), rel=0.1)


def test_classes_stand_in_for_unknown_modes(evaluate, by_name):
    samples, reference = points(0.0, 1.0, 3.0, 5.0), points(0.0, 0.0, 0.0, 1.0)
    found = by_name(Modes(), evaluate(samples, reference, extractor=Parity()))
    assert found["modes_covered"].estimate.value == 2
    expected = 0.25 * math.log(0.25 / 0.75) + 0.75 * math.log(0.75 / 0.25)
    assert found["mode_reverse_kl"].estimate.value == pytest.approx(expected)
    assert found["high_quality_share"].status is Status.NOT_APPLICABLE
    assert "classif" in found["high_quality_share"].reason


def test_masses_that_the_source_states_go_first(evaluate, by_name):
    data = SimpleNamespace(name="stated", event=Event((1,)), mode_masses=torch.tensor([0.5, 0.5]))
    samples, reference = points(0.0, 1.0), points(0.0, 0.0)
    found = by_name(Modes(), evaluate(samples, reference, data=data, extractor=Parity()))
    assert found["mode_reverse_kl"].estimate.value == pytest.approx(0)
    data.mode_masses = torch.tensor([0.5, 0.25, 0.25])
    with pytest.raises(ValueError, match="2 classes, got 3"):
        Modes().measure(evaluate(samples, reference, data=data, extractor=Parity()))


def test_neither_modes_nor_classes(evaluate):
    found = Modes().measure(evaluate(points(0.0), points(0.0)))
    assert len(found) == 3
    assert all(m.status is Status.NOT_APPLICABLE and "no classes" in m.reason for m in found)


def test_modes_out_of_range():
    with pytest.raises(ValueError, match=r"-1\.\.2"):
        mode_counts(torch.tensor([0, 3]), 3)
