"""What a run keeps of its evaluation's samples, and of sampling step by step: `samples.npz`, for pictures."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfam.families.base import Family
from genfam.files import write_atomically
from genfam.metrics.base import Evaluation
from genfam.running.paths import snapshots
from genfam.types import Enumerable, Event, KnownModes

KEPT_SAMPLES = 2000
NEAREST_SHOWN = 16  # samples that are kept with their nearest training image
TEXTS_SHOWN = 12  # sequences whose texts are kept
TRAJECTORY_TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
MOST_STATES = 4096  # of an enumerable source, that are counted one by one


def save_samples(path: Path, evaluation: Evaluation, family: Family | None = None) -> None:
    """The first samples, unpicked, as many real events, and how all samples fall on modes and on listed states.

    Images also bring the training image nearest to each of the first `NEAREST_SHOWN`, for people to see copies; on
    points the centres of the modes; sequences how the first `TEXTS_SHOWN` read. Samples of a conditional model bring
    their values, and a family with a trajectory some states of it.

    Args:
        path: of the file.
        evaluation: whose samples these are.
        family: that drew them; None where that is not known.
    """
    source, extractor = evaluation.data, evaluation.extractor
    arrays: dict[str, Any] = {
        "samples": evaluation.samples[:KEPT_SAMPLES].numpy(),
        "reference": evaluation.reference[:KEPT_SAMPLES].numpy(),
        "levels": np.array(source.event.levels or 0),
    }
    given = evaluation.condition
    if given is not None:
        arrays["conditions"] = given.of_samples[:KEPT_SAMPLES].numpy()
        arrays["reference_conditions"] = given.of_reference[:KEPT_SAMPLES].numpy()
        arrays["condition_names"] = np.array(family.condition.names if family is not None else ())
    modes = None
    masses = getattr(source, "mode_masses", None)
    if isinstance(source, KnownModes):
        modes = source.assign(evaluation.samples)
    elif extractor.n_classes:
        modes = evaluation.sample_classes
        if masses is None:
            counts = evaluation.reference_classes.bincount(minlength=extractor.n_classes).double()
            masses = counts / counts.sum()
    if modes is not None and masses is not None:
        arrays["mode_total"] = np.array(len(modes))
        arrays["mode_counts"] = modes[modes >= 0].bincount(minlength=len(masses)).numpy()
        arrays["mode_masses"] = masses.numpy()
        if len(source.label_names) == len(masses):
            arrays["mode_names"] = np.array(source.label_names)
    if isinstance(source, KnownModes) and callable(centres := getattr(source, "modes", None)):
        arrays["mode_centres"] = centres().numpy()
    if isinstance(source, Enumerable) and (source.event.levels or 0) ** source.event.dimensions <= MOST_STATES:
        states, table = source.support(), source.table()
        flat, times = np.unique(evaluation.samples.flatten(1).numpy(), axis=0, return_counts=True)
        seen = {tuple(state): int(count) for state, count in zip(flat.tolist(), times, strict=True)}
        arrays["states"], arrays["state_masses"] = states.numpy(), table.numpy()
        arrays["state_counts"] = np.array([seen.get(tuple(state), 0) for state in states.flatten(1).tolist()])
    if source.event.is_image:
        arrays["nearest"] = nearest_events(evaluation.samples[:NEAREST_SHOWN], source.train).numpy()
    if callable(spell := getattr(source, "text", None)):
        arrays["texts"] = np.array(spell(evaluation.samples[:TEXTS_SHOWN]), dtype=np.str_)
        arrays["reference_texts"] = np.array(spell(evaluation.reference[:TEXTS_SHOWN]), dtype=np.str_)
    if family is not None and family.trajectory:
        arrays |= _trajectory(source, family, spell)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def _trajectory(source: Any, family: Family, spell: Callable[..., list[str]] | None) -> dict[str, Any]:
    """Images, points in the plane and sequences, some of each; nothing where that fails: a picture costs no run."""
    event = source.event
    plane = not event.is_discrete and event.shape == (2,)
    n = 6 if event.is_image else 400 if plane else 1 if spell else 0
    if not n:
        return {}
    try:
        walked = snapshots(family, source, TRAJECTORY_TIMES, n, 0)
        shown = torch.stack([snapshot.states for snapshot in walked])
        kept = shown.numpy().astype(np.float16) if event.is_discrete else shown.numpy()
        found = {"trajectory": kept, "trajectory_times": np.array(TRAJECTORY_TIMES)}
        found["trajectory_kind"] = np.array(family.trajectory)
        if walked[0].exact is not None:
            found["trajectory_exact"] = np.stack([snapshot.exact for snapshot in walked if snapshot.exact is not None])
            found["trajectory_divergence"] = np.array([(snapshot.divergence, snapshot.floor) for snapshot in walked])
        if spell:
            found["trajectory_texts"] = np.array([spell(in_levels(states, event)) for states in shown], dtype=np.str_)
        return found
    except Exception as error:  # a plug-in's may be of any kind
        warnings.warn(f"{family.trajectory}: no picture of sampling, {type(error).__name__}: {error}", stacklevel=2)
        return {}


def in_levels(states: Tensor, event: Event) -> Tensor:
    """The nearest levels of states on the way to them; a scalar still to come stays not a number."""
    return states.round().clamp(0, (event.levels or 1) - 1)


def nearest_events(x: Tensor, among: Tensor, block_size: int = 5000) -> Tensor:
    """(N, *event), (M, *event) -> (N, *event): the event at the least Euclidean distance, pixel by pixel.

    `among` is looked at `block_size` events at a time, since a training split may be made when looked at.
    """
    flat = x.flatten(1).float()
    best = torch.full((len(x),), math.inf)
    found = torch.zeros_like(x)
    for start in range(0, len(among), block_size):
        block = among[start : start + block_size]
        distance, index = torch.cdist(flat, block.flatten(1).float()).min(dim=1)
        closer = distance < best
        best[closer], found[closer] = distance[closer], block[index[closer]]
    return found
