"""Cells that a family does not model: refused alone, left out of a suite, before any work and with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from genfam.commands import cli, scripts
from genfam.running import preflight

WHY = "masked_diffusion on grid: masked diffusion fills in levels, and these events are continuous"
TINY = ("budget=smoke", "logger=none", "metric=[frechet]", "evaluation.samples=100", "~metrics.cells", "judge=null")


def test_the_look_ahead_tells_cells_that_are_not_modelled_from_mistakes(configure: Any) -> None:
    cells = [configure("family=masked_diffusion", f"source={source}") for source in ("grid", "die")]
    found = preflight.check(cells)
    assert list(found) == [cells[0].id] and found[cells[0].id].startswith(WHY)


def test_alone_it_is_refused_and_in_a_suite_left_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = (f"output_dir={tmp_path}/o", f"results_dir={tmp_path}/r", "source=grid", *TINY)
    for several in ([], ["-m"]):
        assert cli.main([*several, "family=masked_diffusion", *place]) == 2
        assert WHY in capsys.readouterr().err
        assert not list(tmp_path.rglob("record.json"))
    assert cli.main(["-m", "family=gaussian,masked_diffusion", *place]) == 0
    assert f"left out: {WHY}" in capsys.readouterr().out
    assert [path.parent.name.split("-")[1] for path in tmp_path.rglob("record.json")] == ["gaussian"]
    assert cli.main(["-m", "family=gaussian,masked_diffusion", *place]) == 0  # all that is modelled is finished


def test_the_tuner_leaves_it_out_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = ("source=grid", f"output_dir={tmp_path}/o", f"results_dir={tmp_path}/r")
    assert scripts.tune(["family=masked_diffusion", *place]) == 2
    assert WHY in capsys.readouterr().err
