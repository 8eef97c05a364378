"""Features of several depths: standardised, in order, and seeing what each should."""

import numpy as np
import pytest
import torch

from genfam.metrics import classifier_networks
from genfam.metrics.base import DEPTHS
from genfam.metrics.classifier_networks import ResidualNetwork
from genfam.metrics.depths import Depths
from genfam.metrics.extractors import Classifier
from genfam.metrics.frechet import frechet
from genfam.metrics.kernel import squared_mmd
from genfam.metrics.two_sample import TwoSample
from genfam.sources.images import Digits, StackedDigits
from genfam.types import Status


@pytest.fixture(scope="module")
def digits():
    return Digits("digits")


@pytest.fixture(scope="module")
def extractor(digits, tmp_path_factory):
    """The published classifier: nothing is trained here."""
    return Classifier("digits_cnn", digits, tmp_path_factory.mktemp("cache"))


def test_features_of_every_depth_are_standardised_on_the_training_images(extractor, digits):
    found = extractor.depths(digits.train)
    assert tuple(found) == DEPTHS
    assert [part.shape[1] for part in found.values()] == [16 * 4, 32 * 4, 64]
    for part in found.values():
        torch.testing.assert_close(part.mean(dim=0), torch.zeros(part.shape[1], dtype=torch.float64), atol=1e-6, rtol=0)
        spread = part.std(dim=0)
        alive = spread > 1e-6
        assert float(alive.double().mean()) >= 0.75
        torch.testing.assert_close(spread[alive], torch.ones(int(alive.sum()), dtype=torch.float64), atol=1e-6, rtol=0)
    raw = extractor.features(digits.train)
    late = (raw - raw.mean(dim=0)) / raw.std(dim=0)
    torch.testing.assert_close(found["late"][:, alive], late[:, alive], atol=1e-4, rtol=1e-4)


def test_a_feature_that_hardly_moves_is_not_blown_up(digits, tmp_path):
    classifier = Classifier("digits_cnn", digits, tmp_path)
    classifier.network.trunk[-2].weight[3] *= 1e-4
    classifier.network.trunk[-2].bias[3] = 1.0
    assert float(classifier.depths(digits.train)["late"][:, 3].std()) < 0.01


def test_features_of_stacked_images_stand_beside_each_other(extractor, digits, tmp_path):
    stacked = Classifier("digits_cnn", StackedDigits(channels=2), tmp_path)
    assert stacked.fingerprint == extractor.fingerprint
    x = digits.test
    pair = stacked.depths(torch.cat([x[:40], x[40:80]], dim=1))
    for name, part in pair.items():
        ones = extractor.depths(x[:80])[name]
        torch.testing.assert_close(part, torch.cat([ones[:40], ones[40:]], dim=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stages", [(2, 2), (1, 2, 1)])
def test_depths_of_the_residual_network_are_its_own_activations(stages):
    torch.manual_seed(0)
    network = ResidualNetwork(1, (28, 28), 10, 8, stages).eval()
    x = torch.rand(3, 1, 28, 28)
    early, middle, late = classifier_networks.depths(network, x)
    stem = network.trunk[1](network.trunk[0](x)).relu()
    torch.testing.assert_close(early.reshape(3, 8, 2, 2)[:, :, 0, 1], stem[:, :, :7, 7:].mean(dim=(2, 3)))
    assert middle.shape[1] == 4 * {(2, 2): 8, (1, 2, 1): 16}[stages]
    torch.testing.assert_close(late, network.trunk(x))


def test_measures_each_depth_and_all_together(extractor, digits, evaluate, by_name):
    x, y = digits.train[:440], digits.test
    found = by_name(Depths(most=400), evaluate(x, y, data=digits, extractor=extractor))
    assert len(found) == 8
    mine, theirs = extractor.depths(x[:400]), extractor.depths(y[:400])
    assert found["fd_digits_cnn_middle"].estimate.value == pytest.approx(
        frechet(mine["middle"], theirs["middle"])[0], rel=1e-4
    )
    joint = [torch.cat([*part.values()], dim=1) for part in (mine, theirs)]
    assert found["kd_digits_cnn_depths"].estimate.value == pytest.approx(squared_mmd(*joint).value, abs=1e-6)
    assert found["fd_digits_cnn_depths"].estimate.stderr > 0
    assert "standardised" in found["fd_digits_cnn_early"].protocol["depths"]


def test_a_look_in_training_has_the_same_value_without_an_error(extractor, digits, evaluate, by_name):
    whole, glance = (evaluate(digits.train[:200], digits.test, data=digits, extractor=extractor) for _ in range(2))
    glance.in_training = True
    ends, looks = by_name(Depths(), whole), by_name(Depths(), glance)
    for name, found in ends.items():
        assert looks[name].estimate.value == pytest.approx(found.estimate.value, rel=1e-9)
    assert looks["fd_digits_cnn_depths"].estimate.stderr is None


def test_early_features_see_grain_and_late_ones_see_classes(extractor, digits):
    """In standard deviations of ten draws of real images: noise of two levels in 16, and digits 0 to 4 alone."""
    x, y = torch.cat([digits.train, digits.test]), torch.cat([digits.train_labels, digits.test_labels])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    reference, pool, labels = x[order[:600]], x[order[600:]], y[order[600:]]
    theirs = extractor.depths(reference)

    def distances(images):
        return {name: frechet(part, theirs[name], 2)[0] for name, part in extractor.depths(images).items()}

    draws = [pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(s))[:500]] for s in range(10)]
    real = [distances(images) for images in draws]
    grain = torch.randint(-2, 3, draws[0].shape, generator=torch.Generator().manual_seed(1))
    noisy = distances((draws[0].long() + grain).clamp(0, 16).to(torch.uint8))
    half = distances(pool[labels < 5][:500])

    def worse(found, name):
        values = np.array([one[name] for one in real])
        return (found[name] - values.mean()) / values.std(ddof=1)

    assert worse(noisy, "early") > max(10, 2 * worse(noisy, "late"))
    assert worse(half, "late") > max(50, 1.2 * worse(half, "early"))


def test_refuses_with_a_reason(normal, evaluate, by_name):
    found = by_name(Depths(), evaluate(normal(20, 2), normal(20, 2, 1)))
    assert {m.status for m in found.values()} == {Status.NOT_APPLICABLE}
    assert found["fd_identity_depths"].reason == "extractor identity has features of one depth"


@pytest.mark.slow
def test_poor_samples_are_ranked_where_a_classifier_two_sample_test_is_at_its_end(extractor, digits, evaluate, by_name):
    """Noise of 8, 12 and 16 levels in 16: the accuracy is 1 within two hundredths each time, and the distances grow."""
    x, found, accuracies = digits.train[:400].long(), [], []
    for level in (8, 12, 16):
        grain = torch.randint(-level, level + 1, x.shape, generator=torch.Generator().manual_seed(level))
        noisy = evaluate((x + grain).clamp(0, 16).to(torch.uint8), digits.test[:400], data=digits, extractor=extractor)
        noisy.in_training = True
        found.append(by_name(Depths(), noisy))
        accuracies.append(by_name(TwoSample(events=400), noisy)["c2st_event"].estimate.value)
    assert min(accuracies) >= 0.98
    for name in ("fd_digits_cnn_depths", "kd_digits_cnn_depths"):
        first, second, third = (one[name].estimate.value for one in found)
        assert 1.2 * first < second and 1.1 * second < third
