"""The command line: what is composed, what is said where it is wrong, and the commands beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from genfam import report
from genfam.build import configuration_folder
from genfam.commands import check, choose, cli, judge, scripts, stored
from genfam.records.run import Run
from genfam.records.store import Store
from genfam.running import experiment, saved
from genfam.types import Event, Outcome, Record
from helpers import composed, plain_families
from stores import make

CONF = configuration_folder()
FAMILIES = plain_families()
SOURCES = sorted(path.stem for path in (CONF / "source").glob("*.yaml"))
TUNED = sorted((path.parent.name, path.stem) for path in (CONF / "tuned").glob("*/*.yaml"))
COMPARED = {
    path.stem: set(yaml.safe_load(path.read_text())["family"].split(",")) for path in (CONF / "compared").glob("*.yaml")
}
# `tune` is what trials have in common; genfam-tune chooses the runs (tests/test_tune.py)
SUITES = sorted({path.stem for path in (CONF / "suite").glob("*.yaml")} - {"tune"})
CELLS = sorted({(SOURCES[0], family) for family in FAMILIES} | {(source, FAMILIES[0]) for source in SOURCES} | {*TUNED})


@pytest.fixture
def hydra_ready() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.mark.usefixtures("hydra_ready")
@pytest.mark.parametrize(("source", "family"), CELLS)
def test_every_family_source_and_tuned_cell_composes_for_a_suite(source: str, family: str) -> None:
    composed = compose("config", ["+suite=quick", f"source={source}", f"family={family}"])
    run = cli.settings(composed)  # every part is looked up and its arguments are checked
    assert run.suite == "quick" and run.directory.parent == Path("outputs/quick")
    assert run.budget.train_flops == pytest.approx(composed.budget.scale * composed.reference.train_flops)
    assert run.budget.parameters == composed.reference.parameters
    assert set(run.chosen_metrics) == set(run.metrics)


@pytest.mark.usefixtures("hydra_ready")
@pytest.mark.parametrize("suite", SUITES)
def test_suites_sweep_over_all_families_and_known_sources(suite: str) -> None:
    config = compose("config", [f"+suite={suite}"], return_hydra_config=True)
    assert config.hydra.mode.name == "MULTIRUN"
    assert config.suite == suite
    sweep = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(
        [f"{k}={v}" for k, v in config.hydra.sweeper.params.items()]
    )
    values = {override.key_or_group: list(override.sweep_string_iterator()) if override.is_sweep_override()
              else [str(override.value())] for override in sweep}  # fmt: skip
    rules = {"family.loss", "family.penalty.kind", "family.packing"}
    probes = {
        "stability": {"learning_rate_factor"},
        "gan_failures": {"preset", "source.sigma"},
        "gan_rules": rules,
        "conditions": {"condition"},
        "conditions_mnist": {"condition"},
        "scaling": {"budget.scale"},
        "scaling_mnist": {"budget.scale"},
        "dimension": {"source.dimensions", "source.modes"},
        "data": {"corruption"},
    }
    carriers = {"flow_matching", "flow_matching_ot", "reflow", "transport_gan", "affine_map", "oracle"}
    task = "transport" if suite.startswith("transport") else "source"
    assert {"family", task, "seed"} <= set(values) <= {"family", task, "seed"} | probes.get(suite, set())
    assert set(values[task]) <= {path.stem for path in (CONF / task).glob("*.yaml")}
    only = {"gan_failures": {"gan"}, "gan_rules": {"gan"}, "likelihood": {"vae", "autoregressive", "gaussian"}}
    of_tokens = {*COMPARED["families"], "masked_diffusion", "energy"}
    only |= {"sequences": of_tokens, "family_tree": {*FAMILIES, "reflow"}}
    only |= dict.fromkeys(("quick", "standard", "metrics"), COMPARED["all"])
    only |= {"transport": carriers, "transport_images": carriers}
    assert set(values["family"]) == only.get(suite, COMPARED["families"])
    if "gan" not in suite:
        assert next(iter(values)) == "seed" or len(values["seed"]) == 1, "a suite that is stopped has whole seeds"
    seeds = {"smoke": 1, "conditions_mnist": 1, "gan_failures": 5}
    seeds |= dict.fromkeys(("standard", "tables", "sequences", "family_tree", "transport"), 5)  # they rank families
    assert len(values["seed"]) == seeds.get(suite, 3)
    if suite == "gan_failures":
        assert set(values["preset"]) == {p.stem for p in (CONF / "preset").glob("gan_*.yaml")}
    if suite == "stability":
        assert [float(value) for value in values["learning_rate_factor"]] == [0.25, 1.0, 4.0]


def job(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert cli.main([*arguments, "--cfg", "job", "--resolve"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert isinstance(config, dict)
    return config


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("how", ["--config-dir", "hydra.searchpath"])
def test_users_yaml_joins_and_tuned_values_stand_between_family_and_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    write(tmp_path / "family/toy_family.yaml", "_target_: toys.Family\nname: toy_family\ndepth: 1\nwidth: 1\n")
    write(tmp_path / "tuned/toy_source/toy_family.yaml", "# @package family\ndepth: 2\nwidth: 2\n")
    write(tmp_path / "metric/toy.yaml", "# @package metrics.toy\n_target_: toys.Metric\n")
    write(
        tmp_path / "source/toy_source.yaml",
        "# @package _global_\ndefaults:\n  - /event: points\n  - /extractor: identity\n"
        "source: {_target_: toys.Source, name: toy_source}\n"
        "reference: {train_flops: 1.0e+6, parameters: 10}\nevaluation: {samples: 5}\n",
    )
    place = ["--config-dir", str(tmp_path)] if how == "--config-dir" else [f"hydra.searchpath=[file://{tmp_path}]"]
    config = job(capsys, *place, "family=toy_family", "source=toy_source", "+metric=toy", "family.width=3")
    assert config["family"] == {"_target_": "toys.Family", "name": "toy_family", "depth": 2, "width": 3}
    assert config["metrics"]["toy"] == {"_target_": "toys.Metric"}
    assert "frechet" in config["metrics"]
    assert config["budget"]["train_flops"] == 1e6
    elsewhere = job(capsys, *place, "family=toy_family", "source=die", "metric=[modes,toy]")
    assert elsewhere["family"]["depth"] == 1
    assert set(elsewhere["metrics"]) == {"divergence", "modes", "toy"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("sed=1", "no key or group 'sed'; did you mean seed?"),
        ("famly=gan", "no key or group 'famly'; did you mean family?"),
        ("family=gna", "no family 'gna'; did you mean gan?"),
        ("-m family=gan,vea seed=0,1", "no family 'vea'; did you mean vae?"),
        ("+suite=qick", "no suite 'qick'; did you mean quick?"),
        ("+suit=quick", "no key or group 'suit'; did you mean suite or split?"),
        ("suite=quick", "suite: add one with +suite="),
        (
            "family=gan family.latnt=3",
            "no key or group 'family.latnt'; did you mean family.latent?",
        ),
        ("learning_rate=1", "did you mean learning_rate_factor or family.optimisation.learning_rate?"),
        ("hydra.launcher.wrkers=1", "did you mean hydra.launcher.workers?"),
        ("seed=0,1", "seed=0,1: add -m for a multirun"),
        ("+budget=quick", "budget is chosen by default: write budget=... without the +"),
        ("seed", "expected key=value, got 'seed'"),
        ("seed=${nowhere}", "Interpolation key 'nowhere' not found"),
    ],
)
def test_mistakes_end_in_one_line_that_names_what_is_near(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "execute", lambda run, progress: pytest.fail("nothing may be run"))
    assert cli.main(arguments.split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("genfam: error: ")
    assert said in lines[0]


def test_settings_of_a_metric_that_does_not_exist_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suite of one's own may set metrics that are not chosen, but not one that nobody can choose."""
    monkeypatch.setattr(experiment, "execute", lambda run, progress: pytest.fail("nothing may be run"))
    write(tmp_path / "suite/mine.yaml", "# @package _global_\nmetrics: {liklihood: {events: 10}}\n")
    assert cli.main(["--config-dir", str(tmp_path), "+suite=mine", f"output_dir={tmp_path}/o"]) == 2
    assert "metrics.liklihood: no metric of that name; did you mean metrics.likelihood?" in capsys.readouterr().err
    idle = Run.of(composed() | {"metrics": {"likelihood": {"events": 10}, "of_my_own": {"events": 10}}})
    assert idle.chosen_metrics == {}


