"""What genfam-tune tried, and whether a run has the settings that it chose."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from genfam.build import configuration_folder


@dataclass(frozen=True)
class Trial:
    """One line of `<source>-<family>.jsonl`.

    Attributes:
        study: what made it.
        rung: of successive halving, from 0.
        configuration: in the study; 0 has the recipe's own values.
        seed: of the run.
        overrides: key of the family -> value; the same keys in every trial.
        metric: that judged it on the validation split; empty where the run gave none.
        value, stderr: of the metric; None where the run did not end well.
        higher_is_better: of the metric.
        fingerprint: the metric's protocol.
        digest: of the code that made the numbers.
    """

    study: str
    rung: int
    configuration: int
    seed: int
    run_id: str
    overrides: dict[str, Any]
    outcome: str
    reason: str
    metric: str = ""
    value: float | None = None
    stderr: float | None = None
    higher_is_better: bool | None = None
    fingerprint: str = ""
    train_flops: float = 0.0
    train_seconds: float = 0.0
    code_version: str = ""
    digest: str = ""

    @property
    def loss(self) -> float:
        """Lower is better; ∞ without a value, for a family must not be tuned towards runs that diverge."""
        if self.value is None:
            return math.inf
        return -self.value if self.higher_is_better else self.value


def study_file(place: Path, source: str, family: str) -> Path:
    """Where the trials of a family on a source stand in a store, or in `results`."""
    return place / "tune" / f"{source}-{family}.jsonl"


def load_trials(path: Path) -> list[Trial]:
    """The trials of a file that genfam-tune wrote."""
    return [Trial(**json.loads(line)) for line in path.read_text().splitlines() if line.strip()]


def better_of(trials: Sequence[Trial], n: int) -> list[Trial]:
    """The n of lowest loss; of equal ones those of the lowest number."""
    return sorted(trials, key=lambda trial: (trial.loss, trial.configuration))[:n]


def nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`{a.b: 1}` -> `{a: {b: 1}}`."""
    found: dict[str, Any] = {}
    for key, value in overrides.items():
        node = found
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return found


def is_tuned(source: str, family: str, settings: Mapping[str, Any], folder: Path | None = None) -> bool:
    """Whether a family's settings are those that genfam-tune chose for it on the source.

    Args:
        source: as `conf/source` names it.
        family: as `conf/family` names it.
        settings: the node `family` of a run's configuration.
        folder: of configurations; default: genfam's.
    """
    path = (folder or configuration_folder()) / "tuned" / source / f"{family}.yaml"
    if not path.is_file():
        return False
    return _holds(yaml.safe_load(path.read_text()) or {}, settings)


def _holds(chosen: Any, settings: Any) -> bool:
    if isinstance(chosen, Mapping):
        return isinstance(settings, Mapping) and all(_holds(one, settings.get(key)) for key, one in chosen.items())
    return bool(chosen == settings)
