"""All that a run is made of, from its settings: the one place where configurations become objects."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from genfam.build import ConfigurationError, build, find, parse
from genfam.conditions.base import Condition
from genfam.corruptions.base import Corruption
from genfam.families.base import Family
from genfam.metrics.base import Extractor, Metric
from genfam.records import environment
from genfam.records.run import Run
from genfam.running.tracking import Tracker, make_tracker
from genfam.sources.base import Source
from genfam.sources.validation import seen_through

__all__ = [
    "Tracker",
    "make_condition",
    "make_extractor",
    "make_family",
    "make_init",
    "make_metrics",
    "make_source",
    "make_tracker",
]  # fmt: skip

LEAST_BFLOAT16_BATCH = 4  # events


def make_source(run: Run) -> Source:
    """The source, seen through its `split`, its training split corrupted as the settings say."""
    source = _source(run.source, "source", run)
    corruption = build(run.corruption, Corruption, "corruption", plugins=run.plugins)
    return corruption.applied(seen_through(run.split, source))


def make_init(run: Run) -> Source | None:
    """The source at which samples begin, where there is one."""
    return None if run.init is None else _source(run.init, "init", run)


def _source(config: dict[str, Any], key: str, run: Run) -> Source:
    node = parse(config, Source, key, run.plugins)
    source: Source = node.make(data_dir=run.data_dir)
    source.settings = {name: value for name, value in node.essence().items() if name not in ("_target_", "name")}
    return source


def make_condition(run: Run) -> Condition:
    """What events are conditioned on, before it has looked at any."""
    return build(run.condition, Condition, "condition", plugins=run.plugins, threads=run.threads)


def make_family(run: Run, source: Source, weights: Mapping[str, Tensor] | None = None) -> Family:
    """The untrained family, fitted to the source's scale.

    Args:
        run: its settings.
        source: as they name it.
        weights: a finished run's, which will be loaded. They hold all that looking at the training split finds, and it
            may not lie here.

    Raises:
        ConfigurationError: the family takes no condition, or keeps tensors that it has not declared.
    """
    target = find(run.family.get("_target_"), Family, "family._target_", run.plugins)
    condition = make_condition(run)
    if weights is None:
        condition.fit(source)
    else:
        own = {key.removeprefix("condition."): value for key, value in weights.items() if key.startswith("condition.")}
        condition.load_state_dict(own, strict=False)
        if target.needs_data:
            condition.attend(source)
    if condition.classes and "classes" not in inspect.signature(target).parameters:
        raise ConfigurationError(
            f"condition={run.condition['name']}: {target.__name__} has no argument `classes`, so it takes no condition"
        )
    family = build(
        run.family, Family, "family", plugins=run.plugins,
        event=source.event, parameters=run.budget.parameters, classes=condition.codes,
    )  # fmt: skip
    family.condition = condition
    begin(family, make_init(run))
    family.learning_rate_factor = run.learning_rate_factor
    family.in_bfloat16 = in_bfloat16(run.precision, family, environment.multiplies_bfloat16(run.device))
    if weights is None or family.needs_data:
        family.prepare(source)
    loose = [name for name, value in vars(family).items() if isinstance(value, Tensor)]
    if loose:
        raise ConfigurationError(
            f"family: {target.__name__} keeps tensors that no checkpoint would hold ({', '.join(loose)}): hand them to "
            "self.declare(name, value, sampling=…)"
        )
    return family


def begin(family: Family, init: Source | None) -> None:
    """Let a family's samples begin at another source's events.

    Raises:
        ConfigurationError: it does not carry one source to another, carries nothing else, or the events differ.
    """
    if init is None:
        if family.needs_init:
            raise ConfigurationError(f"family: {type(family).__name__} carries one source to another: expected +init=…")
        return
    if init.event != family.event:
        raise ConfigurationError(f"init: expected events like the source's, {family.event}, got {init.event}")
    try:
        family.begin_at(init)
    except ValueError as error:
        raise ConfigurationError(f"init: {error}") from error


def in_bfloat16(precision: str, family: Family, has: bool) -> bool:
    """Whether to train in bfloat16: `auto` does where the device has it, events are discrete and batches not tiny.

    bfloat16 rounds a point to a third to two thirds of a tight mode's width (σ = 0.01 at radius 1). In batches of fewer
    than `LEAST_BFLOAT16_BATCH` casting takes longer than the products save.
    """
    pays = has and family.event.is_discrete and family.batch_size >= LEAST_BFLOAT16_BATCH
    return {"float32": False, "bfloat16": True, "auto": pays}[precision]


def make_extractor(run: Run, source: Source, cache: Path | None = None) -> Extractor:
    """The feature space; classifiers are trained once and cached beside the store (`cache`: elsewhere)."""
    cache = cache or run.output_dir / ".cache"
    return build(
        run.extractor, Extractor, "extractor", plugins=run.plugins, data=source, cache_dir=cache, device=run.device
    )


def make_metrics(
    run: Run, more: Mapping[str, Mapping[str, Any]] | None = None, plugins: Sequence[str] = ()
) -> dict[str, Metric]:
    """All metrics of the settings by key, and more ones beside them."""
    nodes = {**run.chosen_metrics, **(more or {})}
    named = [*run.plugins, *plugins]
    return {key: build(node, Metric, f"metrics.{key}", plugins=named) for key, node in nodes.items()}
