"""All tables that a suite's records give: computed once, for every page and picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from genfam.comparing.corruption import corruption_table
from genfam.comparing.dimension import dimension_table
from genfam.comparing.metric_trial import metric_trial
from genfam.comparing.scaling import Scaling, scaling
from genfam.comparing.scorecard import comparisons, one_machine, scorecard
from genfam.comparing.stability import aggregate, judge_of, stability_card
from genfam.comparing.variance import variance_components
from genfam.comparing.verdicts import Verdict, leaders, verdicts
from genfam.records.frame import to_frame
from genfam.records.store import as_tuned
from genfam.report.tables import Summary, summarise
from genfam.types import Record


@dataclass(frozen=True)
class Findings:
    """All tables of a suite; see the functions of the same names.

    Of `card` the column `leads` is `genfam.comparing.verdicts.leaders`: no report has another rule for who leads; and
    `judges` says whether the metric is the source's judge.
    """

    frame: pd.DataFrame
    card: pd.DataFrame
    comparisons: pd.DataFrame
    metric_trial: pd.DataFrame
    stability: pd.DataFrame
    aggregate: pd.DataFrame
    variance: pd.DataFrame
    verdicts: list[Verdict]
    outcomes: Counter[str]
    scaling: Scaling
    dimension: pd.DataFrame
    corruption: pd.DataFrame

    @property
    def more(self) -> dict[str, pd.DataFrame]:
        """Tables that only some suites have, by name (`genfam.records.publication.MORE_TABLES`)."""
        found = {
            "scaling": self.scaling.points, "scaling_fits": self.scaling.fits,
            "scaling_pairs": self.scaling.pairs, "scaling_crossings": self.scaling.crossings,
            "dimension": self.dimension, "corruption": self.corruption,
        }  # fmt: skip
        return {name: table for name, table in found.items() if len(table)}

    def summary(self, facts: dict[str, str]) -> Summary:
        """What the pages show."""
        if len(self.scaling.points):
            facts = facts | {"budgets": "several; all tables here are of the largest, scaling.csv has the others"}
        return summarise(
            self.card,
            self.frame,
            self.comparisons,
            self.metric_trial,
            self.stability,
            self.aggregate,
            self.variance,
            self.verdicts,
            facts,
            self.outcomes,
        )


def findings(records: Sequence[Record]) -> Findings:
    """Records -> tables.

    Runs at another than the tuned learning rate speak in the stability table only, and those at another than the
    largest budget in `scaling` only.
    """
    tuned = as_tuned(records)
    frame = one_machine(to_frame(tuned))
    card, pairs = scorecard(frame), comparisons(frame)
    said = verdicts(tuned, card, pairs)
    judges = {source: judge_of([r for r in tuned if r.task == source]) for source in {r.task for r in tuned}}
    return Findings(
        frame,
        card.assign(leads=leaders(card, said), judges=card["metric"] == card["source"].map(judges)),
        pairs,
        metric_trial(frame),
        stability_card(records),
        aggregate(records),
        variance_components(frame),
        said,
        Counter(record.outcome.value for record in records),
        scaling(records),
        dimension_table(records),
        corruption_table(records),
    )
