"""StyleGAN2's generator against the plain order of its work, on one CPU thread or a GPU.

    OMP_NUM_THREADS=1 python benchmarks/stylegan.py
    OMP_NUM_THREADS=1 python benchmarks/stylegan.py --size 256 --batch 4 --backward
    python benchmarks/stylegan.py --size 1024 --device cuda

The plain order is the published one in native operations: weights are modulated and demodulated
per row and convolved in groups, then zeros are inserted, padded and filtered. Both draw the same
pictures from the same weights, codes and noise. Times on a CPU are the process's own.
"""

from __future__ import annotations

import argparse
import platform

import torch
from clock import now
from torch.nn import functional as F

from regaze.stylegan.generator import Generator
from regaze.stylegan.ops import activated


def filtered(values, kernel, up, pad):
    """The native ``upfirdn2d`` of the plain order, one map at a time."""
    count, channels, height, width = values.shape
    values = values.reshape(count * channels, 1, height, 1, width, 1)
    values = F.pad(values, (0, up - 1, 0, 0, 0, up - 1)).reshape(-1, 1, height * up, width * up)
    values = F.conv2d(F.pad(values, (*pad, *pad)), kernel.flip(0, 1)[None, None])
    return values.reshape(count, channels, *values.shape[-2:])


def modulated(layer, values, style):
    """A modulated convolution with weights of every row's own."""
    count = len(values)
    weight = layer.scale * layer.weight * layer.modulation(style)[:, None, :, None, None]
    if layer.demodulate:
        weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    values = values.reshape(1, -1, *values.shape[2:])
    if layer.resample == "up":
        weight = weight.transpose(1, 2).flatten(0, 1)
        values = F.conv_transpose2d(values, weight, stride=2, groups=count)
        values = values.unflatten(1, (count, -1))[0]
        return filtered(values, layer.blur.kernel, 1, layer.blur.pad)
    values = F.conv2d(values, weight.flatten(0, 1), padding=layer.size // 2, groups=count)
    return values.unflatten(1, (count, -1))[0]


def plain(network, codes, noise):
    """The pictures of a generator in the plain order."""

    def styled(layer, values, row):
        values = modulated(layer.conv, values, codes[:, row])
        values = values + layer.noise.weight * noise[row]
        return activated(values + layer.activate.bias[:, None, None])

    values = network.conv1, network.input.input.expand(len(codes), -1, -1, -1), 0
    values = styled(*values)
    image = modulated(network.to_rgb1.conv, values, codes[:, 1]) + network.to_rgb1.bias
    for block, to_rgb in enumerate(network.to_rgbs):
        row = 1 + 2 * block
        values = styled(network.convs[row - 1], values, row)
        values = styled(network.convs[row], values, row + 1)
        skip = filtered(image, to_rgb.upsample.kernel, 2, to_rgb.upsample.pad)
        image = modulated(to_rgb.conv, values, codes[:, row + 2]) + to_rgb.bias + skip
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backward", action="store_true", help="also the gradient to the codes")
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {platform.machine()}")
    print("| side | batch | plain, s | here, s | ratio | largest difference / largest value |")
    print("|---|---|---|---|---|---|")
    for size in given.size:
        torch.manual_seed(0)
        network = Generator(size).to(given.device).requires_grad_(False)
        for layer in network.modules():
            if hasattr(layer, "noise") and hasattr(layer, "activate"):
                layer.noise.weight.fill_(0.1)
        for batch in given.batch:
            z = torch.randn(batch, network.style_dim, device=given.device)
            row = measure(network, network.codes(network.mapping(z)).clone(), given)
            print("| {} | {} | {:.3f} | {:.3f} | {:.2f} | {:.1e} |".format(size, batch, *row))


def measure(network, codes, given):
    """Best seconds of both ways, their ratio, and how far apart the pictures are."""
    noise = network.stored_noise()
    ways = {"plain": lambda c: plain(network, c, noise), "here": lambda c: network(c, noise)}
    spent, made = {name: [] for name in ways}, {}
    for _ in range(given.repeats):
        for name, draw in ways.items():
            leaf = codes.clone().requires_grad_(given.backward)
            start = now(given.device)
            made[name] = draw(leaf)
            if given.backward:
                made[name].square().mean().backward()
            spent[name].append(now(given.device) - start)
    best = [min(times) for times in spent.values()]
    apart = (made["plain"] - made["here"]).abs().max() / made["plain"].abs().max()
    return *best, best[0] / best[1], float(apart)


if __name__ == "__main__":
    main()
