"""A stranger's family, source and metric: one Python file and one YAML each, outside the package."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from forked import call, start

CODE = {
    "toy_family.py": '''
import torch
from torch import nn
from genfam.families.base import Family
from genfam.types import Likelihood

class Toy(Family):
    """Learns a shift by a replay buffer of its own draws, and samples from a queue of events that it has seen."""
    likelihood = Likelihood.NONE

    def __init__(self, event, optimisation, batch_size):
        super().__init__(event, optimisation, batch_size)
        self.register_players(model=nn.Linear(1, event.dimensions))
        self.declare("replay", torch.zeros(batch_size, *event.shape), sampling=False)
        self.declare("queue", torch.zeros(1, *event.shape), sampling=True)

    def loss(self, batch, player):
        x = batch.event.float()
        drawn = self.model(torch.ones(len(x), 1)).view_as(x)
        self.replay = (0.5 * self.replay + 0.5 * drawn.detach())
        self.queue = torch.cat([self.queue, x])[-100:]
        return (drawn - x).square().mean() + 0.1 * (drawn - self.replay).square().mean()

    def draw(self, n, condition, generator):
        mean = self.sampler(torch.ones(n, 1)).view(n, *self.event.shape)
        seen = self.queue[torch.randint(len(self.queue), (n,), generator=generator)]
        return 0.5 * mean + 0.5 * seen + torch.randn(n, *self.event.shape, generator=generator)
''',
    "toy_source.py": """
import torch
from genfam.seeds import derived_generator
from genfam.sources.base import Source
from genfam.types import Event

class Toy(Source):
    name = "toy"
    event = Event((2,))
    train = torch.randn(1000, 2, generator=derived_generator(0, "toy train")) + 3
    test = torch.randn(1000, 2, generator=derived_generator(0, "toy test")) + 3

    def sample(self, n, *, generator):
        return torch.randn(n, 2, generator=generator) + 3
""",
    "toy_metric.py": '''
from genfam.metrics.base import Metric
from genfam.types import Estimate, Measurement

class MeanGap(Metric):
    """|mean of the samples − mean of the reference|."""
    def measure(self, evaluation):
        gap = abs(float(evaluation.samples.mean() - evaluation.reference.mean()))
        n = len(evaluation.samples)
        return [Measurement("mean_gap", "1", False, Estimate(gap, n ** -0.5, n), evaluation.protocol())]
''',
    "conf/family/toy.yaml": """
_target_: toy_family.Toy
name: toy
batch_size: 32
optimisation: {_target_: genfam.families.base.Optimisation, learning_rate: 0.05, ema: 0.0}
""",
    "conf/source/toy.yaml": """
# @package _global_
defaults:
  - /event: points
  - /extractor: identity
source: {_target_: toy_source.Toy, name: toy}
reference: {train_flops: 1.0e+7, parameters: 2}
evaluation: {samples: 1000}
""",
    "conf/metric/toy.yaml": """
# @package metrics.toy
_target_: toy_metric.MeanGap
""",
}
RUN = [
    "genfam", "--config-dir", "conf", "family=toy", "source=toy", "+metric=toy", "logger=none",
    "plugins=[toy_family,toy_source,toy_metric]",
]  # fmt: skip
NAMED = "plugins=toy_family,toy_source,toy_metric"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, text in CODE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_family_a_source_and_a_metric_from_outside(place: Path) -> None:
    call([*RUN, "budget.train_flops=3e5", "output_dir=store"], place)
    (found,) = place.glob("store/single/*/record.json")
    record = json.loads(found.read_text())
    assert record["outcome"] == "ok" and record["family"] == "toy" and record["source"] == "toy"
    (gap,) = [m for m in record["metrics"] if m["name"] == "mean_gap"]
    assert gap["estimate"]["value"] < 0.5  # it learnt the mean: 3 before training
    with safe_open(found.parent / "weights.safetensors", "pt") as weights:
        assert "queue" in weights.keys() and "replay" not in weights.keys()  # noqa: SIM118
    run = f"run={found.parent.relative_to(place)}"
    (place / "again.yaml").write_text("_target_: again.Again\n")
    (place / "again.py").write_text(CODE["toy_metric.py"].replace("MeanGap", "Again").replace("mean_gap", "again"))
    asked = call(["genfam-evaluate", run], place, code=2)
    assert asked.count("\n") == 1 and "plugins=[toy_source" in asked  # nothing of a store's is imported unasked
    call(["genfam-evaluate", run, "metric=again.yaml", f"{NAMED},again"], place)
    again = {m["name"]: m["estimate"]["value"] for m in json.loads(found.read_text())["metrics"] if m["estimate"]}
    assert again["again"] == again["mean_gap"] == gap["estimate"]["value"]
    call(["genfam-sample", run, NAMED, "n=5", "out=s.npz"], place)
    call(["genfam-repeat", run, NAMED, "output_dir=repeated"], place)
    (repeated,) = place.glob("repeated/single/*/record.json")
    assert json.loads(repeated.read_text())["metrics"] != [] and repeated.parent.name == found.parent.name


def test_what_a_family_declares_is_in_its_checkpoint(place: Path) -> None:
    """A run that is cut off ends as one that is not: the replay buffer and the queue come back."""
    budget = "budget.train_flops=6e5"
    call([*RUN, budget, "output_dir=whole"], place)
    cut = start([*RUN, budget, "output_dir=cut"], place, place / "log.txt")
    for _ in range(600):
        if list(place.glob("cut/single/*/checkpoint.pt")):
            break
        time.sleep(0.05)
    assert cut.pid
    os.kill(cut.pid, signal.SIGINT)
    cut.join(60)
    assert cut.exitcode == 130
    call([*RUN, budget, "output_dir=cut"], place)
    weights = [next(place.glob(f"{store}/single/*/weights.safetensors")).read_bytes() for store in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_a_tensor_that_no_checkpoint_would_hold_is_refused(place: Path) -> None:
    text = (
        CODE["toy_family.py"]
        .replace('self.declare("replay", torch.zeros', "self.replay = (torch.zeros")
        .replace("event.shape), sampling=False)", "event.shape))")
    )
    (place / "toy_family.py").write_text(text)
    said = call([*RUN, "output_dir=store"], place, code=2)
    assert "replay" in said and "self.declare" in said and said.count("error:") == 1
    assert not os.path.exists(place / "store/single")
