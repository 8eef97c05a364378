"""What a result was made with: code version, packages, machine."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import genfam

IN_BFLOAT16 = ", bfloat16"  # what a record's device ends in where training was in it
PACKAGES = ("torch", "lightning", "hydra-core", "torchmetrics", "torch-fidelity", "torchdiffeq", "numpy", "scipy",
            "scikit-learn", "pandas", "wandb")  # fmt: skip


@cache
def code_version() -> str:
    """`<package version>+<commit>`, with `.dirty` where tracked files differ from the commit."""
    folder = Path(genfam.__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        # an installed copy may lie inside somebody else's repository: only our own commit counts
        git("ls-files", "--error-unmatch", "__init__.py")
        commit = git("rev-parse", "--short=12", "HEAD")
        # what changes no number (documents, published results) does not make the code another
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/src", ":/conf")
    except (OSError, subprocess.SubprocessError):
        return genfam.__version__
    return f"{genfam.__version__}+{commit}{'.dirty' if changed else ''}"


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that could change a number."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def device_for(asked: str) -> str:
    """Where a run computes: `auto` is the GPU where torch finds one, else the CPU.

    Raises:
        ValueError: neither `cpu`, `cuda` nor `auto`, or `cuda` where there is none.
    """
    if asked not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: expected auto, cpu or cuda, got {asked!r}")
    if asked == "cpu":
        return "cpu"
    import torch  # takes seconds, and most of what asks here wants the CPU

    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise ValueError(f"device=cuda: torch {torch.__version__} ({built}) finds no GPU; device=cpu or auto does here")
    return "cpu"


def processor(device: str = "cpu") -> str:
    """The processor's or the GPU's model name, as the system tells it."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU here"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def multiplies_bfloat16(device: str) -> bool:
    """Whether that kind of device has instructions for bfloat16 products; without them it is many times slower."""
    if device != "cpu":
        import torch

        return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported())
    try:
        flags = next(
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")
        ).split()
    except (OSError, StopIteration):
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def peak_memory(device: str = "cpu") -> int:
    """Largest resident memory of this process so far in bytes; on a GPU, what torch held there at most."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
