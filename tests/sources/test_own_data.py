"""Arrays and tables of a user's own: what is taken for what, how they are split, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from genfam.build import ConfigurationError
from genfam.corruptions.nothing import Nothing
from genfam.sources import columns
from genfam.sources.array import Array, ImageArray, LevelArray, kind_of
from genfam.sources.choose import source_for
from genfam.sources.columns import Column
from genfam.sources.own import FEWEST_TEST, held_out
from genfam.sources.table import ShippedTable, Table
from genfam.sources.validation import ValidationSplit

RNG = np.random.default_rng(0)
PEOPLE = pd.DataFrame({
    "age": RNG.integers(18, 90, 400), "income": np.round(RNG.lognormal(3, 0.5, 400), 1),
    "height": RNG.normal(1.7, 0.1, 400),
    "city": RNG.choice(["Rome", "Oslo", "Bern"], 400), "member": RNG.random(400) < 0.3, "unit": "cm",
})  # fmt: skip


def table(folder: Path, frame: pd.DataFrame = PEOPLE, **options: Any) -> Table:
    frame.to_csv(folder / "people.csv", index=False)
    return Table("people.csv", folder, **options)


def saved(folder: Path, array: Any, labels: Any = None) -> str:
    if labels is None:
        np.save(folder / "a.npy", array)
        return str(folder / "a.npy")
    np.savez(folder / "a.npz", x=array, y=labels)
    return str(folder / "a.npz")


# ---- splits -------------------------------------------------------------------------------------------------


def test_contents_decide_which_rows_are_held_out() -> None:
    rows = [str(number).encode() for number in range(1000)]
    mask = held_out(rows)
    assert mask.sum() == 200
    order = np.random.default_rng(1).permutation(1000)
    assert np.array_equal(held_out([rows[place] for place in order]), mask[order])
    twice = held_out([*rows, *rows])
    assert np.array_equal(twice[:1000], twice[1000:])  # equal rows lie on the same side
    assert held_out(rows[:100]).sum() == FEWEST_TEST


def test_splits_are_disjoint_fixed_and_validated_apart_from_the_test(tmp_path: Path) -> None:
    source = table(tmp_path)
    assert (source.count(), len(source.train), len(source.test)) == (320, 320, 80)
    assert torch.equal(table(tmp_path).train, source.train)
    shuffled = table(tmp_path, PEOPLE.sample(frac=1.0, random_state=0))
    own, other = (set(s.decode(s.test)["height"].round(5)) for s in (source, shuffled))
    assert own == other and not own & set(source.decode(source.train)["height"].round(5))
    validation = ValidationSplit(source)
    assert (len(validation.train), len(validation.test)) == (288, 32)
    assert validation.columns == source.columns and len(validation.decode(validation.test)) == 32  # type: ignore[attr-defined]
    seen = Nothing().applied(source)
    assert seen.event == source.event


def test_the_fingerprint_is_of_the_contents_and_not_of_the_place(tmp_path: Path) -> None:
    first = table(tmp_path)
    (tmp_path / "b").mkdir()
    moved = table(tmp_path / "b")
    assert moved.fingerprint == first.fingerprint and "contents" in first.fingerprint
    assert Table(str(tmp_path / "people.csv")).fingerprint == first.fingerprint
    changed = table(tmp_path / "b", PEOPLE.assign(age=PEOPLE["age"] + 1))
    assert changed.fingerprint != first.fingerprint


# ---- columns ------------------------------------------------------------------------------------------------


def test_a_row_comes_back_as_it_was(tmp_path: Path) -> None:
    source = table(tmp_path)
    assert source.columns == {"age": 0, "income": 0, "height": 0, "city": 3, "member": 2}
    assert source.event.shape == (8,) and source.event.levels is None
    back, truth = source.decode(source.train), PEOPLE[~source._held_out].reset_index(drop=True)
    assert list(back.columns) == list(PEOPLE.columns) and (back["unit"] == "cm").all()
    exact = ["age", "income", "city", "member"]
    assert back[exact].equals(truth[exact].astype({"city": back["city"].dtype}))
    assert np.allclose(back["height"], truth["height"], atol=1e-6)


def test_numbers_are_standardised_by_the_training_split_alone(tmp_path: Path) -> None:
    source = table(tmp_path)
    height = source.train[:, 2].double()
    assert height.mean().abs() < 1e-6 and abs(float(height.std(correction=0)) - 1.0) < 1e-6
    assert abs(float(source.test[:, 2].mean())) > 1e-3


def test_noise_fills_the_cell_of_a_rounded_number_and_of_a_category(tmp_path: Path) -> None:
    many = table(tmp_path, pd.concat([PEOPLE.assign(height=PEOPLE["height"] + k) for k in range(20)]))
    age = next(column for column in many._coded[0] if column.name == "age")
    position = many.train[:, 0].double().numpy() * age.std + age.mean
    assert age.unit == 1.0 and stats.kstest(position - np.floor(position), "uniform").pvalue > 0.01
    city = many.train[:, 3:6].double()
    assert torch.equal(city.argmax(dim=1), many.values(many.train)[:, 3].long())
    rest = city - torch.nn.functional.one_hot(city.argmax(dim=1), 3)
    assert stats.kstest(rest.flatten().numpy(), "uniform").pvalue > 0.01


def test_the_density_of_a_dequantised_row_bounds_its_probability() -> None:
    """Theis et al., section 3.1, for cells: E[log q(x + u)] ≤ log P(cell), by a q whose cells' masses are known."""
    column = Column("n", (), 0.0, 2.0, 0, True)
    generator = np.random.default_rng(0)
    values = np.repeat(np.arange(-3.0, 4.0), 2000)
    events = column.encode(values, generator.random((len(values), 1)))[:, 0]
    nats = stats.norm.logpdf(events) - np.log(column.std)  # in the units of the table
    for value in np.arange(-3.0, 4.0):
        bound = nats[values == value].mean()
        mass = np.log(stats.norm.cdf((value + 1) / 2) - stats.norm.cdf(value / 2))
        assert bound <= mass + 1e-3 and bound > mass - 0.1


