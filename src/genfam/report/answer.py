"""The answer in words: per source, whom to choose, who leads in what, and who is not separated.

Nothing is computed here but sentences: who leads is `genfam.comparing.verdicts`' rule, shares come from the stability
card, rank correlations from the metric trial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd
from scipy import stats

from genfam.comparing.metric_trial import TRUTHS
from genfam.comparing.statistics import CONFIDENCE, holm
from genfam.comparing.verdicts import Standing, Verdict
from genfam.metrics.failures import FAILURES
from genfam.report.tables import KIND_MARKS, cell, choice, headline
from genfam.types import Kind

COVERAGE_METRICS = ("coverage", "modes_covered", "recall")
ASPECTS = (
    "choice", "distance", "true divergence", "coverage", "likelihood", "stability", "training time", "sampling cost"
)  # fmt: skip
COSTS = ("training time", "sampling cost")


@dataclass(frozen=True)
class Claim:
    """One question about one source.

    Attributes:
        aspect: the question, one of `ASPECTS`.
        metric: what answers it; empty for stability.
        best: the leading families, several where they are not separated; empty where nobody leads.
        detail: the numbers, as one sentence without its full stop.
        equal: whether several lead because their numbers are the same (else they are not separated).
        seeds: of the contestant with the fewest, of those that were ranked.
    """

    aspect: str
    metric: str
    best: list[str]
    detail: str
    equal: bool = False
    seeds: int = 0


@dataclass(frozen=True)
class Answer:
    """All claims on a source, and what to beware of."""

    source: str
    claims: list[Claim]
    warning: str = ""


def answer(
    source: str,
    card: pd.DataFrame,
    stability: pd.DataFrame,
    trial: pd.DataFrame,
    contestants: Sequence[str],
    said: Sequence[Verdict],
    kinds: Mapping[str, str],
) -> Answer:
    """Claims on one source, those that its records can give.

    Args:
        source: its name.
        card: as `genfam.report.findings` has it, with who leads.
        stability: as `genfam.comparing.stability.stability_card` gives it.
        trial: as `genfam.comparing.metric_trial.metric_trial` gives it.
        contestants: families that compete.
        said: as `genfam.comparing.verdicts.verdicts` gives it.
        kinds: family -> kind of its likelihood.
    """
    own = card[card["source"] == source]
    measured = set(own.loc[own["n_ok"] > 0, "metric"])
    leading = headline(card, source)
    questions = [
        ("distance", leading if leading not in TRUTHS else None),
        ("true divergence", next((name for name in TRUTHS if name in measured), None)),
        ("coverage", next((name for name in COVERAGE_METRICS if name in measured), None)),
        ("likelihood", "nll_nats" if "nll_nats" in measured else None),
        ("training time", "train_seconds" if "train_seconds" in measured else None),
        ("sampling cost", "evaluations_per_sample" if "evaluations_per_sample" in measured else None),
    ]
    found = chosen(source, said)
    found += [ranked(aspect, metric, own, contestants, kinds) for aspect, metric in questions if metric is not None]
    found += lost(source, stability, contestants)
    found.sort(key=lambda claim: ASPECTS.index(claim.aspect))
    return Answer(source, found, doubt(source, headline(card, source), trial))


def chosen(source: str, said: Sequence[Verdict]) -> list[Claim]:
    """Whom to choose, by the source's judge."""
    own = [verdict for verdict in said if verdict.source == source]
    best = [verdict.family for verdict in own if verdict.standing is Standing.BEST]
    lines = choice(source, said)
    return [Claim("choice", own[0].judge, best, "; ".join(lines))] if lines else []


