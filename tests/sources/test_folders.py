"""A user's own folder of images, as users have them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genfam.metrics.extractors import Classifier
from genfam.metrics.own_images import OwnImages
from genfam.sources.folders import ImageFolder
from genfam.sources.validation import ValidationSplit


def fill(folder: Path, count: int, colour: tuple[int, int, int] = (255, 0, 0)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (9, 7), (colour[0], number, colour[2])).save(folder / f"{number:03}.png")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    fill(tmp_path / "red", 100)
    fill(tmp_path / "blue" / "deeper", 100, (0, 0, 255))
    return tmp_path


def source(folder: Path, size: int = 4, **options: object) -> ImageFolder:
    return ImageFolder(str(folder), size=size, **options)  # type: ignore[arg-type]  # options of several types


def test_folders_are_classes_and_a_classifier_learns_them(classes: Path) -> None:
    found = source(classes)
    assert found.label_names == ("blue", "red")
    train, labels, test, test_labels = found.classifier_images()
    assert len(train) + len(test) == 200 and len(labels) == len(train) and len(test) >= 10
    assert torch.equal(train[:, 0, 0, 0] == 255, labels == 1) and torch.equal(test[:, 0, 0, 0] == 255, test_labels == 1)
    extractor = OwnImages(found, classes / ".cache", looks=2000)
    assert isinstance(extractor.chosen, Classifier) and extractor.chosen.test_accuracy == 1.0
    assert extractor.n_classes == 2 and extractor.name == "own_cnn" and extractor.distance_name == "fd_own_cnn"
    assert torch.equal(extractor.classify(test), test_labels)
    assert source(classes).label_names == ("blue", "red")  # what lies in hidden folders is none of them


def test_a_validation_split_has_the_same_classes(classes: Path) -> None:
    validation = ValidationSplit(source(classes))
    seen = OwnImages(validation, classes / ".cache", looks=400)
    assert seen.fingerprint == OwnImages(source(classes), classes / ".cache", looks=400).fingerprint  # the same ruler


def test_a_validation_split_of_a_folder_that_is_not_there_yet_can_be_made(tmp_path: Path) -> None:
    later = ValidationSplit(source(tmp_path / "later"))  # a download may bring it
    with pytest.raises(FileNotFoundError, match="later"):
        _ = later.label_names


def test_a_limit_takes_of_every_class(classes: Path) -> None:
    some = source(classes, limit=160)
    assert len(some.train) + len(some.test) == 160 and some.label_names == ("blue", "red")
    assert len(some.classifier_images()[1].unique()) == 2


def test_images_beside_class_folders_mean_no_classes(classes: Path) -> None:
    fill(classes, 3)
    assert source(classes).label_names == ()
    with pytest.raises(ValueError, match=r"every image below .* in one of two or more folders.*extractor=inception"):
        source(classes).classifier_images()


def test_without_classes_and_without_a_network_the_error_says_what_else_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **more: object) -> None:
        raise OSError("no network")

    fill(tmp_path, 150)
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(FileNotFoundError, match=r"no network.*weights_path.*folder per class.*extractor=identity"):
        OwnImages(source(tmp_path, size=17), tmp_path)
    assert OwnImages(source(tmp_path, size=9), tmp_path).distance_name == "fd_identity"  # few pixels need no network


def test_a_class_of_which_all_images_are_held_out(classes: Path) -> None:
    held_out = next(n for n in range(1000) if hashlib.sha256(f"green/{n}.png".encode()).digest()[0] < 26)
    fill(classes / "green", 0)
    Image.new("RGB", (9, 7)).save(classes / "green" / f"{held_out}.png")
    with pytest.raises(ValueError, match="training images of every class, got none of green"):
        source(classes).classifier_images()


def test_broken_files_are_all_named_and_hidden_ones_left_out(classes: Path) -> None:
    (classes / "red" / "text.png").write_text("no picture")
    whole = (classes / "red" / "000.png").read_bytes()
    (classes / "blue" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (classes / "blue" / "._000.png").write_bytes(b"resource fork")
    (classes / "__MACOSX").mkdir()
    (classes / "__MACOSX" / "000.png").write_bytes(b"resource fork")
    with pytest.raises(ValueError, match=r"got 2 of 202 files that cannot be read: blue/cut\.png \(.*red/text\.png \("):
        _ = source(classes).train


def test_twenty_images_are_too_few_and_the_error_counts(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    with pytest.raises(FileNotFoundError, match=r"10 to be held out .*150 images.* got 20 with \d held out"):
        _ = source(tmp_path).train


def test_all_kinds_of_pictures_become_what_one_sees(tmp_path: Path) -> None:
    kinds = tmp_path / "kinds"
    kinds.mkdir()
    Image.new("L", (5, 5), 100).save(kinds / "grey.png")
    Image.fromarray(np.full((5, 5), 100 * 256, dtype=np.uint16)).save(kinds / "grey16.png")
    Image.new("RGBA", (5, 5), (9, 9, 9, 0)).save(kinds / "transparent.png")
    Image.new("RGB", (5, 5), (0, 128, 0)).convert("P").save(kinds / "palette.png")
    turned = Image.new("RGB", (8, 16), (255, 0, 0))
    turned.paste((0, 0, 255), (0, 0, 8, 8))  # blue above red; to be shown turned by a right angle
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(kinds / "turned.png", exif=exif)
    read = source(tmp_path)._read
    assert read(kinds / "grey.png").unique().tolist() == [100] and read(kinds / "grey.png").shape == (3, 4, 4)
    assert read(kinds / "grey16.png").unique().tolist() == [100]
    assert read(kinds / "transparent.png").unique().tolist() == [255]
    assert read(kinds / "palette.png")[:, 0, 0].tolist() == pytest.approx([0, 128, 0], abs=30)
    shown = read(kinds / "turned.png")
    assert shown[0, 0, 0] == shown[0, 3, 0] == 255 and shown[2, 0, 3] == shown[2, 3, 3] == 255  # red left, blue right
    assert source(tmp_path, grey=True)._read(kinds / "grey.png").shape == (1, 4, 4)
