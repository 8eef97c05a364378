"""`genfam-check`: one screen before any training. And what users have goes through every family, and back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from genfam.build import NotModelled, configuration_folder
from genfam.commands import check as module
from genfam.commands import stored
from genfam.commands.check import check
from genfam.running import experiment, preflight
from genfam.running.pace import Pace, pace
from genfam.running.parts import make_family, make_source
from genfam.running.training import plan
from genfam.seeds import derived_generator
from genfam.types import Batch, Likelihood, Outcome
from helpers import plain_families

TINY = ("budget.train_flops=3e7", "budget.parameters=3000", "curve.points=1", "curve.samples=20", "trace.points=1",
        "trace.samples=20", "evaluation.samples=60")  # fmt: skip
FAST = ("family=vae", "budget.train_flops=3e7", "budget.parameters=3000")


@pytest.fixture
def people(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({
        "age": random.integers(18, 90, 200), "city": random.choice(["Rome", "Oslo"], 200), "unit": "cm",
        "height": random.normal(1.7, 0.1, 200),
    })  # fmt: skip
    frame.to_csv(tmp_path / "people.csv", index=False)
    return tmp_path / "people.csv"


@pytest.mark.parametrize("relative", [False, True])
def test_a_table_on_one_screen(
    people: Path, relative: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(people.parent)
    before = sorted(people.parent.rglob("*"))
    assert check([f"source.path={people.name if relative else people}", *FAST]) == 0
    said, wrong = capsys.readouterr()
    assert said.startswith("source=table: rows of 4 real numbers\n")
    for expected in (
        "200 rows; 50 for testing", "numeric columns (2): age, height", "categorical columns (1): city (2)",
        "constant in the training split and stay out of events (1): unit",
        "split=validation, to choose settings by (the default): 135 to learn from, 15 to measure against",
        "split=test, for the final comparison: 150 to learn from, 50 to measure against",
        "evaluation.samples=135 repeats none", "updates of 64 events",
    ):  # fmt: skip
        assert expected in " ".join(said.split()), said
    assert len(said.splitlines()) <= 24 and max(map(len, said.splitlines())) <= 120 and not wrong
    assert sorted(people.parent.rglob("*")) == before  # nothing is written


def test_every_compared_family_is_timed_unless_some_are_chosen(
    people: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genfam.running.pace.pace", lambda run, source: Pace(60, 64, 2.0))
    assert check([f"source.path={people}"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {family} " in said for family in ("autoregressive", "flow_matching", "gan", "vae"))
    assert "oracle " not in said.partition("training on")[2] and "together 8 min per seed" in said
    assert check([f"source.path={people}", "family=masked_diffusion,gan"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "left out: masked_diffusion on table" in said and "together 2 min" in said


def test_yaml_of_ones_own_joins(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = people.parent / "conf" / "source" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    text = (configuration_folder() / "source" / "table.yaml").read_text().replace("table.csv", str(people))
    mine.write_text(text.replace("name: table", "name: mine"))
    assert check(["--config-dir", str(people.parent / "conf"), "source=mine", *FAST]) == 0
    assert capsys.readouterr().out.startswith("source=mine: rows of 4 real numbers\n")


def test_images_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(160):
        file = tmp_path / "my_images" / ("a", "b")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9 if number < 3 else 16, 16), (number, 0, 0)).save(file)
    (tmp_path / "my_images" / "notes.txt").write_text("no image")
    chosen = [f"source.path={tmp_path / 'my_images'}", "source.size=8", *FAST[:1], "budget.train_flops=1e9"]
    assert check([*chosen, "budget.parameters=50000"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for expected in (
        "source=image_folder: images of 3 x 8 x 8 pixels with 256 levels", "160 images of 2 classes (a, b)",
        "1 left out (no images): notes.txt", "formats: PNG RGB (160)",
        "from 9 x 16 to 16 x 16 pixels; 3 not square", "0 smaller than 8 pixels", "smallest class: ",
    ):  # fmt: skip
        assert expected in said, said
    (tmp_path / "my_images" / "a" / "broken.png").write_bytes(b"\x89PNG nothing")
    assert check(chosen) == 2
    assert "got 1 of the first 161 files that cannot be read: a/broken.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["source.path=nowhere.csv"], "source.path: expected a file or a folder of images, found none at "),
        (["source=table", "source.path=nowhere.csv"], "source table: expected a file at "),
        (["source=image_folder", "source.folder=nowhere"], "expected a folder of images at "),
        (["source=tabel"], "no source 'tabel'; did you mean table?"),
        (["source.path=short.csv"], "at least 150 rows"),
        (["source.path=holes.csv"], "no missing values"),
        (["source=wine", "family=vae", "family.batch_size=200"], "expected at least 200 training events"),
        (["source=wine", "family=vae", "budget=smal"], "no budget 'smal'"),
    ],
)
def test_what_cannot_serve_is_said_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"a": range(5, 15), "b": "x"}).to_csv("short.csv", index=False)
    pd.DataFrame({"a": [1.5, None] * 100}).to_csv("holes.csv", index=False)
    assert check(arguments) == 2
    out, error = capsys.readouterr()
    assert not out and len(error.splitlines()) == 1
    assert error.startswith("genfam-check: error: ") and said in error


def test_the_pace_is_measured_on_the_runs_own_updates(configure: Any) -> None:
    run = configure("source=wine", *FAST)
    source = make_source(run)
    found = pace(run, source)
    family = make_family(run, source)
    plan(family, source, run.budget.train_flops)
    assert (found.updates, found.batch_size) == (family.total_updates, 64)
    assert 0 < found.seconds_per_update < 1 and found.seconds == found.updates * found.seconds_per_update
    assert pace(configure("source=wine", "family=gaussian"), source).seconds == 0


@pytest.mark.parametrize("family", plain_families())
@pytest.mark.parametrize(
    "source_name", ["wine", *(pytest.param(name, marks=pytest.mark.slow) for name in ("array", "level_array"))]
)
def test_every_family_learns_rows(family: str, source_name: str, configure: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.save(tmp_path / "array.npy", random.normal(size=(200, 1)))  # one dimension
    np.save(tmp_path / "level_array.npy", random.integers(0, 4, (200, 3)))
    own = () if source_name == "wine" else (f"source.path={tmp_path / source_name}.npy",)
    run = configure(f"family={family}", f"source={source_name}", *own, *TINY, "budget.parameters=10000")
    source = make_source(run)
    try:
        if preflight.why_not(run, source):
            raise NotModelled(family)
        model = make_family(run, source)
    except NotModelled:
        assert family == "masked_diffusion" and source_name != "level_array"
        return
    if model.trains:
        model.total_updates = 10**9
        optimisers = model.configure_optimizers()
        for _ in range(2):
            model.train().update(Batch(source.train[: model.batch_size]), optimisers, torch.autograd.backward)
    rows: Any = source
    drawn = model.eval().sample(30, generator=derived_generator(0, "test"))
    frame = rows.decode(drawn)
    assert len(frame) == 30 and list(frame.columns) == list(rows.decode(source.test).columns)
    assert torch.isfinite(rows.values(drawn)).all()
    if model.likelihood_kind not in (Likelihood.NONE, Likelihood.UNNORMALISED):
        assert torch.isfinite(model.log_prob(source.test[:5])).all()


def test_a_run_on_a_users_table_ends_as_rows_of_that_table(
    people: Path, configure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = configure("family=vae", "source=table", f"source.path={people}", "split=test", *TINY)
    assert preflight.check([run]) == {}
    record = experiment.execute(run)
    assert record.outcome is Outcome.OK, record.reason
    named = {m.name: m for m in record.metrics}
    judged = ("column_ks", "column_total_variation", "correlation_difference", "pair_total_variation", "fd_columns",
              "c2st_features", "coverage", "data_copying", "nll_nats")  # fmt: skip
    assert {name for name in judged if named[name].estimate is None} == set()
    assert run.judge == "pair_total_variation" and named[run.judge].estimate is not None
    out = people.parent / "deep" / "rows.csv"
    assert stored.sample([f"run={run.directory}", "n=20", f"out={out}"]) == 0
    assert "20 rows, 4 columns (age, city, unit, …)" in capsys.readouterr().out
    rows = pd.read_csv(out)
    assert list(rows.columns) == ["age", "city", "unit", "height"] and len(rows) == 20
    assert rows["age"].dtype == np.int64 and set(rows["city"]) <= {"Rome", "Oslo"} and set(rows["unit"]) == {"cm"}
    assert stored.sample([f"run={run.directory}", "n=20", f"out={out.with_suffix('.npz')}"]) == 0
    with np.load(out.with_suffix(".npz")) as file:
        assert np.array_equal(file["samples"][:, 0], rows["age"])  # the same seed, in the table's units
        assert file["samples"].shape == (20, 3)
    people.write_text(people.read_text().replace("Rome", "Roma"))  # another table is another run
    assert configure("family=vae", "source=table", f"source.path={people}", "split=test", *TINY).id != run.id


def test_points_of_a_known_source_are_no_table(configure: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = configure("family=gaussian", "source=ring", *TINY)
    assert experiment.execute(run).outcome is Outcome.OK
    assert stored.sample([f"run={run.directory}", "n=4", f"out={run.directory}/s.csv"]) == 2
    assert "expected a file name that ends in .npz for samples of ring, got" in capsys.readouterr().err


def test_it_is_a_command() -> None:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert f'genfam-check = "{module.__name__}:check"' in text
    assert "genfam.commands.check" in sys.modules
