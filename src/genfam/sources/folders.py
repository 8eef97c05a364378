"""Images of a folder, and CelebA.

Reference:
    Z. Liu et al. (2015). Deep Learning Face Attributes in the Wild (CelebA). https://arxiv.org/abs/1411.7766
"""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from genfam.files import contents_of
from genfam.ranges import Count
from genfam.sources.base import Source
from genfam.sources.images import draw
from genfam.sources.listing import Listing, list_images, printable, some
from genfam.types import Event

FEWEST_TEST = 10
SURVEYED = 1000
Rows = tuple[Tensor, Tensor]  # (N, C, H, W) uint8 and (N,) int64 labels


class ImageFolder(Source):
    """Images of a folder (and the folders in it), cropped to a square and resized.

    Folders called `train` and `test` (or `eval`, `val`) are the splits; without them one image in ten is for testing,
    if the hash of its path below the folder says so: adding images moves none. Where all images lie in two or more
    folders, those are classes. What is read, and what is left out: `genfam.sources.listing`. Phones' rotations are
    applied, transparency becomes white, 16 bits become 8, of several frames the first is taken. Training images that
    are equal to a test image are left out.

    Args:
        folder: below `data_dir`, or absolute.
        data_dir: where `folder` lies.
        size: pixels per side.
        grey: one channel in place of three.
        limit: most images to read, chosen by the hash of their paths so that all classes are among them; None = all.
        name: of the source.

    Raises:
        FileNotFoundError: no such folder, or too few images in it for a test split of ten.
        ValueError: files that cannot be read as images, or folders that might be splits or classes.
    """

    places = ("data_dir", "folder", "download")

    def __init__(
        self,
        folder: str,
        data_dir: str | Path | None = None,
        size: Count = 64,
        grey: bool = False,
        limit: Count | None = None,
        name: str = "image_folder",
    ) -> None:
        self.folder = Path(data_dir or ".").expanduser() / Path(folder).expanduser()
        self.name, self.size, self.grey, self.limit = name, size, grey, limit
        self.event = Event((1 if grey else 3, size, size), 256)

    def require(self) -> None:
        """See `Source.require`."""
        assert self._files

    def count(self) -> int | None:
        """Images that are not held out."""
        return sum(not test for _, _, test in self._files)

    def contents(self) -> str | None:
        """See `Source.contents`."""
        return contents_of(self.folder, [path for path, _, _ in self._files])

    def remarks(self) -> list[str]:
        """See `Source.remarks`."""
        files, names = self._files, self.label_names
        held_out = sum(test for _, _, test in files)
        of = f" of {len(names)} classes ({some([Path(name) for name in names])})" if names else ", no classes"
        return [f"{len(files)} images{of}; {held_out} for testing", *self._listing.remarks()]

    def survey(self) -> list[str]:
        """What the first images' headers say of formats and sizes, a sentence each: no image is decoded.

        Raises:
            ValueError: headers that cannot be read.
        """
        from PIL import Image

        formats: Counter[str] = Counter()
        sizes, broken = [], []
        looked = [path for path, _, _ in self._files[:SURVEYED]]
        for path in looked:
            try:
                with Image.open(self.folder / path) as image:
                    formats[f"{image.format} {image.mode}"] += 1
                    sizes.append(image.size)
            except Exception as error:  # as in `_splits`
                broken.append(f"{printable(path)} ({printable(str(error))})")
        if broken:
            raise ValueError(
                f"source {self.name}: expected images below {self.folder}, got {len(broken)} of the first "
                f"{len(looked)} files that cannot be read: {', '.join(broken[:3])}{', …' if broken[3:] else ''}; "
                "remove or mend them"
            )
        small, cut = sum(min(size) < self.size for size in sizes), sum(width != height for width, height in sizes)
        listed = ", ".join(f"{name} ({count})" for name, count in formats.most_common(4))
        of = "" if len(looked) == len(self._files) else f" of the first {SURVEYED}"
        low, high = min(sizes, key=math.prod), max(sizes, key=math.prod)
        return [
            f"formats{of}: {listed}{', …' if len(formats) > 4 else ''}",
            f"sizes{of}: from {low[0]} x {low[1]} to {high[0]} x {high[1]} pixels; {cut} not square, whose edges "
            f"are cut, {small} smaller than {self.size} pixels, which are enlarged",
        ]

    @cached_property
    def _listing(self) -> Listing:
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"source {self.name}: expected a folder of images at {self.folder.absolute()} (source.folder=…, below "
                "data_dir=… where that is given), found none"
            )
        return list_images(self.folder, f"source {self.name}")

    @cached_property
    def _files(self) -> list[tuple[Path, str, bool]]:
        """Paths below the folder in their order, the label of each, and whether it is for testing."""
        there = self._listing
        digests = {path: hashlib.sha256(os.fsencode(path.as_posix())).digest() for path in there.images}
        stated = any(there.splits)
        rows = [
            # The first byte holds out; what follows it chooses, so that a choice has its tenth held out too.
            (path, label, split == "test" if stated else digests[path][0] < 26)
            for path, label, split in zip(there.images, there.labels, there.splits, strict=True)
        ]
        files = sorted(sorted(rows, key=lambda row: digests[row[0]][1:])[: self.limit])
        held_out = sum(test for _, _, test in files)
        if held_out < FEWEST_TEST or len(files) < 2 * held_out:
            rule = "in test" if stated else "to be held out (one in ten, by the hash of its name: 150 images do)"
            raise FileNotFoundError(
                f"source {self.name}: expected enough images below {self.folder} for {FEWEST_TEST} {rule} and as many "
                f"for training, got {len(files)} with {held_out} held out; " + "; ".join(there.remarks())
            )
        return files

    @cached_property
    def _splits(self) -> tuple[Rows, Rows]:
        """Training and test images with their labels."""
        images, broken = [], []
        for path, _, _ in self._files:
            try:
                images.append(self._read(self.folder / path))
            except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError and others of its own
                broken.append(f"{printable(path)} ({printable(str(error))})")
        if broken:
            listed = ", ".join(broken[:3]) + (", …" if len(broken) > 3 else "")
            raise ValueError(
                f"source {self.name}: expected images below {self.folder}, got {len(broken)} of {len(self._files)} "
                f"files that cannot be read: {listed}; remove or mend them"
            )
        names = {name: number for number, name in enumerate(self._names)}
        labels = torch.tensor([names.get(label, 0) for _, label, _ in self._files])
        stacked, mask = torch.stack(images), torch.tensor([test for _, _, test in self._files])
        tested = {image.numpy().tobytes() for image in stacked[mask]}
        copies = torch.tensor([image.numpy().tobytes() in tested for image in stacked]) & ~mask
        if copies.any():
            named = some([path for (path, _, _), copy in zip(self._files, copies.tolist(), strict=True) if copy])
            warnings.warn(
                f"source {self.name}: {int(copies.sum())} training images are equal to a test image and are left out: "
                f"{named}",
                stacklevel=2,
            )
        kept = ~mask & ~copies
        if not kept.any():
            raise ValueError(f"source {self.name}: expected training images other than the test images, got none")
        return (stacked[kept], labels[kept]), (stacked[mask], labels[mask])

    def _read(self, path: Path) -> Tensor:
        """(C, size, size) uint8: the middle square, resized with antialiasing (Pillow's Lanczos)."""
        from PIL import Image, ImageOps

        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode == "F":
                raise ValueError("floating-point levels, of which no range is stated")
            if image.mode.startswith("I"):  # Pillow would clip 16 bits to 255
                image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
            if image.has_transparency_data:  # hidden colours are anything
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("L" if self.grey else "RGB")
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.crop((left, top, left + side, top + side))
            resized: Any = np.asarray(square.resize((self.size, self.size), Image.Resampling.LANCZOS))
        return torch.from_numpy(resized.copy()).reshape(self.size, self.size, -1).permute(2, 0, 1)

    @cached_property
    def _names(self) -> list[str]:
        return sorted({label for _, label, _ in self._files} - {""})

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the folders that hold all images, if there are two or more; else none."""
        return tuple(map(printable, self._names)) if len(self._names) > 1 else ()

    def classifier_images(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Train images and labels, test images and labels, for an extractor to learn classes from.

        Raises:
            ValueError: no classes, or one without training images.
        """
        if not self.label_names:
            raise ValueError(
                f"source {self.name}: expected every image below {self.folder} in one of two or more folders, which "
                "are its classes; without classes use extractor=inception (or identity, for images of few pixels)"
            )
        counts = self.train_labels.bincount(minlength=len(self.label_names))
        if not counts.all():
            raise ValueError(
                f"source {self.name}: expected training images of every class, got none of "
                f"{self.label_names[int(counts.argmin())]}: add images, or move that folder away"
            )
        return self.train, self.train_labels, self.test, self.test_labels

    @property
    def train_labels(self) -> Tensor:
        """(N,) int64: the folder that an image is in."""
        return self._splits[0][1]

    @property
    def test_labels(self) -> Tensor:
        """(M,) int64."""
        return self._splits[1][1]

    @property
    def train(self) -> Tensor:
        """(N, C, size, size) uint8."""
        return self._splits[0][0]

    @property
    def test(self) -> Tensor:
        """(M, C, size, size) uint8."""
        return self._splits[1][0]

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, C, size, size) images of the training split, without repetition as long as they last."""
        return draw(self.train, n, generator)


class CelebA(ImageFolder):
    """Faces in torchvision's layout, split as its authors split them: 162,770 for training, 19,962 for testing.

    torchvision checks the lists beside the images by their checksums, and the archive of the images when it is fetched;
    images that lie there unpacked are taken as they are. The third part, for validation, is not used.

    Args:
        data_dir: torchvision's root: `celeba/img_align_celeba/*.jpg` and the lists `celeba/*.txt` lie below it.
        size: pixels per side.
        limit: most images of each split, the first by number; None = all.
        download: fetch what is missing (from Google Drive, which needs the package `gdown`).
        name: of the source.

    Raises:
        FileNotFoundError: at the first look, where the set is not there or cannot be fetched.
    """

    def __init__(
        self,
        data_dir: str | Path | None = None,
        size: Count = 64,
        limit: Count | None = None,
        download: bool = False,
        name: str = "celeba",
    ) -> None:
        super().__init__("celeba/img_align_celeba", data_dir, size, limit=limit, name=name)
        self.root = None if data_dir is None else Path(data_dir).expanduser()
        self.download = download

    @property
    def label_names(self) -> tuple[str, ...]:
        """None: faces have forty attributes, and no class."""
        return ()

    def require(self) -> None:
        """See `Source.require`."""
        if self.root is None or not (self.download or self.folder.is_dir()):
            raise FileNotFoundError(
                f"source {self.name}: expected data_dir=FOLDER with celeba/img_align_celeba in it, got "
                f"{'no data_dir' if self.root is None else self.root}; put torchvision's files there, or let them be "
                "fetched with source.download=true"
            )

    def count(self) -> int | None:
        """Not known before the lists are read."""
        return None

    def contents(self) -> str | None:
        """See `Source.contents`."""
        self.require()
        there = sorted(path.relative_to(self.folder) for path in self.folder.glob("*") if path.is_file())
        return contents_of(self.folder, there)

    def remarks(self) -> list[str]:
        """None: the lists beside the images say what is read."""
        return []

    @cached_property
    def _splits(self) -> tuple[Rows, Rows]:
        train, test = self._images("train"), self._images("test")
        return (train, torch.zeros(len(train), dtype=torch.int64)), (test, torch.zeros(len(test), dtype=torch.int64))

    def _images(self, split: str) -> Tensor:
        """(N, 3, size, size) uint8."""
        self.require()
        import torchvision  # takes a second, and most sources do not need it

        try:
            found = torchvision.datasets.CelebA(str(self.root), split=split, download=self.download)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(
                f"source {self.name}: {'cannot be downloaded to' if self.download else 'cannot be read from'} "
                f"{self.root} ({error}); expected celeba/img_align_celeba and torchvision's five lists beside it "
                f"({', '.join(name for _, _, name in torchvision.datasets.CelebA.file_list if name.endswith('.txt'))})"
            ) from error
        return torch.stack([self._read(self.folder / name) for name in found.filename[: self.limit]])
