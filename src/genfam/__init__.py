"""genfam: which family of generative model, with this data and this much compute, and how sure are we?"""

import importlib
import warnings

# lightning 2.6 uses a name that torch 2.14 has deprecated, and tells everybody who imports it
warnings.filterwarnings("ignore", message=".*LeafSpec.*", module=r"lightning\.")

__version__ = "0.1.0"


_WHERE = {
    "Comparison": "commands.python", "compare": "commands.python", "train": "commands.python",
    "judge": "commands.judge", "load_run": "running.saved",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """`genfam.load_run` without importing torch for those who only want the version."""
    if name in _WHERE:
        # by name: an import here would make every floor depend on the upper ones
        return getattr(importlib.import_module(f"genfam.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'genfam' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_WHERE, "__version__"])
