"""How different pictures look to a network: VGG-16 that the user brings, or an estimator."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.weights import load_strictly, state_dict_of, torch_content

_SIDE = 224
_CUTS = (4, 9, 16, 23)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Vgg16Distance(nn.Module):
    """L1 means between features of VGG-16 after relu1_2, 2_2, 3_3 and 4_3 (Johnson et al. 2016)."""

    def __init__(self):
        super().__init__()
        from torchvision.models import vgg16

        layers, start = vgg16(weights=None).features, 0
        self.blocks = nn.ModuleList()
        for end in _CUTS:
            self.blocks.append(
                nn.ModuleDict({str(number): layers[number] for number in range(start, end)})
            )
            start = end
        self.register_buffer("mean", torch.tensor(_MEAN)[None, :, None, None])
        self.register_buffer("std", torch.tensor(_STD)[None, :, None, None])
        for layer in self.modules():
            if isinstance(layer, nn.ReLU):
                layer.inplace = False

    @classmethod
    def read(cls, path: str | Path) -> Vgg16Distance:
        """With the weights of torchvision's file of VGG-16, frozen.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it is something else, or lacks a layer.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: vgg16: expected a file of weights, found none")
        state, made = state_dict_of(torch_content(path), path), cls()
        own = {
            key: f"features.{key.split('.', 2)[2]}"
            for key in made.state_dict()
            if key.startswith("blocks.")
        }
        found = {key: state[there] for key, there in own.items() if there in state}
        load_strictly(made, {"mean": made.mean, "std": made.std} | found, path)
        return made.eval().requires_grad_(False)

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """The distance of pictures (B,3,S,S) in [0,1]; gradients go to the first."""
        pair = torch.cat([made, wanted.detach()])
        self.to(pair.device)
        pair = F.interpolate((pair - self.mean) / self.std, (_SIDE, _SIDE), mode="bilinear")
        total = pair.new_zeros(())
        for block in self.blocks:
            for layer in block.values():
                pair = layer(pair)
            first, second = pair.float().chunk(2)
            total = total + (first - second).abs().mean()
        return total


class FeatureDistance(nn.Module):
    """L1 means between the maps that a training estimator sees of two pictures."""

    def __init__(self, estimator: nn.Module):
        super().__init__()
        # In a list it is no part of this module.
        self._estimator = [estimator]

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """The distance of pictures (B,3,S,S) in [0,1]; gradients go to the first."""
        _, maps = self._estimator[0].forward_with_features(2 * made - 1)
        with torch.no_grad():
            _, others = self._estimator[0].forward_with_features(2 * wanted - 1)
        pairs = zip(maps, others, strict=True)
        return sum((one.float() - other.float()).abs().mean() for one, other in pairs)
