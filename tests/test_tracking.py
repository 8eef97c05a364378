"""wandb: offline, one finished run per record, nothing asked of a network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from genfam import experiment
from genfam.types import Outcome

SMALL = ("family=gaussian", "source=die", "evaluation.samples=200", "metrics.divergence.noise=1",
         "metrics.divergence.least_samples=200", "logger=wandb")  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # wandb's own
def test_each_run_is_its_own_finished_offline_run(configure):
    runs = []
    for seed in (0, 1):  # in one process: the second must not go on in the first
        config = configure(*SMALL, f"seed={seed}")
        record = experiment.run(config)
        assert record.outcome is Outcome.OK, record.reason
        (found,) = experiment.run_directory(config).glob("wandb/offline-run-*/run-*.wandb")
        runs.append((record, found))
    import wandb

    assert wandb.run is None
    for record, found in runs:
        assert record.run_id in found.name
        done = subprocess.run(
            [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", found.parent],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        entries = [json.loads(line) for line in done.stdout.splitlines()]
        assert [entry["exit"]["exit_code"] for entry in entries if entry["type"] == "exit"] == [0]
        text = json.dumps(entries)
        assert "total_variation" in text
        assert "outcome" in text


def test_an_unknown_mode_names_the_known_ones(configure):
    with pytest.raises(ValueError, match=r"wandb\.mode: expected one of .*offline.* got 'of'"):
        experiment.run(configure(*SMALL, "wandb.mode=of"))
