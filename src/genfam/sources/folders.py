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


class ImageFolder(Source):
    """Images of a folder (and the folders in it), cropped to a square and resized; one in ten is for testing.

    An image belongs to the test split if the hash of its path below the folder says so: adding images moves none.

    Args:
        folder: below `data_dir`, or absolute.
        data_dir: where `folder` lies.
        size: pixels per side.
        grey: one channel in place of three.
        limit: most images to read, the first by name; None = all.
        name: of the source.

    Raises:
        FileNotFoundError: no such folder, or too few images in it for a test split of ten.
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
    def _splits(self) -> tuple[Tensor, Tensor]:
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"source {self.name}: expected a folder of images at {self.folder} (data_dir=…), found none"
            )
        files = sorted(path for path in self.folder.rglob("*") if path.suffix.lower() in self.SUFFIXES)[: self.limit]
        names = [path.relative_to(self.folder).as_posix() for path in files]
        held_out = [hashlib.sha256(name.encode()).digest()[0] < 26 for name in names]
        if sum(held_out) < FEWEST_TEST or len(files) < 2 * sum(held_out):
            raise FileNotFoundError(
                f"source {self.name}: expected enough images ({', '.join(self.SUFFIXES)}) below {self.folder} for "
                f"{FEWEST_TEST} to be held out (one in ten, by the hash of its name), got {len(files)} with "
                f"{sum(held_out)} held out"
            )
        images = torch.stack([self._read(path) for path in files])
        mask = torch.tensor(held_out)
        return images[~mask], images[mask]

    def _read(self, path: Path) -> Tensor:
        """(C, size, size) uint8: the middle square, resized with antialiasing (Pillow's Lanczos)."""
        from PIL import Image

        with Image.open(path) as opened:
            image = opened.convert("L" if self.grey else "RGB")
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.crop((left, top, left + side, top + side))
            resized: Any = np.asarray(square.resize((self.size, self.size), Image.Resampling.LANCZOS))
        return torch.from_numpy(resized.copy()).reshape(self.size, self.size, -1).permute(2, 0, 1)

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
