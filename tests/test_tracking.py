"""Trackers: what was logged is what the record says, once, whatever happened on the way; offline unless asked."""

import csv
import json
import os
import signal
import socket
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genfam.records.run import Run
from genfam.records.serialisation import record_to_json
from genfam.records.store import read_record
from genfam.running import checkpoints, experiment, training
from genfam.running.parts import make_source
from genfam.running.tracking import sketches, weights_and_biases
from genfam.running.tracking.base import PictureFolder, flat
from genfam.types import Outcome
from helpers import composed, read_wandb

TIMES = ("train_seconds", "evaluate_seconds", "seconds_per_sample", "peak_memory")
CHEAP = ("evaluation.samples=200", "metrics.divergence.noise=1", "metrics.divergence.least_samples=200")
YARDSTICK = ("family=gaussian", "source=die", *CHEAP)
TINY = ("family=gan", "source=ring", "budget=smoke", "budget.train_flops=3e9", "budget.parameters=8000",
        "curve.points=4", "curve.samples=100", "trace.points=8", "trace.samples=50", *CHEAP,
        "~metrics.frechet_infinity", "~metrics.kernel", "~metrics.neighbours", "~metrics.sliced_wasserstein",
        "~metrics.divergence", "~metrics.memorisation")  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore")  # wandb's, Lightning's and TensorBoard's own


@pytest.fixture(autouse=True)
def _no_account(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def fresh_wandb():
    """wandb reads its environment once: let it forget what other tests set, and others what this one does."""
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()


def numbers(record) -> dict:
    """The record but for times, the store's place and the logger."""
    plain = json.loads(record_to_json(record))
    plain.pop("checksum")  # of all of it
    for key in ("output_dir", "results_dir", "wandb", "logger"):
        plain["config"].pop(key)
    return {key: value for key, value in plain.items() if key not in TIMES}


def wandb_run(run, job: str = "") -> list[dict]:
    """The one offline run of this configuration."""
    name = run.id + job
    (found,) = run.directory.parent.glob(f"wandb/offline-run-*-{name}")
    return read_wandb(found)


def history(entries: list[dict]) -> list[dict]:
    return [entry["history"]["item"] for entry in entries if entry["type"] == "history"]


def merged(entries: list[dict], kind: str) -> dict:
    """All updates of summary or configuration, in their order."""
    found: dict = {}
    for entry in entries:
        node = entry["run"]["config"] if kind == "config" and entry["type"] == "run" else entry.get(kind, {})
        found |= node.get("update", {})
    return found


def expected_rows(record) -> dict[int, dict[str, float]]:
    """Update -> the numbers that curve and trace of the record hold there."""
    each = record.train_flops / record.updates
    rows: dict[int, dict[str, float]] = {}
    for point in record.curve:
        rows.setdefault(round(point.train_flops / each), {})[f"curve/{point.metric}"] = point.value
    for point in record.trace.points:
        row = rows.setdefault(point.updates, {})
        row |= {"trace/live_modes": point.modes, "trace/live_quality": point.quality}
        row |= {"trace/critic_accuracy": point.critic_accuracy}
        row |= {f"trace/gradient_norm_{player}": norm for player, norm in point.gradient_norms.items()}
    batch = record.events_seen / record.updates
    return {u: row | {"train_flops": u * each, "events_seen": u * batch} for u, row in rows.items()}


def logged_rows(run) -> list[tuple[int, dict[str, float]]]:
    """(update, numbers) in the order in which the configuration's tracker kept them, but for the final ones."""
    directory = run.directory
    if run.logger == "wandb":
        rows = [(row["_step"], row) for row in history(wandb_run(run))]
    elif run.logger == "csv":
        with (directory / "csv" / "metrics.csv").open() as file:
            rows = [(int(row["step"]), {k: float(v) for k, v in row.items() if v}) for row in csv.DictReader(file)]
    else:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(directory / "tensorboard"))
        events.Reload()
        found: dict[int, dict[str, float]] = {}
        for tag in events.Tags()["scalars"]:
            steps = [event.step for event in events.Scalars(tag)]
            assert len(steps) == len(set(steps)), f"{tag} has steps twice: {steps}"
            for event in events.Scalars(tag):
                found.setdefault(event.step, {})[tag] = event.value
        rows = sorted(found.items())
    return [(step, row) for step, row in rows if "train_flops" in row]


