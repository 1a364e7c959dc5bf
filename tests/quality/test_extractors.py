import numpy as np
import pytest
import torch
import torch_fidelity
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from vvsbench.errors import CheckpointError, NotFiniteError
from vvsbench.quality import fidelity
from vvsbench.quality.config import QualityError
from vvsbench.quality.extractors import KINDS, Extractor, device_of
from vvsbench.quality.images import ImageSet

CPU = torch.device("cpu")


def test_features_do_not_depend_on_the_batch_size(classifier, draw):
    images = ImageSet(draw(0, 37)[0])
    one, many = (Extractor("classifier", classifier, CPU, size)(images) for size in (1, 16))
    torch.testing.assert_close(one.embeddings, many.embeddings, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.logits, many.logits, rtol=1e-4, atol=1e-4)
    assert one.embeddings.dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused_by_the_image(classifier, draw, value, monkeypatch):
    extractor = Extractor("classifier", classifier, CPU, 16)
    images = draw(0, 37)[0]
    forward = type(extractor.network).forward

    def spoilt(self, batch):
        features, logits = forward(self, batch)
        same = (batch == torch.from_numpy(images[20])).flatten(1).all(1)
        return features.masked_fill(same[:, None], value), logits

    monkeypatch.setattr(type(extractor.network), "forward", spoilt)
    with pytest.raises(
        NotFiniteError, match=r"vvsbench-classifier \(layer features\) are not finite .* image 20, in float32"
    ):
        extractor(ImageSet(images))


class Tensors(torch.utils.data.Dataset):
    """Images as torch-fidelity takes them."""

    def __init__(self, images):
        self.images = torch.from_numpy(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def test_the_whole_agrees_with_torch_fidelitys_own_entry_point(classifier, draw):
    """Features taken once and metrics from features give what one call of calculate_metrics gives."""
    generated, reference = draw(0, 80)[0], draw(5000, 90)[0]
    extractor = Extractor("classifier", classifier, CPU, 64)
    ours, theirs = extractor(ImageSet(generated)), extractor(ImageSet(reference))
    chosen = fidelity.options(
        input1=Tensors(generated),
        input2=Tensors(reference),
        feature_extractor=KINDS["classifier"].registered,
        feature_extractor_weights_path=str(classifier),
        **{"fid": True, "isc": True, "kid": True, "prc": True},
        **{"isc_splits": 2, "kid_subsets": 8, "kid_subset_size": 40, "save_cpu_ram": True},
    )
    expected = torch_fidelity.calculate_metrics(**chosen)
    precision = fidelity.inside(ours.embeddings, theirs.embeddings, 3).mean()
    recall = fidelity.inside(theirs.embeddings, ours.embeddings, 3).mean()
    fid = fidelity.fid(fidelity.gaussian(ours.embeddings), fidelity.gaussian(theirs.embeddings))
    assert fid == pytest.approx(expected["frechet_inception_distance"], rel=1e-4)
    assert fidelity.inception_score(ours.logits, 2).mean == pytest.approx(expected["inception_score_mean"], rel=1e-6)
    kid = fidelity.kid(ours.embeddings, theirs.embeddings, 8, 40).mean()
    assert kid == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-3)
    assert (precision, recall) == pytest.approx((expected["precision"], expected["recall"]), abs=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 3, 8, 8), np.float32), "uint8"),
        (np.zeros((4, 8, 8, 3), np.uint8), "channels-last"),
        (np.zeros((3, 8, 8), np.uint8), "shape"),
        (np.zeros((1, 3, 8, 8), np.uint8), "at least 2"),
        ([1, 2], "numpy array"),
    ],
)
def test_other_images_are_refused(images, message):
    with pytest.raises(QualityError, match=message):
        ImageSet(images)