def test_decimals_are_found() -> None:
    assert columns.decimals_of(np.array([0.5, 1.25, 3.0])) == 2
    assert columns.decimals_of(np.array([0.1, 2.3], dtype=np.float32)) == 1
    assert columns.decimals_of(RNG.normal(size=50)) is None


def test_samples_off_the_data_decode_too(tmp_path: Path) -> None:
    source = table(tmp_path)
    back = source.decode(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) * 5)
    assert set(back["city"]) <= {"Rome", "Oslo", "Bern"} and back["age"].dtype == np.int64
    assert np.array_equal(back["income"], back["income"].round(1))
    assert source.decode(torch.full((2, 8), torch.nan))["age"].isna().all()


def test_missing_values_are_refused_dropped_or_imputed(tmp_path: Path) -> None:
    holes = PEOPLE.copy().astype({"age": float})
    holes.loc[:9, "age"], holes.loc[5:7, "city"] = np.nan, None
    listed = r"no missing values .*source\.missing=drop.* got 13 in 2 columns: age \(10\), city \(3\)"
    with pytest.raises(ConfigurationError, match=listed):
        table(tmp_path, holes).require()
    dropped = table(tmp_path, holes, missing="drop")
    assert len(dropped.train) + len(dropped.test) == 390
    assert "missing values in 10 rows, left out: age (10), city (3)" in " ".join(dropped.remarks())
    imputed = table(tmp_path, holes, missing="impute")
    rows = imputed.decode(imputed._events)
    kept = holes[~imputed._held_out]
    assert np.allclose(rows["age"][:10], round(kept["age"].mean())) and set(rows["city"][5:8]) == {
        kept["city"].mode()[0]
    }


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"name": [f"n{k}" for k in range(400)]}, {}, r"at most 64 categories .*without=\[name\].* got 400 in name"),
        ({"age": np.inf}, {}, "finite numbers, got 400 infinite ones in column age"),
        ({"age": np.nan}, {"missing": "impute"}, "values in every column .* got none in age"),
        ({}, {"without": ["aeg"]}, "source.without to name columns of age, income.* got aeg"),
        ({}, {"categorical": ["height"]}, "at most 64 categories"),
    ],
)  # fmt: skip
def test_columns_that_cannot_serve_are_named(tmp_path: Path, change: Any, options: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        table(tmp_path, PEOPLE.assign(**change), **options).require()


def test_row_numbers_are_left_out_and_codes_may_be_categories(tmp_path: Path) -> None:
    more = PEOPLE.assign(id=range(400), zone=RNG.integers(1, 6, 400))
    source = table(tmp_path, more, categorical=["zone"], without=["unit"])
    assert source.columns["zone"] == 5 and "id" not in source.columns and "unit" not in source.decode(source.test)
    assert any("they number the rows: id" in said for said in source.remarks())
    assert source.decode(source.train)["zone"].isin(range(1, 6)).all()


def test_other_separators_parquet_and_files_that_are_none(tmp_path: Path) -> None:
    PEOPLE.to_csv(tmp_path / "s.csv", sep=";", index=False, encoding="utf-8-sig")
    assert list(Table("s.csv", tmp_path).decode(table(tmp_path).test).columns) == list(PEOPLE.columns)
    with pytest.raises(ConfigurationError, match=r"expected a file at .*nothing.csv .*got none"):
        Table("nothing.csv", tmp_path).require()
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ConfigurationError, match=r"a CSV or Parquet file at .*empty.csv, got No columns"):
        Table("empty.csv", tmp_path).require()
    (tmp_path / "latin.csv").write_bytes("a,b\nM\xfcnchen,1\n".encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"latin.csv, got 'utf-8"):
        Table("latin.csv", tmp_path).require()
    with pytest.raises(ConfigurationError, match="at least 150 rows"):
        table(tmp_path, PEOPLE.head(149)).require()
    (tmp_path / "p.parquet").write_bytes(b"no parquet")
    with pytest.raises(ConfigurationError, match=r"pyarrow|a CSV or Parquet file"):
        Table("p.parquet", tmp_path).require()