def check_rows(run, record) -> None:
    rows = logged_rows(run)
    expected = expected_rows(record)
    assert [step for step, _ in rows] == sorted(expected), "each step once, none lost"
    for step, row in rows:
        for name, value in expected[step].items():
            assert row[name] == pytest.approx(value, rel=1e-6), (step, name)  # TensorBoard keeps 32 bits


class Eager(training.Conductor):
    """Reports after every update, not some twice a second."""

    def on_train_batch_end(self, *arguments):
        self.reported = 0.0
        super().on_train_batch_end(*arguments)


def stop_with(number: int):
    """A progress that sends this process a signal late in training, between two checkpoints."""

    def progress(share: float, text: str) -> None:
        # checkpoints at 1/4, 2/4, 3/4 of training; points of the trace at every 1/8
        if text.startswith("update") and 0.66 < share / experiment.TRAINING_SHARE < 0.75:
            os.kill(os.getpid(), number)

    return progress


@pytest.fixture(scope="module")
def untracked():
    """The record of TINY without a logger, made once."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return experiment.execute(Run.of(composed(f"output_dir={folder}", *TINY)))


@pytest.mark.parametrize(
    ("logger", "end"),
    [
        ("wandb", signal.SIGKILL),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (
            ("wandb", signal.SIGINT), ("csv", signal.SIGKILL), ("csv", signal.SIGINT),
            ("tensorboard", signal.SIGINT), ("tensorboard", signal.SIGKILL),
        )),
    ],
)  # fmt: skip
def test_a_run_cut_off_and_resumed_has_each_step_once_and_the_numbers_of_one_without_a_logger(
    configure, monkeypatch, untracked, logger, end
):
    run = configure(f"logger={logger}", *TINY)
    assert run.id == untracked.run_id
    with monkeypatch.context() as patch:
        patch.setattr(training, "Conductor", Eager)
        if end == signal.SIGINT:
            assert experiment.execute(run, progress=stop_with(end)).outcome is Outcome.INTERRUPTED
        else:
            import wandb

            wandb.teardown()  # its service is not shared with a fork
            child = os.fork()
            if child == 0:
                experiment.execute(run, progress=stop_with(end))
                os._exit(1)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
            assert read_record(run.directory).outcome is Outcome.RUNNING
            if logger == "csv":  # it had told more than the checkpoint knows
                state = checkpoints.read(run.directory)
                assert logged_rows(run)[-1][0] > state["family"]["updates"]
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    record = experiment.execute(run)
    assert record.outcome is Outcome.OK, record.reason
    assert numbers(record) == numbers(untracked)
    check_rows(run, record)
    assert not (run.directory / "pictures").exists()
    if logger == "wandb":
        entries = wandb_run(run)
        shown = [row["_step"] for row in history(entries) if "pictures/samples.path" in row]
        assert shown == [step for step, row in expected_rows(record).items() if "curve/fd_identity" in row]
        assert [entry["exit"]["exit_code"] for entry in entries if entry["type"] == "exit"] == [0]


def test_what_was_logged_is_what_the_record_says(configure):
    run = configure("logger=wandb", "seed=3", "wandb.artifacts=true", "wandb.tags=[mine]", *TINY)
    record = experiment.execute(run)
    assert record.outcome is Outcome.OK, record.reason
    check_rows(run, record)
    entries = wandb_run(run)
    (told,) = [entry["run"] for entry in entries if entry["type"] == "run"][:1]
    assert (told["run_id"], told["job_type"], told["run_group"]) == (record.run_id, "train", "single-gan")
    last = [entry["run"] for entry in entries if entry["type"] == "run"][-1]
    assert last["tags"][:2] == ["ring", "ok"] and last["tags"][-1] == "mine"
    told = merged(entries, "config")
    assert (told["family"], told["source"], told["seed"], told["budget/train_flops"]) == ("gan", "ring", 3, 3e9)
    assert not any(isinstance(value, dict) for key, value in told.items() if key != "_wandb")
    assert str(run.output_dir) not in json.dumps(told)
    summary = merged(entries, "summary")
    for m in record.metrics:
        if m.estimate is not None:
            assert summary[m.name] == pytest.approx(m.estimate.value, rel=1e-12)
    assert summary["outcome"] == "ok" and summary["updates"] == record.updates
    assert summary["diagnosis"] == ", ".join(weights_and_biases.diagnoses(record))
    axes = {e["metric"].get("glob_name"): e["metric"].get("step_metric") for e in entries if e["type"] == "metric"}
    assert axes["curve/*"] == "train_flops" and axes["trace/*"] == "events_seen"
    counts = [row[key] for row in history(entries) if (key := "trace/mode_counts.values") in row]
    assert counts == [list(point.mode_counts) for point in record.trace.points]
    (final,) = [row for row in history(entries) if "final/samples.path" in row]
    assert {"final/modes.path", "final/gradient_norms_critic.values", "final/gradient_norms_generator.bins"} <= set(
        final
    )
    files = json.dumps([entry for entry in entries if "artifact" in entry["type"].lower()])
    assert "record.json" in files and "weights.safetensors" in files


def test_each_run_is_its_own_finished_run_and_an_evaluation_another(configure):
    runs = [configure("logger=wandb", f"seed={seed}", *YARDSTICK) for seed in (0, 1)]
    records = [experiment.execute(run) for run in runs]  # in one process: the second must not go on in the first
    import wandb

    assert wandb.run is None
    for run, record in zip(runs, records, strict=True):
        assert record.outcome is Outcome.OK, record.reason
        entries = wandb_run(run)
        assert [entry["exit"]["exit_code"] for entry in entries if entry["type"] == "exit"] == [0]
        (row,) = (row for row in history(entries) if row["_step"] == 0)
        assert {f"curve/{p.metric}": p.value for p in record.curve}.items() <= row.items()
        assert not any(entry["type"] == "artifact" for entry in entries), "on request only"
    again = experiment.measure_again(runs[0].directory)
    entries = wandb_run(runs[0], "-evaluate")
    assert next(entry["run"]["job_type"] for entry in entries if entry["type"] == "run") == "evaluate"
    summary = merged(entries, "summary")
    assert summary["total_variation"] == next(m.estimate.value for m in again.metrics if m.name == "total_variation")


@pytest.mark.usefixtures("fresh_wandb")
def test_offline_asks_nothing_of_a_network_even_with_a_key(configure, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        record = experiment.execute(configure("logger=wandb", *YARDSTICK))
        assert record.outcome is Outcome.OK, record.reason
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.usefixtures("fresh_wandb")
def test_online_without_a_network_goes_on_offline(configure, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed}")
    monkeypatch.setattr(weights_and_biases, "CONNECT_SECONDS", 2.0)
    run = configure("logger=wandb", "wandb.mode=online", *YARDSTICK)
    record = experiment.execute(run)
    assert record.outcome is Outcome.OK, record.reason
    assert "wandb cannot be reached" in capsys.readouterr().out
    assert not list(run.directory.parent.glob("wandb/run-*")), "nothing of the failed attempt stays"
    assert merged(wandb_run(run), "summary")["outcome"] == "ok"


@pytest.mark.usefixtures("fresh_wandb")
def test_online_without_an_account_says_what_to_do(configure):
    with pytest.raises(ValueError, match=r"wandb\.mode=online: expected an account .* got none"):
        experiment.execute(configure("logger=wandb", "wandb.mode=online", *YARDSTICK))


def test_online_a_resumed_run_sends_only_what_the_server_has_not(monkeypatch, tmp_path):
    """The server's last step comes back with a resumed run; a fake run stands in for it here."""
    sent = []

    class Server:
        step = 20

        def define_metric(self, *arguments, **keywords):
            pass

        def log(self, row, step, commit):
            sent.append(step)

    monkeypatch.setattr(weights_and_biases, "open_run", lambda *arguments, **keywords: Server())
    tracker = weights_and_biases.WandbTracker(Run.of(composed()), tmp_path / "run", "train")
    for step in (10, 19, 20, 30):
        tracker.log(step, {"train_flops": float(step)})
    assert sent == [20, 30]


