"""A record as text, and a file that is either the old one or the new one.

The JSON is strict (RFC 8259): it has no bare NaN or Infinity, which other readers refuse. Where a number is due a
non-finite one stands as the string "NaN", "Infinity" or "-Infinity" and comes back as that float; inside `config`,
where a string may be a string, it stands as {"_float_": "NaN"}.

Indented, for people, curve, trace and metrics are lists of objects. On one line, for programs and for `results/`, they
are columns, which take little more than half the bytes: {"value": [0.5, 0.25], "metric": {"of": ["kl"], "at": [0, 0]}},
a column with many repetitions being a list of what occurs and indices into it.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from genfam.types import RECORD_SCHEMA, CurvePoint, Estimate, Measurement, Outcome, Record, Status, Trace, TracePoint

READABLE_SCHEMAS = (1, RECORD_SCHEMA)  # 1 knew no columns
_FLOAT = "_float_"
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_FIELDS = {field.name: field for field in fields(Record)}
_REQUIRED = {name for name, field in _FIELDS.items() if field.default is MISSING and field.default_factory is MISSING}
_FLOATS = ("train_flops", "train_seconds", "evaluate_seconds", "evaluations_per_sample", "seconds_per_sample")
_INTEGERS = (
    "schema", "seed", "threads", "events_seen", "updates", "parameters", "trained_parameters", "peak_memory",
)  # fmt: skip


def record_to_json(record: Record, indent: int | None = None) -> str:
    """The record as strict JSON, ASCII only; on one line and in columns unless `indent` is given.

    Raises:
        TypeError: `config` holds something that YAML could not have said.
    """
    content: dict[str, Any] = {name: getattr(record, name) for name in _FIELDS}
    content["outcome"] = Outcome(record.outcome).value
    content["config"] = _encode(record.config, "config")
    content["package_versions"] = {str(name): str(version) for name, version in record.package_versions.items()}
    for name in _FLOATS:
        content[name] = _number(content[name])
    for name in _INTEGERS:
        content[name] = int(content[name])
    content["curve"] = [
        {"train_flops": _number(point.train_flops), "metric": point.metric, "value": _number(point.value)}
        for point in record.curve
    ]
    content["trace"] = None if record.trace is None else _trace_to_plain(record.trace)
    content["stability"] = {name: _number(value) for name, value in record.stability.items()}
    content["metrics"] = [_measurement_to_plain(measurement) for measurement in record.metrics]
    if indent is not None:
        return json.dumps(content, indent=indent, allow_nan=False)
    content["curve"], content["metrics"] = _columns(content["curve"]), _columns(content["metrics"])
    if content["trace"] is not None:
        content["trace"]["points"] = _columns(content["trace"]["points"])
    return _short(content)


def record_from_json(text: str) -> Record:
    """The inverse of `record_to_json`.

    Raises:
        ValueError: not strict JSON, not a record, or of a newer schema; the message says what was expected.
    """
    content = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(content, dict):
        raise ValueError(f"expected a record as a JSON object, got {type(content).__name__}")
    schema = content.get("schema")
    if schema not in READABLE_SCHEMAS:
        raise ValueError(f"expected a record of schema {' or '.join(map(str, READABLE_SCHEMAS))}, got {schema!r}")
    content["schema"] = RECORD_SCHEMA
    unknown, missing = sorted(content.keys() - _FIELDS.keys()), sorted(_REQUIRED - content.keys())
    if unknown or missing:
        raise ValueError(f"expected the fields of a record, got unknown fields {unknown}, missing fields {missing}")
    try:
        content["outcome"] = Outcome(content["outcome"])
        content["config"] = _decode(content["config"])
        for name in _FLOATS:
            if name in content:
                content[name] = float(content[name])
        for name in _INTEGERS:
            if name in content:
                content[name] = int(content[name])
        content["curve"] = [
            CurvePoint(float(point["train_flops"]), point["metric"], float(point["value"]))
            for point in _rows(content.get("curve", []))
        ]
        content["trace"] = _trace_from_plain(content["trace"]) if content.get("trace") else None
        content["stability"] = {name: float(value) for name, value in content.get("stability", {}).items()}
        content["metrics"] = [_measurement_from_plain(entry) for entry in _rows(content.get("metrics", []))]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"expected a record, got a malformed field: {error!r}") from error
    return Record(**content)


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write so that a reader, and a machine that loses power, finds the whole old file or the whole new one.

    The content goes to a hidden temporary file in the same folder (made if missing), is synced to the disk, and
    takes the name in one step. A killed process leaves the temporary behind, and the old file as it was.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can open folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _number(value: float) -> float | str:
    value = float(value)
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _refuse_constant(word: str) -> float:
    raise ValueError(f"expected strict JSON, got a bare {word}")


def _encode(value: Any, where: str) -> Any:
    """Plain data -> JSON data; tuples become lists and keys strings, as YAML would have them."""
    if isinstance(value, Mapping):
        if set(value) == {_FLOAT}:
            raise TypeError(f"{where}: the key {_FLOAT!r} is reserved for numbers that are not finite")
        return {str(key): _encode(entry, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    if isinstance(value, float):
        number = _number(value)
        return {_FLOAT: number} if isinstance(number, str) else number
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{where}: expected a mapping, list, string, number, bool or null, got {type(value).__name__}")


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_FLOAT}:
            return _WORDS[value[_FLOAT]]
        return {key: _decode(entry) for key, entry in value.items()}
    return [_decode(entry) for entry in value] if isinstance(value, list) else value


def _short(value: Any) -> str:
    """A line is for programs: without blanks a tenth shorter."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows with the same keys -> a column per key, as a list or as {"of": what occurs, "at": where in it}."""
    columns: dict[str, Any] = {}
    for key in rows[0] if rows else ():
        column = [row[key] for row in rows]
        written = [_short(value) for value in column]  # lists and objects have no hash
        occurs = dict(zip(written, column, strict=True))
        place = {text: position for position, text in enumerate(occurs)}
        table = {"of": list(occurs.values()), "at": [place[text] for text in written]}
        columns[key] = min(column, table, key=lambda form: len(_short(form)))
    return columns


