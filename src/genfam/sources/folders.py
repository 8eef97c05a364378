"""Images of a folder, and CelebA.

Reference:
    Z. Liu et al. (2015). Deep Learning Face Attributes in the Wild (CelebA). https://arxiv.org/abs/1411.7766
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from genfam.sources.base import Source
from genfam.sources.images import draw
from genfam.types import Event

FEWEST_TEST = 10
HIDDEN = (".", "__MACOSX")  # what systems put beside images
SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}


class ImageFolder(Source):
    """Images of a folder (and the folders in it), cropped to a square and resized; one in ten is for testing.

    An image belongs to the test split if the hash of its path below the folder says so: adding images moves none.
    Where all images lie in two or more folders below it, those are classes, which a classifier can learn.
    Phones' rotations are applied, transparency becomes white, 16 bits become 8, hidden files are left out.

    Args:
        folder: below `data_dir`, or absolute.
        data_dir: where `folder` lies.
        size: pixels per side.
        grey: one channel in place of three.
        limit: most images to read, chosen by the hash of their paths so that all classes are among them; None = all.
        name: of the source.

    Raises:
        FileNotFoundError: no such folder, or too few images in it for a test split of ten.
        ValueError: files that cannot be read as images; `train` and `test` where classes were expected.
    """

    SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")

    def __init__(
        self,
        folder: str,
        data_dir: str | Path | None = None,
        size: int = 64,
        grey: bool = False,
        limit: int | None = None,
        name: str = "image_folder",
    ) -> None:
        self.folder = Path(data_dir or ".").expanduser() / Path(folder).expanduser()
        self.name, self.size, self.grey, self.limit = name, size, grey, limit
        self.event = Event((1 if grey else 3, size, size), 256)

    @cached_property
    def _files(self) -> list[tuple[Path, bool]]:
        """Paths below the folder in their order, and whether each is held out."""
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"source {self.name}: expected a folder of images at {self.folder.absolute()} (source.folder=…, below "
                "data_dir=… where that is given), found none"
            )
        below = [path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file()]
        images = [
            path
            for path in below
            if path.suffix.lower() in self.SUFFIXES and not any(part.startswith(HIDDEN) for part in path.parts)
        ]
        digests = {path: hashlib.sha256(path.as_posix().encode()).digest() for path in images}
        # The first byte holds out; what follows it chooses, so that a choice has its tenth held out too.
        chosen = sorted(sorted(images, key=lambda path: digests[path][1:])[: self.limit])
        files = [(path, digests[path][0] < 26) for path in chosen]
        held_out = sum(test for _, test in files)
        if held_out < FEWEST_TEST or len(files) < 2 * held_out:
            raise FileNotFoundError(
                f"source {self.name}: expected enough images ({', '.join(self.SUFFIXES)}) below {self.folder} for "
                f"{FEWEST_TEST} to be held out (one in ten, by the hash of its name: 150 images do), got {len(files)} "
                f"with {held_out} held out"
            )
        return files

    @cached_property
    def _splits(self) -> tuple[Tensor, Tensor]:
        images, broken = [], []
        for path, _ in self._files:
            try:
                images.append(self._read(self.folder / path))
            except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError and others of its own
                broken.append(f"{path} ({error})")
        if broken:
            some = ", ".join(broken[:3]) + (", …" if len(broken) > 3 else "")
            raise ValueError(
                f"source {self.name}: expected images below {self.folder}, got {len(broken)} of {len(self._files)} "
                f"files that cannot be read: {some}; remove or mend them"
            )
        mask = self._held_out
        stacked = torch.stack(images)
        return stacked[~mask], stacked[mask]

    @property
    def _held_out(self) -> Tensor:
        return torch.tensor([test for _, test in self._files])

    def _read(self, path: Path) -> Tensor:
        """(C, size, size) uint8: the middle square, resized with antialiasing (Pillow's Lanczos)."""
        from PIL import Image, ImageOps

        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
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
    def label_names(self) -> tuple[str, ...]:
        """Names of the folders that hold all images, if there are two or more; else none.

        Raises:
            ValueError: they are called `train`, `test`, `val`: splits, not classes.
        """
        names = {path.parts[0] if len(path.parts) > 1 else "" for path, _ in self._files}
        if len(names) < 2 or "" in names:
            return ()
        if {name.lower() for name in names} <= SPLIT_NAMES:
            splits = ", ".join(sorted(names))
            raise ValueError(
                f"source {self.name}: expected a folder per class in {self.folder}, got splits ({splits}): "
                "give one of them as source.folder (the test images are chosen here, one in ten)"
            )
        return tuple(sorted(names))

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

    @cached_property
    def _labels(self) -> Tensor:
        return torch.tensor([self.label_names.index(path.parts[0]) for path, _ in self._files])

    @property
    def train_labels(self) -> Tensor:
        """(N,) int64: the folder that an image is in."""
        return self._labels[~self._held_out]

    @property
    def test_labels(self) -> Tensor:
        """(M,) int64."""
        return self._labels[self._held_out]

    @property
    def train(self) -> Tensor:
        """(N, C, size, size) uint8."""
        return self._splits[0]

    @property
    def test(self) -> Tensor:
        """(M, C, size, size) uint8."""
        return self._splits[1]

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
        size: int = 64,
        limit: int | None = None,
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

    @cached_property
    def _splits(self) -> tuple[Tensor, Tensor]:
        return self._images("train"), self._images("test")

    def _images(self, split: str) -> Tensor:
        """(N, 3, size, size) uint8."""
        if self.root is None or not (self.download or self.folder.is_dir()):
            raise FileNotFoundError(
                f"source {self.name}: expected data_dir=FOLDER with celeba/img_align_celeba in it, got "
                f"{'no data_dir' if self.root is None else self.root}; put torchvision's files there, or let them be "
                "fetched with source.download=true"
            )
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
