"""The scorecard as one compact table per source: what the terminal and the Markdown page both show."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd

from genfam import glossary
from genfam.comparing.verdicts import Standing, Verdict
from genfam.types import Kind, Likelihood, Measurement, Outcome, Record

# What a compact table shows, in this order, as far as it was measured on the source: pattern of the metric's name.
# After them stand metrics that are not genfam's.
COLUMNS = (
    "cell_total_variation", "mode_width_ratio", "trigram_total_variation", "valid_share", "kl_per_token", "fid", "fd_*",
    "kid", "kd_*", "sliced_wasserstein", "precision", "recall", "coverage", "modes_covered",
    "c2st_features", "column_ks", "pair_total_variation",
    "high_quality_share", "mode_reverse_kl", "total_variation", "kl_divergence", "nll_nats",
    "squared_displacement", "normalised_path_energy", "class_kept", "evaluations_per_sample", "train_seconds",
)  # fmt: skip
# How the kind of a likelihood shows in its cell: a bound on log p bounds the negative log-likelihood from above.
KIND_MARKS = {Likelihood.LOWER_BOUND.value: "≤ ", Likelihood.ESTIMATE.value: "≈ "}
LEGEND = (
    "Mean ± half-width of the 95 % interval over training seeds (t; families lend each other their variance where "
    "Levene's test does not tell them apart; yardsticks keep their own; none but the oracle's is below the "
    "evaluation's own error); no ± means one run, so no interval.",
    "Bold: leads, that is no contestant is significantly better, and the seeds tell apart at least two that may be "
    "chosen (t tests after Holm's correction for all pairs, the Gaussian's too; at most 5 % of columns have a false "
    "alarm). What is not better than the Gaussian never leads.",
    "↑ higher is better, ↓ lower is better. NLL: ≤ an upper bound, ≈ an estimate, else exact; ranked within one kind, "
    "where two have it.",
    "Diverged runs are counted, and have no say in the means. Oracle: as many fresh real events, with a sample's "
    "noise; numbers that are exact can be below it.",
)
GUESTS = (  # one line, for where there are any
    "Guests: samples from elsewhere, measured in the same way; ± over their files. They spent another budget, or one "
    "that is not known, so they are not ranked, never lead, and change nothing that is said of the others."
)


@dataclass(frozen=True)
class Cell:
    """One number as text, and whether its family leads."""

    text: str
    leads: bool = False


@dataclass(frozen=True)
class Row:
    """A family on a source; guests stand below the contestants, and yardsticks below these.

    `compute` is what a guest's training took, in words.
    """

    family: str
    role: str
    cells: list[Cell]
    compute: str = ""

    @property
    def note(self) -> str:
        """What a table says beside the name; nothing of a contestant."""
        if self.role == "contestant":
            return ""
        return f"{self.role}, {self.compute}" if self.compute else self.role


@dataclass(frozen=True)
class Table:
    """A source's table; `columns` are metric names with an arrow for their direction.

    `choice` says which families to take and which not, `pairs` are sentences on those that the headline metric does not
    separate, `trial` on which metrics tell the truth, `scatter` on whether training or evaluation makes the seeds
    differ; `stability` is a table of its own, by the metric `judge`.
    """

    source: str
    columns: list[str]
    rows: list[Row]
    pairs: list[str] = field(default_factory=list)
    trial: list[str] = field(default_factory=list)
    scatter: list[str] = field(default_factory=list)
    choice: list[str] = field(default_factory=list)
    stability: Table | None = None
    judge: str = ""


@dataclass(frozen=True)
class Summary:
    """All that the report says in words and tables."""

    suite: str
    tables: list[Table]
    outcomes: dict[str, int]
    seeds: list[int]
    aggregate: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def legend(self) -> tuple[str, ...]:
        """How to read the tables."""
        guests = any(row.role == "guest" for table in self.tables for row in table.rows)
        return (*LEGEND, GUESTS) if guests else LEGEND


def summarise(
    card: pd.DataFrame,
    frame: pd.DataFrame,
    pairs: pd.DataFrame | None = None,
    trial: pd.DataFrame | None = None,
    stability: pd.DataFrame | None = None,
    aggregate: pd.DataFrame | None = None,
    variance: pd.DataFrame | None = None,
    said: Sequence[Verdict] = (),
    facts: dict[str, str] | None = None,
    outcomes: Counter[str] | None = None,
) -> Summary:
    """Scorecard and measurements -> tables and counts.

    Args:
        card: as `genfam.comparing.scorecard.scorecard` gives it.
        frame: as `genfam.records.frame.to_frame` gives it, of the same records.
        pairs: as `genfam.comparing.scorecard.comparisons` gives it.
        trial: as `genfam.comparing.metric_trial.metric_trial` gives it.
        stability: as `genfam.comparing.stability.stability_card` gives it.
        aggregate: as `genfam.comparing.stability.aggregate` gives it.
        variance: as `genfam.comparing.variance.variance_components` gives it.
        said: as `genfam.comparing.verdicts.verdicts` gives it.
        facts: lines for the foot of the page (command, commit, machine).
        outcomes: of all runs, where the frame has not all of them.
    """
    runs = frame.drop_duplicates("run_id")
    counted = outcomes if outcomes is not None else Counter(runs["outcome"])
    return Summary(
        suite=", ".join(sorted(set(frame["suite"]))),
        tables=[
            replace(
                table(source, card, frame),
                pairs=not_separated(source, card, pairs),
                trial=verdicts(source, trial),
                scatter=scatter(source, card, variance),
                choice=choice(source, said),
                stability=stability_table(source, stability),
                judge=_judge(source, stability),
            )
            for source in sorted(set(frame["source"]))
        ],
        outcomes={outcome.value: counted[outcome.value] for outcome in Outcome},
        seeds=sorted({int(seed) for seed in runs.loc[runs["role"] != "guest", "seed"]}),
        aggregate=together(aggregate),
        facts=facts or {},
    )


def headline(card: pd.DataFrame, source: str) -> str | None:
    """The metric by which a source's families are ordered: its judge, else the Fréchet distance; None without both."""
    own = card[card["source"] == source]
    judging = own["judges"] & (own["n_ok"] > 0) if "judges" in own else pd.Series(False, own.index)
    names = sorted(set(own.loc[judging, "metric"])) or sorted(
        set(own.loc[own["kind"] == Kind.HEADLINE.value, "metric"])
    )
    return names[0] if names else None


