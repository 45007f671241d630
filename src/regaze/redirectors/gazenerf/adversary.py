"""GazeNeRF's discriminator of patches, and what it and its field learn by.

Isola et al. (CVPR 2017) in the form of ``AlessandroRuzzi/GazeNeRF``: real pictures are labelled 0.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from regaze.redirectors.sted.objective import held

_SIDE = 224


class PatchDiscriminator(nn.Module):
    """Pictures (B,3,H,W) in [0,1], enlarged to 224 px, to logits (B,1,20,20) of being made.

    Args:
        width: channels of the first layer.
    """

    def __init__(self, width: int = 64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 6, 2, 1)
        for number, stride in ((2, 2), (3, 2), (4, 1)):
            above = width * 2 ** (number - 2)
            layer = nn.Conv2d(above, 2 * above, 6, stride, 1, bias=False)
            setattr(self, f"conv{number}", layer)
            setattr(self, f"norm{number - 1}", nn.BatchNorm2d(2 * above))
        self.conv5 = nn.Conv2d(8 * width, 1, 6, 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the logits."""
        if pictures.shape[-1] != _SIDE:
            pictures = F.interpolate(pictures, (_SIDE, _SIDE), mode="bilinear")
        values = F.leaky_relu(self.conv1(pictures), 0.2)
        for number in (2, 3, 4):
            values = getattr(self, f"conv{number}")(values)
            values = F.leaky_relu(getattr(self, f"norm{number - 1}")(values), 0.2)
        return self.conv5(values)


def judged(real: Tensor, made: Tensor) -> Tensor:
    """The discriminator's loss: logits of photos and of pictures."""
    return (F.softplus(real).mean() + F.softplus(-made).mean()) / 2


def taken_for_real(judge: nn.Module, made: Tensor) -> Tensor:
    """The field's: how far pictures are from being taken for photos by a judge that stays."""
    return real_loss(held(judge, made))


def real_loss(logits: Tensor) -> Tensor:
    """How far logits are from those of photos."""
    return F.softplus(logits).mean()


def warm(images: int, over: int) -> float:
    """The weight that the discriminator may have after so many images."""
    return images / over
