"""`genfam-judge` and `genfam.judge`: samples from elsewhere, measured as a trained family's are."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from genfam.build import ConfigurationError, configuration_folder
from genfam.commands.arguments import add_places, add_plugins, command_parser, given, guarded, names
from genfam.commands.composing import composed, quoted
from genfam.files import checked_name
from genfam.progress import shown

if TYPE_CHECKING:  # pandas and torch take seconds to import, and `--help` does not need them
    from genfam.records.run import Run
    from genfam.report.guests import Judgement
    from genfam.types import Record

ALONE = "guests"  # the suite of guests that stand beside no suite


def judge(
    samples: Any,
    source: str,
    name: str = "guest",
    *,
    suite: str | None = None,
    compute: float | None = None,
    range: tuple[float, float] | None = None,
    layout: str | None = None,
    key: str | None = None,
    data_dir: str | Path | None = None,
    metric: str | Path | None = None,
    plugins: Sequence[str] = (),
    overrides: Sequence[str] = (),
    seed: int = 0,
    output_dir: str | Path = "outputs",
    results_dir: str | Path = "results",
    quiet: bool = True,
) -> Judgement:
    """Measure samples that exist already: a *guest*. The metrics, sample counts, reference and oracle are the source's.

    Args:
        samples: an array (N, *event) of numpy or torch; a path to an .npz, .npy or .csv file, or to a folder of images;
            a pattern; or a list of arrays or paths, which count as as many seeds.
        source: the data set that they are measured against, as in `genfam source=…`.
        name: of the guest, in tables.
        suite: whose runs it stands beside: those of `output_dir`, or else those published in `results_dir`. Without
            one, the oracle alone is run beside it.
        compute: training FLOPs of the model that drew the samples, where you state them.
        range: values of the lowest and the highest level; needed where floats stand for levels.
        layout: `NCHW` or `NHWC`, where an array's shape does not tell.
        key: of an .npz file with several arrays.
        data_dir: where image files lie.
        metric: YAML file of one more metric, or names of conf/metric in place of the usual ones: `[frechet,c2st]`.
        plugins: packages beside genfam that you trust.
        overrides: of the configuration, as on `genfam`'s command line: `source.folder=…`, `evaluation.samples=500`.
        seed: of the first file; the others count up from it.
        output_dir: the store that keeps the guest's runs.
        results_dir: what was published.
        quiet: whether to show no progress.

    Returns:
        The measurements: `.table` is a DataFrame, `.records` what the store keeps.

    Raises:
        ConfigurationError: a mistake in what was asked for, or samples that are no such events; nothing was measured.
        ValueError: a suite that was measured otherwise; nothing was kept.
    """
    from genfam.records.store import Store, beside_published
    from genfam.report.guests import Judgement, oracles_of
    from genfam.running import preflight
    from genfam.running.experiment import execute
    from genfam.running.guest_files import Reading, events_of, paths_of, read
    from genfam.running.guests import check_beside, guests_of
    from genfam.running.guests import judge as measure
    from genfam.running.parts import make_source

    reading = Reading(range, layout, key)
    if compute is not None and not 0.0 < compute < float("inf"):
        raise ConfigurationError(f"compute: expected a positive number of FLOPs, got {compute}")
    asked = samples if isinstance(samples, list | tuple) else [samples]
    items: list[Any] = []
    for item in asked:
        items += paths_of(item) if isinstance(item, str | Path) else [item]
    if not items:
        raise ConfigurationError("samples: expected at least one file or array, got none")
    chosen = [*overrides, f"output_dir={quoted(output_dir)}", f"results_dir={quoted(results_dir)}", "logger=none"]
    chosen += [] if data_dir is None else [f"data_dir={quoted(data_dir)}"]
    chosen += [f"plugins=[{','.join(plugins)}]"] if plugins else []
    from_file = metric is not None and str(metric).endswith((".yaml", ".yml"))
    chosen += [f"metric={metric}"] if metric is not None and not from_file else []
    run = settings_of(source, suite, chosen, _more(metric) if metric is not None and from_file else {})
    preflight.check([run])
    event = make_source(run).event
    files = [
        read(item, event, reading) if isinstance(item, Path) else events_of(item, event, reading) for item in items
    ]
    runs = guests_of(run, name, files, seed, compute)
    theirs: list[Record] = []
    store = Store(run.directory.parent)
    if suite is not None:
        theirs = beside_published(store.current(), Path(results_dir) / suite)
        if all(record.is_guest for record in theirs):
            raise ConfigurationError(
                f"suite={suite}: expected its runs in {store.folder} or in {results_dir}, found none"
            )
        check_beside(runs, theirs)
    else:
        check_beside(runs, store.current(), alone=True)
    with nullcontext(lambda share, text: None) if quiet else shown(name) as progress:
        records = measure(runs, files, theirs, progress)
        oracles = oracles_of(theirs, run.data_name) if suite is not None else [execute(run, progress=progress)]
    return Judgement(records, oracles, store.folder)


def settings_of(source: str, suite: str | None, overrides: Sequence[str], more: dict[str, Any]) -> Run:
    """What `genfam family=oracle source=…` would run, in a suite or alone.

    Args:
        source: an option of conf/source, of the user's too.
        suite: its name; one with a file in conf/suite sets what that file sets.
        overrides: of the configuration.
        more: further metrics by key.

    Raises:
        ConfigurationError: what cannot be composed, in one line.
    """
    try:
        checked_name(suite or ALONE, "suite")
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    known = suite is not None and (configuration_folder() / "suite" / f"{suite}.yaml").exists()
    chosen = [f"+suite={suite}"] if known else []
    chosen += ["split=test"] if suite is None else []  # finished samples, which nothing is chosen by
    chosen += ["family=oracle", f"source={source}", *overrides]
    run = composed(chosen)
    return run.model_copy(update={"metrics": {**run.metrics, **more}, "suite": suite or ALONE})


def _more(metric: str | Path) -> dict[str, Any]:
    """A metric's YAML file by its name, as `genfam-evaluate` takes it."""
    path = Path(metric)
    if not path.is_file():
        raise ConfigurationError(f"metric: expected a YAML file, found no {path}")
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))}


