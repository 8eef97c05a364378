"""Equal tuning: the same number of trials for every family, judged on a validation split, all of them kept.

A trial is a normal run (`conf/suite/tune.yaml`: `split=validation`) at a reduced budget; trial 0 has the present
defaults. Trials are asked for in batches of fixed size and told in order, so a study depends neither on the number of
workers nor on where it was interrupted: the same command replays it from the store and goes on.

References:
    J. Bergstra et al. (2011). Algorithms for Hyper-Parameter Optimization (TPE). NeurIPS 24.
    T. Akiba et al. (2019). Optuna. https://arxiv.org/abs/1907.10902
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from genfam.build import configuration_folder
from genfam.commands.cli import RunFailed
from genfam.files import write_atomically
from genfam.progress import duration
from genfam.records.paths import strip_paths
from genfam.types import Kind, Measurement, Outcome, Record
from hydra_plugins.genfam_launcher._batch import run_batch

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

SAMPLERS = ("tpe", "random")
BATCH = 4  # trials asked for before any of them is told
STARTUP = 8  # random trials before TPE believes its model
FIRST_SEED = 1000  # of the runs: no suite has it, so tuning sees other draws than the published runs
DIGITS = 3  # significant ones of a tuned number


@dataclass(frozen=True)
class Trial:
    """One line of `<source>-<family>.jsonl`.

    Attributes:
        study: what made it, but for the number of trials.
        number: in the study; 0 has no overrides.
        overrides: key of the family -> value.
        metric: that judged it on the validation split; empty where the run gave none.
        value, stderr: of the metric; None where the run did not end well.
        higher_is_better: of the metric.
        fingerprint: the metric's protocol.
    """

    study: str
    number: int
    run_id: str
    overrides: dict[str, Any]
    outcome: str
    reason: str
    metric: str
    value: float | None
    stderr: float | None
    higher_is_better: bool | None
    fingerprint: str
    train_flops: float
    train_seconds: float
    code_version: str

    @property
    def loss(self) -> float:
        """Lower is better; ∞ without a value, for a family must not be tuned towards runs that diverge."""
        if self.value is None:
            return math.inf
        return -self.value if self.higher_is_better else self.value


@dataclass(frozen=True)
class Study:
    """What to tune, and how.

    Attributes:
        overrides: of every run, as on the command line of `genfam`.
    """

    family: str
    source: str
    trials: int = 16
    sampler: str = "tpe"
    seed: int = 0
    overrides: tuple[str, ...] = ()
    workers: int | None = None
    output_dir: Path = Path("outputs")
    results_dir: Path = Path("results")

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler: expected one of {list(SAMPLERS)}, got {self.sampler!r}")
        if self.trials < 2:
            raise ValueError(f"trials: expected at least 2 (the first has the present defaults), got {self.trials}")

    @property
    def name(self) -> str:
        """For people and `Trial.study`."""
        said = [f"family={self.family}", f"source={self.source}", f"sampler={self.sampler}", f"seed={self.seed}"]
        return strip_paths(" ".join([*said, *self.overrides]))

    @property
    def common(self) -> list[str]:
        """Overrides of every run of the study."""
        chosen = ["+suite=tune", f"family={self.family}", f"source={self.source}", f"seed={FIRST_SEED + self.seed}"]
        places = [f"output_dir={self.output_dir}", f"results_dir={self.results_dir}"]
        workers = [] if self.workers is None else [f"hydra.launcher.workers={self.workers}"]
        return [*chosen, *self.overrides, *places, *workers]

    @property
    def file(self) -> Path:
        """Where its trials stand in the store."""
        return self.output_dir / "tune" / f"{self.source}-{self.family}.jsonl"


def families_with_a_space(folder: Path | None = None) -> list[str]:
    """Those with a file in `conf/tune`."""
    return sorted(path.stem for path in ((folder or configuration_folder()) / "tune").glob("*.yaml"))


def load_space(family: str, source: str, folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Key of the family -> its range: `conf/tune/<family>.yaml`, then `conf/tune/<source>/<family>.yaml` over it.

    Raises:
        FileNotFoundError: the family has no space.
        ValueError: a range that is none.
    """
    place = (folder or configuration_folder()) / "tune"
    general = place / f"{family}.yaml"
    if not general.exists():
        raise FileNotFoundError(
            f"{general}: expected the trial space of family {family}; there are {families_with_a_space(folder)}"
        )
    space: dict[str, Any] = {}
    for path in (general, place / source / f"{family}.yaml"):
        space |= (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}
    space = {key: value for key, value in space.items() if value is not None}
    for key, value in space.items():
        _distribution(key, value)
    return space


def _distribution(key: str, given: Any) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(given, Mapping) and set(given) == {"choices"} and isinstance(given["choices"], list):
        return CategoricalDistribution(given["choices"])
    if isinstance(given, Mapping) and {"low", "high"} <= set(given) <= {"low", "high", "log"}:
        low, high, log = given["low"], given["high"], bool(given.get("log", False))
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        if isinstance(low, int | float) and isinstance(high, int | float):
            return FloatDistribution(low, high, log=log)
    raise ValueError(
        f"trial space, {key}: expected {{low, high}}, {{low, high, log}} or {{choices: [...]}}, got {given}"
    )