@pytest.mark.parametrize("wrong", [{"logger": "cvs"}, {"wandb": {"mode": "of"}}])
def test_an_unknown_mode_or_logger_names_the_known_ones(wrong):
    with pytest.raises(ValueError, match=r"(logger|wandb\.mode): expected .*got '(of|cvs)'"):
        Run.of(composed(*YARDSTICK) | wrong)


def test_a_flat_configuration_has_one_key_per_choice_and_no_paths():
    config = {"family": {"name": "gan", "optimisation": {"ema": 0.5}}, "seed": 1, "output_dir": "/x", "wandb": {"a": 1},
              "metrics": {"kernel": {"name": "k"}}, "betas": [0.0, 0.9]}  # fmt: skip
    assert flat(config) == {
        "family": "gan", "family/optimisation/ema": 0.5, "seed": 1, "metrics/kernel/name": "k", "betas": [0.0, 0.9],
    }  # fmt: skip


def test_pictures_are_found_by_update(tmp_path):
    folder = PictureFolder(tmp_path / "pictures")
    folder.remove()  # nothing there yet
    picture = np.zeros((2, 2, 3), np.uint8)
    folder.save(5, {"samples": picture, "modes": picture})
    folder.save(50, {"samples": picture})
    assert set(folder.paths(5)) == {"samples", "modes"} and set(folder.paths(50)) == {"samples"}
    assert folder.paths(6) == {}
    folder.remove()
    assert not folder.folder.exists()


