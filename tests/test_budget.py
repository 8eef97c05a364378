"""Budgets of another order of size (conf/large): only for the sources that say how large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from genfam import cli, experiment, run_folder
from genfam.types import Outcome, Record


@pytest.mark.parametrize(
    ("budget", "sources"), [("long", "fashion_mnist|mnist"), ("gpu", "cifar10|cifar10_fid|stacked_mnist")]
)
def test_a_budget_of_another_order_is_refused_where_nobody_said_how_large(
    budget: str, sources: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[str] = []

    def run(config: dict[str, Any], *, progress: object) -> Record:
        got.append(config["source"]["name"])
        record = run_folder.failed_record(config, "")
        record.outcome = Outcome.OK
        return record

    monkeypatch.setattr(experiment, "run", run)
    arguments = [f"budget={budget}", f"output_dir={tmp_path}/o", f"data_dir={tmp_path}"]
    assert cli.main([*arguments, "source=ring"]) == 1
    assert f"budget={budget}: expected source={sources}, got ring" in capsys.readouterr().err
    assert cli.main([*arguments, f"source={sources.split('|')[-1]}"]) == 0
    mine = tmp_path / "mine/large" / budget
    mine.mkdir(parents=True)
    (mine / "ring.yaml").write_text("# @package _global_\nreference: {train_flops: 1.0e+9}\n")
    assert cli.main(["--config-dir", str(tmp_path / "mine"), *arguments, "source=ring"]) == 0
    assert len(got) == 2