def tune(study: Study, folder: Path | None = None) -> list[Trial]:
    """Run the study's trials, write them to `study.file`, and say how it goes.

    Args:
        study: what to tune.
        folder: of configurations with `tune/`; default: genfam's.

    Returns:
        The trials, in order. Those that the store has are not run again.

    Raises:
        ImportError: no Optuna.
        ValueError: a run that ended well without the metric that should judge it.
        KeyboardInterrupt: after Ctrl-C; the same command goes on.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError("genfam-tune needs Optuna: pip install 'genfam[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {key: _distribution(key, value) for key, value in load_space(study.family, study.source, folder).items()}
    sampler: optuna.samplers.BaseSampler = (
        optuna.samplers.TPESampler(seed=study.seed, n_startup_trials=STARTUP)
        if study.sampler == "tpe"
        else optuna.samplers.RandomSampler(seed=study.seed)
    )
    asked = optuna.create_study(sampler=sampler)
    found: list[Trial] = []
    started, spent = time.monotonic(), 0
    while len(found) < study.trials:
        size = min(BATCH, study.trials - len(found))
        # Trial 0 is the defaults; it has no place in the space, so Optuna is not told of it.
        first: list[optuna.Trial | None] = [] if found else [None]
        proposals = first + [asked.ask(space) for _ in range(size - len(first))]
        overrides: list[dict[str, Any]] = [
            {} if trial is None else {key: _rounded(value) for key, value in trial.params.items()}
            for trial in proposals
        ]
        returns = run_batch(study.common, [[f"family.{k}={_text(v)}" for k, v in own.items()] for own in overrides])
        for number, (proposal, own, answer) in enumerate(zip(proposals, overrides, returns, strict=True), len(found)):
            try:
                record = answer.return_value
                trial = judged(study, number, own, record)
            except RunFailed as error:
                trial = Trial(study.name, number, "", own, Outcome.FAILED.value, str(error), "", None, None, None, "",
                              0.0, 0.0, "")  # fmt: skip
            found.append(trial)
            if proposal is not None:
                asked.tell(proposal, trial.loss)
        spent += size
        _write(study.file, found)
        left = (time.monotonic() - started) / spent * (study.trials - spent)
        print(f"{study.family} on {study.source}: {len(found)}/{study.trials} trials, {describe(best(found))}"
              + (f", {duration(left)} left" if spent < study.trials else ""), flush=True)  # fmt: skip
    return found


def judged(study: Study, number: int, overrides: dict[str, Any], record: Record) -> Trial:
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
        number=number,
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
    )


def objective(record: Record) -> Measurement | None:
    """The measurement that judges a run: its `judge`, else the headline metric."""
    found = [m for m in record.metrics if (m.name == record.judge if record.judge else m.kind is Kind.HEADLINE)]
    return min(found, key=lambda m: m.name, default=None)


def best(trials: Sequence[Trial]) -> Trial:
    """The first of lowest loss: the defaults where nothing is better."""
    return min(trials, key=lambda trial: trial.loss)


def describe(trial: Trial) -> str:
    """One line about the best trial."""
    if trial.value is None:
        return "none has a value yet"
    settings = ", ".join(f"{key}={_text(value)}" for key, value in trial.overrides.items()) or "the present defaults"
    return f"best {trial.metric} {trial.value:.4g} in trial {trial.number} ({settings})"


def write_tuned(study: Study, trials: Sequence[Trial], command: str, folder: Path | None = None) -> Path | None:
    """Make the best trial the source's default for the family; None where the present one is the best.

    Args:
        study: that they come from.
        trials: of `tune`.
        command: what a reader types to get the same.
        folder: of configurations; default: genfam's.

    Returns:
        `conf/tuned/<source>/<family>.yaml`. Keys that were not varied are kept, comments are not.
    """
    chosen = best(trials)
    if not chosen.overrides or chosen.value is None:
        return None
    path = (folder or configuration_folder()) / "tuned" / study.source / f"{study.family}.yaml"
    settings: dict[str, Any] = (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}
    for key, value in chosen.overrides.items():
        node = settings
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    default = trials[0].value
    header = (
        "# @package family\n"
        f"# Trial {chosen.number} of {len(trials)} by genfam-tune: {chosen.metric} {chosen.value:.4g} on the "
        f"validation split (defaults before: {'none' if default is None else f'{default:.4g}'}),\n"
        f"# {chosen.train_flops:.2g} FLOPs a trial, code {chosen.code_version}.\n"
        f"# Command: {strip_paths(command)}\n"
    )
    write_atomically(path, header + yaml.safe_dump(settings, sort_keys=False))
    return path


def publish(study: Study) -> Path:
    """Copy the trials to `results/tune`; returns the file."""
    target = study.results_dir / "tune" / study.file.name
    write_atomically(target, study.file.read_text())
    return target


def load_trials(path: Path) -> list[Trial]:
    """The trials of a file that `tune` wrote."""
    return [Trial(**json.loads(line)) for line in path.read_text().splitlines() if line.strip()]


def _write(path: Path, trials: Sequence[Trial]) -> None:
    """These trials, beside those of other studies that the file has."""
    kept = [trial for trial in load_trials(path) if trial.study != trials[0].study] if path.exists() else []
    lines = [json.dumps(asdict(trial), allow_nan=False) + "\n" for trial in [*kept, *trials]]
    write_atomically(path, "".join(lines))


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _text(value: Any) -> str:
    """As Hydra reads it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
