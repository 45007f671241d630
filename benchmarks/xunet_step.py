"""Training images per second and sampling steps of the X-UNet on one thread.

    python benchmarks/xunet_step.py train            # the embedded default's networks, bf16
    python benchmarks/xunet_step.py sample           # the published architecture, float32
    python benchmarks/xunet_step.py sample --size 32 --ch 64

``train``: forward, backward and AdamW of the ``small`` preset, batch 8, with single options
changed. ``sample``: one guided step (conditional and unconditional evaluation) as the reference
port works against ours, outputs compared. The baseline is our network run in the port's way:
both frames through every layer, the full 144-channel ray map convolved at every level in every
evaluation, nothing kept between steps; rays in torch, which favours the baseline. Seconds are CPU
seconds of the process, best of the repeats, so that a shared machine matters less.
"""

from __future__ import annotations

import argparse
import os
import platform
import time

import torch
from torch import nn

from regaze.redirectors.xunet.conditioning import ConditioningProcessor
from regaze.redirectors.xunet.network import XUNet, XUNetConfig
from regaze.redirectors.xunet.rays import camera_rays, gaze_poses, posenc
from regaze.redirectors.xunet.settings import PRESETS

SMALL = {**PRESETS["small"]["network"], **PRESETS["small"]["pose"]}
SMALL = {name: value for name, value in SMALL.items() if name not in ("frames", "mode")}
CHANGES = [
    {},
    {"prune": False},
    {"attn_levels": (1, 2, 3)},
    {"emb_ch": 128},
    {"unshuffle": 1},
]


def batch_of(count: int, size: int) -> dict[str, torch.Tensor]:
    """A batch of noise with plausible labels."""
    random = torch.Generator().manual_seed(0)
    R, t, K = gaze_poses(*(0.3 * torch.randn(4, count, 2, generator=random)), size)
    batch = {name: torch.randn(count, 3, size, size, generator=random) for name in ("x", "z")}
    levels = torch.tensor([[20.0, -1.0]]).repeat(count, 1)
    return batch | {"base": batch["x"], "logsnr": levels, "R": R, "t": t, "K": K}


def wake(model: nn.Module) -> nn.Module:
    """Give zero-initialised layers small weights, so that no work can be skipped."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return model


def best(function, repeats: int) -> float:
    """CPU seconds of the quickest call, after one to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds[1:])


class PortConditioning(ConditioningProcessor):
    """The pose maps as the port computes them: every channel of both frames, at every call."""

    def pose_maps(self, R, t, K, cond_mask=None):
        pos, direction = camera_rays(R, t, K, self.height, self.width)
        pose = torch.cat([posenc(pos, 15), posenc(direction, 8)], -1).permute(0, 1, 4, 2, 3)
        if cond_mask is not None:
            pose = torch.where(cond_mask[:, None, None, None, None], pose, torch.zeros_like(pose))
        pose = pose + self.pos_emb + torch.cat([self.first_emb, self.other_emb], 1)
        pose = pose.transpose(0, 1).flatten(0, 1).contiguous()
        return [conv(pose) for conv in self.convs]


def train(count: int, repeats: int) -> None:
    """Print trained images per second for every change of the small preset."""
    batch = batch_of(count, 64)
    mask = torch.arange(count) > 0
    print(f"images/s trained, batch {count}, bf16 autocast: one frame | two frames")
    for change in CHANGES:
        rates = []
        for frames in (1, 2):
            config = XUNetConfig(height=64, width=64, frames=frames, **(SMALL | change))
            model = wake(XUNet(config))
            optimiser = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)

            def step(model=model, optimiser=optimiser):
                with torch.autocast("cpu", torch.bfloat16):
                    out = model(batch, mask)
                (out.float() - batch["x"]).square().mean().backward()
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)

            rates.append(count / best(step, repeats))
        name = ", ".join(f"{key} {value}" for key, value in change.items()) or "small preset"
        print(f"{rates[0]:7.1f} | {rates[1]:6.1f}  {name}")


@torch.inference_mode()
def sample(size: int, ch: int, count: int, repeats: int) -> None:
    """Print seconds of one guided step, the port's way and ours, and their largest difference."""
    config = dict(height=size, width=size, ch=ch, ch_mult=(1, 2, 2, 4), dropout=0.0)
    ours = wake(XUNet(XUNetConfig(**config))).eval()
    port = XUNet(XUNetConfig(**config, prune=False)).eval()
    port.load_state_dict(ours.state_dict())
    port.conditioningprocessor.__class__ = PortConditioning
    batch = batch_of(count, size)
    masks = [torch.full((count,), kept) for kept in (True, False)]
    ready = [ours.prepare(batch, mask) for mask in masks]
    found = {}

    def plainly():
        found["port"] = [port(batch, mask) for mask in masks]

    def sparingly():
        found["ours"] = [ours(batch, *both) for both in zip(masks, ready, strict=True)]

    slow, fast = best(plainly, repeats), best(sparingly, repeats)
    once = best(lambda: [ours.prepare(batch, mask) for mask in masks], 1)
    pairs = zip(found["port"], found["ours"], strict=True)
    error = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
    print(f"{size} px, ch {ch}, batch {count}, float32, one guided step:")
    print(f"  as the port works {slow:.3f} s, ours {fast:.3f} s (once per image: {once:.3f} s)")
    print(f"  ratio {slow / fast:.2f}, largest difference {error:.1e} of the output's range")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "sample"))
    parser.add_argument("--size", type=int, default=64, help="pixels, for sample")
    parser.add_argument("--ch", type=int, default=128, help="base channels, for sample")
    parser.add_argument("--batch", type=int, help="images (default: 8 to train, 1 to sample)")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {given.threads} thread(s), torch "
        f"{torch.__version__}"
    )
    if given.what == "train":
        train(given.batch or 8, given.repeats)
    else:
        sample(given.size, given.ch, given.batch or 1, given.repeats)


if __name__ == "__main__":
    main()
