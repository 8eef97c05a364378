"""CelebA on a small archive in torchvision's format, which the test writes and serves."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CelebA as Theirs

from genfam.sources.folders import CelebA

LISTS = {
    "list_eval_partition.txt": lambda name, part: f"{name} {part}",
    "identity_CelebA.txt": lambda name, part: f"{name} 7",
    "list_attr_celeba.txt": lambda name, part: f"{name} 1 -1",
    "list_bbox_celeba.txt": lambda name, part: f"{name} 1 2 3 4",
    "list_landmarks_align_celeba.txt": lambda name, part: f"{name} 1 2",
}
HEADERS = {
    "list_attr_celeba.txt": "Smiling Young",
    "list_bbox_celeba.txt": "x y w h",
    "list_landmarks_align_celeba.txt": "x y",
}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten faces: six for training, one for validation, three for testing; what torchvision fetches comes from here."""
    place = tmp_path / "served"
    images = place / "pack" / "img_align_celeba"
    images.mkdir(parents=True)
    parts = [0] * 6 + [1] + [2] * 3
    names = [f"{number:06}.jpg" for number in range(1, 11)]
    for number, name in enumerate(names):
        pixels = np.full((218, 178, 3), 20 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(images / name, quality=95)
    shutil.make_archive(str(place / "img_align_celeba"), "zip", place / "pack")
    for file, line in LISTS.items():
        rows = [line(name, part) for name, part in zip(names, parts, strict=True)]
        if file in HEADERS:
            rows = [str(len(rows)), HEADERS[file], *rows]
        (place / file).write_text("\n".join(rows) + "\n")
    files = ["img_align_celeba.zip", *LISTS]
    sums = [hashlib.md5((place / file).read_bytes()).hexdigest() for file in files]
    monkeypatch.setattr(Theirs, "file_list", [(file, md5, file) for file, md5 in zip(files, sums, strict=True)])
    return place


def serve(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    fetched: list[str] = []

    def fetch(file_id: str, root: str, filename: str, md5: str) -> None:
        Path(root).mkdir(parents=True, exist_ok=True)
        shutil.copy(place / file_id, Path(root) / filename)
        fetched.append(filename)

    monkeypatch.setattr("torchvision.datasets.celeba.download_file_from_google_drive", fetch)
    return fetched


def test_it_is_fetched_once_and_split_as_its_authors_say(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = serve(served, monkeypatch)
    source = CelebA(tmp_path / "root", size=8, download=True)
    assert source.train.shape == (6, 3, 8, 8) and source.test.shape == (3, 3, 8, 8)
    assert source.train.dtype == torch.uint8
    # flat images, so that only JPEG's rounding is left
    assert (source.train.float().mean(dim=(1, 2, 3)) - 20 * torch.arange(6)).abs().max() < 2
    assert (source.test.float().mean(dim=(1, 2, 3)) - 20 * torch.arange(7, 10)).abs().max() < 2
    assert len(fetched) == 6
    again = CelebA(tmp_path / "root", size=8, limit=2)  # it is there now
    assert len(again.train) == len(again.test) == 2 and len(fetched) == 6
    (tmp_path / "root/celeba/list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(FileNotFoundError, match=r"cannot be read from .*corrupted.*list_eval_partition\.txt"):
        len(CelebA(tmp_path / "root").train)


def test_what_is_not_there_is_named(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"data_dir=FOLDER with celeba/img_align_celeba.*got no data_dir"):
        len(CelebA().train)
    with pytest.raises(FileNotFoundError, match=r"got .*nowhere; .*source\.download=true"):
        len(CelebA(tmp_path / "nowhere").train)

    def offline(*args: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.celeba.download_file_from_google_drive", offline)
    with pytest.raises(FileNotFoundError, match=r"cannot be downloaded to .*nowhere \(no network\); expected celeba"):
        len(CelebA(tmp_path / "nowhere", download=True).train)
