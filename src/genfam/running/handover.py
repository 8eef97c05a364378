"""A trained model as a folder for somebody else: weights, settings, record, and a model card."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save

from genfam import glossary
from genfam.families.base import Family
from genfam.files import write_atomically
from genfam.records.publication import publishable
from genfam.records.serialisation import record_to_json
from genfam.records.store import RECORD
from genfam.running.saved import WEIGHTS, SavedRun, sampling_weights
from genfam.sources.base import Source
from genfam.types import Kind, Likelihood, Measurement, Outcome, Record

CARD = "README.md"
NOWHERE = {  # settings that say where things lay, or who was told of the run
    "data_dir": None, "output_dir": "outputs", "results_dir": "results", "logger": "none",
    "wandb": {"mode": "disabled"},
}  # fmt: skip
LIKELIHOODS = {
    Likelihood.EXACT: "`run.log_prob(x)` is the exact log-likelihood of the model.",
    Likelihood.LOWER_BOUND: "`run.log_prob(x)` is a lower bound on the log-likelihood (ELBO): the model's own is no "
    "smaller. Compare it with other bounds only.",
    Likelihood.ESTIMATE: "`run.log_prob(x)` is an estimate of the log-likelihood, which may lie above or below it. "
    "Compare it with other estimates only.",
    Likelihood.UNNORMALISED: "`run.log_prob(x)` lacks the model's constant: its differences between events mean "
    "something, its value does not.",
    Likelihood.NONE: "The model has no likelihood: `run.log_prob(x)` raises `NotImplementedError`.",
}


def export(run: SavedRun, folder: str | Path) -> Path:
    """Write a run's model into a new folder, from which `genfam.load_run` samples bit for bit the same.

    It holds `weights.safetensors` (what sampling and likelihoods need), `config.yaml`, `record.json` and the model card
    `README.md`, whose front matter is Hugging Face's (https://huggingface.co/docs/hub/model-cards); its license is left
    to whoever publishes it. No file names a place on this machine.

    Args:
        run: as `load_run` gives it.
        folder: new, or empty.

    Raises:
        FileExistsError: there is something in the folder.
        ValueError: the run has no record, or did not end well.
    """
    target = Path(folder)
    if run.record is None or run.record.outcome is not Outcome.OK:
        got = "none that can be read" if run.record is None else f"one that is {run.record.outcome.value}"
        raise ValueError(f"export: expected a run whose record says that it ended well, got {got}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target}: expected a new or empty folder to export to, got one with files in it")
    files = portable(run.record, run.family)
    target.mkdir(parents=True, exist_ok=True)
    for name, content in (files | {CARD: card(publishable(run.record), _of_files(run.source))}).items():
        write_atomically(target / name, content)
    return target


def _of_files(source: Source) -> bool:
    try:
        return source.contents() is not None
    except (OSError, ValueError):
        return True


def portable(record: Record, family: Family) -> dict[str, str | bytes]:
    """File name -> content: a folder that `load_run` and the commands take like a run of the store."""
    kept, weights = publishable(record), save(sampling_weights(family))
    config = kept.config | NOWHERE
    hashes = {WEIGHTS: hashlib.sha256(weights).hexdigest()}
    return {
        "config.yaml": yaml.safe_dump(config, sort_keys=False),
        RECORD: record_to_json(replace(kept, config=config, files=hashes), indent=1),
        WEIGHTS: weights,
    }


def card(record: Record, of_files: bool) -> str:
    """The model card.

    Args:
        record: without paths of this machine.
        of_files: whether the source is read from files of the user.
    """
    about = [glossary.FAMILIES.get(record.family, ""), glossary.source(record.source)]
    parts = [
        f"---\n{_front_matter(record)}---",
        f"# {record.family} on {record.task}",
        " ".join(
            [f"A generative model of the family `{record.family}`, trained by genfam on `{record.task}`.", *about]
        ),
        "## Training",
        _table(("", ""), _training(record)),
        "## Measured",
        "One run, of one seed: ± is the standard error of the measurement, and says nothing of other seeds. "
        "`record.json` has the protocol of every number.",
        _table(("metric", "value", "unit", "what it is"), [_measured(m, record) for m in record.metrics]),
        "## Likelihood",
        LIKELIHOODS[record.likelihood]
        + (f" In nats per event, by {record.measure} measure." if record.measure else ""),
        "## Use",
        _use(record),
        "## Limits",
        "\n".join(f"* {limit}" for limit in _limits(record, of_files)),
        "## Versions",
        ", ".join(f"{name} {version}" for name, version in record.package_versions.items())
        + f"; genfam {record.code_version}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(record: Record) -> str:
    """Hugging Face's metadata; metrics without a direction are no results."""
    task = {"type": "unconditional-generation", "name": "Generation"}
    results = {
        "task": task,
        "dataset": {"type": record.source, "name": record.task},
        "metrics": [
            {"type": m.name, "value": m.estimate.value, "name": f"{m.name}{_kind(m, record)}"}
            for m in record.metrics
            if m.estimate is not None and m.higher_is_better is not None
        ],
    }
    content = {
        "library_name": "genfam",
        "tags": ["genfam", "generative-model", record.family],
        "model-index": [{"name": f"{record.family} on {record.task}", "results": [results]}],
    }
    return f"# license: choose one before you publish\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}"


