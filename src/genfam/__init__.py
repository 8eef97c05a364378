"""genfam: which family of generative model, with this data and this much compute, and how sure are we?"""

import importlib
import warnings

# lightning 2.6 uses a name that torch 2.14 has deprecated, and tells everybody who imports it
warnings.filterwarnings("ignore", message=".*LeafSpec.*", module=r"lightning\.")

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`genfam.load_run` without importing torch for those who only want the version."""
    if name == "load_run":
        # by name: an import here would make every floor depend on the upper ones
        return importlib.import_module("genfam.running.saved").load_run
    if name == "judge":
        return importlib.import_module("genfam.commands.judge").judge
    raise AttributeError(f"module 'genfam' has no attribute {name!r}")
