"""Folders as people have them: formats, links, clutter, splits, duplicates, names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from genfam import files
from genfam.sources.folders import ImageFolder
from genfam.sources.listing import list_images


def picture(path: Path, number: int = 0) -> Path:
    """An image unlike those of other numbers, in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (8, 8), (number % 256, number // 256, 128))
    image.save(path, None if path.suffix else "PNG")
    return path


def fill(folder: Path, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        picture(folder / f"{number:03}.png", number)


def read(folder: Path, **options: object) -> ImageFolder:
    return ImageFolder(str(folder), size=4, **options)  # type: ignore[arg-type]  # options of several types


def listed(folder: Path) -> list[str]:
    return [path.as_posix() for path in list_images(folder, "source").images]


@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".JPEG", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".tga", ""]
)
def test_every_format_that_pillow_reads(tmp_path: Path, suffix: str) -> None:
    path = picture(tmp_path / f"a{suffix}", 200)
    assert listed(tmp_path) == [path.name]
    seen = read(tmp_path)._read(path)
    assert seen.shape == (3, 4, 4) and abs(int(seen[0, 1, 1]) - 200) < 16


def test_a_suffix_that_says_something_else_is_looked_through(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(picture(tmp_path / "b.png").read_bytes())
    assert listed(tmp_path) == ["a.dat", "b.png"]


def test_of_several_frames_the_first_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert read(tmp_path)._read(tmp_path / name)[:, 0, 0].tolist() == [255, 0, 0]


def test_levels_without_a_range_are_refused(tmp_path: Path) -> None:
    Image.new("F", (8, 8), 0.5).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="no range is stated"):
        read(tmp_path)._read(tmp_path / "a.tif")


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty").touch()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    found = list_images(tmp_path, "source")
    assert {reason: sorted(path.name for path in paths) for reason, paths in found.left_out.items()} == {
        "no images": ["empty", "notes.txt"],
        "links that lead nowhere": ["gone.png"],
        "neither files nor folders": ["pipe.png"],
    }
    assert "2 left out (no images): empty, notes.txt" in found.remarks()


@pytest.mark.parametrize(
    "clutter", [".DS_Store", "Thumbs.db", "__MACOSX/._a.png", "@eaDir/a.png/SYNO.png", "#recycle/a.png", ".git/a.png"]
)
def test_clutter_is_neither_an_image_nor_a_class(tmp_path: Path, clutter: str) -> None:
    for name in ("cats", "dogs"):
        picture(tmp_path / name / "a.png")
    picture(tmp_path / clutter) if clutter.endswith(".png") else (tmp_path / clutter).touch()
    found = list_images(tmp_path, "source")
    assert found.labels == ["cats", "dogs"] and not found.left_out


def test_a_class_may_be_a_link_and_loops_end(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    folder = tmp_path / "images"
    picture(folder / "cats" / "a.png")
    (folder / "dogs").symlink_to(tmp_path / "elsewhere")
    (folder / "cats" / "up").symlink_to(folder)
    (folder / "again").symlink_to(folder / "cats")
    found = list_images(folder, "source")
    assert [path.as_posix() for path in found.images] == ["cats/a.png", "dogs/a.png"]
    assert found.labels == ["cats", "dogs"]
    assert len(found.left_out["links to a folder that is read already"]) == 2


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "eval"), ("training", "VAL"), ("train", "dev")])
@pytest.mark.parametrize("within", ["", "cats"])
def test_folders_that_are_splits(tmp_path: Path, names: tuple[str, str], within: str) -> None:
    fill(tmp_path / names[0] / within, 30)
    fill(tmp_path / names[1] / within, 12, first=30)
    if within:
        fill(tmp_path / names[0] / "dogs", 30, first=100)
        fill(tmp_path / names[1] / "dogs", 12, first=130)
    found = read(tmp_path)
    assert (len(found.train), len(found.test)) == ((60, 24) if within else (30, 12))
    assert found.label_names == (("cats", "dogs") if within else ())
    assert found.train_labels.bincount().tolist() == ([30, 30] if within else [30])


