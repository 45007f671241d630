"""Noise level and poses to per-level, per-pixel embeddings (``conditioningprocessor.*``).

The reference convolves a full-resolution map of 144 encoded ray channels once per level. Most of
that map is constant over the image: the 93 position channels, the frame embeddings, and for a
given model the position map. A convolution is linear, so here only the 51 direction channels are
convolved per image; the position map is convolved once per call, and a constant's response, which
differs from pixel to pixel only by which of the 3x3 taps fall into the padding, is one small
matrix product. The numbers are those of the reference up to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from regaze.redirectors.xunet.face_codes import widen
from regaze.redirectors.xunet.rays import (
    DIRECTION_CHANNELS,
    DIRECTION_OCTAVES,
    POSE_CHANNELS,
    POSITION_CHANNELS,
    POSITION_OCTAVES,
    noise_encoding,
    posenc,
    ray_directions,
)


def _tap_validity(size: int, stride: int) -> torch.Tensor:
    """(out, 3): 1 where a tap of a 3-wide kernel with padding 1 lies inside the image."""
    rows = torch.arange(0, size, stride)[:, None] + torch.arange(-1, 2)
    return ((rows >= 0) & (rows < size)).float()


class ConditioningProcessor(nn.Module):
    """Pose maps per level and noise-level embeddings.

    Args:
        height, width: the grid on which rays are cast (the image, or its unshuffled form).
        together: describe both frames in one map per image, for a network that sees only the
            noisy frame: the two frames' channels are concatenated, source first.
        code_channels: channels, constant over the image, that follow each frame's encoded rays.
    """

    def __init__(
        self,
        height: int,
        width: int,
        levels: int,
        emb_ch: int,
        use_pos_emb: bool,
        use_ref_pose_emb: bool,
        squashed: bool = False,
        pos_octaves: int = POSITION_OCTAVES,
        dir_octaves: int = DIRECTION_OCTAVES,
        together: bool = False,
        code_channels: int = 0,
    ):
        super().__init__()
        self.height, self.width, self.emb_ch = height, width, emb_ch
        self.squashed, self.together = squashed, together
        self.pos_octaves, self.dir_octaves = pos_octaves, dir_octaves
        # Where the active octaves' coordinates, sines and cosines stand among the 144 channels.
        offsets = [*range(3 + 3 * dir_octaves)]
        offsets += [3 + 3 * DIRECTION_OCTAVES + index for index in range(3 * dir_octaves)]
        self.register_buffer(
            "ray_channels", POSITION_CHANNELS + torch.tensor(offsets), persistent=False
        )
        std = POSE_CHANNELS**-0.5
        if use_pos_emb:
            self.pos_emb = nn.Parameter(torch.randn(POSE_CHANNELS, height, width) * std)
        else:
            self.pos_emb = None
        if use_ref_pose_emb:
            self.first_emb = nn.Parameter(torch.randn(1, 1, POSE_CHANNELS, 1, 1) * std)
            self.other_emb = nn.Parameter(torch.randn(1, 1, POSE_CHANNELS, 1, 1) * std)
        else:
            self.first_emb = self.other_emb = None
        self.logsnr_emb_emb = nn.Sequential(
            nn.Linear(emb_ch, emb_ch), nn.SiLU(), nn.Linear(emb_ch, emb_ch)
        )
        channels = POSE_CHANNELS * (2 if together else 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, emb_ch, 3, stride=2**level, padding=1) for level in range(levels)
        )
        self.code_channels = code_channels
        if code_channels:
            for conv in self.convs:
                widen(conv, code_channels, 2 if together else 1)
        for level in range(levels):
            valid = torch.einsum(
                "yi,xj->yxij", _tap_validity(height, 2**level), _tap_validity(width, 2**level)
            )
            self.register_buffer(f"taps_{level}", valid.reshape(-1, 9), persistent=False)

    def noise_embedding(self, logsnr):
        """Embed log signal-to-noise ratios (...) as (..., E), in float32 under any autocast."""
        with torch.autocast(logsnr.device.type, enabled=False):
            return self.logsnr_emb_emb(noise_encoding(logsnr, self.emb_ch, self.squashed))

    def _encode(self, R, t, K, cond_mask, frames):
        """Encoded directions (N, channels, H, W) channels last and constants (N, channels).

        Frames are folded as the pose maps have them; directions hold the active octaves only.
        """
        rays = ray_directions(R, K, self.height, self.width)
        constant = posenc(t.float(), POSITION_OCTAVES, self.pos_octaves)
        constant = F.pad(constant, (0, DIRECTION_CHANNELS))
        keep = None if cond_mask is None else cond_mask.to(constant.dtype)[:, None, None]
        if keep is not None:
            constant = constant * keep
        if self.first_emb is not None:
            learned = torch.cat([self.first_emb, self.other_emb], 1)[..., 0, 0]
            constant = constant + learned[:, frames]
        if self.together:
            directions = posenc(rays.permute(0, 2, 3, 1, 4), self.dir_octaves).flatten(3)
            constant = constant.flatten(1)
        else:
            directions = posenc(rays.transpose(0, 1).flatten(0, 1), self.dir_octaves)
            constant = constant.transpose(0, 1).flatten(0, 1)
            keep = None if keep is None else keep.repeat(R.shape[1], 1, 1)
        if keep is not None:
            directions = directions * keep[..., None]
        return directions.permute(0, 3, 1, 2), constant

    def _split(self, weight):
        """Part inputs (E, I, 3, 3) into those of poses and of codes, as without codes and rest."""
        frames = weight.unflatten(1, (-1, POSE_CHANNELS + self.code_channels))
        poses, codes = frames.split((POSE_CHANNELS, self.code_channels), 2)
        return poses.flatten(1, 2).contiguous(), codes.flatten(1, 2)

    def learned_maps(self) -> list[torch.Tensor]:
        """What the learned position map adds to the map of each level, (1, h * w, E).

        The same for all images and both frames; nothing where there is no such map.
        """
        if self.pos_emb is None:
            return []
        weights = [conv.weight for conv in self.convs]
        if self.code_channels:
            weights = [self._split(weight)[0] for weight in weights]
        frames = [weight.unflatten(1, (-1, POSE_CHANNELS)) for weight in weights]
        return [self._learned(*both) for both in zip(self.convs, frames, strict=True)]

    def _learned(self, conv, frames):
        learned = F.conv2d(self.pos_emb[None], frames.sum(1), None, conv.stride, 1)
        return learned.permute(0, 2, 3, 1).flatten(1, 2)

    def pose_maps(
        self, R, t, K, cond_mask=None, codes=None, frames: slice = slice(0, 2), learned=None
    ) -> list[torch.Tensor]:
        """Return one map per level, (F * B, E, h, w), frame 0 first; (B, E, h, w) if together.

        Where both frames are told together a map is the sum of what each frame alone adds to it.

        ``R`` (B, F, 3, 3), ``t`` (B, F, 3), ``K`` (B, 3, 3) of the grid; ``cond_mask`` (B,) bool,
        None where every image is conditioned. Unconditioned images keep the learned maps.
        ``codes`` (B, F, code_channels), zero where unconditioned, if the processor has any.
        ``frames``: which of the two, F of them.
        ``learned``: of :meth:`learned_maps`, where it was called already.
        """
        device = R.device.type
        with torch.autocast(device, enabled=False):
            directions, constant = self._encode(R, t, K, cond_mask, frames)
        if torch.is_autocast_enabled(device):
            # Once for all levels; autocast itself would round the map anew for each convolution.
            directions = directions.to(torch.get_autocast_dtype(device))
        if codes is not None:
            codes = codes.flatten(1) if self.together else codes.transpose(0, 1).flatten(0, 1)
        maps = []
        for level, conv in enumerate(self.convs):
            weight = conv.weight
            if codes is not None:
                weight, reading = self._split(weight)
            parts = weight.unflatten(1, (-1, POSE_CHANNELS))
            told = parts[:, frames] if self.together else parts
            rays = told[:, :, self.ray_channels].flatten(1, 2)
            # Of a sum of both frames, the first has what is no frame's own.
            whole = not (self.together and frames.start)
            out = F.conv2d(directions, rays, conv.bias if whole else None, conv.stride, 1)
            taps = told.flatten(1, 2).flatten(2).permute(1, 2, 0).flatten(1)
            response = (constant @ taps).unflatten(1, (9, self.emb_ch))
            if codes is not None:
                # Apart from the poses' sum, so that zero columns change not even its rounding.
                taps = reading.flatten(2).permute(1, 2, 0).flatten(1)
                response = response + (codes @ taps).unflatten(1, (9, self.emb_ch))
            flat = getattr(self, f"taps_{level}") @ response
            if self.pos_emb is not None and whole:
                flat = flat + (self._learned(conv, parts) if learned is None else learned[level])
            constant_map = flat.unflatten(1, out.shape[2:]).permute(0, 3, 1, 2)
            maps.append(out + constant_map)
        return maps
