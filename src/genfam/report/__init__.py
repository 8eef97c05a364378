"""What a suite's store says, for a person: terminal, CSV, Markdown and figures."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from genfam import progress
from genfam.comparing.scorecard import agreement, one_machine, plain_csv, scorecard, to_csv
from genfam.files import refuse_links, sha256, write_atomically
from genfam.records import publication, sampling_costs
from genfam.records.frame import to_frame
from genfam.records.publication import provenance
from genfam.records.store import PUBLISHED, Store, as_tuned, beside_published, load_published
from genfam.report.findings import Findings, findings
from genfam.report.markdown import Figure, render
from genfam.report.page import NAME, write_page
from genfam.report.papers import tables
from genfam.report.paths import trajectories_figure
from genfam.report.pictures import Drawn, classes_figure, load_drawn, modes_figure, samples_figure
from genfam.report.plots import cycles_figure, headline_figure
from genfam.report.scaling import scaling_figure
from genfam.report.strings import strings_figure
from genfam.report.style import Look, looks, slug
from genfam.report.tables import Summary
from genfam.report.terminal import print_agreement, print_summary
from genfam.types import Outcome, Record

SHOWS = (samples_figure, strings_figure)  # the first that can show such events

__all__ = ["finish", "paper_tables", "publish", "write_report"]


def finish(
    suite_dir: str | Path,
    results_dir: str | Path,
    *,
    command: str | None = None,
    console: Console | None = None,
    page_dir: str | Path | None = None,
) -> None:
    """Write a suite's report into its store, print it, and say how far it agrees with what was published.

    Writes `report.html`, `scorecard.csv`, `comparisons.csv`, `metric_trial.csv`, `stability.csv`, `aggregate.csv`,
    `variance.csv`, `scorecard.md` and `figures/*.png`, and those of `publication.MORE_TABLES` that the suite has. A
    suite with runs missing or failed is reported as far as it goes; where none has ended well and the suite is
    published, that is shown. An empty one is said to be empty. A folder of published records is printed, and left as
    it is: its page goes to `page_dir`. Where a store holds guests alone, they stand beside the published runs.

    Args:
        suite_dir: `outputs/<suite>`.
        results_dir: `results`; compared where `results/<suite>/records.jsonl.gz` exists.
        command: what made these runs; default: this process's command line.
        page_dir: where the page of published records goes; default: it is not made.
        console: where to print; default: the terminal.

    Raises:
        ValueError: records that cannot share a table (different protocols).
    """
    console = console or Console()
    folder = Path(suite_dir)
    records = Store(folder).current()
    if not records and (folder / PUBLISHED).exists():
        _finish_published(folder, console, None if page_dir is None else Path(page_dir))
        return
    if not records:
        console.print(Text(f"No records in {folder}: nothing to report."))
        return
    published = Path(results_dir) / records[0].suite
    if len(beside_published(records, published)) > len(records):
        _finish_published(published, console, folder, records)
        return
    if not any(record.outcome.finished for record in records) and (published / PUBLISHED).exists():
        reasons = sorted({f"{record.outcome.value}: {progress.headline(record.reason)}" for record in records})
        console.print(Text(f"None of the {len(records)} runs in {folder} has ended well ({'; '.join(reasons[:3])})."))
        _finish_published(published, console, folder)
        return
    card, frame, summary, files = write_report(folder, records, command or _command_line())
    print_summary(console, summary)
    tables_made = ", ".join(str(file) for file in files if file.suffix != ".png")
    console.print(Text(f"Files: {tables_made}, {folder / 'figures'}/"))
    console.print(Text(f"Open in a browser: {folder / NAME}"))
    for suite in sorted(set(frame["suite"])):
        published = Path(results_dir) / suite
        found = None
        if (published / PUBLISHED).exists():
            theirs = scorecard(one_machine(to_frame(as_tuned(load_published(published)))))
            found = agreement(card[card["suite"] == suite], theirs)
        print_agreement(console, found, published, suite)


def _finish_published(
    folder: Path, console: Console, page_dir: Path | None, guests: Sequence[Record] = ()
) -> None:  # fmt: skip
    """Print published records; with guests, whose store `page_dir` is, write the tables that have both there."""
    records = [*load_published(folder), *guests]
    found = findings(records)
    origin = folder / "provenance.json"
    facts = facts_of(json.loads(origin.read_text(encoding="utf-8"))) if origin.exists() else {}
    summary = found.summary(facts)
    print_summary(console, summary)
    if page_dir is None:
        console.print(Text(f"These are the published records of {folder}; nothing was written."))
        return
    drawn = _drawn(Store(page_dir), guests, looks(_roles(records)))
    page = write_page(page_dir / NAME, folder, records, found, summary, drawn, published=True)
    if guests:
        written = write_tables(page_dir, found, summary, [])
        console.print(Text(f"Files: {', '.join(map(str, written))}"))
    console.print(Text(f"These are the published records of {folder}, which is left as it is."))
    console.print(Text(f"Open in a browser: {page}"))


def paper_tables(
    folder: str | Path, form: str, metrics: Sequence[str] = (), published: str | Path | None = None
) -> str:
    """The tables of a suite, run or published, for a paper: see `genfam.report.papers.tables`.

    Where `folder` holds guests alone, the runs in `published` stand beside them.

    Raises:
        ValueError: as there.
        FileNotFoundError: `folder` holds neither runs nor published records.
    """
    records = Store(folder).current() or load_published(folder)
    records = records if published is None else beside_published(records, published)
    return tables(findings(records).summary({}), form, metrics)


def publish(suite_dir: str | Path, results_dir: str | Path, command: str, *, allow_mixed: bool = False) -> Path:
    """Make the report anew with `command` in it and publish it (see `genfam.records.store.publish`).

    Raises:
        ValueError: the store may not be published; nothing was written.
    """
    store = Store(suite_dir)
    records = store.current()
    publication.check_publishable(store, records, allow_mixed=allow_mixed)
    write_report(store.folder, records, command)
    target = publication.publish(suite_dir, results_dir, command, allow_mixed=allow_mixed)
    sampling_costs.publish(suite_dir, target)
    return target


def write_report(
    folder: Path, records: Sequence[Record], command: str
) -> tuple[pd.DataFrame, pd.DataFrame, Any, list[Path]]:
    """Write the report's files; returns (scorecard, frame, summary, paths: CSV and Markdown first)."""
    refuse_links(folder)
    found = findings(records)
    summary = found.summary(facts_of(provenance(list(records), command)))
    families, tuned = looks(_roles(records)), as_tuned(records)
    drawn = _drawn(Store(folder), tuned, families)
    figures = _draw(folder, tuned, found, drawn)
    for old in (folder / "figures").glob("*.png"):
        if old.name not in {figure.name for figure in figures}:
            old.unlink()
    written = write_tables(folder, found, summary, figures)
    write_page(folder / NAME, folder, records, found, summary, drawn)
    return found.card, found.frame, summary, [*written, *(folder / "figures" / figure.name for figure in figures)]


