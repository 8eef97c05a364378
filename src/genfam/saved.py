"""A finished run as an object: load it, sample, get log-likelihoods.

import genfam
run = genfam.load_run("outputs/quick/<run_id>")
x = run.sample(16, seed=0)
print(run.log_prob(x))
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from genfam import environment
from genfam.build import build
from genfam.families.base import Family
from genfam.seeds import derived_generator
from genfam.sources.base import Source
from genfam.sources.validation import seen_through
from genfam.types import Event

LEAST_BFLOAT16_BATCH = 4  # events


@dataclass
class SavedRun:
    """A run's configuration and trained family.

    Attributes:
        config: the resolved configuration.
        source: what it learnt.
        family: in evaluation mode, weights loaded.
    """

    config: dict[str, Any]
    source: Source
    family: Family

    @cached_property
    def event(self) -> Event:
        """Shape and levels of what it samples."""
        return self.family.event

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """(n, *event): uint8 levels or float32 points; the same seed gives the same samples."""
        return self.family.sample(n, generator=derived_generator(seed, "sample")).cpu()

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) nats; raises NotImplementedError where the family has no likelihood."""
        return self.family.log_prob(x).cpu()

    def to_uint8(self, samples: Tensor) -> NDArray[Any]:
        """For judges elsewhere: images as uint8 N × H × W × C in 0..255; points float32 N × D; tables as they are."""
        return to_plain(self.event, samples)


def to_plain(event: Event, samples: Tensor) -> NDArray[Any]:
    """See `SavedRun.to_uint8`."""
    if event.levels is None:
        return samples.float().numpy()
    if len(event.shape) == 3:
        scaled = (samples.float() * (255.0 / (event.levels - 1))).round().clamp(0, 255)
        return np.ascontiguousarray(scaled.to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return samples.to(torch.uint8).numpy()


def make_source(config: dict[str, Any]) -> Source:
    """The source of a configuration, seen through its `split`."""
    source = build(config["source"], plugins=config["plugins"], data_dir=config["data_dir"])
    assert isinstance(source, Source)
    return seen_through(config.get("split", "test"), source)


def make_family(config: dict[str, Any], source: Source, *, weights_follow: bool = False) -> Family:
    """The untrained family of a configuration, fitted to the source's scale.

    Args:
        config: of the run.
        source: as the configuration names it.
        weights_follow: a finished run's will be loaded, so that a family whose weights hold all that looking at the
            training split finds is not asked to look: it may not lie here.

    Raises:
        ValueError: the configuration does not name a family.
    """
    parameters = int(config["budget"]["parameters"])
    family = build(config["family"], plugins=config["plugins"], event=source.event, parameters=parameters)
    if not isinstance(family, Family):
        raise ValueError(f"family: expected a genfam Family, got {type(family).__name__}")
    family.learning_rate_factor = float(config["learning_rate_factor"])
    has = environment.multiplies_bfloat16(config["device"])
    family.in_bfloat16 = in_bfloat16(config.get("precision", "float32"), family, has)
    if not (weights_follow and family.prepared_in_weights):
        family.prepare(source)
    return family


def in_bfloat16(precision: str, family: Family, has: bool) -> bool:
    """Whether to train in bfloat16: `auto` does where the device has it, events are discrete and batches not tiny.

    bfloat16 rounds a point to a third to two thirds of a tight mode's width (σ = 0.01 at radius 1). In batches of fewer
    than `LEAST_BFLOAT16_BATCH` casting takes longer than the products save.

    Raises:
        ValueError: unknown precision.
    """
    pays = has and family.event.is_discrete and family.batch_size >= LEAST_BFLOAT16_BATCH
    choices = {"float32": False, "bfloat16": True, "auto": pays}
    if precision not in choices:
        raise ValueError(f"precision: expected one of {list(choices)}, got {precision!r}")
    return choices[precision]


def load_run(directory: str | Path, data_dir: str | Path | None = None) -> SavedRun:
    """Load a finished run from its folder, onto the CPU (`.family.to("cuda")` puts it on a GPU).

    Args:
        directory: of the run.
        data_dir: where image files lie here, if elsewhere than where the run was made.

    Raises:
        FileNotFoundError: no `config.yaml` or no `weights.safetensors` there.
    """
    folder = Path(directory)
    for name in ("config.yaml", "weights.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder}: expected a finished run with a {name} (a folder of outputs/<suite>/), found none"
            )
    config = yaml.safe_load((folder / "config.yaml").read_text())
    if data_dir is not None:
        config["data_dir"] = str(data_dir)
    source = make_source(config)
    family = make_family(config, source, weights_follow=True)
    load_weights(family, load_file(folder / "weights.safetensors"))
    family.eval()
    return SavedRun(config, source, family)


def sampling_weights(family: Family) -> dict[str, Tensor]:
    """What samples and likelihoods need: no other players, and of the sampling one only its average."""
    state = family.state_dict()
    averaged = family.optimisation.ema > 0
    dropped = [f"{player}." for player in (family.players if averaged else family.players[:-1])]
    kept = {name: value for name, value in state.items() if not name.startswith(tuple(dropped))}
    return {name: value.contiguous().clone() for name, value in kept.items()}


def load_weights(family: Family, weights: dict[str, Tensor]) -> None:
    """The inverse of `sampling_weights`; all of a run's weights are taken too.

    Raises:
        ValueError: weights of another network.
    """
    if not family.players:  # a yardstick
        family.load_state_dict(weights)
        return
    player = family.players[-1]
    prefix = "average.module."
    filled = {f"{player}.{name[len(prefix) :]}": value for name, value in weights.items() if name.startswith(prefix)}
    found = family.load_state_dict(filled | weights, strict=False)
    missing = [name for name in found.missing_keys if name.split(".")[0] not in family.players[:-1]]
    if missing or found.unexpected_keys:
        raise ValueError(
            f"weights: expected those of {type(family).__name__}, got {len(missing)} missing "
            f"({', '.join(missing[:3])}) and {len(found.unexpected_keys)} unknown ("
            f"{', '.join(found.unexpected_keys[:3])})"
        )
