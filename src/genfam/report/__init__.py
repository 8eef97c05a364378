"""What a suite's store says, for a person: terminal, CSV, Markdown and figures."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from genfam import records as store_of_records
from genfam.metric_trial import metric_trial
from genfam.records import Store, as_tuned, load_published, provenance, role_of, to_frame
from genfam.report.markdown import Figure, render
from genfam.report.pictures import Drawn, load_drawn, modes_figure, samples_figure
from genfam.report.plots import curves_figure, headline_figure, trial_figure
from genfam.report.stability_plots import cycles_figure, learning_rates_figure, profile_figure
from genfam.report.style import Look, looks, slug
from genfam.report.tables import Summary, summarise
from genfam.report.terminal import print_agreement, print_summary
from genfam.scorecard import agreement, comparisons, one_machine, plain_csv, scorecard, to_csv
from genfam.serialisation import write_atomically
from genfam.stability_card import aggregate, final_skills, stability_card
from genfam.types import Outcome, Record
from genfam.variance import variance_components

__all__ = ["finish", "publish", "write_report"]


@dataclass(frozen=True)
class Findings:
    """All tables of a suite; see the functions of the same names."""

    frame: pd.DataFrame
    card: pd.DataFrame
    comparisons: pd.DataFrame
    metric_trial: pd.DataFrame
    stability: pd.DataFrame
    aggregate: pd.DataFrame
    variance: pd.DataFrame
    outcomes: Counter[str]

    def summary(self, facts: dict[str, str]) -> Summary:
        """What the pages show."""
        return summarise(
            self.card,
            self.frame,
            self.comparisons,
            self.metric_trial,
            self.stability,
            self.aggregate,
            self.variance,
            facts,
            self.outcomes,
        )


def findings(records: Sequence[Record]) -> Findings:
    """Records -> tables. Runs at another than the tuned learning rate speak in the stability table only."""
    frame = one_machine(to_frame(as_tuned(records)))
    return Findings(
        frame,
        scorecard(frame),
        comparisons(frame),
        metric_trial(frame),
        stability_card(records),
        aggregate(records),
        variance_components(frame),
        Counter(record.outcome.value for record in records),
    )


def finish(
    suite_dir: str | Path, results_dir: str | Path, *, command: str | None = None, console: Console | None = None
) -> None:
    """Write a suite's report into its store, print it, and say how far it agrees with what was published.

    Writes `scorecard.csv`, `comparisons.csv`, `metric_trial.csv`, `stability.csv`, `aggregate.csv`, `variance.csv`,
    `scorecard.md` and `figures/*.png`. A suite with runs
    missing or failed is reported as far as it goes; an empty one is said to be empty. A folder of published records
    is printed, and left as it is.

    Args:
        suite_dir: `outputs/<suite>`.
        results_dir: `results`; compared where `results/<suite>/records.jsonl` exists.
        command: what made these runs; default: this process's command line.
        console: where to print; default: the terminal.

    Raises:
        ValueError: records that cannot share a table (different protocols).
    """
    console = console or Console()
    folder = Path(suite_dir)
    records = Store(folder).current()
    if not records and (folder / "records.jsonl").exists():
        print_summary(console, findings(load_published(folder)).summary({}))
        console.print(Text(f"These are the published records of {folder}; nothing was written."))
        return
    if not records:
        console.print(Text(f"No records in {folder}: nothing to report."))
        return
    card, frame, summary, files = write_report(folder, records, command or _command_line())
    print_summary(console, summary)
    console.print(Text("Files: " + ", ".join(str(file) for file in files[:2]) + f", {folder / 'figures'}/"))
    for suite in sorted(set(frame["suite"])):
        published = Path(results_dir) / suite
        found = None
        if (published / "records.jsonl").exists():
            theirs = scorecard(one_machine(to_frame(as_tuned(load_published(published)))))
            found = agreement(card[card["suite"] == suite], theirs)
        print_agreement(console, found, published, suite)


def publish(suite_dir: str | Path, results_dir: str | Path, command: str, *, allow_mixed: bool = False) -> Path:
    """Make the report anew with `command` in it and publish it (see `genfam.records.publish`).

    Raises:
        ValueError: the store may not be published; nothing was written.
    """
    store = Store(suite_dir)
    records = store.current()
    store_of_records.check_publishable(store, records, allow_mixed=allow_mixed)
    write_report(store.folder, records, command)
    return store_of_records.publish(suite_dir, results_dir, command, allow_mixed=allow_mixed)


def write_report(
    folder: Path, records: Sequence[Record], command: str
) -> tuple[pd.DataFrame, pd.DataFrame, Any, list[Path]]:
    """Write the report's files; returns (scorecard, frame, summary, paths: CSV and Markdown first)."""
    found = findings(records)
    facts = provenance(list(records), command)
    machine = facts["machine"]
    summary = found.summary(
        {
            "command": facts["command"],
            "code": ", ".join(facts["code_versions"]),
            "machine that made this page": f"{machine['cpu']}, {machine['cores']} cores, "
            f"{machine['memory'] / 2**30:.1f} GiB, {machine['system']}, Python {facts['python']}",
            "devices of the runs": "; ".join(facts["devices"]),
            "date": facts["date"],
        }
    )
    figures = _draw(folder, as_tuned(records), found.card, found.frame)
    if profile_figure(final_skills(records), looks(_roles(records)), folder / "figures" / "profile.png"):
        figures.append(Figure("profile.png", "Share of runs above a skill (performance profile)"))
    if learning_rates_figure(records, looks(_roles(records)), folder / "figures" / "learning_rates.png"):
        figures.append(Figure("learning_rates.png", "Skill at a quarter, once and four times the learning rate"))
    if trial_figure(found.metric_trial, folder / "figures" / "metric_trial.png"):
        figures.append(Figure("metric_trial.png", "Which metric orders runs as the exact divergence does"))
    for old in (folder / "figures").glob("*.png"):
        if old.name not in {figure.name for figure in figures}:
            old.unlink()
    csv, markdown = folder / "scorecard.csv", folder / "scorecard.md"
    write_atomically(csv, to_csv(found.card))
    for name in store_of_records.TABLES[1:]:
        write_atomically(folder / f"{name}.csv", plain_csv(getattr(found, name)))
    write_atomically(markdown, render(summary, figures))
    return found.card, found.frame, summary, [csv, markdown, *(folder / "figures" / figure.name for figure in figures)]


