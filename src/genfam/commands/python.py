"""Compare and train from Python: the command line's own runs, in its store, so that they resume and have a page.

import genfam
found = genfam.compare(x, families=["gan", "vae"], budget="quick", seeds=3)
print(found.verdict())
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor
from torch.utils.data import Dataset

from genfam.build import configuration_folder
from genfam.commands.arguments import compared_families
from genfam.commands.composing import quoted
from genfam.files import write_atomically
from genfam.progress import duration, shown
from genfam.sources.choose import source_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from genfam.report.findings import Findings
    from genfam.running.saved import SavedRun
    from genfam.types import Record

Data = str | Path | np.ndarray[Any, Any] | pd.DataFrame | Tensor | Dataset[Any]
YARDSTICKS = ("gaussian", "oracle")
WORKERS = min(2, os.cpu_count() or 1)  # runs side by side, as on the command line
PILOT = 0.01  # share of the reference budget by which the speed of this machine is measured


class Failed(RuntimeError):
    """No run ended well; the message is that of the last one."""


@dataclass(frozen=True)
class Comparison:
    """What runs of several families on one source say.

    Attributes:
        folder: of the suite in the store; the same call finds its finished runs there.
        records: one per run.
    """

    folder: Path
    records: list[Record]

    @cached_property
    def _findings(self) -> Findings:
        from genfam.report.findings import findings

        return findings(self.records)

    @property
    def table(self) -> pd.DataFrame:
        """A row per family and metric: mean over seeds, 95 % interval, number of seeds, rank, whether it leads.

        `judges` says whether families are told apart by this metric.
        """
        card = self._findings.card
        columns = ["family", "metric", "unit", "mean", "ci_low", "ci_high", "n_ok", "rank", "leads", "judges"]
        return card[columns].sort_values(["judges", "metric", "rank"], ascending=[False, True, True], ignore_index=True)

    def verdict(self) -> str:
        """Which families to take and which not, by the source's judge, with the numbers that this rests on."""
        from genfam.report.tables import choice

        found = self._findings
        (source,) = set(found.card["source"])
        own = found.card[found.card["judges"]].sort_values("mean")
        lines = choice(source, found.verdicts)
        if len(own):
            seeds = int(own["n_ok"].max())
            interval = f", mean and 95 % interval over {seeds} seeds" if seeds > 1 else ", one seed"
            lines.append(f"by {own['metric'].iloc[0]}{interval}:")
            lines += [
                f"  {row['family']}: {row['mean']:.3g}"
                + ("" if math.isnan(row["ci_low"]) else f" [{row['ci_low']:.3g}, {row['ci_high']:.3g}]")
                for row in own.to_dict("records")
            ]
        return "\n".join(lines)

    def plot(self) -> Figure:
        """Every family's judge relative to the oracle's, with its interval, and a dot per seed.

        Raises:
            ValueError: no run has a number to show.
        """
        from genfam.report.plots import headline_picture
        from genfam.report.style import looks

        families = looks({record.family: record.role for record in self.records})
        figure = headline_picture(self._findings.card, self._findings.frame, families)
        if figure is None:
            raise ValueError(f"{self.folder}: expected a run with a measured judge, found none")
        return figure

    @property
    def page(self) -> Path:
        """`report.html`: opens in a browser."""
        return self.folder / "report.html"

    def __repr__(self) -> str:
        return f"{self.verdict()}\npage: {self.page}"

    def _repr_html_(self) -> str:
        picture = io.StringIO()
        self.plot().savefig(picture, format="svg")
        drawing = picture.getvalue()
        return f"<pre>{escape(repr(self))}</pre>{drawing[drawing.index('<svg') :]}"