def choice(source: str, said: Sequence[Verdict]) -> list[str]:
    """A line per standing that contestants have, the best first; then those that were still improving."""
    own = [verdict for verdict in said if verdict.source == source]
    lines = []
    for standing in Standing:
        verdicts_of = [verdict for verdict in own if verdict.standing is standing]
        if not verdicts_of:
            continue
        # where one source is carried into another, the floor is a map between two fitted Gaussians
        floor = "the fitted Gaussian" if verdicts_of[0].floor == "gaussian" else verdicts_of[0].floor
        words, more = standing.value, ""
        if standing is Standing.OPEN:
            words, more = f"{words} with {verdicts_of[0].seeds} seeds", _would(*verdicts_of[0].seeds_needed)
        elif standing is Standing.UNDERTRAINED:
            words = f"{words}, none is significantly better than {floor}"
        elif standing is Standing.BELOW:
            words = f"worse than {floor}"
        elif standing is Standing.NO_BETTER:
            words = f"not better than {floor}"
        lines.append(f"{words}: {', '.join(verdict.family for verdict in verdicts_of)}{more}")
    rising = [verdict.family for verdict in own if verdict.still_improving]
    if rising:
        lines.append(f"still improving when the budget ended: {', '.join(rising)}")
    if untuned := [verdict.family for verdict in own if not verdict.tuned]:
        lines.append(f"untuned, by the recipe for this kind of event: {', '.join(untuned)}")
    return lines


def _would(least: float, most: float) -> str:
    if math.isnan(least):
        return ""
    numbers = (
        f"{least:.0f}" if least == most else f"{least:.0f} " + ("or more" if math.isnan(most) else f"to {most:.0f}")
    )
    return f" (about {numbers} seeds would separate them)"


