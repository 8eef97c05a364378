"""Texts: cut without overlap, read back as they were, and refused by name before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from genfam.sources.text import UNKNOWN, Text
from genfam.sources.validation import seen_through

VERSE = "Tyger Tyger, burning bright,\nIn the forests of the night;\n"


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "a text.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_windows_are_the_text_and_no_window_crosses_a_cut(tmp_path: Path) -> None:
    text = "".join(chr(ord("a") + (7 * i * i + i // 3) % 26) for i in range(2000))
    source = Text(str(written(tmp_path, text)), length=8, plain=False)
    assert "".join(source.text(source.test)) == text[1800:]
    validation = seen_through("validation", source)
    assert "".join(source.text(validation.test)) == text[1600:1800]
    for one in (source, validation):  # the training part is the same, and all of it is learnt
        assert len(one.train) == one.count() == 1600 - 8 + 1
        windows = source.text(one.train[torch.tensor([0, 5, 1592])])
        assert windows == [text[:8], text[5:13], text[1592:1600]]
    assert validation.text(source.test[:1]) == [text[1800:1808]]  # type: ignore[attr-defined]
    x = source.sample(50, generator=torch.Generator().manual_seed(0))
    assert x.dtype == torch.uint8 and all(window in text[:1600] for window in source.text(x))


def test_a_plain_text_is_letters_and_single_spaces(tmp_path: Path) -> None:
    source = Text(str(written(tmp_path, VERSE * 60)), length=8, characters=28)
    plain = "tyger tyger burning bright in the forests of the night "
    whole = "".join(source.text(source.train[::8]))
    assert whole[:55] == plain and set(source.tokens) == {UNKNOWN, *set(plain)}
    assert source.event.levels == 28 and int(source.train[:].max()) < 28
    assert "0.00% of the training part" in source.remarks()[0]


def test_characters_beyond_the_vocabulary_are_one_unknown_token(tmp_path: Path) -> None:
    text = "aaab" * 500 + "aéZ" * 100  # é and Z come after the cut
    source = Text(str(written(tmp_path, text)), length=8, characters=4, plain=False)
    assert source.tokens == (UNKNOWN, "a", "b", UNKNOWN)
    assert set("".join(source.text(source.test))) == {"a", UNKNOWN}
    rarest = Text(str(written(tmp_path, "aabbbc" * 300)), length=8, characters=3, plain=False)
    assert rarest.tokens == (UNKNOWN, "a", "b")  # the most frequent ones


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (None, FileNotFoundError, r"source text: expected a UTF-8 text at .*a text.txt .*, found none"),
        (b"\xff\xfeh\x00i\x00", ValueError, r"expected UTF-8 in .*, got byte 0xff at 0: convert it"),
        ("too short " * 20, ValueError, r"expected a text of at least 6400 characters .*, got 199"),
        ("", ValueError, r"at least 6400 characters .*, got 0"),
    ],
)
def test_files_that_cannot_be_are_named_before_any_work(
    tmp_path: Path, content: Any, error: type[Exception], said: str
) -> None:
    if content is not None:
        written(tmp_path, content)
    source = Text("a text.txt", data_dir=tmp_path)
    with pytest.raises(error, match=said):
        source.require()


def test_the_fingerprint_is_of_the_contents_and_not_of_the_place(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "c").mkdir()
    first, moved, other = (
        Text(str(written(folder, text)), length=8)
        for folder, text in ((tmp_path, VERSE * 60), (tmp_path / "b", VERSE * 60), (tmp_path / "c", VERSE * 61))
    )
    for source in (first, moved, other):
        source.settings = {"path": str(source.path), "length": 8}
    assert first.fingerprint == moved.fingerprint != other.fingerprint
    assert first.fingerprint.startswith('Text(length=8, contents="')
    assert str(tmp_path) not in first.fingerprint


def test_python_brings_a_text() -> None:
    source = Text()
    assert source.count() is not None and source.count() > 200_000  # type: ignore[operator]
    read = " ".join(source.text(source.test))
    assert set(read) <= set("abcdefghijklmnopqrstuvwxyz ") | {UNKNOWN} and " object " in read
    assert source.contents() == Text(length=32).contents()
