"""Weights & Biases, offline unless asked: never a prompt, never a hang, one finished run per record.

A wandb run that goes on offline gets one more folder with the same id, in which the steps after the last checkpoint
stand a second time. Here a resumed run begins its folder anew and tells it all, so that there is one folder per run
and every step is in it once. Online, what the server has already is not sent again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genfam.metrics.failures import failures, symptoms
from genfam.records.run import Run, Wandb
from genfam.records.serialisation import record_to_json
from genfam.running.tracking.base import PictureFolder, Pictures, Row, Tracker, final_numbers, flat
from genfam.types import Record

CONNECT_SECONDS = 20.0  # then the run goes on offline
UPLOAD_SECONDS = 120.0  # that the end of an online run may wait for


def quiet_wandb() -> Any:
    """The wandb module, told before it is imported that it may report no errors of its own over the network."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


def has_account() -> bool:
    """Whether wandb finds a key; asks nobody and sends nothing.

    Raises:
        ValueError: there is one that cannot be one.
    """
    wandb = quiet_wandb()
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except wandb.errors.AuthenticationError as error:
        raise ValueError(f"wandb: expected a key that is valid, got one that is not: {error}") from error


def offline_folders(folder: Path, run_id: str) -> list[Path]:
    """The offline runs of this id in `<folder>/wandb`, oldest first."""
    pattern = re.compile(rf"offline-run-\d{{8}}_\d{{6}}-{re.escape(run_id)}")
    return sorted(path for path in folder.glob("wandb/offline-run-*") if pattern.fullmatch(path.name))


def wandb_id(run_id: str) -> str:
    """A run's id in the letters that wandb allows; a hash keeps those apart that had others."""
    plain = re.sub(r"[:;,#?/'\\]", "_", run_id)
    return plain if plain == run_id else f"{plain}-{hashlib.sha256(run_id.encode()).hexdigest()[:6]}"


def open_run(settings: Wandb, run_id: str, folder: Path, **about: Any) -> Any:
    """A wandb run of this id, begun anew where it is offline, gone on with where it is online.

    Args:
        settings: `wandb` of a configuration: mode, project, entity, tags, ...
        run_id: of the wandb run, as `wandb_id` gives it.
        folder: its files go to the `wandb` folder there.
        about: further arguments of `wandb.init`: name, group, job_type, config, ...

    Raises:
        ValueError: online without an account, or what wandb refuses.
    """
    mode = settings.mode
    wandb = quiet_wandb()
    run_id = wandb_id(run_id)
    finish()
    for old in offline_folders(folder, run_id):
        shutil.rmtree(old)
    folder.mkdir(parents=True, exist_ok=True)
    if mode == "online" and not has_account():
        raise ValueError(
            "wandb.mode=online: expected an account (WANDB_API_KEY, or `wandb login`), got none; "
            "wandb.mode=offline needs none, and `make wandb-sync` sends its runs later"
        )
    common = {
        "project": settings.project, "entity": settings.entity, "id": run_id, "dir": str(folder), **about,
    }  # fmt: skip
    quiet = {
        "silent": True, "console": "off", "x_disable_stats": True, "x_disable_meta": True,
        "x_save_requirements": False, "disable_git": True, "disable_code": True,
    }  # fmt: skip
    if mode == "online":
        before = set(folder.glob("wandb/run-*"))
        bounded = wandb.Settings(init_timeout=CONNECT_SECONDS, finish_timeout=UPLOAD_SECONDS, **quiet)
        try:
            return wandb.init(mode="online", resume="allow", settings=bounded, **common)
        except wandb.errors.CommError as error:
            reason = str(error).split("\n")[0]
            print(f"wandb cannot be reached ({reason}); this run goes on offline, `make wandb-sync` sends it later")
        wandb.teardown()  # its service holds on to the run's id
        for left in set(folder.glob("wandb/run-*")) - before:
            if left.name.endswith(f"-{run_id}"):
                shutil.rmtree(left)
    try:
        return wandb.init(mode="offline", settings=wandb.Settings(**quiet), **common)
    except wandb.errors.Error as error:
        raise ValueError(f"logger=wandb: {error}; logger=none does without") from error


def finish() -> None:
    """Close the run, or the next one in this process would go on in it."""
    wandb = quiet_wandb()
    if wandb.run is not None:
        wandb.finish()


