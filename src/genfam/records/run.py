"""One run as the engine needs it: a composed configuration, checked for types and ranges before any work."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from genfam.build import ConfigurationError, build, configuration_folder, parse
from genfam.files import checked_name
from genfam.outline import check
from genfam.records import environment

PARTS = ("family", "source", "corruption", "condition", "extractor")
NAMED = ("family", "source", "init", "corruption", "condition")


def _whole(value: Any) -> Any:
    """1e4 is a whole number, true is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _text(value: Any) -> Any:
    """A name that looks like a number is a name."""
    return str(value) if isinstance(value, int | float | Path) and not isinstance(value, bool) else value


WORDS = {  # pydantic's -> ours
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "a text",
    "a valid dictionary": "a mapping",
    r"String should match pattern '^[^/\\#?%:]{1,128}$'": r"expected 1 to 128 characters other than / \ # ? % :",
    "greater than or equal to": "at least",
    "greater than": "more than",
    "String should have at least": "expected at least",
    "String should have at most": "expected at most",
}

Whole = Annotated[int, BeforeValidator(_whole)]
Text = Annotated[str, BeforeValidator(_text)]
PathOf = Annotated[Path, BeforeValidator(lambda value: Path(_text(value)) if isinstance(_text(value), str) else value)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class Budget(_Settings):
    """What a run may spend: training FLOPs, and parameters of the sampling network."""

    train_flops: float = Field(gt=0)
    parameters: Whole = Field(ge=1)


class Looks(_Settings):
    """How often one looks during training, and at how many samples."""

    points: Whole = Field(ge=1)
    samples: Whole = Field(ge=2)


class Evaluation(_Settings):
    """Samples that the metrics see at the end."""

    samples: Whole = Field(ge=2)


class Wandb(_Settings):
    """Where wandb's runs go, if `logger` is wandb; names as wandb allows them."""

    mode: Literal["offline", "online", "disabled"] = "disabled"
    project: Text = Field(default="genfam", pattern=r"^[^/\\#?%:]{1,128}$")
    entity: Text | None = None
    group: Text = ""
    tags: list[Annotated[Text, Field(min_length=1, max_length=64)]] = []
    artifacts: bool = False


class Run(_Settings):
    """A run's settings; keys as in conf/config.yaml.

    Attributes:
        config: all of it, as the record keeps it.
    """

    family: dict[str, Any]
    source: dict[str, Any]
    init: dict[str, Any] | None = None
    extractor: dict[str, Any]
    metrics: dict[str, dict[str, Any]] = {}
    corruption: dict[str, Any] = {"_target_": "genfam.corruptions.nothing.Nothing", "name": "nothing"}
    condition: dict[str, Any] = {"_target_": "genfam.conditions.nothing.Nothing", "name": "nothing"}
    budget: Budget
    evaluation: Evaluation
    curve: Looks = Looks(points=8, samples=250)
    trace: Looks = Looks(points=32, samples=100)
    seed: Whole = Field(default=0, ge=0)
    split: Literal["test", "validation"] = "test"
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    threads: Whole = Field(default=1, ge=1)
    learning_rate_factor: float = Field(default=1.0, gt=0)
    suite: Text = "single"
    judge: Text | None = None
    output_dir: PathOf = Path("outputs")
    results_dir: PathOf = Path("results")
    data_dir: PathOf | None = None
    reuse_published: bool = False
    plugins: list[Text] = []
    logger: Literal["wandb", "tensorboard", "csv", "none"] = "none"
    wandb: Wandb = Wandb()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Run:
        """A resolved configuration in plain containers, checked.

        Raises:
            ConfigurationError: the first key that cannot be, what was expected and what was found.
        """
        named = {
            part: {**node, "name": _text(node["name"])}
            for part in (*PARTS, "init")
            if isinstance(node := config.get(part), Mapping) and "name" in node
        }
        try:
            run = cls.model_validate({**config, **named})
        except ValidationError as error:
            raise ConfigurationError(_explain(error)) from None
        try:
            checked_name(run.suite, "suite")
            for part in NAMED:
                if (node := getattr(run, part)) is not None:
                    checked_name(node.get("name"), f"{part}.name")
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        for part in (*PARTS, "init"):
            check(getattr(run, part), part)
        for key, value in run.chosen_metrics.items():
            check(value, f"metrics.{key}")
        settled = {"device": environment.device_for(run.device)} if run.device == "auto" else {}
        return run.model_copy(update=settled)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Run:
        """As pydantic's, but what was derived from the old values is derived anew."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("chosen_metrics", "identity", "id", "config"):
            copied.__dict__.pop(name, None)
        return copied

    @cached_property
    def chosen_metrics(self) -> dict[str, dict[str, Any]]:
        """The metrics that are measured. A suite may set one that was not chosen: that has no `_target_`.

        Raises:
            ConfigurationError: settings of a metric that does not exist.
        """
        known = [path.stem for path in (configuration_folder() / "metric").glob("*.yaml")]
        for key, value in self.metrics.items():
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.85)
            if "_target_" not in value and key not in known and near:
                raise ConfigurationError(f"metrics.{key}: no metric of that name; did you mean metrics.{near[0]}?")
        return {key: value for key, value in self.metrics.items() if "_target_" in value}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What can change the run's numbers, without the defaults of the parts' classes and the usual settings.

        So a new option with a harmless default gives no run another id.

        Raises:
            ConfigurationError: a part that cannot be.
        """
        # here, for they import torch, and a mistake in a plain value is said before
        from genfam.conditions.base import Condition
        from genfam.corruptions.base import Corruption
        from genfam.families.base import Family
        from genfam.metrics.base import Extractor, Metric
        from genfam.sources.base import Source

        found: dict[str, Any] = {"seed": self.seed, "budget": self.budget.model_dump(), "source": {}, "family": {}}
        kinds: tuple[type, ...] = (Family, Source, Corruption, Condition, Extractor)
        for key, kind in zip(PARTS, kinds, strict=True):
            part = parse(getattr(self, key), kind, key, self.plugins).essence()
            found[key] = part | {"name": getattr(self, key).get("name")}
        found["source"] |= self._contents(self.source, "source")
        if self.init is not None:
            found["init"] = parse(self.init, Source, "init", self.plugins).essence() | {"name": self.init.get("name")}
            found["init"] |= self._contents(self.init, "init")
        for key in ("corruption", "condition"):
            if found[key]["name"] == "nothing":
                del found[key]
        found["metrics"] = {
            key: parse(value, Metric, f"metrics.{key}", self.plugins).essence()
            for key, value in sorted(self.chosen_metrics.items())
        }
        found["samples"] = self.evaluation.samples
        usual = type(self).model_fields
        for key in ("curve", "trace", "split", "precision", "device", "threads", "learning_rate_factor"):
            value = getattr(self, key)
            if value != usual[key].default:
                found[key] = value.model_dump() if isinstance(value, BaseModel) else value
        return found

    def _contents(self, node: dict[str, Any], key: str) -> dict[str, str]:
        """The hash of a source's files, where its settings do not say what is in them.

        A configuration can be looked at where its data are not; it cannot be run there (`running.preflight`).
        """
        from genfam.sources.base import Source

        source = build(node, Source, key, plugins=self.plugins, data_dir=self.data_dir)
        try:
            contents = source.contents()
        except (OSError, ValueError):
            contents = "missing"
        return {} if contents is None else {"contents": contents}

    @cached_property
    def id(self) -> str:
        """Readable names and a hash of the identity."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:10]
        chosen = (part["name"] for part in (self.corruption, self.condition))
        more = "".join(f"-{name}" for name in (*self._begins_at, *chosen) if name != "nothing")
        return f"{self.source['name']}-{self.family['name']}{more}-s{self.seed}-{digest}"

    @property
    def data_name(self) -> str:
        """The source as a record names it: where it is reached from and its corruption make it another task."""
        whole = " ".join([str(self.source["name"]), *(name.replace("_", " ", 1) for name in self._begins_at)])
        name = self.corruption["name"]
        return whole if name == "nothing" else f"{whole} with {name}"

    @property
    def _begins_at(self) -> list[str]:
        return [] if self.init is None else [f"from_{self.init['name']}"]

    @property
    def is_yardstick(self) -> bool:
        """Whether the family has nothing to train: the floor or the oracle of a comparison."""
        return self.family.get("role") in ("floor", "oracle")

    @property
    def directory(self) -> Path:
        """Where this run's record, weights, samples and log lie."""
        return self.output_dir / self.suite / self.id

    @cached_property
    def config(self) -> dict[str, Any]:
        """All settings in plain containers, as the record and the run's `config.yaml` keep them."""
        return self.model_dump(mode="json")


def _explain(error: ValidationError) -> str:
    """The first mistake in one line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"{where}: expected a value, got nothing"
    message = first["msg"].replace("Input should be ", "expected ")
    for theirs, ours in WORDS.items():
        message = message.replace(theirs, ours)
    return f"{where}: {message}, got {first['input']!r}"
