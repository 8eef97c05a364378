"""The feature space of a user's own folder of images: what can be had there, said in the metric's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from genfam.metrics.base import Extractor, View
from genfam.metrics.extractors import Classifier, Identity
from genfam.metrics.inception import Inception
from genfam.ranges import Count

MOST_EPOCHS = 30
FEW_PIXELS = 256  # 16 × 16 in grey; Inception would look at them enlarged twenty times


class OwnImages(Extractor):
    """A small classifier of the source's own classes where it has some, else Inception, or the pixels if they are few.

    Args:
        data: the source; it may have `label_names`.
        cache_dir: where the trained classifier is kept; Inception's weights are torch.hub's.
        name: of the classifier; the distance is `fd_<name>`, or `fid` in Inception's features, or `fd_identity`.
        looks: images that the classifier sees in training, in at most 30 passes and at least one.
        weights_path: a file of Inception's weights.

    Raises:
        FileNotFoundError: no classes, and Inception's weights cannot be had.
    """

    def __init__(
        self,
        data: Any,
        cache_dir: str | Path,
        name: str = "own_cnn",
        looks: Count = 30_000,
        weights_path: str | None = None,
    ) -> None:
        self.chosen: Extractor = self._choose(data, cache_dir, name, looks, weights_path)
        self.name, self.n_classes = self.chosen.name, self.chosen.n_classes

    @staticmethod
    def _choose(data: Any, cache_dir: str | Path, name: str, looks: int, weights_path: str | None) -> Extractor:
        if data.label_names:
            epochs = min(MOST_EPOCHS, max(1, looks // len(data.classifier_images()[0])))
            return Classifier(name, data, cache_dir, epochs=epochs)
        if data.event.dimensions <= FEW_PIXELS:
            return Identity()
        try:
            return Inception("inception", data, weights_path=weights_path)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error}. Without a download: images in a folder per class (then a classifier of the classes is "
                "trained here), or extractor=identity with few pixels (source.size=8)"
            ) from error

    @property
    def distance_name(self) -> str:
        """Of the one that was chosen."""
        return self.chosen.distance_name

    def features(self, x: Tensor) -> Tensor:
        """(N, *event) -> (N, d) float64."""
        return self.chosen.features(x)

    def depths(self, x: Tensor) -> dict[str, Tensor]:
        """Of the one that was chosen."""
        return self.chosen.depths(x)

    def view(self, x: Tensor) -> View:
        """Of the one that was chosen."""
        return self.chosen.view(x)

    @property
    def fingerprint(self) -> str:
        """Of the one that was chosen."""
        return self.chosen.fingerprint

    def classify(self, x: Tensor) -> Tensor:
        """(N, *event) -> (N,) int64 class."""
        return self.chosen.classify(x)