def test_a_mosaic_shows_the_first_images_in_their_place():
    images = np.zeros((10, 1, 4, 4), np.uint8)
    images[9] = 15
    picture = sketches.mosaic(images, 16)
    side = 4 * 6 + 2  # enlarged to 24 pixels, and a gap
    assert picture.shape == (2 * side, 8 * side, 3)
    assert (picture[:24, :24] == 0).all() and (picture[side : side + 24, side : side + 24] == 255).all()
    assert (picture[side:, 2 * side :] == 255).all(), "no image: paper"
    colours = np.zeros((1, 3, 8, 8), np.uint8)
    colours[:, 1] = 16
    assert tuple(sketches.mosaic(colours, 17)[0, 0]) == (0, 255, 0)


def test_a_plane_has_samples_where_they_are_and_leaves_out_what_is_far_or_not_a_number():
    reference = np.array([[-1.0, -1.0], [1.0, 1.0]])
    picture = sketches.plane(np.array([[1.0, -1.0], [50.0, 0.0], [np.nan, 0.0]]), reference)
    blue = np.argwhere((picture == sketches.MODEL).all(axis=2))
    assert len(blue) == 4 and blue[:, 0].min() > 180 and blue[:, 1].min() > 180, "below, right"
    assert len(np.argwhere((picture == sketches.DATA).all(axis=2))) == 8


def test_bars_are_as_high_as_their_share():
    picture = sketches.bars(np.array([0.5, 0.25, 0.0, 0.25]), np.full(4, 0.25))
    width = picture.shape[1] // 4
    heights = [(picture[:, mode * width + width // 2] == sketches.MODEL).all(axis=1).sum() for mode in range(4)]
    assert heights[0] == pytest.approx(2 * heights[1], abs=4) and heights[2] == 0
    assert sketches.bars(np.zeros(65), None) is None


def test_drawing_does_not_touch_the_random_state(configure):
    source = make_source(configure("source=digits", *CHEAP))
    state = torch.random.get_rng_state()
    found = sketches.Sketcher(source, None)(source.train[:70])
    assert set(found) == {"samples"} and torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["source=digits"], "vae digits 3"),
        (
            ["source=digits", "condition=labels", "corruption=tenth"],
            "vae digits with share_0.1_of_events given labels 3",
        ),
    ],
)
def test_a_wandb_runs_name_says_family_and_task_first(configure, monkeypatch, tmp_path, words, name):
    told = []
    wandb_run = SimpleNamespace(step=0, define_metric=lambda *_, **__: None)
    monkeypatch.setattr(weights_and_biases, "open_run", lambda *_, **about: told.append(about["name"]) or wandb_run)
    run = configure("family=vae", "seed=3", "logger=wandb", *words)
    for job_type in ("train", "evaluate"):
        weights_and_biases.WandbTracker(run, tmp_path, job_type)
    assert told == [name, f"{name} evaluate"]
