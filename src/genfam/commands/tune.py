"""Equal tuning: successive halving with the same FLOPs for every family, judged on a validation split.

Sixteen configurations of a family's space (`conf/tune/<family>.yaml`) run at a sixteenth of the budget C, the best four
at a quarter, the best two at C: 4 C per family and source. The first of the sixteen has the recipe's own values, the
others are a Latin hypercube. Every rung has a seed of its own, so that a configuration must do well on several. The
better one of the last rung *is* `conf/tuned/<source>/<family>.yaml`.

A trial is a normal run (`conf/suite/tune.yaml`: `split=validation`), so that the same command goes on where it was
interrupted, and all trials are kept.

References:
    K. Jamieson & A. Talwalkar (2016). Non-stochastic best arm identification and hyperparameter optimization. AISTATS.
    https://arxiv.org/abs/1502.07943 (successive halving; here a quarter of the configurations goes on)
    M. D. McKay, R. J. Beckman & W. J. Conover (1979). A comparison of three methods for selecting values of input
    variables. Technometrics 21 (Latin hypercubes).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import qmc

from genfam.build import ConfigurationError, configuration_folder
from genfam.commands.cli import RunFailed
from genfam.commands.composing import composed
from genfam.files import write_atomically
from genfam.progress import duration
from genfam.records.paths import strip_paths
from genfam.records.tuning import Trial, better_of, load_trials, nested, study_file
from genfam.running.parts import make_source
from genfam.types import Kind, Measurement, Outcome, Record
from hydra_plugins.genfam_launcher._batch import run_batch

RUNGS = ((16, 1 / 16), (4, 1 / 4), (2, 1.0))  # configurations, share of the budget each
FIRST_SEED = 1000  # of the runs: no suite has it, so tuning sees other draws than the published runs
MOST_DIMENSIONS = 4
DIGITS = 3  # significant ones of a tuned number


@dataclass(frozen=True)
class Study:
    """What to tune, and how.

    Attributes:
        seed: of the configurations and the runs.
        scale: C as a share of the source's reference FLOPs.
        overrides: of every run, as on the command line of `genfam`.
        workers: runs side by side; None: as `genfam -m`.
    """

    family: str
    source: str
    seed: int = 0
    scale: float = 1.0
    overrides: tuple[str, ...] = ()
    workers: int | None = None
    output_dir: Path = Path("outputs")
    results_dir: Path = Path("results")

    def __post_init__(self) -> None:
        if not self.scale > 0.0:
            raise ConfigurationError(f"scale: expected a positive share of the reference budget, got {self.scale}")
        for override in self.overrides:
            if override.partition("=")[0].lstrip("+~") in ("budget.scale", "budget.train_flops", "seed"):
                raise ConfigurationError(
                    f"{override}: a rung has a budget and a seed of its own; expected scale=… or seed=… of genfam-tune"
                )

    @property
    def name(self) -> str:
        """For people and `Trial.study`."""
        settings = [f"family={self.family}", f"source={self.source}", f"seed={self.seed}", f"scale={self.scale:g}"]
        return strip_paths(" ".join([*settings, *self.overrides]))

    @property
    def chosen(self) -> list[str]:
        """Overrides that say what is run."""
        return ["+suite=tune", "tuned=nothing", f"family={self.family}", f"source={self.source}", *self.overrides]

    @property
    def common(self) -> list[str]:
        """Overrides of every run of the study."""
        places = [f"output_dir={self.output_dir}", f"results_dir={self.results_dir}"]
        workers = [] if self.workers is None else [f"hydra.launcher.workers={self.workers}"]
        return [*self.chosen, *places, *workers]

    @property
    def file(self) -> Path:
        """Where its trials stand in the store."""
        return study_file(self.output_dir, self.source, self.family)


def families_with_a_space(folder: Path | None = None) -> list[str]:
    """Those with a file in `conf/tune`."""
    return sorted(path.stem for path in ((folder or configuration_folder()) / "tune").glob("*.yaml"))


def load_space(family: str, folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Key of the family -> its range, from `conf/tune/<family>.yaml`.

    Raises:
        FileNotFoundError: the family has no space.
        ConfigurationError: a range that is none, or too many dimensions.
    """
    path = (folder or configuration_folder()) / "tune" / f"{family}.yaml"
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: expected the search space of family {family}; there are {families_with_a_space(folder)}"
        )
    space: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    if len(space) > MOST_DIMENSIONS:
        raise ConfigurationError(f"{path}: expected at most {MOST_DIMENSIONS} dimensions, got {len(space)}")
    for key, value in space.items():
        _check_range(key, value)
    return space


