"""README and docs say what results/ says, in few and plain words."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import compare
import pytest
import readme_results

from genfam.records.store import load_published, write_published
from genfam.types import Estimate, Kind, Measurement
from stores import make

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def prose(text: str) -> list[str]:
    """Sentences outside code, tables and link targets."""
    text = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"^\|.*$", "", text, flags=re.M)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"\n\s*\n|\n\* ", text)
    return [sentence for part in parts for sentence in re.split(r"(?<=[.!?:])\s+", " ".join(part.split()))]


def test_the_readme_is_short_and_plain():
    assert len(README.encode()) <= 8000
    assert max(len(sentence.split()) for sentence in prose(README)) <= 30


def test_the_results_in_the_readme_are_the_published_ones():
    assert subprocess.run([sys.executable, "benchmarks/readme_results.py", "--check"], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    "path", sorted((ROOT / "results").glob("*/records.jsonl.gz")), ids=lambda path: path.parent.name
)
def test_published_machines_are_those_of_the_runs(path):
    said = (path.with_name("provenance.json")).read_text()
    assert all(f"{record.device}, {record.threads} threads" in said for record in load_published(path.parent))


def test_the_tables_of_published_numbers_are_those_that_make_compare_writes():
    assert compare.table() in (ROOT / "docs" / "published.md").read_text()


def test_every_command_and_link_of_the_readme_is_there():
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.S)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    rows = re.findall(r"^\| `(genfam-[^`]*)`", README, flags=re.M)
    called = {line[0] for line in lines if line} | {row.split()[0] for row in rows}
    scripts = (ROOT / "pyproject.toml").read_text()
    assert {"make", "genfam", "genfam-evaluate"} <= called
    assert all(f"\n{name} = " in scripts for name in called - {"make", "export"})
    targets = (ROOT / "Makefile").read_text()
    assert all(f"\n{line[1]}:" in targets for line in lines if line[:1] == ["make"])
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert len(links) > 8 and all((ROOT / link).exists() for link in links)


def test_the_architecture_is_one_short_page():
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert len(text.encode()) <= 6000 and text.count("```text") == 1


def test_the_table_marks_who_leads_and_intervals(tmp_path):
    def run(family, role, seed, value):
        truth = Measurement("total_variation", "1", False, Estimate(value, 0.01, 9), {}, Kind.DIVERGENCE)
        return make(family, "die", seed, 1.0, role, extra=(truth,))

    values = {("vae", "contestant"): 0.1, ("gan", "contestant"): 0.5, ("oracle", "oracle"): 0.05}
    records = [
        run(*family, seed, value + 0.004 * seed * (1 + value)) for family, value in values.items() for seed in range(3)
    ]
    write_published(tmp_path, records)
    (tmp_path / "provenance.json").write_text(
        '{"command": "c", "runs": {"ok": 9}, "seeds": [0, 2], "devices": ["cpu"], "date": "2026-01-01T00", '
        '"code_versions": ["v"]}'
    )
    rows = readme_results.table(tmp_path).splitlines()
    assert rows[2].startswith("| gan | 0.5060 ± 0.0100 | – |") and rows[3].startswith("| vae | **0.1044 ± 0.0087** |")
    assert rows[4].startswith("| oracle | 0.054 ± 0.010 |")
