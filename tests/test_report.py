"""The report on a store made by hand: what it writes, what it says, and what it makes of hostile input."""

import csv
import io
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import published_tables
import pytest
from matplotlib.image import imread
from rich.console import Console

from genfam import report
from genfam.comparing.scorecard import COLUMNS, scorecard
from genfam.files import write_atomically
from genfam.records.frame import to_frame
from genfam.records.store import Store, load_published
from genfam.report import finish, publish
from genfam.report.findings import findings
from genfam.report.markdown import Figure, escape
from genfam.report.pictures import Drawn, load_drawn
from genfam.report.style import PALETTE, label, looks, slug
from genfam.report.tables import Cell, cell, headline, summarise
from genfam.report.terminal import blocks
from genfam.types import Estimate, Kind, Likelihood, Measurement, Outcome
from stores import HOSTILE, ROLES, SPREAD, draw, fill, make


@pytest.fixture
def suite(tmp_path, monkeypatch) -> Path:
    """A store whose report draws one stand-in for its figures, which take seconds."""

    def draw_nothing(folder, *_):
        write_atomically(folder / "figures" / "headline.png", b"a figure")
        return [Figure("headline.png", "caption")]

    monkeypatch.setattr(report, "_draw", draw_nothing)
    monkeypatch.setattr(report, "write_page", lambda path, *_, **__: path)  # tests/test_page.py
    return fill(tmp_path / "outputs" / "quick")


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> tuple[Path, str]:
    """A store with its whole report, and what the terminal said."""
    folder = fill(tmp_path_factory.mktemp("reported") / "outputs" / "quick")
    return folder, say(folder)


