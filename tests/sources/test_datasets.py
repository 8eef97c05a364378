"""Full-size sets on small files of the same format that the test writes; real ones where they are on the machine."""

import gzip
import hashlib
import re
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from genfam.running.parts import make_family, make_source
from genfam.running.rehearsal import rehearsal
from genfam.sources import datasets
from genfam.sources.batches import BatchStream
from genfam.sources.datasets import DATASETS, ImageSet
from genfam.sources.folders import ImageFolder
from genfam.sources.made_of_images import BinarisedImages, StackedImages
from stand_ins import idx, write_cifar10, write_mnist

REAL = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def root(tmp_path):
    """60 training and 40 test images in the layouts of MNIST, Fashion-MNIST and KMNIST; all ten classes."""
    for folder in ("MNIST", "FashionMNIST", "KMNIST"):
        write_mnist(tmp_path / folder)
    return tmp_path


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist", "kmnist"])
def test_idx_files_come_back_as_they_were_written(root, dataset):
    source = ImageSet(dataset, root, check=False)
    place = root / DATASETS[dataset].place
    assert source.train.shape == (60, 1, 28, 28) and source.test.shape == (40, 1, 28, 28)
    assert source.train.numpy().tobytes() == place.read_bytes()[16:]
    assert source.classifier_images()[1].tolist() == [i % 10 for i in range(60)]
    padded = ImageSet(dataset, root, check=False, pad=2)
    assert padded.event.shape == (1, 32, 32) and torch.equal(padded.train[:, :, 2:-2, 2:-2], source.train)
    assert int(padded.train[:, :, :2].sum()) == 0
    drawn = source.sample(60, generator=torch.Generator().manual_seed(0))
    assert len({image.numpy().tobytes() for image in drawn}) == 60  # without repetition as long as they last


def test_cifar_batches_come_back_channels_first(tmp_path, monkeypatch):
    pixels = write_cifar10(tmp_path, monkeypatch)
    folder = tmp_path / "cifar-10-batches-py"
    source = ImageSet("cifar10", tmp_path)
    assert source.train.shape == (50, 3, 32, 32) and source.test.shape == (10, 3, 32, 32)
    assert source.train[10:20].numpy().tobytes() == pixels["data_batch_2"].tobytes()
    (folder / "test_batch").write_bytes(b"changed")
    with pytest.raises(FileNotFoundError, match="cannot be read from"):
        len(ImageSet("cifar10", tmp_path).test)


def test_what_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"expected data_dir=FOLDER with MNIST/raw/train-images"):
        len(ImageSet("mnist").train)
    with pytest.raises(FileNotFoundError, match=rf"{re.escape(str(tmp_path))}.*source\.download=true"):
        len(ImageSet("fashion_mnist", tmp_path).train)
    with pytest.raises(ValueError, match=r"expected one of \['cifar10'.*got 'emnist'"):
        ImageSet("emnist", tmp_path)

    from torchvision.datasets import MNIST

    def offline(self):
        raise URLError("no network")

    monkeypatch.setattr(MNIST, "download", offline)
    with pytest.raises(FileNotFoundError, match=r"cannot be downloaded to .*no network.*MNIST/raw"):
        len(ImageSet("mnist", tmp_path, download=True).train)


@pytest.mark.parametrize(
    ("source", "family"),
    [("mnist", "gan"), pytest.param("mnist", "autoregressive", marks=pytest.mark.slow),
     ("mnist", "flow_matching"), ("fashion_mnist", "gan"),
     ("fashion_mnist", "vae"), ("kmnist", "vae"), ("kmnist", "flow_matching")],
)  # fmt: skip
def test_every_family_takes_images_padded_to_32(source, family, configure):
    # what is tuned on MNIST of 28 pixels a side, patches of 7 x 4, does not tile 32
    patch = ["family.network.patch=[4,4]"] if family == "autoregressive" else []
    run = configure(f"source={source}", f"family={family}", "source.pad=2", *patch)
    with rehearsal("cpu"):
        data = make_source(run)
        assert data.event.shape == (1, 32, 32)
        model = make_family(run, data, {})  # there is no training split to look at
        assert model.sample(2, generator=torch.Generator()).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("length", [0, 10])
