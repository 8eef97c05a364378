"""Corrupted runs: settings, identity, records, and the tables that hold each family against its clean runs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from scipy import stats

from genfam.build import ConfigurationError
from genfam.comparing.corruption import corruption_table
from genfam.records.digest import numerics_digest
from genfam.records.store import Store
from genfam.report.page import build, render
from genfam.running.experiment import begun
from genfam.running.parts import make_source
from genfam.running.preflight import check
from genfam.types import Estimate, Kind, Measurement
from page_of import page_arguments
from stores import make

PARTS = ("tenth", "hundredth", "rare_class", "outliers")
NAMES = ("share_0.1_of_events", "share_0.01_of_events", "class_0_at_0.01", "outliers_0.05")


def test_clean_runs_keep_their_ids_and_digests(configure):
    run = configure("source=digits", "family=vae", "budget=smoke")
    assert run.corruption["name"] == "nothing" and "corruption" not in run.identity
    assert "nothing" not in run.id and run.data_name == "digits"
    before = {key: value for key, value in run.config.items() if key != "corruption"}
    assert type(run).model_validate(before).id == run.id, "as records from before there were corruptions"


def test_corruptions_are_tasks_and_runs_of_their_own(configure):
    runs = [configure("source=digits", "family=vae", "budget=smoke", f"corruption={part}") for part in PARTS]
    clean = configure("source=digits", "family=vae", "budget=smoke")
    assert [run.corruption["name"] for run in runs] == list(NAMES)
    assert len({run.id for run in runs} | {clean.id}) == 5
    assert [begun(run).task for run in runs] == [f"digits with {name}" for name in NAMES]
    assert runs[2].id.startswith("digits-vae-class_0_at_0.01-s0-")
    assert "class_share" in runs[2].chosen_metrics and "class_share" not in clean.chosen_metrics
    digests = {numerics_digest(run.identity.values()) for run in (clean, *runs)}
    assert len(digests) >= 4, "the files of a corruption count where it is applied"
    other = configure("source=digits", "family=vae", "budget=smoke", "corruption=outliers", "corruption.share=0.2")
    assert begun(other).task == "digits with outliers_0.2"
    given = configure("source=digits", "family=vae", "corruption=outliers", "condition=labels")
    assert begun(given).task == "digits with outliers_0.05 given labels"
    kept = make_source(configure("source=digits", "family=vae", f"corruption={PARTS[1]}", "split=test"))
    assert len(kept.train) == 99 * 13


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("corruption=outliers", "corruption.share=2"), "corruption.share: expected a number of at least 0"),
        (("corruption=rare_class", "corruption.of_class=-1"), "corruption.of_class: expected a whole number"),
        (("corruption=tenth", "+corruption.of_class=1"), "corruption.of_class: Subsample has no such key"),
    ],
)
def test_wrong_settings_are_said_before_any_work(configure, overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        configure("source=digits", "family=gaussian", *overrides)


def test_a_class_that_is_not_there_is_said_before_the_first_run(configure):
    run = configure("source=stacked_digits", "family=gaussian", "corruption=rare_class")
    with pytest.raises(ConfigurationError, match="stacked_digits, which has no labels"):
        check([run])


def suite():
    """VAE and GAN, clean and with two corruptions; the VAE loses half a unit to outliers, the GAN nothing."""
    found = []
    contestants = (("vae", "contestant", 0.5), ("gan", "contestant", 0.0))
    for family, role, cost in (*contestants, ("truth", "oracle", 0.0), ("gauss", "floor", 0.0)):
        for name in ("nothing", NAMES[2], NAMES[3]):
            for seed in range(3):
                number = 2.0 + 0.1 * seed + (cost + 0.01 * seed if name == NAMES[3] else 0.0)
                drawn = 0.002 + 0.001 * seed if name == NAMES[2] else 0.1
                share = Measurement("class_share", "1", None, Estimate(drawn, 0.001, 9), {}, Kind.COVERAGE)
                record = make(family, "digits", seed, number, role, extra=(share,))
                record.config = {"source": {"name": "digits"}, "corruption": {"name": name}}
                record.run_id = f"{family}-{name}-{seed}"
                if name != "nothing":
                    record.source = f"digits with {name}"
                found.append(record)
    return found


def test_each_family_stands_beside_its_own_clean_runs():
    table = corruption_table(suite())
    assert set(table["source"]) == {"digits"} and set(table["corruption"]) == {NAMES[2], NAMES[3]}
    cells = table.set_index(["family", "corruption", "metric"])
    vae = cells.loc[("vae", NAMES[3], "fd_net")]
    assert vae["clean"] == pytest.approx(2.1) and vae["corrupted"] == pytest.approx(2.61) and vae["n"] == 3
    # clean 2, 2.1, 2.2; corrupted 2.5, 2.61, 2.72: Welch's method, by SciPy
    welch = stats.ttest_ind([2.5, 2.61, 2.72], [2.0, 2.1, 2.2], equal_var=False).confidence_interval()
    assert (vae["difference"], vae["ci_low"], vae["ci_high"]) == pytest.approx((0.51, welch.low, welch.high))
    gan = cells.loc[("gan", NAMES[2], "fd_net")]
    assert gan["difference"] == 0.0 and gan["ci_low"] == pytest.approx(-gan["ci_high"])
    share = cells.loc[("gan", NAMES[2], "class_share")]
    assert share["clean"] == pytest.approx(0.1) and share["corrupted"] == pytest.approx(0.003)
    assert not len(corruption_table([record for record in suite() if record.source == "digits"]))
    lone = [record for record in suite() if record.source != "digits"]
    assert corruption_table(lone)["difference"].isna().all() and corruption_table(lone)["n"].eq(0).all()


def test_the_page_says_so(tmp_path):
    store = Store(tmp_path / "outputs" / "quick")
    for record in suite():
        store.write(record)
    arguments = page_arguments(store.folder)
    page = build(*arguments, published=False)
    (section,) = page.sections
    assert section.key == "corruption" and [part.title for part in section.parts] == ["digits"]
    beside = section.parts[0].tables[0]
    assert beside.columns == ["clean", NAMES[2], NAMES[3]]
    vae = dict(beside.rows)["vae"]
    assert vae[0] == "2.1" and vae[2] == "2.61, +0.51 [+0.27, +0.75]"
    assert {source.about for source in page.sources} == {"1,797 real handwritten digits of 8 × 8 pixels."}
    text = render(page)
    assert 'href="#corruption"' in text and "digits with outliers_0.05" in text
    assert set(arguments[3].more) == {"corruption"}
    none = [replace(record, metrics=[]) for record in suite() if record.source != "digits" and record.family == "vae"]
    assert math.isnan(corruption_table(none + suite()[:3])["corrupted"].iloc[0])
