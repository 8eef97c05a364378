"""Published numbers: their tables are whole, and what is called the same protocol is the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from genfam.comparing import published_numbers as published
from genfam.records.store import load_published

COLUMNS = ["source", "model", "family", "metric", "value", "stderr", "unit", "samples", "protocol", "paper", "table"]
KEYS = {
    "samples",
    "mode",
    "modes",
    "sigma",
    "training set",
    "classifier",
    "features",
    "reference",
    "likelihood",
    "events",
    "binarisation",
    "runs",
    "compute",
    "selection",
}


def test_every_row_names_protocol_paper_and_table_or_says_that_it_was_not_verified() -> None:
    for file in published.published_folder().glob("*.csv"):
        rows = pd.read_csv(file)
        assert list(rows.columns) == COLUMNS
        assert not rows.drop(columns=["stderr", "samples"]).isna().any().any()
        assert not rows.duplicated(["source", "model", "metric"]).any()
        assert set(rows["family"]) <= {"gan", "vae", "autoregressive", "flow_matching"}
        for row in rows.to_dict("records"):
            assert set(published.protocol_of(row)) <= KEYS
            assert "runs" in published.protocol_of(row)
            assert "samples" not in published.protocol_of(row) or math.isnan(row["samples"]), "said twice"
            assert not str(row["table"]).startswith("not") or row["table"] == published.NOT_VERIFIED
            if row["table"] == published.NOT_VERIFIED:
                assert math.isnan(row["stderr"]), "nobody has seen its standard error"


def row(**changes: Any) -> pd.DataFrame:
    base = {
        "source": "grid", "model": "GAN", "family": "gan", "metric": "modes_covered", "value": 17.3, "stderr": 0.8,
        "unit": "modes", "samples": 2500.0, "protocol": "mode: one sample within 3 sigma; runs: mean of 10",
        "paper": "p", "table": "Table 1",
    }  # fmt: skip
    return pd.DataFrame([base | changes])


def card(fingerprint: str = "source=grid|samples=2500|reference=test:10000|modes=known:25", **changes: Any) -> Any:
    base = {
        "suite": "standard", "source": "grid", "family": "gan", "metric": "modes_covered", "n_ok": 5, "mean": 25.0,
        "ci_low": 24.5, "ci_high": 25.5, "fingerprint": fingerprint,
    } | changes  # fmt: skip
    return pd.DataFrame([base, base | {"metric": "train_flops", "mean": 2.6e12, "fingerprint": "cost"}])


def one(theirs: pd.DataFrame, *cards: pd.DataFrame, selection: str = published.SELECTION, **source: Any) -> Any:
    """The only row, of a paper that selected as said."""
    told = f"; selection: {selection}" if selection else ""
    theirs = theirs.assign(protocol=[protocol + told for protocol in theirs["protocol"]])
    names = {(name, cell) for card in cards for name, cell in zip(card["suite"], card["source"], strict=True)}
    (found,) = published.compare(cards, dict.fromkeys(names, source), theirs).to_dict("records")
    return found


def test_the_same_measurement_is_called_so_and_training_is_named_all_the_same() -> None:
    theirs = row(protocol="mode: one sample within 3 sigma; runs: mean of 10; compute: 400,000 updates")
    found = one(theirs, card())
    assert found["same_protocol"] == "yes"
    assert found["differences"] == (
        "runs: mean of 10 there, mean of 5 here; compute: 400,000 updates there, 2.6e+12 FLOPs here"
    )
    assert (found["published"], found["stderr"], found["ours"], found["suite"]) == (17.3, 0.8, 25.0, "standard")


@pytest.mark.parametrize(
    ("theirs", "ours", "verdict", "said"),
    [
        ({}, "source=grid|samples=4000|reference=test:9|modes=known:25", "no", "samples: 2500 there, 4000 here"),
        (
            {},
            "source=grid|samples=2500|reference=test:9|extractor=mnist_resnet|modes=classes:25",
            "no",
            "mode: one sample within 3 sigma there, one",
        ),
        (
            {"protocol": "classifier: Keras convolutional network; runs: one"},
            "source=grid|samples=2500|reference=test:9|extractor=mnist_resnet, recipe=1|modes=classes:9",
            "no",
            "classifier: Keras convolutional network there, mnist_resnet here",
        ),
        (
            {"protocol": "classifier: not stated; runs: one"},
            "source=grid|samples=2500|reference=test:9|extractor=mnist_resnet|modes=classes:9",
            "unclear",
            "classifier: not stated there, mnist_resnet here",
        ),
        ({"table": "not verified"}, "samples=2500|reference=test:9|modes=known:25", "not verified", "runs: "),
        (
            {"protocol": "likelihood: bound by 5000 importance samples; runs: one", "samples": math.nan},
            "source=grid|reference=test:9|likelihood=lower_bound|measure=counting",
            "no",
            "likelihood: bound by 5000 importance samples there, bound here",
        ),
        (
            {"protocol": "likelihood: bound by 64 importance samples; events: 10000; runs: one", "samples": math.nan},
            "reference=test:9|likelihood=lower_bound|measure=counting|events=500|by=64 importance samples",
            "no",
            "events: 10000 there, 500 here; runs: one there, mean of 5 here",
        ),
        (
            {"protocol": "likelihood: exact; runs: one", "samples": math.nan},
            "source=grid|reference=test:9|likelihood=exact|measure=counting",
            "yes",
            "runs: one there, mean of 5 here",
        ),
        (
            {"protocol": "modes: 1000; runs: one"},
            "source=grid|samples=2500|reference=test:9|extractor=mnist_resnet|modes=classes:10000",
            "no",
            "modes: 1000 there, 10000 here",
        ),
        (
            {"protocol": "reference: training split; runs: one", "samples": math.nan},
            "source=grid|samples=2500|reference=test:9|extractor=inception, weights=1",
            "no",
            "reference: training split there, test split here",
        ),
    ],
)
def test_what_differs_is_named(theirs: dict[str, Any], ours: str, verdict: str, said: str) -> None:
    found = one(row(**theirs), card(ours))
    assert found["same_protocol"] == verdict
    assert said in found["differences"]


@pytest.mark.parametrize(
    ("selection", "verdict", "said"),
    [
        ("", "unclear", f"selection: not stated there, {published.SELECTION} here"),
        ("best checkpoint by the test split", "no", "selection: best checkpoint by the test split there, "),
    ],
)
def test_a_paper_that_selected_otherwise_or_does_not_say_how_has_another_protocol(
    selection: str, verdict: str, said: str
) -> None:
    found = one(row(), card(), selection=selection)
    assert found["same_protocol"] == verdict
    assert said in found["differences"]


@pytest.mark.parametrize(
    ("theirs", "source", "verdict", "said"),
    [
        ("sigma: 0.05", {"sigma": 0.05}, "yes", ""),
        ("sigma: 0.01", {"sigma": "0.1"}, "no", "sigma: 0.01 there, 0.1 here"),
        (
            "training set: 100,000 points",
            {"sigma": 0.05},
            "yes",
            "training set: 100,000 points there, 1,000,000 points",
        ),
        ("binarisation: fixed", {"dynamic": True}, "no", "binarisation: fixed there, dynamic here"),
        ("binarisation: dynamic", {"dynamic": False}, "no", "binarisation: dynamic there, fixed here"),
        ("binarisation: fixed", {"dynamic": False}, "yes", ""),
    ],
)
def test_another_world_of_the_same_name_is_another_protocol(
    theirs: str, source: dict[str, Any], verdict: str, said: str
) -> None:
    found = one(row(protocol=f"{theirs}; runs: mean of 10"), card(), **source)
    assert found["same_protocol"] == verdict
    assert said in found["differences"]


def test_a_distance_to_the_training_split_stands_beside_one_that_is() -> None:
    theirs = row(metric="train_fid", protocol="features: Inception-v3; reference: training split; runs: mean of 5")
    ours = card("samples=2500|reference=train:50000|extractor=inception, weights=1", metric="train_fid")
    assert one(theirs, ours)["same_protocol"] == "yes"
    held_out = card("samples=2500|reference=test:10000|extractor=inception, weights=1", metric="train_fid")
    assert one(theirs, held_out)["differences"] == "reference: training split there, test split here"


def test_wide_modes_of_broken_gans_are_not_called_the_papers_protocol() -> None:
    folder = Path(__file__).parent.parent / "results" / "gan_failures"
    card = pd.read_csv(folder / "scorecard.csv")
    found = published.compare([card], published.settings_of(load_published(folder)))
    beside = found[found["ours"].notna() & (found["table"] != published.NOT_VERIFIED)]
    assert len(beside) and set(beside["same_protocol"]) == {"no"}
    assert beside["differences"].str.contains("sigma: 0.01 there, 0.1 here").all()


def test_the_first_card_with_the_cell_is_asked_and_none_is_said_to_be_none() -> None:
    found = one(row(), card(mean=math.nan), card(suite="second"), card(suite="third"))
    assert found["suite"] == "second"
    nothing = one(row(source="ring"), card())
    assert nothing["same_protocol"] == published.NO_RUN and math.isnan(nothing["ours"])


def test_a_protocol_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"grid, GAN: expected a protocol .*, got '8 modes'"):
        one(row(protocol="mode: x; 8 modes"), card())


def test_the_short_table_has_verified_numbers_beside_ours_and_those_of_sources_without_a_run() -> None:
    theirs = pd.concat(
        [row(), row(model="VEEGAN", value=24.6, stderr=math.nan, table="not verified"), row(source="ring"),
         row(model="PacGAN4", value=24.8, stderr=0.2), row(metric="mode_reverse_kl", value=0.4)]
    )  # fmt: skip
    text = published.short_markdown(published.compare([card()], {}, theirs))
    assert text.splitlines()[2:] == [
        "| grid | modes_covered | GAN 17.3 ± 0.8, PacGAN4 24.8 ± 0.2 | 25 [24.5, 25.5] (gan) | unclear | "
        f"selection: not stated there, {published.SELECTION} here; runs: mean of 10 there, mean of 5 here |",
        "| ring | modes_covered | GAN 17.3 ± 0.8 | – | no run of ours | – |",
    ]
    whole = published.markdown(published.compare([card()], {}, theirs))
    assert len(whole.splitlines()) == 7
    theirs_alone = "theirs is samples: 2500; selection: not stated; mode: one sample within 3 sigma; runs: mean of 10"
    assert f"| ring | modes_covered | GAN | 17.3 ± 0.8 | – | no run of ours | {theirs_alone} | p; Table 1 |" in whole


def test_tables_come_from_the_checkout_or_else_from_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert published.published_folder() == Path(__file__).parent.parent / "benchmarks" / "published"
    package = tmp_path / "lib/site-packages/genfam"
    monkeypatch.setattr(published, "__file__", str(package / "comparing" / "published_numbers.py"))
    with pytest.raises(FileNotFoundError, match="reinstall genfam"):
        published.published_folder()
    (package / "benchmarks/published").mkdir(parents=True)
    (package / "benchmarks/published/a.csv").write_text("")
    assert published.published_folder() == package / "benchmarks/published"


def test_a_thousand_is_written_out() -> None:
    written = [published.three_digits(value) for value in (0.12345, 7.0, 998.4, 999.7, 1000.0, 1001.2)]
    assert written == ["0.123", "7", "998", "999.7", "1000", "1001"]
