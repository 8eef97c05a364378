"""Configurations composed as the command line does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import genfam.commands.cli  # noqa: F401  (registers the resolver that budgets use)
from genfam.build import find
from genfam.families.base import Family

CONF = Path(__file__).parent.parent / "conf"


def composed(*overrides: str) -> dict[str, Any]:
    """A resolved configuration in plain containers, wandb switched off."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=["logger=none", *overrides])
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return plain


def read_wandb(run: Path) -> list[dict[str, Any]]:
    """The entries of a wandb run's log: what `wandb leet inspect --json` runs, without its second of imports."""
    from wandb.util import get_core_path

    (file,) = run.glob("run-*.wandb")
    command = [
        get_core_path(),
        "leet",
        "inspect",
        "--no-observability",
        "--json",
        "--run-file",
        str(file),
        str(run.parent),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def plain_families() -> list[str]:
    """Families that model a source by themselves: no variants of another, none that carry one source to another."""
    nodes = {path.stem: yaml.safe_load(path.read_text()) for path in (CONF / "family").glob("*.yaml")}
    variants = {name for name, node in nodes.items() if node.get("defaults", [None])[0] in list(nodes)}
    whole = nodes.keys() - variants
    return sorted(name for name in whole if not find(nodes[name]["_target_"], Family, "family", []).needs_init)
