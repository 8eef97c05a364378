"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genfam.records.run import Run
from helpers import composed


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Run]:
    """overrides -> a run whose store is the test's own folder."""
    places = f"output_dir={tmp_path}/outputs", f"results_dir={tmp_path}/results"
    return lambda *overrides: Run.of(composed(*places, *overrides))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Results do not depend on how many cores the machine has."""
    torch.set_num_threads(1)
