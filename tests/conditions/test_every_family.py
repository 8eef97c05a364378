"""Every family × condition × kind of event: shapes, determinism, exact densities, saved runs without data."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import genfam
from genfam.build import NotModelled, configuration_folder
from genfam.commands import stored
from genfam.families.base import Family
from genfam.networks.base import count_parameters
from genfam.records.run import Run
from genfam.running import experiment, training
from genfam.running.parts import make_family, make_source
from genfam.seeds import derived_generator
from genfam.types import Batch, Likelihood, Outcome
from helpers import composed, plain_families
from stand_ins import write_mnist

pytestmark = pytest.mark.usefixtures("coarse_integrals")

FAMILIES = plain_families()
CONDITIONS = sorted(path.stem for path in (configuration_folder() / "condition").glob("*.yaml"))
EVENTS = {"ring": "points", "die": "table", "digits": "small_image", "mnist": "image"}
FAST = [*((condition, "die") for condition in CONDITIONS), ("labels", "ring"), ("labels", "digits")]
TINY = ("budget=smoke", "budget.train_flops=1e9", "budget.parameters=20000", "curve.points=1", "curve.samples=20",
        "trace.points=1", "trace.samples=20", "evaluation.samples=100", "metrics.likelihood.events=20",
        "metrics.conditional.events=20")  # fmt: skip


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    write_mnist(folder / "MNIST")
    return folder


@pytest.fixture(scope="module")
def cells() -> dict[tuple[str, str, str], tuple[Family, Any]]:
    return {}


def built(cells: Any, data_dir: Path, family_name: str, condition: str, source_name: str) -> tuple[Family, Any]:
    """An untrained family that knows its condition, each once for all tests."""
    key = (family_name, condition, source_name)
    if key not in cells:
        overrides = [f"family={family_name}", f"source={source_name}", f"condition={condition}", f"data_dir={data_dir}"]
        overrides += [] if source_name == "mnist" else ["budget.parameters=60000"]
        overrides += ["+source.check=false"] if source_name == "mnist" else []
        overrides += ["condition.count=3"] if condition == "clusters" else []
        run = Run.of(composed(*overrides))
        source: Any = make_source(run)
        if source_name in ("ring", "die"):
            source.train_size, source.test_size = 2000, 500
        torch.manual_seed(0)
        try:
            cells[key] = make_family(run, source).eval(), source
        except NotModelled as refused:  # which cells these are: tests/families/test_contract.py
            pytest.skip(str(refused))
    return cells[key]


@pytest.mark.parametrize(
    ("condition", "source_name"),
    [
        pytest.param(condition, source, marks=[] if (condition, source) in FAST else pytest.mark.slow)
        for condition in CONDITIONS for source in EVENTS
    ],
)  # fmt: skip
@pytest.mark.parametrize("family_name", FAMILIES)
def test_shapes_determinism_and_the_mixture(
    cells: Any, data_dir: Path, family_name: str, condition: str, source_name: str
) -> None:
    family, source = built(cells, data_dir, family_name, condition, source_name)
    classes = family.condition.classes
    assert classes == {"nothing": 0, "labels": len(source.label_names), "clusters": 3}[condition]
    given = [None, *([0, torch.arange(6) % classes] if classes else [])]
    for value in given:
        x, again = (family.sample(6, generator=derived_generator(0, "draw"), condition=value) for _ in range(2))
        assert x.shape == (6, *source.event.shape) and torch.equal(x, again)
    wrong: Any = classes if classes else 0
    with pytest.raises(ValueError, match=r"condition: expected"):
        family.sample(2, generator=derived_generator(0, "draw"), condition=wrong)
    # forty integrations of a large network, or sums of hundreds of terms
    slow = family_name in ("flow_matching", "diffusion", "score") and source_name == "mnist"
    if family.likelihood_kind is Likelihood.NONE or slow:
        return
    x = source.test[: 1 if family_name == "diffusion" else 3]  # a bound over a hundred steps for every value
    whole = family.log_prob(x)
    assert whole.shape == (len(x),) and bool(torch.isfinite(whole).all())
    if classes:
        shares = family.condition.shares.log()
        terms = torch.stack([family.log_prob(x, value) + shares[value] for value in range(classes)])
        assert bool((whole >= terms.max(dim=0).values - 1e-3).all())
        assert torch.allclose(whole, torch.logsumexp(terms, dim=0), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("family_name", FAMILIES)
def test_exact_densities_of_a_table_sum_to_one(cells: Any, data_dir: Path, family_name: str, condition: str) -> None:
    family, source = built(cells, data_dir, family_name, condition, "die")
    if family.density_kind is not Likelihood.EXACT:
        pytest.skip(f"{family_name} has a {family.density_kind.value} here")
    # the oracle takes p(c) from the training split's shares: right within five of their standard errors
    error = 5 * (5 / len(source.train)) ** 0.5 if family_name == "oracle" else 1e-4
    for value in [None, *range(family.condition.classes)]:
        assert float(family.log_prob(source.support(), value).exp().sum()) == pytest.approx(1.0, abs=error)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_exact_densities_of_points_integrate_to_one(cells: Any, data_dir: Path, condition: str) -> None:
    """By a grid over six standard deviations each way: exact to the cells' size."""
    family, source = built(cells, data_dir, "autoregressive", condition, "ring")
    axis = torch.linspace(-6, 6, 121)
    x = torch.cartesian_prod(axis, axis) * source.train.std(dim=0)
    area = float((12 / 120) ** 2 * source.train.std(dim=0).prod())
    for value in [None, *range(family.condition.classes)][:2]:
        total = float(family.log_prob(x, value).double().exp().sum()) * area
        assert total == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    "source_name", [pytest.param(name, marks=pytest.mark.slow) if name == "mnist" else name for name in EVENTS]
)
@pytest.mark.parametrize("family_name", [name for name in FAMILIES if name not in ("gaussian", "oracle")])
def test_codes_of_a_condition_count_in_the_budget(
    cells: Any, data_dir: Path, family_name: str, source_name: str
) -> None:
    free, given = (built(cells, data_dir, family_name, name, source_name)[0] for name in ("nothing", "labels"))
    sizes = [count_parameters(family.sampling_network) for family in (free, given)]
    wanted = 350_000 if source_name == "mnist" else 60_000
    assert all(abs(size - wanted) <= 0.1 * wanted for size in sizes)
    names = [set(dict(family.sampling_network.named_parameters())) for family in (free, given)]
    assert names[1] > names[0]