def say(folder: Path, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    finish(folder, folder.parent.parent / "results", command="make benchmark", console=console)
    return console.file.getvalue()


def test_finish_writes_and_says_all(reported):
    suite, text = reported
    with open(suite / "scorecard.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS
    (line,) = [x for x in lines if (x["source"], x["family"], x["metric"]) == ("digits", "beta", "fd_net")]
    assert (line["n_runs"], line["n_ok"], line["rank"], line["higher_is_better"]) == ("3", "2", "2", "False")
    assert float(line["mean"]) == pytest.approx(4.01)
    assert float(line["oracle"]) == pytest.approx(1.0 + 0.02 / 3)
    assert "47 ok, 1 diverged, 0 failed, 0 interrupted" in text
    assert "Nothing is published yet for suite quick" in text
    assert str(suite / "scorecard.md") in text
    # Alpha and beta scatter alike: four degrees of freedom.
    half = 2.776445 * SPREAD.std(ddof=1) / math.sqrt(3)
    assert f"{2 + SPREAD.mean():.2f} ± {half:.2f}" in text
    page = (suite / "scorecard.md").read_text()
    assert "fd\\_net" not in page  # an underscore between letters stays bare
    with open(suite / "comparisons.csv", newline="") as file:
        pairs = list(csv.DictReader(file))
    own = [p for p in pairs if (p["source"], p["metric"]) == ("grid", "fd_net")]
    told = [(p["family_a"], p["family_b"], p["role_b"], p["better"], p["n"]) for p in own]
    assert told[0] == ("alpha", "beta", "contestant", "alpha", "3")
    assert [row[:3] for row in told[1:]] == [("alpha", "gauss", "floor"), ("beta", "gauss", "floor")]
    names = {path.name for path in (suite / "figures").iterdir()}
    drawn = [f"samples_{source}.png" for source in ("grid", "digits", "stacked")]
    drawn += [f"modes_{source}.png" for source in ("grid", "stacked", "die")]
    assert names == {"headline.png", *drawn}
    assert str(suite / "report.html") in text and (suite / "report.html").stat().st_size > 4e6  # Plotly is inside
    for name in names:
        picture = imread(suite / "figures" / name)
        assert picture.shape[0] > 100, name
        assert picture[..., :3].std() > 0.01, name  # something is drawn
        assert (suite / "figures" / name).stat().st_size < 400_000


def test_families_are_ordered_by_rank_then_the_yardsticks(suite):
    records = Store(suite).load()
    (digits,) = [t for t in findings(records).summary({}).tables if t.source == "digits"]
    assert [row.family for row in digits.rows] == ["alpha", "beta", "gauss", "truth"]
    assert digits.columns == ["fd_net ↓", "coverage ↑", "evaluations_per_sample ↓", "train_seconds ↓", "diverged"]
    assert [row.cells[0].leads for row in digits.rows] == [True, False, False, False]
    assert [row.cells[-1].text for row in digits.rows] == ["0/3", "1/3", "0/3", "0/3"]
    assert not any(row.cells[1].leads for row in digits.rows)  # no difference: nobody leads
    untuned = "untuned, by the recipe for this kind of event: alpha, beta"
    assert digits.choice == ["clearly best: alpha", "clearly worse: beta", untuned]


def test_markdown_tables_are_whole(reported):
    suite, _ = reported
    page = (suite / "scorecard.md").read_text()
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    stability = [lines for lines in tables if "seed_spread (" in lines[0]]
    assert len(stability) == 4
    assert sum("lost (" in lines[0] for lines in stability) == 1  # elsewhere all families lost the same share: none
    for lines in stability:
        assert [line.split(" | ")[0] for line in lines[2:]] == ["| alpha", "| beta"]  # contestants only: no curves
        assert len({line.count("|") for line in lines}) == 1
    tables = [lines for lines in tables if lines not in stability]
    assert len(tables) == 4
    for lines in tables:
        assert len(lines) == 2 + len(ROLES)
        assert len({line.count("|") for line in lines}) == 1
        assert re.fullmatch(r"\|---(\|--:)+\|", lines[1])
        assert lines[2].startswith("| alpha | **2.0")
        assert lines[-1].startswith("| truth (oracle) |")
    for expected in (
        "- seeds: 0, 1, 2",
        "- command: make benchmark",
        "47 ok, 1 diverged",
        "Levene's test",
        "code: abc",
    ):
        assert expected in page
    for name in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", page):
        assert (suite / name).exists()
    assert len(re.findall(r"\]\(figures/", page)) == len(list((suite / "figures").glob("*.png")))


def test_partial_empty_and_broken_stores_are_reported(tmp_path):
    folder = tmp_path / "outputs" / "quick"
    assert "nothing to report" in say(folder)
    assert not folder.exists()
    store = Store(folder)
    store.write(make("alpha", "digits", 0, 0.0, outcome=Outcome.FAILED))
    text = say(folder)
    assert "0 ok, 0 diverged, 1 failed" in text
    assert (folder / "scorecard.csv").exists()
    store.write(make("beta", "die", 0, 3.0))
    (store.directory("betadie-0") / "samples.npz").write_bytes(b"not a zip")
    with pytest.warns(UserWarning, match=r"broken samples.*samples.npz"):
        text = say(folder)
    assert re.search(r"beta\W+3\W", text)  # one run: no ±
    assert "**" not in (folder / "scorecard.md").read_text()  # and no verdict
    assert not (folder / "figures" / "samples_die.png").exists()


def test_published_results_are_compared(suite):
    results = suite.parent.parent / "results"
    target = publish(suite, results, "make benchmark SUITE=quick")
    assert len(load_published(target)) == 48
    assert "make benchmark SUITE=quick" in (target / "scorecard.md").read_text()
    assert (target / "figures" / "headline.png").exists()
    assert (target / "scorecard.csv").read_bytes() == (suite / "scorecard.csv").read_bytes()
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    text = say(target)  # what was published can be shown on a machine that never ran it
    assert "47 ok, 1 diverged" in text
    assert "nothing was written" in text
    assert before == {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    # fd_net and coverage of four families on four sources
    assert re.search(r"32 of 32 cells agree with \S*quick within their intervals\.", say(suite).replace("\n", " "))
    store = Store(suite)
    for seed in range(3):
        store.write(make("alpha", "grid", seed, 70.0 + float(SPREAD[seed])))
    text = say(suite)
    assert "31 of 32 cells agree" in text
    assert "fd_net of alpha on grid: 70.01 against 2.007 published" in text


def test_published_tables_come_out_again_from_their_records(suite):
    target = publish(suite, suite.parent.parent / "results", "make benchmark SUITE=quick")
    before = {path.name: path.read_text() for path in target.glob("scorecard.*")}
    for name in ("scorecard.csv", "comparisons.csv"):
        (target / name).write_text("of an older rule")
    published_tables.rewrite(target)
    after = {path.name: path.read_text() for path in target.glob("scorecard.*")}
    assert after["scorecard.csv"] == before["scorecard.csv"]
    assert [line for line in after["scorecard.md"].splitlines() if "report made at" not in line] == [
        line for line in before["scorecard.md"].splitlines() if "report made at" not in line
    ]
    assert (target / "comparisons.csv").read_bytes() == (suite / "comparisons.csv").read_bytes()
    assert imread(target / "figures" / "headline.png").shape[0] > 100  # drawn anew, where the store had a stand-in


def test_hostile_names_break_nothing(tmp_path):
    folder = tmp_path / "outputs" / "quick"
    store = Store(folder)
    for seed in range(2):
        record = make(HOSTILE, "../" + HOSTILE, seed, 1.0 + seed)
        record.run_id = f"r{seed}"
        store.write(record)
        np.savez(store.directory(record.run_id) / "samples.npz", **draw("digits", np.random.default_rng(0)))
    text = say(folder)
    assert "\x1b" not in text
    assert "a|b" in text
    page = (folder / "scorecard.md").read_text()
    assert "<script" not in page
    assert "\x1b" not in page
    assert not re.search(r"(?<!\\)`", page)
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines if not line.startswith("|---")}) == 1
    assert "http:" not in page
    assert not re.search(r"(?<!\\)\[l", page)
    assert sum(line.startswith("## ") for line in page.splitlines()) == 2  # the source and the provenance
    assert {p for kind in ("*.png", "*.svg") for p in tmp_path.rglob(kind)} == set((folder / "figures").iterdir())
    assert escape("fd_digits_cnn") == "fd_digits_cnn"
    assert escape("_x_ 2*3") == r"\_x\_ 2\*3"


def test_file_names_are_safe_and_distinct():
    assert slug("stacked_digits") == "stacked_digits"
    names = {slug(name) for name in ("../x", "..x", "x/", "x", "", "é")}
    assert len(names) == 6
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in names)
    assert label("a$b") == r"a\$b"
    assert not label("_hidden").startswith("_")


