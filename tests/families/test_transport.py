"""From one source into another: closed forms, exact plans, and who refuses."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ot
import pytest
import torch
import yaml
from PIL import Image
from scipy.linalg import sqrtm
from torch import nn

from families.toys import train
from genfam.build import ConfigurationError
from genfam.families.affine_map import AffineMap, optimal_matrix
from genfam.families.base import Optimisation
from genfam.families.flow_matching import FlowMatching
from genfam.families.oracle import Oracle, optimal_partners
from genfam.families.transport_gan import TransportGAN
from genfam.metrics.base import Evaluation
from genfam.metrics.extractors import Identity
from genfam.metrics.transport import TransportCost, optimal_cost
from genfam.networks.perceptron import Perceptron
from genfam.records.run import Run
from genfam.running import preflight
from genfam.running.parts import make_family, make_source
from genfam.seeds import derived_generator
from genfam.sources.images import Digits
from genfam.sources.known import Grid, Ring
from genfam.sources.mixture import Mixture
from genfam.sources.one_class import OneClass
from helpers import CONF, composed

PLANE = Ring().event


def gaussian_source(seed: str) -> Mixture:
    """One rotated Gaussian in the plane."""
    source = Mixture(dimensions=2, modes=1, name=seed)
    generator = derived_generator(0, seed)
    source.centres = 2.0 * torch.randn(1, 2, generator=generator, dtype=torch.float64)
    source.spreads = 0.2 + torch.rand(1, 2, generator=generator, dtype=torch.float64)
    return source


def covariance(source: Mixture) -> torch.Tensor:
    return source.axes[0] @ torch.diag(source.spreads[0] ** 2) @ source.axes[0].T


def measured(family, source, starts: int = 1000) -> dict[str, float]:
    samples = torch.zeros(10, 2)
    evaluation = Evaluation(source, samples, source.test, Identity(source, "x", "cpu"), family)
    return {m.name: m.estimate.value for m in TransportCost(starts).measure(evaluation) if m.estimate is not None}


def test_between_gaussians_the_affine_map_is_optimal():
    first, second = gaussian_source("a"), gaussian_source("b")
    a, b = covariance(first), covariance(second)
    matrix = optimal_matrix(a, b)
    assert torch.allclose(matrix @ a @ matrix.T, b, atol=1e-10) and torch.allclose(matrix, matrix.T, atol=1e-10)
    family = AffineMap(PLANE, ridge=0.0)
    family.begin_at(first)
    family.prepare(second)
    found = measured(family, second)
    half = torch.from_numpy(sqrtm(a.numpy()).real)
    root = torch.from_numpy(sqrtm((half @ b @ half).numpy()).real)
    bures = float((first.centres - second.centres).square().sum() + torch.trace(a + b - 2 * root))  # W2 squared
    # 1,000 starts: the mean of squared displacements scatters by about 5 %; the bound is four such deviations
    assert found["squared_displacement"] == pytest.approx(bures, rel=0.2)
    assert found["path_energy"] == found["squared_displacement"] and found["normalised_path_energy"] < 0.2


def test_the_oracle_s_partners_are_the_exact_plan():
    generator = derived_generator(0, "plan")
    starts, ends = torch.randn(50, 2, generator=generator), torch.randn(50, 2, generator=generator)
    cost = torch.cdist(starts.double(), ends.double()).square().numpy()
    plan = ot.emd(ot.unif(50), ot.unif(50), cost)
    assert optimal_partners(starts, ends).tolist() == plan.argmax(axis=1).tolist()
    assert optimal_cost(starts, ends, Ring()) == pytest.approx(float((plan * cost).sum()))


def test_the_oracle_needs_no_more_energy_than_the_optimal_plan():
    source = Grid()
    family = Oracle(PLANE)
    family.begin_at(Ring())
    family.prepare(source)
    # two draws of 1,000: W2 squared scatters by 2 %
    assert measured(family, source)["normalised_path_energy"] < 0.1


class Constant(nn.Module):
    """A velocity that is the same everywhere."""

    def forward(self, x, t, condition=None):
        return torch.tensor([3.0, 4.0]).expand(len(x), 2)


def test_a_constant_velocity_moves_straight_and_its_energy_is_its_square():
    torch.manual_seed(0)
    family = FlowMatching(PLANE, 5000, Perceptron(depth=2), Optimisation(ema=0.0), batch_size=64)
    source = Ring()
    family.begin_at(source)
    family.prepare(Grid())
    family.model = Constant()
    family.average = Constant()
    found = measured(family, Grid())
    scale = float(family.codec.scale)
    assert found["squared_displacement"] == pytest.approx(25 * scale**2, rel=1e-4)
    assert found["path_energy"] == pytest.approx(25 * scale**2, rel=1e-4)
    generator = derived_generator(0, "x")
    starts = source.train[torch.randint(len(source.train), (100,), generator=generator)]
    drawn = family.sample(100, generator=derived_generator(0, "x"))
    assert torch.allclose(drawn, starts + scale * torch.tensor([3.0, 4.0]), atol=1e-4)


def test_flow_matching_arrives_and_a_cost_keeps_a_gan_near():
    source, init = Ring(modes=4, sigma=0.1), Ring(modes=4, sigma=0.1, radius=3.0, name="wide")
    torch.manual_seed(0)
    flow = FlowMatching(PLANE, 20_000, Perceptron(depth=2), Optimisation(ema=0.0, learning_rate=3e-3), batch_size=256)
    flow.begin_at(init)
    train(flow, source.train[:20_000], 400)
    ends = flow.sample(1000, generator=derived_generator(0, "ends"))
    assert float(ends.norm(dim=1).mean()) == pytest.approx(1.0, abs=0.15)  # from 3
    moved = {}
    for cost in (0.0, 100.0):
        torch.manual_seed(0)
        gan = TransportGAN(PLANE, 5000, Perceptron(depth=2), Optimisation(ema=0.0), batch_size=64, cost=cost)
        gan.begin_at(init)
        train(gan, source.train[:20_000], 150)
        moved[cost] = measured(gan, source, 500)["squared_displacement"]
    assert moved[100.0] < 0.5 * moved[0.0]


def test_a_run_names_where_it_begins_and_who_cannot_says_so():
    plain, run = (Run.of(composed("family=flow_matching", "source=grid", *more)) for more in ([], ["+init=ring"]))
    assert run.id != plain.id and "from_ring" in run.id and run.data_name == "grid from ring"
    source = make_source(run)
    family = make_family(run, source)
    assert family.init is not None and family.init.name == "ring"
    assert not hasattr(family, "log_prob") or family.likelihood_kind.value == "none"
    for overrides, said in (
        (["family=vae", "source=grid", "+init=ring"], "VAE carries no source to another"),
        (["family=transport_gan", "source=grid"], r"expected \+init="),
        (["family=flow_matching", "source=grid", "+init=digit"], "expected events like the source's"),
        (["family=flow_matching", "source=digit"], "expected at least 512 training events .* got 113"),
        (["family=flow_matching", "source=fashion_mnist", "+init=mnist", "data_dir=nowhere"], "nowhere"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            preflight.check([plain, Run.of(composed(*overrides))])  # a run beside it that can hides nothing


@pytest.mark.parametrize("path", sorted((CONF / "init").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_init_of_a_source_s_name_is_that_source(path: Path) -> None:
    source = CONF / "source" / path.name
    if source.exists():
        own = path.read_text().replace("${init.", "${source.").replace("label: 3", "label: 8")  # three to eight
        assert yaml.safe_load(own) == yaml.safe_load(source.read_text())["source"]
    else:
        assert path.stem == "eight_gaussians"


def test_two_folders_of_images_are_carried_into_each_other(tmp_path: Path) -> None:
    for name, colour in (("cats", 40), ("dogs", 200)):
        (tmp_path / name).mkdir()
        for i in range(200):
            Image.new("RGB", (8, 8), (colour, i, colour)).save(tmp_path / name / f"{i}.png")
    folders = (f"source.folder={tmp_path}/dogs", f"init.folder={tmp_path}/cats", "source.size=8", "init.size=8")
    run = Run.of(composed("family=flow_matching", "source=image_folder", "+init=image_folder", *folders,
                          "family.batch_size=4"))  # fmt: skip
    source = make_source(run)
    family = make_family(run, source)
    assert isinstance(family, FlowMatching) and family.init is not None and family.init.name == "image_folder"
    assert family.start(200).min() < family.start(200).max() and preflight.check([run]) == {}


class Lookup(Identity):
    """Knows the class of every training event."""

    n_classes = 10

    def __init__(self, digits: Digits) -> None:
        super().__init__(digits, "lookup", "cpu")
        self.digits = digits

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        nearest = torch.cdist(x.flatten(1).float(), self.digits.train.flatten(1).float()).argmin(dim=1)
        return self.digits.train_labels[nearest]


@pytest.mark.parametrize("turned", [0, 30, 100])
def test_the_share_that_keeps_its_class_is_that_of_the_labels(turned: int) -> None:
    digits = Digits()

    def ends_of(events: torch.Tensor) -> torch.Tensor:  # `turned` of a hundred go where the one before them was
        moved = (torch.arange(len(events)) % 100 < turned).view(-1, *[1] * (events.dim() - 1))
        return torch.where(moved, events.roll(1, 0), events)

    model: Any = SimpleNamespace(init=digits, device="cpu", carry=lambda starts, generator: ends_of(starts))
    evaluation = Evaluation(digits, digits.test[:2], digits.test[:2], Lookup(digits), model)
    found = {m.name: m.estimate for m in TransportCost(500).measure(evaluation)}
    labels = digits.train_labels[torch.randint(len(digits.train), (500,), generator=evaluation.generator(6))]
    assert found["class_kept"].value == pytest.approx(float((ends_of(labels) == labels).double().mean()))
    assert (found["class_kept"].value == 1.0) == (found["squared_displacement"].value == 0.0) == (turned == 0)


def test_one_class_is_that_class_alone():
    digits = Digits()
    threes = OneClass(digits, 3, "threes")
    assert len(threes.train) == int((digits.train_labels == 3).sum()) > 100
    drawn = threes.sample(len(threes.train), generator=derived_generator(0, "x"))
    assert torch.equal(drawn.flatten(1).sort(dim=0).values, threes.train.flatten(1).sort(dim=0).values)
    with pytest.raises(ValueError, match="label: expected 0 to 9"):
        OneClass(digits, 10, "none")


def test_where_samples_begin_at_noise_nothing_is_measured():
    found = TransportCost().measure(
        Evaluation(Grid(), torch.zeros(2, 2), torch.zeros(2, 2), Identity(Grid(), "x", "cpu"), Oracle(PLANE))
    )
    assert all(m.estimate is None for m in found) and math.isfinite(len(found))


def test_a_batch_of_one_digit_is_no_larger_than_its_training_split():
    for family in ("flow_matching", "flow_matching_ot", "transport_gan"):
        run = Run.of(composed(f"family={family}", "+transport=three_to_eight"))
        assert run.data_name == "digit_8 from digit_3"
        assert make_family(run, make_source(run)).batch_size <= len(make_source(run).train)
