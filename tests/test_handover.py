"""A model that is handed over samples as it did here, says what was measured, and names no place on this machine."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

import genfam
from genfam.commands import stored
from genfam.running import experiment
from genfam.running.handover import card
from genfam.types import Likelihood, Outcome
from stores import make

TINY = ("budget=smoke", "budget.train_flops=1e9", "budget.parameters=8000", "curve.points=1", "curve.samples=50",
        "trace.points=1", "trace.samples=50", "evaluation.samples=100", "metrics.likelihood.events=20")  # fmt: skip


@pytest.fixture(scope="module", params=["family=vae source=die", "family=gan source=digits condition=labels"])
def trained(request, tmp_path_factory):
    from genfam.records.run import Run
    from helpers import composed

    place = tmp_path_factory.mktemp("store")
    run = Run.of(composed(*request.param.split(), *TINY, f"output_dir={place}", "wandb.entity=my-team"))
    assert experiment.execute(run).outcome is Outcome.OK
    return run.directory


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_a_folder_that_is_handed_over_samples_bit_for_bit_the_same(trained, tmp_path, capsys):
    run = genfam.load_run(trained)
    folder = run.export(tmp_path / "deep" / "model")
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.yaml",
        "record.json",
        "weights.safetensors",
    }
    moved = folder.rename(tmp_path / "elsewhere")
    again = genfam.load_run(moved)
    x = run.sample(40, seed=3)
    assert torch.equal(x, again.sample(40, seed=3))
    if run.family.likelihood_kind is not Likelihood.NONE:
        assert torch.equal(run.log_prob(x[:8]), again.log_prob(x[:8]))
    assert again.record is not None and again.record.metrics == run.record.metrics
    assert (moved / "weights.safetensors").stat().st_size < (trained / "weights.safetensors").stat().st_size
    assert stored.sample([f"run={moved}", "n=3", f"out={tmp_path}/x.npz"]) == 0, capsys.readouterr().err
    second = again.export(tmp_path / "second")
    assert (second / "weights.safetensors").read_bytes() == (moved / "weights.safetensors").read_bytes()


def test_what_the_docs_write_does_it(trained, tmp_path, monkeypatch):
    text = (Path(__file__).parent.parent / "docs" / "get_started.md").read_text()
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.S) if ".export(" in block]
    monkeypatch.chdir(tmp_path)
    exec(block.replace("outputs/single/<run_id>", str(trained)), {})
    assert (tmp_path / "my_model" / "README.md").is_file()


def test_the_card_has_the_measured_numbers_and_hugging_faces_metadata(trained, tmp_path):
    run = genfam.load_run(trained)
    text = (run.export(tmp_path / "model") / "README.md").read_text(encoding="utf-8")
    record = run.record
    found = front_matter(text)
    assert found["library_name"] == "genfam" and record.family in found["tags"] and "license" not in found
    assert "# license: choose one before you publish" in text.split("---\n")[1]
    (entry,) = found["model-index"]
    (result,) = entry["results"]
    assert result["task"]["type"] and result["dataset"] == {"type": record.source, "name": record.task}
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    directed = [m for m in record.metrics if m.estimate is not None and m.higher_is_better is not None]
    assert values == {m.name: m.estimate.value for m in directed} and len(values) > 3
    for m in record.metrics:
        if m.estimate is not None:
            error = "" if m.estimate.stderr is None else f" ± {m.estimate.stderr:.2g}"
            assert re.search(rf"\| `{m.name}`[^|]*\| {re.escape(f'{m.estimate.value:.5g}{error}')} \|", text)
    version = torch.__version__.split("+")[0]
    for words in (f"| seed | {record.seed} |", f"{record.train_flops:.4g} of 1e+09", f"torch {version}",
                  "genfam.load_run", "## Limits", f"| condition | {record.condition} |"):  # fmt: skip
        assert words in text
    assert ("`nll_nats` (an upper bound) ↓" in text) is (record.family == "vae")
    kinds = {"vae": "is a lower bound on the log-likelihood", "gan": "The model has no likelihood"}
    assert kinds[record.family] in text


def test_no_file_names_a_place_here_or_who_was_told(trained, tmp_path):
    folder = genfam.load_run(trained).export(tmp_path / "model")
    for path in folder.iterdir():
        content = path.read_bytes()
        for place in (trained, tmp_path, Path.home(), "my-team"):
            assert len(str(place)) < 2 or str(place).encode() not in content, path
    assert not re.search(r"(?<![\w:/.])/(?:\w+/)+", (folder / "README.md").read_text(encoding="utf-8"))


def test_nothing_is_overwritten(trained, tmp_path):
    run = genfam.load_run(trained)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(FileExistsError, match="expected a new or empty folder to export to"):
            run.export(tmp_path / name)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    assert run.export(tmp_path / "empty") == tmp_path / "empty"


def test_what_was_not_measured_is_not_handed_over(trained, tmp_path):
    run = genfam.load_run(trained)
    run.record.outcome = Outcome.DIVERGED
    with pytest.raises(
        ValueError, match="expected a run whose record says that it ended well, got one that is diverged"
    ):
        run.export(tmp_path / "model")
    run.record = None
    with pytest.raises(ValueError, match="got none that can be read"):
        run.export(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_weights_that_were_changed_after_the_hand_over_are_refused(trained, tmp_path):
    folder = genfam.load_run(trained).export(tmp_path / "model")
    with (folder / "weights.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(ValueError, match="expected the weights that the record beside it is about"):
        genfam.load_run(folder)


@pytest.mark.parametrize(("kind", "words"), [("exact", "the exact log"), ("estimate", "an estimate of the log")])
def test_the_card_says_what_else_is_needed(kind, words):
    record = make("mine", "cats", 0, 2.0, likelihood=Likelihood(kind))
    record.config["plugins"] = ["my_family"]
    text = card(record, of_files=True)
    assert words in text and "plugins=['my_family']" in text and "It needs my_family beside genfam" in text
    assert "data_dir=" in text and "does not apply" not in text
    assert json.dumps(front_matter(text))
    assert "data_dir" not in card(record, of_files=False)
