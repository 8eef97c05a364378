"""What is published is what today's configuration asks for, the runs of a cell by one state of the code."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode

from genfam.build import configuration_folder
from genfam.commands import cli
from genfam.records.publication import mixed_digests
from genfam.records.run import Run
from genfam.records.store import load_published
from genfam.running import preflight
from hydra_plugins.genfam_launcher._compose import QuickLoader

RESULTS = Path(__file__).resolve().parents[1] / "results"
PUBLISHED = {path.parent.name: load_published(path.parent) for path in RESULTS.glob("*/records.jsonl.gz")}
SUITES = sorted(name for name, records in PUBLISHED.items() if not all(record.is_guest for record in records))


@cache
def asked_for(suite: str) -> dict[str, Run]:
    """All runs of a suite by their ids, as it is configured today."""
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = hydra.compose_config("config", [f"+suite={suite}", "logger=none"], RunMode.MULTIRUN)
        swept = [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
        parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(swept)
        (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
        quick = QuickLoader(hydra.config_loader)
        chosen = [f"+suite={suite}", "logger=none"]
        runs = [cli.settings(quick.load_sweep_config(config, [*chosen, *job])) for job in jobs]
        return {run.id: run for run in runs}


@pytest.mark.parametrize("suite", SUITES)
def test_no_run_that_a_published_suite_asks_for_is_missing(suite: str) -> None:
    assert (configuration_folder() / "suite" / f"{suite}.yaml").is_file(), f"results/{suite}: no such suite any more"
    records = {record.run_id for record in PUBLISHED[suite] if not record.is_guest}
    lacking = asked_for(suite).keys() - records
    missing = sorted(lacking - preflight.check([asked_for(suite)[run] for run in lacking]).keys())
    assert not missing, f"results/{suite}: {len(missing)} runs are not there, the first {missing[0]}: run it again"
    assert records <= asked_for(suite).keys(), f"results/{suite}: runs that the suite does not have any more"


@pytest.mark.parametrize("suite", SUITES)
def test_a_published_suites_runs_of_one_family_have_one_digest(suite: str) -> None:
    records = PUBLISHED[suite]
    assert all(record.digest for record in records), f"results/{suite}: records without a digest"
    assert not mixed_digests(records)