def _draw(folder: Path, records: Sequence[Record], card: pd.DataFrame, frame: pd.DataFrame) -> list[Figure]:
    families = looks(_roles(records))
    target = folder / "figures"
    made: list[Figure] = []
    if headline_figure(card, frame, families, target / "headline.png"):
        made.append(Figure("headline.png", "Fréchet distance relative to the oracle's, by source and family"))
    for source in sorted({record.source for record in records}):
        runs = [record for record in records if record.source == source]
        drawn = _first_drawn(Store(folder), runs, families)
        end = f"_{slug(source)}.png"
        if drawn and samples_figure(drawn, families, target / f"samples{end}", source):
            made.append(Figure(f"samples{end}", f"{source}: samples beside real data", source))
        if drawn and modes_figure(drawn, families, target / f"modes{end}", source):
            made.append(Figure(f"modes{end}", f"{source}: mass per mode, model against truth", source))
        if cycles_figure(runs, families, target / f"trace{end}", source):
            made.append(Figure(f"trace{end}", f"{source}: mode masses of the live players over training", source))
        if curves_figure(runs, families, target / f"curves{end}", source):
            made.append(Figure(f"curves{end}", f"{source}: learning curves", source))
    return made


def _first_drawn(store: Store, runs: Sequence[Record], families: dict[str, Look]) -> dict[str, Drawn]:
    """Family -> what its lowest seed drew, in the order of `families`: unpicked, but for runs without samples."""
    found: dict[str, Drawn] = {}
    shape: tuple[int, ...] | None = None
    for family in families:
        own = sorted((r for r in runs if r.family == family and r.outcome is Outcome.OK), key=lambda r: r.seed)
        for record in own:
            drawn = load_drawn(store.directory(record.run_id) / "samples.npz", record.seed)
            if drawn is not None and (shape is None or drawn.samples.shape[1:] == shape):
                shape = drawn.samples.shape[1:]
                found[family] = drawn
                break
    return found


def _roles(records: Sequence[Record]) -> dict[str, str]:
    return {record.family: role_of(record) for record in records}


def _command_line() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
