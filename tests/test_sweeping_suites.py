"""`scaling`, `dimension` and `data` end to end: a miniature of each through the command line, with tables and page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from genfam.commands import cli
from genfam.records.store import Store, as_tuned
from genfam.report import publish
from genfam.types import Outcome

SMALL = (
    "family=vae,gaussian,oracle", "seed=0,1", "logger=none", "hydra/launcher=basic", "evaluation.samples=120",
    "curve.points=1", "curve.samples=60", "trace.points=2", "trace.samples=50",
)  # fmt: skip


def run(tmp_path: Path, suite: str, *overrides: str) -> Store:
    """A suite in miniature; its store."""
    places = (f"output_dir={tmp_path}/outputs", f"results_dir={tmp_path}/results")
    assert cli.main(["-m", f"+suite={suite}", *SMALL, *places, *overrides]) == 0
    store = Store(tmp_path / "outputs" / suite)
    assert {record.outcome for record in store.current()} == {Outcome.OK}
    return store


@pytest.mark.slow
def test_scaling(tmp_path: Path) -> None:
    scales = "budget.scale=0.001,0.002,0.008"
    store = run(tmp_path, "scaling", "source=digits", scales, "metric=[frechet]")
    records = store.current()
    assert len(records) == 3 * 3 * 2 and len(as_tuned(records)) == 3 * 2
    points = pd.read_csv(store.folder / "scaling.csv")
    assert points["share"].tolist() == ["C/8", "C/4", "C"] and set(points["n_ok"]) == {2}
    assert (points["train_flops"].diff().dropna() > 0).all()
    fits = pd.read_csv(store.folder / "scaling_fits.csv")
    assert set(fits["against"]) == {"train_flops", "train_seconds"} and (fits["floor"] >= fits["least_floor"]).all()
    page = (store.folder / "report.html").read_text(encoding="utf-8")
    assert 'id="scaling"' in page and 'id="dimension"' not in page
    target = publish(store.folder, tmp_path / "results", "c")
    assert (target / "scaling.csv").read_text() == (store.folder / "scaling.csv").read_text()
    assert (target / "figures" / "scaling_digits.png").exists()


@pytest.mark.slow
def test_dimension(tmp_path: Path) -> None:
    sizes = ("source.dimensions=2,64", "source.modes=4,64")
    store = run(tmp_path, "dimension", *sizes, "budget.scale=0.001", "+metrics.cells.samples=2000", "metric=[modes]")
    records = store.current()
    assert len(records) == 4 * 3 * 2
    assert {record.source for record in records} == {f"mixture_{d}d_{k}" for d in (2, 64) for k in (4, 64)}
    table = pd.read_csv(store.folder / "dimension.csv")
    assert len(table) == 4 and (table["n_ok"] == 2).all() and table["skill"].notna().all()
    assert set(table["metric"]) == {"cell_total_variation"}
    oracle = [r for r in records if r.role == "oracle" and r.source == "mixture_64d_4"]
    quality = {m.name: m.estimate.value for m in oracle[0].metrics if m.estimate}["high_quality_share"]
    assert quality == pytest.approx(0.989, abs=0.05)
    assert 'id="dimension"' in (store.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_data(tmp_path: Path) -> None:
    store = run(
        tmp_path, "data", "source=digits,grid", "budget.scale=0.001", "+metrics.class_share.samples=500",
        "+metrics.cells.samples=2000", "metric=[frechet,modes]",
    )  # fmt: skip
    records = store.current()
    assert len(records) == 2 * 5 * 3 * 2 and len({record.task for record in records}) == 10
    table = pd.read_csv(store.folder / "corruption.csv")
    judged = table[table["judges"]]
    assert len(judged) == 2 * 4 * 3 and (judged["n"] == 2).all()
    oracle = judged[judged["family"] == "oracle"]
    assert (oracle["difference"] == 0.0).all(), "the oracle draws clean data by the same random numbers"
    gaussian = judged[(judged["family"] == "gaussian") & (judged["source"] == "digits")].set_index("corruption")
    assert gaussian.loc["share_0.01_of_events", "difference"] > 0
    shares = table[(table["metric"] == "class_share") & (table["family"] == "oracle")]
    assert shares["clean"].notna().all() and len(shares) == 8
    assert 'id="corruption"' in (store.folder / "report.html").read_text(encoding="utf-8")
