"""The numerics digest: a hash of the source files and package versions that can change a run's numbers.

It starts at the modules of the run's parts and of the engine's numeric steps, and follows their imports within genfam
(and within the run's plug-ins). Comments, docstrings and formatting do not count: a commit of words changes no digest.
Nor does a new family, since the others do not import it: their published records stay valid.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

ENGINE = ("genfam.running.training", "genfam.running.evaluation")
# Of genfam's packages, those whose code numbers pass through.
NUMERIC = ("sources", "corruptions", "networks", "conditions", "families", "metrics", "seeds", "types")
ALSO = ("genfam.running.training", "genfam.running.evaluation", "genfam.running.flops")
DISTRIBUTIONS = {  # module -> package, of those whose version can change a number
    "torch": "torch", "torchvision": "torchvision", "lightning": "lightning", "torchdiffeq": "torchdiffeq",
    "numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn", "PIL": "pillow", "ot": "POT", "zuko": "zuko",
    "torch_fidelity": "torch-fidelity",
}  # fmt: skip
LENGTH = 12


def numerics_digest(parts: Iterable[dict[str, Any]], plugins: Sequence[str] = ()) -> str:
    """Twelve hexadecimal digits.

    Args:
        parts: nodes of a configuration, nested parts included (`Run.identity`).
        plugins: packages beside genfam whose files count too.
    """
    modules = {target.rpartition(".")[0] for part in parts for target in _targets(part)}
    closure, packages = _closure(frozenset(modules | set(ENGINE)), tuple(plugins))
    content = {name: _meaning(name) for name in sorted(closure)} | {f"={name}": _version(name) for name in packages}
    return hashlib.sha256("\n".join(f"{k} {v}" for k, v in sorted(content.items())).encode()).hexdigest()[:LENGTH]


def _targets(node: Any) -> Iterator[str]:
    """Every `_target_` in a node."""
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _targets(value)


@cache
def _closure(roots: frozenset[str], plugins: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """(modules whose code counts, packages from elsewhere that they import)."""
    found: set[str] = set()
    packages: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for imported in _imports(name):
            root = imported.split(".")[0]
            if _counts(imported, plugins):
                waiting.append(imported)
            elif root != "genfam" and root not in plugins:
                packages.add(root)
    return frozenset(found), frozenset(packages & DISTRIBUTIONS.keys())


def _counts(module: str, plugins: tuple[str, ...]) -> bool:
    parts = module.split(".")
    if parts[0] in plugins:
        return True
    return parts[0] == "genfam" and (module in ALSO or (len(parts) > 1 and parts[1] in NUMERIC))


@cache
def _file(module: str) -> Path | None:
    """Its source; None where there is none (a name in a module, or an extension)."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(found.origin) if found is not None and found.origin and found.origin.endswith(".py") else None


@cache
def _tree(module: str) -> ast.Module | None:
    path = _file(module)
    return None if path is None else ast.parse(path.read_text(encoding="utf-8"))


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules that it imports, wherever in it."""
    found: set[str] = set()
    tree = _tree(module)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            if node.module.split(".")[0] == module.split(".")[0]:
                found |= {name for name in inner if _file(name) is not None}
    return tuple(sorted(found))


@cache
def _meaning(module: str) -> str:
    """A hash of the code without its docstrings; formatting and comments are no part of the tree."""
    tree = _tree(module)
    if tree is None:
        return ""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                body[0] = ast.copy_location(ast.Pass(), first)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


@cache
def _version(package: str) -> str:
    """Of an installed package, without its build; empty where it is not installed."""
    try:
        return metadata.version(DISTRIBUTIONS[package]).split("+")[0]
    except metadata.PackageNotFoundError:
        return ""
