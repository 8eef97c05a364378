"""A run's checkpoint as a file: whole or recognised as torn, and the one before it kept."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genfam.files import set_aside, write_atomically

MAGIC = b"genfam checkpoint 1\n"
NAME, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def write(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint with its checksum; the last one stays beside it under another name."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    path = folder / NAME
    if path.exists():
        os.replace(path, folder / PREVIOUS)
    write_atomically(path, MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)


def read(folder: Path, digest: str = "") -> dict[str, Any] | None:
    """The last checkpoint that is whole, or None; what cannot be used is set aside, with a warning.

    Args:
        folder: of the run.
        digest: of the code: what other code wrote would not go on as it began.
    """
    for name in (NAME, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            return _parsed(path.read_bytes(), digest)
        except (OSError, ValueError) as error:
            kept = set_aside(path)
            warnings.warn(f"{path}: {error}; it is kept as {kept.name}, and the run goes on without it", stacklevel=2)
    return None


def remove(folder: Path) -> None:
    """Once a run is finished."""
    for name in (NAME, PREVIOUS):
        (folder / name).unlink(missing_ok=True)


def _parsed(content: bytes, digest: str) -> dict[str, Any]:
    """Raises ValueError: torn, altered, of other code, or with numbers that are not finite."""
    head, _, payload = content[len(MAGIC) :].partition(b"\n")
    if not content.startswith(MAGIC) or hashlib.sha256(payload).hexdigest().encode() != head:
        raise ValueError("expected a whole checkpoint, got a file that is torn or was altered")
    state: dict[str, Any] = torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
    weights: dict[str, Tensor] = state["weights"]
    if not all(bool(torch.isfinite(value).all()) for value in weights.values() if value.is_floating_point()):
        raise ValueError("expected finite weights, got others")
    if digest and state.get("digest") != digest:
        raise ValueError(f"expected a checkpoint of code {digest}, got one of {state.get('digest')}")
    return state
