"""Face parsing: BiSeNet on CelebAMask-HQ's 19 classes, for users who bring its weights.

Yu et al. 2018, BiSeNet: bilateral segmentation network for real-time semantic segmentation, in
the form of ``zllrunning/face-parsing.PyTorch``, whose spatial path is the trunk's own map at an
eighth of the size. Layers and key names are those of its published ``79999_iter.pth``.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, ResNet

from regaze.weights import load_strictly, state_dict_of, torch_content

CLASSES = (
    "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r",
    "nose", "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
)  # fmt: skip
"""Names of the 19 classes in CelebAMask-HQ's words; ``eye_g`` are glasses, ``ear_r`` an earring,
``neck_l`` a necklace."""

SIDE = 512
"""Pictures are resized to so many pixels a side, as in training."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ConvUnit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, before: int, after: int, kernel: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, values: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(values)))


class Trunk(ResNet):
    """torchvision's ResNet-18 without its head: maps at 1/8, 1/16 and 1/32 of the size."""

    def __init__(self):
        super().__init__(BasicBlock, [2, 2, 2, 2])
        del self.fc

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = self.maxpool(self.relu(self.bn1(self.conv1(values))))
        eighth = self.layer2(self.layer1(values))
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class Refinement(nn.Module):
    """A map weighted by what its average says of every channel."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv = ConvUnit(before, after)
        self.conv_atten = nn.Conv2d(after, after, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(after)

    def forward(self, values: Tensor) -> Tensor:
        values = self.conv(values)
        weight = self.bn_atten(self.conv_atten(F.adaptive_avg_pool2d(values, 1)))
        return values * torch.sigmoid(weight)


class ContextPath(nn.Module):
    """The trunk and its coarse maps brought back to an eighth of the size."""

    def __init__(self):
        super().__init__()
        self.resnet = Trunk()
        self.arm16, self.arm32 = Refinement(256, 128), Refinement(512, 128)
        self.conv_head32, self.conv_head16 = ConvUnit(128, 128), ConvUnit(128, 128)
        self.conv_avg = ConvUnit(512, 128, 1)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eighth, sixteenth, last = self.resnet(values)
        # the average is one value per channel: adding it broadcasts, whatever the size
        coarse = self.arm32(last) + self.conv_avg(F.adaptive_avg_pool2d(last, 1))
        coarse = self.conv_head32(F.interpolate(coarse, sixteenth.shape[2:], mode="nearest"))
        fine = self.arm16(sixteenth) + coarse
        fine = self.conv_head16(F.interpolate(fine, eighth.shape[2:], mode="nearest"))
        return eighth, fine, coarse


class Fusion(nn.Module):
    """Joins detail and context; channels are weighted, then added to themselves."""

    def __init__(self, channels: int):
        super().__init__()
        self.convblk = ConvUnit(channels, channels, 1)
        self.conv1 = nn.Conv2d(channels, channels // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(channels // 4, channels, 1, bias=False)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        values = self.convblk(torch.cat([detail, context], 1))
        weight = self.conv2(F.relu(self.conv1(F.adaptive_avg_pool2d(values, 1))))
        return values + values * torch.sigmoid(weight)


class Scores(nn.Module):
    """Scores of the classes."""

    def __init__(self, before: int, middle: int, classes: int):
        super().__init__()
        self.conv = ConvUnit(before, middle)
        self.conv_out = nn.Conv2d(middle, classes, 1, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        return self.conv_out(self.conv(values))


class BiSeNet(nn.Module):
    """The parser. Two further outputs, which helped its training, are there for their keys."""

    def __init__(self, classes: int = len(CLASSES)):
        super().__init__()
        self.cp = ContextPath()
        self.ffm = Fusion(256)
        self.conv_out = Scores(256, 256, classes)
        self.conv_out16, self.conv_out32 = Scores(128, 64, classes), Scores(128, 64, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores (B, classes, H, W) of normalised pictures (B, 3, H, W)."""
        eighth, context, _ = self.cp(pictures)
        scores = self.conv_out(self.ffm(eighth, context))
        return F.interpolate(scores, pictures.shape[2:], mode="bilinear", align_corners=True)


def load_parser(path: str | os.PathLike, device: str = "cpu") -> BiSeNet:
    """The parser with a user's weights, in evaluation mode.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no state dict of this network; all keys at fault are listed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such face-parsing weights (79999_iter.pth)")
    state = torch_content(path, "expected a state dict")
    parser = BiSeNet()
    load_strictly(parser, state_dict_of(state, path), path)
    return parser.to(device).eval().requires_grad_(False)


@torch.inference_mode()
def parse_faces(parser: BiSeNet, pixels: Tensor) -> Tensor:
    """Class numbers (N, H, W) uint8 of pictures (N, H, W, 3) uint8 RGB, one picture at a time.

    Pictures are resized to :data:`SIDE` pixels, bilinearly; the classes come back by the nearest
    pixel.
    """
    device = next(parser.parameters()).device
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    out = torch.empty(pixels.shape[:3], dtype=torch.uint8)
    for number, picture in enumerate(pixels):
        values = picture.to(device).permute(2, 0, 1)[None].float() / 255
        values = F.interpolate(values, (SIDE, SIDE), mode="bilinear", antialias=True)
        found = parser((values - mean) / std).argmax(1, keepdim=True).float()
        found = F.interpolate(found, picture.shape[:2], mode="nearest-exact")
        out[number] = found[0, 0].to(torch.uint8).cpu()
    return out
