"""Published numbers beside ours, with every difference of protocol named.

`benchmarks/published/*.csv` hold what papers say: value, standard error, samples, protocol (`key: value; key: value`),
paper, and the table that the number was read in, or `not verified`. Ours come from a scorecard; what our protocol was
is read from its fingerprints and from the settings of its source. Nothing here draws: the report and `make compare`
show what `compare` gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from genfam.types import KNOWN_TRAINING_EVENTS, Record

COLUMNS = (
    "source", "metric", "unit", "model", "family", "published", "stderr", "ours", "ci_low", "ci_high", "suite",
    "same_protocol", "differences", "paper", "table",
)  # fmt: skip
NOT_VERIFIED = "not verified"
NOT_STATED = "not stated"
# They make models differ, not measurements: named among the differences, but they do not decide `same_protocol`.
OF_TRAINING = ("runs", "training set", "compute")
NO_RUN = "no run of ours"
SELECTION = "last weights, settings by a validation split or a recipe"  # ours: of models and of what was tuned


def published_folder() -> Path:
    """`benchmarks/published` of the checkout, else the copy that the wheel carries.

    Raises:
        FileNotFoundError: neither is there.
    """
    package = Path(__file__).resolve().parent.parent
    places = (package.parent.parent / "benchmarks" / "published", package / "benchmarks" / "published")
    for place in places:
        if any(place.glob("*.csv")):
            return place
    raise FileNotFoundError(f"expected tables of published numbers in {places[0]} or {places[1]}: reinstall genfam")


def load(folder: Path | None = None) -> pd.DataFrame:
    """All published rows: source, model, family, metric, value, stderr, unit, samples, protocol, paper, table."""
    files = sorted((folder or published_folder()).glob("*.csv"))
    return pd.concat([pd.read_csv(file) for file in files], ignore_index=True)


Settings = Mapping[tuple[str, str], Mapping[str, Any]]  # of sources: (suite, source) -> its part of the configuration


def settings_of(records: Iterable[Record]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The settings of the sources of these runs."""
    return {(record.suite, record.source): record.config.get("source", {}) for record in records}


