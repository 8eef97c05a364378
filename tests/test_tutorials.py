"""The tutorials do what they say: their blocks are run in order (`tutorials.py` says what a block is)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tutorials import TUTORIALS, follow, steps

ROOT = TUTORIALS.parent.parent
ALL = sorted(path.stem for path in TUTORIALS.glob("*.md") if path.stem != "index")
IN_THE_CLONE = ["guests", "read_the_report", "slurm_sweep"]  # with its published results beside them


def test_a_block_that_is_wrong_fails_a_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutorials.TUTORIALS", tmp_path)
    bash, output = "```bash\n{}\n```\n", "<!-- output -->\n```text\n{}\n```\n"
    tutorial = tmp_path / "t.md"
    tutorial.write_text(
        '```python title="a/b.py"\nprint(6 * 7)\n```\n' + bash.format("python a/b.py") + output.format("42")
    )
    follow(steps("t"), tmp_path)
    tutorial.write_text(bash.format("echo 42") + output.format("43"))
    with pytest.raises(AssertionError, match="expected '43'"):
        follow(steps("t"), tmp_path)
    tutorial.write_text(bash.format("false | cat"))
    with pytest.raises(AssertionError, match="false"):
        follow(steps("t"), tmp_path)
    tutorial.write_text("```python\nprint(1)\n```\n")
    with pytest.raises(ValueError, match="expected a title or bash"):
        steps("t")


def test_nothing_is_skipped_but_what_needs_slurm_or_an_account() -> None:
    skipped = [(name, step.title) for name in ALL for step in steps(name) if step.kind == "skip"]
    assert skipped == [("own_tables", "needs R"), ("slurm_sweep", "needs Slurm"), ("wandb", "needs an account")]
    assert all(sum(step.kind == "run" for step in steps(name)) >= 2 for name in ALL)


@pytest.mark.parametrize("name", ALL)
def test_tutorials_are_short_and_their_links_lead_somewhere(name: str) -> None:
    text = (TUTORIALS / f"{name}.md").read_text()
    assert len(text.splitlines()) <= 135
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert links
    for link in links:
        assert (TUTORIALS / link.partition("#")[0]).is_file(), link


@pytest.mark.slow
@pytest.mark.timeout(1200)  # commands import for seconds, and minutes on a machine that is busy
@pytest.mark.parametrize(
    "name",
    [name for name in ALL if name not in IN_THE_CLONE],
)
def test_a_tutorial_from_top_to_bottom(name: str, tmp_path: Path) -> None:
    follow(steps(name), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", IN_THE_CLONE)
def test_a_tutorial_from_top_to_bottom_in_the_clone(name: str, tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(ROOT / "results")
    follow(steps(name), tmp_path)
    if name == "slurm_sweep":
        records = {path.parent.name.split("-s")[1][0] for path in tmp_path.glob("outputs/quick/*/record.json")}
        assert records == {"1", "5"}  # of 100 and 5
        reused = {path.parent.name.split("-s")[1][0] for path in tmp_path.glob("outputs/quick/*/reused.txt")}
        assert reused == {"1"}  # what is published was not trained again
        assert list(tmp_path.glob("outputs/.hydra/quick/.submitit/*"))


def test_what_slurm_would_be_asked_for_composes(tmp_path: Path) -> None:
    todo = steps("slurm_sweep")
    looked = next(number for number, step in enumerate(todo) if "--cfg" in step.text)
    follow(todo[: looked + 2], tmp_path)
    submitted = next(step.text for step in todo if step.kind == "skip")
    assert todo[looked].text.startswith(submitted.strip())  # what is submitted is what was looked at
    assert not list(tmp_path.glob("outputs/*/*/record.json"))


def test_numbers_quoted_from_published_results_are_the_published_ones() -> None:
    """The quick check of what the slow tutorial would find: publishing anew must not leave old numbers behind."""
    published = (ROOT / "results" / "quick" / "scorecard.md").read_text(encoding="utf-8")
    quoted = [line for step in steps("read_the_report") if step.kind == "expect" for line in step.text.splitlines()]
    numbers = [line for line in quoted if "±" in line]
    assert numbers
    assert [line for line in numbers if line not in published] == []
