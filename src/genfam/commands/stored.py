"""Commands on a stored run: measure it again, draw from it, look at its path, repeat it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from genfam.build import ConfigurationError
from genfam.commands.arguments import (
    add_places,
    add_plugins,
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
    """`genfam-path`: sampling of a stored run, step by step."""
    parser = command_parser(
        "genfam-path",
        "Draw a run's sampling step by step, from t = 0 to t = 1, as a strip of pictures: a path from noise to data, "
        "a Markov chain, scalars one after the other; for a family that draws at once a latent interpolation. "
        "Beside a path from noise to points of a known source stands the exact p_t, with the total variation between "
        "the two. Sequences are printed as texts.",
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
        from genfam.report.strings import on_one_line
        from genfam.running.kept_samples import in_levels
        from genfam.running.paths import snapshots
        from genfam.running.saved import load_run

        run = load_run(run_folder(arguments.run), plugins=arguments.plugins)
        n = min(arguments.n, 36) if run.family.event.is_image else arguments.n
        spell = getattr(run.source, "text", None)
        found = snapshots(run.family, run.source, times, min(n, 3) if spell else n, arguments.seed)
        if spell:
            print(f"{run.run.id}: {run.family.trajectory}")
            for snapshot in found:
                for text in spell(in_levels(snapshot.states, run.family.event)):
                    print(f"t = {snapshot.time:<5g} {on_one_line(text)}")
            return 0
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        path_figure(found, run.family.event.levels, f"{run.run.id}: {run.family.trajectory}", arguments.out)
        for snapshot in found:
            if snapshot.divergence is not None:
                said = f"total variation {snapshot.divergence:.4f}, of exact draws {snapshot.floor:.4f}"
                print(f"t = {snapshot.time:g}: {said}")
        print(arguments.out)
        return 0

    return guarded(parser, action)


def repeat(argv: Sequence[str] | None = None) -> int:
    """`genfam-repeat`: run a stored or published run's settings again, into a store of its own."""
    parser = command_parser(
        "genfam-repeat",
        "Repeat a run exactly, from the settings in its folder or in a file of published records.",
        "genfam-repeat run=outputs/quick/<run_id> output_dir=repeated",
        "genfam-repeat records=results/quick/records.jsonl.gz id=<run_id> output_dir=repeated",
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
