"""`reuse_published`: what is published counts as done, is seen by the report, and can be published again."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

import launcher_tasks
from genfam.commands import cli, scripts
from genfam.records.paths import without_paths
from genfam.records.publication import publishable
from genfam.records.reuse import reuse
from genfam.records.run import Run
from genfam.records.store import Store, load_published, write_published
from genfam.running.experiment import begun
from genfam.types import Outcome, Record

TINY = ["source=die", "family=oracle", "budget=smoke", "logger=none", "curve.samples=50", "evaluation.samples=200",
        "metric=[frechet,modes]"]  # fmt: skip


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    return [f"output_dir={tmp_path}/outputs", f"results_dir={tmp_path}/results"]


def publish_lines(tmp_path: Path, *records: Record) -> Path:
    return write_published(tmp_path / "results/single", map(publishable, records))


def published_runs(configure, tmp_path: Path, seeds: list[int]) -> list[Record]:
    """Records that no run here could have made: they name another digest of the code."""
    found = []
    for seed in seeds:
        run = configure("source=die", "family=oracle", "budget=smoke", f"seed={seed}", "reuse_published=true")
        found.append(replace(begun(run, Outcome.OK), digest="elsewhere"))
    publish_lines(tmp_path, *found)
    return found


def test_published_runs_are_not_run_again_and_the_others_are(
    configure, places: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = published_runs(configure, tmp_path, [0, 4])
    monkeypatch.setattr("genfam.report.finish", lambda folder, results: None)
    sweep = ["-m", "source=die", "family=oracle", "budget=smoke", "logger=none", "seed=0,4,5", *places]
    assert cli.main([*sweep, "reuse_published=true"], task=launcher_tasks.troubled) == 0
    shown = capfd.readouterr().out
    assert "3 runs, 2 reused from what is published" in shown
    assert "2 of 3 runs reused from what is published" in shown
    stored = {record.seed: record for record in Store(tmp_path / "outputs/single").load()}
    assert [stored[seed].digest == "elsewhere" for seed in (0, 4, 5)] == [True, True, False]
    assert stored[0] == publishable(there[0])
    started = sorted(path.parent.name for path in tmp_path.glob("outputs/single/*/started.txt"))
    assert started == [stored[5].run_id]

    assert cli.main([*sweep, "reuse_published=true"], task=launcher_tasks.troubled) == 0
    shown = capfd.readouterr().out
    assert "3 runs, 3 of them finished before: skipped\n" in shown
    assert "reused" not in shown


def test_without_the_key_published_runs_do_not_count(configure, tmp_path: Path) -> None:
    (record,) = published_runs(configure, tmp_path, [0])
    run = Run.of(record.config | {"reuse_published": False})
    assert run.id == record.run_id, "the key is no part of a run's identity"
    assert reuse(run) is None
    assert not (tmp_path / "outputs").exists()
    assert reuse(Run.of(record.config)) is not None


def test_a_run_that_another_suite_published_counts_as_one_of_the_suite_that_asks(configure, tmp_path: Path) -> None:
    (record,) = published_runs(configure, tmp_path, [0])
    run = Run.of(record.config | {"suite": "mine"})
    assert run.id == record.run_id, "the suite is no part of a run's identity"
    assert reuse(run) == replace(publishable(record), suite="mine")
    assert [stored.suite for stored in Store(tmp_path / "outputs/mine").load()] == ["mine"]


def test_a_failed_run_of_the_store_gives_way_and_an_unfinished_published_one_does_not_count(
    configure, tmp_path: Path
) -> None:
    (record,) = published_runs(configure, tmp_path, [0])
    store = Store(tmp_path / "outputs/single")
    store.write(replace(record, outcome=Outcome.FAILED))
    assert reuse(Run.of(record.config)) is not None
    assert [stored.outcome for stored in store.load()] == [Outcome.OK]
    publish_lines(tmp_path, replace(record, outcome=Outcome.INTERRUPTED))
    assert reuse(Run.of(record.config)) is None


def test_shortened_paths_do_not_matter_and_another_configuration_is_refused(configure, tmp_path: Path) -> None:
    run = configure("source=image_folder", "family=oracle", "source.folder=/srv/my/images", "reuse_published=true")
    path = publish_lines(tmp_path, begun(run, Outcome.OK))
    assert b"/srv" not in gzip.decompress(path.read_bytes())
    found = reuse(run)
    assert found is not None and found.config == without_paths(run.config)
    record = begun(run, Outcome.OK)
    publish_lines(tmp_path, replace(record, config=record.config | {"evaluation": {"samples": 7}}))
    with pytest.raises(
        ValueError, match=r"records\.jsonl\.gz, run .*: expected the configuration .* differ in samples\)"
    ):
        reuse(run)


def test_a_single_run_is_reused_too_and_the_whole_can_be_published(
    places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    assert cli.main([*TINY, "seed=0", *places]) == 0
    store = tmp_path / "outputs/single"
    places_of = ["--suite", "single", "--output_dir", str(tmp_path / "outputs"), "--results_dir", str(results)]
    assert scripts.publish(places_of) == 0, capsys.readouterr().err
    (first,) = load_published(results / "single")
    write_published(results / "single", [replace(first, digest="elsewhere")])
    for path in store.rglob("*"):
        path.unlink() if path.is_file() else None
    capsys.readouterr()
    assert cli.main([*TINY, "seed=0", *places, "reuse_published=true"]) == 0
    assert "1 of 1 runs reused from what is published" in capsys.readouterr().out
    pictures = {path.name for path in (results / "single/figures").iterdir()}
    assert "modes_die.png" in pictures
    assert scripts.publish(places_of) == 0, capsys.readouterr().err
    assert {path.name for path in (results / "single/figures").iterdir()} == pictures, "they cannot be made again"
    assert cli.main([*TINY, "seed=1", *places, "reuse_published=true"]) == 0
    assert "runs reused" not in capsys.readouterr().out

    assert scripts.publish(places_of) == 1
    assert "expected one numerics digest a family" in capsys.readouterr().err
    assert scripts.publish([*places_of, "--allow-mixed"]) == 0, capsys.readouterr().err
    again = load_published(results / "single")
    assert [record.seed for record in again] == [0, 1]
    assert again[0] == replace(first, digest="elsewhere")
