"""Weights for the package's own networks under which they do something known.

The faces network reports a box of 64 pixels around every green tile of the 16-pixel grid and one
of 128 around every red tile of the 32-pixel grid. The landmark network's heatmaps peak at yellow
dots (points of the jaw), magenta dots (brows and nose) and cyan dots (eyes and mouth): three
groups that mirroring keeps.
"""

import numpy as np
import pytest
import torch
from face_alignment.detection.sfd.net_s3fd import s3fd
from face_alignment.models import FAN

GROUPS = (range(17), range(17, 36), range(36, 68))
COLOURS = ((255, 255, 0), (255, 0, 255), (0, 255, 255))


def _blank(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.fill_(1.0)
    return network


def _faces():
    network = _blank(s3fd())
    with torch.no_grad():
        # Input channels are blue, green, red; everything but the pure colour ends below zero.
        network.conv1_1.weight[0, :, 1, 1] = torch.tensor([-1.0, 1.0, -1.0])
        network.conv1_1.weight[1, :, 1, 1] = torch.tensor([-1.0, -1.0, 1.0])
        network.conv1_1.bias[:2] = -200.0
        for name, layer in network.named_modules():
            if len(name) == 7 and name[4] in "12345" and name != "conv1_1":
                layer.weight[0, 0, 1, 1] = layer.weight[1, 1, 1, 1] = 1.0
            if name.endswith("mbox_conf"):
                layer.bias.fill_(4.0)
                layer.bias[-1] = -4.0
        network.conv5_3_norm.weight.fill_(5.0)
        network.conv5_3_norm_mbox_conf.weight[1, 0, 1, 1] = 3.0
        # fc6 pads by three, so its output lies one cell further than what it has seen.
        network.fc6.weight[1, 1, 2, 2] = 1.0
        network.fc7.weight[1, 1, 0, 0] = 1.0
        network.fc7_mbox_conf.weight[1, 1, 2, 2] = 0.1
    return network


def _landmarks():
    network = _blank(FAN(4))
    with torch.no_grad():
        for channel, colour in enumerate(COLOURS):
            signs = torch.tensor([1.0 if value else -1.0 for value in colour])
            network.conv1.weight[channel, :, 3:5, 3:5] = signs[:, None, None] / 4.0
            network.conv1.bias[channel] = -1.5
            for block in (network.conv2, network.conv4):
                block.downsample[2].weight[channel, channel] = 1.0
        for stack in range(4):
            for channel in range(128):
                # Cancels the hourglass's lower branches, which would blur the peaks.
                getattr(network, f"m{stack}").b2_4.conv1.weight[channel, channel, 1, 1] = -1.0
            for channel, points in enumerate(GROUPS):
                getattr(network, f"conv_last{stack}").weight[channel, channel] = 1.0
                getattr(network, f"l{stack}").weight[list(points), channel] = 1.8
    return network


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Paths of both files: landmarks, faces."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(_landmarks().state_dict(), folder / "fan.pth")
    torch.save(_faces().state_dict(), folder / "s3fd.pth")
    return folder / "fan.pth", folder / "s3fd.pth"


@pytest.fixture(scope="session")
def detector(weights):
    from regaze.landmarks.face_alignment import Detector

    return Detector(*weights, device="cpu", batch=4)


@pytest.fixture(scope="session")
def draw():
    """A photo R,G,B with tiles (colour, column, row) and three dots at given pixel centres."""

    def picture(size, tiles=(), dots=()):
        photo = np.zeros((size[1], size[0], 3), np.uint8)
        for colour, column, row in tiles:
            side = {"green": 16, "red": 32}[colour]
            value = {"green": (0, 255, 0), "red": (255, 0, 0)}[colour]
            photo[row * side : (row + 1) * side, column * side : (column + 1) * side] = value
        for colour, (x, y) in zip(COLOURS, dots, strict=False):
            photo[y - 2 : y + 3, x - 2 : x + 3] = colour
        return photo

    return picture


@pytest.fixture(scope="session")
def expected():
    """68 landmarks, given the three dots."""

    def points(dots):
        rows = np.zeros((68, 2))
        for group, dot in zip(GROUPS, dots, strict=True):
            rows[list(group)] = dot
        return rows

    return points
