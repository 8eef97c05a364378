"""Extractors: the classifier's accuracy, cache and class numbers; Inception's errors and agreement."""

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.datasets import load_digits
from torch import nn

from genfam.build import build, configuration_folder
from genfam.comparing.scorecard import agreement, scorecard
from genfam.metrics import extractors, inception, pretrained
from genfam.metrics.base import Extractor
from genfam.metrics.classifier_networks import flipped, shifted
from genfam.metrics.extractors import Classifier, Identity
from genfam.metrics.frechet import Frechet
from genfam.metrics.modes import Modes
from genfam.records.frame import to_frame
from genfam.records.store import Store
from genfam.running.parts import make_extractor, make_source
from genfam.sources.images import Digits
from genfam.types import Event
from stand_ins import write_inception

ROOT = Path(__file__).parents[2]

REAL = Path(__file__).parents[3] / "shared" / "data"


def digits(channels=1, count=1797):
    bunch = load_digits()
    x, y = torch.from_numpy(bunch.images.astype(np.uint8))[:count, None], torch.from_numpy(bunch.target)[:count].long()
    test = torch.arange(count) % 4 == 0
    images = (x[~test], y[~test], x[test], y[test])
    return SimpleNamespace(name="toy digits", event=Event((channels, 8, 8), 17), classifier_images=lambda: images)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    # A third of the default epochs: the bar of 97 % is met well before them.
    return Classifier("digits_cnn", digits(), cache, epochs=10), cache


def test_identity_keeps_levels():
    x = torch.arange(12, dtype=torch.uint8).reshape(2, 1, 2, 3)
    features = Identity(data=object(), cache_dir="unused").features(x)
    assert features.dtype == torch.float64
    assert features.tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    with pytest.raises(NotImplementedError, match="no classes"):
        Identity().classify(x)


def test_the_classifier_knows_digits(trained):
    classifier, _ = trained
    _, _, x, y = digits().classifier_images()
    assert classifier.test_accuracy >= 0.97
    assert float((classifier.classify(x) == y).double().mean()) == pytest.approx(classifier.test_accuracy)
    features = classifier.features(x)
    assert features.shape == (len(x), 64)
    assert features.dtype == torch.float64


def test_training_happens_once_and_in_the_cache(trained, monkeypatch):
    classifier, cache = trained
    monkeypatch.setattr(extractors, "train_classifier", lambda *a, **k: pytest.fail("trained again"))
    again = Classifier("digits_cnn", digits(), cache, epochs=10)
    x = digits().classifier_images()[2]
    assert again.fingerprint == classifier.fingerprint
    assert again.test_accuracy == classifier.test_accuracy
    assert torch.equal(again.features(x), classifier.features(x))
    assert [path.suffix for path in cache.iterdir() if path.suffix != ".lock"] == [".safetensors"]
    assert extractors.stored_accuracies(cache) == {classifier.fingerprint: classifier.test_accuracy}


def small(cache, **options):
    return Classifier("small", digits(count=200), cache, **({"epochs": 1, "width": 2, "features": 4} | options))


def test_same_seed_same_weights_other_inputs_other_recipe(tmp_path):
    first = small(tmp_path / "a")
    torch.randn(3)
    assert small(tmp_path / "b").fingerprint == first.fingerprint
    recipes = {first.recipe, small(tmp_path / "a", seed=1).recipe, small(tmp_path / "a", epochs=2).recipe}
    recipes.add(Classifier("small", digits(count=204), tmp_path / "a", epochs=1, width=2, features=4).recipe)
    assert len(recipes) == 4


def test_training_leaves_the_global_random_state(tmp_path):
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    small(tmp_path)
    assert torch.equal(state, torch.random.get_rng_state())
    assert threads == torch.get_num_threads()


def test_a_broken_cache_is_made_again(tmp_path):
    first = small(tmp_path)
    first.path.write_bytes(first.path.read_bytes()[:50])
    assert small(tmp_path).fingerprint == first.fingerprint
    assert first.path.stat().st_size > 50