def compare(
    data: Data,
    families: Iterable[str] | None = None,
    *,
    budget: str = "quick",
    minutes: float | None = None,
    seeds: int | Sequence[int] = 3,
    store: str | Path = "outputs",
    overrides: Sequence[str] = (),
    quiet: bool = False,
) -> Comparison:
    """Train families on the same data with the same budget, beside the fitted Gaussian and the oracle.

    Args:
        data: a source's name; an array or tensor, (N, d) points or (N, …) images; a data frame; a torch dataset of
            (image or point[, label]); a path to a folder of images, .npy, .npz, .csv or .parquet.
        families: names, as `genfam family=…` takes them; None: those of `conf/compared/families.yaml`.
        budget: `smoke`, `quick` or `standard`: 1 %, 10 % or all of the source's reference FLOPs.
        minutes: in place of `budget`: about how long all runs may take here. A run of every family at 1 % of the
            reference budget measures the speed of this machine, and the budget that fits is said.
        seeds: which, or how many: n stands for 0 to n − 1.
        store: where runs are kept; finished ones are not run again.
        overrides: as on the command line, e.g. `"family.batch_size=64"` or `"data_dir=…"`.
        quiet: without progress.

    Raises:
        ValueError: data of another kind, nothing to compare, or a key or value that the command line would refuse.
        Failed: no run ended well.
        KeyboardInterrupt: stopped by Ctrl-C; the same call goes on where it stopped.
    """
    names = list(dict.fromkeys([*(compared_families() if families is None else families), *YARDSTICKS]))
    if len(names) == len(YARDSTICKS):
        raise ValueError("families: expected at least one that is trained, got none")
    chosen = [str(seed) for seed in (range(seeds) if isinstance(seeds, int) else seeds)]
    if not chosen:
        raise ValueError(f"seeds: expected at least one, got {seeds}")
    settings = [*_source(data, Path(store)), *overrides, "logger=none"]
    if minutes is not None:
        flops = _affordable(names, settings, Path(store), minutes, len(chosen), quiet)
        print(f"{flops} training FLOPs a run: all runs together take about {duration(60.0 * minutes)}", flush=True)
        settings.append(f"budget.train_flops={flops}")
    else:
        settings.append(f"budget={budget}")
    return _multirun("compare", names, chosen, settings, Path(store), quiet)


def train(
    family: str,
    data: Data,
    *,
    budget: str = "quick",
    seed: int = 0,
    store: str | Path = "outputs",
    overrides: Sequence[str] = (),
    quiet: bool = False,
) -> SavedRun:
    """Train one family; arguments as for `compare`.

    Returns:
        The finished run: `.sample(16)`, `.log_prob(x)`, `.show()`.

    Raises:
        ValueError, Failed, KeyboardInterrupt: as for `compare`.
    """
    from genfam.records.store import Store
    from genfam.running.saved import load_run

    settings = [*_source(data, Path(store)), *overrides, f"budget={budget}", "logger=none"]
    place = Path(store) / f"train-{hashlib.sha256(' '.join([family, *settings]).encode()).hexdigest()[:8]}"
    _genfam([f"family={family}", f"seed={seed}", f"output_dir={quoted(place)}", *settings], quiet)
    (record,) = [run for run in Store(place / "single").load() if run.seed == seed]
    return load_run(place / "single" / record.run_id, record.config["data_dir"], plugins=record.config["plugins"])


def _genfam(arguments: Sequence[str], quiet: bool) -> None:
    """Run the command line in a process of its own: one that a script or a notebook starts without ado.

    Raises:
        ValueError: a mistake, found before any work.
        Failed: no run ended well.
        KeyboardInterrupt: it was stopped; runs keep what they have.
    """
    command = [sys.executable, "-m", "genfam", *arguments]
    with (
        tempfile.TemporaryFile("w+") as errors,
        shown("genfam", quiet=quiet or not sys.stdout.isatty()) as bar,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True) as child,
    ):
        assert child.stdout is not None
        try:
            for line in child.stdout:
                if line.startswith("[") and not quiet:  # a run has ended; the tables are the caller's
                    print(line, end="", flush=True)
                    if counted := re.match(r"\[ *(\d+)(?:%|/(\d+) runs)(?:, ([^]]*))?\]", line):
                        bar(int(counted[1]) / int(counted[2] or 100), counted[3] or "")
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)  # a notebook's reaches nobody else
            child.wait()
            raise
        code = child.wait()
        errors.seek(0)
        said = [line.removeprefix("genfam: error: ") for line in errors.read().splitlines() if line]
    if code == 2:
        raise ValueError(said[-1])
    if code:
        raise Failed(said[-1] if said else f"genfam ended with exit code {code}")


