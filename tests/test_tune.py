"""Equal tuning: spaces that fit, halving by known answers, equal FLOPs, and files that are exactly what was chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from genfam.build import ConfigurationError, configuration_folder
from genfam.commands import scripts, tune
from genfam.commands.cli import RunFailed
from genfam.records.run import Run
from genfam.records.store import Store
from genfam.records.tuning import better_of, is_tuned, load_trials, nested, study_file
from genfam.running.experiment import begun
from genfam.types import Estimate, Kind, Measurement, Outcome, Record
from helpers import composed, plain_families

CONF = configuration_folder()
RESULTS = Path(__file__).resolve().parents[1] / "results"
TUNED = sorted((CONF / "tuned").glob("*/*.yaml"))


@pytest.mark.parametrize("family", tune.families_with_a_space())
@pytest.mark.parametrize("source", ["grid", "digits", pytest.param("mnist", marks=pytest.mark.slow)])
def test_every_space_is_small_has_reasons_and_names_keys_that_the_family_has(family: str, source: str) -> None:
    text = (CONF / "tune" / f"{family}.yaml").read_text()
    space = tune.load_space(family)
    assert 1 <= len(space) <= tune.MOST_DIMENSIONS
    for key in space:
        (line,) = [line for line in text.splitlines() if line.startswith(key)]
        assert " # " in line, f"{key}: no reason is given"
    own = tune.own_values(tune.Study(family, source), space)
    assert own.keys() == space.keys()
    for values in tune.configurations(space, own, 4, 0):
        overrides = [f"++family.{key}={tune._text(value)}" for key, value in values.items()]
        config = composed("tuned=nothing", f"source={source}", f"family={family}", *overrides)
        assert Run.of(config).identity, "every part is looked up and its arguments are checked"
        assert is_nested_in(nested(values), config["family"])


def is_nested_in(wanted: Any, node: Any) -> bool:
    if isinstance(wanted, dict):
        return all(is_nested_in(value, node[key]) for key, value in wanted.items())
    return bool(wanted == node)


def test_every_contestant_has_a_space() -> None:
    families = {path.stem: yaml.safe_load(path.read_text()) for path in (CONF / "family").glob("*.yaml")}
    assert tune.families_with_a_space() == [name for name in plain_families() if "role" not in families[name]]


@pytest.mark.parametrize(
    "given",
    [{"low": 1}, {"choices": 3}, {"choices": [1]}, {"factors": [1, 0]}, [1, 2], {"low": 1, "high": 2, "lgo": True}, 5,
     {"low": 2, "high": 1}, {"low": 0.0, "high": 1.0, "log": True}, {"low": "a", "high": "b"}],
)  # fmt: skip
def test_ranges_that_are_none_are_named(tmp_path: Path, given: Any) -> None:
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune/gan.yaml").write_text(yaml.safe_dump({"latent": given}))
    with pytest.raises(ConfigurationError, match=r"search space, latent: expected \{low, high\}"):
        tune.load_space("gan", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"search space of family vae; there are \['gan'\]"):
        tune.load_space("vae", tmp_path)
    (tmp_path / "tune/gan.yaml").write_text("".join(f"k{i}: {{choices: [1, 2]}}\n" for i in range(5)))
    with pytest.raises(ConfigurationError, match="at most 4 dimensions, got 5"):
        tune.load_space("gan", tmp_path)


def test_a_key_that_the_family_lacks_on_a_source_is_named_before_any_run() -> None:
    with pytest.raises(ConfigurationError, match=r"conf/tune/gan.yaml: latent.corners: expected a key"):
        tune.own_values(tune.Study("gan", "ring"), {"latent.corners": {}})
    with pytest.raises(ConfigurationError, match="loss: expected a number to take factors of, got relativistic"):
        tune.own_values(tune.Study("gan", "ring"), {"loss": {"factors": [1, 2]}})


def test_no_configuration_is_spent_on_a_batch_that_the_source_cannot_fill() -> None:
    space = {"batch_size": {"factors": [0.25, 1, 2, 4]}, "steps": {"choices": [1, 2]}}
    digits = tune.Study("diffusion", "digits")  # 1167 events to train on
    left = tune.without_oversized_batches(digits, space, {"batch_size": 512})
    assert left == space | {"batch_size": {"factors": [0.25, 1, 2]}}
    assert tune.without_oversized_batches(digits, {"steps": space["steps"]}, {}) == {"steps": space["steps"]}
    with pytest.raises(ConfigurationError, match=r"up to the 1167 training events of digits, got factors \[0.25, 1"):
        tune.without_oversized_batches(digits, space, {"batch_size": 2048})


def test_a_latin_hypercube_takes_every_choice_and_every_part_of_a_range_equally_often() -> None:
    space = {
        "rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "depth": {"low": 2, "high": 5},
        "batch": {"choices": [8, 64, 512, None]},
        "share": {"low": 0.0, "high": 0.8},
        "events": {"factors": [0.25, 0.5, 1, 4]},
    }
    own = {"events": 10}
    found = tune.configurations(space, {**dict.fromkeys(space), **own}, 16, 3)
    for key, values in (("depth", [2, 3, 4, 5]), ("batch", [8, 64, 512, None]), ("events", [2, 5, 10, 40])):
        assert [sum(one[key] == value for one in found) for value in values] == [4] * 4
    logs = np.sort([math.log10(one["rate"]) for one in found])
    edges = np.linspace(-4, -1, 17)
    assert ((logs >= edges[:-1] - 0.003) & (logs <= edges[1:] + 0.003)).all(), "one in each sixteenth, as rounded"
    assert sorted(int(one["share"] / 0.05) for one in found) == list(range(16))
    own |= dict.fromkeys(space.keys() - own.keys())
    assert found == tune.configurations(space, own, 16, 3) != tune.configurations(space, own, 16, 4)


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
        shared = OmegaConf.create(composed(*own))

        def settings(job: Sequence[str]) -> dict[str, Any]:  # as composed with these, which takes a second for each
            whole = shared.copy()
            for key, _, value in (override.lstrip("+").partition("=") for override in job):
                OmegaConf.update(whole, key, yaml.safe_load(value))
            found: Any = OmegaConf.to_container(whole)
            return found

        return [SimpleNamespace(return_value=parabola(settings(job))) for job in jobs]

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
    options: dict[str, Any] = {"overrides": ("judge=coverage",)} | places | changes
    return tune.Study("gan", "ring", **options)


def test_halving_keeps_the_best_quarter_and_spends_the_same_on_every_rung(
    asked: list[Any], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = study(tmp_path)
    trials = tune.tune(one, folder)
    assert [len(jobs) for _, jobs in asked] == [16, 4, 2]
    rungs = [[trial for trial in trials if trial.rung == rung] for rung in range(3)]
    assert [trial.configuration for trial in rungs[0]] == list(range(16))
    scales = []
    for rung, (common, _) in enumerate(asked):
        config = composed(*common)
        assert (config["suite"], config["split"], config["seed"]) == ("tune", "validation", 1000 + rung)
        scales.append(config["budget"]["scale"])
        assert config["budget"]["train_flops"] == pytest.approx(scales[-1] * config["reference"]["train_flops"])
    assert scales == pytest.approx([1 / 16, 1 / 4, 1.0])
    assert sum(scale * len(jobs) for scale, (_, jobs) in zip(scales, asked, strict=True)) == pytest.approx(4.0)
    assert trials[0].overrides == {"optimisation.learning_rate": 1e-3, "latent.normals": 16}, "the recipe's own"
    assert all(trial.overrides.keys() == trials[0].overrides.keys() for trial in trials)

    def distance(trial: Any) -> float:  # from the rate that is best by construction
        return abs(math.log10(trial.overrides["optimisation.learning_rate"]) + 3)

    for rung in (1, 2):
        best = sorted(rungs[rung - 1], key=lambda trial: (distance(trial), trial.configuration))[: len(rungs[rung])]
        assert {t.configuration for t in rungs[rung]} == {t.configuration for t in best}
        assert {t.seed for t in rungs[rung]} == {1000 + rung}
    assert {trial.metric for trial in trials} == {"coverage"}, "the source's judge, not the Fréchet distance"
    assert all("ref=validation" in trial.fingerprint for trial in trials)
    assert load_trials(one.file) == trials
    assert "gan on ring: rung 3 of 3, best coverage 1 (the recipe's own)" in capsys.readouterr().out

    asked.clear()
    assert tune.tune(one, folder) == trials, "the same command asks for the same runs"
    other = tune.tune(study(tmp_path, seed=1), folder)
    assert other[1].overrides != trials[1].overrides
    assert {trial.seed for trial in other} == {1003, 1004, 1005}
    assert len(load_trials(one.file)) == 44, "trials of another study are kept"
    assert not (tmp_path / "r").exists()
    assert load_trials(tune.publish(one)) == load_trials(one.file)


def test_runs_that_diverge_or_fail_are_kept_and_never_go_on(
    asked: list[Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tune.run_batch

    class Failed:
        @property
        def return_value(self) -> Any:
            raise RunFailed("seed=1000: out of memory")

    def troubled(common: Sequence[str], jobs: Sequence[Sequence[str]]) -> list[Any]:
        answers = plain(common, jobs)
        if len(jobs) == 16:  # the recipe's own values, which are the best, among them
            answers[0].return_value = replace(
                answers[0].return_value, outcome=Outcome.DIVERGED, metrics=[], reason="at 3"
            )
            answers[2] = Failed()
        return answers

    monkeypatch.setattr(tune, "run_batch", troubled)
    trials = tune.tune(study(tmp_path), folder)
    assert [trial.outcome for trial in trials[:4]] == ["diverged", "ok", "failed", "ok"]
    assert [trial.value is None for trial in trials[:4]] == [True, False, True, False]
    assert trials[2].reason == "seed=1000: out of memory"
    assert not {0, 2} & {trial.configuration for trial in trials[16:]}
    assert load_trials(study(tmp_path).file) == trials

    monkeypatch.setattr(tune, "run_batch", lambda common, jobs: [Failed() for _ in jobs])
    with pytest.raises(ValueError, match="a run of rung 1 that ended well, got 16 that did not: seed=1000: out of m"):
        tune.tune(study(tmp_path), folder)


def test_what_is_written_is_what_was_chosen_and_nothing_else(folder: Path, asked: list[Any], tmp_path: Path) -> None:
    tuned = folder / "tuned/ring/gan.yaml"
    tuned.parent.mkdir(parents=True)
    tuned.write_text("# @package family\nbatch_size: 5\npacking: 2\n")
    trials = tune.tune(study(tmp_path), folder)
    path = tune.write_tuned(study(tmp_path), trials, "genfam-tune source=ring data_dir=/srv/data/x", folder)
    assert path == tuned
    text = tuned.read_text()
    assert text.startswith("# @package family\n# Written by genfam-tune: coverage 1 on the validation split")
    assert "Command: genfam-tune source=ring data_dir=<path>/x" in text
    assert yaml.safe_load(text) == {"optimisation": {"learning_rate": 0.001}, "latent": {"normals": 16}}
    settings = {"optimisation": {"learning_rate": 0.001, "ema": 0.5}, "latent": {"normals": 16}, "packing": 1}
    assert is_tuned("ring", "gan", settings, folder)
    assert not is_tuned("ring", "gan", settings | {"latent": {"normals": 2}}, folder)
    assert not is_tuned("grid", "gan", settings, folder)


@pytest.mark.parametrize("path", TUNED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_tuned_file_is_exactly_what_its_published_trials_chose(path: Path) -> None:
    source, family = path.parent.name, path.stem
    file = study_file(RESULTS, source, family)
    assert file.is_file(), f"{path}: no trials are published"
    trials = load_trials(file)
    assert {trial.study for trial in trials} == {trials[0].study}, "one study made it"
    rungs = [[trial for trial in trials if trial.rung == rung] for rung in range(len(tune.RUNGS))]
    assert [len(rung) for rung in rungs] == [size for size, _ in tune.RUNGS]
    for before, after in pairwise(rungs):
        assert {t.configuration for t in after} == {t.configuration for t in better_of(before, len(after))}
    assert trials[0].overrides.keys() == tune.load_space(family).keys(), "another space than today's was searched"
    assert yaml.safe_load(path.read_text()) == nested(better_of(rungs[-1], 1)[0].overrides)


def test_every_family_had_the_same_flops_of_trials_on_a_source() -> None:
    listed = yaml.safe_load((CONF / "compared" / "families.yaml").read_text())["family"].split(",")
    compared = [family for family in listed if (CONF / "tune" / f"{family}.yaml").exists()]
    spent: dict[str, dict[str, float]] = {}
    for path in TUNED:
        trials = load_trials(study_file(RESULTS, path.parent.name, path.stem))
        spent.setdefault(path.parent.name, {})[path.stem] = math.fsum(trial.train_flops for trial in trials)
    for source, by_family in spent.items():
        assert by_family.keys() >= set(compared), f"{source}: not every compared family was tuned"
        # a rung spends whole updates: of large batches up to one in fifteen is left over
        assert max(by_family.values()) <= 1.07 * min(by_family.values()), f"{source}: {by_family}"


def test_a_run_that_ended_well_without_its_judge_is_an_error(tmp_path: Path) -> None:
    record = parabola(composed("family=gan", "source=ring", "judge=coverage"))
    with pytest.raises(ValueError, match=r"a number for coverage to judge the trial by, got \['fd_identity'\]"):
        tune.judged(study(tmp_path), 0, 0, 1000, {}, replace(record, metrics=record.metrics[1:]))
    assert tune.judged(study(tmp_path), 0, 0, 1000, {}, replace(record, judge=None)).metric == "fd_identity"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"scale": 0.0}, "scale: expected a positive share"), ({"overrides": ("budget.scale=2",)}, "scale=… or seed=…"),
     ({"overrides": ("+seed=2",)}, "a budget and a seed of its own")],
)  # fmt: skip
def test_studies_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        study(tmp_path, **changes)


@pytest.mark.slow
def test_real_trials_are_runs_of_the_store_and_are_not_repeated(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["family=vae", "source=die", "scale=0.05", f"output_dir={tmp_path}/o", f"results_dir={tmp_path}/r",
               "budget.parameters=4000", "curve.points=2", "curve.samples=50", "trace.points=2",
               "trace.samples=20", "evaluation.samples=100", "publish=true"]  # fmt: skip
    assert scripts.tune(command) == 0, capfd.readouterr().err
    shown = capfd.readouterr().out
    assert "vae on die: rung 3 of 3, best " in shown
    records = Store(tmp_path / "o/tune").load()
    trials = load_trials(study_file(tmp_path / "r", "die", "vae"))
    ran = {trial.run_id for trial in trials} - {""}  # a configuration that cannot be built runs nothing
    assert len(trials) == 22 and ran == {record.run_id for record in records} and len(ran) == 22
    assert {record.config["split"] for record in records} == {"validation"}
    assert {trial.digest for trial in trials if trial.run_id} == {record.digest for record in records}
    assert [json.loads(line)["rung"] for line in study_file(tmp_path / "o", "die", "vae").read_text().splitlines()]
    assert scripts.tune(command) == 0
    assert "2 runs, 2 of them finished before: skipped" in capfd.readouterr().out
    assert load_trials(study_file(tmp_path / "r", "die", "vae")) == trials
