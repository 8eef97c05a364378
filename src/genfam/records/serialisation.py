"""A record as text.

The JSON is strict (RFC 8259): it has no bare NaN or Infinity, which other readers refuse. Where a number is due a
non-finite one stands as the string "NaN", "Infinity" or "-Infinity" and comes back as that float.

Indented, for people, curve, trace and metrics are lists of objects. On one line, for programs and for `results/`, they
are columns, which take little more than half the bytes: {"value": [0.5, 0.25], "metric": {"of": ["kl"], "at": [0, 0]}},
a column with many repetitions being a list of what occurs and indices into it.

Both forms end with the checksum of what they say, so that an edited or damaged record is recognised.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pydantic

from genfam.types import RECORD_SCHEMA, Record

CHECKSUM = "checksum"
_ADAPTER = pydantic.TypeAdapter(Record)


def record_to_json(record: Record, indent: int | None = None) -> str:
    """The record as strict JSON; on one line and in columns unless `indent` is given.

    Raises:
        ValueError: `config` holds a number that is not finite.
    """
    json.dumps(record.config, allow_nan=False)
    content = json.loads(_ADAPTER.dump_json(record))
    content[CHECKSUM] = _checksum(content)
    if indent is not None:
        return json.dumps(content, indent=indent, allow_nan=False)
    content["curve"], content["metrics"] = _columns(content["curve"]), _columns(content["metrics"])
    if content["trace"] is not None:
        content["trace"]["points"] = _columns(content["trace"]["points"])
    return _short(content)


def record_from_json(text: str) -> Record:
    """The inverse of `record_to_json`.

    Raises:
        ValueError: not strict JSON, not a record, of another schema, or other than it was written; the message says
            what was expected.
    """
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("expected a record, got JSON that is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected a record as a JSON object, got {type(content).__name__}")
    if content.get("schema") != RECORD_SCHEMA:
        raise ValueError(f"expected a record of schema {RECORD_SCHEMA}, got {content.get('schema')!r}")
    known = content.pop(CHECKSUM, None)
    try:
        for key in ("curve", "metrics"):
            content[key] = _rows(content.get(key, []))
        if content.get("trace"):
            content["trace"]["points"] = _rows(content["trace"]["points"])
        found = _ADAPTER.validate_python(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"expected a record; {where or 'at its top'}: {first['msg']}, got {first['input']!r:.80}"
        ) from None
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"expected a record; a malformed field: {error!r}") from error
    if known is not None and known != _checksum(content):
        raise ValueError(f"expected a record as it was written (checksum {known}), got one that was edited or damaged")
    return found


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def _refuse_constant(word: str) -> float:
    raise ValueError(f"expected strict JSON, got a bare {word}")


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
