"""The answer in words: per source, who leads in what, and who cannot be told from the leader.

Nothing is computed here but sentences: ranks come from the scorecard, shares and their intervals from the stability
card, rank correlations from the metric trial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from genfam.metrics.failures import FAILURES
from genfam.report.tables import cell, headline

TRUTH_METRICS = ("total_variation", "kl_divergence")
COVERAGE_METRICS = ("coverage", "modes_covered", "recall")


@dataclass(frozen=True)
class Verdict:
    """One question about one source.

    Attributes:
        aspect: the question: distance, truth, coverage, stability, sampling cost.
        metric: what answers it; empty for stability.
        best: the leading families, several where they are tied; empty where nothing can be said.
        tied: whether several lead because they cannot be told apart (else they are equal).
        detail: the numbers, as one sentence without its full stop.
    """

    aspect: str
    metric: str
    best: list[str]
    tied: bool
    detail: str


@dataclass(frozen=True)
class Answer:
    """All verdicts on a source, and what to beware of."""

    source: str
    verdicts: list[Verdict]
    warning: str = ""


def answer(
    source: str, card: pd.DataFrame, stability: pd.DataFrame, trial: pd.DataFrame, contestants: Sequence[str]
) -> Answer:
    """Verdicts on one source, those that its records can give.

    Args:
        source: its name.
        card: as `genfam.comparing.scorecard.scorecard` gives it.
        stability: as `genfam.comparing.stability.stability_card` gives it.
        trial: as `genfam.comparing.metric_trial.metric_trial` gives it.
        contestants: families that compete.
    """
    own = card[card["source"] == source]
    measured = set(own.loc[own["n_ok"] > 0, "metric"])
    questions = [
        ("distance", headline(card, source)),
        ("true divergence", next((name for name in TRUTH_METRICS if name in measured), None)),
        ("coverage", next((name for name in COVERAGE_METRICS if name in measured), None)),
    ]
    found = [ranked(aspect, metric, own, contestants) for aspect, metric in questions if metric is not None]
    found += lost(source, stability, contestants)
    if "evaluations_per_sample" in measured:
        found.append(ranked("sampling cost", "evaluations_per_sample", own, contestants))
    return Answer(source, found, doubt(source, headline(card, source), trial))


def ranked(aspect: str, metric: str, own: pd.DataFrame, contestants: Sequence[str]) -> Verdict:
    """Who has rank 1 in a metric, with the scorecard's own cells."""
    rows = {str(row["family"]): row for row in own[own["metric"] == metric].to_dict("records")}
    known = [name for name in contestants if name in rows and rows[name]["n_ok"] > 0]
    best = [name for name in known if rows[name]["rank"] == 1]
    best.sort(key=lambda name: (_signed(rows[name]), name))
    numbers = ", ".join(f"{name} {_text(rows[name])}" for name in best or sorted(known, key=lambda n: _signed(rows[n])))
    missing = [name for name in contestants if name not in known]
    if not known:
        detail = "no contestant has a number"
    elif not best:
        why = "one run each" if all(rows[name]["n_ok"] < 2 for name in known) else "nobody to compare with"
        detail = f"{why}, so no ranking ({numbers})"
    else:
        detail = numbers
    oracles = {float(rows[name]["oracle"]) for name in known if math.isfinite(rows[name]["oracle"])}
    if len(oracles) == 1 and aspect != "sampling cost":
        detail += f"; fresh real data {oracles.pop():.3g}"
    if missing and known:
        detail += f"; without a number: {', '.join(missing)}"
    equal = all(rows[name]["mean"] == rows[best[0]]["mean"] for name in best) if best else False
    return Verdict(aspect, metric, best, len(best) > 1 and not equal, detail)


def lost(source: str, stability: pd.DataFrame, contestants: Sequence[str]) -> list[Verdict]:
    """Who lost the smallest share of runs, with everyone whose interval overlaps that one's, and failures by name."""
    own = stability[(stability["source"] == source) & stability["family"].isin(list(contestants))]
    shares = {str(row["family"]): row for row in own[own["entry"] == "diverged"].to_dict("records")}
    if not shares:
        return []
    least = min(shares.values(), key=lambda row: (row["value"], row["ci_high"]))
    best = [name for name in shares if shares[name]["ci_low"] <= least["ci_high"]] if len(shares) > 1 else []
    best.sort(key=lambda name: (shares[name]["value"], name))
    told = [
        f"{row['family']} shows {row['entry']} in {_count(row)}"
        for row in own[own["entry"].isin(FAILURES)].to_dict("records")
        if row["value"] > 0
    ]
    if all(row["value"] == 0 for row in shares.values()):
        detail = "no run diverged or ended worse than the Gaussian"
    else:
        detail = "diverged or ended worse than the Gaussian: " + ", ".join(
            f"{name} {_count(row)}" for name, row in sorted(shares.items(), key=lambda item: item[1]["value"])
        )
    equal = len({shares[name]["value"] for name in best}) == 1
    return [Verdict("stability", "", best, len(best) > 1 and not equal, "; ".join([detail, *told]))]


def doubt(source: str, metric: str | None, trial: pd.DataFrame) -> str:
    """A sentence where the headline metric does not demonstrably order runs as the truth does; else empty."""
    rows = trial[(trial["source"] == source) & (trial["metric"] == metric) & trial["tau"].notna()].to_dict("records")
    if not rows or rows[0]["ci_low"] > 0.0:
        return ""
    row = rows[0]
    return (
        f"Beware: here {metric} does not order runs as the true divergence does (rank correlation {row['tau']:.2f} "
        f"[{row['ci_low']:.2f}, {row['ci_high']:.2f}], where 1 would be perfect), so believe {row['truth']} instead."
    )


def sentence(verdict: Verdict) -> str:
    """`best` and `detail` as one sentence."""
    if not verdict.best:
        return f"{verdict.detail}."
    names = _joined(verdict.best)
    if len(verdict.best) == 1:
        lead = f"{names} leads"
    elif verdict.tied:
        lead = f"{names} cannot be told apart"
    else:
        lead = f"{names} are equal"
    return f"{lead} ({verdict.detail})."


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(row: Mapping[Any, Any]) -> str:
    return f"{row['value'] * row['n']:.0f} of {row['n']} runs"


def _text(row: Mapping[Any, Any]) -> str:
    return cell({str(key): value for key, value in row.items()}).text.removesuffix(" ± 0")


def _signed(row: Mapping[Any, Any]) -> float:
    return -float(row["mean"]) if row["higher_is_better"] else float(row["mean"])
