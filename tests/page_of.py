"""A store of runs -> what `genfam.report.page.write_page` takes."""

from pathlib import Path

from genfam.records.store import Store, as_tuned
from genfam.report import _drawn, _roles
from genfam.report.findings import findings
from genfam.report.style import looks


def page_arguments(folder: Path) -> tuple:
    """Path of the page, store, records, their tables, summary, samples by source and family."""
    store = Store(folder)
    records = store.current()
    found = findings(records)
    drawn = _drawn(store, as_tuned(records), looks(_roles(records)))
    facts = {"command": "make benchmark", "date": "today"}
    return folder / "report.html", folder, records, found, found.summary(facts), drawn