def diagnoses(record: Record) -> list[str]:
    """The names of the failure modes that the record's trace shows."""
    seen = symptoms(record.trace) if record.trace is not None else None
    return [name for name, present in failures(seen).items() if present] if seen is not None else []


def tags_of(record: Record, more: Sequence[str]) -> tuple[str, ...]:
    """Source, outcome, diagnoses, and the user's own."""
    return tuple(dict.fromkeys([record.source, record.outcome.value, *diagnoses(record), *more]))


class WandbTracker(Tracker):
    """One wandb run for one run.

    Args:
        run: the run's settings; an evaluation's wandb run is `<run_id>-evaluate`, and offline.
        directory: the run's folder.
        job_type: `train` or `evaluate`.

    Raises:
        ValueError: as `open_run`.
    """

    wants_pictures = True

    def __init__(self, run: Run, directory: Path, job_type: str) -> None:
        trains = job_type == "train"
        settings = run.wandb if trains else run.wandb.model_copy(update={"mode": "offline", "artifacts": False})
        self.artifacts, self.tags = settings.artifacts, settings.tags
        self.directory = directory
        self.pictures = PictureFolder(directory / "pictures")
        family, source, condition = run.family["name"], run.source["name"], run.condition["name"]
        given = "" if condition == "nothing" else f" given {condition}"
        self.run = open_run(
            settings,
            run.id if trains else f"{run.id}-{job_type}",
            directory.parent,
            name=f"{family} {run.data_name}{given} {run.seed}" + ("" if trains else f" {job_type}"),
            group=settings.group,
            job_type=job_type,
            tags=[source, *self.tags],
            config=flat(run.config),
        )
        self.begin_at = self.run.step  # 0 but for a run that goes on online: the server has the steps below
        for axis in ("train_flops", "events_seen"):
            self.run.define_metric(axis, hidden=True)
        self.run.define_metric("curve/*", step_metric="train_flops")
        for group in ("trace", "train"):
            self.run.define_metric(f"{group}/*", step_metric="events_seen")

    def log(self, updates: int, row: Row) -> None:
        """One step of wandb's history per update that is logged, with its pictures."""
        if updates < self.begin_at:
            return
        wandb = quiet_wandb()

        told: dict[str, Any] = {
            name: wandb.Histogram(np_histogram=(list(value), list(range(len(value) + 1))))
            if isinstance(value, tuple)
            else value
            for name, value in row.items()
        }
        for name, path in self.pictures.paths(updates).items():
            told[f"pictures/{name}"] = wandb.Image(str(path), caption=f"after {updates} updates")
        self.run.log(told, step=updates, commit=True)

    def show(self, updates: int, pictures: Pictures) -> None:
        """Kept in the run's folder until the run is finished."""
        self.pictures.save(updates, pictures)

    def finish(self, record: Record, pictures: Pictures, gradient_norms: Mapping[str, list[float]]) -> None:
        """The record's numbers into the summary, final pictures and histograms, tags; artifacts where asked for."""
        wandb = quiet_wandb()

        last: dict[str, Any] = {f"final/{name}": wandb.Image(picture) for name, picture in pictures.items()}
        for player, norms in gradient_norms.items():
            if norms:
                last[f"final/gradient_norms_{player}"] = wandb.Histogram(norms)
        if last:
            self.run.log(last)
        self.run.summary.update(final_numbers(record) | {"diagnosis": ", ".join(diagnoses(record))})
        self.run.config.update({"code_version": record.code_version, "device": record.device}, allow_val_change=True)
        self.run.tags = tags_of(record, self.tags)
        if self.artifacts and record.outcome.finished:
            self._log_artifacts(record)
        self.run.finish(exit_code=0 if record.outcome.finished else 1)
        if record.outcome.finished:
            self.pictures.remove()

    def _log_artifacts(self, record: Record) -> None:
        wandb = quiet_wandb()

        name = re.sub(r"[^A-Za-z0-9._-]", "_", record.run_id)
        kept = wandb.Artifact(f"{name}-record", type="record")
        with kept.new_file("record.json") as file:
            file.write(record_to_json(record, indent=1))
        self.run.log_artifact(kept)
        weights = self.directory / "weights.safetensors"
        if weights.exists():
            model = wandb.Artifact(f"{name}-weights", type="model")
            model.add_file(str(weights))
            self.run.log_artifact(model)
