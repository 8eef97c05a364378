"""Snapshots of p_t: closed forms, planted errors, and the command."""

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch import nn

from families.test_flow_matching import Linear, make
from genfam.commands import stored
from genfam.families.base import NoTrajectory
from genfam.records.run import Run
from genfam.records.store import Store
from genfam.report import write_report
from genfam.running.experiment import execute
from genfam.running.parts import make_family, make_source
from genfam.running.paths import pairs_at_random, snapshots
from genfam.seeds import derived_generator, normal
from genfam.sources.known import GaussianMixture
from helpers import composed
from stores import rich

TIMES = [0.75, 0.0, 0.25, 1.0]
TINY = ("source=grid", "budget=smoke", "budget.train_flops=1e8", "budget.parameters=3000", "curve.points=1",
        "curve.samples=20", "trace.points=1", "trace.samples=20", "evaluation.samples=50",
        "metric=[frechet]")  # fmt: skip


@pytest.mark.parametrize("prediction", ["velocity", "data"])
def test_with_the_exact_field_of_a_gaussian_every_state_is_scaled_noise(prediction):
    """Of N(0, s²) the flow is x_t = x_0 √((1 − t)² + t² s²)."""
    family = make(prediction=prediction)
    family.model = Linear(0.5, prediction)
    family.choose_sampling(steps=100)
    found = family.snapshots(50, TIMES, derived_generator(0, "path"))
    noise = normal((50, 2), torch.device("cpu"), derived_generator(0, "path"))
    for time, states in zip(TIMES, found, strict=True):
        width = ((1 - time) ** 2 + (0.5 * time) ** 2) ** 0.5
        assert torch.allclose(states, noise * width, atol=5e-3 if prediction == "velocity" else 2e-2), time


def test_times_and_families_without_a_trajectory_are_refused():
    family = make()
    for times in ([], [0.5, 1.1], [-0.1], [float("nan")]):
        with pytest.raises(ValueError, match="t: expected numbers from 0 to 1"):
            family.snapshots(2, times, derived_generator(0, "path"))
    run = Run.of(composed("family=gaussian", *TINY))
    with pytest.raises(NoTrajectory, match="Gaussian draws a sample at once"):
        make_family(run, make_source(run)).snapshots(2, [0.5], derived_generator(0, "path"))


class Halved(nn.Module):
    """A planted error: half of the right velocity."""

    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, x, t, condition=None):
        return 0.5 * self.field(x, t)


def test_an_exact_model_is_as_near_p_t_as_exact_draws_and_a_wrong_one_is_not():
    source = GaussianMixture(torch.zeros(1, 2), 0.5, "one")
    family = make()
    family.prepare(source)  # the encoded event is N(0, 1), so that the right flow moves nothing at the end
    family.model = Linear(1.0)
    right = snapshots(family, source, [0.0, 0.5, 1.0], 30, 0)
    family.model = Halved(Linear(1.0))
    wrong = snapshots(family, source, [0.0, 0.5, 1.0], 30, 0)
    for one, other in zip(right, wrong, strict=True):
        assert one.states.shape == (30, 2) and one.exact is not None and one.exact.shape == (30, 2)
        # √(K / 2πN) for 128 cells and 10,000 draws is 0.045; between two such draws it scatters by 0.003
        assert abs(one.divergence - one.floor) < 0.02
        assert (other.divergence > one.divergence + 0.05) == (other.time == 0.5)


def test_p_t_is_known_only_where_noise_and_data_are_paired_at_random():
    source = GaussianMixture(torch.zeros(1, 2), 0.5, "one")
    for name, known in (("flow_matching", True), ("score", True), ("flow_matching_ot", False), ("reflow", False)):
        family = make_family(Run.of(composed(f"family={name}", *TINY)), source)
        assert pairs_at_random(family) == known, name
    assert snapshots(family, source, [0.5], 3, 0)[0].exact is None, "of reflow the middle of the path is not known"


@pytest.mark.parametrize(("family", "source"), [("masked_diffusion", "markov"), ("flow_matching", "die")])
def test_sequences_are_printed_and_single_numbers_drawn(tmp_path, capsys, family, source):
    own = (f"family={family}", *(f"source={source}" if x.startswith("source=") else x for x in TINY))
    run = Run.of(composed(f"output_dir={tmp_path}/o", f"results_dir={tmp_path}/r", *own, "metric=[likelihood]"))
    assert execute(run).outcome.finished
    capsys.readouterr()
    out = tmp_path / "strip.png"
    assert stored.path([f"run={run.directory}", "t=0,1", f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert out.exists() == (source == "die")
    assert (said.count("t = 0 "), said.count("t = 1 ")) == ((3, 3) if source == "markov" else (0, 0)), said


def test_the_command_draws_a_strip_and_says_who_has_none(tmp_path, capsys):
    runs = {}
    for family in ("flow_matching", "vae", "gaussian"):
        run = Run.of(composed(f"family={family}", f"output_dir={tmp_path}/o", f"results_dir={tmp_path}/r", *TINY))
        assert execute(run).outcome.finished
        runs[family] = run.directory
    capsys.readouterr()
    out = tmp_path / "strip.png"
    assert stored.path([f"run={runs['flow_matching']}", "t=0,0.5,1", "n=100", f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert out.read_bytes()[:4] == b"\x89PNG" and said.count("total variation") == 3 and "of exact draws" in said
    assert stored.path([f"run={runs['vae']}", f"out={out}"]) == 0
    assert capsys.readouterr().out == f"{out}\n"  # a latent interpolation has no p_t
    assert stored.path([f"run={runs['gaussian']}", f"out={out}"]) in (1, 2)
    assert "Gaussian draws a sample at once" in capsys.readouterr().err
    assert stored.path([f"run={runs['flow_matching']}", "t=2", f"out={out}"]) in (1, 2)
    assert "t: expected numbers from 0 to 1" in capsys.readouterr().err


def test_the_page_shows_sampling_where_a_family_has_a_trajectory(tmp_path):
    folder = rich(tmp_path / "outputs" / "quick")
    write_report(folder, Store(folder).current(), "")
    assert sorted(path.name for path in folder.glob("figures/trajectories_*")) == [
        "trajectories_digits.png",
        "trajectories_grid.png",
    ]
    picture = imread(folder / "figures" / "trajectories_digits.png")[..., :3]
    assert (abs(picture - np.array([0xB8, 0xC9, 0xDD]) / 255).max(axis=-1) < 0.02).any(), "pixels not yet said are blue"
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert text.count("<summary>Sampling step by step</summary>") == 2
