"""Records as one table: a row per measurement, costs and stability included."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from genfam.records import environment
from genfam.types import Kind, Measurement, Record, Status, fingerprint

COLUMNS = (
    "suite", "source", "family", "seed", "run_id", "outcome", "metric", "kind", "unit", "higher_is_better", "value",
    "stderr", "draw_stderr", "n", "fingerprint", "protocol", "status", "reason", "role", "likelihood",
)  # fmt: skip

# What a run cost: field of the record, unit, whether higher is better (None: the budget sets it, so it is no
# contest), and whether it depends on the machine.
COSTS: tuple[tuple[str, str, bool | None, bool], ...] = (
    ("parameters", "1", None, False),
    ("trained_parameters", "1", None, False),
    ("train_flops", "FLOP", None, False),
    ("train_seconds", "s", False, True),
    ("evaluate_seconds", "s", False, True),
    ("peak_memory", "bytes", False, True),
    ("evaluations_per_sample", "1", False, False),
    ("seconds_per_sample", "s", False, True),
)

AGAINST_THE_TRUTH = {"table_samples", "drawn"}  # in a protocol: samples meet the exact distribution, not a reference


def drawing_error(measurement: Measurement) -> float | None:
    """What another draw of samples would change, as a standard error; None where it is not known.

    Against the exact distribution, the draw of samples is all the error that there is.
    """
    found = measurement.estimate
    if found is None:
        return None
    return found.stderr if measurement.protocol.keys() & AGAINST_THE_TRUTH else found.draw_stderr


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per measurement (columns: `COLUMNS`; `family` is the contestant's name).

    Every record gives at least its costs, so a run that diverged before it was measured still counts. Costs that depend
    on the machine carry device and threads in their protocol. A guest's are not known, but for the training FLOPs where
    they were stated. Stability entries become `stability_<key>`, lower is better.
    """
    rows: list[dict[str, Any]] = []
    for record in records:
        common = {
            "suite": record.suite, "source": record.task, "family": record.family, "seed": record.seed,
            "run_id": record.run_id, "outcome": record.outcome.value, "role": record.role,
            "likelihood": record.likelihood.value,
        }  # fmt: skip

        def add(
            name: str, kind: Kind, unit: str, direction: bool | None, protocol: dict[str, str], value: float,
            stderr: float | None = None, draw_stderr: float | None = None, n: int = 1,
            status: Status = Status.OK, reason: str = "", common: dict[str, Any] = common,
        ) -> None:  # fmt: skip
            rows.append(
                common
                | {"metric": name, "kind": kind.value, "unit": unit, "higher_is_better": direction, "n": n}
                | {"value": float(value), "stderr": math.nan if stderr is None else stderr}
                | {"draw_stderr": math.nan if draw_stderr is None else draw_stderr, "protocol": protocol}
                | {"fingerprint": fingerprint(protocol), "status": status.value, "reason": reason}
            )

        for m in record.metrics:
            about = m.name, m.kind, m.unit, m.higher_is_better, m.protocol
            if m.estimate is None:
                add(*about, math.nan, n=0, status=m.status, reason=m.reason)
            else:
                e = m.estimate
                add(*about, e.value, e.stderr, drawing_error(m), e.n, m.status, m.reason)
        machine = record.device.removesuffix(environment.IN_BFLOAT16)  # precision is a family's setting
        for name, unit, direction, of_machine in COSTS:
            if record.is_guest and not (name == "train_flops" and record.train_flops):
                continue
            protocol = {"device": machine, "threads": str(record.threads)} if of_machine else {}
            add(name, Kind.COST, unit, direction, protocol, getattr(record, name))
        for key, value in record.stability.items():
            add(f"stability_{key}", Kind.STABILITY, "1", False, {}, value)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    # None must stay None: a column of True and None would otherwise be guessed at.
    frame["higher_is_better"] = pd.Series([row["higher_is_better"] for row in rows], dtype=object)
    return frame