def write_tables(folder: Path, found: Findings, summary: Summary, figures: list[Figure]) -> list[Path]:
    """Write the tables as CSV and the page as Markdown; returns the paths of the scorecard and of the page."""
    csv, markdown = folder / "scorecard.csv", folder / "scorecard.md"
    write_atomically(csv, to_csv(found.card))
    for name in publication.TABLES[1:]:
        write_atomically(folder / f"{name}.csv", plain_csv(getattr(found, name)))
    more = found.more
    for name in publication.MORE_TABLES:
        if name in more:
            write_atomically(folder / f"{name}.csv", plain_csv(more[name]))
        else:
            (folder / f"{name}.csv").unlink(missing_ok=True)
    write_atomically(markdown, render(summary, figures))
    return [csv, markdown, *(folder / f"{name}.csv" for name in more)]


def facts_of(origin: dict[str, Any]) -> dict[str, str]:
    """Provenance as lines of text."""
    return {
        "command": origin["command"],
        "code": ", ".join(origin["code_versions"]),
        "machines of the runs": "; ".join(origin["devices"]),
        "report made at": origin["date"],
    }


def _draw(
    folder: Path,
    records: Sequence[Record],
    found: Findings,
    drawn_of: Mapping[str, dict[str, Drawn]],
) -> list[Figure]:
    families = looks(_roles(records))
    target = folder / "figures"
    made: list[Figure] = []
    if headline_figure(found.card, found.frame, families, target / "headline.png"):
        made.append(Figure("headline.png", "Each source's judge relative to the oracle's value, by family"))
    for source, drawn in drawn_of.items():
        runs = [record for record in records if record.task == source]
        end = f"_{slug(source)}.png"
        if drawn and any(show(drawn, families, target / f"samples{end}", source) for show in SHOWS):
            made.append(Figure(f"samples{end}", f"{source}: samples beside real data", source))
        if drawn and trajectories_figure(drawn, families, target / f"trajectories{end}", source):
            made.append(Figure(f"trajectories{end}", f"{source}: sampling step by step", source))
        if drawn and classes_figure(drawn, target / f"classes{end}", source):
            made.append(Figure(f"classes{end}", f"{source}: a row of samples per value of the condition", source))
        if drawn and modes_figure(drawn, families, target / f"modes{end}", source):
            made.append(Figure(f"modes{end}", f"{source}: mass per mode, model against truth", source))
        if cycles_figure(runs, families, target / f"trace{end}", source):
            made.append(Figure(f"trace{end}", f"{source}: mode masses of the live players over training", source))
        if scaling_figure(found.scaling, families, target / f"scaling{end}", source):
            made.append(Figure(f"scaling{end}", f"{source}: quality over training budgets", source))
    return made


def _drawn(store: Store, runs: Sequence[Record], families: dict[str, Look]) -> dict[str, dict[str, Drawn]]:
    """Source -> `_first_drawn`."""
    return {
        source: _first_drawn(store, [record for record in runs if record.task == source], families)
        for source in sorted({record.task for record in runs})
    }


def _first_drawn(store: Store, runs: Sequence[Record], families: dict[str, Look]) -> dict[str, Drawn]:
    """Family -> what its lowest seed drew, in the order of `families`: unpicked, but for runs without samples."""
    found: dict[str, Drawn] = {}
    shape: tuple[int, ...] | None = None
    for family in families:
        own = sorted((r for r in runs if r.family == family and r.outcome is Outcome.OK), key=lambda r: r.seed)
        for record in own:
            path = store.directory(record.run_id) / "samples.npz"
            known = record.files.get(path.name)
            if known is not None and path.is_file() and sha256(path) != known:
                warnings.warn(f"left out samples that are not those of the record beside them, {path}", stacklevel=2)
                continue
            drawn = load_drawn(path, record.seed)
            if drawn is not None and (shape is None or drawn.samples.shape[1:] == shape):
                shape = drawn.samples.shape[1:]
                found[family] = drawn
                break
    return found


def _roles(records: Sequence[Record]) -> dict[str, str]:
    return {record.family: record.role for record in records}


def _command_line() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