def test_a_family_has_one_colour_whoever_stands_beside_it():
    assert list(looks(ROLES)) == ["alpha", "beta", "gauss", "truth"]
    four = ["autoregressive", "flow_matching", "gan", "vae"]
    all_four = looks(dict.fromkeys([*reversed(four), "mine"], "contestant"))
    assert [all_four[family].colour for family in four] == list(PALETTE[:4])
    for family in ("vae", "gan"):
        assert looks({family: "contestant", "mine": "contestant"})[family] == all_four[family]
    assert looks({"mine": "contestant", "vae": "contestant"})["mine"].marker
    many = looks({f"f{i:02}": "contestant" for i in range(20)})
    assert len(set(many.values())) == 20  # told apart by marker where colours repeat


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (1.23456, 0.0567, "1.235 ± 0.057"),
        (25.0, 0.0, "25 ± 0"),
        (0.5, None, "0.5"),
        (123456.7, 89.0, "123457 ± 89"),
        (2.3e9, 1.0e7, "2.3e+09 ± 1e+07"),
        (0.0, 0.02, "0.000 ± 0.020"),
        (-0.001, 0.5, "-0.00 ± 0.50"),
        (math.inf, None, "∞"),
    ],
)
def test_numbers_are_as_precise_as_their_intervals(mean, half, text):
    low, high = (math.nan, math.nan) if half is None else (mean - half, mean + half)
    row = {"mean": mean, "ci_low": low, "ci_high": high, "n_ok": 3, "rank": math.nan}
    assert cell(row) == Cell(text)


def test_kinds_of_likelihood_are_marked():
    def run(family, kind, seed):
        nll = Measurement("nll_nats", "nats", False, Estimate(3.0, 0.1, 9), {"likelihood": kind.value}, Kind.LIKELIHOOD)
        return make(family, "digits", seed, 1.0, likelihood=kind, extra=[nll])

    kinds = {"ar": Likelihood.EXACT, "vae": Likelihood.LOWER_BOUND, "flow": Likelihood.ESTIMATE}
    frame = to_frame([run(family, kind, seed) for family, kind in kinds.items() for seed in range(2)])
    (digits,) = summarise(scorecard(frame), frame).tables
    column = digits.columns.index("nll_nats ↓")
    found = {row.family: row.cells[column].text for row in digits.rows}
    assert found == {"ar": "3 ± 0", "vae": "≤ 3 ± 0", "flow": "≈ 3 ± 0"}
    assert headline(scorecard(frame), "nowhere") is None


def test_narrow_terminals_get_blocks_that_fit(suite):
    frame = to_frame(Store(suite).load())
    tables = summarise(scorecard(frame), frame).tables
    parts = blocks(tables[0], 60)
    assert len(parts) > 1
    assert [column for part in parts for column in part.columns] == tables[0].columns
    assert max(map(len, say(suite, width=60).split("\nMean ±")[0].splitlines())) <= 60
    assert "…" not in say(suite, width=60)