def ranked(aspect: str, metric: str, own: pd.DataFrame, contestants: Sequence[str], kinds: Mapping[str, str]) -> Claim:
    """Who leads in a metric, with the scorecard's own cells."""
    rows = {str(row["family"]): row for row in own[own["metric"] == metric].to_dict("records")}
    known = [name for name in contestants if name in rows and rows[name]["n_ok"] > 0]
    best = [name for name in known if rows[name]["leads"]]
    best.sort(key=lambda name: (_signed(rows[name]), name))
    told = known if aspect in ("likelihood", "training time") else best or known
    numbers = ", ".join(
        f"{name} {_text(rows[name], kinds.get(name, ''))}" for name in sorted(told, key=lambda n: (_signed(rows[n]), n))
    )
    missing = [name for name in contestants if name not in known]
    ranks = [rows[name]["rank"] for name in known if math.isfinite(rows[name]["rank"])]
    seeds = min((int(rows[name]["n_ok"]) for name in known if math.isfinite(rows[name]["rank"])), default=0)
    equal = bool(best) and all(rows[name]["mean"] == rows[best[0]]["mean"] for name in best)
    if not known:
        detail = "no contestant has a number"
    elif best:
        detail = numbers
    elif ranks and max(ranks) == 1 and len({float(rows[name]["mean"]) for name in known}) == 1:
        detail = f"no difference ({numbers})"
    elif ranks and max(ranks) == 1:
        detail = f"nobody leads: not separated with {seeds} seeds ({numbers})"
    elif ranks:
        detail = f"nobody that may be chosen leads ({numbers})"
    else:
        alone = all(rows[name]["n_ok"] < 2 for name in known)
        why = "one run each" if alone else "nobody to compare with"
        detail = f"{why}, so no ranking ({numbers})"
    oracles = {float(rows[name]["oracle"]) for name in known if math.isfinite(rows[name]["oracle"])}
    if len(oracles) == 1 and aspect not in COSTS:
        detail += f"; fresh real data {oracles.pop():.3g}"
        if aspect == "distance":
            detail += _times(rows[min(best or known, key=lambda name: _signed(rows[name]))])
    if missing and known:
        detail += f"; without a number: {', '.join(missing)}"
    return Claim(aspect, metric, best, detail, equal, seeds)


def lost(source: str, stability: pd.DataFrame, contestants: Sequence[str]) -> list[Claim]:
    """How many runs each family lost, and failures by name; who leads by Fisher's exact test after Holm."""
    own = stability[(stability["source"] == source) & stability["family"].isin(list(contestants))]
    shares = {str(row["family"]): row for row in own[own["entry"] == "lost"].to_dict("records")}
    if not shares:
        return []
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
    best = _fewest({name: (round(row["value"] * row["n"]), int(row["n"])) for name, row in shares.items()})
    return [Claim("stability", "", best, "; ".join([detail, *told]))]


def _fewest(counts: Mapping[str, tuple[int, int]]) -> list[str]:
    """Families than which none has significantly fewer of its runs, if another has significantly more."""
    pairs = list(combinations(counts, 2))
    tests = [stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue for (a, n), (b, m) in
             ((counts[one], counts[other]) for one, other in pairs)]  # fmt: skip
    beaten = set()
    for (one, other), p in zip(pairs, holm(tests), strict=True):
        if p < 1.0 - CONFIDENCE:
            shares = {name: counts[name][0] / counts[name][1] for name in (one, other)}
            beaten.add(max(shares, key=lambda name: shares[name]))
    return sorted(counts.keys() - beaten) if beaten else []


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


def sentence(claim: Claim) -> str:
    """`best` and `detail` as one sentence."""
    if not claim.best or claim.aspect == "choice":
        return f"{claim.detail[:1].upper()}{claim.detail[1:]}."
    names = _joined(claim.best)
    if len(claim.best) == 1:
        lead = f"{names} leads"
    elif claim.equal:
        lead = f"{names} are equal"
    else:
        lead = f"{names} lead and are not separated with {claim.seeds} seeds"
    return f"{lead} ({claim.detail})."


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _times(row: Mapping[Any, Any]) -> str:
    """How many times the oracle's value a family's is, with Fieller's interval."""
    value, low, high = (float(row[name]) for name in ("times_oracle", "times_low", "times_high"))
    if math.isnan(value) or (math.isinf(low) and math.isinf(high)):
        return ""
    if math.isinf(high):
        return f", of which {row['family']} has at least {low:.3g} times"
    bounds = "" if math.isnan(low) else f" [{low:.3g}, {high:.3g}]"
    return f", of which {row['family']} has {value:.3g} times{bounds}"


def _count(row: Mapping[Any, Any]) -> str:
    return f"{row['value'] * row['n']:.0f} of {row['n']} runs"


def _text(row: Mapping[Any, Any], kind: str) -> str:
    mark = KIND_MARKS.get(kind, "") if row["kind"] == Kind.LIKELIHOOD.value else ""
    return cell({str(key): value for key, value in row.items()}, mark).text.removesuffix(" ± 0")


def _signed(row: Mapping[Any, Any]) -> float:
    return -float(row["mean"]) if row["higher_is_better"] else float(row["mean"])
