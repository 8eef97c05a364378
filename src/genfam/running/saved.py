"""A finished run as an object: load it, sample, get log-likelihoods.

import genfam
run = genfam.load_run("outputs/quick/<run_id>")
x = run.sample(16, seed=0)
print(run.log_prob(x))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from genfam.families.base import Family
from genfam.files import refuse_links, sha256, write_atomically
from genfam.records.paths import without_paths
from genfam.records.run import Run
from genfam.records.store import read_record
from genfam.running.parts import make_family, make_source
from genfam.seeds import derived_generator
from genfam.sources.base import Source
from genfam.types import Event, Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTS = "weights.safetensors"
PLACES = (
    "output_dir",
    "results_dir",
    "data_dir",
    "plugins",
    "logger",
    "wandb",
)  # of a configuration: no number hangs on them
CHECKED = 4  # samples by which a saved model is held against the trained one


@dataclass
class SavedRun:
    """A run's settings and trained family.

    Attributes:
        run: the settings.
        source: what it learnt.
        family: in evaluation mode, weights loaded.
        record: what was measured of it; None where that cannot be read.
    """

    run: Run
    source: Source
    family: Family
    record: Record | None = None

    @cached_property
    def event(self) -> Event:
        """Shape and levels of what it samples."""
        return self.family.event

    def sample(self, n: int, seed: int = 0, condition: int | Tensor | None = None) -> Tensor:
        """(n, *event): uint8 levels or float32 points; the same seed gives the same samples.

        Args:
            n: how many.
            seed: of the draw.
            condition: one value for all, or (n,) int64; None draws it by its shares.
        """
        return self.family.sample(n, generator=derived_generator(seed, "sample"), condition=condition).cpu()

    def log_prob(self, x: Tensor, condition: int | Tensor | None = None) -> Tensor:
        """(B, *event) -> (B,) nats; raises NotImplementedError where the family has no likelihood."""
        return self.family.log_prob(x, condition).cpu()

    def condition_named(self, name: str) -> int:
        """The value of a condition by its number or name.

        Raises:
            ValueError: no such value.
        """
        named = self.family.condition.names
        if name in named:
            return named.index(name)
        if name.isdecimal() and int(name) < len(named):
            return int(name)
        known = ", ".join(named) or "none: the model is unconditional"
        raise ValueError(f"condition: expected one of {known}, got {name}")

    def show(self, n: int | None = None, seed: int = 0) -> Figure:
        """A picture of n samples: by default 64 images, or 1,000 of other events."""
        from genfam.running.drawing import drawn  # matplotlib takes a second to import

        count = n or (64 if len(self.event.shape) == 3 else 1000)
        return drawn(self.event, self.sample(count, seed))

    def __repr__(self) -> str:
        """Three lines: what it is, how good, what it can do."""
        lines = [f"{self.run.family['name']} on {self.run.data_name}, seed {self.run.seed}"]
        if self.record is not None:
            found = [m for m in self.record.metrics if m.name == self.record.judge and m.estimate is not None]
            lines += [f"{m.name} {m.estimate.value:.3g}" for m in found if m.estimate is not None]
            seconds = self.record.train_seconds or 0.0
            lines[-1] += f" after {self.record.train_flops:.2g} training FLOPs in {seconds:.0f} s"
        return "\n".join(
            [*lines, f"likelihood: {self.family.likelihood_kind.value}; .sample(n), .show(), .export(folder)"]
        )

    def export(self, folder: str | Path) -> Path:
        """Hand the model over as a folder with weights, settings and a model card: `genfam.running.handover.export`."""
        from genfam.running.handover import export  # which imports this file

        return export(self, folder)

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


def load_run(directory: str | Path, data_dir: str | Path | None = None, *, plugins: Sequence[str] = ()) -> SavedRun:
    """Load a finished run from its folder, onto the CPU (`.family.to("cuda")` puts it on a GPU).

    Args:
        directory: of the run.
        data_dir: where image files lie here, if elsewhere than where the run was made.
        plugins: packages beside genfam that may be imported for it; a run's own list is not trusted.

    Raises:
        FileNotFoundError: no `config.yaml` or no weights there.
        ConfigurationError: a configuration that names what it may not, or plug-ins that were not named here.
        ValueError: files that are torn, or a link that leads out of the folder.
    """
    folder = Path(directory)
    for name in ("config.yaml", WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder}: expected a finished run with a {name} (a folder of outputs/<suite>/), found none"
            )
    refuse_links(folder)
    run = stored(folder, data_dir, plugins=plugins)
    check_weights(folder)
    source = make_source(run)
    try:
        weights = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(
            f"{folder / WEIGHTS}: expected whole weights, got a file that cannot be read: {error}"
        ) from error
    family = make_family(run, source, weights)
    load_weights(family, weights)
    family.eval()
    return SavedRun(run, source, family, read_record(folder))


def check_weights(folder: Path) -> None:
    """Raise ValueError where a run's weights are not those that its record is about."""
    record = read_record(folder)
    known = record.files.get(WEIGHTS) if record is not None else None
    if known is not None and sha256(folder / WEIGHTS) != known:
        raise ValueError(
            f"{folder / WEIGHTS}: expected the weights that the record beside it is about (SHA-256 {known[:12]}…), got "
            "others: they are damaged, or were replaced"
        )


