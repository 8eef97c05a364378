"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genfam.families import flow_density
from genfam.records.run import Run
from helpers import composed


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Run]:
    """overrides -> a run whose store is the test's own folder."""
    places = f"output_dir={tmp_path}/outputs", f"results_dir={tmp_path}/results"
    return lambda *overrides: Run.of(composed(*places, *overrides))


@pytest.fixture
def coarse_integrals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of densities by integration: how exact they are is tested elsewhere (test_flow_density.py)."""
    monkeypatch.setattr(flow_density, "MOST_STEPS", flow_density.FEWEST_STEPS)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Results do not depend on how many cores the machine has."""
    torch.set_num_threads(1)
