"""Runs that no sweeper lists: what genfam-tune asks for, a few at a time."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode

from genfam.build import configuration_folder
from genfam.commands import cli


def run_batch(common: Sequence[str], jobs: Sequence[Sequence[str]]) -> list[JobReturn]:
    """Run one job per list of overrides, each in a process of its own, skipping what is finished.

    Args:
        common: overrides of all jobs; `hydra.launcher.workers=N` among them.
        jobs: each job's own overrides.

    Returns:
        In the order of `jobs`; asking a failed one for its value raises `genfam.commands.cli.RunFailed`.

    Raises:
        ValueError: overrides that do not compose.
        KeyboardInterrupt: after Ctrl-C, once the running jobs have saved their checkpoints.
    """
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        try:
            config = hydra.compose_config("config", [*common, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
        except HydraException as error:
            raise ValueError(str(error).strip().split("\n")[0]) from error
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(hydra.config_loader, Callbacks()), task_function=cli.run_task, config=config
        )
        own = [override for override in common if not override.startswith("hydra.")]
        return list(launcher.launch([[*own, *job] for job in jobs], initial_job_idx=0))
