"""The suite's words as plain data: no torch modules, no I/O.

Everything above this floor speaks in these types. Numbers never travel bare: a value comes as an `Estimate` with its
standard error and sample count, inside a `Measurement` that carries its name, kind, unit, direction and protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import pydantic.dataclasses

if TYPE_CHECKING:  # torch takes seconds to import, and what only reads records does not need it
    import torch
    from torch import Generator, Tensor

RECORD_SCHEMA = 3
_STORED = pydantic.ConfigDict(ser_json_inf_nan="strings", extra="forbid")

T = TypeVar("T")
Part = Callable[..., T]
"""What makes a T once its sizes are known: its class, or its class with some settings filled in (functools.partial)."""
KNOWN_TRAINING_EVENTS = 1_000_000  # that a source with a known density gives to learn from


class Likelihood(StrEnum):
    """What a family's `log_prob` returns."""

    EXACT = "exact"
    LOWER_BOUND = "lower_bound"
    ESTIMATE = "estimate"
    UNNORMALISED = "unnormalised"
    NONE = "none"


class Outcome(StrEnum):
    """How a run ended. `OK` and `DIVERGED` are results; the others are run again."""

    RUNNING = "running"
    OK = "ok"
    DIVERGED = "diverged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def finished(self) -> bool:
        """Whether the run needs no repetition."""
        return self in (Outcome.OK, Outcome.DIVERGED)


class TooFewSamples(ValueError):
    """A model has no more samples to give: samples from elsewhere end."""


class Kind(StrEnum):
    """What a number is for."""

    HEADLINE = "headline"  # the distance by which families are ordered
    DISTANCE = "distance"
    FIDELITY = "fidelity"
    COVERAGE = "coverage"
    DIVERGENCE = "divergence"  # the truth, where p_data is known
    LIKELIHOOD = "likelihood"
    COPYING = "copying"
    STABILITY = "stability"
    SPREAD = "spread"  # of another number over training seeds
    COST = "cost"
    OTHER = "other"

    @property
    def of_quality(self) -> bool:
        """Whether it says how good samples or a density are."""
        return self not in (Kind.STABILITY, Kind.SPREAD, Kind.COST)


class Status(StrEnum):
    """Whether a measurement carries a number."""

    OK = "ok"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True)