def test_full_error_shows_the_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(cli.HydraException, match="Could not override 'sed'"):
        cli.main(["sed=1"])


@pytest.mark.parametrize(
    ("outcome", "reason", "code", "said"),
    [
        (Outcome.OK, "", 0, ""),
        (Outcome.DIVERGED, "at update 3", 0, ""),
        (Outcome.FAILED, "Traceback (most recent call last):\n  File\nOSError: disk full", 1, "failed: OSError: disk"),
        (Outcome.INTERRUPTED, "stopped", 130, "genfam: interrupted: the same command goes on where it stopped"),
    ],
)  # fmt: skip
def test_single_run_gets_a_plain_configuration_and_its_outcome_is_the_exit_code(
    outcome: Outcome,
    reason: str,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    got: list[Run] = []

    def execute(run: Run, *, progress: object) -> Record:
        got.append(run)
        return experiment.begun(run, outcome, reason)

    monkeypatch.setattr(experiment, "execute", execute)
    arguments = ["source=die", "family=vae", "budget=quick", "metric=[divergence]", f"output_dir={tmp_path}"]
    assert cli.main(["seed=3", "--run", *arguments]) == code  # options may stand between overrides
    (run,) = got
    assert run.config == yaml.safe_load(yaml.safe_dump(run.config)), "plain containers only"
    assert (run.seed, run.source["name"], run.family["name"]) == (3, "die", "vae")
    shown = capsys.readouterr()
    assert said in shown.err
    assert len(shown.err.splitlines()) == (1 if said else 0)
    if code == 0:
        assert f"{outcome.value}" in shown.out
        assert "vae on die, seed 3" in shown.out


def test_errors_of_ours_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def execute(run: Run, *, progress: object) -> Record:
        raise ValueError("expected this,\n got that")

    monkeypatch.setattr(experiment, "execute", execute)
    assert cli.main([f"output_dir={tmp_path}"]) == 1
    assert capsys.readouterr().err == "genfam: error: expected this, got that\n"


def test_report_follows_a_multirun_whatever_the_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    finished: list[tuple[Path, Path]] = []
    monkeypatch.setattr(report, "finish", lambda folder, results: finished.append((folder, results)))

    def execute(run: Run, *, progress: object) -> Record:
        write(run.directory / "record.json", "{}")
        return experiment.begun(run, Outcome.FAILED if run.seed else Outcome.OK, "why")

    monkeypatch.setattr(experiment, "execute", execute)
    places = [f"output_dir={tmp_path}/o", f"results_dir={tmp_path}/r"]
    assert cli.main(["-m", "hydra/launcher=basic", "seed=0,1", *places]) == 1
    assert finished == [(tmp_path / "o/single", tmp_path / "r")]


COMMANDS = {
    "genfam": cli.main,
    "genfam-choose": choose.main,
    "genfam-benchmark": scripts.benchmark,
    "genfam-evaluate": stored.evaluate,
    "genfam-path": stored.path,
    "genfam-repeat": stored.repeat,
    "genfam-dashboard": scripts.dashboard,
    "genfam-sample": stored.sample,
    "genfam-report": scripts.report,
    "genfam-publish": scripts.publish,
    "genfam-tune": scripts.tune,
    "genfam-estimate": scripts.estimate,
    "genfam-judge": judge.command,
    "genfam-check": check.check,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = COMMANDS[name](["--help"])
    except SystemExit as end:
        code = end.code
    shown = capsys.readouterr().out
    assert code == 0
    assert "xamples:" in shown
    assert f"  {name} " in shown


def test_benchmark_is_a_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(cli, "main", lambda argv: calls.append(argv) or 130)
    assert scripts.benchmark([]) == 130
    assert scripts.benchmark(["--suite", "smoke", "family=gan,vae", "+metric=toy"]) == 130
    assert scripts.benchmark(["family=gan", "suite=standard", "--config-dir=mine"]) == 130
    assert calls == [
        ["-m", "+suite=quick"],
        ["-m", "+suite=smoke", "family=gan,vae", "+metric=toy"],
        ["-m", "--config-dir=mine", "+suite=standard", "family=gan"],
    ]


@pytest.mark.parametrize("style", ["{}={}", "--{}={}", "--{} {}"])
def test_sample_writes_what_the_run_gives(
    style: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4)
    run = SimpleNamespace(
        event=Event((3, 4, 4), 48),
        sample=lambda n, seed, condition: levels.repeat(n, 1, 1, 1) + seed,
        to_uint8=lambda samples: samples.permute(0, 2, 3, 1).numpy(),
        source=SimpleNamespace(name="images"),
    )
    monkeypatch.setattr(saved, "load_run", lambda folder, plugins: run)
    write(tmp_path / "run/record.json", "{}")
    given = {"run": tmp_path / "run", "n": 5, "out": tmp_path / "deep/s.npz", "seed": 2}
    assert stored.sample(" ".join(style.format(key, value) for key, value in given.items()).split()) == 0
    with np.load(tmp_path / "deep/s.npz") as file:
        assert file.files == ["samples"]
        assert file["samples"].dtype == np.uint8
        assert file["samples"].shape == (5, 4, 4, 3)
        assert np.array_equal(file["samples"][4, 1, 2], levels[0, :, 1, 2].numpy() + 2)
    assert "uint8 5 x 4 x 4 x 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("genfam-path", "", "--run"),
        ("genfam-path", "run=x t=a", "expected numbers from 0 to 1"),
        ("genfam-path", "run=x out=p.jpg", "expected a file name that ends in .png"),
        ("genfam-sample", "", "--run"),
        ("genfam-sample", "run=x n=many", "invalid int value: 'many'"),
        ("genfam-sample", "run=x n=0", "expected a positive number of samples, got 0"),
        ("genfam-sample", "run=x out=s.txt", "expected a file name that ends in .npz"),
        ("genfam-sample", "run=x sead=1", "unrecognized arguments: sead=1"),
        ("genfam-evaluate", "run=x suite=y", "not allowed with"),
        ("genfam-evaluate", "", "one of the arguments --run --suite is required"),
    ],
)
def test_wrong_arguments_are_named(name: str, arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        COMMANDS[name](arguments.split())
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_missing_folders_are_named_with_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "quick/die-vae-s0/record.json", "{}")
    assert stored.sample([f"run={tmp_path / 'quick'}"]) == 1
    assert "expected a run's folder with a record.json; there are die-vae-s0" in capsys.readouterr().err
    assert stored.evaluate(["suite=quik", f"output_dir={tmp_path}"]) == 1
    assert "there are ['quick']" in capsys.readouterr().err
    nowhere = ["--suite", "x", "--output_dir", str(tmp_path), "--results_dir", str(tmp_path)]
    assert scripts.report(nowhere) == scripts.publish(nowhere) == 1


