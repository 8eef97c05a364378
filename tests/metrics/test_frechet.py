"""Fréchet distance: closed forms, independent implementations, degenerate features, honest errors."""

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch

from genfam.metrics.extractors import Identity
from genfam.metrics.frechet import Frechet, FrechetToTraining, Moments, draw_error, frechet, frechet_distance
from genfam.types import Event, Kind, Status


def test_moments_are_mean_and_covariance(normal):
    x = normal(50, 4) * 3 + 1e4
    moments = Moments.of(x)
    torch.testing.assert_close(moments.mean, x.mean(dim=0))
    torch.testing.assert_close(moments.covariance, torch.cov(x.T))


def test_taking_a_group_away_equals_a_second_pass(normal):
    x = normal(53, 4)
    moments = Moments.of(x)
    rest = moments.without(Moments.of(x[3::10], moments.shift))
    kept = x[[i for i in range(53) if i % 10 != 3]]
    torch.testing.assert_close(rest.mean, kept.mean(dim=0))
    torch.testing.assert_close(rest.covariance, torch.cov(kept.T))


def test_closed_form_of_commuting_gaussians():
    # Same eigenvectors: |μ1 − μ2|² + Σ (√a − √b)².
    q, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    a, b = torch.tensor([1.0, 4, 9, 16, 25]).double(), torch.tensor([4.0, 4, 1, 0, 36]).double()
    mean = torch.tensor([1.0, -2, 0, 0, 2]).double()
    got = frechet_distance(mean, q @ a.diag() @ q.T, torch.zeros(5), q @ b.diag() @ q.T)
    assert got == pytest.approx(9 + 1 + 0 + 4 + 16 + 1, rel=1e-9)


@pytest.mark.parametrize("d", [1, 8, 64])
def test_agrees_with_scipy_and_torch_fidelity(normal, d):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    x, y = normal(300, d, 1) @ normal(d, d, 2), 0.5 + normal(200, d, 3) @ normal(d, d, 4)
    s1, s2 = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    root = np.atleast_2d(scipy.linalg.sqrtm(s1 @ s2)).real
    expected = float((x.mean(0) - y.mean(0)).square().sum()) + np.trace(s1 + s2 - 2 * root)
    assert frechet(x, y)[0] == pytest.approx(expected, rel=1e-6)
    if d > 1:
        stats = [fid_features_to_statistics(z) for z in (x, y)]
        theirs = fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
        assert frechet(x, y)[0] == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("d", [2, 16, 64])
def test_agrees_with_pytorch_fid(normal, d):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that its imports and scipy have deprecated
        from pytorch_fid.fid_score import calculate_frechet_distance

        x, y = normal(400, d, 5) @ normal(d, d, 6), 0.3 + normal(500, d, 7) @ normal(d, d, 8)
        theirs = calculate_frechet_distance(x.mean(0).numpy(), np.cov(x.T), y.mean(0).numpy(), np.cov(y.T))
    assert frechet(x, y)[0] == pytest.approx(theirs, rel=1e-6)


def test_symmetric_and_zero_on_itself(normal):
    x, y = normal(100, 6, 1), normal(90, 6, 2) * 2
    assert frechet(x, y)[0] == pytest.approx(frechet(y, x)[0], rel=1e-9)
    assert frechet(x, x)[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("case", ["fewer_events_than_features", "constant", "collinear", "one_constant_feature"])
def test_degenerate_features_give_numbers(normal, case):
    x, y = normal(30, 40, 1), normal(30, 40, 2)
    if case == "constant":
        x = torch.full_like(x, 0.1)
    if case == "collinear":
        x, y = x[:, :1].expand(30, 40), y[:, :1].expand(30, 40)
    if case == "one_constant_feature":
        x[:, 3] = y[:, 3] = 0.3
    value, stderr = frechet(x, y)
    assert math.isfinite(value)
    assert value > 0
    assert stderr is not None
    assert math.isfinite(stderr)
    assert frechet(x, x)[0] < 1e-5 * float(x.square().sum() / 30 + 1)


def test_collapse_onto_the_mean_costs_the_variance(normal):
    y = normal(500, 3)
    collapsed = y.mean(dim=0).expand(100, 3)
    assert frechet(collapsed, y)[0] == pytest.approx(float(torch.cov(y.T).trace()), rel=1e-9)


def test_standard_error_is_the_spread_over_repetitions(normal):
    found = [frechet(normal(400, 5, 2 * s) * 1.3 + 0.3, normal(300, 5, 2 * s + 1)) for s in range(60)]
    spread = float(np.std([value for value, _ in found], ddof=1))
    assert float(np.mean([stderr for _, stderr in found])) == pytest.approx(spread, rel=0.25)


def test_the_error_of_drawing_is_the_spread_over_samples_alone(normal):
    reference = normal(300, 5, 999)
    samples = [normal(400, 5, s) * 1.3 + 0.3 for s in range(60)]
    spread = float(np.std([frechet(x, reference)[0] for x in samples], ddof=1))
    assert float(np.mean([draw_error(x, reference) for x in samples])) == pytest.approx(spread, rel=0.25)
    assert float(np.mean([frechet(x, reference)[1] for x in samples])) > 1.2 * spread  # which also has the reference's


def test_named_fid_only_where_the_extractor_says_so(normal, evaluate):
    class Renamed(Identity):
        distance_name = "fid"

    x, y = normal(50, 2, 1), normal(50, 2, 2)
    (plain,) = Frechet().measure(evaluate(x, y))
    (renamed,) = Frechet().measure(evaluate(x, y, extractor=Renamed()))
    assert (plain.name, renamed.name) == ("fd_identity", "fid")
    assert plain.estimate == renamed.estimate
    assert plain.estimate.n == 50
    assert plain.higher_is_better is False
    assert plain.kind is renamed.kind is Kind.HEADLINE


def test_non_finite_samples_are_refused_with_their_number(normal, evaluate):
    x = normal(50, 2)
    x[7, 1] = math.nan
    (found,) = Frechet().measure(evaluate(x, normal(50, 2, 1)))
    assert found.status is Status.NOT_APPLICABLE
    assert "1 of 50 samples" in found.reason


def test_the_training_split_is_a_reference_of_its_own(normal, evaluate):
    x, train, test = normal(60, 2), normal(95, 2, seed=1) + 3, normal(50, 2, seed=2)
    data = SimpleNamespace(name="toy", event=Event((2,)), train=train)
    evaluation = evaluate(x, test, data=data)
    (found,) = FrechetToTraining(block=40).measure(evaluation)  # in three blocks
    assert found.name == "train_fd_identity" and found.kind is Kind.DISTANCE
    assert found.protocol["samples"] == "60" and found.protocol["reference"] == "train:95"
    assert found.estimate.value == pytest.approx(frechet(x, train)[0])
    assert found.estimate.value > 10 * Frechet().measure(evaluation)[0].estimate.value  # three units each way: 18
