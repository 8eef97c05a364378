"""The page of conditional runs: a task of its own, a row per class, quality against diversity."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from genfam.comparing.scorecard import scorecard
from genfam.records import sampling_costs
from genfam.records.frame import to_frame
from genfam.records.store import Store
from genfam.report import fronts
from genfam.report.page import build, render
from genfam.report.pictures import by_row, classes_figure, load_drawn
from genfam.running.tracking import sketches
from page_of import page_arguments
from stores import make


def rows(record, temperatures):
    """What `genfam-evaluate temperature=…` would write: less varied and better below 1."""
    common = dict(run_id=record.run_id, family=record.family, source=record.task, seed=record.seed, stderr=0.01,
                  samples=500, seconds=1.0, code_version="abc", network_evaluations=1.0)  # fmt: skip
    found = []
    for value in temperatures:
        measured = {"precision": 1 - 0.4 * value, "recall": 0.9 * value, "within_class_variance": value**2}
        knobs = {"knobs": json.dumps({"temperature": value}), "as_run": value == 1.0, "fingerprint": "p"}
        found += [common | knobs | {"metric": name, "value": number} for name, number in measured.items()]
    return pd.DataFrame(found, columns=list(sampling_costs.COLUMNS))


@pytest.fixture
def folder(tmp_path):
    store, rng = Store(tmp_path / "outputs" / "quick"), np.random.default_rng(0)
    for condition in ("nothing", "labels"):
        for family, fd, role in (("vae", 2.0, "contestant"), ("gan", 3.0, "contestant"), ("truth", 1.0, "oracle"),
                                 ("gauss", 9.0, "floor")):  # fmt: skip
            for seed in range(3):
                value = fd - (condition == "labels") + 0.1 * seed
                record = replace(make(family, "digits", seed, value, role), condition=condition)
                record.run_id = f"{family}-{condition}-{seed}"
                store.write(record)
                if condition == "labels" and seed == 0:
                    values = rng.integers(0, 3, 90)
                    images = np.repeat(values.astype(np.uint8), 16).reshape(90, 1, 4, 4) * 5
                    np.savez(store.directory(record.run_id) / "samples.npz", samples=images, reference=images,
                             levels=17, conditions=values, reference_conditions=values,
                             condition_names=np.array(["T-shirt/top", "Bag", "<b>"]))  # fmt: skip
                if family == "vae":
                    path = store.directory(record.run_id) / sampling_costs.FILE
                    sampling_costs.write(path, rows(record, (0.5, 0.8, 1.0)))
    return store.folder


def test_families_are_ranked_within_their_condition(folder):
    card = scorecard(to_frame(Store(folder).current()))
    assert set(card["source"]) == {"digits", "digits given labels"}
    ranks = card[card["metric"] == "fd_net"].set_index(["source", "family"])["rank"].dropna()
    assert dict(ranks) == {("digits", "gan"): 2, ("digits", "vae"): 1, ("digits given labels", "gan"): 2,
                           ("digits given labels", "vae"): 1}  # fmt: skip


def test_the_page_has_a_row_for_each_class_and_the_front(folder, tmp_path):
    page = build(*page_arguments(folder), published=False)
    given = {source.name: source for source in page.sources}
    assert given["digits"].samples.rows == [] and given["digits"].samples.row_names == []
    samples = given["digits given labels"].samples
    assert [picture.title for picture in samples.rows] == ["held-out data", "gan", "vae", "gauss", "truth"]
    assert samples.row_names == ["T-shirt/top", "Bag", "<b>"]
    front = given["digits given labels"].front
    assert front is not None
    (trace,) = json.loads(front.spec)["data"]
    assert trace["y"] == sorted(trace["y"], reverse=True) and trace["x"] == sorted(trace["x"])
    assert [symbol.endswith("-open") for symbol in trace["marker"]["symbol"]] == [True, True, False]
    text = render(page)
    assert "Quality against diversity" in text and "T-shirt/top, Bag, &lt;b&gt;" in text and "<b>" not in text
    drawn = {"vae": load_drawn(folder / "vae-labels-0" / "samples.npz", 0)}
    assert classes_figure(drawn, tmp_path / "classes.png", "digits given labels")
    assert (tmp_path / "classes.png").stat().st_size > 2000


def test_one_setting_is_no_front():
    record = make("vae", "digits", 0, 1.0)
    assert fronts.fronts(rows(record, (1.0,)), "digits", ["vae"]) == []
    assert fronts.fronts(pd.DataFrame(columns=list(sampling_costs.COLUMNS)), "digits", ["vae"]) == []
    points = fronts.fronts(rows(record, (1.0, 0.5)), "digits", ["vae", "gan"])
    assert [(point.setting, point.plain) for point in points] == [("temperature 0.5", False), ("temperature 1", True)]
    assert fronts.rows_of(points)[0]["within_class_variance"] == "0.25"


def test_every_row_is_of_one_value():
    values = np.array([2, 0, 0, 1, 2, 0])
    images = (values[:, None, None, None] * np.ones((1, 1, 4, 4))).astype(np.uint8)
    picture = by_row(images, values, 3, 4)
    assert picture.shape == (3 * 5 - 1, 10 * 5 - 1)
    assert (picture[:4, :4] == 0).all() and (picture[5:9, :4] == 1 / 3).all() and (picture[10:, :4] == 2 / 3).all()
    assert (picture[5:9, 5:9] == 1).all(), "one image of that value: the rest is white"
    sketch = sketches.by_row(images, values, 3, 4)
    assert sketch.shape[0] == 3 * (sketch.shape[0] // 3) and sketch[0, 0, 0] == 0
