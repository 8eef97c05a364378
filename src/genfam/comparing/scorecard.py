"""What a suite's records say together: intervals over training seeds, ranks, and agreement between two scorecards.

Intervals are at 95 % over seeds. The contestants of a cell that share a protocol lend each other their variance
(`genfam.comparing.statistics`). Yardsticks train nothing: their scatter is the evaluation's alone, and each has its own
Student's t. A rank counts the families that are *significantly* better, corrected after Holm for the number of pairs in
the cell, those with the fitted Gaussian among them, so that among equals any is called better in at most 5 % of cells.
Guests stand beside them without a rank, lend nothing and are compared with nobody: whatever they cost, it was no run's
budget.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from genfam.comparing.statistics import Comparison, Runs, compare, ratio, runs_of, seed_spread
from genfam.comparing.variance import evaluation_variance
from genfam.types import Kind, fingerprint

COLUMNS = (
    "suite", "source", "family", "metric", "kind", "unit", "higher_is_better", "n_runs", "n_ok", "mean", "ci_low",
    "ci_high", "oracle", "times_oracle", "times_low", "times_high", "rank", "fingerprint",
)  # fmt: skip
COMPARISON_COLUMNS = (
    "suite", "source", "metric", "family_a", "family_b", "n", "advantage", "ci_low", "ci_high", "p_value", "p_holm",
    "probability_of_improvement", "better", "seeds_needed", "role_b",
)  # fmt: skip
SPREAD_PREFIX = "seed_spread_"
QUALITY = [kind.value for kind in Kind if kind.of_quality]


def scorecard(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per (suite, source, family, metric).

    Args:
        frame: a row per measurement, as `genfam.records.frame.to_frame` gives it.

    Returns:
        Columns `COLUMNS`. `n_runs` counts every run of the family on the source, `n_ok` those that ended well and
        gave a number: only these enter `mean` (a diverged run has no say in it). `ci_low`, `ci_high` are NaN for one
        run; they have zero width only where all runs agree to the last bit and no error of their evaluation is known.
        `oracle` is the mean of the families of role oracle under the same fingerprint, and `times_oracle` the mean in
        units of that, where it is positive (of quality; the oracle's own left out), with Fieller's interval:
        `times_high` is infinite where the oracle's mean cannot be told from 0. `rank` is 1 + the number of contestants
        significantly better; NaN for yardsticks, for metrics without a direction, for families with fewer than two
        runs, and where there is no second contestant under the same fingerprint. Where n ≥ 3 the rows
        `seed_spread_<metric>` give IQR / |median| over seeds for every Fréchet distance (no interval).

    Raises:
        ValueError: numbers that cannot share a row or column (see `check_fingerprints`), or two runs of one seed.
    """
    runs = {key: group["run_id"].nunique() for key, group in frame.groupby(["suite", "source", "family"])}
    rows: list[dict[str, Any]] = []
    for (suite, source, metric), firsts, cell in _cells(frame):
        ranks = _ranks(cell, firsts)
        oracles = [family for family, first in firsts.items() if first["role"] == "oracle"]
        for family in sorted(firsts, key=lambda family: (_role_order(firsts[family]["role"]), str(family))):
            first, own = firsts[family], cell[family]
            comparable = [other for other in firsts if firsts[other]["fingerprint"] == first["fingerprint"]]
            # The oracle's likelihood is the entropy of the data: the floor of every kind.
            floors = [f for f in oracles if f in comparable or first["kind"] == Kind.LIKELIHOOD]
            real = Runs(np.concatenate([np.empty(0), *(cell[floor].values for floor in floors)]))
            relative = first["role"] != "oracle" and first["kind"] in QUALITY
            times = ratio(own, real) if relative else (math.nan, math.nan, math.nan)
            low, high = own.interval()
            base = {
                "suite": suite, "source": source, "family": family, "metric": metric, "kind": first["kind"],
                "unit": first["unit"], "higher_is_better": first["higher_is_better"],
                "n_runs": runs[suite, source, family], "n_ok": own.n,
                "mean": own.mean, "ci_low": low, "ci_high": high, "oracle": real.mean,
                "times_oracle": times[0], "times_low": times[1], "times_high": times[2],
                "rank": ranks.get(family, math.nan), "fingerprint": first["fingerprint"],
            }  # fmt: skip
            rows.append(base)
            if first["kind"] == Kind.HEADLINE and not math.isnan(spread := seed_spread(own.values.tolist())):
                unknown = ("ci_low", "ci_high", "times_oracle", "times_low", "times_high", "rank")
                rows.append(
                    base
                    | {"metric": f"{SPREAD_PREFIX}{metric}", "kind": Kind.SPREAD.value, "unit": "1", "mean": spread}
                    | dict.fromkeys(unknown, math.nan)
                    | {"oracle": seed_spread(real.values.tolist()), "higher_is_better": False}
                )
    rows.sort(key=lambda row: (row["suite"], row["source"], row["metric"]))  # stable: families keep their order
    card = pd.DataFrame(rows, columns=list(COLUMNS))
    card["higher_is_better"] = pd.Series([row["higher_is_better"] for row in rows], dtype=object)
    numbers = ("mean", "ci_low", "ci_high", "oracle", "times_oracle", "times_low", "times_high", "rank")
    return card.astype(dict.fromkeys(numbers, float))