def _multirun(
    what: str, families: Sequence[str], seeds: Sequence[str], settings: Sequence[str], store: Path, quiet: bool
) -> Comparison:
    """Runs with the same settings, in a folder of their own."""
    from genfam.records.store import Store

    place = store / f"{what}-{hashlib.sha256(' '.join(settings).encode()).hexdigest()[:8]}"
    command = ["-m", f"family={','.join(families)}", f"seed={','.join(seeds)}", f"output_dir={quoted(place)}"]
    try:
        _genfam([*command, *settings], quiet)
    except Failed:
        if not any(run.outcome.finished for run in Store(place / "single").load()):
            raise  # else the others speak, and the verdict says whose runs did not end well
    found = Store(place / "single").load()
    return Comparison(place / "single", [run for run in found if run.family in families and str(run.seed) in seeds])


def _affordable(
    families: Sequence[str], settings: Sequence[str], store: Path, minutes: float, seeds: int, quiet: bool
) -> str:
    """Training FLOPs of a run with which all runs together take so long, to two digits.

    Raises:
        ValueError: they take longer without any training.
        Failed: a pilot run came to nothing.
    """
    pilot = _multirun("pilot", families, ["0"], [*settings, f"budget.scale={PILOT}"], store, quiet)
    fixed, rate = 0.0, 0.0
    for record in pilot.records:
        fixed += record.evaluate_seconds or 0.0
        rate += (record.train_seconds or 0.0) / record.train_flops if record.train_flops else 0.0
    left = 60.0 * minutes * WORKERS / seeds - fixed
    if left <= 0.0 or not rate:
        least = duration(seeds * fixed / WORKERS)
        raise ValueError(f"minutes: expected more than the {least} that measuring takes, got {minutes:g} min")
    return f"{left / rate:.2g}"


def _source(data: Data, store: Path) -> list[str]:
    """Overrides that name a source; what is in memory is written to the store, once, named by its contents.

    Raises:
        ValueError: no such source or file, or data of another kind.
    """
    known = sorted(path.stem for path in (configuration_folder() / "source").glob("*.yaml"))
    if isinstance(data, str) and data in known:
        return [f"source={data}"]
    if isinstance(data, str | Path):
        path = Path(data).expanduser().absolute()
        if not path.exists():
            raise ValueError(f"data: expected a file, a folder of images, or one of {', '.join(known)}, got {data}")
        source, key = source_for(path)
        return [f"source={source}", f"source.{key}={quoted(path)}"]
    return _source(_written(data, store), store)


def _written(data: Any, store: Path) -> Path:
    """The file of data that were in memory: .csv of a data frame, .npz of an array `x`, with labels `y` where given."""
    if isinstance(data, pd.DataFrame):
        content, ending = data.to_csv(index=False).encode(), ".csv"
    else:
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **_arrays(data))
        content, ending = file.getvalue(), ".npz"
    path = store / "data" / (hashlib.sha256(content).hexdigest()[:16] + ending)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    return path


def _arrays(data: Any) -> dict[str, np.ndarray[Any, Any]]:
    if isinstance(data, Tensor | np.ndarray):
        return {"x": np.asarray(data)}
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__") or not len(data):
        raise ValueError(
            "data: expected an array, a tensor, a data frame, a torch dataset with a length, a path or a source's "
            f"name, got {type(data).__name__}"
        )
    rows = [data[index] for index in range(len(data))]
    if not isinstance(rows[0], tuple | list):
        return {"x": np.stack([np.asarray(row) for row in rows])}
    found = {"x": np.stack([np.asarray(row[0]) for row in rows])}
    if len(rows[0]) > 1 and np.ndim(rows[0][1]) == 0:
        found["y"] = np.asarray([int(row[1]) for row in rows])
    return found
