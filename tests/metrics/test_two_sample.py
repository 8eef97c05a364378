"""Two-sample tests by a classifier, and statistics of pixels: known answers and planted failures."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from genfam.metrics.pixels import PixelStatistics, histograms, roughness
from genfam.metrics.two_sample import TwoSample
from genfam.types import Event, Status


def test_equal_distributions_cannot_be_told_apart(normal, evaluate, by_name):
    """Accuracy within four standard errors of one half, a false alarm in 1e-4."""
    found = by_name(TwoSample(events=500), evaluate(normal(500, 5, 1), normal(500, 5, 2)))["c2st_event"].estimate
    assert abs(found.value - 0.5) < 4 * found.stderr and found.n == 1000


def test_it_grows_with_the_difference(normal, evaluate, by_name):
    values = [
        by_name(TwoSample(events=500), evaluate(normal(500, 5, 1) + shift, normal(500, 5, 2)))[
            "c2st_event"
        ].estimate.value
        for shift in (0.0, 0.5, 1.0, 3.0)
    ]
    assert values == sorted(values) and values[-1] > 0.98


def test_a_shift_is_told_as_often_as_the_best_rule_does(normal, evaluate, by_name):
    """Of two unit normals at distance 1 the best accuracy is Φ(½) = 0.691."""
    x = normal(1000, 1, 1) + 1.0
    found = by_name(TwoSample(), evaluate(x, normal(1000, 1, 2)))["c2st_event"].estimate
    assert found.value == pytest.approx(0.691, abs=4 * found.stderr)


def test_what_means_do_not_show_is_seen(normal, evaluate, by_name):
    """Equal means, other variances: a linear rule would be blind."""
    found = by_name(TwoSample(), evaluate(3 * normal(1000, 2, 1), normal(1000, 2, 2)))["c2st_event"].estimate
    assert found.value > 0.7


def test_few_or_bad_events_are_refused(normal, evaluate):
    for x in (normal(20, 2), normal(100, 2) / 0.0):
        assert TwoSample().measure(evaluate(x, normal(100, 2, 1)))[0].status is Status.NOT_APPLICABLE


@pytest.fixture
def images(evaluate, by_name):
    """Black images with a white square of three by three pixels, and any change of them."""
    data = SimpleNamespace(name="squares", event=Event((1, 8, 8), 17))
    x = torch.zeros(100, 1, 8, 8, dtype=torch.uint8)
    x[:, :, 2:5, 2:5] = 16

    def measure(change):
        return {
            name: m.estimate.value for name, m in by_name(PixelStatistics(), evaluate(change(x), x, data=data)).items()
        }

    return measure


def test_pixels_of_equal_images(images):
    found = images(lambda x: x)
    assert found == {"black_ratio": 1.0, "white_ratio": 1.0, "roughness_ratio": 1.0, "level_total_variation": 0.0}


def test_black_that_is_off_by_one_level_is_seen(images):
    found = images(lambda x: x.clamp_min(1))
    assert found["black_ratio"] == 0.0 and found["white_ratio"] == 1.0
    assert found["level_total_variation"] == pytest.approx(55 / 64) and found["roughness_ratio"] == pytest.approx(
        (15 / 16) ** 2
    )


def test_noise_is_rough_and_blur_is_smooth(images):
    generator = torch.Generator().manual_seed(0)
    assert (
        images(lambda x: torch.randint(0, 17, x.shape, generator=generator, dtype=torch.uint8))["roughness_ratio"] > 1.5
    )

    def smooth(x):
        return torch.nn.functional.avg_pool2d(x.double(), 3, 1, 1).round().byte()

    assert images(smooth)["roughness_ratio"] < 0.8


def test_histograms_and_roughness_are_what_they_say():
    x = torch.tensor([[[[0, 2], [2, 2]]]], dtype=torch.uint8)
    assert histograms(x, 3).tolist() == [[0.25, 0.0, 0.75]]
    assert roughness(x, 3).tolist() == [0.5]  # two of four pairs of neighbours differ by the whole range
