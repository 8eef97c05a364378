"""A first look at a configuration's values, without importing what it names: a mistake is said within a second.

Parts import torch and Lightning, which takes seconds. What their arguments should be stands in their source files, so
that the plain ones (numbers, texts, choices) can be read there. `genfam.build` does the whole check afterwards.
"""

from __future__ import annotations

import ast
import collections.abc
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import annotated_types

from genfam import ranges
from genfam.build import NOTES, SIZES, ConfigurationError, checked

PACKAGE = Path(__file__).parent
KNOWN: dict[str, Any] = {
    "int": int, "float": float, "str": str, "bool": bool, "tuple": tuple, "list": list, "dict": dict, "None": None,
    "Path": Path, "Literal": typing.Literal, "Annotated": typing.Annotated, "Sequence": collections.abc.Sequence,
}  # fmt: skip
KNOWN |= {name: getattr(annotated_types, name) for name in ("Ge", "Gt", "Le", "Lt")}
KNOWN |= {name: value for name, value in vars(ranges).items() if name[0].isupper() and name not in KNOWN}
LATER = object()
"""Stands for an annotation that only an import could tell."""


def check(config: Any, where: str) -> None:
    """Look at a node with a `_target_` of genfam's, and at the nodes in it.

    Raises:
        ConfigurationError: a key that the class does not have, or a plain value that does not fit.
    """
    target = config.get("_target_") if isinstance(config, Mapping) else None
    arguments = arguments_of(target) if isinstance(target, str) and target.startswith("genfam.") else None
    if arguments is None:
        return
    for key, value in config.items():
        if key == "_target_" or (key in NOTES and key not in arguments):
            continue
        if key not in arguments:
            known = ", ".join(name for name in arguments if name not in SIZES)
            name = str(target).rpartition(".")[2]
            raise ConfigurationError(f"{where}.{key}: {name} has no such key; there are {known}")
        if isinstance(value, Mapping) and "_target_" in value:
            check(value, f"{where}.{key}")
        elif arguments[key] is not LATER:
            checked(value, arguments[key], f"{where}.{key}")


@cache
def arguments_of(target: str) -> dict[str, Any] | None:
    """Argument -> annotation (or `LATER`) of a class of genfam's; None where its source does not say."""
    module, _, name = target.rpartition(".")
    path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    if not path.is_file():
        return None
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if found is None:
        return None
    own = next((node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None)
    if own is not None:
        if own.args.kwarg is not None:
            return None
        return {arg.arg: _meaning(arg.annotation) for arg in [*own.args.args[1:], *own.args.kwonlyargs]}
    if any("dataclass" in ast.unparse(decorator) for decorator in found.decorator_list):
        fields = [node for node in found.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
        return {node.target.id: _meaning(node.annotation) for node in fields if isinstance(node.target, ast.Name)}
    for base in found.bases:
        place = _place(tree, module, ast.unparse(base))
        if place is not None:
            return arguments_of(place)
    return {}


def _place(tree: ast.Module, module: str, name: str) -> str | None:
    """Where a base class's name leads: to a class of this file, or to one that it imports from genfam."""
    if any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body):
        return f"{module}.{name}"
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            return f"{node.module}.{name}" if node.module.startswith("genfam.") else None
    return None


def _meaning(annotation: ast.expr | None) -> Any:
    """An annotation that is made of plain types; else `LATER`."""
    if annotation is None:
        return LATER
    names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
    if not names <= KNOWN.keys():
        return LATER
    # our own source, and only names of types
    return eval(compile(ast.Expression(annotation), "annotation", "eval"), {"__builtins__": {}}, KNOWN)
