"""Real images that ship with scikit-learn: no download.

References:
    Alpaydin, E. & Kaynak, C. 1998. Optical recognition of handwritten digits, UCI machine learning repository:
    1,797 digits of 8×8 pixels with 17 grey levels.
    Metz, L. et al. 2017. Unrolled generative adversarial networks. https://arxiv.org/abs/1611.02163
    (stacked digits: three random digits as channels make 1,000 modes)
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Generator, Tensor

from genfam.ranges import Channels, Count
from genfam.seeds import derived_generator
from genfam.sources.base import Source
from genfam.types import Event

DIGITS_TEST = 500


def draw(events: Tensor, n: int, generator: Generator) -> Tensor:
    """N events, without repetition as long as they last."""
    rounds = [torch.randperm(len(events), generator=generator) for _ in range(-(-n // len(events)))]
    return events[torch.cat(rounds)[:n]]


class Digits(Source):
    """1,797 real handwritten digits as (1, 8, 8) images of levels 0..16; 1,297 to train on, 500 to test.

    The split is stratified by class and fixed. The oracle draws from the training split: real data that are not
    in the reference.
    """

    def __init__(self, name: str = "digits") -> None:
        self.name = name
        self.event = Event((1, 8, 8), 17)

    @cached_property
    def _split(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        bunch = load_digits()
        parts = train_test_split(
            bunch.images.astype(np.uint8)[:, None], bunch.target, test_size=DIGITS_TEST, stratify=bunch.target,
            random_state=0,
        )  # fmt: skip
        train, test, train_labels, test_labels = (torch.from_numpy(part) for part in parts)
        return train, train_labels.long(), test, test_labels.long()

    @property
    def train(self) -> Tensor:
        """(1297, 1, 8, 8) uint8."""
        return self._split[0]

    @property
    def test(self) -> Tensor:
        """(500, 1, 8, 8) uint8."""
        return self._split[2]

    @property
    def label_names(self) -> tuple[str, ...]:
        """The digits."""
        return tuple("0123456789")

    @property
    def train_labels(self) -> Tensor:
        """(1297,) int64."""
        return self._split[1]

    @property
    def test_labels(self) -> Tensor:
        """(500,) int64."""
        return self._split[3]

    def classifier_images(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Train images and labels, test images and labels, for an extractor to learn classes from."""
        return self._split

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, 1, 8, 8) real digits of the training split, without repetition as long as they last."""
        return draw(self.train, n, generator)


class StackedDigits(Source):
    """Three random digits as the channels of one image: 1,000 modes of equal mass.

    Args:
        channels: digits per image.
        train_size: stacks to learn from, made of training digits only.
        test_size: stacks of the reference, made of test digits only.
    """

    def __init__(
        self,
        channels: Channels = 3,
        train_size: Count = 100_000,
        test_size: Count = 10_000,
        name: str = "stacked_digits",
    ) -> None:
        self.name = name
        self.digits = Digits()
        self.channels, self.train_size, self.test_size = channels, train_size, test_size
        self.event = Event((channels, 8, 8), 17)
        self.mode_masses = torch.full((10**channels,), 10.0**-channels, dtype=torch.float64)

    def _stack(self, images: Tensor, labels: Tensor, n: int, generator: Generator) -> Tensor:
        """Classes uniform, then a digit of that class: modes have equal mass whatever the class sizes."""
        order = labels.argsort(stable=True)
        counts = labels.bincount(minlength=10)
        starts = counts.cumsum(0) - counts
        classes = torch.randint(10, (n, self.channels), generator=generator)
        within = (torch.rand(n, self.channels, generator=generator) * counts[classes]).long()
        return images[order[starts[classes] + within], 0]

    @cached_property
    def train(self) -> Tensor:
        """(train_size, channels, 8, 8) uint8."""
        return self.sample(self.train_size, generator=derived_generator(0, self.name, "train"))

    @cached_property
    def test(self) -> Tensor:
        """(test_size, channels, 8, 8) uint8 of test digits."""
        _, _, images, labels = self.digits.classifier_images()
        return self._stack(images, labels, self.test_size, derived_generator(0, self.name, "test"))

    def classifier_images(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Single digits: the classifier looks at one channel at a time."""
        return self.digits.classifier_images()

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, channels, 8, 8) fresh stacks of training digits."""
        images, labels, _, _ = self.digits.classifier_images()
        return self._stack(images, labels, n, generator)
