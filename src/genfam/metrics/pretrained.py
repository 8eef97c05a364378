"""CLIP and DINOv2 features by name, through torch-fidelity: feature spaces that no class labels of ImageNet shaped.

A Fréchet distance in them is `fd_clip` or `fd_dinov2`, never FID.

References:
    A. Radford et al. (2021). Learning Transferable Visual Models From Natural Language Supervision.
    https://arxiv.org/abs/2103.00020
    M. Oquab et al. (2023). DINOv2. https://arxiv.org/abs/2304.07193
    G. Stein et al. (2023). Exposing flaws of generative model evaluation metrics. https://arxiv.org/abs/2306.04675
    (which argues for DINOv2).
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from genfam.metrics.base import Extractor, blocks
from genfam.ranges import Count


class ImageNetwork(Extractor):
    """A network of torch-fidelity on 8-bit images; grey ones are repeated to three channels.

    Args:
        name: of the extractor.
        data: the source; its events must be discrete images of one or three channels.
        batch_size: images at a time.
        device: where the network is.
    """

    resize: ClassVar[str]

    def __init__(self, name: str, data: object, batch_size: int, device: str = "cpu") -> None:
        event = getattr(data, "event", None)
        if event is not None and not (event.is_discrete and event.is_image and event.shape[0] in (1, 3)):
            raise ValueError(f"extractor {name}: expected discrete images of 1 or 3 channels, got {event}")
        self.name = name
        self._batch_size = batch_size
        self._levels = 256 if event is None else int(event.levels)
        self.device = device
        self.network: Any = None

    @property
    @abstractmethod
    def weights_hash(self) -> str:
        """Twelve digits that name the weights."""

    @property
    def fingerprint(self) -> str:
        """Name, hash of the weights, resize and how levels become 8 bits."""
        levels = f"levels={self._levels}->256 rounded"
        return f"{self.name}, weights={self.weights_hash}, {self.resize}, grey=repeated, {levels}"

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """(N, 1 or 3, H, W) uint8 levels -> (N, d) float64.

        Raises:
            ValueError: other shapes or types.
        """
        if x.dtype != torch.uint8 or x.dim() != 4 or x.shape[1] not in (1, 3):
            raise ValueError(f"expected (N, 1 or 3, H, W) uint8 images, got {tuple(x.shape)} {x.dtype}")
        parts = []
        for rows in blocks(len(x), self._batch_size):
            images = (x[rows].float() * (255.0 / (self._levels - 1))).round().to(torch.uint8)
            parts.append(self.network(images.expand(-1, 3, -1, -1).to(self.device))[0].double().cpu())
        return torch.cat(parts)


class Pretrained(ImageNetwork):
    """One of torch-fidelity's CLIP or DINOv2 networks.

    Args:
        name: of the extractor.
        data: the source; its events must be discrete images of one or three channels.
        cache_dir: not used: torch.hub's folder keeps what is downloaded.
        architecture: `clip-vit-b-32`, `dinov2-vit-b-14`, … (torch-fidelity's names).
        weights_path: for CLIP, OpenAI's file; None = downloaded once. DINOv2 comes with its code through torch.hub.
        batch_size: images at a time.
        device: where the network is.

    Raises:
        FileNotFoundError: no weights and no way to download them; the message says which file to put where.
        ValueError: the source's events are not such images, or no such architecture.
    """

    resize = "resize=tf1 bilinear to the network's size"

    def __init__(
        self,
        name: str,
        data: object = None,
        cache_dir: str | Path | None = None,
        architecture: str = "clip-vit-b-32",
        weights_path: str | Path | None = None,
        batch_size: Count = 32,
        device: str = "cpu",
    ) -> None:
        super().__init__(name, data, batch_size, device)
        self.network = load(architecture, weights_path).to(device)

    @cached_property
    def weights_hash(self) -> str:
        """Of names and values of the network's tensors."""
        digest = hashlib.sha256()
        for key, value in sorted(self.network.state_dict().items()):
            digest.update(key.encode() + value.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()[:12]


def load(architecture: str, weights_path: str | Path | None) -> nn.Module:
    """torch-fidelity's network with its weights; see `Pretrained`."""
    # Here, not above: the imports take a second, and nobody else needs them.
    from torch_fidelity.feature_extractor_clip import MODEL_METADATA as CLIP
    from torch_fidelity.feature_extractor_clip import MODEL_URLS, FeatureExtractorCLIP
    from torch_fidelity.feature_extractor_dinov2 import MODEL_METADATA as DINOV2
    from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

    folder = Path(torch.hub.get_dir())
    if architecture in CLIP:
        url = MODEL_URLS[architecture]
        file = folder / "checkpoints" / f"{architecture}-{CLIP[architecture]['hash']}.pt"
        given = Path(weights_path).expanduser() if weights_path is not None else None
        if given is not None and not given.is_file():
            raise FileNotFoundError(f"extractor: expected CLIP weights at weights_path={given}, got no file")
        make: Any = FeatureExtractorCLIP
        layer, path = "clip", None if given is None else str(given)
        remedy = f"Fetch {url} elsewhere and put it there as {file}, or give its place with extractor.weights_path=FILE"
    elif architecture in DINOV2:
        if weights_path is not None:
            raise ValueError("extractor.weights_path: DINOv2 takes none, it comes with its code through torch.hub")
        make, layer, path = FeatureExtractorDinoV2, "dinov2", None
        remedy = (
            f'Run torch.hub.load("facebookresearch/dinov2", "{DINOV2[architecture]}") where there is a network, and '
            f"copy its folder {folder} here"
        )
    else:
        known = ", ".join([*CLIP, *DINOV2])
        raise ValueError(f"extractor.architecture: expected one of {known}, got {architecture!r}")
    try:
        network: nn.Module = make(architecture, [layer], feature_extractor_weights_path=path)
    except OSError as error:
        raise FileNotFoundError(
            f"extractor {architecture}: the weights cannot be downloaded ({error}). {remedy}"
        ) from error
    return network
