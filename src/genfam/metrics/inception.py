"""Inception-v3 features: the ones in which a Fréchet distance is called FID.

The network, its TensorFlow-1-like bilinear resize to 299 × 299 and its weights are torch-fidelity's
(`inception-v3-compat`), which agree with the original FID code to 1e-8.

References:
    C. Szegedy et al. (2016). Rethinking the Inception Architecture for Computer Vision. https://arxiv.org/abs/1512.00567
    A. Obukhov et al. (2020). High-fidelity performance metrics for generative models in PyTorch.
    https://github.com/toshas/torch-fidelity
"""

from __future__ import annotations

import hashlib
import socket
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from genfam.metrics.pretrained import ImageNetwork
from genfam.ranges import Count

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"


class Inception(ImageNetwork):
    """2048 pooled Inception-v3 features of 8-bit images; grey images are repeated to three channels."""

    resize = "layer=2048, resize=tf1 bilinear 299"
    distance_name = "fid"

    def __init__(
        self,
        name: str = "inception",
        data: object = None,
        cache_dir: str | Path | None = None,
        weights_path: str | Path | None = None,
        batch_size: Count = 32,
        device: str = "cpu",
    ) -> None:
        """Load the weights; without `weights_path` from `cache_dir`, where they are downloaded once.

        Args:
            name: of the extractor.
            data: the source; its events must be discrete images of one or three channels.
            cache_dir: where the weights are kept (default: torch.hub's folder of checkpoints).
            weights_path: a file of torch-fidelity's weights.
            batch_size: images at a time.
            device: where the network is.

        Raises:
            FileNotFoundError: no weights and no way to download them.
            ValueError: the source's events are not such images.
        """
        super().__init__(name, data, batch_size, device)
        self.path = find_weights(weights_path, cache_dir)
        self.network = load_network(self.path).to(device)

    @cached_property
    def weights_hash(self) -> str:
        """Of the weights' file."""
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def find_weights(weights_path: str | Path | None, cache_dir: str | Path | None) -> Path:
    """The file of weights, downloaded if it is neither given nor cached.

    Raises:
        FileNotFoundError: it is not there and cannot be downloaded; the message says where to put it.
    """
    if weights_path is not None:
        given = Path(weights_path).expanduser()
        if not given.is_file():
            raise FileNotFoundError(
                f"extractor inception: expected Inception weights at weights_path={given}, got no file"
            )
        return given
    folder = Path(torch.hub.get_dir()) / "checkpoints" if cache_dir is None else Path(cache_dir)
    path = folder / URL.rsplit("/", 1)[1]
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10.0)
    try:
        torch.hub.download_url_to_file(URL, str(path), hash_prefix="6726825d", progress=False)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"extractor inception: expected the weights at {path}, and they cannot be downloaded ({error}). "
            f"Fetch {URL} elsewhere and put the file there, or give its place with extractor.weights_path=FILE"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return path


def load_network(path: Path) -> Any:
    """torch-fidelity's network with these weights.

    Raises:
        ValueError: the file does not hold tensors only. torch-fidelity would unpickle whatever is in it.
    """
    try:
        torch.load(path, weights_only=True, mmap=True)
    except Exception as error:
        raise ValueError(
            f"{path}: expected a file of tensors that loads with weights_only=True, got {error}"
        ) from error
    # Here, not above: the import takes a second, and nobody else needs it.
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