def test_parquet_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    PEOPLE.to_parquet(tmp_path / "p.parquet")
    assert torch.equal(Table("p.parquet", tmp_path).train, table(tmp_path).train)


@pytest.mark.parametrize(
    ("name", "rows", "dimensions"), [("breast_cancer", 569, 32), ("wine", 178, 16), ("diabetes", 442, 12)]
)
def test_tables_that_ship_with_scikit_learn(name: Any, rows: int, dimensions: int) -> None:
    source = ShippedTable(name)
    assert source.name == name and source.event.shape == (dimensions,) and source.contents() is None
    assert len(source.train) + len(source.test) == rows
    raw = source.read()[~source._held_out].reset_index(drop=True)
    back = source.decode(source.train)
    assert list(back.columns) == list(raw.columns)
    for column in raw:
        if pd.api.types.is_numeric_dtype(raw[column]):
            assert np.allclose(back[column], raw[column], rtol=1e-5, atol=1e-6), column
        else:
            assert (back[column] == raw[column]).all()


# ---- arrays -------------------------------------------------------------------------------------------------


def test_points_come_back_in_their_own_units(tmp_path: Path) -> None:
    points = RNG.normal([1000.0, 0.0], [1.0, 1e-3], size=(200, 2)).astype(np.float32)
    source = Array(saved(tmp_path, points, np.arange(200) % 3))
    assert source.event.shape == (2,) and source.columns == {"x0": 0, "x1": 0} and source.label_names == ("0", "1", "2")
    assert len(source.train_labels) == len(source.train) and len(source.test_labels) == len(source.test)
    truth = points[~source._held_out]
    assert np.allclose(source.values(source.train).numpy(), truth, rtol=1e-6, atol=1e-8)
    assert torch.equal(source.train_labels, torch.arange(200)[~source._held_out] % 3)
    one = Array(saved(tmp_path, points[:, 0]))
    assert one.event.shape == (1,) and one.label_names == ()


def test_few_levels_are_a_discrete_event(tmp_path: Path) -> None:
    levels = RNG.integers(0, 5, (300, 4))
    source = LevelArray(saved(tmp_path, levels))
    assert source.event.shape == (4,) and source.event.levels == 5 and source.train.dtype == torch.uint8
    assert np.array_equal(source.decode(source.train).to_numpy(), levels[~source._held_out])
    assert not {tuple(row) for row in source.train.tolist()} & {tuple(row) for row in source.test.tolist()}


@pytest.mark.parametrize(
    ("shape", "layout", "event"),
    [
        ((8, 8), None, (1, 8, 8)), ((8, 8, 3), None, (3, 8, 8)), ((1, 8, 12), None, (1, 8, 12)),
        ((3, 8, 3), "NHWC", (3, 3, 8)), ((3, 8, 3), "NCHW", (3, 8, 3)),
    ],
)  # fmt: skip
def test_layouts_of_images(tmp_path: Path, shape: tuple[int, ...], layout: Any, event: tuple[int, ...]) -> None:
    images = RNG.integers(0, 256, (200, *shape)).astype(np.uint8)
    source = ImageArray(saved(tmp_path, images, np.arange(200) % 2), layout=layout)
    assert source.event.shape == event and source.event.levels == 256
    own = images[~source._held_out]
    last = own.transpose(0, 3, 1, 2) if layout == "NHWC" or shape == (8, 8, 3) else own.reshape(len(own), *event)
    assert np.array_equal(source.train.numpy(), last)
    assert len(source.classifier_images()[1]) == len(own)


