"""README's picture says what results/family_tree says, of every family."""

from __future__ import annotations

import re
from pathlib import Path

import family_tree
import pytest

from genfam.build import configuration_folder
from helpers import plain_families

pytestmark = pytest.mark.skipif(not family_tree.PICTURE.exists(), reason="results/family_tree is not published yet")


def test_every_family_has_its_place() -> None:
    placed = [name for _, own in family_tree.TREE for name in own]
    assert sorted(placed) == sorted(set(plain_families()) - {"gaussian", "oracle"})
    assert all((configuration_folder() / "family" / f"{name}.yaml").is_file() for name in placed)


def test_the_numbers_in_the_picture_are_the_published_ones() -> None:
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", family_tree.PICTURE.read_text(encoding="utf-8"))
    told = family_tree.numbers()
    places = family_tree.places()
    assert told.keys() - places.keys() == {"reflow"}  # a variant of flow matching, no leaf of its own
    assert places.keys() <= told.keys()
    for name, (text, after) in places.items():
        at = texts.index(text) + after
        assert texts[at : at + 2] == told[name], name


def test_the_readme_shows_it() -> None:
    root = Path(__file__).parent.parent
    assert f"]({family_tree.PICTURE.relative_to(root)})" in (root / "README.md").read_text(encoding="utf-8")
