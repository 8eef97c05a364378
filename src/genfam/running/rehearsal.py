"""Run code on tensors that have shapes, types and devices, but no numbers and no memory: PyTorch's fake tensors.

They go through real autograd and the operators' own shape rules, and raise where tensors of two devices meet. So a
rehearsal on `cuda` shows, on a machine without one, that code mixes no devices; one on `cpu` shows how much memory is
alive at most. (Not both at once: the engine of backward passes asks CUDA's driver for its context, fake or not.)

What neither shows: that kernels exist and agree with the CPU's, what cuDNN takes as its workspace, how an allocator
splits its blocks, how fast anything is. Numbers read from tensors (`float(loss)`) are 1, and conditions are true, so a
loop until something converges (dopri5) would never end.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Watch(TorchDispatchMode):
    """What happens in a rehearsal: bytes that are alive on the device, and draws from generators elsewhere.

    Not torch's own MemTracker: it hooks modules, and those hooks break gradient penalties (see `flops.py`).

    Attributes:
        device: whose memory is counted, by type.
        alive: bytes in tensors that somebody still holds.
        peak: the most that was alive at once.
    """

    def __init__(self, device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not type it
        self.device = device
        self.alive = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operator: its draws checked, what it allocates counted."""
        kwargs = dict(kwargs or {})
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0
        generator = kwargs.get("generator")
        if generator is not None:
            first = next((a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)), None)
            there = kwargs.get("device") or (first.device if first is not None else torch.device("cpu"))
            there = torch.device(there).type
            if there != generator.device.type:
                raise RuntimeError(f"{func}: expected a generator on {there}, got one on {generator.device}")
            kwargs["generator"] = None  # nothing is drawn, and shape rules know of no generator
        out = func(*args, **kwargs)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.device.type == self.device:
                self._hold(leaf.untyped_storage())
        return out

    def _hold(self, storage: Any) -> None:
        key = id(storage)
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._let_go, key, size)

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


class _Mode(FakeTensorMode):
    """One mode, also for copies of its tensors: torch's deepcopy of a buffer would copy the mode with it."""

    def __deepcopy__(self, memo: Any) -> FakeTensorMode:
        return self


@contextmanager
def rehearsal(device: str) -> Iterator[Watch]:
    """Within, every new tensor is a fake one; build networks below `torch.device(device)`."""
    with warnings.catch_warnings():
        # copies of buffers ask for it, and take the answer that there is none
        warnings.filterwarnings("ignore", message=".*Accessing the data pointer of FakeTensor.*")
        with _Mode(), Watch(device) as watch:
            yield watch
