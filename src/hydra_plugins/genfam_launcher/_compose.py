"""Composing the jobs of a sweep once each, and without reading YAML again where only a number changes.

Hydra composes each job twice (the sweeper to validate, the launcher to run) at a quarter of a second each; a suite
of 180 runs would wait a minute and a half before the first one starts.
"""

from __future__ import annotations

import copy
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict


class QuickLoader:
    """The configuration loader given, with `load_sweep_config` remembered.

    Attributes:
        loader: the loader given.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """As the loader's own; jobs that differ in numbers only (`seed=0`, `seed=1`) share one composition."""
        parsed = OverridesParser.create().parse_overrides(sweep_overrides)
        numbers = {o.key_or_group: o.value() for o in parsed if _sets_number(o)}
        if any(isinstance(o.value(), dict | list) for o in parsed):
            numbers = {}  # the order of `a={b:1}` and `a.b=2` matters
        key = (*numbers, *(o.input_line or "" for o in parsed if o.key_or_group not in numbers))
        if key not in self._composed:
            self._composed[key] = self.loader.load_sweep_config(master_config, sweep_overrides)
        config = copy.deepcopy(self._composed[key])
        for name, value in numbers.items():
            OmegaConf.update(config, name, value)
        own = [o for o in parsed if not o.is_hydra_override()]
        with open_dict(config.hydra):
            job = config.hydra.job
            config.hydra.overrides.task = [o.input_line for o in own]
            style = job.config.override_dirname
            job.override_dirname = get_overrides_dirname(own, style.exclude_keys, style.item_sep, style.kv_sep)
        return config


def _sets_number(override: Override) -> bool:
    """`key=1`: nothing that could change which YAML is read, or how."""
    changes = not (override.is_add() or override.is_force_add() or override.is_delete() or override.package)
    return changes and not override.is_hydra_override() and isinstance(override.value(), int | float)