def compare(cards: Iterable[pd.DataFrame], settings: Settings, published: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per published number, with our cell of the same source, family and metric.

    Args:
        cards: scorecards as `genfam.comparing.scorecard.scorecard` gives them; the first that has the cell is asked.
        settings: of the cards' sources, whose names do not say how wide the modes are.
        published: as `load` gives it, which is the default.

    Returns:
        Columns `COLUMNS`. `same_protocol` is `yes`; `no`; `unclear` where the paper's protocol is not stated in full;
        `not verified` where the number was not seen in the paper; or `no run of ours`. `differences` names what
        differs as `key: theirs there, ours here`, training's number of runs and compute included; without a run of
        ours, what theirs is.
    """
    cards = list(cards)
    rows = load() if published is None else published
    return pd.DataFrame([_compared(row, cards, settings) for row in rows.to_dict("records")], columns=list(COLUMNS))


def _compared(row: Mapping[Any, Any], cards: Sequence[pd.DataFrame], settings: Settings) -> dict[str, Any]:
    base = {key: row[key] for key in ("source", "metric", "unit", "model", "family", "stderr", "paper", "table")}
    base |= {"published": float(row["value"])}
    for card in cards:
        own = card[(card["source"] == row["source"]) & (card["family"] == row["family"])]
        cells = own[own["metric"] == row["metric"]]
        if len(cells) and not math.isnan(cells.iloc[0]["mean"]):
            cell = cells.iloc[0].to_dict()
            flops = own.loc[own["metric"] == "train_flops", "mean"]
            source = settings.get((cell["suite"], cell["source"]), {})
            ours = our_protocol(cell, source, float(flops.iloc[0]) if len(flops) else math.nan)
            differences = _differences(row, ours)
            return base | {
                "ours": cell["mean"], "ci_low": cell["ci_low"], "ci_high": cell["ci_high"], "suite": cell["suite"],
                "same_protocol": _verdict(str(row["table"]), differences),
                "differences": "; ".join(f"{key}: {a} there, {b} here" for key, (a, b) in differences.items()),
            }  # fmt: skip
    nothing = dict.fromkeys(("ours", "ci_low", "ci_high"), math.nan)
    theirs = "; ".join(f"{key}: {value}" for key, value in _their_protocol(row).items())
    return base | nothing | {"suite": "", "same_protocol": NO_RUN, "differences": f"theirs is {theirs}"}


def protocol_of(row: Mapping[Any, Any]) -> dict[str, str]:
    """A published row's protocol by key.

    Raises:
        ValueError: text that is not `key: value; key: value`.
    """
    found: dict[str, str] = {}
    for part in str(row["protocol"]).split("; "):
        key, colon, value = part.partition(": ")
        if not colon or not value or key in found:
            raise ValueError(f"{row['source']}, {row['model']}: expected a protocol `key: value; ...`, got {part!r}")
        found[key] = value
    return found


def our_protocol(cell: Mapping[Any, Any], source: Mapping[str, Any], train_flops: float) -> dict[str, str]:
    """Our measurement in the words of the published tables.

    Args:
        cell: of a scorecard, whose fingerprint says how it was measured.
        source: its settings.
        train_flops: of one run.
    """
    said = dict(part.split("=", 1) for part in str(cell["fingerprint"]).split("|") if "=" in part)
    extractor = said.get("extractor", "")
    reference = said.get("reference", "").partition(":")[0]
    kinds = {"exact": "exact", "lower_bound": "bound", "estimate": "estimate"}
    by = f" by {said['by']}" if "by" in said else ""
    kind, _, count = said.get("modes", "").partition(":")
    points = "sigma" in source  # drawn from a density that we know
    return {
        "samples": said.get("samples", ""),
        "selection": SELECTION,
        "mode": {"known": "one sample within 3 sigma", "classes": "one sample of the class"}.get(kind, ""),
        "modes": count,
        "sigma": f"{float(source['sigma']):g}" if points else "",
        "classifier": extractor.partition(",")[0],
        "features": {"inception": "Inception-v3"}.get(extractor.partition(",")[0], extractor.partition(",")[0]),
        "reference": {"train": "training split", "test": "test split"}.get(reference, ""),
        "likelihood": kinds.get(said.get("likelihood", ""), "") + by,
        "events": said.get("events", ""),
        "binarisation": ("dynamic" if source["dynamic"] else "fixed") if "dynamic" in source else "",
        "training set": f"{KNOWN_TRAINING_EVENTS:,} points" if points else "",
        "runs": f"mean of {int(cell['n_ok'])}",
        "compute": NOT_STATED if math.isnan(train_flops) else f"{train_flops:.2g} FLOPs",
    }


def _differences(row: Mapping[Any, Any], ours: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Key -> (theirs, ours), for what the published row says of its protocol and ours does not equal."""
    return {
        key: (value, ours.get(key) or NOT_STATED)
        for key, value in _their_protocol(row).items()
        if value != ours.get(key) or value == NOT_STATED
    }


def _their_protocol(row: Mapping[Any, Any]) -> dict[str, str]:
    """The samples, where the row has them, and the rest; a paper that is silent on how it selected is taken as such."""
    samples = {} if math.isnan(row["samples"]) else {"samples": f"{int(row['samples'])}"}
    return samples | {"selection": NOT_STATED} | protocol_of(row)


def _verdict(table: str, differences: Mapping[str, tuple[str, str]]) -> str:
    if table == NOT_VERIFIED:
        return NOT_VERIFIED
    measuring = [pair for key, pair in differences.items() if key not in OF_TRAINING]
    if any(NOT_STATED not in pair for pair in measuring):
        return "no"
    return "unclear" if measuring else "yes"


def markdown(compared: pd.DataFrame) -> str:
    """The whole table: one row per published number."""
    lines = [
        "| source | metric | published model | published | ours (family) | same protocol? | differences "
        "| paper; table |",
        "|---|---|---|--:|--:|---|---|---|",
    ]
    for row in compared.to_dict("records"):
        ours = "–" if math.isnan(row["ours"]) else f"{ours_of(row)} ({row['family']})"
        lines.append(
            f"| {row['source']} | {row['metric']} | {row['model']} | {theirs(row)} | {ours} | {row['same_protocol']} "
            f"| {row['differences'] or '–'} | {row['paper']}; {row['table']} |"
        )
    return "\n".join(lines)


def short_markdown(compared: pd.DataFrame) -> str:
    """One row per source, metric and family: the verified published numbers together.

    Of a source that we have a run of, what we have no number beside is left out.
    """
    lines = [
        "| source | metric | published | ours (family) | same protocol? | differences |",
        "|---|---|---|--:|---|---|",
    ]
    unknown = ~compared["source"].isin(compared.loc[compared["ours"].notna(), "source"])
    shown = compared[(compared["ours"].notna() | unknown) & (compared["table"] != NOT_VERIFIED)]
    for (source, metric, family), rows in shown.groupby(["source", "metric", "family"], sort=False):
        records = rows.to_dict("records")
        published = ", ".join(f"{row['model']} {theirs(row)}" for row in records)
        verdicts = ", ".join(dict.fromkeys(row["same_protocol"] for row in records))
        run = not math.isnan(records[0]["ours"])
        ours = f"{ours_of(records[0])} ({family})" if run else "–"
        differences = dict.fromkeys(part for row in records for part in row["differences"].split("; ") if part and run)
        lines.append(f"| {source} | {metric} | {published} | {ours} | {verdicts} | {'; '.join(differences) or '–'} |")
    return "\n".join(lines)


def theirs(row: Mapping[Any, Any]) -> str:
    """A published number with its standard error, from a row of `compare`."""
    stderr = "" if math.isnan(row["stderr"]) else f" ± {row['stderr']:.3g}"
    return f"{row['published']:.4g}{stderr}"


def ours_of(row: Mapping[Any, Any]) -> str:
    """Our number with its interval, from a row of `compare`."""
    if math.isnan(row["ci_low"]):
        return three_digits(row["ours"])
    return f"{three_digits(row['ours'])} [{three_digits(row['ci_low'])}, {three_digits(row['ci_high'])}]"


def three_digits(value: float) -> str:
    """Three significant digits, and four where three would make 1e+03 of a thousand."""
    return f"{value:.4g}" if abs(value) >= 999.5 else f"{value:.3g}"
