"""Published estimators that see faces as ETH-XGaze's baseline does: its own, and GazeNeRF's.

They read patches of a normalisation of their own (Zhang et al., "ETH-XGaze", ECCV 2020): 224 x 224,
focal length 960, distance 600, the face's centre that of six points (face model ``xgaze6``), R,G,B
in [0,1] with ImageNet's mean and deviation. They answer pitch (up) and yaw (left of the picture) in
radians, the labels of :mod:`regaze.angles`. ``AlessandroRuzzi/GazeNeRF`` trained two networks more
on such patches, a ResNet-50 that measures and a VGG-16 for losses, which answer gaze and head.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from regaze.provenance import fingerprint
from regaze.weights import load_strictly, state_dict_of, torch_content

VIEW = {"patch_size": (224, 224), "focal": 960.0, "distance": 600.0}
FACE_MODEL = "xgaze6"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NESTED = ("model_state", "model", "state_dict")
_BACKBONE, _ANGLES, _CLASSES = "gaze_network.", "gaze_fc.0.", "classes of the backbone: "


class XGazeResnet(nn.Module):
    """ResNet-18 or -50 with gaze pitch and yaw as its outputs, or with those of the head as well.

    Args:
        depth: 18 or 50.
        outputs: 2, or 4 with the head's pitch and yaw behind the gaze's.

    Attributes:
        name: of the checkpoint.
        fingerprint: 16 hex digits of it.
    """

    name = "eth-xgaze"
    fingerprint = ""

    def __init__(self, depth: int, outputs: int = 2):
        super().__init__()
        # Here, since torchvision takes seconds to import, and no other estimator wants it.
        from torchvision.models import resnet18, resnet50

        self.resnet = {18: resnet18, 50: resnet50}[depth](weights=None)
        self.resnet.fc = nn.Linear(self.resnet.fc.in_features, outputs)

    def embed(self, images: Tensor) -> Tensor:
        """The last layer but the angles (B, E) of :func:`prepared` pictures (B, 3, S, S)."""
        net = self.resnet
        values = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            values = stage(values)
        return net.avgpool(values).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Pitches and yaws (B, outputs) in radians of :func:`prepared` pictures (B, 3, S, S)."""
        return self.resnet.fc(self.embed(images))

    def read(self, patches: np.ndarray) -> np.ndarray:
        """Gaze (N, 2) float64 in radians of patches (N, 224, 224, 3) uint8 R,G,B."""
        with torch.no_grad():
            found = [self(prepared(one[None])).double().numpy() for one in patches]
        return np.concatenate(found)[:, :2]


def normalised(images: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] with ImageNet's mean 0, spread 1."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return ((images + 1) / 2 - mean) / std


def prepared(patches: np.ndarray) -> Tensor:
    """Patches (N, H, W, 3) uint8 R,G,B as (N, 3, H, W) float32 with ImageNet's mean 0, spread 1."""
    values = (patches.astype(np.float32) / 255.0 - np.float32(_MEAN)) / np.float32(_STD)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))


def load_xgaze(path: str | os.PathLike) -> XGazeResnet:
    """A published ResNet with the weights of a checkpoint, in evaluation mode.

    Two layouts are known: that of ``xucong-zhang/ETH-XGaze`` (``gaze_network.*`` and
    ``gaze_fc.0.*``, in which the backbone's 1,000 classes are left out, as nothing reads them) and
    that of ``hysts/pytorch_mpiigaze_demo`` (a ResNet with two classes). Either may be bare or lie
    below ``model_state``, ``model`` or ``state_dict``, with DataParallel's ``module.`` before every
    key, after ``gaze_network.``, or nowhere. Whether it is ResNet-18 or -50, and how much it
    answers, is told by its layers. Only plain tensors are unpickled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no torch file of weights, or missing, unexpected or mis-shaped keys.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"judge: {path}: expected the weights of an ETH-XGaze ResNet, found no such file"
        )
    state = read_state(path)
    state = {_plain(key): value for key, value in state.items()}
    state = {f"resnet.{key}": one for key, one in state.items() if not key.startswith(_CLASSES)}
    deep = "resnet.layer1.0.conv3.weight" in state
    answers = state.get("resnet.fc.bias", torch.zeros(2))
    network = XGazeResnet(50 if deep else 18, 4 if answers.shape == (4,) else 2)
    load_strictly(network, state, f"{path}: not the weights of an ETH-XGaze ResNet")
    network.name, network.fingerprint = path.name, fingerprint(path)
    return network.eval().requires_grad_(False)


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights of a torch file, bare or below a key of training scripts.

    Raises:
        ValueError: no torch file of weights.
    """
    content = torch_content(path)
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return state_dict_of(content, path)


def _plain(key: str) -> str:
    """A key of either layout as torchvision's ResNet has it, but for those of unused classes."""
    key = key.removeprefix("module.")
    if key.startswith(_ANGLES):
        return f"fc.{key.removeprefix(_ANGLES)}"
    if not key.startswith(_BACKBONE):
        return key
    key = key.removeprefix(_BACKBONE).removeprefix("module.")
    return f"{_CLASSES}{key}" if key.startswith("fc.") else key