def test_what_is_left_open_is_asked_for(tmp_path: Path) -> None:
    ambiguous = saved(tmp_path, np.zeros((200, 3, 8, 3), np.uint8))
    with pytest.raises(ConfigurationError, match=r"source.layout=NHWC or source.layout=NCHW.*\(200, 3, 8, 3\)"):
        ImageArray(ambiguous).require()
    with pytest.raises(ConfigurationError, match=r"expected 1 or 3 channels, got an array of shape \(200, 5, 8, 8\)"):
        ImageArray(saved(tmp_path, np.zeros((200, 5, 8, 8), np.uint8))).require()
    with pytest.raises(ValueError, match="labels called y"):
        ImageArray(saved(tmp_path, RNG.integers(0, 256, (200, 8, 8)).astype(np.uint8))).classifier_images()


def test_levels_of_images(tmp_path: Path) -> None:
    binary = RNG.random((200, 8, 8)) < 0.5
    assert ImageArray(saved(tmp_path, binary)).event.levels == 2
    assert ImageArray(saved(tmp_path, RNG.integers(0, 17, (200, 8, 8)).astype(np.uint8))).event.levels == 17
    assert ImageArray(saved(tmp_path, RNG.integers(0, 40, (200, 8, 8)).astype(np.uint8))).event.levels == 256


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.zeros((4, 2)), "array"), (np.zeros(4, np.float32), "array"), (np.array([[0, 900]]), "array"),
        (np.array([[0, 3]]), "level_array"), (np.array([[True]]), "level_array"), (np.array([[-1, 3]]), "array"),
        (np.zeros((4, 8, 8), np.uint8), "image_array"), (np.zeros((4, 8, 8, 3), bool), "image_array"),
        (np.zeros((4, 8, 8)), None), (np.zeros((4, 1, 1, 1, 1), np.uint8), None), (np.float64(3.0), None),
    ],
)  # fmt: skip
def test_what_an_array_is_taken_for(array: Any, kind: str | None) -> None:
    assert kind_of(np.asarray(array)) == kind


def test_arrays_that_cannot_serve_are_refused_in_one_line(tmp_path: Path) -> None:
    bad = RNG.normal(size=(200, 2))
    bad[3, 1], bad[7, 0] = np.nan, np.inf
    cases: list[tuple[Any, str]] = [
        (bad, r"finite numbers, got 2 of 200 rows that are not"),
        (RNG.normal(size=(149, 2)), "at least 150 rows"),
        (np.array([{"a": 1}] * 200), "what NumPy does not load without running what is in it"),
        (np.array(["a"] * 200), "an array of numbers .* got <U1"),
        (RNG.integers(0, 5, (200, 2)), "source=level_array reads it"),
        (np.zeros((200, 8, 8), np.uint8), "source=image_array reads it"),
        (RNG.random((200, 8, 8)), r"images are bytes \(uint8: of floats"),
        (np.ones((200, 2)), "columns that are not constant|at least 150 rows"),
    ]
    for array, said in cases:
        with pytest.raises(ConfigurationError, match=said) as error:
            Array(saved(tmp_path, array)).require()
        assert "\n" not in str(error.value)
    np.savez(tmp_path / "two.npz", a=bad, b=bad)
    with pytest.raises(ConfigurationError, match=r"expected one array of events in two.npz, .* got a, b"):
        Array(str(tmp_path / "two.npz")).require()
    with pytest.raises(ConfigurationError, match=r"expected 200 .* as labels y, got"):
        Array(saved(tmp_path, RNG.normal(size=(200, 2)), RNG.normal(size=200))).require()
    (tmp_path / "text.npy").write_text("no numbers")
    with pytest.raises(ConfigurationError, match="NumPy does not load"):
        Array(str(tmp_path / "text.npy")).require()


def test_a_path_says_which_source_reads_it(tmp_path: Path) -> None:
    table(tmp_path)
    assert source_for(tmp_path) == ("image_folder", "folder")
    assert source_for(tmp_path / "people.csv") == ("table", "path")
    assert source_for(Path(saved(tmp_path, np.zeros((9, 8, 8), np.uint8)))) == ("image_array", "path")
    assert source_for(Path(saved(tmp_path, np.zeros((9, 8))))) == ("array", "path")
    (tmp_path / "x.docx").write_text("")
    for path in (tmp_path / "x.docx", tmp_path / "nowhere", Path(saved(tmp_path, np.zeros((9, 8, 8))))):
        with pytest.raises(ConfigurationError, match=r"source\.path: expected a "):
            source_for(path)
