"""The eye-warping method as a redirector."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regaze.angles import vector_from_angles
from regaze.images import eye_boxes
from regaze.redirectors.base import Batch, Moves, Progress, Redirector, State
from regaze.redirectors.eyewarp.moving import moved, slopes, window
from regaze.redirectors.eyewarp.network import StripNetwork

_CHANNELS = 8
"""Displacement x, y; how sure it is that the pixel is to be moved there; what else to paint; how
far the pixel goes along with the irises, across and down."""
_SURE = 2.0
"""What is added to the third, so that an untrained network moves rather than paints."""
_PAINT = 0.16
"""Unit of what is painted beside the source."""
_RIM = 6
"""Pixels of the strip's soft edge."""
_SOFT = 1e-4
"""Square of the error, in [-1, 1], below which it is squared rather than absolute."""
_CONDITIONS, _UNIT = 6, 0.2
"""Numbers of the condition, and their unit."""
_SIDES = ("source", "target")
_LOST = (4.0, 16.0)
"""Grey levels between moved and painted up to which a pixel keeps the photo's detail, and from
which a painted one has none."""


class EyeWarp(Redirector):
    """Moves the pixels of the strip around the eyes, and paints what was hidden."""

    def __init__(self, config: Mapping):
        super().__init__()
        self.config = config
        left, top, right, bottom = config["region"]
        self.height, self.width = bottom - top, right - left
        self.net = StripNetwork(config["network"], _CONDITIONS, _CHANNELS)
        self.register_buffer("rim", window(self.height, self.width, _RIM), persistent=False)
        weight = torch.ones(1, 1, config["size_px"], config["size_px"])
        for x0, y0, x1, y1 in eye_boxes(config["size_px"]):
            weight[..., y0:y1, x0:x1] += config["objective"]["eye_weight"]
        self.register_buffer("weight", self._strip(weight), persistent=False)

    @property
    def network(self) -> nn.Module:
        """The U-Net."""
        return self.net

    def losses(self, batch: Batch, phase: str, at: Progress) -> dict[str, Tensor]:
        """Errors of the strip and of its gradients, and the prices of painting and roughness."""
        options = self.config["objective"]
        source, target = self._strip(batch["source"]), self._strip(batch["target"])
        picture, flow, share = self._made(source, batch)
        error = picture - target
        # Coarse errors tell of irises that are farther off than they are wide at their rims.
        seen = sum(
            _mean(F.avg_pool2d(error, 2**level), F.avg_pool2d(self.weight, 2**level))
            for level in range(options["scales"])
        )
        weights = self.weight[..., 1:], self.weight[..., 1:, :]
        edges = sum(_mean(*pair) for pair in zip(slopes(error), weights, strict=True))
        painted = (1 - share).mean()
        rough = sum(one.abs().mean() for one in slopes(flow))
        loss = seen + options["edges"] * edges + options["paint"] * painted
        loss = loss + options["rough"] * rough
        return {"loss": loss, "picture": seen.detach(), "painted": painted.detach()}

    def edit(self, state: State, target: Batch, *, seed: int) -> Tensor:
        """Pictures of the whole face; outside of the strip they are the sources."""
        return self.moves(state, target, seed=seed).pictures

    def moves(self, state: State, target: Batch, *, seed: int) -> Moves:
        """The same, with where pixels are from; see :class:`regaze.redirectors.base.Moves`."""
        batch = {**state, **target}
        count = target["target_gaze"].shape[0]
        whole = batch["source"].expand(count, -1, -1, -1)
        made, flow, share = self._made(self._strip(whole), batch)
        size = self.config["size_px"]
        left, top, right, bottom = self.config["region"]
        pictures = whole.clone()
        pictures[..., top:bottom, left:right] = made.to(whole.dtype)
        flows, kept = whole.new_zeros(count, 2, size, size), whole.new_ones(count, 1, size, size)
        flows[..., top:bottom, left:right] = flow * self.rim
        kept[..., top:bottom, left:right] = share
        return Moves(pictures.clamp(-1, 1), flows, kept)

    def _strip(self, pictures: Tensor) -> Tensor:
        left, top, right, bottom = self.config["region"]
        return pictures[..., top:bottom, left:right]

    def _made(self, source: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Strips, displacements (B, 2, h, w) in pixels and kept shares (B, 1, h, w)."""
        condition, away = self._condition(batch)
        output = self.net(source, condition).float()
        options, size = self.config["objective"], self.config["size_px"]
        flow = output[:, :2] * (options["reach"] * size)
        flow = flow + output[:, 6:] * (options["travel"] * size) * away
        share = (output[:, 2:3] + _SURE).sigmoid()
        source = source.float()
        there = moved(source, flow)
        painted = source + _PAINT * output[:, 3:6]
        made = share * there + (1 - share) * painted
        if not self.training:
            # Where what is painted is what was there, nothing is lost by keeping the detail.
            low, high = _LOST
            apart = (painted - there).abs().amax(1, keepdim=True) * 127.5
            share = 1 - (1 - share) * ((apart - low) / (high - low)).clamp(0, 1)
        return source + self.rim * (made - source), flow, share

    def _condition(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The condition (B, 6): target's gaze, the source's as far as it is given, head.

        Gaze is told by where irises lie by it, x and y in distances from an eye's centre to the
        plane of its iris. Besides, how far irises come from what is given, (B, 2, 1, 1).
        """
        source, target = (
            vector_from_angles(batch[f"{side}_gaze"].float())[..., :2] for side in _SIDES
        )
        source, target, head = torch.broadcast_tensors(source, target, batch["source_head"].float())
        condition = self.config["objective"]["condition"]
        if not self.training and condition != "target":
            gain = target.new_tensor(self.config["objective"]["gain"][::-1])
            target = source + gain * (target - source)
        if condition == "difference":
            target, source = target - source, torch.zeros_like(source)
        elif condition == "target":
            source = torch.zeros_like(source)
        away = (target - source)[..., None, None]
        return torch.cat([target, source, head], 1) / _UNIT, away


def _mean(error: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the sizes of errors (B, C, h, w)."""
    return (weight * (error**2 + _SOFT).sqrt()).mean() / weight.mean()


def build(config: dict, sampling: dict) -> EyeWarp:
    """Build an untrained network of the resolved ``config``; nothing can be said of sampling."""
    return EyeWarp(config)