def not_separated(source: str, card: pd.DataFrame, pairs: pd.DataFrame | None) -> list[str]:
    """A sentence per contestant that the headline metric does not separate from the one with the best mean."""
    leading = headline(card, source)
    if pairs is None or leading is None:
        return []
    found = pairs[(pairs["source"] == source) & (pairs["metric"] == leading) & (pairs["role_b"] == "contestant")]
    means = card[(card["source"] == source) & (card["metric"] == leading)].set_index("family")
    means = means[means.index.isin([*found["family_a"], *found["family_b"]])]
    if means.empty:
        return []
    best = means["mean"].idxmax() if means["higher_is_better"].iloc[0] else means["mean"].idxmin()
    found = found[(found["better"] == "") & ((found["family_a"] == best) | (found["family_b"] == best))]
    return [
        f"{row['family_a']} and {row['family_b']}: with {row['n']} seeds {row['family_a']} has the better {leading} in "
        f"{100 * row['probability_of_improvement']:.0f} % of pairs of runs; "
        + (
            f"about {row['seeds_needed']:.0f} seeds would separate them"
            if math.isfinite(row["seeds_needed"])
            else "no number of seeds in sight would separate them"
        )
        for row in found.to_dict("records")
    ]


def verdicts(source: str, trial: pd.DataFrame | None) -> list[str]:
    """A line per metric on trial, the most truthful first."""
    if trial is None:
        return []
    own = trial[(trial["source"] == source) & trial["tau"].notna()].sort_values("tau", ascending=False)
    return [
        f"{row['metric']}: τ = {row['tau']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}] with {row['truth']} over "
        f"{row['n_runs']} runs"
        for row in own.to_dict("records")
    ]


def scatter(source: str, card: pd.DataFrame, variance: pd.DataFrame | None) -> list[str]:
    """A line per family: how much of the headline metric's variance over seeds is training's."""
    leading = headline(card, source)
    if variance is None or leading is None:
        return []
    own = variance[(variance["source"] == source) & (variance["metric"] == leading)]
    return [
        f"{row['family']}: standard deviation {row['total_std']:.2g} over {row['n']} seeds, "
        f"{row['evaluation_std']:.2g} by drawing samples anew; {_training(row)}"
        for row in own.to_dict("records")
        if math.isfinite(row["training_share"])
    ]


def _training(row: dict[Any, Any]) -> str:
    low, high = 100 * row["share_low"], 100 * row["share_high"]
    if low == 0.0:
        return f"training's part cannot be told from none (0 to {high:.0f} % of the variance)"
    return f"{100 * row['training_share']:.0f} % of the variance is training's ({low:.0f} to {high:.0f} %)"


def stability_table(source: str, stability: pd.DataFrame | None) -> Table | None:
    """One source's stability: a row per contestant, a column per entry with its unit; None where nothing is known.

    A column in which all contestants have one and the same share of runs says nothing, and is left out.
    """
    if stability is None or not (stability["source"] == source).any():
        return None
    own = stability[stability["source"] == source]
    entries = {
        str(entry): str(rows["unit"].iloc[0])
        for entry, rows in own.groupby("entry", sort=False)
        if not (rows["unit"] == "share of runs").all() or len(set(zip(rows["value"], rows["n"], strict=True))) > 1
    }
    if not entries:
        return None
    rows = []
    for family in own["family"].unique():
        known = {row["entry"]: row for row in own[own["family"] == family].to_dict("records")}
        cells = [Cell(bracketed(known[entry]) if entry in known else "–") for entry in entries]
        noise = "lost" not in known  # only contestants are counted; the oracle's row is the noise of the curves
        rows.append(Row(f"{family}, noise alone" if noise else str(family), "oracle" if noise else "contestant", cells))
    return Table(source, [f"{entry} ({unit})" for entry, unit in entries.items()], rows)


def bracketed(row: dict[Any, Any]) -> str:
    """Value [low, high], for intervals that lie unevenly about their value.

    All with three digits: with two, a short interval rounds to nothing and off its own value.
    """
    value, low, high = float(row["value"]), float(row["ci_low"]), float(row["ci_high"])
    return f"{value:.3g}" if math.isnan(low) else f"{value:.3g} [{low:.3g}, {high:.3g}]"


def together(aggregate: pd.DataFrame | None) -> list[str]:
    """A line per family on all sources together, the best first."""
    if aggregate is None:
        return []
    rows = aggregate.sort_values("value", ascending=False).to_dict("records")
    return [f"{row['family']}: {bracketed(row)} over {row['n']} runs on {row['sources']} sources" for row in rows]


def _judge(source: str, stability: pd.DataFrame | None) -> str:
    if stability is None:
        return ""
    return next((str(name) for name in stability.loc[stability["source"] == source, "judge"]), "")


