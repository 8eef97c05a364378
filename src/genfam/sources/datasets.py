"""Full-size image sets through torchvision: read from `data_dir`, downloaded on request, checked by content.

References:
    Y. LeCun et al. (1998). Gradient-based learning applied to document recognition (MNIST). Proc. IEEE 86.
    H. Xiao, K. Rasul & R. Vollgraf (2017). Fashion-MNIST. https://arxiv.org/abs/1708.07747
    T. Clanuwat et al. (2018). Deep Learning for Classical Japanese Literature (KMNIST). https://arxiv.org/abs/1812.01718
    A. Krizhevsky (2009). Learning Multiple Layers of Features from Tiny Images (CIFAR-10).
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from genfam.files import contents_of
from genfam.ranges import CountOrNone
from genfam.sources.base import Source
from genfam.sources.images import draw
from genfam.types import Event


@dataclass(frozen=True)
class Dataset:
    """One of torchvision's sets.

    Attributes:
        loader: class in `torchvision.datasets`.
        place: file or folder below `data_dir` whose absence means that the set is not there.
        shape: (C, H, W).
        labels: names of the classes.
        contents: SHA-256 of pixels and labels of the training and the test split; None where they are not known to us:
            KMNIST's files are checked by the archives beside them.
        checked_by_torchvision: whether torchvision checks the files at every reading.
    """

    loader: str
    place: str
    shape: tuple[int, int, int]
    labels: tuple[str, ...]
    contents: tuple[str, str] | None = None
    checked_by_torchvision: bool = False


DATASETS = {
    "mnist": Dataset(
        "MNIST", "MNIST/raw/train-images-idx3-ubyte", (1, 28, 28), tuple("0123456789"),
        ("d18cfd466eb143ac1097fde604dba9eec4116885869d04cc648b510949f9e88c",
         "a0863a96c44e5666edbb30c4071ee79ca0514c621e6349c5967fc78e7305c891"),
    ),
    "fashion_mnist": Dataset(
        "FashionMNIST", "FashionMNIST/raw/train-images-idx3-ubyte", (1, 28, 28),
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ("1f243a60b4b748a44c48b9a6f6907be2a08bee3e4e226f0e86fbde8e147b745a",
         "9a494dc49efeb996f4076c469b31cd058152067b1594ba6ab85dd739fce3775e"),
    ),
    "kmnist": Dataset(
        "KMNIST", "KMNIST/raw/train-images-idx3-ubyte", (1, 28, 28),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
    "cifar10": Dataset(
        "CIFAR10", "cifar-10-batches-py", (3, 32, 32),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        checked_by_torchvision=True,
    ),
}  # fmt: skip
Split = tuple[Tensor, Tensor]  # (N, C, H, W) uint8 and (N,) int64


def find(dataset: str, data_dir: str | Path | None, download: bool) -> Path:
    """Torchvision's root, once it is known that the set is there or may be fetched.

    Raises:
        FileNotFoundError: no `data_dir`, or no such set in it.
        ValueError: an unknown set.
    """
    if dataset not in DATASETS:
        raise ValueError(f"source.dataset: expected one of {sorted(DATASETS)}, got {dataset!r}")
    known = DATASETS[dataset]
    if data_dir is None:
        raise FileNotFoundError(
            f"source {dataset}: expected data_dir=FOLDER with {known.place} in it "
            "(source.download=true fetches it there)"
        )
    root = Path(data_dir).expanduser()
    if not download and not (root / known.place).exists():
        raise FileNotFoundError(
            f"source {dataset}: expected {root / known.place}, found none; put torchvision's files there, or let them "
            "be fetched with source.download=true"
        )
    return root


def load(dataset: str, data_dir: str | Path | None, download: bool, *, train: bool, check: bool = True) -> Split:
    """Images and labels of one split, verified.

    Args:
        dataset: a key of `DATASETS`.
        data_dir: torchvision's root.
        download: fetch the set there if it is not.
        train: which split.
        check: compare the contents with what is known of them.

    Raises:
        FileNotFoundError: no `data_dir`, no such set in it, files that cannot be read, or no network to download it by.
        ValueError: an unknown set, or contents other than known or than those of an archive beside them.
    """
    root = find(dataset, data_dir, download)
    known = DATASETS[dataset]
    import torchvision  # takes a second, and most sources do not need it

    try:
        found = getattr(torchvision.datasets, known.loader)(str(root), train=train, download=download)
    except (OSError, RuntimeError, ValueError, AssertionError, KeyError) as error:  # from ValueError on: broken headers
        raise FileNotFoundError(
            f"source {dataset}: {'cannot be downloaded to' if download else 'cannot be read from'} {root} ({error}); "
            f"expected {known.place} there"
        ) from error
    images = torch.as_tensor(found.data)
    images = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2)
    labels = torch.as_tensor(found.targets).long()
    if check and known.contents is not None:
        digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
        if digest != known.contents[0 if train else 1]:
            raise ValueError(
                f"source {dataset}: expected contents {known.contents[0 if train else 1][:12]}… in the "
                f"{'training' if train else 'test'} split below {root}, got {digest[:12]}…: fetch the files again"
            )
    elif check and isinstance(found, torchvision.datasets.MNIST):
        _check_by_archives(dataset, found.resources, Path(found.raw_folder))
    return images.contiguous(), labels


def _check_by_archives(dataset: str, resources: list[tuple[str, str]], folder: Path) -> None:
    """Refuse unpacked files that are not what their archive has, where it lies beside them as torchvision left it.

    Args:
        dataset: for the error.
        resources: names of the archives and their MD5, as torchvision's classes have them.
        folder: where both lie.

    Raises:
        ValueError: an archive with another MD5, or one with other contents than the file beside it.
    """
    for name, md5 in resources:
        archive = folder / name
        if not archive.exists():
            continue
        digest = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
        if digest != md5:
            raise ValueError(f"source {dataset}: expected MD5 {md5} of {archive}, got {digest}: fetch the files again")
        if gzip.decompress(archive.read_bytes()) != archive.with_suffix("").read_bytes():
            raise ValueError(
                f"source {dataset}: expected in {archive.with_suffix('')} what {archive.name} beside it has, got other "
                "contents: fetch the files again"
            )


class ImageSet(Source):
    """One of torchvision's labelled sets, in memory; the oracle draws from the training split.

    Args:
        dataset: `mnist`, `fashion_mnist`, `kmnist` or `cifar10`.
        data_dir: torchvision's root.
        download: fetch the set there if it is not.
        pad: zeros on every side (2 makes 28×28 images 32×32).
        check: compare the contents with what is known of them.
        name: of the source.
    """

    def __init__(
        self,
        dataset: str,
        data_dir: str | Path | None = None,
        download: bool = False,
        pad: CountOrNone = 0,
        check: bool = True,
        name: str | None = None,
    ) -> None:
        if dataset not in DATASETS:
            raise ValueError(f"source.dataset: expected one of {sorted(DATASETS)}, got {dataset!r}")
        self.name = name or dataset
        self.dataset, self.data_dir, self.download, self.pad, self.check = dataset, data_dir, download, pad, check
        channels, height, width = DATASETS[dataset].shape
        self.event = Event((channels, height + 2 * pad, width + 2 * pad), 256)

    def require(self) -> None:
        """See `Source.require`."""
        find(self.dataset, self.data_dir, self.download)

    def contents(self) -> str | None:
        """See `Source.contents`; None where they are checked at every reading, so that they can be but one."""
        known = DATASETS[self.dataset]
        if self.check and (known.contents is not None or known.checked_by_torchvision):
            return None
        if self.data_dir is None or not (Path(self.data_dir).expanduser() / known.place).exists():
            assert self.splits  # downloads, or says what is missing
        folder = (Path(self.data_dir or ".").expanduser() / known.place).parent
        return contents_of(folder, [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()])

    @cached_property
    def splits(self) -> tuple[Split, Split]:
        """Training and test images with their labels."""
        found = []
        for train in (True, False):
            images, labels = load(self.dataset, self.data_dir, self.download, train=train, check=self.check)
            found.append((F.pad(images, (self.pad,) * 4) if self.pad else images, labels))
        return found[0], found[1]

    @property
    def train(self) -> Tensor:
        """(N, C, H, W) uint8."""
        return self.splits[0][0]

    @property
    def test(self) -> Tensor:
        """(M, C, H, W) uint8."""
        return self.splits[1][0]

    @property
    def label_names(self) -> tuple[str, ...]:
        """As the set's authors call its classes."""
        return DATASETS[self.dataset].labels

    @property
    def train_labels(self) -> Tensor:
        """(N,) int64."""
        return self.splits[0][1]

    @property
    def test_labels(self) -> Tensor:
        """(M,) int64."""
        return self.splits[1][1]

    def classifier_images(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Train images and labels, test images and labels, for an extractor to learn classes from."""
        return (*self.splits[0], *self.splits[1])

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, C, H, W) real images of the training split, without repetition as long as they last."""
        return draw(self.train, n, generator)