def command(argv: Sequence[str] | None = None) -> int:
    """`genfam-judge`. Returns genfam's exit code."""
    parser = command_parser(
        "genfam-judge",
        "Measure samples that exist already, a guest, as a trained family's are: .npz, .npy or .csv files, or folders "
        "of images. Several files count as several seeds. With a suite the guest stands in its scorecard and page, "
        "without a rank: what it cost is not a run's budget.",
        "genfam-judge samples=mine.npz source=digits name=my_model range=[0,1]",
        "genfam-judge samples='seeds/*.npz' source=mnist name=my_model data_dir=data suite=standard compute=1e15",
        "genfam-judge samples=points.csv source=grid name=my_points suite=quick",
        "genfam-judge samples=images/ source=image_folder source.folder=/data/cats name=my_cats",
    )
    parser.add_argument(
        "--samples", required=True, help="a file, a folder of images, a pattern, or several with commas"
    )
    parser.add_argument("--source", required=True, help="the data set that they are measured against")
    parser.add_argument("--name", required=True, help="of the guest, in tables")
    parser.add_argument("--suite", help="suite to show it in: its runs of output_dir, or else those published")
    parser.add_argument("--compute", type=_flops, help="training FLOPs of its model, if you state them")
    parser.add_argument("--range", type=_range, help="[LOW,HIGH]: values of the lowest and the highest level")
    parser.add_argument("--layout", help="NCHW or NHWC, where the shape does not tell")
    parser.add_argument("--key", help="name of the array to read, where an .npz file has several")
    parser.add_argument("--seed", type=int, default=0, help="of the first file; others count up (default: %(default)s)")
    parser.add_argument("--data_dir", "--data-dir", type=Path, help="where image files lie")
    parser.add_argument("--metric", help="YAML file of one more metric, or names in place of the usual ones")
    parser.add_argument("--quiet", action="store_true", help="no progress: results only")
    add_plugins(parser)
    add_places(parser)
    keys: tuple[str, ...]
    keys = ("samples", "source", "name", "suite", "compute", "range", "layout", "key", "seed", "data_dir", "metric")
    keys = (*keys, "plugins", "output_dir", "results_dir")
    arguments, more = parser.parse_known_intermixed_args(given(argv, keys))
    if unknown := [argument for argument in more if argument.startswith("--")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options = {key: getattr(arguments, key) for key in (*keys, "quiet")}

    def action() -> int:
        from genfam import report

        found = judge(**options, overrides=[*arguments.overrides, *more])
        print(f"{found.name} on {found.records[0].task}: {', '.join(found.records[0].marks)}")
        print("\n".join(found.lines()))
        print(f"± half of the 95 % interval: {found.intervals}")
        for record in found.records:
            print(found.folder / record.run_id / "record.json")
        if arguments.suite is not None:
            report.finish(found.folder, arguments.results_dir)
        return 0

    return guarded(parser, action)


def _range(text: str) -> tuple[float, float]:
    """An argument's type: two numbers."""
    try:
        low, high = (float(part) for part in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected [LOW,HIGH], such as [0,1], got {text!r}") from None
    return low, high


def _flops(text: str) -> float:
    """An argument's type: a positive number."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0.0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number of FLOPs, got {text!r}")
    return found
