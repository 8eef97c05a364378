"""A suite in wandb beyond its single runs: the saved dashboard, built in code, and the scorecard as a table.

The dashboard is one wandb workspace per source, since means over sources would be means of different units. In each,
runs are grouped by family: a bar or line is the mean over seeds, with one standard error as its interval (wandb has
no other that depends on the number of seeds; the scorecard's 95 % intervals stand in its table).
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from genfam.comparing.stability import judge_of
from genfam.files import write_atomically
from genfam.records.run import Wandb
from genfam.records.store import PUBLISHED, Store, as_tuned, beside_published, load_published
from genfam.report.findings import findings
from genfam.report.style import slug
from genfam.running.tracking.base import summary_name
from genfam.running.tracking.sketches import of_file
from genfam.running.tracking.weights_and_biases import has_account, open_run, quiet_wandb, wandb_id
from genfam.types import Kind, Outcome, Record

SECTIONS = ("Comparison", "Coverage", "Stability", "Samples", "Cost")
COVERAGE = (Kind.COVERAGE, Kind.FIDELITY)
TRUTH = (Kind.DIVERGENCE, Kind.LIKELIHOOD)
PICTURES = ("samples", "data")
COSTS = ("train_seconds", "evaluate_seconds", "seconds_per_sample", "evaluations_per_sample", "peak_memory")
MOST_RUNS = 500  # a group's mean is over the runs that wandb shows


def records_of(suite: str, output_dir: Path, results_dir: Path) -> list[Record]:
    """The suite's records on this machine, or else the published ones.

    Raises:
        FileNotFoundError: neither is there.
    """
    records = Store(output_dir / suite).current()
    if records:
        return beside_published(records, results_dir / suite)
    if (results_dir / suite / PUBLISHED).exists():
        return load_published(results_dir / suite)
    raise FileNotFoundError(
        f"{suite}: expected records in {output_dir / suite} or {results_dir / suite}, found none; "
        f"make benchmark SUITE={suite} makes them"
    )


def workspaces(records: Sequence[Record], entity: str, project: str) -> dict[str, Any]:
    """Source -> wandb workspace of one suite's records, not saved.

    Raises:
        ValueError: wandb-workspaces is not installed.
    """
    quiet_wandb()
    try:
        ws, expr = import_module("wandb_workspaces.workspaces"), import_module("wandb_workspaces.expr")
    except ModuleNotFoundError as error:
        raise ValueError(
            "dashboard: expected the package wandb-workspaces, got none: pip install genfam[workspace]"
        ) from error

    found = {}
    for source in sorted({record.task for record in records}):
        runs = [record for record in records if record.task == source]
        sections = _sections(runs)
        found[source] = ws.Workspace(
            entity=entity,
            project=project,
            name=f"{runs[0].suite}: {source}",
            sections=[ws.Section(name=name, panels=sections[name], is_open=True) for name in SECTIONS],
            settings=ws.WorkspaceSettings(x_axis="train_flops", max_runs=MOST_RUNS),
            runset_settings=ws.RunsetSettings(
                filters=[
                    expr.Config("suite") == runs[0].suite,
                    expr.Config("source") == source,
                    expr.Metric("JobType") == "train",
                ],
                groupby=[expr.Config("family")],
                pinned_columns=["summary:outcome", "summary:diagnosis", *(f"summary:{m}" for m in _headlines(runs))],
            ),
        )
    return found


def _headlines(runs: Sequence[Record]) -> list[str]:
    """The judge first."""
    judge = judge_of(runs)
    own = {summary_name(m, run) for run in runs for m in run.metrics if m.name == judge and m.estimate is not None}
    return [*sorted(own), *(name for name in _named(runs, Kind.HEADLINE) if name not in own)]


def _named(runs: Sequence[Record], *kinds: Kind) -> list[str]:
    return sorted(
        {summary_name(m, run) for run in runs for m in run.metrics if m.estimate is not None and m.kind in kinds}
    )


def _sections(runs: Sequence[Record]) -> dict[str, list[Any]]:
    """Section -> panels; only of what these runs measured."""
    wr = import_module("wandb_workspaces.reports.v2")
    units = {summary_name(m, run): m.unit for run in runs for m in run.metrics if m.estimate is not None}
    better = {summary_name(m, run): m.higher_is_better for run in runs for m in run.metrics if m.estimate is not None}
    curves = sorted({point.metric for run in runs for point in run.curve})
    players = sorted({name for run in runs if run.trace for p in run.trace.points for name in p.gradient_norms})
    family = wr.Config("family")

    def title(name: str) -> str:
        arrow = {True: " ↑", False: " ↓", None: ""}[better.get(name)]
        unit = units.get(name, "1")
        return f"{name}{arrow}{'' if unit == '1' else f' ({unit})'}, mean ± standard error over seeds"

    def bar(name: str) -> Any:
        return wr.BarPlot(
            title=title(name), metrics=[name], groupby=family, groupby_aggfunc="mean", groupby_rangefunc="stderr",
            max_runs_to_show=MOST_RUNS,
        )  # fmt: skip

    def line(key: str, x: str, *, log_x: bool = False) -> Any:
        return wr.LinePlot(
            title=f"{key.partition('/')[2]} over {x}, mean ± standard error over seeds", x=x, y=[key], log_x=log_x,
            groupby=family, groupby_aggfunc="mean", groupby_rangefunc="stderr", max_runs_to_show=MOST_RUNS,
        )  # fmt: skip

    headlines = _headlines(runs)
    coverage = _named(runs, *COVERAGE)
    shown = headlines + [name for name in _named(runs, *TRUTH) if name not in headlines]
    stability = sorted({f"stability_{key}" for run in runs for key in run.stability})
    lines = [f"curve/{name}" for name in curves if name not in coverage]
    return {
        "Comparison": [*map(bar, shown), *(line(key, "train_flops", log_x=True) for key in lines)],
        "Coverage": [
            *map(bar, coverage),
            *(line(f"curve/{name}", "train_flops", log_x=True) for name in curves if name in coverage),
            *(line(f"trace/{name}", "events_seen") for name in ("live_modes", "live_quality")),
        ],
        "Stability": [
            line("trace/critic_accuracy", "events_seen"),
            *(line(f"trace/gradient_norm_{player}", "events_seen") for player in players),
            *(line(f"train/loss_{player}", "events_seen") for player in players),
            *map(bar, stability),
        ],
        "Samples": [
            wr.MediaBrowser(
                title="Samples over training", media_keys=["pictures/samples", "pictures/modes"], mode="grid",
                grid_x_axis="step", grid_y_axis="run",
            ),
            wr.MediaBrowser(
                title="Final samples, the data, and the mass of each mode (line: the truth)",
                media_keys=["final/samples", "final/data", "final/modes"], mode="gallery", gallery_axis="run",
            ),
        ],
        "Cost": [
            *map(bar, COSTS),
            *(
                wr.ScatterPlot(
                    title=f"{title(name).partition(',')[0]} over the cost of a sample", log_x=True,
                    x=wr.SummaryMetric("evaluations_per_sample"), y=wr.SummaryMetric(name),
                )
                for name in headlines
            ),
        ],
    }  # fmt: skip


def definition(workspace: Any) -> str:
    """What wandb would be sent for this workspace, as JSON: `entity`, `project`, `displayName`, `spec`."""
    view = workspace._to_model()
    return str(view.model_dump_json(by_alias=True, exclude_none=True, indent=1))


def save(records: Sequence[Record], entity: str | None, project: str, folder: Path) -> list[str]:
    """Save the dashboard where there is an account, else write its definition; lines that say where it is.

    Args:
        records: of one suite.
        entity: wandb user or team; None = the account's default.
        project: of wandb.
        folder: for the definitions, `dashboard_<source>.json`.

    Raises:
        OSError: wandb cannot be reached.
    """
    if has_account():
        wandb = quiet_wandb()
        try:
            own = entity or wandb.Api(timeout=20).default_entity
            return [f"{w.name}: {w.save().url}" for w in workspaces(records, str(own), project).values()]
        except (wandb.errors.CommError, wandb.errors.UsageError) as error:
            raise OSError(f"wandb refused or cannot be reached: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for source, workspace in workspaces(records, entity or "", project).items():
        path = folder / f"dashboard_{slug(source)}.json"
        path.write_text(definition(workspace) + "\n", encoding="utf-8")
        lines.append(str(path))
    return [
        *lines,
        "wandb has no key on this machine, so the dashboard's definition was written instead. To save it: "
        "`wandb login`, send the runs with `make wandb-sync`, then the same command again.",
        "Without an account: `make dashboard` shows the runs in this terminal.",
    ]


def log_scorecard(folder: Path) -> bool:
    """Log a suite's scorecard.csv as a wandb table, in a run of its own (job type `report`); whether it was.

    Where the suite's runs went to wandb, and with their settings; a later call replaces what an earlier one logged.

    Args:
        folder: the suite's, `outputs/<suite>`, with records and scorecard.csv.
    """
    if not (folder / "wandb").is_dir() or not (folder / "scorecard.csv").exists():
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report has named broken records
        records = Store(folder).load()
    tracked = [record for record in records if record.config["logger"] == "wandb"]
    found = [Wandb.model_validate(record.config["wandb"]) for record in tracked]
    settings = next((each for each in found if each.mode != "disabled"), None)
    if settings is None:
        return False
    wandb = quiet_wandb()
    suite = folder.name
    run = open_run(
        settings, f"{suite}-report", folder, name=f"{suite} scorecard", group=suite, job_type="report",
        tags=settings.tags, config={"suite": suite},
    )  # fmt: skip
    run.log({"families": by_family(folder)})
    for name in ("scorecard", "comparisons", "stability"):
        path = folder / f"{name}.csv"
        if path.exists():
            frame = pd.read_csv(path)
            cells = [[None if pd.isna(cell) else cell for cell in row] for row in frame.astype(object).to_numpy()]
            run.log({name: wandb.Table(columns=list(frame.columns), data=cells, allow_mixed_types=True)})
    counts = pd.Series([record.outcome.value for record in tracked]).value_counts()
    run.summary.update({f"runs_{outcome}": int(count) for outcome, count in counts.items()})
    run.finish()
    return True


def by_family(folder: Path) -> Any:
    """A wandb table with a row per source and family: its verdict, its number, and what its lowest seed drew.

    Args:
        folder: the suite's, `outputs/<suite>`.
    """
    wandb = quiet_wandb()
    store = Store(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report has named what it left out
        records = as_tuned(store.current())
        found = findings(records)
    said = {(verdict.source, verdict.family): verdict.standing.value for verdict in found.verdicts}
    numbers = ("metric", "mean", "ci_low", "ci_high", "n_ok", "n_runs")
    rows = []
    for row in found.card[found.card["judges"]].to_dict("records"):
        runs = [r for r in records if (r.task, r.family) == (row["source"], row["family"]) and r.outcome is Outcome.OK]
        drawn = of_file(store.directory(runs[0].run_id) / "samples.npz") if runs else {}
        cells = [row["source"], row["family"], said.get((row["source"], row["family"]), "yardstick")]
        cells += [None if pd.isna(row[name]) else row[name] for name in numbers]
        rows.append([*cells, *(wandb.Image(drawn[name]) if name in drawn else None for name in PICTURES)])
    return wandb.Table(columns=["source", "family", "verdict", *numbers, *PICTURES], data=rows)  # typed, for pictures


def select_for_viewer(folder: Path, source: str | None = None) -> list[str]:
    """Have wandb's terminal viewer open on a comparison: of one source, every family's run of the lowest seed.

    The viewer (wandb 0.31) reads which runs are shown from `.wandb-leet.json` beside them.

    Args:
        folder: the suite's, `outputs/<suite>`.
        source: a task of the suite; default: the one with the most families that have a run here.

    Returns:
        The folders of the runs that are shown.

    Raises:
        FileNotFoundError: no wandb runs, or none of that source.
    """
    there = sorted((path.name for path in folder.glob("wandb/offline-run-*")), key=lambda name: name.split("-", 3)[2])
    by_id = {name.split("-", 3)[3]: name for name in there}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = [record for record in Store(folder).load() if wandb_id(record.run_id) in by_id]
    found: dict[str, dict[str, str]] = {}
    for record in sorted(runs, key=lambda record: (record.role != "contestant", record.family, record.seed)):
        if record.learning_rate_factor == 1.0:
            found.setdefault(record.task, {}).setdefault(record.family, by_id[wandb_id(record.run_id)])
    if not found:
        raise FileNotFoundError(f"{folder / 'wandb'}: expected offline wandb runs, found none; logger=wandb makes them")
    if source is not None and source not in found:
        raise FileNotFoundError(f"source: expected one of {', '.join(sorted(found))}, got {source}")
    chosen = list(found[source or max(sorted(found), key=lambda task: len(found[task]))].values())
    content = {"selected_runs": chosen, "pinned_run": chosen[0], "latest_run": there[-1]}
    write_atomically(folder / "wandb" / ".wandb-leet.json", json.dumps(content, indent=2))
    return chosen


def view(folder: Path) -> int:
    """Open wandb's terminal viewer on a suite's offline runs; its exit code."""
    quiet_wandb()
    return subprocess.run([sys.executable, "-m", "wandb", "leet", str(folder / "wandb")]).returncode


def finished_offline_runs(folder: Path) -> list[Path]:
    """The offline wandb runs of a suite that may be sent: of finished runs, evaluations and the report, not yet sent.

    A run that is not finished stays: when it is resumed its folder is written anew, from the first step.
    """
    outcomes = {wandb_id(record.run_id): record.outcome for record in Store(folder).load()}
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*")):
        run_id = path.name.split("-", 3)[3]  # offline-run-<time>-<id>
        outcome = outcomes.get(run_id.removesuffix("-evaluate"), Outcome.OK if run_id.endswith("-report") else None)
        if outcome is not None and outcome.finished and not list(path.glob("*.synced")):
            found.append(path)
    return found


def sync(runs: Sequence[Path]) -> int:
    """Send offline runs with wandb's own command; its exit code.

    Raises:
        ValueError: there is no account to send them to.
    """
    if not has_account():
        raise ValueError("sync: expected an account (WANDB_API_KEY, or `wandb login`), got none; nothing was sent")
    return subprocess.run([sys.executable, "-m", "wandb", "sync", *map(str, runs)], stdin=subprocess.DEVNULL).returncode
