"""Equal tuning: spaces that fit, trials that are kept and not repeated, and what is written on request only."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from genfam.build import configuration_folder
from genfam.commands import scripts, tune
from genfam.commands.cli import RunFailed
from genfam.records.run import Run
from genfam.records.store import Store
from genfam.running.experiment import begun
from genfam.types import Estimate, Kind, Measurement, Outcome, Record
from helpers import composed

CONF = configuration_folder()
SPACES = sorted(path.relative_to(CONF / "tune") for path in (CONF / "tune").rglob("*.yaml"))


@pytest.mark.parametrize("path", SPACES, ids=str)
def test_every_space_names_only_keys_of_the_family_and_values_that_compose(path: Path) -> None:
    family, source = path.stem, path.parent.name or "die"
    space = tune.load_space(family, source)
    given = yaml.safe_load((CONF / "tune" / path).read_text())
    config = composed(f"family={family}", f"source={source}")["family"]
    for key in given:
        node: Any = config
        for part in key.split("."):
            assert part in node, f"{path}: {key} is no key of family {family}"
            node = node[part]
    assert set(space) <= {key for key in given} | set(tune.load_space(family, "die"))
    ends = [{k: v["choices"][end] if "choices" in v else v[("low", "high")[end]] for k, v in space.items()}
            for end in (0, 1)]  # fmt: skip
    for values in ends:
        overrides = [f"family.{key}={tune._text(value)}" for key, value in values.items()]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            found = compose("config", [f"family={family}", f"source={source}", *overrides])
        for key, value in values.items():
            assert OmegaConf.select(found.family, key) == value


def test_every_contestant_has_a_space() -> None:
    families = {path.stem: yaml.safe_load(path.read_text()) for path in (CONF / "family").glob("*.yaml")}
    assert tune.families_with_a_space() == sorted(name for name, node in families.items() if "role" not in node)


@pytest.mark.parametrize("given", [{"low": 1}, {"choices": 3}, [1, 2], {"low": 1, "high": 2, "lgo": True}, 5])
def test_ranges_that_are_none_are_named(tmp_path: Path, given: Any) -> None:
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune/gan.yaml").write_text(yaml.safe_dump({"latent": given}))
    with pytest.raises(ValueError, match=r"trial space, latent: expected \{low, high\}"):
        tune.load_space("gan", "ring", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"trial space of family vae; there are \['gan'\]"):
        tune.load_space("vae", "ring", tmp_path)


def test_a_sources_space_lies_over_the_familys(tmp_path: Path) -> None:
    (tmp_path / "tune/ring").mkdir(parents=True)
    (tmp_path / "tune/gan.yaml").write_text("latent: {choices: [2]}\ndepth: {low: 1, high: 2}\n")
    (tmp_path / "tune/ring/gan.yaml").write_text("latent: null\nevent_scale: {low: 1.0, high: 8.0}\n")
    assert set(tune.load_space("gan", "ring", tmp_path)) == {"depth", "event_scale"}
    assert set(tune.load_space("gan", "die", tmp_path)) == {"depth", "latent"}


def parabola(settings: dict[str, Any], value: float | None = None) -> Record:
    """A run whose quality is best at a learning rate of 10⁻³."""
    rate = settings["family"]["optimisation"]["learning_rate"]
    value = 1.0 - abs(math.log10(rate) + 3) if value is None else value
    protocol = {"source": "ring", "n": "10", "ref": "validation:10000"}
    coverage = Measurement("coverage", "1", True, Estimate(value, 0.01, 10), protocol, Kind.COVERAGE)
    distance = Measurement("fd_identity", "1", False, Estimate(-value, 0.01, 10), protocol, Kind.HEADLINE)
    record = begun(Run.of(settings), Outcome.OK)
    return replace(record, metrics=[coverage, distance], train_flops=5.0, code_version="v")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[list[str]]]]:
    """In place of real runs; what was asked for is in the list."""
    batches: list[tuple[list[str], list[list[str]]]] = []

    def run_batch(common: Sequence[str], jobs: Sequence[Sequence[str]]) -> list[Any]:
        batches.append((list(common), [list(job) for job in jobs]))
        own = [override for override in common if not override.startswith("hydra.")]
        answers: list[Any] = []
        for job in jobs:
            record = parabola(composed(*own, *job))
            answers.append(SimpleNamespace(return_value=record))
        return answers

    monkeypatch.setattr(tune, "run_batch", run_batch)
    return batches


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    conf = tmp_path / "conf"
    (conf / "tune").mkdir(parents=True)
    (conf / "tune/gan.yaml").write_text(
        "optimisation.learning_rate: {low: 1.0e-5, high: 0.1, log: true}\nlatent.normals: {choices: [2, 3]}\n"
    )
    return conf


def study(tmp_path: Path, **changes: Any) -> tune.Study:
    places = {"output_dir": tmp_path / "o", "results_dir": tmp_path / "r"}
    options: dict[str, Any] = {"trials": 10, "overrides": ("judge=coverage",)} | places | changes
    return tune.Study("gan", "ring", **options)


@pytest.mark.parametrize("sampler", tune.SAMPLERS)
def test_a_study_keeps_every_trial_and_finds_what_is_better(
    sampler: str, asked: list[Any], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = study(tmp_path, sampler=sampler)
    trials = tune.tune(one, folder)
    assert [trial.number for trial in trials] == list(range(10))
    assert [len(jobs) for _, jobs in asked] == [4, 4, 2]
    assert asked[0][1][0] == [], "trial 0 has the present defaults"
    assert all({o.partition("=")[0] for o in job} == {"family.optimisation.learning_rate", "family.latent.normals"}
               for number, (_, jobs) in enumerate(asked) for job in jobs[number == 0 :])  # fmt: skip
    for common, _ in asked:
        assert {"+suite=tune", "family=gan", "source=ring", "seed=1000"} <= set(common)
        config = composed(*common)
        assert (config["suite"], config["split"], config["budget"]["scale"]) == ("tune", "validation", 0.35)
    assert {trial.metric for trial in trials} == {"coverage"}, "the source's judge, not the Fréchet distance"
    assert all("ref=validation" in trial.fingerprint for trial in trials)
    assert tune.load_trials(one.file) == trials
    lines = [json.loads(line) for line in one.file.read_text().splitlines()]
    assert lines[3]["overrides"].keys() == {"optimisation.learning_rate", "latent.normals"}
    assert tune.best(trials).value == max(trial.value for trial in trials)
    assert "gan on ring: 10/10 trials, best coverage" in capsys.readouterr().out

    before = [jobs for _, jobs in asked]
    asked.clear()
    longer = tune.tune(study(tmp_path, sampler=sampler, trials=12), folder)
    assert longer[:10] == trials, "the same command goes on with the same trials"
    assert [jobs for _, jobs in asked][:2] == before[:2]
    assert len(tune.load_trials(one.file)) == 12

    other = tune.tune(study(tmp_path, sampler=sampler, seed=1, trials=3), folder)
    assert [trial.overrides for trial in other[1:]] != [trial.overrides for trial in trials[1:3]]
    assert len(tune.load_trials(one.file)) == 15, "trials of another study are kept"
    assert not (tmp_path / "r").exists()
    assert tune.load_trials(tune.publish(one)) == tune.load_trials(one.file)


def test_runs_that_diverge_or_fail_are_kept_and_never_chosen(
    asked: list[Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tune.run_batch

    class Failed:
        @property
        def return_value(self) -> Any:
            raise RunFailed("seed=1000: out of memory")

    def troubled(common: Sequence[str], jobs: Sequence[Sequence[str]]) -> list[Any]:
        answers = plain(common, jobs)
        answers[1].return_value = replace(answers[1].return_value, outcome=Outcome.DIVERGED, metrics=[], reason="at 3")
        answers[2] = Failed()
        return answers

    monkeypatch.setattr(tune, "run_batch", troubled)
    trials = tune.tune(study(tmp_path, trials=4), folder)
    assert [trial.outcome for trial in trials] == ["ok", "diverged", "failed", "ok"]
    assert [trial.value is None for trial in trials] == [False, True, True, False]
    assert trials[2].reason == "seed=1000: out of memory"
    assert tune.best(trials).number in (0, 3)
    assert tune.load_trials(study(tmp_path).file) == trials


def test_the_best_is_written_with_where_it_comes_from_and_the_rest_is_kept(folder: Path, tmp_path: Path) -> None:
    tuned = folder / "tuned/ring/gan.yaml"
    tuned.parent.mkdir(parents=True)
    tuned.write_text("# @package family\nbatch_size: 5\npacking: 2\noptimisation: {ema: 0.5}\n")
    base = parabola(composed("family=gan", "source=ring", "judge=coverage"), 0.5)
    values = [(0.5, {}), (0.9, {"batch_size": 2, "optimisation.learning_rate": 0.002}), (0.7, {"batch_size": 3})]
    trials = [
        tune.judged(study(tmp_path), number, own, parabola(base.config, value))
        for number, (value, own) in enumerate(values)
    ]
    path = tune.write_tuned(study(tmp_path), trials, "genfam-tune source=ring data_dir=/srv/data/x", folder)
    assert path == tuned
    text = tuned.read_text()
    assert text.startswith("# @package family\n")
    assert "Trial 1 of 3 by genfam-tune: coverage 0.9 on the validation split (defaults before: 0.5)" in text
    assert "Command: genfam-tune source=ring data_dir=<path>/x" in text
    assert yaml.safe_load(text) == {
        "batch_size": 2, "packing": 2, "optimisation": {"ema": 0.5, "learning_rate": 0.002},
    }  # fmt: skip
    assert tune.write_tuned(study(tmp_path), [replace(trials[0], value=0.95), *trials[1:]], "c", folder) is None
    assert tuned.read_text() == text


def test_a_run_that_ended_well_without_its_judge_is_an_error(tmp_path: Path) -> None:
    record = parabola(composed("family=gan", "source=ring", "judge=coverage"))
    with pytest.raises(ValueError, match=r"a number for coverage to judge the trial by, got \['fd_identity'\]"):
        tune.judged(study(tmp_path), 0, {}, replace(record, metrics=record.metrics[1:]))
    assert tune.judged(study(tmp_path), 0, {}, replace(record, judge=None)).metric == "fd_identity"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"sampler": "grid"}, "sampler: expected one of"), ({"trials": 1}, "trials: expected at least")],
)
def test_studies_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        study(tmp_path, **changes)


def test_real_trials_are_runs_of_the_store_and_are_not_repeated(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["family=vae", "source=die", "trials=2", f"output_dir={tmp_path}/o", f"results_dir={tmp_path}/r",
               "budget.scale=0.001", "budget.parameters=1000", "curve.points=2", "curve.samples=50", "trace.points=2",
               "trace.samples=20", "evaluation.samples=100", "metric=[frechet]", "publish=true"]  # fmt: skip
    assert scripts.tune(command) == 0, capfd.readouterr().err
    shown = capfd.readouterr().out
    assert "vae on die: 2/2 trials, best fd_identity" in shown
    records = Store(tmp_path / "o/tune").load()
    trials = tune.load_trials(tmp_path / "r/tune/die-vae.jsonl")
    assert {trial.run_id for trial in trials} == {record.run_id for record in records}
    assert len(records) == 2
    assert {record.config["split"] for record in records} == {"validation"}
    values = {record.run_id: m.estimate.value for record in records for m in record.metrics if m.estimate}
    assert {trial.run_id: trial.value for trial in trials} == values
    assert scripts.tune(command) == 0
    assert "2 runs, 2 of them finished before: skipped" in capfd.readouterr().out
    assert tune.load_trials(tmp_path / "r/tune/die-vae.jsonl") == trials
