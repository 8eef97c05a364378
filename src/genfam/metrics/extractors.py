"""Feature spaces: the event itself, and a small classifier trained on the source's own training split.

Inception-v3 is in `inception.py`.

Reference:
    S. Barratt & R. Sharma (2018). A Note on the Inception Score. https://arxiv.org/abs/1801.01973 (why features should
    come from a network that was trained on the data in question).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from genfam import files
from genfam.files import checked_name
from genfam.metrics.base import DEPTHS, Extractor, View, blocks
from genfam.metrics.classifier_networks import BODIES, ClassifierNetwork, ResidualNetwork, depths, train_classifier
from genfam.ranges import Count, CountOrNone, Positive
from genfam.types import Event

PUBLISHED = Path(__file__).parent / "weights"  # of classifiers, by name and recipe: the same ruler on every machine
# Part of the cache key: raise it whenever the network or its training below changes.
CLASSIFIER_VERSION = 1
STANDARD = 5000  # training images, the first, whose mean and standard deviation standardise the features of all depths
LEAST_SPREAD = 0.1  # of the root mean square of a depth's standard deviations: a feature that hardly moves stays small


class Identity(Extractor):
    """The event itself, flattened; discrete levels as they are."""

    def __init__(self, name: str = "identity", data: object = None, cache_dir: str | Path | None = None) -> None:
        """`data` and `cache_dir` are not used: every extractor accepts them."""
        self.name = name

    @property
    def fingerprint(self) -> str:
        """The name says it all."""
        return f"{self.name}, flattened event"

    def features(self, x: Tensor) -> Tensor:
        """(N, *event) -> (N, D) float64."""
        return x.flatten(1).double().cpu()


class ClassifierView(View):
    """What a classifier sees of events, all from one pass through its network."""

    extractor: Classifier

    @cached_property
    def _activations(self) -> tuple[Tensor, ...]:
        return self.extractor.activations(self.x)

    @cached_property
    def features(self) -> Tensor:
        """(N, images per event × features) float64."""
        return self._activations[len(DEPTHS) - 1].double().reshape(len(self.x), -1)

    @cached_property
    def depths(self) -> dict[str, Tensor]:
        """Standardised."""
        found = zip(DEPTHS, self._activations[:-1], self.extractor.moments, strict=True)
        return {
            name: ((part.double() - mean) / spread).reshape(len(self.x), -1) for name, part, (mean, spread) in found
        }

    @cached_property
    def classes(self) -> Tensor:
        """One number for all images of an event."""
        images = self.extractor.images_per_event
        place = self.extractor.classes ** torch.arange(images - 1, -1, -1)
        return (self._activations[-1].argmax(dim=1).reshape(-1, images) * place).sum(dim=1)


@runtime_checkable
class LabelledImages(Protocol):
    """What a source must offer to have a classifier."""

    event: Event

    def classifier_images(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, C, H, W) uint8, (N,) int64 for training; then the same for testing."""
        ...


