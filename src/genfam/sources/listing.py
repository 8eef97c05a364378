"""Find the images below a folder, with the class and split that its folders' names state.

Links are followed, each real folder once. What systems and programs put beside images is left out without a word;
everything else that is left out is counted and named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

CLUTTER = {
    "__macosx", "@eadir", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "lost+found", "#recycle",
    "$recycle.bin", "system volume information",
}  # fmt: skip
ROLES = {
    "train": "train", "training": "train",
    "test": "test", "testing": "test",
    "eval": "validation", "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
}  # fmt: skip
NAMED = 3  # of what is left out


@dataclass
class Listing:
    """What was found below a folder.

    Attributes:
        images: paths below it, in their order.
        labels: of each image, the folder that says its class; "" where folders say none.
        splits: of each image, `train` or `test` where folders say so; "" where they do not.
        left_out: reason -> paths below the folder.
    """

    images: list[Path] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    def remarks(self) -> list[str]:
        """A sentence per reason why something was left out."""
        return [
            f"{len(paths)} left out ({reason}): {some(sorted(paths))}"
            for reason, paths in sorted(self.left_out.items())
        ]


def some(paths: list[Path]) -> str:
    """The first few, in letters that any terminal prints."""
    return ", ".join(printable(path) for path in paths[:NAMED]) + (", …" if len(paths) > NAMED else "")


def printable(path: Path | str) -> str:
    """A file name, with bytes that are not UTF-8 escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def list_images(folder: Path, wanted: str) -> Listing:
    """Every image below a folder, with the classes and splits that its folders state.

    Args:
        folder: exists.
        wanted: how the user names it, for errors.

    Raises:
        ValueError: folders that look like splits of several domains, or like splits beside something else.
    """
    found = Listing()
    images = []
    for path, why in _walk(folder):
        if why:
            found.left_out.setdefault(why, []).append(path)
        else:
            images.append(path)
    level = _split_level(images, wanted)
    roles = {path: ROLES[path.parts[level].lower()] if level is not None else "" for path in images}
    third = "validation" if "test" in roles.values() else None
    for path, role in sorted(roles.items()):
        if role and role == third:
            found.left_out.setdefault("a third split beside train and test", []).append(path)
        else:
            found.images.append(path)
            found.splits.append("test" if role == "validation" else role)
    found.labels = _labels([_folders(path, level) for path in found.images])
    return found


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Paths of files below the folder, each with why it is left out, or "". Folders before links to folders."""
    seen = {folder.resolve()}
    later = [folder]
    while later:
        place = later.pop()
        links: list[Path] = []
        stack = [place]
        while stack:
            here = stack.pop()
            try:
                entries = sorted(os.scandir(here), key=lambda entry: entry.name, reverse=True)
            except OSError as error:
                yield here.relative_to(folder), f"cannot be opened: {error.strerror}"
                continue
            for entry in entries:
                path = here / entry.name
                below = path.relative_to(folder)
                if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
                    continue
                if entry.is_symlink() and not path.exists():
                    yield below, "links that lead nowhere"
                elif path.is_dir():
                    if entry.is_symlink():
                        links.append(path)
                    else:
                        seen.add(path.resolve())
                        stack.append(path)
                elif path.is_file():
                    yield below, _why_not(path)
                else:
                    yield below, "neither files nor folders"
        for link in links:
            if link.resolve() in seen:
                yield link.relative_to(folder), "links to a folder that is read already"
            else:
                seen.add(link.resolve())
                later.append(link)


@cache
def _suffixes() -> frozenset[str]:
    """Of the formats that Pillow reads; those that need a program or a plug-in beside it are found out by opening."""
    from PIL import Image

    Image.init()
    needing = {"EPS", "WMF", "MPEG", "PDF", "BUFR", "GRIB", "HDF5", "FITS"}
    return frozenset(
        s for s, kind in Image.registered_extensions().items() if kind in Image.OPEN and kind not in needing
    )


def _why_not(path: Path) -> str:
    """Nothing for an image. A file whose suffix says nothing is opened."""
    from PIL import Image, ImageFile

    if path.suffix.lower() in _suffixes():
        return ""
    try:
        with Image.open(path) as image:
            return "formats that Pillow alone cannot read" if isinstance(image, ImageFile.StubImageFile) else ""
    except PermissionError:
        return "cannot be opened: permission denied"
    except Exception:  # Pillow raises OSError, ValueError, SyntaxError and others of its own
        return "no images"


def _split_level(images: list[Path], wanted: str) -> int | None:
    """Level of the folders that are splits; None where there are none.

    Raises:
        ValueError: see `list_images`.
    """
    if not images:
        return None
    deepest = min(len(path.parts) - 1 for path in images)
    for depth in range(deepest):
        names = {path.parts[depth] for path in images}
        known = {name for name in names if name.lower() in ROLES}
        if known == names and len({ROLES[name.lower()] for name in names}) > 1:
            if "train" not in {ROLES[name.lower()] for name in names}:
                raise ValueError(
                    f"{wanted}: expected a split called train beside {', '.join(map(printable, sorted(names)))}, got "
                    "none: give one of them as source.folder"
                )
            return depth
        if len({ROLES[name.lower()] for name in known}) > 1:
            others = ", ".join(map(printable, sorted(names - known)[:NAMED]))
            raise ValueError(
                f"{wanted}: expected either splits or classes, got {', '.join(sorted(known))} beside {others}: move "
                "one or the other away"
            )
        alike = _alike(names)
        if alike:
            raise ValueError(
                f"{wanted}: expected splits called train and test (or eval, val), got {', '.join(alike)}: for one "
                "of them give it as source.folder; for a training and a test split rename two of them"
            )
    if deepest == 0:
        loose = sum(len(path.parts) == 1 for path in images)
        known = {path.parts[0] for path in images if len(path.parts) > 1 and path.parts[0].lower() in ROLES}
        if loose and len({ROLES[name.lower()] for name in known}) > 1:
            raise ValueError(
                f"{wanted}: expected either splits or images, got {', '.join(sorted(known))} beside {loose} loose "
                "images: move one or the other away"
            )
    return None


def _alike(names: set[str]) -> list[str]:
    """Names that differ by a split's word alone, like trainA and testA, or train2017 and val2017."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        words = re.findall(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+|[^A-Za-z]+", name)
        for number, word in enumerate(words):
            if word.lower() in ROLES and len(words) > 1:
                rest = "".join(words[:number] + words[number + 1 :]).lower()
                groups.setdefault(rest, {})[ROLES[word.lower()]] = name
    return sorted({name for group in groups.values() if len(group) > 1 for name in group.values()})


def _folders(path: Path, level: int | None) -> list[str]:
    """The folders that an image is in, without its split."""
    parts = list(path.parent.parts)
    if level is not None:
        del parts[level]
    return parts


def _labels(chains: list[list[str]]) -> list[str]:
    """Of every image the first folder that not all images are in; "" for all where an image is in none."""
    shared = 0
    while all(len(chain) > shared for chain in chains) and len({chain[shared] for chain in chains}) == 1:
        shared += 1
    labels = [chain[shared] if len(chain) > shared else "" for chain in chains]
    return [""] * len(labels) if "" in labels else labels