def test_splits_within_classes_and_a_third_split(tmp_path: Path) -> None:
    for first, name in ((0, "cats"), (100, "dogs")):
        fill(tmp_path / name / "train", 20, first)
        fill(tmp_path / name / "test", 6, first + 20)
        fill(tmp_path / name / "val", 4, first + 30)
    found = read(tmp_path)
    assert (len(found.train), len(found.test), found.label_names) == (40, 12, ("cats", "dogs"))
    assert any("8 left out (a third split" in remark for remark in found.remarks())


@pytest.mark.parametrize(
    "names",
    [
        ("trainA", "testA"),
        ("trainA", "trainB", "testA", "testB"),
        ("train2017", "val2017"),
        ("train_images", "eval_images"),
        ("train", "test", "masks"),
        ("test", "val"),
        ("imagesTrain", "imagesTest"),
    ],
)
def test_folders_that_may_be_splits_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        picture(tmp_path / name / "a.png")
    with pytest.raises(ValueError, match=r"expected (splits|either splits|a split)"):
        list_images(tmp_path, "source")


def test_classes_that_sound_like_splits_are_classes(tmp_path: Path) -> None:
    for name in ("test tubes", "training shoes", "trains"):
        picture(tmp_path / name / "a.png")
    assert set(list_images(tmp_path, "source").labels) == {"test tubes", "training shoes", "trains"}


def test_a_training_image_that_is_also_a_test_image_is_left_out_and_named(tmp_path: Path) -> None:
    fill(tmp_path / "train", 30)
    fill(tmp_path / "test", 12, first=28)
    Image.open(tmp_path / "test" / "030.png").save(tmp_path / "train" / "same.bmp")  # another file, the same picture
    found = read(tmp_path)
    with pytest.warns(UserWarning, match=r"3 training images are equal to a test image.*train/028.png"):
        _ = found.train
    assert (len(found.train), len(found.test)) == (28, 12)
    assert len(found.train_labels) == 28


@pytest.mark.parametrize("name", [b"caf\xe9", "日本".encode(), b"a#b, (1) 'x'", b"=1+1"])
def test_any_name_of_a_file_or_class(tmp_path: Path, name: bytes) -> None:
    for place in (os.fsencode(tmp_path) + b"/" + name, os.fsencode(tmp_path / "plain")):
        os.makedirs(place)
        for number in range(80):
            target = os.fsdecode(place) + f"/{number}" + os.fsdecode(name) + ".png"
            Image.new("RGB", (8, 8), (number, len(place) % 256, 0)).save(target)
    found = read(tmp_path)
    assert len(found.label_names) == 2 and all(label.encode() for label in found.label_names)
    assert len(found.train) + len(found.test) == 160 and found.contents()


def test_a_broken_file_of_any_name_is_named(tmp_path: Path) -> None:
    fill(tmp_path, 150)
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"caf\\xe9\.png") as error:
        _ = read(tmp_path).train
    str(error.value).encode()


def test_contents_are_what_is_in_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they were remembered before: a file of the same size and time is read again once it was written to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "SETTLED", 0)
    a, b = tmp_path / "a" / "images", tmp_path / "b" / "images"
    for folder in (a, b):
        fill(folder, 150)

    def of(folder: Path) -> str | None:
        return read(folder).contents()

    whole = of(a)
    assert whole == of(b) == of(a)
    stat = (a / "000.png").stat()
    data = bytearray((a / "000.png").read_bytes())
    data[-20] ^= 1  # one bit, the same size and time
    (a / "000.png").write_bytes(data)
    os.utime(a / "000.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert of(a) != whole
    (b / "000.png").rename(b / "new.png")
    assert of(b) != whole


def test_contents_are_remembered_where_nothing_was_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "SETTLED", 0)
    fill(tmp_path / "images", 150)
    first = read(tmp_path / "images").contents()
    monkeypatch.setattr(files, "sha256", lambda path: pytest.fail("read again"))
    assert read(tmp_path / "images").contents() == first


def test_without_a_home_nothing_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, 150)
    known = read(tmp_path).contents()
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert read(tmp_path).contents() == known
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert read(tmp_path).contents() == known