def table(source: str, card: pd.DataFrame, frame: pd.DataFrame) -> Table:
    """One source's compact table: contestants by rank and mean of the headline, then guests, then the yardsticks."""
    card, frame = card[card["source"] == source], frame[frame["source"] == source]
    cells: dict[tuple[str, str], dict[str, Any]] = {
        (str(row["family"]), str(row["metric"])): {str(key): value for key, value in row.items()}
        for row in card.to_dict("records")
    }
    runs = frame.drop_duplicates("run_id")
    first = runs.drop_duplicates("family").set_index("family")
    names = _columns([str(name) for name in card.loc[card["n_ok"] > 0, "metric"].unique()])
    leading = headline(card, source)
    kinds = {str(row["metric"]): str(row["kind"]) for row in card.to_dict("records")}

    def order(family: str) -> tuple[int, str, float, float, str]:
        role = str(first.loc[family, "role"])  # yardsticks by role, so that every table ends alike
        row = cells.get((family, str(leading)), {"rank": math.nan, "mean": math.nan})
        place = {"contestant": 0, "guest": 1}.get(role, 2)
        return place, role, _nan_last(row["rank"]), _nan_last(row["mean"]), family

    rows = []
    for family in sorted((str(name) for name in first.index), key=order):
        mark = KIND_MARKS.get(str(first.loc[family, "likelihood"]), "")
        own = [cell(cells.get((family, name)), mark if kinds[name] == Kind.LIKELIHOOD.value else "") for name in names]
        outcomes = runs.loc[runs["family"] == family, "outcome"]
        role, compute = str(first.loc[family, "role"]), ""
        if role == "guest":
            compute = stated(cells.get((family, "train_flops")))
            own.append(Cell("–"))
        else:
            own.append(Cell(f"{int((outcomes == Outcome.DIVERGED.value).sum())}/{len(outcomes)}"))
        rows.append(Row(family, role, own, compute))
    directions = {str(row["metric"]): row["higher_is_better"] for row in card.to_dict("records")}
    arrows = {True: " ↑", False: " ↓", None: ""}
    return Table(source, [*(name + arrows[directions[name]] for name in names), "diverged"], rows)


def stated(flops: dict[str, Any] | None) -> str:
    """What a guest's training took, from its row of the scorecard if it has one."""
    return "compute not stated" if flops is None else f"{flops['mean']:.3g} FLOPs as stated"


def cell(row: dict[str, Any] | None, mark: str = "") -> Cell:
    """A scorecard row as "mean ± half-width", as precise as its interval warrants."""
    if row is None or row["n_ok"] == 0:
        return Cell("–")
    mean, low, high = float(row["mean"]), float(row["ci_low"]), float(row["ci_high"])
    leads = bool(row.get("leads", False))
    if not math.isfinite(mean):
        return Cell(mark + {math.inf: "∞", -math.inf: "−∞"}.get(mean, "NaN"), leads)
    return Cell(mark + number(mean, None if math.isnan(low) else (high - low) / 2.0), leads)


def marked(m: Measurement, record: Record) -> str:
    """One run's number, a likelihood with the mark of its kind."""
    assert m.estimate is not None
    mark = KIND_MARKS.get(record.likelihood.value, "") if m.kind is Kind.LIKELIHOOD else ""
    return f"{mark}{m.estimate.value:.5g}"


def number(value: float, half: float | None = None) -> str:
    """A number to four significant digits, or with its half-width, both to the half-width's second digit."""
    if half is None or not math.isfinite(half):
        return f"{value:.4g}"
    if half == 0.0:
        return f"{value:.4g} ± 0"
    decimals = max(0, 1 - math.floor(math.log10(half)))
    if decimals > 6 or max(abs(value), half) >= 1e6:
        return f"{value:.3g} ± {half:.2g}"
    return f"{value:.{decimals}f} ± {half:.{decimals}f}"


def clean(text: str) -> str:
    """Text on one line without control characters: names come from configurations, and may be anything."""
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()


def _columns(names: list[str]) -> list[str]:
    """`COLUMNS`, then the user's own metrics, which nobody would add for nothing."""
    own = [name for name in sorted(names) if glossary.metric(name) == glossary.UNKNOWN]
    shown = [name for pattern in COLUMNS for name in sorted(names) if fnmatchcase(name, pattern)]
    return [*shown, *(name for name in own if name not in shown)]


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else float(value)
