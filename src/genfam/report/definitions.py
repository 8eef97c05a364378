"""What the page says of a source and a family to somebody who has never met them: a sentence each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from genfam.build import ConfigurationError, find


def target(node: Any, kind: type) -> str:
    """The first line of what a configuration's `_target_` says of itself; empty for code from outside genfam.

    Records may come from elsewhere: what is no `kind` of genfam's own is not imported.
    """
    try:
        found: type = find(node.get("_target_") if isinstance(node, Mapping) else None, kind, "_target_")
    except ConfigurationError:
        return ""
    return (inspect.getdoc(found) or "").split("\n")[0]
