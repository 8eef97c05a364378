"""Commands on suites: run, report on, publish, tune and estimate them. `key=value` and `--key value` both do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from genfam.build import NotModelled
from genfam.commands.arguments import (
    add_places,
    add_plugins,
    boolean,
    command_parser,
    given,
    guarded,
    suite_folder,
)


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
