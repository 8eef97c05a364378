"""The chooser on records made by hand: a planted best, nobody separated, nothing measured, a best that is too dear."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from genfam.build import configuration_folder
from genfam.commands import choose as command
from genfam.commands import cli
from genfam.comparing import suites as suites_of
from genfam.comparing.choice import Found, Need, Needed, choose, measuring_command
from genfam.comparing.scorecard import comparisons, scorecard
from genfam.comparing.suites import event_of, suites_in
from genfam.records.frame import to_frame
from genfam.records.store import Store, load_published, write_published
from genfam.report import choosing
from genfam.report.findings import findings
from genfam.types import Likelihood, Outcome
from stores import make

CONF = configuration_folder()
RESULTS = Path(__file__).parent.parent / "results"
NOISE = (-0.1, 0.0, 0.12, 0.05, -0.04)
YARDSTICKS = {"gaussian": (9.0, "floor"), "oracle": (1.0, "oracle")}


def runs(
    values, source="grid", *, budget=1e12, seeds=3, noise=1.0, seconds=None, likelihoods=None, condition="nothing"
):
    """family -> mean, with yardsticks; by default everybody samples in 0.1 ms and has no likelihood."""
    found = []
    everyone = {family: (value, "contestant") for family, value in values.items()} | YARDSTICKS
    for family, (value, role) in everyone.items():
        for seed in range(seeds):
            kind = (likelihoods or {}).get(family, Likelihood.NONE)
            record = make(family, source, seed, value + noise * NOISE[seed], role, likelihood=kind)
            record.run_id += f"-{budget:g}-{condition}"
            record.config |= {"budget": {"train_flops": budget, "parameters": 10}}
            record.train_flops, record.condition = budget, condition
            record.seconds_per_sample = (seconds or {}).get(family, 1e-4)
            found.append(record)
    return found


def one(need, records):
    (found,) = choose(need, {"results/s": records})
    return found


def test_the_planted_best_is_taken_and_its_rows_are_the_scorecards():
    records = runs({"alpha": 2.0, "beta": 4.0, "gamma": 6.0})
    found = one(Need(source="grid"), records)
    assert (found.found, found.families, found.suite) == (Found.ONE, ["alpha"], "results/s")
    card = scorecard(to_frame(records))
    card = card[card["metric"] == "fd_net"].set_index("family")
    assert [row.family for row in found.rows] == ["alpha", "beta", "gamma"]
    for row in found.rows:
        assert (row.mean, row.low, row.high) == tuple(card.loc[row.family, ["mean", "ci_low", "ci_high"]])
        assert (row.seeds, row.runs, row.train_flops, row.train_seconds) == (3, 3, 1e12, 3.0)
        ends = [card.loc[name, "mean"] for name in ("gaussian", "oracle")]
        assert row.skill == pytest.approx((ends[0] - row.mean) / (ends[0] - ends[1]))
    text = "\n".join(choosing.text(Need(source="grid"), [found], {}))
    assert text.startswith("grid: take alpha: clearly better than every other that meets the needs, with 3 seeds.")
    for words in ("rests on results/s, judged by fd_net (lower is better", "2.01 ± 0.1", "3 of 3 seeds", "1e+12 FLOPs",
                  "0.0001 s per sample", "no likelihood", "clearly worse: beta, gamma", "diffusion"):  # fmt: skip
        assert words in text


def test_what_is_not_separated_is_said_to_be_so():
    found = one(Need(source="grid"), runs({"alpha": 2.0, "beta": 2.02, "gamma": 6.0}))
    assert (found.found, found.families) == (Found.SEVERAL, ["alpha", "beta"])
    text = "\n".join(choosing.text(Need(source="grid"), [found], {}))
    assert "take alpha or beta: not separated with 3 seeds" in text and "clearly worse: gamma" in text
    three = one(Need(source="grid"), runs({"alpha": 2.0, "beta": 2.02, "gamma": 2.03}))
    assert choosing.recommendation(three).startswith("take alpha, beta or gamma: not separated")


def test_the_best_that_breaks_a_need_is_shown_and_not_taken():
    likelihoods = {"alpha": Likelihood.EXACT, "beta": Likelihood.LOWER_BOUND, "gamma": Likelihood.ESTIMATE}
    records = runs(
        {"alpha": 2.0, "beta": 4.0, "gamma": 3.0}, seconds={"alpha": 1e-2, "beta": 1e-3}, likelihoods=likelihoods
    )
    fast = one(Need(source="grid", seconds_per_sample=1e-3), records)
    assert (fast.found, fast.families) == (Found.ONE, ["gamma"])
    assert [(row.family, row.unmet) for row in fast.rows] == [
        ("gamma", ""),
        ("beta", ""),
        ("alpha", "0.01 s per sample"),
    ]
    assert fast.rows[2].mean < fast.rows[0].mean, "the best is there to be seen"
    bound = one(Need(source="grid", seconds_per_sample=1e-3, likelihood=Needed.BOUND), records)
    assert (bound.found, bound.families) == (Found.ALONE, ["beta"])
    assert one(Need(source="grid", likelihood=Needed.EXACT), records).families == ["alpha"]
    assert one(Need(source="grid", likelihood=Needed.BOUND), records).families == ["alpha"]
    none = one(Need(source="grid", seconds_per_sample=1e-3, likelihood=Needed.EXACT), records)
    assert (none.found, none.families) == (Found.UNMET, []) and all(row.unmet for row in none.rows)
    assert "does not meet the needs: its likelihood: lower bound" in "\n".join(choosing.evidence(none))
    unmeasured = one(
        Need(source="grid", seconds_per_sample=1.0), runs({"alpha": 2.0, "beta": 3.0}, seconds={"alpha": 0})
    )
    assert unmeasured.families == ["beta"] and unmeasured.rows[1].unmet == "its time per sample was not measured"


def test_fewer_families_make_nothing_significant_that_was_not():
    slow = {f"slow{number}": 2.0 + number / 100 for number in range(5)}
    records = runs(slow | {"beta": 4.0, "gamma": 4.32}, seconds=dict.fromkeys(slow, 1.0))

    def better(of):
        pairs = comparisons(to_frame(of))
        own = pairs[(pairs["metric"] == "fd_net") & (pairs["family_a"] == "beta") & (pairs["family_b"] == "gamma")]
        return own["better"].iloc[0]

    assert better(records) == "", "corrected for all pairs of the scorecard"
    assert better([record for record in records if record.family not in slow]) == "beta"
    found = one(Need(source="grid", seconds_per_sample=0.1), records)
    assert (found.found, found.families) == (Found.SEVERAL, ["beta", "gamma"])


def test_only_budgets_within_the_compute_count_and_the_largest_of_them_speaks():
    records = runs({"alpha": 2.0, "beta": 4.0}, budget=1e10) + runs({"alpha": 1.8, "beta": 1.2}, budget=1e12)
    small = one(Need(source="grid", train_flops=1e11), records)
    assert (small.families, small.budget, small.below) == (["alpha"], 1e10, 10.0)
    assert choosing.caution(small) == "", "ten times is not far"
    assert one(Need(source="grid", train_flops=1e12), records).families == ["beta"]
    assert one(Need(source="grid"), records).families == ["beta"]
    far = one(Need(source="grid", train_flops=1e14), records)
    assert far.families == ["beta"] and "100 times that of the largest budget measured here (1e+12" in choosing.caution(
        far
    )
    assert any(
        "budget.train_flops=1e+14" in line for line in choosing.missing(Need(source="grid", train_flops=1e14), far, {})
    )
    above = one(Need(source="grid", train_flops=5e9), records)
    assert (above.found, above.families, above.least) == (Found.ABOVE, [], 1e10)
    assert "we do not know" in choosing.recommendation(above) and "1e+10 FLOPs" in choosing.recommendation(above)
    suites = {"results/a": records[:12], "results/b": records[12:]}
    assert [choose(Need(source="grid", train_flops=f), suites)[0].suite for f in (1e11, 1e12)] == [
        "results/a",
        "results/b",
    ]


def test_seconds_of_training_leave_out_who_took_longer():
    records = runs({"alpha": 2.0, "beta": 4.0, "gamma": 5.0})
    for record in records:
        record.train_seconds = {"alpha": 100.0, "beta": 10.0, "gamma": 10.0}.get(record.family, 0.0)
    found = one(Need(source="grid", train_seconds=50), records)
    assert (found.families, found.left_out, found.below) == (["beta"], ["alpha"], 5.0)
    assert "measured with more compute only: alpha" in choosing.evidence(found)[-2]
    assert "200 times" in choosing.caution(one(Need(source="grid", train_seconds=2e4), records))


def test_runs_that_learned_nothing_recommend_nobody():
    found = one(Need(source="grid"), runs({"alpha": 9.5, "beta": 11.0}))
    assert (found.found, found.families) == (Found.UNDERTRAINED, [])
    above = one(Need(source="grid"), runs({"alpha": 8.0, "beta": 11.0}))
    assert (above.found, above.families) == (Found.ONE, ["alpha"])
    assert "the only one that beats the fitted Gaussian" in choosing.recommendation(above)
    lost = [
        replace(r, outcome=Outcome.DIVERGED, metrics=[]) if r.role == "contestant" else r for r in runs({"alpha": 2.0})
    ]
    assert one(Need(source="grid"), lost).found is Found.LOST
    assert one(Need(source="grid"), runs({"alpha": 2.0, "beta": 4.0}, seeds=1)).found is Found.UNTESTED


@pytest.mark.parametrize("event", sorted(path.stem for path in (CONF / "event").glob("*.yaml")))
def test_where_nothing_was_measured_the_command_that_would_tell_is_one(event):
    need = Need(event=event, train_flops=2e9, condition="labels")
    found = choose(need, {"results/s": runs({"alpha": 2.0}, "die")})
    assert [entry.found for entry in found] == [Found.NOTHING]
    text = choosing.text(need, found, {})
    assert text[0].startswith(f"sources of {event} given labels: we do not know: nothing was measured")
    words = measuring_command(need).split()
    assert words[:2] == ["genfam", "-m"] and any(" ".join(words) in line for line in text)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [word for word in words[2:] if word != "data_dir=FOLDER"])
    run = cli.settings(config)
    assert (run.budget.train_flops, run.condition["name"], run.suite) == (2e9, "labels", "quick")
    assert suites_of.kinds_of_event()[run.source["name"]] == event


def test_conditions_corruptions_and_other_starts_are_tasks_of_their_own():
    records = runs({"alpha": 2.0, "beta": 4.0}) + runs({"alpha": 4.0, "beta": 2.0}, condition="labels")
    assert one(Need(source="grid"), records).families == ["alpha"]
    assert one(Need(source="grid", condition="labels"), records).families == ["beta"]
    other = [replace(record, source="grid from ring") for record in records]
    assert one(Need(event="points"), other).found is Found.NOTHING
    assert one(Need(source="grid"), other).found is Found.NOTHING
    assert one(Need(source="grid from ring"), other).families == ["alpha"]


def test_a_kind_of_event_is_answered_source_by_source():
    suites = {"s": runs({"a": 2.0, "b": 4.0}) + runs({"a": 2.0, "b": 2.01}, "ring") + runs({"b": 2.0}, "die")}
    found = choose(Need(event="points"), suites)
    assert [(entry.task, entry.families) for entry in found] == [("grid", ["a"]), ("ring", ["a", "b"])]
    assert choosing.everywhere(found) == "May be taken on each of 2 sources of this kind: a."
    apart = choose(Need(event="points"), {"s": runs({"a": 2.0, "b": 4.0}) + runs({"a": 4.0, "b": 2.0}, "ring")})
    assert "the source decides" in choosing.everywhere(apart)
    nowhere = choose(need := Need(source="moons"), suites)
    assert "of events of the same kind was measured: grid, ring (event=points)" in choosing.missing(
        need, nowhere[0], suites
    )


def test_every_source_has_its_kind_of_event():
    kinds = suites_of.kinds_of_event()
    assert set(kinds) == {path.stem for path in (CONF / "source").glob("*.yaml")}
    assert set(kinds.values()) <= {path.stem for path in (CONF / "event").glob("*.yaml")}
    assert (kinds["grid"], kinds["digits"], kinds["cifar10"]) == ("points", "small_image", "photo")
    (record,) = runs({}, "mixture_8d_16", seeds=1)[:1]
    assert event_of(record) == "points"
    mine = {"name": "cats", "_target_": "genfam.sources.folders.ImageFolder"}
    assert event_of(replace(record, source="cats", config={"source": mine})) == "image"
    assert event_of(replace(record, source="cats", config={"source": {"name": "cats"}})) == ""


def test_what_is_chosen_from(tmp_path, recwarn):
    for suite in ("quick", "gan_failures", "mine"):
        write_published(tmp_path / "results" / suite, runs({"alpha": 2.0}))
    assert set(suites_in(tmp_path / "results")) == {str(tmp_path / "results" / name) for name in ("quick", "mine")}
    for suite in ("done", "cut", "tune"):
        store = Store(tmp_path / "outputs" / suite)
        for record in runs({"alpha": 2.0, "beta": 4.0}):
            cut = suite == "cut" and record.family == "beta"
            split = {"split": "validation"} if record.family == "beta" else {}
            store.write(
                replace(record, outcome=Outcome.INTERRUPTED if cut else Outcome.OK, config=record.config | split)
            )
    found = suites_in(tmp_path / "nothing", tmp_path / "outputs")
    assert list(found) == [str(tmp_path / "outputs" / "done")]
    assert {record.family for record in found[str(tmp_path / "outputs" / "done")]} == {"alpha", "gaussian", "oracle"}
    assert [str(warning.message) for warning in recwarn] == [
        f"left out {tmp_path / 'outputs' / 'cut'}: its runs are not all finished"
    ]


def test_suites_that_sweep_a_budget_or_a_rate_have_one_run_a_seed_left():
    for suite in ("scaling", "stability", "data", "conditions"):
        assert suites_of.compares_families(suite, suites_of.ALONGSIDE)
    for suite in ("gan_failures", "gan_rules", "dimension", "transport", "tune"):
        assert not suites_of.compares_families(suite, suites_of.ALONGSIDE)


def test_the_command_says_what_the_published_scorecard_says(capsys):
    results = f"results_dir={RESULTS}"
    assert command.main(["source=grid", results]) == 0
    said = capsys.readouterr().out
    (suite,) = re.findall(r"rests on \S*results/(\w+)", said)
    found = findings([record for record in load_published(RESULTS / suite) if record.task == "grid"])
    best = [verdict.family for verdict in found.verdicts if verdict.standing == "clearly best"]
    assert said.startswith(f"grid: take {best[0]}: clearly better")
    judged = found.card[found.card["judges"] & found.card["rank"].notna()]
    for row in judged.to_dict("records"):
        half = (row["ci_high"] - row["ci_low"]) / 2
        assert f"{choosing.number(row['mean'], half)}, skill" in said
    assert command.main(["event=photo", results]) == 0
    assert "we do not know: nothing was measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["source=gird"], "source: expected one of"),
        (["event=point"], "event: expected one of"),
        (
            ["event=points", "condition=label"],
            "condition: expected one of clusters, labels, nothing, got label; did you",
        ),
        (["event=points", "source=grid"], "source, event: expected one of them, got source=grid and event=points"),
        ([], "source, event: expected one of them, got neither"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys):
    assert command.main([*words, f"results_dir={RESULTS}"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_the_commands_of_the_docs_answer(capsys):
    text = (RESULTS.parent / "docs" / "choose.md").read_text()
    lines = re.findall(r"^genfam-choose (.+)$", text, re.M)
    assert len(lines) == 2
    for line in lines:
        assert command.main([*line.split(), f"results_dir={RESULTS}"]) == 0
        assert ": take " in capsys.readouterr().out


def test_without_any_records_it_says_where_they_would_be(tmp_path, capsys):
    assert command.main(["event=points", f"results_dir={tmp_path}"]) == 1
    said = capsys.readouterr().err
    assert "expected records of suites" in said and "output_dir=outputs" in said and said.count("\n") == 1


@pytest.mark.parametrize("words", ["train_flops=-1", "seconds_per_sample=fast", "likelihood=yes", "budget=quick"])
def test_values_that_cannot_be_are_refused(words, capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["event=points", words])
    assert end.value.code == 2 and words.partition("=")[0] in capsys.readouterr().err


def test_the_pages_form_has_every_answer():
    likelihoods = {"alpha": Likelihood.EXACT, "beta": Likelihood.LOWER_BOUND}
    costs = {"alpha": 1e-2, "beta": 1e-3, "gamma": 0.0}
    records = runs({"alpha": 2.0, "beta": 4.0, "gamma": 3.0}, budget=1e10, seconds=costs, likelihoods=likelihoods)
    records += runs({"alpha": 4.0, "beta": 2.0, "gamma": 3.0}, budget=1e12, seconds=costs, likelihoods=likelihoods)
    rows = choosing.answers("quick", records)
    for likelihood in Needed:
        for flops in (1e9, 1e10, 1e11, 1e12, math.inf):
            for seconds in (1e-4, 1e-3, 5e-3, 1e-2, math.inf):
                # as report.js does
                fits = [r for r in rows if r.likelihood == likelihood and r.train_flops <= flops]
                shown = [r for r in fits if r.seconds_per_sample <= seconds][-1]
                need = Need("grid", "", "nothing", flops, math.inf, seconds, likelihood)
                wanted = one(need, records)
                assert (shown.families, shown.text) == (wanted.families, choosing._short(wanted)), need
    assert choosing.answers("gan_failures", records) == []
