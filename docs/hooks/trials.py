"""What pages say of trials of the benchmark itself: of its rulers, its tuning, its intervals and its estimators.

A page holds `<!-- trials: NAME -->`; NAME is one of `BLOCKS`. Tables are read from results/ when the site is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from blocks import filled, power

from genfam.comparing.metric_trial import by_source, leading_ruler, planted_verdicts, shares_of_lead
from genfam.records.tuning import Trial, better_of, load_trials
from genfam.report.markdown import escape

ROOT = Path(__file__).resolve().parents[2]
_DOTS = {"orders": "●", "sees": "○", "": ""}


def rulers() -> str:
    """Per set of images: which ruler orders or sees which planted failure; then who leads by the rule."""
    tables = {path.stem: pd.read_csv(path) for path in sorted((ROOT / "results" / "rulers").glob("*.csv"))}
    parts = []
    for name, table in tables.items():
        said = planted_verdicts(table)
        failures = [column for column in said.columns if column not in ("orders", "grade")]
        head = f"| {escape(name)} | {' | '.join(failures)} | orders | lowest grade |"
        lines = [head, "|---|" + "---|" * (len(failures) + 2)]
        lines += [
            f"| {escape(str(ruler))} | "
            + " | ".join(_DOTS[row[failure]] for failure in failures)
            + f" | {row['orders']} | {row['grade']:.1f} |"
            for ruler, row in said.iterrows()
        ]
        picture = f"results/rulers/{name}.png"
        parts += ["\n".join(lines), f"![{name}: how far each ruler sees each planted failure](../{picture})"]
    leading = leading_ruler(list(tables.values()))
    failures_in_all = sum(table["failure"].nunique() for table in tables.values())
    said_of = [
        f"`{ruler}` orders {row['orders']:.0f} of {failures_in_all} (lowest grade {row['grade']:.2f})"
        for ruler, row in leading.head(4).iterrows()
    ]
    often = shares_of_lead(list(tables.values())).head(4)
    again = ", ".join(f"`{ruler}` in {100 * share:.0f} %" for ruler, share in often.items())
    last = (
        f"Of the distances without an upper bound, over all sets: {'; '.join(said_of)}. Were fresh data and failures "
        f"drawn again, these would lead: {again}."
    )
    return "\n\n".join([*parts, last])


def truth() -> str:
    """How far every metric orders the runs of results/metrics as the exact divergence does."""
    trial = pd.read_csv(ROOT / "results" / "metrics" / "metric_trial.csv")
    table = by_source(trial)
    lines = [f"| metric | {' | '.join(map(escape, table.columns))} |", "|---|" + "--:|" * len(table.columns)]
    lines += [
        f"| {escape(str(metric))} | " + " | ".join("–" if pd.isna(tau) else f"{tau:.2f}" for tau in row) + " |"
        for metric, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    about = trial.drop_duplicates("source")
    said = "; ".join(f"{row['source']}: `{row['truth']}` over {row['n_runs']} runs" for row in about.to_dict("records"))
    picture = "![Rank correlation of each metric with the truth](../results/metrics/metric_trial.png)"
    return "\n\n".join([picture, "\n".join(lines), f"The truth is, on {said}."])


def tuning() -> str:
    """Per tuned source: of every family the recipe's value and the chosen one's at equal FLOPs, and the settings."""
    by_source: dict[str, list[list[Trial]]] = {}
    for path in sorted((ROOT / "results" / "tune").glob("*.jsonl")):
        trials = load_trials(path)
        by_source.setdefault(path.stem.rpartition("-")[0], []).append(trials)
    parts = []
    for source, studies in by_source.items():
        arrow = "↑" if studies[0][0].higher_is_better else "↓"
        lines = [
            f"| {escape(source)} | {escape(studies[0][-1].metric)} {arrow}: recipe → best of 16, rung 1 | chosen, "
            "rung 3 | settings chosen | FLOPs | seconds |",
            "|---|--:|--:|---|--:|--:|",
        ]
        for trials in studies:
            first = [trial for trial in trials if trial.rung == 0]
            (chosen,) = better_of([trial for trial in trials if trial.rung == trials[-1].rung], 1)
            values = f"{_value(first[0])} → {_value(better_of(first, 1)[0])}"
            settings = ", ".join(f"`{key}={_setting(value)}`" for key, value in chosen.overrides.items())
            own = " (the recipe's)" if chosen.configuration == 0 else ""
            flops, seconds = (sum(getattr(t, name) for t in trials) for name in ("train_flops", "train_seconds"))
            family = escape(trials[0].study.partition(" ")[0].removeprefix("family="))
            lines.append(
                f"| {family} | {values} | {_value(chosen)} | {settings}{own} | {power(flops)} | {seconds:,.0f} |"
            )
        commands = sorted({trials[0].study.partition(" ")[2] for trials in studies})
        foot = f"Command: `genfam-tune {'; '.join(commands)}`. Single runs: a value's error over seeds is not known."
        parts += ["\n".join(lines), foot]
    return "\n\n".join(parts) or "No source is tuned yet."


def _value(trial: Trial) -> str:
    return "none" if trial.value is None else f"{trial.value:.3g}"


def _setting(value: Any) -> str:
    """A nested part by its class."""
    if isinstance(value, dict):
        name = str(value.get("_target_", "")).rpartition(".")[2]
        given = ", ".join(f"{key}={one}" for key, one in value.items() if key != "_target_")
        return f"{name}({given})"
    return "null" if value is None else str(value)


def coverage() -> str:
    """Of simulated cells of four families: what their intervals and tests hold, by the rule and by two simpler ones."""
    table = pd.read_csv(ROOT / "results" / "statistics" / "coverage.csv")
    told = (table["rule"] == "used") | ((table["values"] == "normal") & table["larger"].isin(["equal", "one"]))
    seeds = sorted(table["seeds"].unique())
    lines = [
        "| rule; values; standard deviations | " + " | ".join(f"{n} seeds" for n in seeds) + f" | width, {seeds[0]} |",
        "|---|" + "--:|" * (len(seeds) + 1),
    ]
    keys = ["rule", "values", "larger", "times"]
    for key, rows in table[told & (table["families"] == 4)].groupby(keys, sort=False):
        rule, values, larger, times = map(str, key)
        cells = [
            " / ".join(f"{100 * row[name]:.1f}" for name in ("coverage", "coverage_of_largest", "false_alarms"))
            for row in rows.sort_values("seeds").to_dict("records")
        ]
        who = _LARGER.get(larger, f"{larger} × {float(times):g}")
        width = rows.loc[rows["seeds"] == seeds[0], "half_width"].iloc[0]
        lines.append(f"| {_RULES[rule]}; {values}; {who} | {' | '.join(cells)} | {width:.2f} |")
    return "\n".join(lines)


_RULES = {"used": "the rule", "own": "own variances", "outright": "pooled outright"}
_LARGER = {
    "equal": "equal",
    "drawn": "as unequal as published ones",
    "evaluation": "equal, all of it the evaluation's error",
}


def scaling_coverage() -> str:
    """Of simulated curves over compute: per cent of intervals that hold the truth, and of fits that are rejected."""
    table = pd.read_csv(ROOT / "results" / "statistics" / "scaling_coverage.csv")
    seeds = sorted(table["seeds"].unique())
    lines = [f"| runs; noise | {' | '.join(f'{n} seeds' for n in seeds)} |", "|---|" + "---|" * len(seeds)]
    for (kind, noise), rows in table.groupby(["runs", "noise"], sort=False):
        cells = []
        for n in seeds:
            own = rows[rows["seeds"] == n]
            said = [f"{name} {_span(own[name])}" for name in _SHARES if own[name].notna().any()]
            cells.append(", ".join(said))
        lines.append(f"| {kind}; {100 * float(noise):.0f} % | {' | '.join(cells)} |")
    return "\n".join(lines)


_SHARES = ("floor", "exponent", "rejected", "crossing", "closed")


def _span(shares: pd.Series[float]) -> str:
    """`93 to 98`."""
    return " to ".join(dict.fromkeys(f"{100 * end:.0f}" for end in (shares.min(), shares.max())))


def log_normaliser() -> str:
    """Bounds of log Z by annealed importance sampling, against the sum over all states or a fine grid."""
    table = pd.read_csv(ROOT / "results" / "statistics" / "log_normaliser.csv")
    lines = [
        "| source | temperatures | log Z, summed | lower bound − log Z | upper bound − log Z | intervals that hold |",
        "|---|--:|---|---|---|--:|",
    ]
    for (source, temperatures), rows in table.groupby(["source", "temperatures"], sort=False):
        ends = [rows["truth"], rows["below"] - rows["truth"], rows["above"] - rows["truth"]]
        told = [f"{end.min():.3g} to {end.max():.3g}" for end in ends]
        lines.append(f"| {source} | {temperatures} | {' | '.join(told)} | {rows['holds'].sum()} of {len(rows)} |")
    return "\n".join(lines)


BLOCKS = {
    "rulers": rulers, "truth": truth, "coverage": coverage, "scaling_coverage": scaling_coverage, "tuning": tuning,
    "log_normaliser": log_normaliser,
}  # fmt: skip


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """See `blocks.filled`."""
    return filled(markdown, page, "trials", BLOCKS)
