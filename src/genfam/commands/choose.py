"""`genfam-choose`: which family to take for a task, by the runs that were measured near it."""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genfam.build import ConfigurationError, configuration_folder
from genfam.commands.arguments import command_parser, given, guarded
from genfam.commands.mistakes import near

if TYPE_CHECKING:
    from genfam.comparing.choice import Need

KEYS = (
    "event", "source", "condition", "train_flops", "train_seconds", "seconds_per_sample", "likelihood", "output_dir",
    "results_dir",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """`genfam-choose`: print a recommendation with the rows that it rests on, or that it is not known."""
    parser = command_parser(
        "genfam-choose",
        "Say what is known of your task, and get the family to take for it, with the measured runs that say so; or "
        "several, where they are not separated; or that we do not know, and what would tell. Only runs with no more "
        "compute than yours count. Who is better is decided as in the scorecard.",
        "genfam-choose event=points train_flops=1e12",
        "genfam-choose source=digits seconds_per_sample=1e-3 likelihood=bound",
        "genfam-choose source=digits condition=labels output_dir=outputs",
    )
    parser.add_argument("--source", help="data that were measured, or like yours: a file of conf/source")
    kinds = "rows (of a table or array), points, table (few discrete states), sequence, small_image, image, ..."
    parser.add_argument("--event", help=f"or the kind of your data: {kinds}")
    parser.add_argument("--condition", default="nothing", help="labels or clusters, if you give one (%(default)s)")
    parser.add_argument("--train_flops", "--train-flops", type=_positive, default=math.inf, help="training: at most")
    parser.add_argument(
        "--train_seconds", "--train-seconds", type=_positive, default=math.inf, help="the same in seconds"
    )
    parser.add_argument(
        "--seconds_per_sample", "--seconds-per-sample", type=_positive, default=math.inf,
        help="sampling: at most; seconds are those of the machine that the answer names",
    )  # fmt: skip
    parser.add_argument(
        "--likelihood", choices=("exact", "bound", "none"), default="none",
        help="the least that will do; an exact one is a bound too, an estimate is neither (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--output_dir", "--output-dir", type=Path, help="your store, whose finished suites count too (none)"
    )
    parser.add_argument("--results_dir", "--results-dir", type=Path, default=Path("results"), help="(%(default)s)")
    arguments = parser.parse_args(given(argv, KEYS))

    def action() -> int:
        from genfam.comparing.choice import Need, Needed, choose
        from genfam.comparing.suites import suites_in
        from genfam.report import choosing

        with warnings.catch_warnings(record=True) as left_out:
            warnings.simplefilter("always")
            suites = suites_in(arguments.results_dir, arguments.output_dir)
        need = Need(
            arguments.source or "", arguments.event or "", arguments.condition, arguments.train_flops,
            arguments.train_seconds, arguments.seconds_per_sample, Needed(arguments.likelihood),
        )  # fmt: skip
        _check(need, {record.source for own in suites.values() for record in own})
        if not suites:
            places = " or ".join(str(place) for place in (arguments.results_dir, arguments.output_dir) if place)
            raise FileNotFoundError(
                f"{places}: expected records of suites (results/ of genfam's repository: results_dir=FOLDER; your own: "
                "output_dir=outputs), found none"
            )
        for warning in left_out:
            print(" ".join(str(warning.message).split()))
        print("\n".join(choosing.text(need, choose(need, suites), suites)))
        return 0

    return guarded(parser, action)


def _check(need: Need, measured: set[str]) -> None:
    """Raise ConfigurationError at a name that nobody knows."""
    folder = configuration_folder()
    if bool(need.source) == bool(need.event):
        got = f"source={need.source} and event={need.event}" if need.source else "neither"
        raise ConfigurationError(f"source, event: expected one of them, got {got}")
    for key, name, more in (
        ("source", need.source, measured), ("event", need.event, set()), ("condition", need.condition, set()),
    ):  # fmt: skip
        there = sorted({path.stem for path in (folder / key).glob("*.yaml")} | more)
        if name and name not in there:
            raise ConfigurationError(f"{key}: expected one of {', '.join(there)}, got {name}{near(name, there)}")


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return number
