"""The distance within classes: blind to frequencies and to where classes lie, right for a known shift and width."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genfam.metrics.extractors import Identity
from genfam.metrics.frechet import frechet
from genfam.metrics.within_class import WithinClassDistance, centred_distance

CENTRES = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]], dtype=torch.float64)


def draw(n, shares, seed, width=1.0):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.multinomial(torch.tensor(shares, dtype=torch.float64), n, replacement=True, generator=generator)
    return width * torch.randn(n, 3, generator=generator, dtype=torch.float64), classes


def test_one_class_is_the_plain_distance():
    x, of_x = draw(4000, [1.0], 1)
    y, of_y = draw(4000, [1.0], 2)
    assert centred_distance(x + 0.5, y, of_x, of_y) == pytest.approx(frechet(x + 0.5, y)[0], rel=1e-3)


def test_blind_to_frequencies_and_to_where_classes_lie():
    """Frequencies of 8 : 1 : 1 for thirds change the plain distance by hundreds of its errors, and this one not."""
    y, of_y = draw(3000, [1, 1, 1], 0)
    equal = [centred_distance(x, y, c, of_y) for x, c in (draw(3000, [1, 1, 1], s) for s in range(1, 21))]
    skewed = [centred_distance(x, y, c, of_y) for x, c in (draw(3000, [8, 1, 1], s) for s in range(21, 41))]
    assert np.mean(skewed) < np.mean(equal) + 5 * np.std(equal)
    x, of_x = draw(3000, [8, 1, 1], 21)
    assert frechet(x + CENTRES[of_x], y + CENTRES[of_y])[0] > 1.0
    apart = centred_distance(x + CENTRES[of_x], y + CENTRES[of_y], of_x, of_y)
    assert apart == pytest.approx(skewed[0], abs=1e-9)


def test_a_shift_and_a_width_within_classes_have_their_known_distances():
    """‖δ‖² for a shift of every class, d (s − 1)² for a width s, up to the noise of 20,000 events."""
    y, of_y = draw(20_000, [1, 2, 3], 0)
    x, of_x = draw(20_000, [3, 2, 1], 1)
    shift = torch.tensor([0.3, 0.0, 0.4], dtype=torch.float64)
    assert centred_distance(x + shift, y, of_x, of_y) == pytest.approx(0.25, abs=0.03)
    assert centred_distance(1.5 * x, y, of_x, of_y) == pytest.approx(3 * 0.25, abs=0.05)


def test_few_held_out_events_of_a_class_add_no_bias():
    """Twelve events of each of 40 classes: relative to the others of their class, not to a mean that they are in."""
    classes = torch.arange(480) % 40
    found = [
        centred_distance(draw(480, [1], 2 * s)[0], draw(480, [1], 2 * s + 1)[0], classes, classes) for s in range(40)
    ]
    plain = [frechet(draw(480, [1], 2 * s)[0], draw(480, [1], 2 * s + 1)[0])[0] for s in range(40)]
    assert np.mean(found) < 2 * np.mean(plain)


def test_measures_what_the_classifier_sees(evaluate, by_name):
    extractor = Identity()
    extractor.n_classes = 2
    extractor.classify = lambda x: (x[:, 0] > 4).long()
    (x, of_x), (y, of_y) = draw(600, [1, 1], 1), draw(600, [1, 1], 2)
    both = evaluate(x + CENTRES[of_x], y + CENTRES[of_y], extractor=extractor, data=SimpleNamespace(name="toy"))
    (found,) = WithinClassDistance().measure(both)
    assert found.name == "fd_identity_class_centred"
    assert found.estimate.value < 0.1 and 0 < found.estimate.stderr < 0.1
    (none,) = WithinClassDistance().measure(evaluate(x, y))
    assert none.reason == "extractor identity sees no classes"