def _check_range(key: str, given: Any) -> None:
    if isinstance(given, Mapping) and set(given) == {"choices"}:
        fits = isinstance(given["choices"], list) and len(given["choices"]) > 1
    elif isinstance(given, Mapping) and set(given) == {"factors"}:
        factors = given["factors"]
        fits = (
            isinstance(factors, list)
            and len(factors) > 1
            and all(isinstance(f, int | float) and f > 0 for f in factors)
        )
    elif isinstance(given, Mapping) and {"low", "high"} <= set(given) <= {"low", "high", "log"}:
        low, high, log = given["low"], given["high"], given.get("log", False)
        numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
        fits = numbers and isinstance(log, bool) and low < high and (low > 0 or not log)
    else:
        fits = False
    if not fits:
        raise ConfigurationError(
            f"search space, {key}: expected {{low, high}}, {{low, high, log}}, {{choices: [...]}} or "
            f"{{factors: [...]}}, got {given}"
        )


def configurations(
    space: Mapping[str, Mapping[str, Any]], own: Mapping[str, Any], n: int, seed: int
) -> list[dict[str, Any]]:
    """Draw n points of a Latin hypercube over the space: of every key, all n-quantiles (all choices) come up alike.

    Args:
        space: key -> range.
        own: key -> the recipe's value.
        n: how many.
        seed: of the draw.
    """
    unit = qmc.LatinHypercube(d=len(space), rng=np.random.default_rng(seed)).random(n)
    return [{key: _at(space[key], own[key], float(u)) for key, u in zip(space, row, strict=True)} for row in unit]


def _at(given: Mapping[str, Any], own: Any, u: float) -> Any:
    """The u-quantile of a range, u in [0, 1); `own` is the recipe's value, for factors."""
    if "choices" in given:
        return given["choices"][int(u * len(given["choices"]))]
    if "factors" in given:
        value = own * given["factors"][int(u * len(given["factors"]))]
        return max(1, round(value)) if isinstance(own, int) else float(f"{value:.{DIGITS}g}")
    low, high = given["low"], given["high"]
    whole = isinstance(low, int) and isinstance(high, int)
    if given.get("log", False):
        value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        return round(value) if whole else float(f"{value:.{DIGITS}g}")
    return low + int(u * (high - low + 1)) if whole else float(f"{low + u * (high - low):.{DIGITS}g}")


def own_values(study: Study, space: Mapping[str, Any]) -> dict[str, Any]:
    """Key -> what the family has on this source without tuning: its own default, or that of its recipe.

    Raises:
        ConfigurationError: a key of the space that the family does not have on this source.
    """
    family = composed(study.chosen).family
    found = {}
    for key in space:
        node: Any = family
        *parents, last = key.split(".")
        for parent in parents:
            node = node.get(parent) if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping) or last not in node:
            raise ConfigurationError(
                f"conf/tune/{study.family}.yaml: {key}: expected a key that family={study.family} has on "
                f"source={study.source}"
            )
        found[key] = node[last]
        if "factors" in space[key] and not isinstance(found[key], int | float):
            raise ConfigurationError(
                f"conf/tune/{study.family}.yaml: {key}: expected a number to take factors of, got {found[key]}"
            )
    return found