def test_others_wait_for_the_one_that_trains(tmp_path, monkeypatch):
    calls = []
    real = extractors.train_classifier
    monkeypatch.setattr(extractors, "train_classifier", lambda *a, **k: (calls.append(1), real(*a, **k)))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: small(tmp_path).fingerprint, range(3)))
    assert len(calls) == 1
    assert len(set(found)) == 1


def test_stacked_images_are_looked_at_one_by_one(trained):
    single, cache = trained
    stacked = Classifier("digits_cnn", digits(channels=3), cache, epochs=10)
    assert stacked.fingerprint == single.fingerprint
    assert stacked.n_classes == 1000
    assert single.n_classes == 10
    images = digits().classifier_images()[2][:30, 0]
    x = images.reshape(10, 3, 8, 8)
    ones = single.classify(images[:, None]).reshape(10, 3)
    assert stacked.classify(x).tolist() == (ones[:, 0] * 100 + ones[:, 1] * 10 + ones[:, 2]).tolist()
    torch.testing.assert_close(stacked.features(x), single.features(images[:, None]).reshape(10, 192))


def test_a_view_is_one_pass_and_has_what_the_network_says(trained):
    classifier, _ = trained
    network, images = classifier.network, digits().classifier_images()[2][:70]
    mean, spread = classifier.moments[2]
    passes = []
    handle = network.trunk[0].register_forward_hook(lambda *_: passes.append(1))
    view = classifier.view(images)
    found = view.features, view.classes, view.depths["late"], view.features
    handle.remove()
    assert len(passes) == 1
    x = images.float() / 16
    torch.testing.assert_close(found[0], network.trunk(x).double())
    assert torch.equal(found[1], network(x).argmax(dim=1))
    torch.testing.assert_close(found[2], (network.trunk(x).double() - mean) / spread)
    assert found[3] is found[0]


def test_planted_collapse_shows_in_classifier_features(trained, evaluate):
    classifier, _ = trained
    x, y, test, _ = digits().classifier_images()
    (fair,) = Frechet().measure(evaluate(x[:400], test, extractor=classifier))
    (threes,) = Frechet().measure(evaluate(x[y == 3], test, extractor=classifier))
    assert fair.name == "fd_digits_cnn"
    assert threes.estimate.value > 20 * fair.estimate.value
    covered, _, divergence = Modes().measure(evaluate(x[y == 3], test, extractor=classifier))
    # Not exactly one mode: the classifier errs on a few of them.
    assert covered.estimate.value < 6
    assert divergence.estimate.value == pytest.approx(math.log(10), rel=0.15)


def test_shifts_move_whole_images_by_at_most_one_pixel():
    torch.manual_seed(0)
    x = torch.zeros(200, 1, 5, 5)
    x[:, 0, 2, 2] = 1
    moved = shifted(x).sum(dim=0)[0]
    assert moved[1:4, 1:4].sum() == 200
    assert bool((moved[1:4, 1:4] > 5).all())


def test_sources_that_cannot_have_a_classifier(tmp_path):
    with pytest.raises(TypeError, match=r"classifier_images.*'ring'.*extractor=identity"):
        Classifier("digits_cnn", SimpleNamespace(name="ring", event=Event((2,))), tmp_path)
    wrong = digits()
    wrong.event = Event((1, 28, 28), 256)
    with pytest.raises(ValueError, match="28, 28"):
        Classifier("digits_cnn", wrong, tmp_path)


def test_inception_without_weights_says_where_to_put_them(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(FileNotFoundError, match=r"no network.*weights_path") as error:
        inception.Inception(cache_dir=tmp_path)
    assert str(tmp_path / "weights-inception-2015-12-05-6726825d.pth") in str(error.value)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        inception.Inception(weights_path=tmp_path / "nowhere.pth")


def test_inception_refuses_events_that_are_no_images(tmp_path):
    with pytest.raises(ValueError, match="discrete images"):
        inception.Inception(data=SimpleNamespace(event=Event((2,))), cache_dir=tmp_path)


def test_inception_refuses_a_file_that_would_run_code(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"x": print}, path)
    with pytest.raises(ValueError, match="weights_only"):
        inception.Inception(weights_path=path)