class Classifier(Extractor):
    """Penultimate activations of a small classifier of single images, trained once and kept in a cache.

    An event whose channels are several stacked images is looked at image by image: features are concatenated, and the
    class is the number whose digits (base `n`, first image first) are the images' classes.

    Attributes:
        test_accuracy: share of the source's test images that the network classifies correctly.
    """

    def __init__(
        self,
        name: str,
        data: object,
        cache_dir: str | Path,
        epochs: Count = 30,
        width: Count = 16,
        features: Count = 64,
        batch_size: Count = 64,
        learning_rate: Positive = 4e-3,
        seed: CountOrNone = 0,
        body: str = "plain",
        flip: bool = False,
        shift: bool = True,
        stages: Sequence[int] = (2, 2),
        threads: Count = 1,
        device: str = "cpu",
    ) -> None:
        """Train, or load what an equal classifier left in `cache_dir`.

        Args:
            name: of the extractor.
            data: the source; must offer `classifier_images()`.
            cache_dir: created if need be; safe to share between processes.
            epochs: passes over the training images.
            width: channels of the first convolution; doubled with each halving.
            features: penultimate units per image (`plain`; `residual` has width·2^(stages − 1)).
            batch_size: images per step.
            learning_rate: peak.
            seed: of initialisation, order and shifts.
            body: `plain` convolutions, or `residual` with batch normalisation for sets of tens of thousands.
            flip: mirror images in training, where left and right mean nothing.
            shift: move images by up to a pixel in training.
            stages: `residual`: blocks at each resolution, from half the image's on.
            threads: to train on; the weights depend on them in the last digits.
            device: where features are computed. Training is on the CPU, so that the weights are the same.

        Raises:
            TypeError: the source has no `classifier_images`.
            ValueError: images of the classifier do not fit the source's events, or there is no such body.
        """
        if not isinstance(data, LabelledImages):
            raise TypeError(
                f"extractor {name}: expected a source with classifier_images(), got {getattr(data, 'name', data)!r}; "
                "for events without classes use extractor=identity"
            )
        images = data.classifier_images()
        channels, height, breadth = images[0].shape[1:]
        shape = data.event.shape
        if len(shape) != 3 or shape[1:] != (height, breadth) or shape[0] % channels or data.event.levels is None:
            raise ValueError(
                f"extractor {name}: expected discrete events (k·{channels}, {height}, {breadth}), got {data.event}"
            )
        self.name = checked_name(name, "extractor.name")
        self.images_per_event = shape[0] // channels
        self.classes = int(images[1].max()) + 1
        self.n_classes = self.classes**self.images_per_event
        self._scale = 1.0 / (data.event.levels - 1)
        self._image_shape = (channels, height, breadth)
        if body not in BODIES:
            raise ValueError(f"extractor.body: expected one of {list(BODIES)}, got {body!r}")
        self._training: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
        self._seed, self._threads, self._flip, self._shift = seed, threads, flip, shift
        # Without initial weights, which would be drawn from the global random state: `_load_or_train` fills them in.
        with torch.device("meta"):
            network = (
                ClassifierNetwork(channels, (height, breadth), self.classes, width, features)
                if body == "plain"
                else ResidualNetwork(channels, (height, breadth), self.classes, width, stages)
            )
        self.network: Any = network.to_empty(device="cpu")
        if body != "plain":  # convolutions are a third faster so
            self.network = self.network.to(memory_format=torch.channels_last)
        options = self._training | {"width": width, "features": features, "seed": seed, "scale": self._scale}
        if body != "plain":
            options |= {"body": body, "flip": flip, "threads": threads, "layout": "channels_last"}
        # Named only where they are not the defaults, which recipes from before they were options mean.
        if not shift:
            options |= {"shift": shift}
        if body != "plain" and tuple(stages) != (2, 2):
            options |= {"stages": list(stages)}
        self.recipe = content_hash(images, options | {"version": CLASSIFIER_VERSION})
        self.path = Path(cache_dir) / f"{name}-{self.recipe}.safetensors"
        self.test_accuracy = self._load_or_train(images)
        self.network.eval().requires_grad_(False).to(device)
        self._device = device
        self._standard = images[0][:STANDARD]

    @cached_property
    def fingerprint(self) -> str:
        """Name, hash of data and hyperparameters, hash of the weights."""
        return classifier_fingerprint(self.name, self.recipe, self.network.state_dict())

    def features(self, x: Tensor) -> Tensor:
        """(N, *event) levels -> (N, images per event × features) float64."""
        return self.view(x).features

    def depths(self, x: Tensor) -> dict[str, Tensor]:
        """(N, *event) levels -> early, middle and late features (N, images per event × features), see `Extractor`.

        What the first `STANDARD` training images have as mean and standard deviation is taken off and divided by: it
        follows from the weights and the training images, which the fingerprint names.
        """
        return self.view(x).depths

    def classify(self, x: Tensor) -> Tensor:
        """(N, *event) levels -> (N,) int64 in 0..n_classes − 1: Σ c_i · n^(k−1−i) over the k images of an event."""
        return self.view(x).classes

    def view(self, x: Tensor) -> View:
        """(N, *event) levels -> all three of one pass through the network."""
        return ClassifierView(self, x)

    @cached_property
    def moments(self) -> list[tuple[Tensor, Tensor]]:
        """(d,) mean and standard deviation at every depth."""
        moments = []
        for part in self.activations(self._standard)[: len(DEPTHS)]:
            spread = part.double().std(dim=0)
            least = LEAST_SPREAD * float(spread.square().mean().sqrt())
            moments.append((part.double().mean(dim=0), spread.clamp_min(least) if least else torch.ones_like(spread)))
        return moments

    @torch.no_grad()
    def activations(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, *event) levels -> (images, d) float32 at every depth, and the classes' logits (images, classes)."""
        images = x.reshape(-1, *self._image_shape)
        parts = []
        for rows in blocks(len(images), 1000):
            found = depths(self.network, images[rows].to(self._device).float() * self._scale)
            parts.append([part.cpu() for part in (*found, self.network.head(found[-1]))])
        return tuple(torch.cat(level) for level in zip(*parts, strict=True))

    def _load_or_train(self, images: tuple[Tensor, Tensor, Tensor, Tensor]) -> float:
        """Fill the network; returns its test accuracy. One process trains while the others wait for it.

        What stands in `PUBLISHED` is taken from there: other processors round otherwise, and would train another ruler.
        Where the cache is somebody else's and may not be written, one's own takes its place.
        """
        published = self._stored(PUBLISHED / self.path.name)
        if published is not None:
            return published
        for folder in (self.path.parent, files.cache_folder()):
            if folder is None:
                continue
            path = folder / self.path.name
            found = self._stored(path)
            if found is not None:
                return found
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with FileLock(f"{path}.lock", mode=0o664):
                    found = self._stored(path)
                    if found is not None:
                        return found
                    accuracy = self._train(images)
                    weights = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
                    files.write_atomically(path, save(weights, {"test_accuracy": repr(accuracy)}))
                    return accuracy
            except PermissionError:
                continue
        return self._train(images)

    def _stored(self, path: Path) -> float | None:
        """Fill the network from a cache; None where it has no whole file of it, which is made again."""
        try:
            with safe_open(path, framework="pt") as stored:
                accuracy = float(stored.metadata()["test_accuracy"])
                names = stored.keys()
                self.network.load_state_dict({name: stored.get_tensor(name) for name in names})
            return accuracy
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
            return None

    def _train(self, images: tuple[Tensor, Tensor, Tensor, Tensor]) -> float:
        """Train from the seed, on as many threads as the recipe says, whatever the run has."""
        train_x, train_y, test_x, test_y = images
        threads = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                torch.manual_seed(self._seed)
                for module in self.network.modules():
                    if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                        module.reset_parameters()
                train_classifier(
                    self.network,
                    train_x,
                    train_y,
                    **self._training,
                    scale=self._scale,
                    flip=self._flip,
                    shift=self._shift,
                )
            with torch.no_grad():
                logits = [self.network(test_x[rows].float() * self._scale) for rows in blocks(len(test_x), 1000)]
        finally:
            torch.set_num_threads(threads)
        return float((torch.cat(logits).argmax(dim=1) == test_y).double().mean())