@pytest.mark.parametrize("source_name", ["ring", "digits"])
@pytest.mark.parametrize("family_name", [name for name in FAMILIES if name not in ("gaussian", "oracle")])
def test_every_player_learns_its_codes(cells: Any, data_dir: Path, family_name: str, source_name: str) -> None:
    """A gradient reaches every parameter of a conditional network that an unconditional one lacks."""
    family, source = built(cells, data_dir, family_name, "labels", source_name)
    family.train()
    batch = Batch(source.train[:64], family.condition.of_training[:64])
    for _ in range(2):  # codes that begin at zero let a gradient through once their exit has moved
        for player in family.players:
            family.loss(batch, player).backward()
        with torch.no_grad():
            for parameter in family.parameters():
                if parameter.grad is not None:
                    parameter.add_(0.01 * torch.randn_like(parameter))
    for player in family.players:
        for name, parameter in getattr(family, player).named_parameters():
            if "codes" in name or "condition" in name:
                assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, name
    family.eval()
    del cells[family_name, "labels", source_name]  # it was changed


@pytest.mark.parametrize("condition", ["labels", pytest.param("clusters", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "family_name",
    [name if name in ("flow_matching", "gan") else pytest.param(name, marks=pytest.mark.slow)
     for name in FAMILIES],
)  # fmt: skip
def test_a_saved_run_needs_no_data_and_draws_by_name(
    configure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family_name: str, condition: str
) -> None:
    run = configure(f"family={family_name}", "source=digits", f"condition={condition}", *TINY)
    record = experiment.execute(run)
    assert record.outcome is Outcome.OK, record.reason
    assert (record.condition, record.task) == (condition, f"digits given {condition}")
    measured = {m.name: m for m in record.metrics}
    assert (measured["class_accuracy"].estimate is None) == (condition == "clusters")
    assert measured["fd_digits_cnn_within"].estimate is None  # 100 samples: fewer than twenty of most values
    if family_name == "oracle":
        return  # it draws the data themselves
    saved = genfam.load_run(run.directory)
    drawn = saved.sample(5, seed=3, condition=2)

    def nothing_here(*arguments: Any) -> None:
        raise FileNotFoundError("the data were looked at")

    monkeypatch.setattr("genfam.sources.images.load_digits", nothing_here)
    again = genfam.load_run(run.directory)
    assert torch.equal(drawn, again.sample(5, seed=3, condition=2))
    name = {"labels": "2", "clusters": "cluster 2"}[condition]
    assert stored.sample([f"run={run.directory}", "n=5", "seed=3", f"condition={name}", f"out={tmp_path}/s.npz"]) == 0
    if saved.family.likelihood_kind is not Likelihood.NONE:
        assert torch.equal(saved.log_prob(drawn, 2), again.log_prob(drawn, 2))
    with pytest.raises(ValueError, match=r"condition: expected one of .*, got eleven"):
        again.condition_named("eleven")


@pytest.mark.parametrize("condition", ["labels", pytest.param("clusters", marks=pytest.mark.slow)])
@pytest.mark.parametrize("family_name", ["gan", pytest.param("flow_matching", marks=pytest.mark.slow)])
def test_a_conditional_run_that_is_cut_off_resumes_bit_for_bit(
    configure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family_name: str, condition: str
) -> None:
    extra = ["condition.dropout=0.2"]  # random numbers of its own
    run = configure(f"family={family_name}", "source=digits", f"condition={condition}", *extra, *TINY, "curve.points=4")
    whole = experiment.execute(run.model_copy(update={"output_dir": tmp_path / "whole"}))

    class Eager(training.Conductor):
        def on_train_batch_end(self, *arguments: Any) -> None:
            self.reported = 0.0
            super().on_train_batch_end(*arguments)

    def interrupt(share: float, text: str) -> None:
        if share > 0.5 and text.startswith("update"):
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(training, "Conductor", Eager)
        assert experiment.execute(run, progress=interrupt).outcome is Outcome.INTERRUPTED
    resumed = experiment.execute(run)
    assert [m.estimate for m in resumed.metrics] == [m.estimate for m in whole.metrics]
    weights = [place / "weights.safetensors" for place in (run.directory, tmp_path / "whole/single" / run.id)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
