"""The commands beside `genfam`: run a suite, and work with what is stored. `key=value` and `--key value` both do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from genfam.arguments import add_places, boolean, command_parser, counts, given, guarded, run_folder, suite_folder
from genfam.progress import Progress, shown

if TYPE_CHECKING:
    import pandas as pd

    from genfam.types import Record


def benchmark(argv: Sequence[str] | None = None) -> int:
    """`genfam-benchmark`: run a suite and print its scorecard. Returns genfam's exit code."""
    parser = command_parser(
        "genfam-benchmark",
        "Train and compare every family of a suite; what is finished is skipped.",
        "genfam-benchmark",
        "genfam-benchmark --suite standard",
        "genfam-benchmark --suite quick family=gan,vae hydra.launcher.workers=4",
    )
    parser.add_argument("--suite", default="quick", help="a file of conf/suite (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress: errors and the scorecard only")
    arguments, overrides = parser.parse_known_intermixed_args(given(argv, ("suite",)))
    overrides = [*arguments.overrides, *overrides]
    from genfam import cli

    options = [override for override in overrides if override.startswith("-")]
    rest = [override for override in overrides if not override.startswith("-")]
    options += ["--quiet"] if arguments.quiet else []
    return cli.main(["-m", *options, f"+suite={arguments.suite}", *rest])


def evaluate(argv: Sequence[str] | None = None) -> int:
    """`genfam-evaluate`: measure stored runs again, without training. Returns 1 where one could not be measured."""
    parser = command_parser(
        "genfam-evaluate",
        "Measure a stored run (or all runs of a suite) again: nothing is trained. With steps=, measure it at several "
        "numbers of solver steps instead and write sampling_costs.csv beside its record, which stays as it is.",
        "genfam-evaluate run=outputs/quick/<run_id>",
        "genfam-evaluate suite=quick",
        "genfam-evaluate suite=quick metric=my_conf/metric/mine.yaml plugins=my_metric",
        "genfam-evaluate suite=images steps=1,2,5,10,20,50",
        "genfam-evaluate run=results/images/weights/<run_id> steps=1,2,5 solver=euler,heun data_dir=FOLDER",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, help="a run's folder")
    what.add_argument("--suite", help="a suite of the store: every finished run of it")
    parser.add_argument("--metric", type=Path, help="YAML file of one more metric (`_target_` and its constants)")
    parser.add_argument("--plugins", default="", help="packages beside genfam that it comes from, with commas")
    parser.add_argument("--steps", type=counts, help="numbers of solver steps, with commas; what is there is skipped")
    parser.add_argument("--solver", default="", help="with steps: one or several, with commas (default: the run's own)")
    parser.add_argument("--data_dir", "--data-dir", type=Path, help="with steps: where image files lie")
    parser.add_argument("--quiet", action="store_true", help="no progress: results only")
    add_places(parser, store=None)
    keys = ("run", "suite", "metric", "plugins", "steps", "solver", "data_dir", "output_dir", "results_dir")
    arguments = parser.parse_args(given(argv, keys))
    if arguments.steps and (arguments.metric or arguments.plugins):
        parser.error("metric and plugins: not with steps, which measures what the record has")
    if not arguments.steps and (arguments.solver or arguments.data_dir):
        parser.error("solver and data_dir: only with steps")

    def measure(folder: Path, progress: Progress) -> tuple[str, Callable[[], None]]:
        """What was done, and what shows it."""
        from genfam import experiment, sampling_costs

        if arguments.steps:
            rows = sampling_costs.measure(
                folder, arguments.steps, [name for name in arguments.solver.split(",") if name],
                data_dir=arguments.data_dir, output_dir=arguments.output_dir, progress=progress,
            )  # fmt: skip
            return "measured", lambda: _print_steps(folder / experiment.SAMPLING_COSTS, rows)
        path = arguments.metric
        new = {} if path is None else {path.stem: yaml.safe_load(path.read_text())}
        plugins = [name for name in arguments.plugins.split(",") if name]
        record = experiment.evaluate(folder, new, plugins, progress=progress)
        return record.outcome.value, lambda: _print_record(folder, record)

    def action() -> int:
        from genfam import report
        from genfam.families.base import NothingToChoose

        if arguments.run is not None:
            with shown(arguments.run.name, quiet=arguments.quiet) as progress:
                _, show = measure(run_folder(arguments.run), progress)
            show()
            return 0
        suite = suite_folder(arguments.output_dir or Path("outputs"), arguments.suite)
        folders = sorted(path.parent for path in suite.glob("*/record.json"))
        skipped = 0
        for number, folder in enumerate(folders, start=1):
            try:
                with shown(f"[{number}/{len(folders)}] {folder.name}", quiet=arguments.quiet) as progress:
                    said, _ = measure(folder, progress)
                print(f"[{number}/{len(folders)}] {said:9} {folder.name}", flush=True)
            except (FileNotFoundError, NothingToChoose) as error:  # no model to measure, or no steps to choose
                skipped += 1
                print(f"[{number}/{len(folders)}] skipped   {error}", flush=True)
        report.finish(suite, arguments.results_dir)
        return 1 if skipped == len(folders) else 0

    return guarded(parser, action)


