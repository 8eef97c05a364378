"""Samples from elsewhere are read as they are, or refused in a line that says what is wrong with them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from genfam.build import ConfigurationError
from genfam.running.guest_files import Reading, events_of, paths_of, read
from genfam.types import Event

COLOUR, GREY, POINTS = Event((3, 5, 4), 256), Event((1, 2, 3), 17), Event((2,))
RNG = np.random.default_rng(0)


def test_layouts_are_told_apart_by_the_sources_event() -> None:
    x = RNG.integers(0, 256, (6, 3, 5, 4)).astype(np.uint8)
    last = np.moveaxis(x, 1, 3)
    plain = Reading()
    for given, reading in [
        (x, plain), (torch.from_numpy(x), plain), (last, plain), (x.astype(np.int64), plain),
        (x.reshape(6, -1), Reading(layout="NCHW")), (last.reshape(6, -1), Reading(layout="NHWC")),
    ]:  # fmt: skip
        found = events_of(given, COLOUR, reading)
        assert found.dtype == torch.uint8 and np.array_equal(found.numpy(), x)
    grey = RNG.integers(0, 17, (6, 1, 2, 3)).astype(np.uint8)
    for shape in [(6, 1, 2, 3), (6, 2, 3, 1), (6, 2, 3), (6, 6)]:
        assert np.array_equal(events_of(grey.reshape(shape), GREY, plain).numpy(), grey)
    cube = Event((3, 3, 3), 2)
    bits = RNG.integers(0, 2, (4, 3, 3, 3))
    first, second = (events_of(bits, cube, Reading(layout=name)).numpy() for name in ("NCHW", "NHWC"))
    assert np.array_equal(first, bits) and np.array_equal(np.moveaxis(second, 1, 3), bits)
    with pytest.raises(ConfigurationError, match=r"^layout: expected layout=NCHW or layout=NHWC, for \(4, 3, 3, 3\)"):
        events_of(bits, cube, plain)
    with pytest.raises(ConfigurationError, match=r"^layout: expected .*\(6, 60\) in samples can be read in both ways"):
        events_of(x.reshape(6, -1), COLOUR, plain)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 16.0)])
def test_a_stated_range_is_placed_on_the_levels(ends: tuple[float, float]) -> None:
    levels = np.arange(17)
    floats = ends[0] + levels / 16 * (ends[1] - ends[0])
    jitter = RNG.uniform(-0.45, 0.45, 17) / 16 * (ends[1] - ends[0])
    given = np.clip(np.stack([floats, floats + jitter]), *ends).astype(np.float32)
    found = events_of(given, Event((17,), 17), Reading(ends))
    assert np.array_equal(found.numpy(), np.stack([levels, levels]))


def test_points_are_taken_as_they_are() -> None:
    x = RNG.normal(size=(5, 2))
    assert np.array_equal(events_of(x, POINTS, Reading()).numpy(), x.astype(np.float32))
    assert events_of(np.arange(6), Event((1,), 6), Reading()).shape == (6, 1)


@pytest.mark.parametrize(
    ("array", "event", "reading", "said"),
    [
        (np.zeros((4, 2, 4)), GREY, Reading(), r"expected shape \(N, 1, 2, 3\) or \(N, 2, 3, 1\) or \(N, 2, 3\), got"),
        (np.zeros((4, 5, 4, 3)), COLOUR, Reading((0, 1), "NCHW"), r"expected shape \(N, 3, 5, 4\), got \(4, 5, 4, 3\)"),
        (np.zeros((0, 2)), POINTS, Reading(), r"expected shape \(N, 2\), got \(0, 2\)"),
        (np.zeros((4, 3)), POINTS, Reading(), r"expected shape \(N, 2\), got \(4, 3\)"),
        (np.zeros((4, 2)), POINTS, Reading(layout="NCHW"), "^layout: expected none"),
        (np.zeros((4, 2)), POINTS, Reading((0, 1)), "^range: expected none"),
        (np.array([[0.0, np.nan], [0.0, 1.0]]), POINTS, Reading(), "got NaN or infinity in 1 of 2 samples"),
        (np.array([[0.0, 1e39]]), POINTS, Reading(), r"within float32, got up to 1e\+39"),
        (np.full((4, 6), 0.5), GREY, Reading(), r"^range: expected range=\[LOW,HIGH\].*samples holds 0.5 to 0.5"),
        (np.full((4, 6), 17), GREY, Reading(), r"expected levels 0 to 16, got 17 to 17; .*range=\[LOW,HIGH\]"),
        (np.full((4, 6), -1), GREY, Reading(), "expected levels 0 to 16, got -1 to -1"),
        (np.full((4, 6), 1.01), GREY, Reading((0, 1)), r"expected values in range=\[0,1\], got 1.01 to 1.01"),
        (np.full((4, 6), np.nan), GREY, Reading((0, 1)), "got NaN or infinity in 4 of 4"),
        (np.full((4, 6), "a"), GREY, Reading(), "expected numbers, got <U1"),
    ],
)  # fmt: skip
def test_what_is_no_such_event_is_said(array: Any, event: Event, reading: Reading, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        events_of(array, event, reading)


@pytest.mark.parametrize(("given", "said"), [
    ({"range": (1.0, 1.0)}, r"range: expected \[LOW,HIGH\] with LOW below HIGH, got \[1.0, 1.0\]"),
    ({"range": (0.0, math.inf)}, "range: expected"), ({"layout": "HWC"}, "layout: expected NCHW or NHWC, got 'HWC'"),
])  # fmt: skip
def test_what_a_user_says_of_arrays_is_checked(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Reading(**given)


def test_files_hold_what_arrays_hold(tmp_path: Path) -> None:
    x = RNG.normal(size=(5, 2)).astype(np.float32)
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "b.npz", x)
    np.savez(tmp_path / "c.npz", samples=x, labels=np.zeros(5))
    np.savez(tmp_path / "d.npz", first=x, second=x)
    pd.DataFrame(x).to_csv(tmp_path / "e.csv", index=False, header=False)
    pd.DataFrame(x, columns=["x", "y"]).to_csv(tmp_path / "f.csv", index=False)
    for name in "a.npy", "b.npz", "c.npz", "e.csv", "f.csv":
        assert np.array_equal(read(tmp_path / name, POINTS, Reading()).numpy(), x), name
    assert np.array_equal(read(tmp_path / "d.npz", POINTS, Reading(key="second")).numpy(), x)
    (tmp_path / "die.csv").write_text("5\n0\n3\n")
    assert read(tmp_path / "die.csv", Event((1,), 6), Reading())[:, 0].tolist() == [5, 0, 3]
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "torn.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:100])
    (tmp_path / "words.csv").write_text("x,y\n1,2\n3,four\n")
    (tmp_path / "holes.csv").write_text("1,2\n3,\n")
    (tmp_path / "ragged.csv").write_text("1,2\n3,4,5\n")
    (tmp_path / "empty.csv").write_text("")
    for name, said in {
        "d.npz": "key: expected one of first, second in samples, .*d.npz, got none",
        "objects.npy": "objects.npy: cannot be read: ", "torn.npz": "torn.npz: cannot be read: ",
        "words.csv": "expected numbers, got text in column y", "holes.csv": "NaN or infinity in 1 of 2",
        "ragged.csv": "cannot be read", "empty.csv": "cannot be read",
    }.items():  # fmt: skip
        with pytest.raises(ConfigurationError, match=said):
            read(tmp_path / name, POINTS, Reading())
    with pytest.raises(ConfigurationError, match=r"expected .npz, .npy, .csv or a folder of images"):
        read(tmp_path / "g.pt", POINTS, Reading())


def test_a_folder_of_images_is_read_as_it_is(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (12, 5, 4, 3)).astype(np.uint8)
    (tmp_path / "rgb").mkdir()
    for number, image in enumerate(x):
        Image.fromarray(image).save(tmp_path / "rgb" / f"{number:02}.png")
    assert np.array_equal(read(tmp_path / "rgb", COLOUR, Reading()).numpy(), np.moveaxis(x, 3, 1))
    (tmp_path / "grey").mkdir()
    levels = RNG.integers(0, 17, (3, 2, 3)).astype(np.uint8)
    levels[0, 0, :2] = 0, 16
    for number, image in enumerate(levels):
        Image.fromarray((image * 255.0 / 16).round().astype(np.uint8)).save(tmp_path / "grey" / f"{number}.png")
    assert np.array_equal(read(tmp_path / "grey", GREY, Reading((0, 255)))[:, 0].numpy(), levels)
    with pytest.raises(ConfigurationError, match=r"expected levels 0 to 16, got 0 to 255"):
        read(tmp_path / "grey", GREY, Reading())
    with pytest.raises(ConfigurationError, match=r"rgb, 00.png: expected 3 x 2 pixels, got 4 x 5"):
        read(tmp_path / "rgb", GREY, Reading())
    with pytest.raises(ConfigurationError, match=r"rgb, 00.png: expected grey pixels, got colours"):
        read(tmp_path / "rgb", Event((1, 5, 4), 256), Reading())
    with pytest.raises(ConfigurationError, match="expected a file, for the source's events are no images"):
        read(tmp_path / "rgb", POINTS, Reading())
    Image.fromarray(np.full((5, 4, 4), 100, np.uint8)).save(tmp_path / "rgb" / "99.png")
    with pytest.raises(ConfigurationError, match=r"99.png: expected opaque pixels of 8 bits"):
        read(tmp_path / "rgb", COLOUR, Reading())


def test_patterns_and_lists_name_several_files(tmp_path: Path) -> None:
    for name in "b.npy", "a.npy", "with,comma.npy":
        (tmp_path / name).touch()
    assert [p.name for p in paths_of(f"{tmp_path}/[ab].npy")] == ["a.npy", "b.npy"]
    assert [p.name for p in paths_of(f"[{tmp_path}/b.npy, {tmp_path}/a.npy]")] == ["b.npy", "a.npy"]
    assert [p.name for p in paths_of(tmp_path / "with,comma.npy")] == ["with,comma.npy"]
    with pytest.raises(ConfigurationError, match=r"^samples: expected a file, .* found no '.*c.npy'"):
        paths_of(f"{tmp_path}/a.npy,{tmp_path}/c.npy")
