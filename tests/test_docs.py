"""The documentation names what is there: functions, and results that nobody typed in. `make docs` does the rest."""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from genfam.records.store import load_published
from helpers import plain_families

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
THEORY = sorted((DOCS / "theory").glob("*.md"))
NAME = re.compile(r"`(src/genfam/[\w/]+\.py)::([\w.]+)`")


def hook(name: str):
    """A module of docs/hooks, which MkDocs loads by its path too."""
    pytest.importorskip("mkdocs", reason="needs the extra `docs`")
    spec = importlib.util.spec_from_file_location(f"docs_hook_{name}", DOCS / "hooks" / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def defined(path: Path) -> set[str]:
    """Dotted names of a file's functions, classes and methods."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("page", THEORY, ids=lambda page: page.name)
def test_every_name_of_the_theory_is_in_the_code(page):
    names = NAME.findall(page.read_text())
    assert names, "a page of theory says where its equations are"
    assert page.read_text().count("::") == len(names), "a name is written `src/genfam/….py::name`, on one line"
    missing = [f"{file}::{name}" for file, name in names if name not in defined(ROOT / file)]
    assert not missing


def test_every_family_has_a_page_of_theory():
    yardsticks = {"gaussian", "oracle"}
    pages = {"index", "ways_round_z", "losses", "conventions", "transport", "reflow"}
    assert {*plain_families()} - yardsticks | pages == {page.stem for page in THEORY}


def test_no_result_is_typed_into_the_page_that_chooses():
    text = (DOCS / "choose.md").read_text()
    assert set(re.findall(r"\d+\.\d+|\d\d+", text)) <= {"95"}


def test_the_answers_are_those_of_the_published_scorecards():
    results = hook("results")
    seen = 0
    for source, suite, found in results.answers():
        card = suite.card
        others = [s for s in results.suites() if s.name != suite.name and source in set(s.card["source"])]
        assert all(s.flops(source) <= suite.flops(source) for s in others)
        for claim in found.claims:
            if claim.metric and claim.aspect != "choice":
                own = card[(card["source"] == source) & (card["metric"] == claim.metric) & card["leads"]]
                assert sorted(own["family"]) == sorted(claim.best)
                seen += 1
        rows = [line for line in results.table(source, suite).splitlines()[2:] if line.startswith("| ")]
        assert len(rows) == card.loc[card["source"] == source, "family"].nunique()
    assert seen > 0
    blocks = {name: make() for name, make in results.BLOCKS.items()}
    assert all(blocks.values())
    assert "nan" not in re.findall(r"\w+", blocks["by_source"])


@pytest.mark.parametrize("name", ["results", "scaling", "trials"])
def test_each_block_stands_on_one_page_and_says_something(name):
    made = hook(name)
    used = re.findall(rf"<!-- {name}: (\w+) -->", "".join(path.read_text() for path in DOCS.rglob("*.md")))
    assert sorted(used) == sorted(made.BLOCKS)
    assert all(make() for make in made.BLOCKS.values())
    page = SimpleNamespace(file=SimpleNamespace(src_uri="a.md"))
    with pytest.raises(Exception, match=f"a.md: expected {name}: one of .*, got nothing"):
        made.on_page_markdown(f"<!-- {name}: nothing -->", page=page)


def test_suites_that_sweep_a_setting_rank_no_families():
    compares = hook("results").compares_families
    assert compares("images") and compares("no_such_suite")
    assert not compares("stability") and not compares("gan_failures") and not compares("gan_rules")


def test_pages_of_a_folder_are_found(tmp_path):
    navigation = hook("navigation")
    texts = {"b.md": "# Apples", "a.md": "Before.\n\n# Bananas", "c.md": "# apricots", "index.md": "# Zoo", "d.txt": ""}
    (tmp_path / "fruit").mkdir()
    for name, text in texts.items():
        (tmp_path / "fruit" / name).write_text(f"{text}\n")
    found = ["fruit/index.md", "fruit/b.md", "fruit/c.md", "fruit/a.md"]
    assert navigation.pages(tmp_path, "fruit/") == found
    config = {"docs_dir": str(tmp_path), "nav": [{"Home": "index.md"}, {"Food": [{"Fruit": "fruit/"}, "x.md"]}]}
    assert navigation.on_config(config)["nav"] == [{"Home": "index.md"}, {"Food": [{"Fruit": found}, "x.md"]}]
    with pytest.raises(Exception, match=r"expected pages in docs/nuts/"):
        navigation.pages(tmp_path, "nuts/")


def test_equations_become_mathml_and_what_is_unknown_fails_the_build():
    mathematics = hook("mathematics")
    page = mathematics.on_page_content(r'<p><span class="arithmatex">\(a &lt; \log p(x)\)</span></p>')
    assert page.startswith('<p><span class="arithmatex"><math') and "\\" not in page and "&#x0003C;" in page
    assert '<mi>log</mi><mspace width="0.167em"/><mi>p</mi>' in page
    with pytest.raises(Exception, match=r"latex2mathml"):
        mathematics.mathml(r"\nosuchcommand x", "inline")


@pytest.mark.parametrize(
    ("element", "asks"),
    [
        ('<script src="https://cdn.example/x.js"></script>', True),
        ("<img src=//cdn.example/x.png>", True),
        ('<link rel="stylesheet" href="https://fonts.example/css">', True),
        ('<a href="https://arxiv.org/abs/1406.2661">paper</a>', False),
        ('<script src="assets/x.js"></script><img src="../x.png">', False),
    ],
)
def test_a_page_that_asks_a_network_is_found(element, asks):
    assert bool(hook("offline").fetched(f"<html>{element}</html>")) is asks


def test_links_out_of_docs_are_told_from_links_within():
    inside = hook("outside").inside
    assert inside("stability.md", "../results/x/figures/y.png") == "results/x/figures/y.png"
    assert inside("tutorials/own_images.md", "../../conf/family/gan.yaml") == "conf/family/gan.yaml"
    assert inside("theory/gan.md", "../stability.md") is None


def test_docstrings_keep_their_stars():
    escaped = hook("docstrings").escaped
    assert escaped("(B, *event), (n, *event) and `*code`, a * b, <run_id>") == (
        r"(B, \*event), (n, \*event) and `*code`, a * b, &lt;run_id>"
    )


def test_references_are_listed_one_below_the_other():
    text = hook("docstrings").listed(
        "A title.\n\nReferences:\n    Lin, Z. & Oh, S. 2018. PacGAN. https://arxiv.org/abs/1712.04086 (section 2)\n"
        "    van den Oord, A. et al. 2016. Pixels\n    and more. https://x.org/a\n"
    )
    assert text.splitlines()[3:] == [
        "    - Lin, Z. & Oh, S. 2018. PacGAN. <https://arxiv.org/abs/1712.04086> (section 2)",
        "    - van den Oord, A. et al. 2016. Pixels",
        "      and more. <https://x.org/a>",
    ]


def test_each_published_source_is_of_its_kind():
    results = hook("results")
    kinds = {source: results.kind(source) for source in results.speakers()}
    expected = {"ring": "known", "digits": "images", "mnist": "images", "markov": "sequences", "wine": "rows"}
    assert expected.items() <= kinds.items()
    assert set(kinds.values()) == set(results.KINDS)


def test_plain_settings_of_the_knobs_are_the_records_own(tmp_path):
    docs = hook("scaling")
    assert docs.knobs(tmp_path).startswith("Not published yet")
    plain = {}
    for table in docs.knobs().split("\n\n")[1:]:
        (task, *_), _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
        plain |= {(task, family): float(value) for family, knob, value, *_ in rows if knob.endswith(" 1")}
    judged = {(r.task, r.family): m.estimate.value for r in load_published(ROOT / "results" / "conditions_mnist")
              for m in r.metrics if m.name == r.judge}  # fmt: skip
    assert len(plain) == 8 and all(abs(value / judged[key] - 1) < 5e-3 for key, value in plain.items())