class Event:
    """One data point: its shape without the batch, and its levels per dimension.

    Attributes:
        shape: () is not allowed; a die is (1,), a 2-D point (2,), an image (C, H, W).
        levels: number of discrete values 0..levels-1 of every dimension; None where continuous.
    """

    shape: tuple[int, ...]
    levels: int | None = None

    @property
    def dimensions(self) -> int:
        """Number of scalars in one event."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def is_discrete(self) -> bool:
        """Whether likelihoods are per counting measure (else per volume)."""
        return self.levels is not None

    @property
    def is_image(self) -> bool:
        """Whether convolutions make sense: (C, H, W) of at least 4 × 4 pixels."""
        return len(self.shape) == 3 and min(self.shape[1:]) >= 4

    @property
    def measure(self) -> str:
        """What a likelihood is relative to; the two are never compared."""
        return "counting" if self.is_discrete else "volume"


@dataclass
class Batch:
    """Training events, and what they are conditioned on.

    Attributes:
        event: (B, *event).
        condition: (B,) int64; None without a condition.
    """

    event: Tensor
    condition: Tensor | None = None

    def __len__(self) -> int:
        return len(self.event)

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        return Batch(self.event.to(device), None if self.condition is None else self.condition.to(device))


@pydantic.dataclasses.dataclass(frozen=True, config=_STORED)
class Estimate:
    """A number with its standard error (None where it has none, as a count of parameters) and sample size.

    Attributes:
        draw_stderr: the part of the error that another draw of samples would show, against the same reference: what
            makes seeds differ beside training. None where it was not measured.
    """

    value: float
    stderr: float | None
    n: int
    draw_stderr: float | None = None


@pydantic.dataclasses.dataclass(frozen=True, config=_STORED)
class Measurement:
    """One metric's verdict on one run.

    Attributes:
        name: e.g. `fd_digits_cnn`.
        unit: e.g. `nats`; `1` for a pure number.
        higher_is_better: direction, or None where neither is.
        estimate: the number; None exactly when status is NOT_APPLICABLE.
        protocol: how it was measured: measurements with different protocols cannot share a table.
        kind: what it is for.
        reason: why the metric does not apply.
    """

    name: str
    unit: str
    higher_is_better: bool | None
    estimate: Estimate | None
    protocol: dict[str, str]
    kind: Kind = Kind.OTHER
    status: Status = Status.OK
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.estimate is None) == (self.status is Status.OK):
            raise ValueError(
                f"{self.name}: expected an estimate exactly when status is ok, got {self.estimate} with {self.status}"
            )

    @classmethod
    def not_applicable(cls, name: str, reason: str, unit: str = "1", kind: Kind = Kind.OTHER) -> Measurement:
        """The honest alternative to a sentinel number."""
        return cls(name, unit, None, None, {}, kind, Status.NOT_APPLICABLE, reason)

    @property
    def fingerprint(self) -> str:
        """The protocol as one text."""
        return fingerprint(self.protocol)


def fingerprint(protocol: dict[str, str]) -> str:
    """A protocol as one text, whatever the order in which its parts were named."""
    return "|".join(f"{key}={value}" for key, value in sorted(protocol.items()))


@pydantic.dataclasses.dataclass(frozen=True, config=_STORED)
class CurvePoint:
    """A metric measured in the middle of training."""

    train_flops: float
    metric: str
    value: float
    kind: Kind = Kind.OTHER


@pydantic.dataclasses.dataclass(frozen=True, config=_STORED)
class TracePoint:
    """The players at one moment of training: the live networks, not their average, which would hide a cycle.

    Attributes:
        updates: done so far.
        modes: on which at least one sample lies.
        quality: share of the samples that are of high quality (on a mode; for images in the real events' manifold).
        mode_counts: samples per mode; empty where the modes are too many to be counted with so few samples.
        critic_accuracy: P(critic scores a real event above a generated one); None without a critic.
        gradient_norms: player -> median since the last point, before clipping.
    """

    updates: int
    modes: int
    quality: float
    mode_counts: tuple[int, ...] = ()
    critic_accuracy: float | None = None
    gradient_norms: dict[str, float] = field(default_factory=dict)


@pydantic.dataclasses.dataclass(frozen=True, config=_STORED)
class Trace:
    """A run's trace, and what the same number of fresh real events shows in it.

    Attributes:
        samples: per point, from the same random numbers each time.
        oracle_modes, oracle_quality: of fresh real events.
        points: evenly spaced over training.
    """

    samples: int
    oracle_modes: float
    oracle_quality: float
    points: tuple[TracePoint, ...] = ()


@pydantic.dataclasses.dataclass(config=_STORED)
class Record:
    """What one run says: the unit of storage, publication and statistics (docs/architecture.md).

    Attributes:
        role: of the family in a table: `contestant`, `guest` (samples from elsewhere), `floor` or `oracle`.
        config: the run's settings (`genfam.records.run.Run`).
        digest: of the source files and package versions that can change the run's numbers.
        measured_by: the digest without the family's part: of what all families on a source share; "" in old records.
        code_version: package version and commit, for people.
        marks: what a reader must know beside the numbers, e.g. that nothing was trained.
        files: name -> SHA-256 of the weights and samples that the numbers are about.
    """

    run_id: str
    outcome: Outcome
    reason: str
    suite: str
    family: str
    source: str
    seed: int
    config: dict[str, Any]
    code_version: str
    package_versions: dict[str, str]
    device: str
    threads: int
    role: str = "contestant"
    condition: str = "nothing"
    digest: str = ""
    measured_by: str = ""
    learning_rate_factor: float = 1.0
    judge: str | None = None
    likelihood: Likelihood = Likelihood.NONE
    measure: str = ""
    marks: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    events_seen: int = 0
    updates: int = 0
    train_flops: float = 0.0
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    parameters: int = 0
    trained_parameters: int = 0
    peak_memory: int = 0
    evaluations_per_sample: float = 0.0
    seconds_per_sample: float = 0.0
    curve: list[CurvePoint] = field(default_factory=list)
    trace: Trace | None = None
    stability: dict[str, float] = field(default_factory=dict)
    metrics: list[Measurement] = field(default_factory=list)
    schema: int = RECORD_SCHEMA

    @property
    def is_guest(self) -> bool:
        """Whether its samples came from elsewhere: it is measured, and has no say in what is said of the others."""
        return self.role == "guest"

    @property
    def task(self) -> str:
        """What is to be modelled, as a table names it: the source, given the condition where there is one.

        Families are compared within a task only: one that is given labels has an easier one.
        """
        return self.source if self.condition == "nothing" else f"{self.source} given {self.condition}"


# ---------------------------------------------------------------------------------------------------------
# What the floors ask of one another, so that none needs to import its neighbour.


@runtime_checkable
class Data(Protocol):
    """What a family and a metric see of a source."""

    name: str
    event: Event

    @property
    def train(self) -> Tensor:
        """(N, *event): what may be learnt from."""
        ...

    @property
    def test(self) -> Tensor:
        """(M, *event): the reference split."""
        ...

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the classes that events have; () without."""
        ...

    @property
    def train_labels(self) -> Tensor:
        """(N,) int64."""
        ...

    @property
    def test_labels(self) -> Tensor:
        """(M,) int64."""
        ...

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, *event): fresh real data."""
        ...


@runtime_checkable
class KnownDensity(Protocol):
    """A source whose p_data can be written down."""

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) nats, per counting measure or per volume as the event says."""
        ...

    def entropy(self) -> Estimate:
        """Entropy of p_data in nats, of the same measure."""
        ...


@runtime_checkable
class KnownModes(Protocol):
    """A source whose modes are known: which event lies on which."""

    mode_masses: Tensor

    def assign(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) int64 mode index, −1 = off every mode."""
        ...


@runtime_checkable
class Enumerable(Protocol):
    """A source whose every state can be listed."""

    def support(self) -> Tensor:
        """(K, *event): every state once."""
        ...

    def table(self) -> Tensor:
        """(K,) float64 probabilities of `support()`."""
        ...


class Model(Protocol):
    """What a metric sees of a trained family."""

    event: Event

    @property
    def likelihood_kind(self) -> Likelihood:
        """What `log_prob` returns on this event."""
        ...

    @property
    def likelihood_method(self) -> str:
        """By what a bound or an estimate comes about, where that changes it; else nothing."""
        ...

    @property
    def density_kind(self) -> Likelihood:
        """What `log_prob` returns with a condition."""
        ...

    @property
    def density_method(self) -> str:
        """By what that comes about, where that changes it; else nothing."""
        ...

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, *event), (B,) -> (B,) nats of p(x | condition), or of p(x)."""
        ...