def test_a_file_too_short_for_its_header_is_named(root, length):
    (root / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(bytes(length))
    with pytest.raises(
        FileNotFoundError, match=rf"source mnist: cannot be read from {re.escape(str(root))}.*MNIST/raw"
    ):
        len(ImageSet("mnist", root).train)


def test_unpacked_files_are_held_against_the_archives_beside_them(root, monkeypatch):
    from torchvision.datasets import KMNIST

    raw, resources = root / "KMNIST" / "raw", []
    for name, _ in KMNIST.resources:
        packed = gzip.compress((raw / name).with_suffix("").read_bytes())
        (raw / name).write_bytes(packed)
        resources.append((name, hashlib.md5(packed).hexdigest()))
    with pytest.raises(ValueError, match=r"source kmnist: expected MD5 bdb82020997e1d708af4cf47b453dcf7 .*\.gz, got"):
        len(ImageSet("kmnist", root).train)
    monkeypatch.setattr(KMNIST, "resources", resources)
    assert len(ImageSet("kmnist", root).train) == 60

    unpacked = raw / "t10k-labels-idx1-ubyte"
    unpacked.write_bytes(unpacked.read_bytes()[:-1] + b"\x07")  # the last label was 9
    with pytest.raises(ValueError, match=r"expected in .*t10k-labels-idx1-ubyte what .*\.gz beside it has, got other"):
        len(ImageSet("kmnist", root).train)
    assert len(ImageSet("kmnist", root, check=False).train) == 60


def test_other_contents_are_refused(root):
    with pytest.raises(ValueError, match=r"source mnist: expected contents d18cfd466eb1… in the training split.*got"):
        len(ImageSet("mnist", root).train)


@pytest.mark.skipif(not REAL.exists(), reason="the real sets lie beside the project's checkout only")
@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist"])
def test_the_real_sets_have_the_contents_that_are_known(dataset):
    source = ImageSet(dataset, REAL)
    assert source.train.shape == (60_000, 1, 28, 28) and source.test.shape == (10_000, 1, 28, 28)


def test_stacks_are_made_on_the_fly_of_images_of_their_split(root, monkeypatch):
    source = StackedImages("mnist", root, channels=3, train_size=500, test_size=100, check=False)
    train = source.train
    assert len(train) == 500 and not torch.is_tensor(train)
    stacks = train[torch.tensor([3, 7, 3])]
    assert (
        stacks.shape == (3, 3, 28, 28) and torch.equal(stacks[0], stacks[2]) and torch.equal(train[3:4][0], stacks[0])
    )
    known = {image.numpy().tobytes() for image in source.images.train}
    assert all(channel.numpy().tobytes() in known for channel in stacks.flatten(0, 1))
    held_out = {image.numpy().tobytes() for image in source.images.test}
    assert all(channel.numpy().tobytes() in held_out for channel in source.test[:5].flatten(0, 1))
    assert len(source.mode_masses) == 1000 and float(source.mode_masses.sum()) == pytest.approx(1.0)
    assert StackedImages("mnist", root, channels=4, check=False).mode_masses.shape == (10_000,)
    batches = [BatchStream(train, 50, 0, start, 4).batch(2).event for start in (0, 2)]
    assert torch.equal(batches[0], batches[1])  # a resumed run sees the same
    with pytest.raises(ValueError, match="grey"):
        StackedImages("cifar10", root)


def test_modes_of_stacks_have_equal_mass_whatever_the_class_sizes(root):
    idx(root / "MNIST" / "raw" / "train-labels-idx1-ubyte", np.minimum(np.arange(60), 9))  # 51 of 60 are nines
    source = StackedImages("mnist", root, channels=3, train_size=20_000, check=False)
    labels = source.images.splits[0][1][source._tables[0]]
    counts = labels.flatten().bincount()
    # 60,000 draws of ten classes: 6,000 each, standard deviation 73; five of them
    assert int((counts - 6000).abs().max()) < 370


def test_binarised_pixels_follow_their_intensity_and_are_new_each_epoch(root):
    grey = np.full((60, 28, 28), 51)  # one fifth
    idx(root / "MNIST" / "raw" / "train-images-idx3-ubyte", grey)
    source = BinarisedImages("mnist", root, check=False)
    x = source.train[torch.arange(60)]
    # 47,040 pixels of probability 0.2: a standard deviation of 0.0018, four of them
    assert x.max() == 1 and float(x.double().mean()) == pytest.approx(0.2, abs=0.0075)
    assert torch.equal(x, source.train[torch.arange(60)])  # the same look, the same noise
    assert not torch.equal(x[1:], source.train[torch.arange(1, 60)])
    fixed = BinarisedImages("mnist", root, dynamic=False, check=False)
    assert torch.equal(fixed.train[1:3], fixed.train[torch.tensor([1, 2])])
    assert source.event.levels == 2 and torch.equal(source.test, BinarisedImages("mnist", root, check=False).test)


@pytest.mark.filterwarnings("ignore:.*equal to a test image")
def test_images_of_a_folder_are_cropped_resized_and_split_by_name(tmp_path):
    for number in range(160):
        pixels = np.zeros((20, 40, 3), dtype=np.uint8)
        pixels[:, 10:30] = (255, number, 0)  # the middle square is reddish
        Image.fromarray(pixels).save(tmp_path / f"{number:03}.png")
    source = ImageFolder(".", tmp_path, size=8)
    assert source.train.shape[1:] == (3, 8, 8) and len(source.train) + len(source.test) == 160
    assert (source.test[:, 0] == 255).all() and (source.test[:, 2] == 0).all()
    before = len(source.test)
    Image.fromarray(np.zeros((20, 40, 3), dtype=np.uint8)).save(tmp_path / "sub.png")
    assert len(ImageFolder(".", tmp_path, size=8).test) in (before, before + 1)  # a new image moves no other
    assert ImageFolder(".", tmp_path, size=4, grey=True, limit=150).train.shape[1:] == (1, 4, 4)
    with pytest.raises(FileNotFoundError, match=r"nowhere.*data_dir"):
        len(ImageFolder("nowhere", tmp_path).train)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="got 0 with 0 held out"):
        len(ImageFolder("empty", tmp_path).train)


def test_every_set_names_a_loader_that_torchvision_has():
    import torchvision

    assert all(hasattr(torchvision.datasets, known.loader) for known in datasets.DATASETS.values())