def comparisons(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per pair and quality metric, of contestants, and of each with the floor: what separates them, what would.

    Args:
        frame: as for `scorecard`.

    Returns:
        Columns `COMPARISON_COLUMNS`; see `genfam.comparing.statistics.Comparison`. `better` is empty where the seeds
        do not separate the pair. `role_b` is `contestant` or `floor` (the fitted Gaussian); `family_a` is a contestant.

    Raises:
        ValueError: as `scorecard`.
    """
    rows = []
    for (suite, source, metric), firsts, cell in _cells(frame):
        quality = {family: row for family, row in firsts.items() if row["kind"] in QUALITY}
        for rivals, as_counted, higher_is_better in _rivals(cell, quality):
            for pair in compare(rivals, higher_is_better, as_counted):
                rows.append([suite, source, metric, *_comparison_cells(pair), firsts[pair.b]["role"]])
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))


def _comparison_cells(pair: Comparison) -> list[Any]:
    return [
        pair.a, pair.b, pair.n, pair.advantage, pair.low, pair.high, pair.p, pair.p_holm,
        pair.probability_of_improvement, pair.better or "", pair.seeds_needed,
    ]  # fmt: skip


def _cells(
    frame: pd.DataFrame,
) -> Iterator[tuple[tuple[str, str, str], dict[str, dict[str, Any]], dict[str, Runs]]]:
    """((suite, source, metric), a row per family that says its protocol, {family: its runs}), checked."""
    check_fingerprints(frame)
    counted = _counted(frame)
    _check_seeds(counted)
    found: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    columns = [counted[name].tolist() for name in ("suite", "source", "metric", "family", "value", "draw_stderr")]
    for of_suite, of_source, of_metric, family, value, error in zip(*columns, strict=True):
        found.setdefault((of_suite, of_source, of_metric, family), []).append((value, error))
    measured = frame[frame["status"] == "ok"]
    for (suite, source, metric), cell in measured.groupby(["suite", "source", "metric"], sort=True):
        # Runs that ended well say what the protocol was; where none did, the others may.
        ordered = cell.assign(ill=cell["outcome"] != "ok").sort_values(["ill", "seed"], kind="stable")
        firsts: dict[str, dict[str, Any]] = {
            str(row["family"]): {str(name): value for name, value in row.items()}
            for row in ordered.drop_duplicates("family").drop(columns="ill").to_dict("records")
        }
        own = {family: found.get((suite, source, metric, family), []) for family in firsts}
        # The oracle's runs scatter by the evaluation alone, which they show better than an estimate near its floor.
        errors = {
            family: evaluation_variance([error for _, error in own[family] if row["role"] != "oracle"])
            for family, row in firsts.items()
        }
        runs: dict[str, Runs] = {}
        for protocol in dict.fromkeys(row["fingerprint"] for row in firsts.values()):
            rivals = [f for f, row in firsts.items() if (row["fingerprint"], row["role"]) == (protocol, "contestant")]
            values = {family: [value for value, _ in own[family]] for family in rivals}
            runs |= runs_of(values, errors)
        alone = {family: np.array([value for value, _ in own[family]]) for family in firsts if family not in runs}
        runs |= {family: Runs(values, errors[family]) for family, values in alone.items()}
        yield (str(suite), str(source), str(metric)), firsts, runs


def to_csv(card: pd.DataFrame) -> str:
    """The scorecard as CSV text: what does not apply is empty, ranks are whole numbers."""
    return plain_csv(card[list(COLUMNS)].astype({"rank": "Int64"}))


def plain_csv(frame: pd.DataFrame) -> str:
    """A table as CSV text; NaN is empty, and no cell is a formula to a spreadsheet."""
    return frame.map(_quoted).to_csv(index=False, float_format="%.10g", lineterminator="\n")


def _quoted(cell: Any) -> Any:
    """A text that a spreadsheet would compute gets an apostrophe before it."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def check_fingerprints(frame: pd.DataFrame) -> None:
    """Refuse numbers of different protocols for one (suite, source, metric): they cannot share a column.

    Units and directions must agree too. Likelihoods, and divergences by them, may differ between their kinds (exact,
    bound, estimate), and within one kind in what a bound is by (`by=64 importance samples`), not within a family.

    Raises:
        ValueError: names the metric and the parts that differ, with the families that have each.
    """
    counted = _counted(frame)
    likelihoods = pd.Series(["likelihood" in protocol for protocol in counted["protocol"]], counted.index, dtype=bool)
    kinds = counted["likelihood"].where(likelihoods, "").rename("of")
    apart = ("by", "likelihood")
    shared = [fingerprint({k: v for k, v in protocol.items() if k not in apart}) for protocol in counted["protocol"]]
    alike = counted.assign(fingerprint=counted["fingerprint"].where(~likelihoods, pd.Series(shared, counted.index)))
    for (_, source, metric, _), cell in alike.groupby(["suite", "source", "metric", kinds], sort=True):
        _check_one(cell, f"{metric} on {source}", ("fingerprint", "unit", "higher_is_better"))
    for (_, source, metric, _), cell in counted[likelihoods].groupby(
        ["suite", "source", "metric", "family"], sort=True
    ):
        _check_one(cell, f"{metric} on {source}", ("fingerprint",))


def _check_one(cell: pd.DataFrame, what: str, columns: Sequence[str]) -> None:
    """Raise ValueError where a column has several values."""
    for column in columns:
        owners: dict[Hashable, set[str]] = {}
        for value, family in zip(cell[column], cell["family"], strict=True):
            owners.setdefault(value, set()).add(str(family))
        if len(owners) > 1:
            common = set.intersection(*(set(str(value).split("|")) for value in owners))
            differences = "; ".join(
                f"{'|'.join(part for part in str(value).split('|') if part not in common) or '(nothing)'} "
                f"for {', '.join(sorted(families))}"
                for value, families in sorted(owners.items(), key=lambda item: str(item[0]))
            )
            raise ValueError(f"{what}: expected one {column} in one table, got {differences}")


def one_machine(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without the costs that were measured on several machines or thread counts.

    Such costs cannot share a column, and quality need not suffer for it: a suite may be finished on another machine.
    What is left out is named in a warning.
    """
    counted = _counted(frame)
    costs = counted[counted["kind"] == Kind.COST.value]
    kinds = costs.groupby(["suite", "source", "metric"])["fingerprint"].nunique()
    mixed = set(kinds.index[kinds > 1])
    if not mixed:
        return frame
    names = ", ".join(f"{metric} on {source}" for _, source, metric in sorted(mixed))
    warnings.warn(f"left out costs measured on several machines or thread counts: {names}", stacklevel=2)
    cells = zip(frame["suite"], frame["source"], frame["metric"], strict=True)
    return frame[[cell not in mixed for cell in cells]].reset_index(drop=True)


@dataclass(frozen=True)
class Agreement:
    """How far two scorecards tell the same story, over cells (source, family, metric) of quality that both have.

    Attributes:
        agree: cells that agree within their intervals.
        disagree: one row per other cell: source, family, metric, both means, intervals and counts.
        undecided: cells with one run on both sides that are not the same number, or without a number on one side.
        skipped: cells of different fingerprints: another protocol, so no comparison.
    """

    agree: int
    disagree: pd.DataFrame
    undecided: int
    skipped: int

    @property
    def compared(self) -> int:
        """Cells with a verdict."""
        return self.agree + len(self.disagree)


def agreement(mine: pd.DataFrame, published: pd.DataFrame) -> Agreement:
    """Compare two scorecards cell by cell, on quality only (no costs, stability or spreads).

    Two intervals agree where they overlap. A cell with one run has none: it agrees if it lies in the other's
    95 % prediction interval for one more run, mean ± t · s · √(1 + 1/n). Equal numbers always agree.

    Args:
        mine: as `scorecard` gives it, of one suite.
        published: the same.
    """
    keys = ["source", "family", "metric"]
    known = {tuple(row[key] for key in keys): row for row in published.to_dict("records")}
    counts = {"agree": 0, "undecided": 0, "skipped": 0}
    disagree: list[dict[str, Any]] = []
    for row in mine.to_dict("records"):
        other = known.get(tuple(row[key] for key in keys))
        if other is None or row["kind"] not in QUALITY:
            continue
        if row["fingerprint"] != other["fingerprint"]:
            counts["skipped"] += 1
            continue
        verdict = _agree(row, other)
        if verdict is None:
            counts["undecided"] += 1
        elif verdict:
            counts["agree"] += 1
        else:
            numbers = ("mean", "ci_low", "ci_high", "n_ok")
            disagree.append(
                {key: row[key] for key in keys}
                | {name: row[name] for name in numbers}
                | {f"published_{name}": other[name] for name in numbers}
            )
    columns = [*keys, *(f"{p}{name}" for p in ("", "published_") for name in ("mean", "ci_low", "ci_high", "n_ok"))]
    return Agreement(disagree=pd.DataFrame(disagree, columns=columns), **counts)


def _agree(a: Mapping[Hashable, Any], b: Mapping[Hashable, Any]) -> bool | None:
    """Whether two cells agree; None where neither can say."""
    if a["mean"] == b["mean"] or math.isclose(a["mean"], b["mean"], rel_tol=1e-9, abs_tol=1e-12):
        return True
    bounds = []
    for cell, other in ((a, b), (b, a)):
        low, high = cell["ci_low"], cell["ci_high"]
        if other["n_ok"] == 1:  # from an interval of the mean to one of prediction: s√(1 + 1/n) = (s/√n)·√(n + 1)
            half = (high - low) / 2.0 * math.sqrt(cell["n_ok"] + 1)
            low, high = cell["mean"] - half, cell["mean"] + half
        bounds.append((cell["mean"], cell["mean"]) if cell["n_ok"] == 1 else (low, high))
    if (a["n_ok"] <= 1 and b["n_ok"] <= 1) or any(math.isnan(x) for pair in bounds for x in pair):
        return None
    (low, high), (other_low, other_high) = bounds
    slack = 1e-9 * max(abs(a["mean"]), abs(b["mean"]))
    return bool(low <= other_high + slack and other_low <= high + slack)


def _counted(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that enter a mean: a number, from a run that ended well."""
    return frame[(frame["status"] == "ok") & (frame["outcome"] == "ok")]


def _check_seeds(counted: pd.DataFrame) -> None:
    cells = ["suite", "source", "family", "metric", "seed"]
    twice = counted[counted.duplicated(cells, keep=False)]
    if len(twice):
        first = twice.iloc[0]
        runs = sorted(twice.loc[(twice[cells] == first[cells]).all(axis=1), "run_id"])
        raise ValueError(
            f"{first['metric']} of {first['family']} on {first['source']}: expected one run of seed {first['seed']}, "
            f"got {runs}: one seed has one vote"
        )


def _ranks(runs: Mapping[str, Runs], first: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Rank of every contestant with at least two runs, among those of its fingerprint; none for one alone."""
    ranks: dict[str, float] = {}
    for rivals, as_counted, higher_is_better in _rivals(runs, first):
        ranked = [family for family in rivals if first[family]["role"] == "contestant"]
        if len(ranked) < 2:
            continue
        ranks |= dict.fromkeys(ranked, 1.0)
        for pair in compare(rivals, higher_is_better, as_counted):
            if pair.better is not None and {pair.a, pair.b} <= set(ranked):
                ranks[pair.b if pair.better == pair.a else pair.a] += 1.0
    return ranks


def _rivals(
    runs: Mapping[str, Runs], first: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[dict[str, Runs], dict[str, Runs], bool]]:
    """Who may be compared on a metric (one fingerprint, two runs or more), the exact ones as counted, its direction.

    Contestants come first, then the floor: the fitted Gaussian is one of the tests of quality, so that "worse than the
    Gaussian" has the error rate of all else.
    """
    for protocol in dict.fromkeys(row["fingerprint"] for row in first.values()):
        alike = [family for family, row in first.items() if row["fingerprint"] == protocol and runs[family].n >= 2]
        contestants, floors = (
            {family: runs[family] for family in alike if first[family]["role"] == role}
            for role in ("contestant", "floor")
        )
        about = next(row for row in first.values() if row["fingerprint"] == protocol)
        if about["higher_is_better"] is not None and contestants:
            rivals = contestants | dict(list(floors.items())[:1] if about["kind"] in QUALITY else [])
            yield rivals, _as_counted(rivals, runs, first), bool(about["higher_is_better"])


def _as_counted(
    rivals: Mapping[str, Runs], runs: Mapping[str, Runs], first: Mapping[str, Mapping[str, Any]]
) -> dict[str, Runs]:
    """Of rivals with exact total variations, the same with the noise that a count of samples has.

    A count of N samples is off by some amount even for a perfect model; the oracle's runs show how much, and how that
    scatters. Independent errors add in quadrature. Without this an exact number would beat an equally good model that
    can only be counted.
    """
    oracles = [runs[family].values for family, row in first.items() if row["role"] == "oracle"]
    exact = {family for family in rivals if first[family]["draw_stderr"] == 0.0}
    counts = all(first[family]["metric"] == "total_variation" for family in rivals)
    if not oracles or not counts:
        return {}
    noise = np.concatenate(oracles)
    values = {
        family: (np.hypot(own.values, np.resize(noise, own.n)) if family in exact else own.values).tolist()
        for family, own in rivals.items()
        if first[family]["role"] == "contestant"
    }
    lent = runs_of(values, {family: rivals[family].error for family in values})
    alone = {family: Runs(np.hypot(rivals[family].values, np.resize(noise, rivals[family].n))) for family in exact}
    return {family: lent.get(family, alone[family]) for family in exact}


def _role_order(role: str) -> int:
    return {"contestant": 0, "guest": 1}.get(role, 2)
