"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import composed


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """overrides -> configuration whose store is the test's own folder."""
    return lambda *overrides: composed(f"output_dir={tmp_path}/outputs", f"results_dir={tmp_path}/results", *overrides)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Results do not depend on how many cores the machine has."""
    torch.set_num_threads(1)
