"""The one guarded entrance from a configuration to objects.

A configuration is data, and may come from somebody else. So a `_target_` must be a class of the kind that its place
expects (a Source, a Family, a Metric, …), defined in the package that is made for that kind or in a package that the
user named in `plugins`; a function, another class or another module is refused, nested or not. Every other value must
fit the annotation of the argument that it is given to.
"""

from __future__ import annotations

import collections.abc
import functools
import importlib
import inspect
import math
import operator
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

NOTES = ("name", "role")  # for tables: handed over only where they are accepted
SIZES = ("event", "parameters", "classes")  # of a family, which its configuration does not say
T = TypeVar("T")
LIMITS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {  # of annotated_types: attribute -> test, words
    "ge": (operator.ge, "of at least"),
    "gt": (operator.gt, "above"),
    "le": (operator.le, "of at most"),
    "lt": (operator.lt, "below"),
}

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


class ConfigurationError(ValueError):
    """A configuration that cannot be: says which key, what was expected and what was found."""


class NotModelled(ConfigurationError):
    """A family that does not model such events, whatever its settings: a suite leaves the cell out."""


def configuration_folder() -> Path:
    """The repository's `conf` when running from a checkout, else the copy that the wheel carries.

    Raises:
        FileNotFoundError: neither is there.
    """
    package = Path(__file__).resolve().parent
    checkout = package.parent.parent
    if (checkout / "pyproject.toml").exists() and (checkout / "conf" / "config.yaml").exists():
        return checkout / "conf"
    if (package / "conf" / "config.yaml").exists():
        return package / "conf"
    raise FileNotFoundError(f"expected config.yaml in {checkout / 'conf'} or {package / 'conf'}: reinstall genfam")


def build(config: Mapping[str, Any], kind: type[T], where: str, *, plugins: Sequence[str] = (), **sizes: Any) -> T:
    """An object of `kind` from a node of a configuration, nested parts included.

    Args:
        config: `_target_`, and arguments.
        kind: what its place expects.
        where: the node's key, for errors.
        plugins: packages beside genfam that the user named. They are looked for in the current folder too.
        sizes: further arguments, handed over only where the target accepts them.

    Raises:
        ConfigurationError: see the module.
        ValueError: what the target itself refuses.
    """
    made: T = parse(config, kind, where, plugins).make(**sizes)
    return made


def parse(config: Any, kind: type, where: str, plugins: Sequence[str] = ()) -> Node:
    """A node of a configuration, checked: nothing is built yet. See `build`."""
    if not isinstance(config, Mapping) or "_target_" not in config:
        raise ConfigurationError(f"{where}: expected a {kind.__name__} with a `_target_`, got {_short(config)}")
    target: type = find(config["_target_"], kind, f"{where}._target_", plugins)
    parameters = inspect.signature(target).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    hints = annotations_of(target)
    arguments = {}
    for key, value in config.items():
        if key == "_target_" or (key in NOTES and key not in parameters):
            continue
        if key not in parameters and not takes_any:
            known = ", ".join(name for name in parameters if name not in SIZES)
            raise ConfigurationError(f"{where}.{key}: {target.__name__} has no such key; there are {known}")
        arguments[key] = checked(value, hints.get(key, Any), f"{where}.{key}", plugins)
    return Node(target, where, arguments)


def annotations_of(target: type) -> dict[str, Any]:
    """What a class's arguments should be; one that has no annotation is taken for its base class's of that name."""
    hints: dict[str, Any] = {}
    for each in reversed(target.__mro__[:-1]):
        if "__init__" in vars(each):
            hints |= typing.get_type_hints(vars(each)["__init__"], include_extras=True)
    return hints


