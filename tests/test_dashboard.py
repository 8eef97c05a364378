"""The dashboard: built in code, read by the client library's own models; and the scorecard's run."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from genfam.commands import scripts
from genfam.records.store import Store, load_published
from genfam.report import dashboard, write_report
from genfam.report.findings import findings
from genfam.running.tracking.sketches import of_file
from genfam.types import Kind, Outcome
from helpers import read_wandb
from stores import ROLES, draw, make

RESULTS = Path(__file__).parent.parent / "results"

pytestmark = pytest.mark.filterwarnings("ignore")  # wandb's own


@pytest.fixture(autouse=True)
def _no_account(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture(scope="module")
def published():
    return load_published(RESULTS / "quick")


def panels_of(text: str) -> dict[str, list[dict]]:
    """Section -> its panels, as wandb's viewspec has them."""
    sections = json.loads(text)["spec"]["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in sections}


def test_every_source_has_its_five_sections_grouped_by_family_with_intervals(published):
    built = dashboard.workspaces(published, "me", "genfam")
    assert set(built) == {"die", "digits", "grid"}
    for source, workspace in built.items():
        panels = panels_of(dashboard.definition(workspace))
        assert tuple(panels) == dashboard.SECTIONS and all(panels.values())
        kinds = ("Run History Line Plot", "Bar Chart")
        lines_and_bars = [panel for group in panels.values() for panel in group if panel["viewType"] in kinds]
        assert len(lines_and_bars) > 12
        for panel in lines_and_bars:
            config = panel["config"]
            assert (config["groupBy"], config["groupAgg"], config["groupArea"]) == ("family.value", "mean", "stderr")
            assert config["aggregate"] is True and "standard error" in config["chartTitle"]
        shown = {metric for panel in lines_and_bars for metric in panel["config"]["metrics"]}
        own = [record for record in published if record.source == source]
        assert {f"curve/{point.metric}" for record in own for point in record.curve} <= shown
        judges = {record.judge for record in own}
        assert judges <= {panel["config"]["metrics"][0] for panel in panels["Comparison"][:2]}
        headlines = {m.name for record in own for m in record.metrics if m.estimate and m.kind is Kind.HEADLINE}
        assert {name for name in shown if name.startswith("fd_")} - judges == headlines - judges
    assert "modes_covered" not in json.dumps(panels_of(dashboard.definition(built["die"]))["Comparison"])


def test_the_definition_is_what_the_client_library_reads(published):
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.workspaces import internal

    built = dashboard.workspaces(published, "me", "genfam")["grid"]
    content = json.loads(dashboard.definition(built))
    spec = internal.WorkspaceViewspec.model_validate(content["spec"])
    view = internal.View(entity=content["entity"], project=content["project"], display_name=content["displayName"],
                         name=content["name"], id=content["id"], spec=spec)  # fmt: skip
    read = ws.Workspace._from_model(view)
    assert [section.name for section in read.sections] == list(dashboard.SECTIONS)
    assert [[type(p) for p in s.panels] for s in read.sections] == [[type(p) for p in s.panels] for s in built.sections]
    for value in ("quick", "grid", "train"):
        assert f"'{value}'" in read.runset_settings.filters or f'"{value}"' in read.runset_settings.filters
    assert [group.name for group in read.runset_settings.groupby] == ["family"]


def test_without_an_account_the_command_writes_json_and_says_what_to_do(tmp_path, capsys):
    places = [f"output_dir={tmp_path}", f"results_dir={RESULTS}"]
    assert scripts.dashboard(["suite=quick", *places]) == 0
    said = capsys.readouterr().out
    assert "wandb login" in said and "make wandb-sync" in said and "make dashboard" in said
    files = sorted((tmp_path / "quick").glob("dashboard_*.json"))
    assert [file.name for file in files] == ["dashboard_die.json", "dashboard_digits.json", "dashboard_grid.json"]
    assert all(str(file) in said for file in files)
    assert tuple(panels_of(files[0].read_text())) == dashboard.SECTIONS


def test_with_an_account_it_saves_and_prints_the_links(monkeypatch, published, tmp_path):
    import wandb_workspaces.workspaces as ws

    saved = []

    def save(self):
        saved.append((self.entity, self.project, self.name))
        self._internal_name = f"nw-{len(saved)}-v"
        return self

    monkeypatch.setattr(dashboard, "has_account", lambda: True)
    monkeypatch.setattr(ws.Workspace, "save", save)
    monkeypatch.setattr(ws.Workspace, "url", property(lambda self: f"https://example.org/{self.name}"))
    lines = dashboard.save(published, "team", "genfam", tmp_path)
    assert saved == [("team", "genfam", f"quick: {source}") for source in ("die", "digits", "grid")]
    assert lines[0] == "quick: die: https://example.org/quick: die"
    assert not list(tmp_path.iterdir())


def test_mistakes_end_in_one_line(tmp_path, capsys):
    places = [f"output_dir={tmp_path}", f"results_dir={tmp_path}"]
    assert scripts.dashboard(["suite=quik", *places]) == 1
    assert "quik: expected records in" in capsys.readouterr().err
    (tmp_path / "quick" / "wandb" / "offline-run-20260101_000000-quick-report").mkdir(parents=True)
    assert scripts.dashboard(["suite=quick", "--sync", *places]) == 1
    assert "expected an account" in capsys.readouterr().err


def test_every_family_has_a_row_with_what_it_drew(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    store, rng = Store(tmp_path / "quick"), np.random.default_rng(0)
    for family, role in ROLES.items():
        for seed in range(3):
            value = {"alpha": 2.0, "beta": 4.0, "gauss": 9.0, "truth": 1.0}[family] + 0.1 * seed
            record = make(family, "digits", seed, value, role)
            record.config |= {"logger": "wandb", "wandb": {"mode": "offline"}}
            store.write(record)
            if family != "beta":
                np.savez(store.directory(record.run_id) / "samples.npz", **draw("digits", rng))
    records = store.current()
    write_report(store.folder, records, "a test")
    (store.folder / "wandb").mkdir()
    table = dashboard.by_family(store.folder)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.data]
    assert {(row["family"], row["verdict"]) for row in rows} == {
        ("alpha", "clearly best"), ("beta", "clearly worse"), ("gauss", "yardstick"), ("truth", "yardstick")
    }  # fmt: skip
    card = findings(records).card
    for row in rows:
        (own,) = card[(card["family"] == row["family"]) & card["judges"]].to_dict("records")
        assert (row["source"], row["metric"], row["n_ok"]) == ("digits", "fd_net", 3)
        assert [row[name] for name in ("mean", "ci_low", "ci_high")] == [own["mean"], own["ci_low"], own["ci_high"]]
        assert [row[name] is None for name in ("samples", "data")] == [row["family"] == "beta"] * 2
    first = of_file(store.directory("alphadigits-0") / "samples.npz")
    (alpha,) = [row for row in rows if row["family"] == "alpha"]
    for name in ("samples", "data"):
        assert (np.asarray(alpha[name].image) == first[name]).all(), "the lowest seed's"
    assert dashboard.log_scorecard(store.folder)
    (run,) = store.folder.glob("wandb/offline-run-*-quick-report")
    (file,) = run.glob("files/media/table/families_*.table.json")
    assert len(json.loads(file.read_text())["data"]) == len(rows)
    staged = [path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.read_bytes()[1:4] == b"PNG"]
    assert len(staged) == 6, "what a table shows travels as an artifact: samples and data of three families"


def test_the_viewer_opens_on_a_run_of_every_family(tmp_path, monkeypatch, capsys):
    store, place = Store(tmp_path / "quick"), [f"output_dir={tmp_path}"]
    (store.folder / "wandb").mkdir(parents=True)
    opened = []
    done = SimpleNamespace(returncode=0)
    monkeypatch.setattr(dashboard.subprocess, "run", lambda command: opened.append(command) or done)
    assert scripts.dashboard(["suite=quick", "--view", *place]) == 1
    assert "expected offline wandb runs, found none" in capsys.readouterr().err and not opened
    names = {}
    for number, (family, source, seed) in enumerate(
        [(f, s, seed) for seed in (1, 0) for s in ("grid", "die") for f in ROLES if (f, s) != ("truth", "die")]
    ):
        record = make(family, source, seed, 2.0, ROLES[family])
        store.write(record)
        names[family, source, seed] = f"offline-run-20260101_0000{number:02}-{record.run_id}"
        (store.folder / "wandb" / names[family, source, seed]).mkdir()
    report = "offline-run-20260101_010000-quick-report"
    (store.folder / "wandb" / report).mkdir()
    assert scripts.dashboard(["suite=quick", "--view", *place]) == 0
    said = json.loads((store.folder / "wandb" / ".wandb-leet.json").read_text())
    assert said["selected_runs"] == [names[family, "grid", 0] for family in ("alpha", "beta", "gauss", "truth")]
    assert (said["pinned_run"], said["latest_run"]) == (said["selected_runs"][0], report)
    assert opened[0][1:] == ["-m", "wandb", "leet", str(store.folder / "wandb")]
    assert scripts.dashboard(["suite=quick", "--view", "source=die", *place]) == 0
    said = json.loads((store.folder / "wandb" / ".wandb-leet.json").read_text())
    assert said["selected_runs"] == [names[family, "die", 0] for family in ("alpha", "beta", "gauss")]
    assert scripts.dashboard(["suite=quick", "--view", "source=ring", *place]) == 1
    assert "source: expected one of die, grid, got ring" in capsys.readouterr().err


def test_likelihoods_of_each_kind_have_a_chart_of_their_own(published):
    for source, workspace in dashboard.workspaces(published, "me", "genfam").items():
        panels = panels_of(dashboard.definition(workspace))
        shown = [
            panel["config"]["metrics"] for group in panels.values() for panel in group if "metrics" in panel["config"]
        ]
        kinds = {
            run.likelihood.value for run in published if run.source == source
            for metric in run.metrics if metric.name == "nll_nats" and metric.estimate is not None
        }  # fmt: skip
        assert len(kinds) > 1
        for kind in kinds:
            assert [f"nll_nats_{kind}"] in shown
        assert not [names for names in shown if {"nll_nats", "bits_per_dim"} & set(names)]
    assert not [point for record in published for point in record.curve if point.kind is Kind.LIKELIHOOD]


def test_only_finished_runs_that_were_not_sent_are_sent(tmp_path, published):
    store = Store(tmp_path / "quick")
    for record, outcome in zip(published[:3], (Outcome.OK, Outcome.INTERRUPTED, Outcome.DIVERGED), strict=True):
        record.outcome = outcome
        store.write(record)
    runs = [record.run_id for record in published[:3]]
    names = [*runs, f"{runs[0]}-evaluate", f"{runs[1]}-evaluate", "quick-report", "unknown"]
    folders = [store.folder / "wandb" / f"offline-run-20260101_00000{i}-{name}" for i, name in enumerate(names)]
    for folder in folders:
        folder.mkdir(parents=True)
    (folders[2] / f"run-{runs[2]}.wandb.synced").touch()
    found = dashboard.finished_offline_runs(store.folder)
    assert [folder.name.split("-", 3)[3] for folder in found] == [runs[0], f"{runs[0]}-evaluate", "quick-report"]


def test_the_scorecard_is_a_table_in_a_run_of_its_own(tmp_path, published):
    store = Store(tmp_path / "quick")
    records = [record for record in load_published(RESULTS / "quick") if record.source == "die"]
    for record in records:
        record.config["wandb"] = {"mode": "offline", "project": "genfam", "entity": None, "tags": ["mine"]}
        record.config["logger"] = "wandb"
        store.write(record)
    write_report(store.folder, records, "a test")
    assert not dashboard.log_scorecard(store.folder), "no run of it went to wandb"
    (store.folder / "wandb").mkdir()
    assert dashboard.log_scorecard(store.folder) and dashboard.log_scorecard(store.folder)
    (run,) = store.folder.glob("wandb/offline-run-*-quick-report")
    entries = read_wandb(run)
    assert next(entry["run"]["job_type"] for entry in entries if entry["type"] == "run") == "report"
    (table,) = run.glob("files/media/table/scorecard_*.table.json")
    content = json.loads(table.read_text())
    lines = (store.folder / "scorecard.csv").read_text().splitlines()
    assert content["columns"] == lines[0].split(",") and len(content["data"]) == len(lines) - 1
    store.folder.joinpath("scorecard.csv").unlink()
    assert not dashboard.log_scorecard(store.folder)
