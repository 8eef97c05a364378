"""The commands beside `genfam`: run a suite, and work with what is stored. `key=value` and `--key value` both do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from genfam.build import ConfigurationError, NotModelled
from genfam.commands.arguments import (
    add_places,
    add_plugins,
    boolean,
    command_parser,
    counts,
    given,
    guarded,
    names,
    numbers,
    run_folder,
    suite_folder,
)
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
    from genfam.commands import cli

    options = [override for override in overrides if override.startswith("-")]
    rest = [override for override in overrides if not override.startswith("-")]
    options += ["--quiet"] if arguments.quiet else []
    return cli.main(["-m", *options, f"+suite={arguments.suite}", *rest])


def evaluate(argv: Sequence[str] | None = None) -> int:
    """`genfam-evaluate`: measure stored runs again, without training. Returns 1 where one could not be measured."""
    parser = command_parser(
        "genfam-evaluate",
        "Measure a stored run (or all runs of a suite) again: nothing is trained. With sampling knobs, measure it at "
        "all combinations of them instead and write sampling_costs.csv beside its record, which stays as it is.",
        "genfam-evaluate run=outputs/quick/<run_id>",
        "genfam-evaluate suite=quick",
        "genfam-evaluate suite=quick metric=my_conf/metric/mine.yaml plugins=my_metric",
        "genfam-evaluate suite=images steps=1,2,5,10,20,50",
        "genfam-evaluate run=outputs/quick/<run_id> guidance=1,1.5,2",
        "genfam-evaluate run=outputs/quick/<run_id> temperature=0.8,0.9,1",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, help="a run's folder")
    what.add_argument("--suite", help="a suite of the store: every finished run of it")
    parser.add_argument("--metric", type=Path, help="YAML file of one more metric (`_target_` and its constants)")
    parser.add_argument("--steps", type=counts, help="knob: numbers of solver steps, with commas")
    parser.add_argument("--solver", type=names, help="knob: euler, midpoint, heun, rk4")
    parser.add_argument("--guidance", type=numbers, help="knob: weights of guidance; 1 = none")
    parser.add_argument("--temperature", type=numbers, help="knob: below 1 sharpens, above 1 flattens")
    parser.add_argument("--guide", type=Path, help="with guidance: a weaker run to lead away from")
    parser.add_argument(
        "--data_dir", "--data-dir", type=Path, help="where image files lie, if elsewhere than when it was run"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress: results only")
    add_plugins(parser)
    add_places(parser, store=None)
    knobs = ("steps", "solver", "guidance", "temperature")
    keys = ("run", "suite", "metric", "guide", "plugins", "data_dir", "output_dir", "results_dir", *knobs)
    arguments = parser.parse_args(given(argv, keys))
    wanted = {knob: values for knob in knobs if (values := getattr(arguments, knob))}
    if wanted and arguments.metric:
        parser.error("metric: not with a knob, which measures what the record has")
    if not wanted and arguments.guide:
        parser.error(f"guide: only with a knob ({', '.join(knobs)})")

    def measure(folder: Path, progress: Progress) -> tuple[str, Callable[[], None]]:
        """What was done, and what shows it."""
        from genfam.records.sampling_costs import FILE
        from genfam.running import experiment, sampling_costs

        if wanted:
            rows = sampling_costs.measure(
                folder, wanted, data_dir=arguments.data_dir, output_dir=arguments.output_dir, guide=arguments.guide,
                plugins=arguments.plugins, progress=progress,
            )  # fmt: skip
            return "measured", lambda: _print_settings(folder / FILE, rows)
        path = arguments.metric
        more = {} if path is None else {path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))}
        record = experiment.measure_again(
            folder, more, arguments.plugins, data_dir=arguments.data_dir, progress=progress
        )
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
        skipped = broken = 0
        for number, folder in enumerate(folders, start=1):
            try:
                with shown(f"[{number}/{len(folders)}] {folder.name}", quiet=arguments.quiet) as progress:
                    said, _ = measure(folder, progress)
                print(f"[{number}/{len(folders)}] {said:9} {folder.name}", flush=True)
            except ConfigurationError:
                raise
            except (OSError, ValueError) as error:  # no model to measure, nothing to choose, or damaged files
                skipped += 1
                broken += not isinstance(error, FileNotFoundError | NothingToChoose)
                print(f"[{number}/{len(folders)}] skipped   {' '.join(str(error).split())}", flush=True)
        report.finish(suite, arguments.results_dir)
        return 1 if broken or skipped == len(folders) else 0

    return guarded(parser, action)


def sample(argv: Sequence[str] | None = None) -> int:
    """`genfam-sample`: draw from a stored run into an .npz, key `samples`."""
    parser = command_parser(
        "genfam-sample",
        "Draw samples from a stored run into an .npz file with the key `samples`: images as uint8 N x H x W x C, "
        "points as float32 N x D, levels as uint8 N x D, rows of a table as float64 N x columns; or "
        "of a table into a .csv file, with its columns.",
        "genfam-sample run=outputs/quick/<run_id> n=10000 out=samples.npz seed=0",
        "genfam-sample run=outputs/quick/<run_id> condition=3",
        "genfam-sample run=outputs/tables/<run_id> out=rows.csv",
    )
    parser.add_argument("--run", type=Path, required=True, help="a run's folder")
    parser.add_argument("--n", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("samples.npz"), help="file (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    parser.add_argument("--condition", help="number or name of a value (default: drawn by its share)")
    add_plugins(parser)
    arguments = parser.parse_args(given(argv, ("run", "n", "out", "seed", "condition", "plugins")))
    if arguments.n < 1:
        parser.error(f"n: expected a positive number of samples, got {arguments.n}")
    if arguments.out.suffix not in (".npz", ".csv"):
        parser.error(f"out: expected a file name that ends in .npz (or .csv, of a table), got {arguments.out}")

    def action() -> int:
        from genfam.running.drawn import check_format, write_samples
        from genfam.running.saved import load_run

        run = load_run(run_folder(arguments.run), plugins=arguments.plugins)
        check_format(arguments.out, run.source)
        condition = None if arguments.condition is None else run.condition_named(arguments.condition)
        print(write_samples(arguments.out, run, run.sample(arguments.n, arguments.seed, condition)))
        return 0

    return guarded(parser, action)


def path(argv: Sequence[str] | None = None) -> int:
    """`genfam-path`: a stored run's samples on their way from noise to data."""
    parser = command_parser(
        "genfam-path",
        "Draw a run's path from p_init (t = 0) to the data (t = 1) as a strip of pictures. On points of a known source "
        "the exact p_t stands beside it, with the total variation between the two.",
        "genfam-path run=outputs/quick/<run_id>",
        "genfam-path run=outputs/quick/<run_id> t=0,0.5,0.9,1 n=2000 out=path.png",
    )
    parser.add_argument("--run", required=True, type=Path, help="the run's folder")
    parser.add_argument("--t", default="0,0.25,0.5,0.75,1", help="times with commas (default: %(default)s)")
    parser.add_argument(
        "--n", type=int, default=1000, help="how many points, or images up to 36 (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("path.png"), help="file (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    add_plugins(parser)
    arguments = parser.parse_args(given(argv, ("run", "t", "n", "out", "seed", "plugins")))
    try:
        times = [float(time) for time in names(arguments.t)]
    except ValueError:
        parser.error(f"t: expected numbers from 0 to 1 with commas, got {arguments.t}")
    if arguments.n < 1:
        parser.error(f"n: expected a positive number of samples, got {arguments.n}")
    if arguments.out.suffix != ".png":
        parser.error(f"out: expected a file name that ends in .png, got {arguments.out}")

    def action() -> int:
        from genfam.report.paths import path_figure
        from genfam.running.paths import snapshots
        from genfam.running.saved import load_run

        run = load_run(run_folder(arguments.run), plugins=arguments.plugins)
        n = min(arguments.n, 36) if run.family.event.is_discrete else arguments.n
        found = snapshots(run.family, run.source, times, n, arguments.seed)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        path_figure(found, run.family.event.levels, run.run.id, arguments.out)
        for snapshot in found:
            said = "" if snapshot.divergence is None else f"total variation {snapshot.divergence:.4f}"
            said += "" if snapshot.floor is None else f", of exact draws {snapshot.floor:.4f}"
            print(f"t = {snapshot.time:g}: {said or 'p_t is not known'}")
        print(arguments.out)
        return 0

    return guarded(parser, action)


def repeat(argv: Sequence[str] | None = None) -> int:
    """`genfam-repeat`: run a stored or published run's settings again, into a store of its own."""
    parser = command_parser(
        "genfam-repeat",
        "Repeat a run exactly, from the settings in its folder or in a file of published records.",
        "genfam-repeat run=outputs/quick/<run_id> output_dir=repeated",
        "genfam-repeat records=results/quick/records.jsonl id=<run_id> output_dir=repeated",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, help="a run's folder")
    what.add_argument("--records", type=Path, help="a file of published records, with id=")
    parser.add_argument("--id", help="of the run, with records=")
    parser.add_argument("--output_dir", "--output-dir", type=Path, required=True, help="the store to write to")
    parser.add_argument("--data_dir", "--data-dir", type=Path, help="where image files lie")
    parser.add_argument("--quiet", action="store_true", help="no progress: the result only")
    add_plugins(parser)
    keys = ("run", "records", "id", "output_dir", "data_dir", "plugins")
    arguments = parser.parse_args(given(argv, keys))
    if (arguments.records is None) != (arguments.id is None):
        parser.error("id: expected with records=, and only there")

    def action() -> int:
        from genfam.records.run import Run
        from genfam.records.store import load_published
        from genfam.running.experiment import execute
        from genfam.running.saved import stored

        if arguments.run is not None:
            found = stored(run_folder(arguments.run), arguments.data_dir, plugins=arguments.plugins)
        else:
            records = {record.run_id: record for record in load_published(arguments.records.parent)}
            if arguments.id not in records:
                raise FileNotFoundError(f"{arguments.records}: expected run {arguments.id}, got {len(records)} others")
            here = {"plugins": arguments.plugins, "data_dir": arguments.data_dir}
            found = Run.of(records[arguments.id].config | here)
        run = found.model_copy(update={"output_dir": arguments.output_dir, "logger": "none"})
        with shown(run.id, quiet=arguments.quiet) as progress:
            record = execute(run, progress=progress)
        _print_record(run.directory, record)
        return 0 if record.outcome.finished else 1

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
            published = arguments.results_dir / arguments.suite
            print(report.paper_tables(folder, arguments.format, metrics, published), end="")
        elif ran:
            report.finish(store, arguments.results_dir)
        elif store.is_dir() and not (arguments.results_dir / arguments.suite).is_dir():
            print(f"{store}: nothing is finished yet; ask again once a run has ended")
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
        "Cost. With an account it is saved and its link printed; without one its definition is written as JSON. With "
        "--view, look at the suite's offline runs in this terminal instead: a run of every family on one source.",
        "genfam-dashboard --suite quick",
        "genfam-dashboard --suite quick --entity my-team --project genfam",
        "genfam-dashboard --suite quick --sync",
        "genfam-dashboard --suite quick --view --source grid",
    )
    parser.add_argument("--suite", default="quick", help="(default: %(default)s)")
    parser.add_argument("--entity", help="wandb user or team (default: the account's)")
    parser.add_argument("--project", default="genfam", help="of wandb (default: %(default)s)")
    parser.add_argument("--sync", action="store_true", help="send finished offline runs instead (needs an account)")
    parser.add_argument("--view", action="store_true", help="open wandb's terminal viewer instead (q quits)")
    parser.add_argument("--source", help="with --view (default: the one with the most families)")
    add_places(parser)
    keys = ("suite", "entity", "project", "source", "output_dir", "results_dir")
    arguments = parser.parse_args(given(argv, keys))

    def action() -> int:
        from genfam.report import dashboard

        if arguments.view:
            folder = suite_folder(arguments.output_dir, arguments.suite)
            dashboard.select_for_viewer(folder, arguments.source)
            return dashboard.view(folder)
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
    parser.add_argument("--allow-mixed", action="store_true", help="also runs of several numerics digests")
    parser.add_argument("--weights", type=int, metavar="SEED", help="and the sampling weights of this seed's runs")
    add_plugins(parser)
    add_places(parser)
    keys = ("suite", "command", "weights", "plugins", "output_dir", "results_dir")
    arguments = parser.parse_args(given(argv, keys))

    def action() -> int:
        from genfam import report
        from genfam.running.published_weights import weights_of, write_weights

        folder = suite_folder(arguments.output_dir, arguments.suite)
        command = arguments.command or f"genfam -m +suite={arguments.suite}"
        weights = {}
        if arguments.weights is not None:  # what cannot be loaded is said before anything is published
            weights = weights_of(folder, arguments.results_dir, arguments.weights, plugins=arguments.plugins)
        print(report.publish(folder, arguments.results_dir, command, allow_mixed=arguments.allow_mixed))
        for path in write_weights(weights):
            print(path)
        return 0

    return guarded(parser, action)


def tune(argv: Sequence[str] | None = None) -> int:
    """`genfam-tune`: the same FLOPs of trials for each family, on a validation split."""
    parser = command_parser(
        "genfam-tune",
        "Tune families on a source by successive halving: 16 configurations of the family's space (conf/tune) at a "
        "sixteenth of the budget C, the best 4 at a quarter, the best 2 at C; 4 C for every family, judged on a "
        "validation split. What is finished is skipped; nothing but outputs/tune is written unless asked for.",
        "genfam-tune source=ring",
        "genfam-tune family=gan,vae source=ring scale=0.2 write=true publish=true",
    )
    parser.add_argument("--family", help="one or several, with commas (default: all with a space)")
    parser.add_argument("--source", required=True, help="one or several, with commas")
    parser.add_argument("--scale", type=float, default=1.0, help="C / the source's reference FLOPs (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the configurations and the runs (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="runs side by side (default: as genfam -m)")
    parser.add_argument("--write", type=boolean, default=False, help="true: the chosen settings into conf/tuned")
    parser.add_argument("--publish", type=boolean, default=False, help="true: all trials to results/tune")
    add_places(parser)
    keys = ("family", "source", "scale", "seed", "workers", "write", "publish", "output_dir", "results_dir")
    arguments, more = parser.parse_known_intermixed_args(given(argv, keys))
    if unknown := [argument for argument in more if argument.startswith("--")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    command = " ".join(["genfam-tune", *(sys.argv[1:] if argv is None else argv)])

    def action() -> int:
        from genfam.commands import tune

        families = arguments.family.split(",") if arguments.family else tune.families_with_a_space()
        options = {key: getattr(arguments, key) for key in ("scale", "seed", "workers", "output_dir", "results_dir")}
        cells = [(source, family) for source in arguments.source.split(",") for family in families]
        overrides = tuple([*arguments.overrides, *more])
        studies = [tune.Study(family, source, overrides=overrides, **options) for source, family in cells]
        for study in studies:  # a mistake in the last space is said before the first run
            tune.own_values(study, tune.load_space(study.family))
        for study in studies:
            try:
                trials = tune.tune(study)
            except NotModelled as error:
                if arguments.family:
                    raise
                print(f"left out: {error}")
                continue
            print(f"all trials: {study.file}")
            if arguments.publish:
                print(tune.publish(study))
            if arguments.write:
                print(tune.write_tuned(study, trials, command))
        return 0

    return guarded(parser, action)


def estimate(argv: Sequence[str] | None = None) -> int:
    """`genfam-estimate`: memory and hours that a suite's runs would take on one GPU; nothing is trained."""
    parser = command_parser(
        "genfam-estimate",
        "Parameters, FLOPs, memory and hours of a suite's runs on one GPU, from a rehearsal on tensors without numbers "
        "(one seed). Hours are FLOPs over an assumed share of the GPU's peak: an estimate, no measurement.",
        "genfam-estimate suite=gpu",
        "genfam-estimate suite=gpu gpu=L4 utilisation=0.2 budget.scale=6",
    )
    parser.add_argument("--suite", default="gpu", help="(default: %(default)s)")
    parser.add_argument("--gpu", default="A100", help="A100, H100, L4 or RTX4090 (default: %(default)s)")
    parser.add_argument("--utilisation", type=float, default=0.35, help="share of the peak (default: %(default)s)")
    arguments = parser.parse_args(given(argv, ("suite", "gpu", "utilisation")))

    def action() -> int:
        from genfam.commands import cli
        from genfam.running import estimate as estimates

        estimates.table([], arguments.gpu, arguments.utilisation)  # a mistake is said before the work
        found: list[estimates.Requirements] = []

        def task(config: Any) -> None:
            try:
                found.append(estimates.requirements(cli.settings(config)))
            except NotModelled as error:
                print(f"left out: {error}")

        chosen = ["-m", f"+suite={arguments.suite}", "hydra/launcher=basic", "seed=0", *arguments.overrides]
        code = cli.main(chosen, task=task)
        if found:
            print(estimates.table(found, arguments.gpu, arguments.utilisation))
        return code

    return guarded(parser, action)


def _print_record(folder: Path, record: Record) -> None:
    from genfam.report.tables import marked

    for m in record.metrics:
        if m.estimate is not None:
            stderr = "" if m.estimate.stderr is None else f" ± {m.estimate.stderr:.2g}"
            print(f"{m.name:28} {marked(m, record)}{stderr} {'' if m.unit == '1' else m.unit}")
    print(folder / "record.json")


def _print_settings(path: Path, rows: pd.DataFrame) -> None:
    for row in rows.to_dict("records"):
        knobs = ", ".join(f"{key}={value}" for key, value in json.loads(row["knobs"]).items())
        said = f"{knobs}: {row['network_evaluations']:g} network evaluations"
        print(f"{said:70} {row['metric']:24} {row['value']:.5g}{' (as it was run)' if row['as_run'] else ''}")
    print(path)