@dataclass(frozen=True)
class Node:
    """A checked node of a configuration.

    Attributes:
        target: the class.
        where: the node's key, for errors.
        arguments: plain values, and nodes.
        deferred: whether its place wants what makes the object once its sizes are known, and not the object.
    """

    target: type
    where: str
    arguments: dict[str, Any]
    deferred: bool = False

    def make(self, **sizes: Any) -> Any:
        """The object, or what makes it."""
        parameters = inspect.signature(self.target).parameters
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        arguments = {key: _made(value) for key, value in self.arguments.items()}
        arguments |= {key: value for key, value in sizes.items() if takes_any or key in parameters}
        if self.deferred:
            return functools.partial(self.target, **arguments)
        missing = [
            key for key, p in parameters.items()
            if p.default is p.empty and key not in arguments and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]  # fmt: skip
        if missing:
            raise ConfigurationError(f"{self.where}.{missing[0]}: {self.target.__name__} needs it, got nothing")
        try:
            return self.target(**arguments)
        except ConfigurationError:
            raise
        except (ValueError, TypeError, ArithmeticError, MemoryError, RuntimeError) as error:
            said = str(error).strip().split("\n")[0] or type(error).__name__
            raise ConfigurationError(f"{self.where}: {self.target.__name__} cannot be built: {said}") from error

    def essence(self) -> dict[str, Any]:
        """The class and those arguments that differ from its defaults, as plain data."""
        parameters = inspect.signature(self.target).parameters
        found: dict[str, Any] = {"_target_": _place(self.target)}
        for key, value in self.arguments.items():
            plain = _essence(value)
            default = parameters[key].default if key in parameters else inspect.Parameter.empty
            if default is inspect.Parameter.empty or plain != _essence(default):
                found[key] = plain
        return found


def _made(value: Any) -> Any:
    if isinstance(value, Node):
        return value.make()
    if isinstance(value, list | tuple):
        return type(value)(_made(item) for item in value)
    return {key: _made(item) for key, item in value.items()} if isinstance(value, dict) else value


