"""Sequences on the page and on paper: as they were drawn, as text and never as markup."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genfam.metrics.base import Evaluation
from genfam.report.page_samples import samples_of
from genfam.report.pictures import load_drawn
from genfam.report.strings import strings_figure, texts_of
from genfam.report.style import looks
from genfam.running.kept_samples import TEXTS_SHOWN, save_samples
from genfam.sources.grammar import Grammar

LOOKS = looks({"alpha": "contestant", "truth": "oracle"})


def evaluated(source: Any, x: torch.Tensor) -> Evaluation:
    """Samples beside the same in reverse order, and an extractor that knows no classes."""
    extractor: Any = type("None", (), {"n_classes": 0})()
    nobody: Any = None
    return Evaluation(source, x, x.flip(0), extractor, nobody)


def test_kept_samples_bring_their_texts_and_page_and_picture_show_them(tmp_path: Path) -> None:
    source = Grammar()
    x = source.sample(40, generator=torch.Generator().manual_seed(0))
    save_samples(tmp_path / "samples.npz", evaluated(source, x))
    drawn = load_drawn(tmp_path / "samples.npz", 3)
    assert drawn is not None and drawn.texts is not None
    assert drawn.texts.tolist() == source.text(x[:TEXTS_SHOWN])
    shown = samples_of("grammar", {"alpha": drawn}, LOOKS, tmp_path)
    assert [texts.title for texts in shown.texts] == ["real data", "alpha"]
    assert shown.texts[0].lines == source.text(x.flip(0)[:TEXTS_SHOWN])
    assert not shown.pictures and shown.table is None
    target = tmp_path / "figures" / "samples_grammar.png"
    assert strings_figure({"alpha": drawn}, LOOKS, target, "grammar")
    assert target.read_bytes().startswith(b"\x89PNG")
    assert [picture.title for picture in samples_of("grammar", {}, LOOKS, target.parent).pictures] == ["Samples"]


def test_sampling_of_sequences_is_told_token_by_token(tmp_path: Path) -> None:
    source = Grammar()
    x = source.sample(2, generator=torch.Generator().manual_seed(0))

    class InOrder:
        trajectory = "scalars drawn one after the other"

        def snapshots(self, n: int, times: Sequence[float], generator: torch.Generator) -> torch.Tensor:
            place = torch.arange(x.shape[1])
            return torch.stack([x[:n].float().where(place < t * len(place), torch.nan) for t in times])

    family: Any = InOrder()
    save_samples(tmp_path / "samples.npz", evaluated(source, x), family)
    drawn = load_drawn(tmp_path / "samples.npz", 3)
    assert drawn is not None and drawn.trajectory_texts is not None
    (told,) = samples_of("grammar", {"alpha": drawn}, LOOKS, tmp_path).told_trajectories
    assert told.title == f"alpha: {InOrder.trajectory}"
    assert told.lines[0] == "t = 0     " + " ".join("·" * x.shape[1])
    assert told.lines[-1] == "t = 1     " + source.text(x[:1])[0]
    assert told.lines[2].count("·") == x.shape[1] // 2


def test_a_picture_of_sampling_that_fails_costs_no_run(tmp_path: Path) -> None:
    source = Grammar()
    x = source.sample(2, generator=torch.Generator().manual_seed(0))

    class Broken:
        trajectory = "a plug-in's"

        def snapshots(self, *arguments: Any) -> torch.Tensor:
            raise RuntimeError("no states")

    family: Any = Broken()
    with pytest.warns(UserWarning, match="a plug-in's: no picture of sampling, RuntimeError: no states"):
        save_samples(tmp_path / "samples.npz", evaluated(source, x), family)
    drawn = load_drawn(tmp_path / "samples.npz", 3)
    assert drawn is not None and drawn.trajectory is None and np.array_equal(drawn.samples, x)


def test_odd_texts_stay_on_their_line_and_break_no_picture(tmp_path: Path) -> None:
    odd = ["  two  spaces ", "a\nline", "\x1b[31m", r"$\frac{$", "字" * 300, ""]
    events = np.zeros((6, 4), np.uint8)
    np.savez(tmp_path / "s.npz", samples=events, reference=events, levels=3, texts=odd, reference_texts=odd)
    drawn = load_drawn(tmp_path / "s.npz", 0)
    assert drawn is not None
    lines = texts_of({"alpha": drawn})[0].lines
    assert lines[:4] == ["  two  spaces ", "a↵line", " [31m", r"$\frac{$"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert strings_figure({"alpha": drawn}, LOOKS, tmp_path / "s.png", "odd")
    plain = {key: value for key, value in np.load(tmp_path / "s.npz").items() if "texts" not in key}
    np.savez(tmp_path / "plain.npz", **plain)
    without = load_drawn(tmp_path / "plain.npz", 0)
    assert without is not None and not strings_figure({"alpha": without}, LOOKS, tmp_path / "p.png", "plain")
    np.savez(tmp_path / "broken.npz", **plain, texts=np.zeros((2, 2)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert load_drawn(tmp_path / "broken.npz", 0) is None
    assert "expected rows of texts" in str(said[0].message)
