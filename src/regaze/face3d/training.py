"""How an encoder learns on the synthetic set: losses, first weights.

Losses after Feng et al. 2021 (landmarks, colours, priors), with known codes in place of the
identity network. Colours are compared by deferred shading: a rendering of the known head tells
once which point of the face a pixel shows (:func:`regaze.face3d.ground_truth.read_views`), and
every step shades those points with the predicted texture and light.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regaze.face3d.crop import to_image_space
from regaze.face3d.deca import Deca
from regaze.face3d.encoders import CODE
from regaze.face3d.flame import Flame
from regaze.face3d.ground_truth import GroundTruth, part_of
from regaze.face3d.losses import landmark_loss, landmark_weights
from regaze.face3d.patches import crop_transforms
from regaze.face3d.shading import sh_basis
from regaze.training.phases import Phase, Progress

FIRST_LIGHT = 3.0
"""Constant term of the light that an untrained encoder predicts: about 0.85 of the albedo."""


class EncoderTask:
    """An encoder as the common training loop sees it.

    Args:
        deca: what to train; its coarse encoder and, if there is one, its expression encoder.
        known: of the training rows: means and spreads for the first weights.
        weights: of the losses by name, see :class:`regaze.face3d.settings.LossWeights`.
        reach: how far expressions are from the mean, see
            :class:`regaze.face3d.expressions.Expressions`.
    """

    def __init__(
        self,
        deca: Deca,
        known: GroundTruth,
        weights: Mapping[str, float],
        reach: float = 1.0,
    ):
        self.network, self.weights = deca, dict(weights)
        self.points = Flame(part_of(deca.head), CODE["shape"], CODE["exp"])
        self.moves = start_from(deca, known, reach) * code_moves(deca.flame)
        self.marks = landmark_weights()
        self.table = None if deca.texture is None else texel_table(deca)
        self._here: torch.device | None = None

    def phases(self) -> list[Phase]:
        """Return the parameters of the single phase ``main``."""
        networks = filter(None, (self.network.E_flame, self.network.E_expression))
        return [Phase("main", [p for network in networks for p in network.parameters()])]

    def losses(self, batch: Mapping[str, Tensor], phase: str, at: Progress) -> dict[str, Tensor]:
        """Return ``loss``, its terms without their weights, and ``landmark_px``.

        ``batch`` is one of :class:`regaze.face3d.crops.CropBatches`.
        """
        crops = batch["crops"]
        self._move(crops.device)
        found = self.network.regress(crops)
        # geometry in single precision: half the digits of bf16 are not enough for a picture
        with torch.autocast(crops.device.type, enabled=False):
            found = {name: value.float() for name, value in found.items()}
            marks = self._landmarks(found, batch)
            terms = self._known_terms(found, batch) | {
                "landmarks": landmark_loss(marks, batch["landmarks"], self.marks),
                "photo": self._colours(found, batch),
                "texture_prior": found["tex"].pow(2).mean(),
                "light_prior": _light_prior(found["light"]),
            }
        whole = sum(self.weights[name] * value for name, value in terms.items())
        side = crops.shape[-1]
        apart = (marks.detach() - batch["landmarks"]).norm(dim=-1).mean()
        return {"loss": whole, **terms, "landmark_px": apart * side / 2}

    def _move(self, device: torch.device) -> None:
        if self._here != device:
            self.points.to(device)
            self.moves, self.marks = self.moves.to(device), self.marks.to(device)
            if self.table is not None:
                self.table = tuple(part.to(device) for part in self.table)
            self._here = device

    def _landmarks(self, found, batch) -> Tensor:
        head = self.points(found["shape"], found["exp"], found["pose"], batch["eye_pose"])
        # the capture's landmarks are points of the skin, so the contour does not slide
        return to_image_space(head.landmarks3d, found["cam"])[..., :2]

    def _known_terms(self, found, batch) -> dict[str, Tensor]:
        shape, exp = self.moves.split([CODE["shape"], CODE["exp"]])
        scale = batch["cam"][:, :1]
        zoom = (found["cam"][:, :1] / scale - 1).abs().sum(1)
        shift = (scale * (found["cam"][:, 1:] - batch["cam"][:, 1:])).abs().sum(1)
        turn = (found["pose"] - batch["pose"]).abs().sum(1)
        return {
            "shape": ((found["shape"] - batch["shape"]).abs() * shape).sum(1).mean(),
            "expression": ((found["exp"] - batch["exp"]).abs() * exp).sum(1).mean(),
            "pose": (zoom + shift + turn).mean(),
        }

    def _colours(self, found, batch) -> Tensor:
        """Mean distance of colours, in units of half their range."""
        if self.table is None:
            albedo = 0.7
        else:
            row = texels(batch["uv"])
            mean, basis = self.table
            directions = F.embedding(row, basis).unflatten(2, (3, -1))
            albedo = F.embedding(row, mean) + torch.einsum("bmck,bk->bmc", directions, found["tex"])
        shading = sh_basis(batch["normals"], 2) @ found["light"]
        apart = (albedo * shading - batch["colours"]).abs().mean(2)
        return 2 * (apart * batch["share"]).sum() / batch["share"].sum().clamp_min(1.0)


def _light_prior(light: Tensor) -> Tensor:
    """Mean square of the light's colouredness, and of its strength beyond the usual.

    Skin may be dark because it is, or because the light is dim: the latter is made the rarer.
    """
    white = light.mean(2, keepdim=True)
    return (light - white).pow(2).mean() + (white[:, 0] - FIRST_LIGHT).pow(2).mean()


def code_moves(flame: Flame) -> Tensor:
    """How far a unit of each shape and expression code moves the 68 landmarks, rms metres (150,).

    Expressions move less of the face than identities; the landmarks see both.
    """
    moves = flame.directions.unflatten(1, (-1, 3))
    corners = moves[:, flame.full_corners[0]]
    points = torch.einsum("lk,nlkd->nld", flame.full_bary[0], corners)
    return points.pow(2).sum(2).mean(1).sqrt()


def texels(uv: Tensor, side: int = 256) -> Tensor:
    """Numbers (...) of the texels nearest to chart positions (..., 2) in [-1, 1]."""
    place = ((uv * 0.5 + 0.5) * side).long().clamp(0, side - 1)
    return place[..., 1] * side + place[..., 0]


@torch.no_grad()
def texel_table(deca: Deca) -> tuple[Tensor, Tensor]:
    """Mean (T, 3) and basis (T, 3 x 50) of the albedo by texel, side by side in memory."""
    count = CODE["tex"]
    mean = deca.albedo(torch.zeros(1, count)).flatten(2)
    basis = [deca.albedo(one[None]).flatten(2) - mean for one in torch.eye(count)]
    packed = torch.cat(basis).permute(2, 1, 0).flatten(1)
    return mean[0].T.contiguous(), packed.contiguous()


class Scaled(nn.Linear):
    """A linear layer whose outputs have units: ``offset + gain * (W x + b)``.

    An optimiser moves all outputs of a layer alike, but codes range from radians to inverse
    metres: 0.2 is much for the one and nothing for the other. The sum is taken in single
    precision whatever the product is computed in. :meth:`fold` gives the plain layer's weights.
    """

    def __init__(self, layer: nn.Linear, offset: Tensor, gain: Tensor):
        super().__init__(layer.in_features, layer.out_features)
        self.load_state_dict(layer.state_dict())
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("gain", gain, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return outputs (B, out) float32."""
        return self.offset + self.gain * super().forward(values).float()

    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of a plain layer with the same outputs."""
        gain, offset = self.gain.to(weight), self.offset.to(weight)
        return weight * gain[:, None], offset + gain * bias


def start_from(deca: Deca, known: GroundTruth, reach: float = 1.0) -> float:
    """Let an untrained encoder predict about the mean of the known codes, in units of their spread.

    That of expressions is ``reach`` times as wide, at least as wide as the known ones'. The last
    layers become :class:`Scaled`; :func:`plain_weights` undoes that.

    Returns:
        The mean scale of the cameras, picture units per metre.
    """
    side = deca.size_px
    transforms = crop_transforms(known.landmarks, (2**15, 2**15), side)[0]
    cam = known.cam(np.arange(len(known)), transforms, side)
    light = torch.zeros(27)
    light[:3] = FIRST_LIGHT
    means = {name: getattr(known, name).mean(0) for name in ("shape", "exp", "pose")}
    means |= {"cam": cam.mean(0), "tex": torch.zeros(CODE["tex"]), "light": light}
    gains = {name: getattr(known, name).std(0) for name in ("shape", "exp", "pose")}
    gains["exp"] = gains["exp"] * max(1.0, reach)
    gains |= {"cam": cam.std(0), "tex": torch.ones(CODE["tex"]), "light": torch.full((27,), 0.5)}
    # What never varies in the capture, such as the jaw, has no gain and keeps its value.
    offset, gain = (torch.cat([part[name] for name in CODE]) for part in (means, gains))
    deca.E_flame.layers[2] = Scaled(deca.E_flame.layers[2], offset, gain)
    if deca.E_expression is not None:
        last = deca.E_expression.layers[2]
        deca.E_expression.layers[2] = Scaled(last, means["exp"], gains["exp"])
    return float(means["cam"][0])


def plain_weights(deca: Deca, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A trained state dict of ``deca`` for a :class:`Deca` whose last layers are plain."""
    weights = dict(weights)
    for name, layer in deca.named_modules():
        if isinstance(layer, Scaled):
            pair = weights[f"{name}.weight"], weights[f"{name}.bias"]
            weights[f"{name}.weight"], weights[f"{name}.bias"] = layer.fold(*pair)
    return weights
