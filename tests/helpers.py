"""Configurations composed as the command line does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import genfam.cli  # noqa: F401  (registers the resolver that budgets use)

CONF = Path(__file__).parent.parent / "conf"


def composed(*overrides: str) -> dict[str, Any]:
    """A resolved configuration in plain containers, wandb switched off."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=["logger=none", *overrides])
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return plain
