"""The one guarded entrance from a configuration to objects.

Only what lives in `genfam` or in a package that the user named in `plugins` may be built: a configuration file is
data and must not be able to call anything else.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NOTES = ("name", "role")


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


def build(config: Mapping[str, Any], *, plugins: Sequence[str] = (), **extra: Any) -> Any:
    """Call the `_target_` of `config` with its other keys (nested `_target_`s built first) and with `extra`.

    Packages of the user are looked for in the current folder too. Keyword arguments in `extra` are handed over only
    where the target accepts them, so that a plug-in need not take what it does not use. `name` and `role` are notes
    for the scorecard, handed over only where accepted.

    Raises:
        ValueError: no `_target_`, a target outside the allowed packages, or one that cannot be found or called.
    """
    target = config.get("_target_")
    if not isinstance(target, str):
        raise ValueError(f"expected a `_target_` in the configuration, got the keys {sorted(map(str, config))}")
    root = target.split(".")[0]
    if root != "genfam" and root not in plugins:
        raise ValueError(
            f"{target}: only targets below genfam and the packages in `plugins` ({list(plugins)}) are built; "
            f"if you trust it, add plugins=[{root}]"
        )
    module_name, _, name = target.rpartition(".")
    if root != "genfam" and os.getcwd() not in sys.path:  # after all that is installed, so that nothing is hidden
        sys.path.append(os.getcwd())
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        where = "" if root == "genfam" else f"; looked in {os.getcwd()} and on Python's path"
        raise ValueError(f"{target}: cannot be imported ({error}{where})") from error
    parameters = inspect.signature(factory).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    arguments = {
        key: build(value, plugins=plugins) if isinstance(value, Mapping) and "_target_" in value else value
        for key, value in config.items()
        if key != "_target_" and (key in parameters or key not in NOTES)
    }
    unknown = [key for key in arguments if key not in parameters and not takes_any]
    if unknown:
        raise ValueError(f"{target}: expected keys among {sorted(parameters)}, got {unknown}")
    arguments |= {key: value for key, value in extra.items() if takes_any or key in parameters}
    return factory(**arguments)