def test_evaluate_measures_every_run_of_a_suite_that_ended_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"quick/{name}/record.json", "{}")
    done: list[Path] = []
    finished: list[Path] = []

    def measure_again(folder: Path, new: Any, plugins: Any, data_dir: Any, progress: Any) -> Any:
        progress(0.5, "half way")
        if folder.name == "a":
            raise FileNotFoundError("a: its outcome is failed")
        done.append(folder)
        return SimpleNamespace(outcome=Outcome.OK, metrics=[])

    monkeypatch.setattr(experiment, "measure_again", measure_again)
    monkeypatch.setattr(report, "finish", lambda folder, results: finished.append(folder))
    assert stored.evaluate(["suite=quick", f"output_dir={tmp_path}"]) == 0
    assert done == [tmp_path / "quick/b"]
    assert finished == [tmp_path / "quick"]
    assert "skipped   a: its outcome is failed" in capsys.readouterr().out


def test_publish_hands_over_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(report, "publish", lambda *args, **kwargs: calls.append((args, kwargs)) or tmp_path)
    (tmp_path / "quick").mkdir()
    assert scripts.publish(["suite=quick", f"output_dir={tmp_path}", "results_dir=r"]) == 0
    assert calls == [((tmp_path / "quick", Path("r"), "genfam -m +suite=quick"), {"allow_mixed": False})]