def sample(argv: Sequence[str] | None = None) -> int:
    """`genfam-sample`: draw from a stored run into an .npz, key `samples`."""
    parser = command_parser(
        "genfam-sample",
        "Draw samples from a stored run into an .npz file with the key `samples`: images as uint8 N x H x W x C, "
        "points as float32 N x D, tables as uint8 levels N x D.",
        "genfam-sample run=outputs/quick/<run_id> n=10000 out=samples.npz seed=0",
    )
    parser.add_argument("--run", type=Path, required=True, help="a run's folder")
    parser.add_argument("--n", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("samples.npz"), help="file (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    arguments = parser.parse_args(given(argv, ("run", "n", "out", "seed")))
    if arguments.n < 1:
        parser.error(f"n: expected a positive number of samples, got {arguments.n}")
    if arguments.out.suffix != ".npz":
        parser.error(f"out: expected a file name that ends in .npz, got {arguments.out}")

    def action() -> int:
        import numpy as np

        import genfam

        run: Any = genfam.load_run(run_folder(arguments.run))  # type: ignore[operator]  # a lazy attribute: object
        array = np.asarray(run.to_uint8(run.sample(arguments.n, arguments.seed)))
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(arguments.out, samples=array)
        print(f"{arguments.out}: samples {array.dtype} {' x '.join(map(str, array.shape))}")
        return 0

    return guarded(parser, action)


def report(argv: Sequence[str] | None = None) -> int:
    """`genfam-report`: the scorecard of what is stored, or else of what is published."""
    parser = command_parser(
        "genfam-report",
        "Print and write the scorecard and the page (outputs/<suite>/report.html) of a suite in the store; where there "
        "is none, of the published one.",
        "genfam-report --suite quick",
        "genfam-report --suite standard --format=latex --metrics='fd_*,coverage' > table.tex",
    )
    parser.add_argument("--suite", default="quick", help="(default: %(default)s)")
    parser.add_argument(
        "--format", choices=("page", "latex", "markdown"), default="page",
        help="page: print it all and write files; else only the tables, on standard output (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--metrics", default="", help="columns of latex and markdown, with commas; patterns do")
    add_places(parser)
    arguments = parser.parse_args(given(argv, ("suite", "format", "metrics", "output_dir", "results_dir")))

    def action() -> int:
        from genfam import report

        store = arguments.output_dir / arguments.suite
        ran = any(store.glob("*/record.json"))  # a page of published records may be all that is there
        if arguments.format != "page":
            folder = store if ran else suite_folder(arguments.results_dir, arguments.suite)
            metrics = [name for name in arguments.metrics.split(",") if name]
            print(report.paper_tables(folder, arguments.format, metrics), end="")
        elif ran:
            report.finish(store, arguments.results_dir)
        else:
            folder = suite_folder(arguments.results_dir, arguments.suite)
            report.finish(folder, arguments.results_dir, page_dir=store)
        return 0

    return guarded(parser, action)


def dashboard(argv: Sequence[str] | None = None) -> int:
    """`genfam-dashboard`: the saved wandb dashboard of a suite, and its offline runs sent. Returns 0, or 1."""
    parser = command_parser(
        "genfam-dashboard",
        "Build the wandb dashboard of a suite, one workspace per source: Comparison, Coverage, Stability, Samples, "
        "Cost. With an account it is saved and its link printed; without one its definition is written as JSON. "
        "(`make dashboard` shows a suite's offline runs in this terminal, by wandb's own viewer.)",
        "genfam-dashboard --suite quick",
        "genfam-dashboard --suite quick --entity my-team --project genfam",
        "genfam-dashboard --suite quick --sync",
    )
    parser.add_argument("--suite", default="quick", help="(default: %(default)s)")
    parser.add_argument("--entity", help="wandb user or team (default: the account's)")
    parser.add_argument("--project", default="genfam", help="of wandb (default: %(default)s)")
    parser.add_argument("--sync", action="store_true", help="send finished offline runs instead (needs an account)")
    add_places(parser)
    keys = ("suite", "entity", "project", "output_dir", "results_dir")
    arguments = parser.parse_args(given(argv, keys))

    def action() -> int:
        from genfam import dashboard

        if not arguments.sync:
            records = dashboard.records_of(arguments.suite, arguments.output_dir, arguments.results_dir)
            folder = arguments.output_dir / arguments.suite
            print("\n".join(dashboard.save(records, arguments.entity, arguments.project, folder)))
            return 0
        runs = dashboard.finished_offline_runs(suite_folder(arguments.output_dir, arguments.suite))
        if not runs:
            print(f"{arguments.suite}: no finished offline runs that were not sent yet")
            return 0
        return dashboard.sync(runs)

    return guarded(parser, action)


def publish(argv: Sequence[str] | None = None) -> int:
    """`genfam-publish`: copy a suite's records and report from the store to `results`."""
    parser = command_parser(
        "genfam-publish",
        "Publish a finished suite of the store: records, scorecard, figures and provenance go to results/<suite>.",
        "genfam-publish --suite quick",
        "genfam-publish --suite images --weights 0",
    )
    parser.add_argument("--suite", default="quick", help="(default: %(default)s)")
    parser.add_argument("--command", help="what a reader types to get the same (default: genfam -m +suite=<suite>)")
    parser.add_argument("--allow-mixed", action="store_true", help="also runs of several code versions")
    parser.add_argument("--weights", type=int, metavar="SEED", help="and the sampling weights of this seed's runs")
    add_places(parser)
    arguments = parser.parse_args(given(argv, ("suite", "command", "weights", "output_dir", "results_dir")))

    def action() -> int:
        from genfam import report

        folder = suite_folder(arguments.output_dir, arguments.suite)
        command = arguments.command or f"genfam -m +suite={arguments.suite}"
        print(report.publish(folder, arguments.results_dir, command, allow_mixed=arguments.allow_mixed))
        if arguments.weights is not None:
            from genfam.keepsakes import publish_weights

            for path in publish_weights(folder, arguments.results_dir, arguments.weights):
                print(path)
        return 0

    return guarded(parser, action)


def tune(argv: Sequence[str] | None = None) -> int:
    """`genfam-tune`: the same number of trials for each family, on a validation split."""
    parser = command_parser(
        "genfam-tune",
        "Tune families on a source: the same number of trials each (spaces in conf/tune), judged on a validation "
        "split. What is finished is skipped; nothing but outputs/tune is written unless asked for.",
        "genfam-tune source=ring",
        "genfam-tune family=gan,vae source=ring trials=32 budget.scale=0.2 write=true publish=true",
    )
    parser.add_argument("--family", help="one or several, with commas (default: all with a space)")
    parser.add_argument("--source", required=True, help="one or several, with commas")
    parser.add_argument("--trials", type=int, default=16, help="per family and source (default: %(default)s)")
    parser.add_argument("--sampler", default="tpe", help="tpe or random (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler and the runs (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="runs side by side (default: as genfam -m)")
    parser.add_argument("--write", type=boolean, default=False, help="true: the best into conf/tuned")
    parser.add_argument("--publish", type=boolean, default=False, help="true: all trials to results/tune")
    add_places(parser)
    keys = ("family", "source", "trials", "sampler", "seed", "workers", "write", "publish", "output_dir", "results_dir")
    arguments, more = parser.parse_known_intermixed_args(given(argv, keys))
    if unknown := [argument for argument in more if argument.startswith("-")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    command = " ".join(["genfam-tune", *(sys.argv[1:] if argv is None else argv)])

    def action() -> int:
        from genfam import tune

        families = arguments.family.split(",") if arguments.family else tune.families_with_a_space()
        options = {key: getattr(arguments, key) for key in ("trials", "sampler", "seed", "workers")}
        places = {"output_dir": arguments.output_dir, "results_dir": arguments.results_dir}
        cells = [(source, family) for source in arguments.source.split(",") for family in families]
        overrides = tuple([*arguments.overrides, *more])
        studies = [tune.Study(family, source, overrides=overrides, **options, **places) for source, family in cells]
        for study in studies:  # a mistake in the last space is said before the first run
            tune.load_space(study.family, study.source)
        for study in studies:
            trials = tune.tune(study)
            print(f"{study.family} on {study.source}: {tune.describe(tune.best(trials))}; all trials: {study.file}")
            if arguments.publish:
                print(tune.publish(study))
            if arguments.write:
                print(tune.write_tuned(study, trials, command) or "nothing written: the present defaults are the best")
        return 0

    return guarded(parser, action)


def estimate(argv: Sequence[str] | None = None) -> int:
    """`genfam-estimate`: memory and hours that a suite's runs would take on one GPU; nothing is trained."""
    parser = command_parser(
        "genfam-estimate",
        "Parameters, FLOPs, memory and hours of a suite's runs on one GPU, from a rehearsal on tensors without numbers "
        "(one seed). Hours are FLOPs over an assumed share of the GPU's peak: an estimate, no measurement.",
        "genfam-estimate suite=gpu",
        "genfam-estimate suite=gpu gpu=L4 utilisation=0.2 source=cifar10_fid budget.scale=6",
    )
    parser.add_argument("--suite", default="gpu", help="(default: %(default)s)")
    parser.add_argument("--gpu", default="A100", help="A100, H100, L4 or RTX4090 (default: %(default)s)")
    parser.add_argument("--utilisation", type=float, default=0.35, help="share of the peak (default: %(default)s)")
    arguments = parser.parse_args(given(argv, ("suite", "gpu", "utilisation")))

    def action() -> int:
        from genfam import cli
        from genfam import estimate as estimates

        estimates.table([], arguments.gpu, arguments.utilisation)  # a mistake is said before the work
        found: list[estimates.Requirements] = []

        def task(config: Any) -> None:
            found.append(estimates.requirements(cli.plain(config)))

        chosen = ["-m", f"+suite={arguments.suite}", "hydra/launcher=basic", "seed=0", *arguments.overrides]
        code = cli.main(chosen, task=task)
        if found:
            print(estimates.table(found, arguments.gpu, arguments.utilisation))
        return code

    return guarded(parser, action)


def _print_record(folder: Path, record: Record) -> None:
    for m in record.metrics:
        if m.estimate is not None:
            stderr = "" if m.estimate.stderr is None else f" ± {m.estimate.stderr:.2g}"
            print(f"{m.name:28} {m.estimate.value:.5g}{stderr} {'' if m.unit == '1' else m.unit}")
    print(folder / "record.json")


def _print_steps(path: Path, rows: pd.DataFrame) -> None:
    for row in rows.sort_values(["solver", "steps"], kind="stable").to_dict("records"):
        said = f"{row['solver']}, {row['steps']} steps, {row['network_evaluations']:g} network evaluations"
        print(f"{said:48} {row['metric']:24} {row['value']:.5g}{' (as it was run)' if row['as_run'] else ''}")
    print(path)
