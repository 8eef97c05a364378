"""What the console commands beside `genfam` share: their arguments, written `key=value` or `--key value`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from genfam.build import ConfigurationError, configuration_folder
from genfam.files import checked_name, refuse_links
from genfam.progress import print_anywhere


def command_parser(name: str, what: str, *examples: str) -> argparse.ArgumentParser:
    """A parser whose help ends with examples."""
    parser = argparse.ArgumentParser(
        name,
        description=what,
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if name in ("genfam-benchmark", "genfam-estimate", "genfam-judge", "genfam-tune"):
        parser.add_argument("overrides", nargs="*", help="what `genfam` takes: key=value, group=option")
    return parser


def add_places(parser: argparse.ArgumentParser, store: Path | None = Path("outputs")) -> None:
    """`output_dir` and `results_dir`, with either spelling."""
    parser.add_argument("--output_dir", "--output-dir", type=Path, default=store, help="(outputs)")
    parser.add_argument("--results_dir", "--results-dir", type=Path, default=Path("results"), help="(%(default)s)")


def given(argv: Sequence[str] | None, keys: tuple[str, ...]) -> list[str]:
    """The arguments, `key=value` of the keys named turned into `--key=value`."""
    arguments = sys.argv[1:] if argv is None else argv
    return [f"--{argument}" if argument.partition("=")[0] in keys and "=" in argument else argument
            for argument in arguments]  # fmt: skip


def counts(text: str) -> list[int]:
    """An argument's type: positive whole numbers with commas."""
    found = names(text)
    if not found or not all(count.isdecimal() and int(count) > 0 for count in found):
        raise argparse.ArgumentTypeError(f"expected positive whole numbers with commas, got {text!r}")
    return [int(count) for count in found]


def numbers(text: str) -> list[float]:
    """An argument's type: positive numbers with commas."""
    try:
        found = [float(number) for number in names(text)]
    except ValueError:
        found = []
    if not found or not all(0.0 < number < math.inf for number in found):
        raise argparse.ArgumentTypeError(f"expected positive numbers with commas, got {text!r}")
    return found


def names(text: str) -> list[str]:
    """An argument's type: names with commas, in brackets or not."""
    return [name.strip() for name in text.strip("[]").split(",") if name.strip()]


def compared_families() -> list[str]:
    """Those that are compared where nobody chooses: of `conf/compared/families.yaml`."""
    text = (configuration_folder() / "compared" / "families.yaml").read_text(encoding="utf-8")
    return names(yaml.safe_load(text)["family"])


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """`plugins`: what a stored run asks for is imported only where this names it."""
    parser.add_argument("--plugins", type=names, default=[], help="packages beside genfam that you trust, with commas")


def boolean(text: str) -> bool:
    """An argument's type: true or false."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"


def suite_folder(place: Path, suite: str) -> Path:
    """Raises FileNotFoundError, naming the suites that are there."""
    folder = place / checked_name(suite, "suite")
    if not folder.is_dir():
        there = sorted(path.name for path in place.glob("*") if path.is_dir() and not path.name.startswith("."))
        raise FileNotFoundError(f"{folder}: expected a suite's folder; in {place} there are {there or 'none'}")
    refuse_links(folder)
    return folder


def run_folder(folder: Path) -> Path:
    """Raises FileNotFoundError, naming runs that are near by."""
    if not (folder / "record.json").is_file():
        near = sorted(path.parent.name for path in folder.glob("*/record.json"))
        near = near or sorted(path.parent.name for path in folder.parent.glob("*/record.json"))
        hint = f"; there are {', '.join(near[:3])}{', ...' if len(near) > 3 else ''}" if near else ""
        raise FileNotFoundError(f"{folder}: expected a run's folder with a record.json{hint}")
    refuse_links(folder)
    return folder


def explain_yaml(error: yaml.YAMLError) -> str:
    """File, line and what is wrong there."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"expected YAML, got {error}"
    problem = f"{getattr(error, 'context', None) or ''} {getattr(error, 'problem', None) or ''}".strip()
    tab = "; indent with spaces: YAML takes no tabs" if "\\t" in problem else ""
    where = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}"
    return f"{where}: expected YAML, got text that is none: {problem}{tab}"


def guarded(parser: argparse.ArgumentParser, action: Callable[[], int]) -> int:
    """Mistakes end in one line."""
    print_anywhere()
    try:
        return action()
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except ConfigurationError as error:
        print(f"{parser.prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except yaml.YAMLError as error:
        print(f"{parser.prog}: error: {' '.join(explain_yaml(error).split())}", file=sys.stderr)
        return 2
    except (ValueError, OSError, ImportError) as error:
        print(f"{parser.prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
