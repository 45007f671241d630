"""The X-UNet run the plain way of the published port: the baseline that our own is timed against.

The weights are those of our network, so both can be compared number by number; only what is done
with them differs. As in ``a6o/3d-diffusion-pytorch``: poses go to the host and rays are made there
with NumPy in every forward, the 144-channel map of both frames is convolved at full resolution for
every level, every block projects its own modulation from its own SiLU, attention returns its
weights, both frames run through every layer, and everything is float32.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from regaze.redirectors.xunet.blocks import AttnBlock, ResnetBlock
from regaze.redirectors.xunet.network import XUNet
from regaze.redirectors.xunet.rays import noise_encoding, posenc


def forward(model: XUNet, batch: dict, cond_mask) -> torch.Tensor:
    """The noise of frame 1, (B, 3, H, W), as ``model(batch, cond_mask)`` gives it.

    Raises:
        ValueError: the network has options that the port does not know.
    """
    config = model.config
    if config.frames != 2 or config.unshuffle != 1 or config.concat_source or config.code != "none":
        raise ValueError("plain port: expected the published two-frame network without options")
    levels, maps = _embeddings(model, batch, cond_mask)

    def run(block, h, level):
        if isinstance(block, ResnetBlock):
            return _resnet(block, h, levels + maps[level])
        h = _resnet(block.resnetblock, h, levels + maps[level])
        for name in ("attnblock_self", "attnblock_cross"):
            if hasattr(block, name):
                h = _attend(getattr(block, name), h)
        return h

    # (2 B, ...), both frames of an image side by side
    h = torch.stack([batch["x"], batch["z"]], 1).flatten(0, 1)
    h = model.conv(h)
    skips = [h]
    for level, blocks in enumerate(model.xunetblocks):
        for block in blocks:
            h = run(block, h, level)
            skips.append(h)
    h = run(model.middle, h, config.levels - 1)
    for name, blocks in model.upsample.items():
        for block in blocks:
            if not isinstance(block, ResnetBlock):
                h = torch.cat([h, skips.pop()], 1)
            h = run(block, h, int(name))
    out = model.lastconv(F.silu(_norm(model.lastgn, h)))
    return out.unflatten(0, (-1, 2))[:, 1]


def _embeddings(model, batch, cond_mask):
    conditioning, size = model.conditioningprocessor, batch["x"].shape[-1]
    device = batch["x"].device
    R, t, K = (batch[name].cpu().numpy().astype(np.float32) for name in ("R", "t", "K"))
    centres = np.arange(size, dtype=np.float32) + 0.5
    u, v = np.meshgrid(centres, centres)
    pixels = np.stack([u, v, np.ones_like(u)], -1)
    camera = np.einsum("bij,hwj->bhwi", np.linalg.inv(K.astype(np.float64)), pixels)
    world = np.einsum("bfij,bhwj->bfhwi", R, camera.astype(np.float32))
    world /= np.linalg.norm(world, axis=-1, keepdims=True)
    position = np.broadcast_to(t[:, :, None, None, :], world.shape).copy()
    position, direction = (torch.from_numpy(a).float().to(device) for a in (position, world))
    pose = torch.cat([posenc(position, 15), posenc(direction, 8)], -1).permute(0, 1, 4, 2, 3)
    pose = torch.where(cond_mask[:, None, None, None, None], pose, torch.zeros_like(pose))
    if conditioning.pos_emb is not None:
        pose = pose + conditioning.pos_emb[None, None]
    if conditioning.first_emb is not None:
        pose = pose + torch.cat([conditioning.first_emb, conditioning.other_emb], 1)
    pose = pose.flatten(0, 1)
    maps = [conv(pose) for conv in conditioning.convs]
    encoded = noise_encoding(batch["logsnr"], model.config.emb_ch, conditioning.squashed)
    levels = conditioning.logsnr_emb_emb(encoded).flatten(0, 1)
    return levels[..., None, None], maps


def _norm(layer, h):
    return F.group_norm(h, layer.gn.num_groups, layer.gn.weight, layer.gn.bias, layer.gn.eps)


def _resnet(block: ResnetBlock, h, embedding):
    skip = h if block.dense is None else block.dense(h)
    h = _norm(block.groupnorm1, block.conv1(F.silu(_norm(block.groupnorm0, h))))
    film = block.film.dense(F.silu(embedding).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    scale, shift = film.chunk(2, 1)
    h = h * (1 + scale) + shift
    if block.activation:
        h = F.silu(h)
    h = F.dropout(h, block.dropout, block.training)
    h = (block.conv2(h) + skip) / math.sqrt(2)
    if block.resample == "down":
        return F.avg_pool2d(h, 2)
    if block.resample == "up":
        return F.interpolate(h, scale_factor=2, mode="nearest")
    return h


def _attend(block: AttnBlock, h):
    size = h.shape[-2:]
    tokens = _norm(block.groupnorm, h).flatten(2).transpose(1, 2)
    asked = tokens
    if block.cross:
        asked = tokens.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    layer = block.attn_layer.attn
    # (L, N, C), with the weights of all heads made and averaged as the module does unasked.
    out, _ = F.multi_head_attention_forward(
        tokens.transpose(0, 1),
        asked.transpose(0, 1),
        asked.transpose(0, 1),
        tokens.shape[-1],
        layer.heads,
        layer.in_proj_weight,
        layer.in_proj_bias,
        None,
        None,
        False,
        0.0,
        layer.out_proj.weight,
        layer.out_proj.bias,
        training=block.training,
        need_weights=True,
    )
    out = block.linear(out.permute(1, 2, 0).unflatten(2, size))
    return (out + h) / math.sqrt(2)