def test_runs_of_a_launcher_that_tells_nothing_are_counted_by_their_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "mine")
    before = store.write(make("alpha", "die", 0, 1.0, outcome=Outcome.FAILED))
    os.utime(before.parent / "record.json", (0, 0))
    monkeypatch.setattr(cli, "tally", cli.Tally())
    callback = cli.Elsewhere()
    callback.started -= 1.0  # some file systems count whole seconds
    for seed, outcome in enumerate([Outcome.OK, Outcome.DIVERGED, Outcome.FAILED], start=1):
        record = make("alpha", "die", seed, 1.0, outcome=outcome)
        record.config |= {"output_dir": str(tmp_path), "suite": "mine", "results_dir": "results"}
        store.write(record)
    config = OmegaConf.create({"output_dir": str(tmp_path), "suite": "mine", "results_dir": "results"})
    callback.on_multirun_end(config)
    assert (cli.tally.total, cli.tally.finished, len(cli.tally.failures)) == (3, 2, 1)  # the old failure is not ours
    assert cli.tally.multirun and list(cli.tally.suites) == [tmp_path / "mine"]
    callback.on_multirun_end(config)
    assert cli.tally.total == 3  # counted once


def dies_elsewhere(config: Any) -> None:
    """A task as submitit sees it: the first job ends well, the second is killed, and the launcher gives up."""
    store = Store(Path(config.output_dir) / config.suite)
    place = {"output_dir": str(config.output_dir), "suite": str(config.suite), "results_dir": str(config.results_dir)}
    for seed, outcome in enumerate([Outcome.OK, Outcome.RUNNING]):
        record = make("alpha", "die", seed, 1.0, outcome=outcome)
        record.config |= place
        store.write(record)
    raise type("UncompletedJobError", (RuntimeError,), {"__module__": "submitit.core.utils"})("Job 7 has not finished")


def test_a_job_that_was_killed_elsewhere_leaves_a_record_and_the_others_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [f"output_dir={tmp_path}", f"results_dir={tmp_path}/results", "logger=none"]
    code = cli.main(["-m", "hydra/launcher=basic", "source=die", "family=oracle", *places], task=dies_elsewhere)
    said = capsys.readouterr()
    assert code == 1 and "Traceback" not in said.err, said.err
    assert "its job was killed" in said.err and (tmp_path / "single/scorecard.csv").exists()
    outcomes = {record.seed: record.outcome for record in Store(tmp_path / "single").load()}
    assert outcomes == {0: Outcome.OK, 1: Outcome.FAILED}
