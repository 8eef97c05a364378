"""Rewrite published records once: from schema 2 to 3, with the settings and ids of today's configuration layout.

A run whose old id is what the old configuration asks for (`ids.json`: suite -> old id -> overrides of its cell) gets
the settings that today's configuration has for that cell. Runs whose settings cannot be said any more are left out:
balanced coin flips (gan on grid) and flow matching with clusters and guidance (images). Numbers are not touched; the
digest stays empty, since none was recorded.

Command: python benchmarks/studies/rewrite_published.py ids.json results
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from genfam.build import configuration_folder
from genfam.commands import cli
from genfam.records.publication import publishable
from genfam.records.run import Run
from genfam.records.store import PUBLISHED, write_published
from genfam.types import CurvePoint, Estimate, Kind, Likelihood, Measurement, Outcome, Record, Status, Trace, TracePoint

KINDS = {
    Kind.DISTANCE: ("fd_infinity", "sliced_wasserstein", "kd_"),
    Kind.FIDELITY: ("precision", "density", "high_quality_share"),
    Kind.COVERAGE: ("recall", "coverage", "modes_covered", "mode_reverse_kl"),
    Kind.DIVERGENCE: ("total_variation", "kl_divergence"),
    Kind.LIKELIHOOD: ("nll_nats", "bits_per_dim"),
    Kind.COPYING: ("data_copying", "authenticity"),
    Kind.HEADLINE: ("fd_",),
}
WITHOUT_FEATURES = ("nll_nats", "bits_per_dim", "total_variation", "kl_divergence", "sliced_wasserstein")
NAMES = {"n": "samples", "ref": "reference", "kind": "likelihood"}
LEFT_OUT = ("frechet", "frechet_infinity", "event itself")


def kind(name: str) -> Kind:
    """By the name, as the old code did."""
    return next((kind for kind, names in KINDS.items() if name.startswith(names)), Kind.OTHER)


def protocol(name: str, fingerprint: str) -> dict[str, str]:
    """The old text in today's parts."""
    if not fingerprint:
        return {}
    source, *parts = fingerprint.split("|")
    found, features = {"source": source}, []
    unbiased = False
    for part in parts:
        key, equals, value = part.partition("=")
        if equals and key in ("recipe", "weights"):
            features.append(part)
        elif equals and not part.startswith("kernel"):
            found[NAMES.get(key, key)] = value
        elif equals:
            found[key] = value + (", unbiased" if unbiased else "")
        elif part == "mmd2 unbiased":
            unbiased = True
        elif part not in LEFT_OUT and not part.startswith("fd_") and "kl" not in found:
            features.append(part)
        elif "kl" in found:  # `kl=model||data` holds the separator
            found["kl"] = "model||data"
    if (features and name not in WITHOUT_FEATURES and not name.startswith("mode")) or (
        name.startswith("mode_") and features
    ):
        first = list(found)[:3]
        found = (
            {k: found[k] for k in first}
            | {"extractor": ", ".join(features)}
            | {k: v for k, v in found.items() if k not in first}
        )
    if name in ("modes_covered", "high_quality_share", "mode_reverse_kl"):
        if found.get("modes", "").startswith("known"):
            found.pop("extractor", None)
        elif features:
            found = {"source": source, "samples": found["samples"], "reference": found["reference"],
                     "extractor": ", ".join(features), "modes": found["modes"]}  # fmt: skip
    if name in ("nll_nats", "bits_per_dim", "total_variation", "kl_divergence"):
        found.pop("samples", None)
    return found


def columns(content: Any) -> list[dict[str, Any]]:
    """A table by column as rows."""
    if isinstance(content, list):
        return content
    lists = {k: c if isinstance(c, list) else [c["of"][i] for i in c["at"]] for k, c in content.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def number(value: Any) -> float:
    """Numbers that are not finite stand as words."""
    return float(value)


def rewritten(old: dict[str, Any], run: Run) -> Record:
    """One record."""
    metrics = []
    for m in columns(old["metrics"]):
        known = m["value"] is not None
        draw = m.get("draw_stderr")
        estimate = None
        if known:
            stderr = None if m["stderr"] is None else number(m["stderr"])
            estimate = Estimate(number(m["value"]), stderr, int(m["n"]), None if draw is None else number(draw))
        metrics.append(
            Measurement(
                m["name"],
                m["unit"],
                m["higher_is_better"],
                estimate,
                protocol(m["name"], m["fingerprint"]),
                kind(m["name"]),
                Status(m["status"]),
                m["reason"],
            )
        )
    trace = None
    if old.get("trace"):
        points = tuple(
            TracePoint(
                p["updates"],
                p["modes"],
                number(p["quality"]),
                tuple(p["mode_counts"]),
                None if p["critic_accuracy"] is None else number(p["critic_accuracy"]),
                {k: number(v) for k, v in p["gradient_norms"].items()},
            )
            for p in columns(old["trace"]["points"])
        )
        trace = Trace(old["trace"]["samples"], old["trace"]["oracle_modes"], old["trace"]["oracle_quality"], points)
    likelihood = Likelihood(old["likelihood"]) if old.get("likelihood") else Likelihood.NONE
    same = ("reason", "seed", "code_version", "package_versions", "device", "threads", "measure", "events_seen",
            "updates", "train_flops", "train_seconds", "evaluate_seconds", "parameters", "trained_parameters",
            "peak_memory", "evaluations_per_sample", "seconds_per_sample")  # fmt: skip
    marks = ["spends no training FLOPs"] if old["updates"] == 0 and run.family.get("role") is None else []
    return Record(
        run_id=run.id, outcome=Outcome(old["outcome"]), suite=run.suite, family=run.family["name"],
        source=run.source["name"], config=run.config, role=run.family.get("role", "contestant"),
        learning_rate_factor=run.learning_rate_factor, judge=run.judge, likelihood=likelihood, trace=trace, marks=marks,
        curve=[CurvePoint(number(p["train_flops"]), p["metric"], number(p["value"]), kind(p["metric"]))
               for p in columns(old["curve"])],
        stability={k: number(v) for k, v in old["stability"].items()}, metrics=metrics,
        **{key: old[key] for key in same},
    )  # fmt: skip


def left_out(suite: str, cell: dict[str, str]) -> bool:
    """Settings that today's code does not have."""
    balanced = cell["source"] == "grid" and cell["family"] == "gan"
    return balanced or (suite == "images" and cell["family"] == "flow_matching")


def main(ids: Path, results: Path) -> None:
    """Every suite that `ids` names."""
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        for suite, cells in json.loads(ids.read_text()).items():
            path = results / suite / PUBLISHED
            kept, dropped = [], 0
            for line in gzip.decompress(path.read_bytes()).decode().splitlines():
                old = json.loads(line)
                cell = cells.get(old["run_id"])
                if cell is None or left_out(suite, cell):
                    dropped += 1
                    continue
                run = cli.settings(compose("config", [f"+suite={suite}", *(f"{k}={v}" for k, v in cell.items())]))
                kept.append(publishable(rewritten(old, run)))
            write_published(path.parent, kept)
            print(f"{suite}: {len(kept)} rewritten, {dropped} left out")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