def _essence(value: Any) -> Any:
    """Plain data that are equal where values are: of nodes, of defaults, of what was parsed."""
    if isinstance(value, Node):
        return value.essence()
    if inspect.isclass(value):
        return {"_target_": _place(value)}
    if is_dataclass(value):
        own = {field.name: getattr(value, field.name) for field in fields(value)}
        usual = {field.name: field.default for field in fields(value)}
        return {"_target_": _place(type(value))} | {k: _essence(v) for k, v in own.items() if v != usual[k]}
    if isinstance(value, list | tuple):
        return [_essence(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _essence(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    plain = value is None or isinstance(value, bool | int | float | str)
    return value if plain else {"_target_": _place(type(value))}


def _place(target: type) -> str:
    return f"{target.__module__}.{target.__qualname__}"


def find(target: Any, kind: type[T], where: str, plugins: Sequence[str] = ()) -> type[T]:
    """The class that a `_target_` names.

    Raises:
        ConfigurationError: it is not one that its place may name.
    """
    if not isinstance(target, str) or not _DOTTED.fullmatch(target):
        raise ConfigurationError(f"{where}: expected a `_target_` like package.module.Class, got {target!r}")
    module_name, _, name = target.rpartition(".")
    root, home = target.split(".")[0], ".".join(kind.__module__.split(".")[:2])
    own = root == "genfam" and home.startswith("genfam.")
    if own and not f"{module_name}.".startswith(f"{home}."):
        raise ConfigurationError(f"{where}: expected a {kind.__name__} of {home}, got {target}")
    if not own and root not in plugins:
        raise ConfigurationError(
            f"{where}: {target} is in package {root!r}, which plugins={list(plugins)} does not name; if you trust it, "
            f"add plugins=[{root}]"
        )
    if not own and os.getcwd() not in sys.path:  # after all that is installed, so that nothing is hidden
        sys.path.append(os.getcwd())
    try:
        found = vars(importlib.import_module(module_name)).get(name)
    except ImportError as error:
        looked = "" if own else f"; looked in {os.getcwd()} and on Python's path"
        raise ConfigurationError(f"{where}: {target} cannot be imported ({error}{looked})") from error
    if not (inspect.isclass(found) and issubclass(found, kind)) or inspect.isabstract(found):
        raise ConfigurationError(f"{where}: expected a {kind.__name__}, got {target}")
    if not found.__module__.split(".")[0] == root or (own and found.__module__ != module_name):
        raise ConfigurationError(f"{where}: expected the place where {name} is defined, got {target}")
    return found


def checked(value: Any, expected: Any, where: str, plugins: Sequence[str] = ()) -> Any:
    """A value as an annotation wants it, parts as nodes; whole numbers may be written as 1e4, names as numbers.

    Raises:
        ConfigurationError: it does not fit.
    """
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, arguments, where, plugins)
    if origin is typing.Annotated:
        found = checked(value, arguments[0], where, plugins)
        if not all(_holds(found, limit) for limit in arguments[1:]):
            raise ConfigurationError(f"{where}: expected {_name(expected)}, got {_short(value)}")
        return found
    if isinstance(value, Mapping) and "_target_" in value:
        if inspect.isclass(expected) and expected.__module__ not in ("builtins", "typing"):
            return parse(value, expected, where, plugins)
        if origin is collections.abc.Callable and inspect.isclass(arguments[-1]):
            return replace(parse(value, arguments[-1], where, plugins), deferred=True)
        plain = "a plain value (its argument has no annotation)" if expected is Any else _name(expected)
        raise ConfigurationError(f"{where}: expected {plain}, got a part, {_short(value['_target_'])}")
    if expected is Any or isinstance(expected, TypeVar) or expected is inspect.Parameter.empty:
        _refuse_parts(value, where)
        return value
    if origin is Literal and value in arguments:
        return value
    if expected is bool and isinstance(value, bool):
        return value
    if expected in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        if expected is float and math.isfinite(value):
            return float(value)
        if expected is int and math.isfinite(value) and float(value).is_integer():
            return int(value)
    if expected in (str, Path) and isinstance(value, str | int | Path) and not isinstance(value, bool):
        return expected(value)
    if expected is type(None) and value is None:
        return None
    if origin in (list, tuple, collections.abc.Sequence) and isinstance(value, list | tuple):
        wanted = list(arguments) or [Any]
        if origin is not tuple or Ellipsis in wanted:
            wanted = [wanted[0]] * len(value)
        if len(wanted) == len(value):
            items = [
                checked(item, each, f"{where}[{i}]", plugins)
                for i, (item, each) in enumerate(zip(value, wanted, strict=True))
            ]
            return tuple(items) if origin is tuple else items
    if origin in (dict, collections.abc.Mapping) and isinstance(value, Mapping):
        return {str(key): checked(item, arguments[1], f"{where}.{key}", plugins) for key, item in value.items()}
    raise ConfigurationError(f"{where}: expected {_name(expected)}, got {_short(value)}")


def _one_of(value: Any, arguments: Sequence[Any], where: str, plugins: Sequence[str]) -> Any:
    """The first alternative that fits; the last one's refusal where none does."""
    if value is None and type(None) in arguments:
        return None
    alternatives = [each for each in arguments if each is not type(None)]
    for each in alternatives[:-1]:
        try:
            return checked(value, each, where, plugins)
        except ConfigurationError:
            continue
    try:
        return checked(value, alternatives[-1], where, plugins)
    except ConfigurationError as error:
        expected = " or ".join([*map(_name, alternatives), *["null"] * (type(None) in arguments)])
        if isinstance(value, Mapping) and "_target_" in value:
            raise
        raise ConfigurationError(f"{where}: expected {expected}, got {_short(value)}") from error


def _holds(value: Any, limit: Any) -> bool:
    """Whether a number is within one of `annotated_types`' limits."""
    return all(
        test(value, getattr(limit, name))
        for name, (test, _) in LIMITS.items()
        if getattr(limit, name, None) is not None
    )


def _refuse_parts(value: Any, where: str) -> None:
    """No `_target_` hides in a value that is handed over as it is."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            raise ConfigurationError(f"{where}: expected a plain value, got a part, {_short(value['_target_'])}")
        for key, item in value.items():
            _refuse_parts(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_parts(item, f"{where}[{index}]")


def _name(expected: Any) -> str:
    """An annotation in words."""
    words: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    if expected in words:
        return words[expected]
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is typing.Annotated:
        limits = [
            f"{said} {getattr(limit, name):g}"
            for limit in arguments[1:]
            for name, (_, said) in LIMITS.items()
            if getattr(limit, name, None) is not None
        ]
        return f"{_name(arguments[0])} {' and '.join(limits)}"
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (list, tuple, collections.abc.Sequence):
        return "a list"
    if origin in (dict, collections.abc.Mapping):
        return "a mapping"
    if origin is collections.abc.Callable:
        return f"a {arguments[-1].__name__} with a `_target_`"
    return f"a {expected.__name__} with a `_target_`" if inspect.isclass(expected) else str(expected)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
