"""The script that splits distances into frequencies and fidelity: it measures as the records did, or refuses."""

from pathlib import Path

import class_masses
import pandas as pd
import pytest

from genfam import experiment, run_folder
from helpers import composed


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run of the oracle on digits; its classifier has seen them once."""
    place = tmp_path_factory.mktemp("oracle")
    config = composed(f"output_dir={place}/outputs", f"results_dir={place}/results", "family=oracle", "source=digits",
                      "metric=[frechet]", "budget=smoke", "extractor.epochs=1", "evaluation.samples=400")  # fmt: skip
    assert experiment.run(config).outcome.finished
    return run_folder.run_directory(config)


def test_the_distance_is_the_records_and_other_samples_are_refused(folder):
    row = class_masses.measure(folder, None)
    (distance,) = [m for m in run_folder.read_record(folder).metrics if m.name == "fd_digits_cnn"]
    assert row["plain"] == pytest.approx(distance.estimate.value, rel=1e-6)
    assert 0 < row["reweighted"] < row["plain"]
    assert (row["source"], row["family"], row["seed"]) == ("digits", "oracle", 0)
    path = folder / "record.json"
    text, value = path.read_text(), repr(distance.estimate.value)
    assert value in text
    path.write_text(text.replace(value, repr(2 * distance.estimate.value)))
    with pytest.raises(ValueError, match="expected the record's fd_digits_cnn"):
        class_masses.measure(folder, None)


def test_the_table_has_means_intervals_and_the_ratio_to_the_oracle():
    rows = pd.DataFrame(
        [("digits", family, seed, 1.0, value) for family, values in (("gan", (0.4, 0.6)), ("oracle", (0.1, 0.1)))
         for seed, value in enumerate(values)],
        columns=["source", "family", "seed", "plain", "reweighted"],
    )  # fmt: skip
    assert class_masses.table(rows).splitlines()[2:] == [
        "| digits | oracle | 2 | 1.0000 ± 0.0000 | 0.1000 ± 0.0000 | 0.1000, 0.1000 | 1.0 |",
        "| digits | gan | 2 | 1.0000 ± 0.0000 | 0.5000 ± 1.2706 | 0.4000, 0.6000 | 5.0 |",
    ]