def test_cuda_is_used_only_where_it_exists(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == CPU
    with pytest.raises(QualityError, match="device=auto"):
        device_of("cuda")


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """Random Inception weights; the default initialisation would give features that vanish."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *a, **k: {})
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


def test_inception_reads_a_local_file_and_resizes_as_tensorflow_does(inception, draw):
    """Corner-aligned sampling without antialiasing: shrinking reads every second pixel and nothing in between."""
    images = np.repeat(np.repeat(draw(0, 2, 299)[0], 2, axis=2), 2, axis=3)
    noisy = images.copy()
    noisy[:, :, 1::2, :], noisy[:, :, :, 1::2] = 0, 255
    extractor = Extractor("inception", inception, CPU, 2)
    plain, disturbed = extractor(ImageSet(images)), extractor(ImageSet(noisy))
    assert plain.embeddings.shape == (2, 2048)
    assert plain.logits.shape == (2, 1008)
    assert plain.embeddings.std() > 1e-3
    torch.testing.assert_close(plain.embeddings, disturbed.embeddings, rtol=1e-4, atol=1e-4)


def test_our_inception_is_torch_fidelitys_and_gives_the_spatial_layer(inception, draw):
    images = ImageSet(draw(0, 3, 40)[0])
    batch = torch.from_numpy(images.images)
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(inception))
    ours = Extractor("inception", inception, CPU, 3, spatial=True)(images)
    pooled, logits = theirs(batch)
    assert torch.equal(ours.embeddings, pooled)
    assert torch.equal(ours.logits, logits)
    branch = []
    theirs.Mixed_6d.branch1x1.register_forward_hook(lambda module, arguments, output: branch.append(output))
    theirs(batch)
    assert branch[0].shape == (3, 192, 17, 17)
    assert torch.equal(ours.spatial, branch[0][:, :7].reshape(3, 2023))


def test_the_clean_resize_is_antialiased(inception, draw):
    """A board of single pixels is grey to a filter that looks at all of them."""
    board = np.indices((598, 598)).sum(axis=0) % 2 * 255
    images = np.broadcast_to(board.astype(np.uint8), (2, 3, 598, 598)).copy()
    network = Extractor("inception_clean", inception, CPU, 2).network
    inner = network.resized(torch.from_numpy(images))[..., 5:-5, 5:-5]
    assert inner.dtype == torch.float32
    assert inner.min() > 100
    assert inner.max() < 155
    plain = Extractor("inception", inception, CPU, 2).network
    assert set(plain.resized(torch.from_numpy(images)).unique().tolist()) <= {0.0, 255.0}
    small = torch.from_numpy(draw(0, 2, 299)[0])
    torch.testing.assert_close(network.resized(small), small.float(), rtol=0, atol=1e-3)


class SmallVGG(nn.Module):
    """As many classifier layers as VGG-16 has, and next to no weights."""

    def __init__(self):
        super().__init__()
        layers = [nn.Linear(3, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 2)]
        self.classifier = nn.Sequential(*layers)

    def forward(self, x):
        return self.classifier(x.mean(dim=(2, 3)))


def test_vgg_gives_its_second_layer_before_the_relu(monkeypatch, tmp_path, draw):
    monkeypatch.setattr("torchvision.models.vgg16", SmallVGG)
    network = SmallVGG()
    torch.save(network.state_dict(), tmp_path / "vgg.pth")
    images = ImageSet(draw(0, 4, 224)[0])
    found = Extractor("vgg", tmp_path / "vgg.pth", CPU, 4)(images).embeddings
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    batch = (torch.from_numpy(images.images).float() / 255 - mean) / deviation
    torch.testing.assert_close(
        found.float(), network.eval().classifier[:4](batch.mean(dim=(2, 3))), rtol=1e-4, atol=1e-5
    )


def test_a_pickle_with_code_is_refused_before_torch_fidelity_could_run_it(tmp_path):
    class Payload:
        def __reduce__(self):
            return (print, ("code ran",))

    path = tmp_path / "inception.pth"
    torch.save({"payload": Payload()}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        Extractor("inception", path, CPU, 2)


def test_weights_of_another_network_are_a_clear_message(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(QualityError, match="not a weights file of the inception extractor"):
        Extractor("inception", path, CPU, 2)
