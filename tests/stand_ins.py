"""Stand-ins: CIFAR-10 and MNIST in their formats, Inception with random weights, a source of a training split alone."""

from __future__ import annotations

import hashlib
import pickle
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genfam.families.base import Family


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch, per_batch: int = 10) -> dict[str, Any]:
    """Batches of random pixels below `root`, whose checksums torchvision is made to expect; -> pixels by file."""
    from torchvision.datasets import CIFAR10

    rng = np.random.default_rng(0)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    pixels: dict[str, Any] = {}

    def write(name: str, content: dict[str, Any]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(name: str) -> list[str]:
        pixels[name] = rng.integers(0, 256, (per_batch, 3072), dtype=np.uint8)
        return write(name, {"data": pixels[name], "labels": [i % 10 for i in range(per_batch)]})

    names = [f"data_batch_{i}" for i in range(1, 6)]
    monkeypatch.setattr(CIFAR10, "train_list", [batch(name) for name in names])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch")])
    meta = write("batches.meta", {"label_names": [str(i) for i in range(10)]})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return pixels


def idx(path: Path, array: np.ndarray) -> None:
    """LeCun's format: magic number, sizes, bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(folder: Path) -> None:
    """60 training and 40 test images of random pixels below `folder`/raw; all ten classes."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 60), ("t10k", 40)):
        idx(folder / "raw" / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28)))
        idx(folder / "raw" / f"{part}-labels-idx1-ubyte", np.arange(n) % 10)


def write_inception(path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A file of weights in torch-fidelity's format, random; -> the network that has them."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    torch.save({}, path)
    with monkeypatch.context() as patch:
        # torch's own initialisation takes seconds and is replaced below
        patch.setattr(nn.init, "kaiming_uniform_", lambda *args, **kwargs: None)
        # The network is made without loading weights, and saved for our extractor to load.
        patch.setattr(nn.Module, "load_state_dict", lambda *args, **kwargs: None)
        network = FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path=str(path))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), path)
    return network


def look_at(family: Family, train: Tensor) -> None:
    """`prepare` on (N, *event): of a source it needs no more."""
    source: Any = SimpleNamespace(train=train)
    family.prepare(source)
