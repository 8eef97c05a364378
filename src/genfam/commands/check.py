"""`genfam-check`: what a source holds and what a run on it would take, before anything is trained."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genfam.build import ConfigurationError
from genfam.commands.arguments import command_parser, compared_families, guarded, names
from genfam.progress import duration

if TYPE_CHECKING:
    from genfam.records.run import Run
    from genfam.sources.base import Source
    from genfam.types import Event

WIDTH = 118


def check(argv: Sequence[str] | None = None) -> int:
    """`genfam-check`: returns 0, or 2 where the data cannot serve."""
    parser = command_parser(
        "genfam-check",
        "Say what was found in a file or folder, what is left out and why, how the splits fall, and how long training "
        "would take on this machine, family by family, by a few updates of each. Nothing is trained or written.",
        "genfam-check source.path=table.csv",
        "genfam-check source.path=my_images",
        "genfam-check source=image_folder source.folder=my_images family=gan,vae budget=quick",
    )
    parser.add_argument("overrides", nargs="*", help="what `genfam` takes: key=value, group=option")
    parser.add_argument("--config-dir", help="a folder with YAML of your own")
    arguments = parser.parse_intermixed_args(argv)

    def action() -> int:
        _check(_with_source(arguments.overrides), arguments.config_dir)
        return 0

    return guarded(parser, action)


def _given(overrides: Sequence[str], key: str) -> str | None:
    return next((value for name, _, value in (o.partition("=") for o in overrides) if name == key), None)


def _with_source(overrides: list[str]) -> list[str]:
    """With `source=`, where it is not given, chosen by what lies at `source.path`."""
    path = _given(overrides, "source.path")
    if path is None or _given(overrides, "source") is not None:
        return overrides
    from genfam.sources.choose import source_for

    source, key = source_for(Path(_given(overrides, "data_dir") or ".").expanduser() / Path(path).expanduser())
    return [f"source={source}", *(f"source.{key}={path}" if o.startswith("source.path=") else o for o in overrides)]


def _check(overrides: list[str], config_dir: str | None) -> None:
    """Print the screen.

    Raises:
        ConfigurationError: the command line is wrong, or the data cannot serve.
    """
    from genfam.commands.composing import composed

    chosen = _given(overrides, "family")
    rest = [override for override in overrides if not override.startswith("family=")]
    families = names(chosen) if chosen else compared_families()
    first = composed([*rest, f"family={families[0]}"], config_dir)

    from genfam.running import parts, preflight  # torch, after a mistake would have been said
    from genfam.sources.validation import ValidationSplit

    source = parts.make_source(composed([*rest, f"family={families[0]}", "split=test"], config_dir))
    try:
        source.require()
        said = [*source.remarks(), *_survey(source)]
        train, test = len(source.train), len(source.test)
    except (OSError, ValueError) as error:
        raise ConfigurationError(str(error)) from error
    runs = [composed([*rest, f"family={family}"], config_dir) for family in families]
    seen = parts.make_source(first)  # through the split that the runs would have
    left_out = {run.family["name"]: why for run in runs if (why := preflight.why_not(run, seen))}
    print(f"source={_given(overrides, 'source') or first.source['name']}: {_words(source.event)}")
    for sentence in said:
        _say(sentence)
    validation = ValidationSplit(source)
    _say(
        f"split=validation, to choose settings by (the default): {len(validation.train)} to learn from, "
        f"{len(validation.test)} to measure against"
    )
    _say(f"split=test, for the final comparison: {train} to learn from, {test} to measure against")
    if source.label_names:
        counts = source.train_labels.bincount(minlength=len(source.label_names)).tolist()
        smallest = min(range(len(counts)), key=counts.__getitem__)
        _say(f"smallest class: {source.label_names[smallest]}, {counts[smallest]} to learn from")
    if first.evaluation.samples > len(seen.train):
        _say(
            f"the oracle will repeat events, for evaluation.samples={first.evaluation.samples} are more than there are "
            f"to learn from; evaluation.samples={len(seen.train)} repeats none"
        )
    for why in left_out.values():
        _say(f"left out: {why}")
    _print_times([run for run in runs if run.family["name"] not in left_out and not run.is_yardstick], seen)


def _print_times(runs: Sequence[Run], source: Source) -> None:
    from genfam.running.pace import pace

    if not runs:
        return
    print("training on this machine, by a few updates of each; evaluation comes on top:")
    total = 0.0
    for run in runs:
        found = pace(run, source)
        total += found.seconds
        passes = found.updates * found.batch_size / len(source.train)
        print(
            f"  {run.family['name']:18} {found.updates:>8,} updates of {found.batch_size} events, {passes:.3g} passes: "
            f"{duration(found.seconds)}"
        )
    print(f"  together {duration(total)} per seed; budget.scale=0.1 takes a tenth of the source's reference budget")


def _survey(source: Source) -> list[str]:
    survey: Any = getattr(source, "survey", None)
    return survey() if callable(survey) else []


def _words(event: Event) -> str:
    """An event for people."""
    if event.levels is None:
        return f"rows of {event.dimensions} real numbers"
    if len(event.shape) == 3:
        return f"images of {event.shape[0]} x {event.shape[1]} x {event.shape[2]} pixels with {event.levels} levels"
    return f"rows of {event.dimensions} numbers with {event.levels} levels"


def _say(sentence: str) -> None:
    print(textwrap.fill(sentence, WIDTH, initial_indent="  ", subsequent_indent="    "))
