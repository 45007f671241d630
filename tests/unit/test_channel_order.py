"""Every published network is shown the channels, the range and the size that it was trained with.

`docs/networks.md` says where these are from. The picture here is R,G,B = 255, 51, 0.
"""

import numpy as np
import pytest
import torch
from torch import nn

from regaze.estimators.build import build_estimator
from regaze.estimators.preprocess import prepare
from regaze.face3d.parsing import MEAN, SIDE, STD, parse_faces
from regaze.face3d.patches import crop_patches
from regaze.identity.align import describe, embed_patches
from regaze.identity.iresnet import IResNet
from regaze.identity.irse import IrSe
from regaze.identity.mobilefacenet import MobileFaceNet
from regaze.identity.small import SmallRecogniser
from regaze.landmarks.face_alignment import Detector, _Faces
from regaze.landmarks.mesh import MeshDetector
from regaze.perceptual import inception_features, lpips_distance
from regaze.redirectors.base import build_redirector
from regaze.redirectors.inversion.settings import ModelSettings
from regaze.stylegan.encoder import SIZE_PX

COLOUR = np.array([255, 51, 0])
PIXELS = np.tile(COLOUR.astype(np.uint8), (1, 128, 128, 1))
SIGNED = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 127.5 - 1


class Shown(nn.Module):
    """Stands for a network: keeps what it is shown and answers something of the right shape."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.weight = answer, nn.Parameter(torch.zeros(1))

    def forward(self, images, *more):
        self.images = images
        return self.answer(images)

    embed = forward


def seen(images):
    """The colour of the middle of what was shown."""
    assert images.shape[1] == 3
    return images[0, :, images.shape[2] // 2, images.shape[3] // 2].tolist()


@pytest.mark.parametrize(
    ("network", "colour"),
    [
        # MobileFaceNet and IR-SE50 were trained on OpenCV's order, the former on (v - 127.5) / 128
        (MobileFaceNet, [-127.5 / 128, -76.5 / 128, 127.5 / 128]),
        (IrSe, [-1, -0.6, 1]),
        (IResNet, [1, -0.6, -1]),
        (lambda: SmallRecogniser(64), [1, -0.6, -1]),
    ],
)
def test_face_recognisers(network, colour, monkeypatch):
    recogniser = network()
    shown = Shown(lambda images: images.flatten(1)[:, :4])
    monkeypatch.setattr(recogniser, "forward", shown.forward)
    embed_patches(recogniser, SIGNED)
    assert seen(shown.images) == pytest.approx(colour, abs=1e-6)
    assert shown.images.shape[2:] == (recogniser.size_px, recogniser.size_px)
    assert recogniser.name in ("small",) or recogniser.size_px == 112
    assert describe(recogniser, True).endswith("as B,G,R") == (colour[0] < 0)


def test_e4e():
    inversion = build_redirector(
        ModelSettings(**{"class": "inversion", "preset": "tiny", "size_px": 32}).resolve()
    )
    shown = Shown(lambda images: images.new_zeros(len(images), 8, 32))
    inversion.saved.encoder = shown
    inversion.invert({"source": SIGNED}, seed=0)
    assert seen(shown.images) == pytest.approx([1, -0.6, -1], abs=1e-6)
    published = {"class": "inversion", "preset": "reference", "size_px": 256}
    assert ModelSettings(**published).resolve()["size_px"] == SIZE_PX == 256


def test_estimators_of_sted():
    for arch in ("vgg", "resnet"):
        network = build_estimator(arch, "reference")
        assert (network.size_px, network.preprocess) == (128, "equalise")
    plain = prepare(PIXELS, 128, "none")
    assert seen(plain) == pytest.approx([1, -0.6, -1], abs=1e-6)
    # equalising moves the luminance of a flat picture to its largest and keeps red the largest
    red, green, blue = seen(prepare(PIXELS, 128, "equalise"))
    assert red == 1 and red > green > blue


def test_s3fd_is_shown_b_g_r_without_the_mean():
    def nothing(images):
        scores = torch.zeros(len(images), 2, 2, 2)
        scores[:, 1] = -100
        return [scores, torch.zeros(len(images), 4, 2, 2)] * 6

    network = Shown(nothing)
    _Faces(network, "cpu").boxes(PIXELS.transpose(0, 3, 1, 2))
    assert seen(network.images) == pytest.approx([0 - 104, 51 - 117, 255 - 123])


def test_2dfan_is_shown_r_g_b_from_0_to_1():
    detector = Detector.__new__(Detector)
    detector.device, detector.batch = "cpu", 1
    detector.network = Shown(lambda images: [torch.zeros(len(images), 68, 64, 64)])
    detector._peaks(np.tile(COLOUR.astype(np.uint8), (1, 256, 256, 1)))
    assert seen(detector.network.images) == pytest.approx([1, 0.2, 0])


def test_mediapipe_is_shown_r_g_b(monkeypatch):
    shown = {}

    class Net:
        def setInput(self, picture):
            shown[picture.shape[2]] = seen(picture)

        def forward(self, names):
            if names[0] != "classificators":
                return [np.zeros((1, 1434, 1, 1)), np.zeros((1, 1, 1, 1))]
            raw = np.zeros((1, 896, 16))
            raw[..., 2:4] = 40.0
            logits = np.full((1, 896, 1), -9.0)
            logits[0, 300] = 3.0
            return [logits, raw]

    monkeypatch.setattr("regaze.landmarks.mesh.read_networks", lambda *_: [Net(), Net()])
    MeshDetector().detect(PIXELS, np.full((1, 4), np.nan))
    assert shown[128] == pytest.approx([1, -0.6, -1]) and shown[256] == pytest.approx([1, 0.2, 0])


def test_the_face_parser_is_shown_r_g_b_with_imagenets_mean():
    parser = Shown(lambda images: torch.zeros(len(images), 19, *images.shape[2:]))
    parse_faces(parser, torch.from_numpy(PIXELS))
    assert parser.images.shape[2:] == (SIDE, SIDE) == (512, 512)
    expected = (np.array([1, 0.2, 0]) - MEAN) / STD
    assert seen(parser.images) == pytest.approx(expected.tolist(), abs=1e-5)


def test_deca_is_shown_r_g_b_from_0_to_1():
    landmarks = np.random.default_rng(0).uniform(30, 98, (1, 68, 2)).astype(np.float32)
    crops = crop_patches(PIXELS, landmarks, 224).images
    assert seen(crops) == pytest.approx([1, 0.2, 0], abs=1e-5)


def test_networks_of_metrics_are_shown_r_g_b_from_minus_1_to_1():
    pictures = prepare(PIXELS, 64, "none")
    network = Shown(lambda images: torch.zeros(len(images)))
    lpips_distance(network, pictures, pictures)
    assert seen(network.images) == pytest.approx([1, -0.6, -1], abs=1e-6)
    network = Shown(lambda images: torch.zeros(len(images), 2048))
    inception_features(network, pictures)
    assert seen(network.images) == pytest.approx([1, -0.6, -1], abs=1e-6)
