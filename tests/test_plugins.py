"""A newcomer's family, source and metric: one Python file and one YAML each, outside the package."""

import json
import subprocess
import sys
from pathlib import Path

CODE = {
    "toy_family.py": '''
import torch
from torch import nn
from genfam.families.base import Family
from genfam.types import Likelihood

class Toy(Family):
    """Learns one number: the mean of everything."""
    likelihood = Likelihood.NONE

    def __init__(self, event, optimisation, batch_size):
        super().__init__(event, optimisation, batch_size)
        self.register_players(model=nn.Linear(1, 1))

    def loss(self, x, player):
        return (self.model(torch.ones(len(x), 1)) - x.float().mean(dim=1, keepdim=True)).square().mean()

    @torch.no_grad()
    def sample(self, n, *, generator):
        mean = self.sampler(torch.ones(n, 1))
        return mean + torch.randn(n, *self.event.shape, generator=generator)
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
        return [Measurement("mean_gap", "1", False, Estimate(gap, n ** -0.5, n), evaluation.fingerprint)]
''',
    "conf/family/toy.yaml": """
_target_: toy_family.Toy
name: toy
role: contestant
batch_size: 32
optimisation: {_target_: genfam.families.base.Optimisation, learning_rate: 0.05, ema: 0.0}
""",
    "conf/source/toy.yaml": """
# @package _global_
defaults:
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


def test_a_family_a_source_and_a_metric_from_outside(tmp_path: Path) -> None:
    for name, text in CODE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    command = [
        sys.executable, "-m", "genfam", "--config-dir", "conf", "family=toy", "source=toy", "+metric=toy",
        "plugins=[toy_family,toy_source,toy_metric]", "budget.train_flops=3e5", "logger=none", "output_dir=store",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = tmp_path.glob("store/single/*/record.json")
    record = json.loads(found.read_text())
    assert record["outcome"] == "ok" and record["family"] == "toy" and record["source"] == "toy"
    (gap,) = [m for m in record["metrics"] if m["name"] == "mean_gap"]
    assert gap["value"] < 0.5  # it learnt the mean: 3 before training
    evaluate = [Path(sys.executable).with_name("genfam-evaluate"), f"run={found.parent.relative_to(tmp_path)}"]
    (tmp_path / "again.yaml").write_text("_target_: again.Again\n")
    (tmp_path / "again.py").write_text(CODE["toy_metric.py"].replace("MeanGap", "Again").replace("mean_gap", "again"))
    done = subprocess.run(
        [*evaluate, "metric=again.yaml", "plugins=again"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    again = {m["name"]: m["value"] for m in json.loads(found.read_text())["metrics"]}
    assert again["again"] == again["mean_gap"] == gap["value"]
