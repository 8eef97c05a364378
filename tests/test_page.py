"""The page without a browser: what it says, that it says nothing else, and that it runs no script but its own."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genfam import glossary
from genfam.build import configuration_folder
from genfam.commands import scripts, stored
from genfam.comparing.scorecard import scorecard
from genfam.comparing.verdicts import Standing
from genfam.records.frame import to_frame
from genfam.records.publication import publishable
from genfam.records.sampling_costs import of_suite
from genfam.records.store import Store, load_published, read_record, write_published
from genfam.report.answer import _fewest, answer, sentence
from genfam.report.cost_charts import cost_chart
from genfam.report.costs import costs
from genfam.report.findings import findings
from genfam.report.interactive import headline_chart, plain
from genfam.report.page import build, render, write_page
from genfam.report.page_tables import run_rows, skill_rows
from genfam.report.papers import selected, tables, tex
from genfam.report.series import curves, diagnosis
from genfam.report.style import looks
from genfam.report.tables import bracketed, cell, choice, summarise
from genfam.running import experiment
from genfam.types import CurvePoint, Estimate, Kind, Measurement
from page_of import page_arguments
from stores import HOSTILE, ROLES, make, rich, trace

RESULTS = Path(__file__).parent.parent / "results"


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """What `write_page` takes, of a store with everything in it."""
    return page_arguments(rich(tmp_path_factory.mktemp("page") / "outputs" / "quick"))


@pytest.fixture(scope="module")
def page(arguments):
    return build(*arguments, published=False)


@pytest.fixture(scope="module")
def text(arguments) -> str:
    return write_page(*arguments).read_text(encoding="utf-8")


def test_every_number_is_the_scorecards(page, arguments):
    card = arguments[3].card
    shown = {(row.source, row.family, row.metric): row for row in page.scores}
    counted = card[card["n_ok"] > 0]
    assert len(shown) == len(page.scores) == len(counted) > 60
    for row in counted.to_dict("records"):
        there = shown[row["source"], row["family"], row["metric"]]
        assert there.text == cell(row).text
        assert float(there.value) == row["mean"] and there.fingerprint == row["fingerprint"]
        assert there.leads == row["leads"]
    grid = [row for row in page.scores if row.source == "grid" and row.metric == "fd_net"]
    bars = {row.family: row.bar for row in grid}
    assert bars["alpha"].low < bars["alpha"].mean < bars["alpha"].high < bars["beta"].low
    assert bars["alpha"].oracle == pytest.approx(bars["truth"].mean)
    assert bars["alpha"].floor == pytest.approx(bars["gauss"].mean)


def claims(page, source):
    return {c.aspect: c for c in next(s for s in page.sources if s.name == source).answer.claims}


def test_the_answer_names_leaders_and_ties(page):
    grid = claims(page, "grid")
    assert grid["choice"].best == ["alpha"] and grid["choice"].detail.startswith(
        "clearly best: alpha; clearly worse: beta"
    )
    assert grid["distance"].best == ["alpha"]
    assert sentence(grid["distance"]).startswith("alpha leads (alpha 2.01 ± ")
    assert "fresh real data 1.01, of which alpha has 1.99 times [1.54, 2.77]" in sentence(grid["distance"])
    assert grid["coverage"].best == [] and grid["coverage"].detail.startswith("no difference (")
    assert "beta shows mode_collapse in 1 of 3 runs" in grid["stability"].detail
    digits = claims(page, "digits")
    assert "beta 1 of 3 runs" in digits["stability"].detail
    assert not digits["stability"].best  # Fisher's test of one lost in three against none separates nothing
    assert "without a number" not in digits["distance"].detail


def test_nine_lost_runs_of_ten_are_more_than_none():
    assert _fewest({"a": (0, 10), "b": (9, 10), "c": (1, 10)}) == ["a", "c"]
    assert _fewest({"a": (0, 3), "b": (1, 3)}) == []


def said_of(records, contestants):
    found = findings(records)
    arguments = found.card, found.stability, found.metric_trial, contestants, found.verdicts
    return {claim.aspect: claim for claim in answer("die", *arguments, {}).claims}


def test_one_run_gets_no_ranking_and_noise_separates_nothing():
    noise = {"alpha": [1.0, 2.0, 3.0], "beta": [2.1, 1.1, 3.1]}
    records = [make(name, "die", seed, value) for name, own in noise.items() for seed, value in enumerate(own)]
    said = said_of(records, ["alpha", "beta"])
    assert sentence(said["distance"]).startswith("Nobody leads: not separated with 3 seeds (alpha 2")
    needed = int(findings(records).comparisons.set_index("metric").loc["fd_net", "seeds_needed"])
    assert 1000 < needed < 3000  # 2 (1.96 + 0.84)² / 0.1² = 1570, were the variances known
    expected = f"Not separated with 3 seeds: alpha, beta (about {needed} seeds would separate them)"
    expected += "; untuned, by the recipe for this kind of event: alpha, beta."
    assert sentence(said["choice"]) == expected
    said = said_of(records[:3], ["alpha"])
    assert sentence(said["distance"]).startswith("Nobody to compare with, so no ranking (alpha 2")
    assert not any(claim.best for claim in said.values())
    said = said_of(records[:1], ["alpha"])
    assert sentence(said["distance"]) == "One run each, so no ranking (alpha 1)."


@pytest.mark.parametrize(
    ("scatter", "words"), [(0.01, "worse than gauss: beta"), (15.0, "not better than gauss: beta")]
)
def test_what_loses_to_the_gaussian_never_leads(scatter, words):
    """A collapsed model, whether its seeds agree or differ so much that no test separates it."""
    values = {"alpha": [2.0, 2.1, 2.2], "beta": [20.0 - scatter / 2, 20.0, 20.0 + scatter]}
    values |= {"gauss": [9.0, 9.1, 9.2], "truth": [1.0, 1.01, 1.02]}
    records = [
        make(name, "die", seed, value, ROLES[name]) for name, own in values.items() for seed, value in enumerate(own)
    ]
    said = said_of(records, ["alpha", "beta"])
    assert words in said["choice"].detail  # the floor by its name
    assert "beta" not in said["distance"].best


def test_where_nothing_beats_the_gaussian_the_source_is_undertrained():
    values = {"alpha": [12.0, 12.1, 12.2], "beta": [20.0, 20.1, 20.2], "gauss": [9.0, 9.1], "truth": [1.0, 1.1]}
    records = [
        make(name, "die", seed, value, ROLES[name]) for name, own in values.items() for seed, value in enumerate(own)
    ]
    said = said_of(records, ["alpha", "beta"])
    assert said["choice"].detail.startswith("undertrained, none is significantly better than gauss: alpha, beta")
    assert said["choice"].best == said["distance"].best == []
    assert sentence(said["distance"]).startswith("Nobody that may be chosen leads (alpha 12.1")


def test_the_seeds_that_would_separate_are_those_of_the_pairs_that_are_left():
    values = {"a": [1.0, 1.4, 1.2], "b": [1.3, 1.7, 1.5], "c": [1.6, 1.2, 1.5], "d": [90.0, 90.3, 90.1]}
    records = [make(name, "die", seed, value) for name, own in values.items() for seed, value in enumerate(own)]
    found = findings(records)
    own = found.comparisons[(found.comparisons["metric"] == "fd_net") & (found.comparisons["better"] == "")]
    assert [verdict.standing.value for verdict in found.verdicts] == ["not separated"] * 3 + ["clearly worse"]
    assert all(verdict.seeds == 3 for verdict in found.verdicts)
    ends = own["seeds_needed"].min(), own["seeds_needed"].max()
    assert all(verdict.seeds_needed == ends for verdict in found.verdicts)
    line = f"not separated with 3 seeds: a, b, c (about {ends[0]:.0f} to {ends[1]:.0f} seeds would separate them)"
    assert choice("die", found.verdicts)[0] == line
    below = [replace(found.verdicts[0], standing=Standing.BELOW, floor=floor) for floor in ("gaussian", "affine_map")]
    below.append(replace(found.verdicts[0], standing=Standing.NO_BETTER, floor="gaussian"))
    said = [choice("die", [verdict])[0] for verdict in below]
    assert said == [
        "worse than the fitted Gaussian: a", "worse than affine_map: a", "not better than the fitted Gaussian: a",
    ]  # fmt: skip


def test_a_distance_that_misleads_is_warned_of():
    records = []
    for place in range(10):
        truth = Measurement("total_variation", "1", False, Estimate(0.1 * place, 0.01, 500), {}, Kind.DIVERGENCE)
        records.append(make("alpha" if place % 2 else "beta", "die", place, 5.0 - 0.1 * place, extra=(truth,)))
    found = findings(records)
    contestants = ["alpha", "beta"]
    said = answer("die", found.card, found.stability, found.metric_trial, contestants, found.verdicts, {})
    assert said.warning.startswith("Beware: here fd_net does not order runs as the true divergence does")


def test_names_are_text_and_no_script_is_added(text, page):
    charts = text.count('<figure class="chart"')
    assert charts > 20
    assert text.count("<script") == charts + 4  # their data, the page's two scripts and two of data
    assert "&lt;script&gt;[l](u)" in text
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None and "default-src 'none'" in policy[1] and policy[1].count("sha256-") == 2
    assert "unsafe-inline" not in policy[1].split("script-src")[1].split(";")[0]
    specs = re.findall(r'<script type="application/json">(.*?)</script>', text)
    assert len(specs) == charts
    for spec in specs:
        assert not set("<>&") & set(spec)
        assert json.loads(spec)["data"]
    assert plain("<b>%{x}</b>") == "&lt;b&gt;%&#123;x}&lt;/b&gt;"
    assert len(plain("x" * 300)) == 30


def test_it_is_one_file_without_addresses_or_machine_paths(text):
    markup = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r'(?:src|href)="(?!data:|#)(?![\w.-]+/(?:record\.json|config\.yaml)")', markup)
    assert "url(" not in markup
    assert str(Path.home() / "secret") not in text
    assert len(text) < 12e6


def test_runs_lead_to_their_records(arguments, page):
    path, store, *_ = arguments
    assert len(page.runs) == len(Store(store).current())
    for run in page.runs:
        assert (path.parent / run.record).is_file()
        assert run.command == f"genfam-repeat run={run.run_id} output_dir=repeated"
    assert len(page.configurations) < len(page.runs)  # one for all seeds
    run = next(run for run in page.runs if run.run_id == "alpha-grid-1-4.0")
    assert "seed: 1" in run.head and "learning_rate_factor: 4.0" in run.head
    assert "train_flops: 60000000000.0" in page.configurations[run.configuration]
    records = Store(store).current()
    results = path.parent.parent.parent / "results" / "quick"
    rows, _ = run_rows(records, arguments[3].card, path, results, published=True)
    assert rows[2].record == "../../results/quick/records.jsonl.gz#line=3"
    address = "records=../../results/quick/records.jsonl.gz"
    assert rows[2].command == f"genfam-repeat {address} id={rows[2].run_id} output_dir=repeated"
    needy = replace(records[0], run_id="a b", config={"data_dir": "<path>/sets", "plugins": ["mine"]})
    (row,), _ = run_rows([needy], arguments[3].card, path, results, published=True)
    assert row.command.endswith("'id=a b' output_dir=repeated data_dir=FOLDER plugins=mine")


def test_the_command_repeats_a_run(configure, tmp_path, monkeypatch, capsys):
    run = configure("family=gaussian", "source=die", "budget=smoke", "evaluation.samples=400")
    first = experiment.execute(run)
    monkeypatch.chdir(tmp_path)
    records = write_published(tmp_path / "results" / "single", [publishable(first)])
    for number, words in enumerate([[f"run={run.directory}"], [f"records={records}", f"id={first.run_id}"]]):
        assert stored.repeat([*words, f"output_dir=repeated{number}"]) == 0, capsys.readouterr().err
        again = read_record(tmp_path / f"repeated{number}" / run.suite / first.run_id)
        assert again is not None
        assert [m.estimate for m in again.metrics] == [m.estimate for m in first.metrics]


def test_samples_say_whose_they_are_or_why_there_are_none(page, tmp_path):
    found = {source.name: source.samples for source in page.sources}
    assert "first samples of seed 0" in found["grid"].note
    assert [chart.title.split(",")[0] for chart in found["grid"].densities] == [
        "real data", "alpha", "beta", "gauss", "truth"
    ]  # fmt: skip
    assert len(found["digits"].pictures) == 6 and len(found["digits"].nearest) == 4  # no neighbours of the hostile one
    table = found["die"].table
    assert table is not None and table.columns[0] == "true"
    assert [state.masses[0] for state in table.states] == ["16.67 %"] * 6
    for column in range(len(table.columns)):
        assert sum(float(state.masses[column].split()[0]) for state in table.states) == pytest.approx(100, abs=0.1)
    assert "No run here has stored samples" in found[HOSTILE].note


def test_published_records_bring_their_pictures(tmp_path, capsys):
    arguments = ["--suite", "quick", "--results_dir", str(RESULTS), "--output_dir", str(tmp_path)]
    assert scripts.report(arguments) == 0
    written = tmp_path / "quick" / "report.html"
    assert str(written) in capsys.readouterr().out.replace("\n", "")
    text = written.read_text(encoding="utf-8")
    assert "Made from published records" in text and "not part of what was published" in text
    assert text.count('class="published" src="data:image/png;base64,') == 7
    assert len(text) < 12e6
    assert scripts.report(arguments) == 0  # a folder that holds nothing but a page is no store
    assert "published records" in capsys.readouterr().out


def test_every_published_metric_is_defined():
    names = {row for card in RESULTS.glob("*/scorecard.csv") for row in pd.read_csv(card)["metric"]}
    assert len(names) > 20
    assert not [name for name in names if glossary.metric(name) == glossary.UNKNOWN]
    assert glossary.metric("somebody's own") == glossary.UNKNOWN
    conf = configuration_folder()
    assert {name.removesuffix("_*") for name in glossary.SOURCES} == {
        path.stem for path in (conf / "source").glob("*.yaml")
    }
    assert set(glossary.FAMILIES) == {path.stem for path in (conf / "family").glob("*.yaml")}


def test_the_front_is_of_those_that_none_beats():
    wanted = {
        "cheap": (1.0, 5.0, True),
        "beaten": (2.0, 6.0, False),
        "dear": (9.0, 1.0, True),
        "twin": (1.0, 5.0, True),
    }
    records = [
        replace(make(name, "die", seed, quality), evaluations_per_sample=asked)
        for name, (asked, quality, _) in wanted.items()
        for seed in range(2)
    ]
    found = costs(scorecard(to_frame(records)), "die", wanted)
    assert {cost.family: cost.front for cost in found.points} == {name: front for name, (*_, front) in wanted.items()}
    assert [cost.family for cost in found.points] == ["cheap", "twin", "beaten", "dear"]
    assert found.lines == []
    assert costs(scorecard(to_frame(records)), "nowhere", wanted).points == []


def test_solver_steps_are_a_line_and_on_the_front_where_none_beats_them(page, text):
    source = next(source for source in page.sources if source.name == "digits")
    data = json.loads(source.cost.spec)["data"]
    bold = [trace for trace in data if trace.get("line", {}).get("width") == 3]
    assert len(bold) == 1 and bold[0]["x"] == [1.0, 5.0, 25.0]
    faint = [trace for trace in data if trace.get("line", {}).get("width") == 1]
    assert len(faint) == 3
    assert np.mean([trace["y"] for trace in faint], axis=0) == pytest.approx(bold[0]["y"])
    assert [trace["x"] for trace in data if trace.get("name") == "Pareto front"] == [
        [1.0, 5.0]
    ]  # 25 steps are no better
    rows = [row for row in source.cost_rows if row["family"] == "alpha"]
    assert [row["setting"] for row in rows] == ["as run", "steps=5", "steps=25"]
    assert [row["as_run"] for row in rows] == ["yes", "", ""] and [row["front"] for row in rows] == ["yes", "yes", ""]
    assert rows[1]["milliseconds"] == "4"
    assert "steps=5" in text and next(s for s in page.sources if s.name == "grid").cost_rows == []


def test_a_setting_needs_every_seed_to_be_on_the_front(arguments):
    card, records = arguments[3].card, arguments[2]
    rows = of_suite(arguments[1], records)
    assert len(rows) == 9
    part = rows[(~rows["knobs"].str.contains('"steps": 5}')) | (rows["seed"] != 2)]
    found = costs(card, "digits", ["alpha", "beta"], part)
    alpha = [point for point in found.points if point.family == "alpha"]
    assert [(point.setting, point.part, point.front) for point in alpha] == [
        ("", "", True), ("steps=5", "2 of 3 runs", False), ("steps=25", "", True)
    ]  # fmt: skip
    assert np.isnan(alpha[1].high)
    only = costs(card, "digits", ["alpha", "beta"], rows[rows["seed"] == 0])
    assert [point.as_run for point in only.points if point.family == "alpha"] == [False, True, False, False]
    figure = cost_chart(only, looks({"alpha": "contestant", "beta": "contestant"}), {}, {})
    shown = [trace for trace in figure.data if trace.mode == "markers" and trace.name == "alpha"]
    assert [trace.marker.symbol for trace in shown] == ["circle-open", "circle", "circle-open", "circle-open"]
    assert sorted(len(seed) for seed in found.lines[0].seeds) == [2, 3, 3]
    assert of_suite(arguments[1], [r for r in records if r.family == "beta"]).empty
    other = [replace(m, protocol={"samples": "7"}) for m in records[0].metrics]
    assert of_suite(arguments[1], [replace(r, metrics=other) for r in records]).empty  # measured anew, otherwise


def test_means_of_curves_need_every_seed():
    records = [make("alpha", "die", seed, 1.0 + seed) for seed in range(2)]
    records[1].curve = records[1].curve[:4]
    still = make("gauss", "die", 0, 9.0, "floor")
    still.curve = [CurvePoint(0.0, "fd_net", 9.0)]
    found = curves([*records, still], ["alpha", "gauss"])
    assert found is not None and found.metric == "fd_net"
    assert sorted(found.means["alpha"]) == [1e8, 2e8, 3e8, 4e8]
    assert found.means["alpha"][1e8] == pytest.approx(6.5)
    assert found.marks == {"gauss": 9.0} and "gauss" not in found.seeds


def test_few_sources_have_no_answer_beside_their_own(page):
    assert page.skills == [] and page.left_out == [] and "Skill on all sources together" not in render(page)


def test_who_was_not_run_everywhere_is_named_beside_the_whole():
    roles = {"alpha": "contestant", "beta": "contestant", "rare": "contestant", "gauss": "floor", "truth": "oracle"}
    values = {"alpha": 2.0, "beta": 3.0, "rare": 2.5, "gauss": 9.0, "truth": 1.0}
    records = [
        make(name, source, seed, values[name] + 0.1 * seed, role)
        for name, role in roles.items()
        for source in ("die", "digits", "grid", "ring", "mnist", "stacked_digits")
        for seed in range(1 if (name, source) == ("rare", "die") else 3)
    ]
    found = findings(records)
    page = build(Path("report.html"), Path(), records, found, found.summary({}), {}, published=False)
    assert sorted(row.family for row in page.skills) == ["alpha", "beta"] and page.left_out == ["rare"]
    assert "Left out, as not run as often on every source: rare." in render(page)


def test_a_short_interval_holds_its_value():
    assert bracketed({"value": 0.9124, "ci_low": 0.9118, "ci_high": 0.9131}) == "0.912 [0.912, 0.913]"
    assert bracketed({"value": 0.9, "ci_low": float("nan"), "ci_high": float("nan")}) == "0.9"


def test_diagnoses_come_by_name(page):
    assert ("grid", "beta", 0, "mode_collapse") in page.diagnoses
    record = make("alpha", "die", 0, 1.0)
    assert diagnosis(record) is None
    assert diagnosis(replace(record, trace=trace(8, 0, 0))) == []


def test_all_sources_together_are_shown_from_zero_to_one():
    columns = ["family", "value", "ci_low", "ci_high"]
    rows = skill_rows(
        pd.DataFrame([["a", 0.5, 0.4, 0.6], ["b", 0.9, 0.8, 0.95], ["c", 0.85, 0.7, 0.9]], columns=columns)
    )
    assert [row.family for row in rows] == ["b", "c", "a"]
    assert rows[0].bar.floor == 2.0 and rows[0].bar.oracle == 98.0


def test_tables_for_papers(capsys, tmp_path):
    records = load_published(RESULTS / "quick")
    frame = to_frame(records)
    summary = summarise(scorecard(frame), frame)
    latex = tables(summary, "latex", ["fd_digits_cnn", "coverage"])
    body = latex.split("\\midrule")[1].split("\n")[1:-1]
    assert latex.count("\\begin{tabular}") == 3 and latex.count("\\toprule") == 3
    assert all(line.endswith(r" \\") for line in body) and len(body) == len(
        {record.family for record in records if record.role == "contestant"}
    )
    assert r"fd\_digits\_cnn $\downarrow$ & coverage $\uparrow$" in latex
    assert not any("±" in line for line in body)
    markdown = tables(summary, "markdown")
    for block in markdown.split("\n\n")[:3]:
        assert len({line.count("|") for line in block.splitlines()}) == 1
    digits = next(table for table in summary.tables if table.source == "digits")
    assert selected(digits, ["coverage"]).rows[0].cells == [digits.rows[0].cells[digits.columns.index("coverage ↑")]]
    assert tex("a_b & 50 % {x} $") == r"a\_b \& 50 \% \{x\} \$"
    with pytest.raises(ValueError, match=r"metrics: expected names or patterns of cell_total_variation, .*got nothing"):
        tables(summary, "latex", ["nothing"])
    places = [f"--results_dir={RESULTS}", f"--output_dir={tmp_path}"]
    assert scripts.report(["--suite=quick", *places, "format=markdown", "metrics=coverage"]) == 0
    assert capsys.readouterr().out.startswith("| die | coverage ↑ |\n|---|--:|\n")


def test_published_numbers_stand_beside_ours_where_the_suite_has_the_cell(page, tmp_path):
    assert page.papers == []  # none of its cells is in a paper
    store = Store(tmp_path / "outputs" / "quick")
    protocol = {"source": "grid", "samples": "2500", "reference": "test:10000", "modes": "known:25"}
    for seed in range(3):
        modes = Measurement("modes_covered", "modes", True, Estimate(20.0 + seed, None, 2500), protocol, Kind.COVERAGE)
        store.write(make("gan", "grid", seed, 1.0, extra=[modes]))
    found = build(*page_arguments(store.folder), published=False)
    rows = [row for row in found.papers if row["metric"] == "modes_covered"]
    assert {"PacGAN4", "GAN"} <= {row["model"] for row in rows}
    assert all(row["source"] == "grid" and row["ours"].startswith("21 [") for row in rows)
    assert "Published numbers beside ours" in render(found) and "Published numbers beside ours" not in render(page)


@pytest.mark.parametrize("values", [{"gan": 0.5, "oracle": 0.01}, {"gan": 0.5, "oracle": -0.01}, {"gan": 1.0}])
def test_no_line_lies_on_the_frame(values):
    rows = [
        {"family": family, "mean": mean, "ci_low": mean - 0.001, "ci_high": mean + 0.001, "n_ok": 3}
        for family, mean in values.items()
    ]
    roles = {family: "oracle" if family == "oracle" else "contestant" for family in values}
    runs = pd.DataFrame([{"family": family, "value": value} for family, value in values.items()])
    axis = headline_chart(rows, runs, looks(roles), roles).layout.xaxis
    log = axis.type == "log"
    assert log == (min(values.values()) > 0)
    for value in values.values():
        place = math.log10(value) if log else value
        assert axis.range[0] < place < axis.range[1]