def test_frequencies_of_states_and_modes():
    samples = np.array([[0, 0], [1, 0], [1, 0], [2, 1]], dtype=np.uint8)
    found = Drawn(0, samples, samples[:2], 3).frequencies()
    assert found is not None
    own, truth, exact = found
    assert own.tolist() == [0.25, 0.5, 0, 0, 0, 0.25, 0, 0, 0]
    assert truth.sum() == 1.0
    assert not exact
    # two samples of four lie off every mode: their share is not given to the modes
    modes = Drawn(0, samples, samples, 3, np.array([1, 1]), np.array([0.5, 0.5])).frequencies()
    assert modes is not None
    assert modes[0].tolist() == [0.25, 0.25]
    assert modes[2]
    # a file that keeps four of the ten samples counted
    modes = Drawn(0, samples, samples, 3, np.array([4, 6]), np.array([0.5, 0.5])).frequencies()
    assert modes is not None
    assert modes[0].tolist() == [0.4, 0.6]
    modes = Drawn(0, samples, samples, 3, np.array([4, 6]), np.array([0.5, 0.5]), 20).frequencies()
    assert modes is not None
    assert modes[0].tolist() == [0.2, 0.3]
    assert Drawn(0, np.zeros((2, 1, 8, 8), np.uint8), np.zeros((2, 1, 8, 8), np.uint8), 17).frequencies() is None


def test_samples_that_do_not_fit_are_left_out(tmp_path):
    path = tmp_path / "samples.npz"
    assert load_drawn(path, 0) is None
    images = np.zeros((2, 1, 4, 4), np.uint8)
    for content in (
        dict(samples=images),
        dict(samples=images, reference=images[..., :2], levels=4),
        dict(samples=images, reference=images, levels=4, mode_counts=np.zeros(3)),
        dict(samples=np.array([{"pickled": 1}], dtype=object), reference=images),
        dict(samples=images, reference=images, trajectory=np.zeros((3, 2, 1, 4, 4))),  # at no times
        dict(
            samples=images,
            reference=images,
            trajectory=np.zeros((3, 2, 2)),
            trajectory_times=np.zeros(3),
            trajectory_kind=np.array(""),
        ),
        dict(
            samples=images,
            reference=images,
            trajectory=np.zeros((1, 2, 1, 4, 4)),
            trajectory_times=np.array([np.nan]),
            trajectory_kind=np.array(""),
        ),
    ):
        np.savez(path, **content)
        with pytest.warns(UserWarning, match="broken samples"):
            assert load_drawn(path, 0) is None
    np.savez(path, samples=images, reference=images, levels=4)
    drawn = load_drawn(path, 3)
    assert drawn is not None
    assert drawn.levels == 4
    assert drawn.seed == 3
    assert drawn.is_image


def test_scorecard_of_a_store_needs_no_order(suite):
    records = Store(suite).load()
    pd.testing.assert_frame_equal(scorecard(to_frame(records)), scorecard(to_frame(records[::-1])))


def test_pairs_and_trials_stand_on_the_page(tmp_path):
    folder = tmp_path / "outputs" / "quick"
    store, rng = Store(folder), np.random.default_rng(1)
    for family, base in (("alpha", 1.0), ("beta", 1.1)):
        for seed in range(5):
            fd = base + float(rng.normal(0.0, 0.5))
            truth = Measurement("total_variation", "1", False, Estimate(fd**3, 0.01, 500), {}, Kind.DIVERGENCE)
            store.write(make(family, "die", seed, fd, extra=(truth,)))
    say(folder)
    page = (folder / "scorecard.md").read_text()
    assert re.search(r"alpha and beta: with 5 seeds alpha has the better fd_net in \d+ % of pairs of runs; about", page)
    assert "fd_net: τ = 1.00" in page and "with total_variation over 10 runs" in page


def test_a_users_own_metric_has_a_column_and_what_compact_tables_leave_out_has_none():
    extra = [
        Measurement("worst_marginal", "1", False, Estimate(0.5, 0.1, 500), {}),
        Measurement("density", "1", False, Estimate(0.5, 0.1, 500), {}, Kind.FIDELITY),
    ]
    frame = to_frame([make("alpha", "digits", seed, 2.0 + seed, extra=extra) for seed in range(3)])
    (digits,) = summarise(scorecard(frame), frame).tables
    assert digits.columns[0] == "fd_net ↓" and digits.columns[-2:] == ["worst_marginal ↓", "diverged"]
    assert not any(column.startswith("density") for column in digits.columns)


def test_runs_that_failed_do_not_hide_what_is_published(suite, tmp_path):
    results = tmp_path / "results"
    publish(suite, results, "make benchmark")
    broken = Store(tmp_path / "other/quick")
    for seed in range(3):
        broken.write(replace(make("alpha", "die", seed, 1.0, outcome=Outcome.FAILED), reason="no such data_dir"))
    console = Console(file=io.StringIO(), width=200)
    finish(broken.folder, results, console=console)
    said = console.file.getvalue()
    assert "None of the 3 runs" in said and "no such data_dir" in said and "published records of" in said
    assert "clearly best: alpha" in said