def test_inception_is_torch_fidelitys(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    theirs = write_inception(path, monkeypatch)
    data = SimpleNamespace(event=Event((1, 8, 8), 17))
    ours = inception.Inception(data=data, weights_path=path, batch_size=2)
    x = digits().classifier_images()[2][:3]
    rescaled = (x.double() * 255 / 16).round().to(torch.uint8).repeat(1, 3, 1, 1)
    features = ours.features(x)
    assert features.shape == (3, 2048)
    assert float(features.std()) > 0
    torch.testing.assert_close(features, theirs(rescaled)[0].double(), rtol=1e-4, atol=1e-5)
    assert ours.distance_name == "fid"
    assert "levels=17" in ours.fingerprint
    with pytest.raises(ValueError, match="uint8"):
        ours.features(x.float())


def test_clip_and_dinov2_say_offline_what_to_put_where(monkeypatch):
    from torch_fidelity import feature_extractor_clip

    def offline(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(feature_extractor_clip, "load_state_dict_from_url", offline)
    monkeypatch.setattr(torch.hub, "load", offline)
    with pytest.raises(FileNotFoundError, match=r"no network.*ViT-B-32\.pt.*clip-vit-b-32-40d365.*weights_path"):
        pretrained.Pretrained("clip")
    with pytest.raises(FileNotFoundError, match=r"no network.*dinov2_vitb14"):
        pretrained.Pretrained("dinov2", architecture="dinov2-vit-b-14")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        pretrained.Pretrained("clip", weights_path="nowhere.pt")
    with pytest.raises(ValueError, match=r"expected one of clip-rn50.*got 'clap'"):
        pretrained.Pretrained("clip", architecture="clap")


def test_dinov2_is_torch_fidelitys_with_its_own_name(monkeypatch):
    class Patches(nn.Module):
        """As torch.hub would give it: (N, 3, 224, 224) normalised floats to features."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            assert x.shape[1:] == (3, 224, 224)
            return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], dim=1) * self.weight

    monkeypatch.setattr(torch.hub, "load", lambda *args, **kwargs: Patches())
    data = SimpleNamespace(event=Event((1, 8, 8), 17))
    ours = pretrained.Pretrained("dinov2", data=data, architecture="dinov2-vit-b-14", batch_size=2)
    white = torch.full((3, 1, 8, 8), 16, dtype=torch.uint8)
    features = ours.features(white)
    # White is (1 − mean) / std of ImageNet's channels.
    expected = [(1 - m) / s for m, s in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert features.shape == (3, 6) and features[0, :3].tolist() == pytest.approx(expected, rel=1e-4)
    assert ours.distance_name == "fd_dinov2" and "levels=17" in ours.fingerprint


def test_the_residual_classifier_knows_digits_and_states_its_recipe(tmp_path):
    residual = Classifier("digits_resnet", digits(), tmp_path, epochs=8, width=16, body="residual", batch_size=32)
    # 500 test digits: three standard errors below 0.97 are 0.947
    assert residual.test_accuracy > 0.94
    x = digits().classifier_images()[2][:20]
    assert residual.features(x).shape == (20, 32)  # 2 · width
    assert torch.equal(residual.features(x)[:5], residual.features(x[:5]))  # batch statistics have no say
    assert residual.recipe != Classifier("digits_resnet", digits(), tmp_path, epochs=1, width=2).recipe
    short = {"epochs": 1, "width": 2, "body": "residual"}
    deep = Classifier("digits_resnet", digits(), tmp_path, **short, stages=[1, 0, 1])
    assert deep.features(x).shape == (20, 8)  # doubled twice
    recipes = {c.recipe for c in (deep, Classifier("digits_resnet", digits(), tmp_path, **short))}
    recipes.add(Classifier("digits_resnet", digits(), tmp_path, **short, shift=False).recipe)
    assert len(recipes) == 3
    with pytest.raises(ValueError, match=r"expected one of \['plain', 'residual'\], got 'vit'"):
        Classifier("x", digits(), tmp_path, body="vit")


def test_flips_mirror_half_of_the_images():
    x = torch.arange(2.0).expand(4000, 1, 1, 2)
    torch.manual_seed(0)
    mirrored = flipped(x)[:, 0, 0, 0].mean()
    assert abs(float(mirrored) - 0.5) < 4 * 0.5 / math.sqrt(4000)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="the real sets lie beside the project's checkout only")
@pytest.mark.parametrize(("dataset", "least"), [("mnist", 0.993), ("fashion_mnist", 0.92)])
def test_the_classifiers_of_the_real_sets_know_them_as_well_as_promised(dataset, least, configure):
    run = configure(f"source={dataset}", f"data_dir={REAL}")
    assert make_extractor(run, make_source(run)).test_accuracy >= least


def test_published_classifiers_are_the_same_ruler_on_every_machine(tmp_path):
    """Loaded, not trained; with the fingerprint that published numbers have."""
    settings = yaml.safe_load((configuration_folder() / "extractor/digits_cnn.yaml").read_text())
    found = build(settings, Extractor, "extractor", data=Digits(), cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    card = pd.read_csv(ROOT / "results/quick/scorecard.csv")
    used = set(card.loc[card["metric"] == "fd_digits_cnn", "fingerprint"])
    assert used and all(f"extractor={found.fingerprint}" in text for text in used)
    test = Digits()
    assert found.test_accuracy > 0.97
    hits = (found.classify(test.test) == test.test_labels).double().mean()
    assert float(hits) == pytest.approx(found.test_accuracy, abs=1e-6)
    trained = build(settings | {"seed": 1, "epochs": 1}, Extractor, "extractor", data=Digits(), cache_dir=tmp_path)
    assert trained.fingerprint != found.fingerprint and list(tmp_path.glob("*.safetensors"))


@pytest.mark.slow
def test_another_instruction_set_has_the_same_ruler(tmp_path):
    code = (
        "import sys, yaml; from genfam.build import build, configuration_folder; "
        "from genfam.metrics.base import Extractor; from genfam.sources.images import Digits; "
        "settings = yaml.safe_load((configuration_folder() / 'extractor/digits_cnn.yaml').read_text()); "
        "found = build(settings, Extractor, 'extractor', data=Digits(), cache_dir=sys.argv[1]); "
        "print(found.fingerprint)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], env=os.environ | more, capture_output=True, text=True
        ).stdout
        for more in ({}, {"ATEN_CPU_CAPABILITY": "avx2"}, {"ATEN_CPU_CAPABILITY": "default"})
    ]
    assert said[0].startswith("digits_cnn, recipe=") and len(set(said)) == 1


@pytest.mark.slow
def test_no_cell_of_another_instruction_set_is_skipped(tmp_path):
    """The Gaussian on quick's digits, measured with each processor's own instructions and with older ones."""
    cards = []
    for name, more in (("own", {}), ("avx2", {"ATEN_CPU_CAPABILITY": "avx2"})):
        run = ["+suite=quick", "family=gaussian", "source=digits", "seed=100", "logger=none"]
        places = [f"output_dir={tmp_path / name}", f"results_dir={tmp_path}/none", "hydra.mode=RUN"]
        subprocess.run([sys.executable, "-m", "genfam", *run, *places], env=os.environ | more, check=True)
        cards.append(scorecard(to_frame(Store(tmp_path / name / "quick").current())))
    found = agreement(*cards)
    assert found.skipped == 0 and found.agree > 15 and found.disagree.empty


def test_published_weights_are_small():
    assert sum(path.stat().st_size for path in extractors.PUBLISHED.glob("*")) < 3_000_000