def _rows(content: Any) -> list[Any]:
    """The inverse of `_columns`; a list is returned as it is.

    Raises:
        TypeError: neither, or columns of unequal lengths.
        IndexError: an index that points to nothing.
    """
    if isinstance(content, list):
        return content
    columns = [_column(column) for column in content.values()]
    if len({len(column) for column in columns}) > 1:
        raise TypeError("columns of unequal lengths")
    return [dict(zip(content, row, strict=True)) for row in zip(*columns, strict=True)]


def _column(content: Any) -> list[Any]:
    """A column as a list."""
    of, at = (content["of"], content["at"]) if isinstance(content, dict) else (content, None)
    if not isinstance(of, list) or not isinstance(at, list | None):
        raise TypeError("a column that is no list")
    if at is None:
        return of
    if any(type(position) is not int or position < 0 for position in at):
        raise IndexError(f"indices of a column: {at}")
    return [of[position] for position in at]


def _trace_to_plain(trace: Trace) -> dict[str, Any]:
    return {
        "samples": int(trace.samples),
        "oracle_modes": _number(trace.oracle_modes),
        "oracle_quality": _number(trace.oracle_quality),
        "points": [
            {
                "updates": int(point.updates),
                "modes": int(point.modes),
                "quality": _number(point.quality),
                "mode_counts": [int(count) for count in point.mode_counts],
                "critic_accuracy": None if point.critic_accuracy is None else _number(point.critic_accuracy),
                "gradient_norms": {player: _number(norm) for player, norm in point.gradient_norms.items()},
            }
            for point in trace.points
        ],
    }


def _trace_from_plain(entry: dict[str, Any]) -> Trace:
    points = tuple(
        TracePoint(
            int(point["updates"]),
            int(point["modes"]),
            float(point["quality"]),
            tuple(int(count) for count in point["mode_counts"]),
            None if point["critic_accuracy"] is None else float(point["critic_accuracy"]),
            {player: float(norm) for player, norm in point["gradient_norms"].items()},
        )
        for point in _rows(entry["points"])
    )
    return Trace(int(entry["samples"]), float(entry["oracle_modes"]), float(entry["oracle_quality"]), points)


def _measurement_to_plain(measurement: Measurement) -> dict[str, Any]:
    estimate = measurement.estimate
    direction = measurement.higher_is_better
    return {
        "name": measurement.name,
        "unit": measurement.unit,
        "higher_is_better": None if direction is None else bool(direction),
        "value": None if estimate is None else _number(estimate.value),
        "stderr": None if estimate is None or estimate.stderr is None else _number(estimate.stderr),
        "n": None if estimate is None else int(estimate.n),
        "draw_stderr": None if estimate is None or estimate.draw_stderr is None else _number(estimate.draw_stderr),
        "fingerprint": measurement.fingerprint,
        "status": Status(measurement.status).value,
        "reason": measurement.reason,
    }


def _measurement_from_plain(entry: dict[str, Any]) -> Measurement:
    estimate = None
    if entry["value"] is not None:
        stderr, draw = entry["stderr"], entry.get("draw_stderr")
        estimate = Estimate(
            float(entry["value"]),
            None if stderr is None else float(stderr),
            int(entry["n"]),
            None if draw is None else float(draw),
        )
    return Measurement(
        entry["name"], entry["unit"], entry["higher_is_better"], estimate, entry["fingerprint"],
        Status(entry["status"]), entry["reason"],
    )  # fmt: skip