def check_settings(folder: Path, content: dict[str, Any]) -> None:
    """Raise ValueError where a run's settings are not those that its record is about."""
    record = read_record(folder)
    if record is None:
        return
    there, here = (
        {key: value for key, value in without_paths(config).items() if key not in PLACES}
        for config in (record.config, content)
    )
    if there != here:
        differ = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
        raise ValueError(
            f"{folder / 'config.yaml'}: expected the settings that the record beside it is about, got others in "
            f"{', '.join(differ)}"
        )


def stored(folder: Path, data_dir: str | Path | None = None, *, plugins: Sequence[str] = ()) -> Run:
    """The settings in a run's `config.yaml`, with this command's plug-ins.

    Nothing is downloaded for them, and pretrained weights come from torch.hub's folder: what is loaded there may run.

    Raises:
        ValueError: no configuration.
    """
    path = folder / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a run's configuration, got text that is no YAML: {said}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a run's configuration, got {type(content).__name__}")
    check_settings(folder, content)
    content["plugins"] = list(plugins)
    if data_dir is not None:
        content["data_dir"] = str(data_dir)
    for part, key, safe in (("source", "download", False), ("extractor", "weights_path", None)):
        node = content.get(part)
        if isinstance(node, dict) and key in node:
            content[part] = node | {key: safe}
    return Run.of(content)


def save_model(directory: Path, run: Run, family: Family, source: Source) -> None:
    """Write the weights and what was declared beside them, and see that a model loaded from them draws the same.

    Raises:
        ValueError: it does not: the family keeps something that it has not declared.
    """
    kept = {key: value for key, value in family.state_dict().items() if _part(key) not in family.of_training_only}
    weights = {key: value.cpu().contiguous().clone() for key, value in kept.items()}
    again = make_family(run, source, weights)
    load_weights(again, weights)
    again.to(family.device).eval()
    was_training = family.training
    family.eval()
    drawn = [it.sample(CHECKED, generator=derived_generator(run.seed, "saved")) for it in (family, again)]
    family.train(was_training)
    if not torch.equal(*drawn):
        raise ValueError(
            f"{type(family).__name__}: expected the saved weights to draw what the trained one draws, got others: "
            "what drawing needs beside weights belongs in self.declare(name, value, sampling=True)"
        )
    write_atomically(directory / WEIGHTS, save(weights))


def sampling_weights(family: Family) -> dict[str, Tensor]:
    """What samples and likelihoods need: no other players, and of the sampling one only its average."""
    state = family.state_dict()
    averaged = family.optimisation.ema > 0
    dropped = [f"{player}." for player in (family.players if averaged else family.players[:-1])]
    kept = {name: value for name, value in state.items() if not name.startswith(tuple(dropped))}
    return {k: v.contiguous().clone() for k, v in kept.items() if _part(k) not in family.of_training_only}


def _part(key: str) -> str:
    """The family's own attribute that a key of the state dict lies in."""
    return key.split(".")[0]


def load_weights(family: Family, weights: dict[str, Tensor]) -> None:
    """The inverse of `sampling_weights`; all of a run's weights are taken too.

    Raises:
        ValueError: weights of another network.
    """
    player = family.players[-1] if family.players else ""
    prefix = "average.module."
    filled = {f"{player}.{name[len(prefix) :]}": value for name, value in weights.items() if name.startswith(prefix)}
    found = family.load_state_dict(filled | weights, strict=False)
    left_out = (*family.players[:-1], *family.of_training_only)
    missing = [name for name in found.missing_keys if _part(name) not in left_out]
    if missing or found.unexpected_keys:
        raise ValueError(
            f"weights: expected those of {type(family).__name__}, got {len(missing)} missing "
            f"({', '.join(missing[:3])}) and {len(found.unexpected_keys)} unknown ("
            f"{', '.join(found.unexpected_keys[:3])})"
        )