def classifier_fingerprint(name: str, recipe: str, state: Mapping[str, Tensor]) -> str:
    """Name, hash of data and hyperparameters, hash of the weights."""
    digest = hashlib.sha256(b"".join(state[key].cpu().numpy().tobytes() for key in sorted(state)))
    return f"{name}, recipe={recipe}, weights={digest.hexdigest()[:12]}"


def stored_accuracies(cache_dir: str | Path) -> dict[str, float]:
    """Share of test images that each classifier in a cache has right, by the classifier's fingerprint.

    What is no whole file of a classifier is left out, as `Classifier` would train it again.
    """
    found = {}
    for path in sorted(Path(cache_dir).glob("*-*.safetensors")):
        name, recipe = path.stem.rsplit("-", 1)
        try:
            with safe_open(path, framework="pt") as stored:
                accuracy = float(stored.metadata()["test_accuracy"])
                keys = stored.keys()
                state = {key: stored.get_tensor(key) for key in keys}
        except (SafetensorError, KeyError, TypeError):
            continue
        found[classifier_fingerprint(name, recipe, state)] = accuracy
    return found


def content_hash(tensors: tuple[Tensor, ...], options: dict[str, Any]) -> str:
    """16 hexadecimal digits of a SHA-256 over shapes, types, contents and options."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