def _training(record: Record) -> list[tuple[str, ...]]:
    budget: dict[str, Any] = record.config.get("budget", {})
    given = f" of {budget['train_flops']:.3g}" if "train_flops" in budget else ""
    return [
        ("source", record.source),
        ("condition", record.condition),
        ("seed", str(record.seed)),
        ("training FLOPs", f"{record.train_flops:.4g}{given}"),
        ("updates", f"{record.updates:,}"),
        ("parameters of the network that samples", f"{record.parameters:,}"),
        ("training", f"{record.train_seconds:.4g} s on {record.device}, {record.threads} threads"),
        ("sampling", f"{record.seconds_per_sample:.3g} s and {record.evaluations_per_sample:g} network calls a sample"),
    ]


def _measured(m: Measurement, record: Record) -> tuple[str, ...]:
    value = "does not apply" if m.estimate is None else f"{m.estimate.value:.5g}"
    error = "" if m.estimate is None or m.estimate.stderr is None else f" ± {m.estimate.stderr:.2g}"
    arrow = {True: " ↑", False: " ↓", None: ""}[m.higher_is_better]
    about = m.reason if m.estimate is None else glossary.metric(m.name)
    unit = "" if m.unit == "1" else m.unit
    return f"`{m.name}`{_kind(m, record)}{arrow}", f"{value}{error}", unit, about.replace("|", "/")


def _kind(m: Measurement, record: Record) -> str:
    """A lower bound on a likelihood is an upper bound on its negative logarithm."""
    if m.kind is not Kind.LIKELIHOOD:
        return ""
    bound = "an upper bound" if m.higher_is_better is False else "a lower bound"
    return f" ({bound if record.likelihood is Likelihood.LOWER_BOUND else record.likelihood.value})"


def _use(record: Record) -> str:
    plugins = [str(name) for name in record.config.get("plugins") or []]
    more = f", plugins={plugins!r}" if plugins else ""
    condition = "" if record.condition == "nothing" else "  # condition=0 for one value of the condition"
    return (
        f'```python\nimport genfam\n\nrun = genfam.load_run("FOLDER"{more})  # this folder\n'
        f"x = run.sample(16, seed=0){condition}\n```"
    )


def _limits(record: Record, of_files: bool) -> list[str]:
    plugins = ", ".join(map(str, record.config.get("plugins") or []))
    return [
        f"It models `{record.task}` and nothing else; it was never meant for use outside comparisons of such models.",
        "The same seed gives the same samples, bit for bit, with the same versions on the same kind of processor.",
        "The folder holds what sampling needs: training cannot go on from it.",
        *(
            ["Its data are not here. To measure it again they must be: `load_run(FOLDER, data_dir=...)`."]
            if of_files
            else []
        ),
        *([f"It needs {plugins} beside genfam, and runs its code."] if plugins else []),
        *(f"{mark[:1].upper()}{mark[1:]}." for mark in record.marks),
    ]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))
