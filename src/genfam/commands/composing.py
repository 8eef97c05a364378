"""A run's settings from overrides, as `genfam` composes them, for the commands beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from genfam.build import ConfigurationError, configuration_folder
from genfam.commands import cli
from genfam.commands.mistakes import explain

if TYPE_CHECKING:
    from genfam.records.run import Run


def composed(overrides: Sequence[str], config_dir: str | None = None) -> Run:
    """What `genfam OVERRIDES` would run.

    Args:
        overrides: as on the command line.
        config_dir: a folder of the user's own YAML.

    Raises:
        ConfigurationError: what cannot be composed, or a value that cannot be; in one line.
    """
    more = [] if config_dir is None else [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"]
    chosen = [*more, *overrides]
    try:
        with hydra.initialize_config_dir(str(configuration_folder()), version_base="1.3"):
            return cli.settings(hydra.compose("config", chosen))
    except (HydraException, OmegaConfBaseException) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        raise ConfigurationError(explain(error, [], chosen)) from error


def quoted(path: str | Path) -> str:
    """A path as a value that Hydra reads letter by letter: commas, brackets and quotes mean something to it."""
    return '"' + str(path).replace('"', '\\"') + '"'