def without_oversized_batches(study: Study, space: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The space without batches of more events than the training split has.

    Such runs are refused, and would cost the family a part of its sixteen configurations.

    Raises:
        ConfigurationError: not even two sizes of a batch are left.
    """
    factors = space.get("batch_size", {}).get("factors")
    if factors is None:
        return space
    events = len(make_source(composed(study.chosen)).train)
    fitting = [factor for factor in factors if own["batch_size"] * factor <= events]
    if len(fitting) < 2:
        raise ConfigurationError(
            f"conf/tune/{study.family}.yaml: batch_size: expected two sizes or more up to the {events} training events "
            f"of {study.source}, got factors {factors} of {own['batch_size']}"
        )
    return space | {"batch_size": {"factors": fitting}}


def tune(study: Study, folder: Path | None = None) -> list[Trial]:
    """Run the study's trials, write them to `study.file`, and say how it goes.

    Args:
        study: what to tune.
        folder: of configurations with `tune/`; default: genfam's.

    Returns:
        The trials, rung by rung. Those that the store has are not run again.

    Raises:
        ValueError: a run that ended well without the metric that should judge it, or a rung without any such run.
        KeyboardInterrupt: after Ctrl-C; the same command goes on.
    """
    space = load_space(study.family, folder)
    own = own_values(study, space)
    space = without_oversized_batches(study, space, own)
    going: list[tuple[int, dict[str, Any]]] = list(
        enumerate([own, *configurations(space, own, RUNGS[0][0] - 1, study.seed)])
    )
    found: list[Trial] = []
    started, spent = time.monotonic(), 0.0
    for rung, (size, share) in enumerate(RUNGS):
        if rung:
            best = better_of([trial for trial in found if trial.rung == rung - 1], size)
            going = [(trial.configuration, trial.overrides) for trial in best]
        found += _run(study, rung, share, going)
        _write(study.file, found)
        spent += share * len(going)
        left = (time.monotonic() - started) / spent * (sum(n * c for n, c in RUNGS) - spent)
        print(f"{study.family} on {study.source}: rung {rung + 1} of {len(RUNGS)}, {describe(_leading(found, rung))}"
              + (f", {duration(left)} left" if rung + 1 < len(RUNGS) else ""), flush=True)  # fmt: skip
    return found


def _run(study: Study, rung: int, share: float, going: Sequence[tuple[int, dict[str, Any]]]) -> list[Trial]:
    """A rung's trials."""
    seed = FIRST_SEED + len(RUNGS) * study.seed + rung
    common = [*study.common, f"seed={seed}", f"budget.scale={study.scale * share:.10g}"]
    jobs = [[f"++family.{key}={_text(value)}" for key, value in own.items()] for _, own in going]
    trials = []
    for (number, own), answer in zip(going, run_batch(common, jobs), strict=True):
        try:
            trials.append(judged(study, rung, number, seed, own, answer.return_value))
        except RunFailed as error:
            failed = Outcome.FAILED.value, strip_paths(str(error))
            trials.append(Trial(study.name, rung, number, seed, "", own, *failed))
    if all(trial.value is None for trial in trials):
        raise ValueError(
            f"{study.family} on {study.source}: expected a run of rung {rung + 1} that ended well, got "
            f"{len(trials)} that did not: {trials[0].reason or trials[0].outcome}"
        )
    return trials


def judged(study: Study, rung: int, configuration: int, seed: int, overrides: dict[str, Any], record: Record) -> Trial:
    """A finished run as a trial.

    Raises:
        ValueError: it ended well, but without the metric that should judge it.
    """
    measurement = objective(record)
    estimate = None if measurement is None else measurement.estimate
    if record.outcome is Outcome.OK and estimate is None:
        raise ValueError(
            f"run {record.run_id}: expected a number for {record.judge or 'the headline metric'} to judge "
            f"the trial by, got {sorted(m.name for m in record.metrics if m.estimate)}"
        )
    known = measurement is not None and estimate is not None
    return Trial(
        study=study.name,
        rung=rung,
        configuration=configuration,
        seed=seed,
        run_id=record.run_id,
        overrides=overrides,
        outcome=record.outcome.value,
        reason=strip_paths(record.reason),
        metric=measurement.name if measurement is not None and known else "",
        value=estimate.value if estimate is not None and math.isfinite(estimate.value) else None,
        stderr=estimate.stderr if estimate is not None else None,
        higher_is_better=measurement.higher_is_better if measurement is not None and known else None,
        fingerprint=measurement.fingerprint if measurement is not None and known else "",
        train_flops=record.train_flops,
        train_seconds=record.train_seconds,
        code_version=record.code_version,
        digest=record.digest,
    )


def objective(record: Record) -> Measurement | None:
    """The measurement that judges a run: its `judge`, else the headline metric."""
    found = [m for m in record.metrics if (m.name == record.judge if record.judge else m.kind is Kind.HEADLINE)]
    return min(found, key=lambda m: m.name, default=None)


def _leading(trials: Sequence[Trial], rung: int) -> Trial:
    return better_of([trial for trial in trials if trial.rung == rung], 1)[0]


def describe(trial: Trial) -> str:
    """One line about a rung's best trial."""
    settings = ", ".join(f"{key}={_text(value)}" for key, value in trial.overrides.items())
    own = " (the recipe's own)" if trial.configuration == 0 else ""
    return f"best {trial.metric} {trial.value:.4g}{own}: {settings}"


def write_tuned(study: Study, trials: Sequence[Trial], command: str, folder: Path | None = None) -> Path:
    """Make the study's choice the family's settings on the source.

    Args:
        study: that they come from.
        trials: of `tune`.
        command: what a reader types to get the same.
        folder: of configurations; default: genfam's.

    Returns:
        `conf/tuned/<source>/<family>.yaml`: the keys of the space, and no other.
    """
    last = len(RUNGS) - 1
    chosen = _leading(trials, last)
    path = (folder or configuration_folder()) / "tuned" / study.source / f"{study.family}.yaml"
    spent = sum(trial.train_flops for trial in trials)
    header = (
        "# @package family\n"
        f"# Written by genfam-tune: {chosen.metric} {chosen.value:.4g} on the validation split, configuration "
        f"{chosen.configuration} of {RUNGS[0][0]}, {spent:.3g} FLOPs of trials.\n"
        f"# Command: {strip_paths(command)}\n"
    )
    write_atomically(path, header + yaml.safe_dump(nested(chosen.overrides), sort_keys=False))
    return path


def publish(study: Study) -> Path:
    """Copy the trials to `results/tune`; returns the file."""
    target = study_file(study.results_dir, study.source, study.family)
    write_atomically(target, study.file.read_text())
    return target


def _write(path: Path, trials: Sequence[Trial]) -> None:
    """These trials, beside those of other studies that the file has."""
    kept = [trial for trial in load_trials(path) if trial.study != trials[0].study] if path.exists() else []
    lines = [json.dumps(asdict(trial), allow_nan=False) + "\n" for trial in [*kept, *trials]]
    write_atomically(path, "".join(lines))


def _text(value: Any) -> str:
    """As Hydra reads it."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_text(one)}" for key, one in value.items()) + "}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
