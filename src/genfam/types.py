"""The suite's words as plain data: no torch modules, no I/O.

Everything above this floor speaks in these types. Numbers never travel bare: a value comes as an
`Estimate` with its standard error and sample count, inside a `Measurement` that carries its name, unit,
direction and protocol fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor

RECORD_SCHEMA = 2


class Likelihood(StrEnum):
    """What a family's `log_prob` returns."""

    EXACT = "exact"
    LOWER_BOUND = "lower_bound"
    ESTIMATE = "estimate"
    NONE = "none"


class Outcome(StrEnum):
    """How a run ended. `OK` and `DIVERGED` are results; the other two are run again."""

    OK = "ok"
    DIVERGED = "diverged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def finished(self) -> bool:
        """Whether the run needs no repetition."""
        return self in (Outcome.OK, Outcome.DIVERGED)


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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Measurement:
    """One metric's verdict on one run.

    Attributes:
        name: e.g. `fd_digits_cnn`.
        unit: e.g. `nats`; `1` for a pure number.
        higher_is_better: direction, or None where neither is.
        estimate: the number; None exactly when status is NOT_APPLICABLE.
        fingerprint: the protocol: measurements with different fingerprints cannot share a table.
        reason: why the metric does not apply.
    """

    name: str
    unit: str
    higher_is_better: bool | None
    estimate: Estimate | None
    fingerprint: str
    status: Status = Status.OK
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.estimate is None) == (self.status is Status.OK):
            raise ValueError(
                f"{self.name}: expected an estimate exactly when status is ok, got {self.estimate} with {self.status}"
            )

    @classmethod
    def not_applicable(cls, name: str, reason: str, unit: str = "1") -> Measurement:
        """The honest alternative to a sentinel number."""
        return cls(name, unit, None, None, "", Status.NOT_APPLICABLE, reason)


@dataclass(frozen=True)
class CurvePoint:
    """A metric measured in the middle of training."""

    train_flops: float
    metric: str
    value: float


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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


@dataclass
class Record:
    """What one run says: the unit of storage, publication and statistics (schema in docs/architecture.md)."""

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
    likelihood: str = Likelihood.NONE.value
    measure: str = ""
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

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) nats."""
        ...


Config = Mapping[str, Any]
