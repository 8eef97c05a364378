"""Sources made of another set's images when they are looked at: stacked as channels, or binarised.

References:
    L. Metz et al. (2017). Unrolled generative adversarial networks. https://arxiv.org/abs/1611.02163 (stacked MNIST)
    R. Salakhutdinov & I. Murray (2008). On the quantitative analysis of deep belief networks (binarised MNIST).
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Generator, Tensor

from genfam.ranges import Channels, Count
from genfam.seeds import derived_generator
from genfam.sources.base import Source
from genfam.sources.datasets import ImageSet
from genfam.sources.images import draw
from genfam.sources.view import View
from genfam.types import Event


class StackedImages(Source):
    """`channels` random images of a set as the channels of one: classes^channels modes of equal mass.

    Stacks are made on the fly from a seeded table of indices; no image is copied before it is asked for. Classes are
    drawn uniformly, then an image of the class, so that modes have equal mass whatever the class sizes (the original
    draws images uniformly, which on MNIST makes masses differ by some tens of percent).

    Args:
        dataset, data_dir, download, check: as for `ImageSet`; grey images only.
        channels: 3 makes 1,000 modes, 4 makes 10,000.
        train_size: stacks of training images.
        test_size: stacks of test images.
    """

    def __init__(
        self,
        dataset: str = "mnist",
        data_dir: str | Path | None = None,
        download: bool = False,
        channels: Channels = 3,
        train_size: Count = 200_000,
        test_size: Count = 10_000,
        check: bool = True,
        name: str = "stacked_mnist",
    ) -> None:
        self.images = ImageSet(dataset, data_dir, download, check=check)
        grey, height, width = self.images.event.shape
        if grey != 1:
            raise ValueError(f"source {name}: expected a set of grey images, got {dataset} with {grey} channels")
        self.name = name
        self.channels, self.train_size, self.test_size = channels, train_size, test_size
        self.event = Event((channels, height, width), 256)

    def require(self) -> None:
        """See `Source.require`."""
        self.images.require()

    def contents(self) -> str | None:
        """See `Source.contents`."""
        return self.images.contents()

    @property
    def mode_masses(self) -> Tensor:
        """(classes^channels,): equal."""
        count = (int(self.images.splits[0][1].max()) + 1) ** self.channels
        return torch.full((count,), 1.0 / count, dtype=torch.float64)

    def _indices(self, split: int, n: int, generator: Generator) -> Tensor:
        """(n, channels): which image stands in which channel."""
        labels = self.images.splits[split][1]
        order = labels.argsort(stable=True)
        counts = labels.bincount()
        starts = counts.cumsum(0) - counts
        classes = torch.randint(len(counts), (n, self.channels), generator=generator)
        within = (torch.rand(n, self.channels, generator=generator) * counts[classes]).long()
        return order[starts[classes] + within]

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor]:
        return (
            self._indices(0, self.train_size, derived_generator(0, self.name, "train")),
            self._indices(1, self.test_size, derived_generator(0, self.name, "test")),
        )

    @property
    def train(self) -> Tensor:
        """(train_size, channels, H, W) uint8, made when looked at."""
        images, table = self.images.train, self._tables[0]
        return cast(Tensor, View(self.train_size, lambda chosen: images[table[chosen], 0]))

    @property
    def test(self) -> Tensor:
        """(test_size, channels, H, W) uint8 of test images, made at every look: nothing of it is held here."""
        return self.images.test[self._tables[1], 0]

    def classifier_images(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Single images: the classifier looks at one channel at a time."""
        return self.images.classifier_images()

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, channels, H, W) fresh stacks of training images."""
        return self.images.train[self._indices(0, n, generator), 0]


class BinarisedImages(Source):
    """Grey images with pixels drawn as Bernoulli(intensity): two levels, for likelihoods in nats.

    Args:
        dataset, data_dir, download, check: as for `ImageSet`.
        dynamic: draw training pixels anew at every look (Salakhutdinov & Murray 2008); else once. The test split is
            drawn once in both cases, from a seed: not Larochelle's file, so "fixed" numbers are near the published
            ones' protocol, not on it.
    """

    def __init__(
        self,
        dataset: str = "mnist",
        data_dir: str | Path | None = None,
        download: bool = False,
        dynamic: bool = True,
        check: bool = True,
        name: str = "binarised_mnist",
    ) -> None:
        self.images = ImageSet(dataset, data_dir, download, check=check)
        self.name, self.dynamic = name, dynamic
        self.event = Event(self.images.event.shape, 2)

    def require(self) -> None:
        """See `Source.require`."""
        self.images.require()

    def contents(self) -> str | None:
        """See `Source.contents`."""
        return self.images.contents()

    def _binarise(self, images: Tensor, generator: Generator) -> Tensor:
        return (torch.rand(images.shape, generator=generator) * 255.0 < images).to(torch.uint8)

    @cached_property
    def train(self) -> Tensor:
        """(N, 1, H, W) uint8 of 0 and 1; with `dynamic`, made when looked at."""
        images = self.images.train
        if not self.dynamic:
            return self._binarise(images, derived_generator(0, self.name, "train"))

        def look(chosen: Tensor) -> Tensor:
            # Every epoch is another permutation, so the indices of a batch are seed enough for its noise.
            digest = hashlib.sha256(chosen.numpy().astype(np.int64).tobytes()).digest()
            return self._binarise(images[chosen], derived_generator(int.from_bytes(digest[:6], "big"), self.name))

        return cast(Tensor, View(len(images), look))

    @cached_property
    def test(self) -> Tensor:
        """(M, 1, H, W) uint8, drawn once."""
        return self._binarise(self.images.test, derived_generator(0, self.name, "test"))

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the images."""
        return self.images.label_names

    @property
    def train_labels(self) -> Tensor:
        """(N,) int64."""
        return self.images.train_labels

    @property
    def test_labels(self) -> Tensor:
        """(M,) int64."""
        return self.images.test_labels

    def classifier_images(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Binarised training images, drawn once, and the test split, with their labels."""
        (images, labels), (_, test_labels) = self.images.splits
        return self._binarise(images, derived_generator(0, self.name, "classifier")), labels, self.test, test_labels

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, 1, H, W) training images, binarised afresh."""
        return self._binarise(draw(self.images.train, n, generator), generator)
