"""What was asked of the families and what came of it, and the families' order, written into docs/asked.md.

Run it: `.venv/bin/python benchmarks/asked.py [--check]`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pandas as pd
from pages import ROOT, keep_block

from genfam.records import load_published, to_frame
from genfam.statistics import t_interval

PAGE = ROOT / "docs" / "asked.md"
RESULTS = ROOT / "results"
ORDERED = (  # suite, source and the distance of its features
    ("images", "mnist", "fd_mnist_resnet"),
    ("images", "fashion_mnist", "fd_fashion_resnet"),
    ("modes", "stacked_mnist", "fd_mnist_resnet"),
    ("stacked_digits", "stacked_digits", "fd_digits_cnn"),
)
FAMILIES = ("gan", "vae", "autoregressive", "flow_matching")


@dataclass(frozen=True)
class Asked:
    """One number that was asked for.

    Args:
        suite, source, family, metric: whose.
        bound: what each seed is to have.
        less: whether the value is to be at most that, else at least.
        times_oracle: whether the bound is in means of the oracle's seeds.
        why: where what is known of a shortfall stands (a link's target), if there is one.
    """

    suite: str
    source: str
    family: str
    metric: str
    bound: float
    less: bool
    times_oracle: bool = False
    why: str = ""

    def limit(self, oracle: float) -> float:
        """The bound in the metric's own unit."""
        return self.bound * oracle if self.times_oracle else self.bound

    def met(self, values: Iterable[float], oracle: float) -> list[bool]:
        """By seed."""
        limit = self.limit(oracle)
        return [value <= limit if self.less else value >= limit for value in values]


def modes(source: str, suite: str, families: tuple[str, ...], least: float) -> list[Asked]:
    """That many modes by each of the families, and all masses within 0.12 nats."""
    asked = [Asked(suite, source, family, "modes_covered", least, False) for family in families]
    return [*asked, *(Asked(suite, source, family, "mode_reverse_kl", 0.12, True) for family in families)]


def everything() -> list[Asked]:
    """All that is asked, in the page's order."""
    grid = "experiments.md#gan-on-the-grid-what-was-wrong"
    far = "experiments.md#where-flow-matchings-errors-arise-and-larger-patches"
    long = "experiments.md#what-more-compute-buys-suite-long"
    second_level = "experiments.md#a-second-level-of-latents-and-a-flow-as-posterior"
    asked = [
        Asked("likelihood", "binarised_mnist", "autoregressive", "nll_nats", 81.5, True),
        Asked("likelihood", "binarised_mnist", "vae", "nll_nats", 86.8, True),
        Asked("likelihood", "binarised_mnist", "vae", "nll_nats", 81.0, True, why=second_level),
    ]
    for suite, why in (("images", far), ("long", long)):
        for source, metric in (("mnist", "fd_mnist_resnet"), ("fashion_mnist", "fd_fashion_resnet")):
            asked.append(Asked(suite, source, "flow_matching", metric, 3, True, True, why))
    for source, suite in (("stacked_mnist", "modes"), ("stacked_digits", "stacked_digits")):
        asked += modes(source, suite, ("gan",), 992)
        asked += modes(source, suite, ("flow_matching", "autoregressive"), 1000)
    for source, most in (("grid", 25), ("ring", 8)):
        asked.append(Asked("modes", source, "gan", "modes_covered", most, False))
        asked.append(Asked("modes", source, "gan", "high_quality_share", 0.95, False))
        asked.append(Asked("modes", source, "gan", "mode_reverse_kl", 0.01, True, why=grid))
        asked += [Asked("modes", source, family, "high_quality_share", 0.9789, False) for family in FAMILIES]
    return asked


def text(value: float) -> str:
    """Four digits."""
    return f"{value:.4g}"


def row(asked: Asked, runs: pd.DataFrame) -> str:
    """One line of the table.

    Raises:
        ValueError: no run has it.
    """
    own = runs[(runs["suite"] == asked.suite) & (runs["source"] == asked.source) & (runs["metric"] == asked.metric)]
    values = own[own["family"] == asked.family].sort_values("seed")["value"].dropna().tolist()
    oracle = float(own[own["family"] == "oracle"]["value"].mean())
    if not values:
        raise ValueError(f"expected published runs with what is asked, found none: {asked}")
    limit = f"{'≤' if asked.less else '≥'} {text(asked.limit(oracle))}"
    if asked.times_oracle:
        limit += f" ({asked.bound:g} times the oracle's {text(oracle)})"
    met = asked.met(values, oracle)
    said = "yes" if all(met) else f"**{sum(met)} of {len(met)} seeds**" if any(met) else "**no**"
    if asked.times_oracle:
        said += f" (mean {sum(values) / len(values) / oracle:.2g} times)"
    elif not all(met):
        worst = max(values) if asked.less else min(values)
        said += f" (by {text(abs(worst - asked.limit(oracle)))} at worst)"
    why = "" if all(met) else f"[why, and what was tried]({asked.why})" if asked.why else "–"
    cells = (asked.source, asked.suite, asked.family, asked.metric, limit, ", ".join(map(text, values)), said, why)
    return "| " + " | ".join(cells) + " |"


def order(values: dict[str, list[float]], pairs: pd.DataFrame, less: bool) -> str:
    """The families from best to worst by their means, and which pairs Holm's test does not tell apart.

    Args:
        values: of the seeds, by family.
        pairs: `family_a`, `family_b` and `better`, empty where they are tied.
        less: whether less is better.
    """
    ranked = sorted(values, key=lambda family: mean(values[family]), reverse=not less)
    tied = pairs[pairs["better"].isna()]
    places = {family: place for place, family in enumerate(ranked)}
    ties = sorted(
        (sorted(pair, key=places.__getitem__) for pair in zip(tied["family_a"], tied["family_b"], strict=True)),
        key=lambda pair: [places[family] for family in pair],
    )
    line = ", ".join(f"{family} {text(mean(values[family]))} ± {half_width(values[family])}" for family in ranked)
    return f"{line} | {'; '.join(' – '.join(pair) for pair in ties) or 'none'}"


def half_width(values: list[float]) -> str:
    """Of the 95 % interval, to two digits."""
    low, high = t_interval(values)
    return f"{(high - low) / 2:.2g}"


def orders(runs: pd.DataFrame, results: Path = RESULTS) -> list[str]:
    """A row per source and metric."""
    lines = [
        "| source | suite | metric | from best to worst (mean ± half of the 95 % interval) | not told apart |",
        "|---|---|---|---|---|",
    ]
    for suite, source, distance in ORDERED:
        compared = pd.read_csv(results / suite / "comparisons.csv", keep_default_na=False, na_values=[""])
        own = runs[(runs["suite"] == suite) & (runs["source"] == source) & (runs["role"] == "contestant")]
        families = own["family"].unique()
        for metric in (distance, "mode_reverse_kl", "coverage", "recall"):
            pairs = compared[(compared["source"] == source) & (compared["metric"] == metric)]
            pairs = pairs[pairs["family_a"].isin(families) & pairs["family_b"].isin(families)]
            own_values = own[own["metric"] == metric].dropna(subset="value").groupby("family")["value"]
            if len(pairs):
                values = {str(family): found.tolist() for family, found in own_values}
                said = order(values, pairs, less=metric not in ("coverage", "recall"))
                lines.append(f"| {source} | {suite} | {metric} | {said} |")
    return lines


def tables(results: Path = RESULTS) -> str:
    """Both tables, in Markdown."""
    suites = sorted({asked.suite for asked in everything()})
    runs = pd.concat([to_frame(load_published(results / suite)).assign(suite=suite) for suite in suites])
    head = "| source | suite | family | metric | asked | each seed | met? | |\n|---|---|---|---|---|---|---|---|"
    rows = [row(asked, runs) for asked in everything()]
    return "\n".join(["", head, *rows, "", "## The families' order", "", *orders(runs, results), ""])


if __name__ == "__main__":
    sys.exit(keep_block(PAGE, "asked", tables, __doc__))
