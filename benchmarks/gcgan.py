"""A training iteration of GC-GAN against the plain order of its work, in one process.

    OMP_NUM_THREADS=1 python benchmarks/gcgan.py
    OMP_NUM_THREADS=1 python benchmarks/gcgan.py --preset reference --size 256 --batch 2 --repeats 1

The plain order is the published one: the generator of each class is called by itself, every layer
is a convolution in as many groups as there are pictures, features are made for each class and
weighted afterwards, colours and classes are drawn and enlarged one after the other; filters are
native ones, map by map, of both generator and discriminator. Both make the same losses and
gradients from the same weights, codes and noise, in double precision; times and memory are those of
single precision.

Rows are the four steps; an iteration is the discriminator's and the generator's with their share of
the lazy ones. Times on a CPU are the process's own; memory is what was held at once above what was
before.
"""

from __future__ import annotations

import argparse
import copy
import math
import platform

import torch
from gazenerf import apart, measure
from stylegan import filtered
from torch.nn import functional as F

from regaze.redirectors.gcgan.adversary import DualDiscriminator
from regaze.redirectors.gcgan.generator import SemanticGenerator, shares_of
from regaze.redirectors.gcgan.objective import one_hot
from regaze.redirectors.gcgan.settings import ModelSettings
from regaze.redirectors.gcgan.steps import Asked, Real, Steps
from regaze.stylegan.ops import Filter

_GAIN = math.sqrt(2)


def activated(values, bias):
    """Bias, leaky ReLU and gain, one after the other."""
    return F.leaky_relu(values + bias.view(1, -1, 1, 1), 0.2) * _GAIN


class PlainGenerator(SemanticGenerator):
    """The same parameters, each class and picture by itself."""

    def composed(self, codes, gaze, composition=None):
        """See :meth:`SemanticGenerator.composed`."""
        spread = self.layout.spread(codes)
        side, layers = self.coarse_size, self.layout.local_layers
        place = self.pos_embed().unflatten(-1, (side, side))[None].expand(len(codes), -1, -1, -1)
        features, depths = [], []
        for number, own in enumerate(self.local_nets):
            rows = spread[:, number * layers : (number + 1) * layers]
            feature, depth = self.one_class(own, place, rows, gaze)
            features.append(feature)
            depths.append(depth)
        shares, weights = shares_of(torch.cat(depths, 1), self.transparent, composition)
        made = sum(weights[:, n, None] * one for n, one in enumerate(features))
        return made, shares, torch.cat(depths, 1)

    def one_class(self, own, values, rows, gaze):
        """Features and depth of a class."""
        told = None if own.embed is None else own.embed(gaze)
        depth = torch.zeros_like(values[:, :1])
        for number, layer in enumerate(own.linears):
            style = rows[:, number]
            if told is not None:
                shown = told if number >= self.layout.base_layers else torch.zeros_like(told)
                style = torch.cat([style, shown], 1)
            values = activated(self.modulated(layer.conv, values, style), layer.activate.bias)
            if number == self.layout.depth_layers - 1 and own.to_depth is not None:
                depth = own.to_depth(values)
            if number == self.layout.depth_layers - 1 and self.local_nets.detach_texture:
                values = values.detach()
        return own.to_feat(values), depth

    @staticmethod
    def modulated(conv, values, style):
        """A convolution in as many groups as there are pictures."""
        count, channels, height, width = values.shape
        scales = conv.modulation(style)[:, None, :, None, None]
        weight = conv.scale * conv.weight * scales
        weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        flat = values.reshape(1, count * channels, height, width)
        made = F.conv2d(flat, weight.flatten(0, 1), groups=count)
        return made.view(count, -1, height, width)

    def drawn(self, codes, gaze, noise=None, generator=None, composition=None):
        """See :meth:`SemanticGenerator.drawn`; colours and classes one after the other."""
        features, shares, depths = self.composed(codes, gaze, composition)
        coarse, net = 2 * shares - 1, self.render_net
        values, rgb, seg = F.adaptive_avg_pool2d(features, net.min_feat_size), None, None
        for level, (to_rgb, to_seg) in enumerate(zip(net.to_rgbs, net.to_segs, strict=True)):
            if values.shape[-1] == net.coarse_size:
                values = torch.cat([values, features], 1)
            for number in (2 * level, 2 * level + 1):
                values = self.rendered(net.convs[number], values, noise[number])
            rgb = to_rgb(values) if rgb is None else to_rgb(values) + to_rgb.upsample(rgb)
            seg = to_seg(values) if seg is None else to_seg(values) + to_seg.upsample(seg)
            if net.residual_refine and seg.shape[-1] == net.coarse_size:
                seg = seg + coarse
        return _Made(rgb, seg, coarse, depths)

    @staticmethod
    def rendered(conv, values, noise):
        """A convolution of the render net."""
        weight = conv.scale * conv.weight * conv.modulation
        weight = weight * (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        if conv.up:
            values = conv.blur(F.conv_transpose2d(values, weight.transpose(0, 1), stride=2))
        else:
            values = F.conv2d(values, weight, padding=1)
        return activated(values + conv.noise.weight * noise, conv.activate.bias)


class _Made:
    def __init__(self, rgb, seg, coarse, depths):
        self.rgb, self.seg, self.coarse, self.depths = rgb, seg, coarse, depths

    def __iter__(self):
        return iter((self.rgb, self.seg, self.coarse, self.depths))


def filtered_plainly(network):
    """The same network, whose filters run in native operations, map by map."""
    for one in network.modules():
        if isinstance(one, Filter):
            one.forward = lambda values, one=one: filtered(values, one.kernel, one.up, one.pad)[
                :, :, :: one.down, :: one.down
            ]
    return network


def networks(config, dtype, device):
    """Generator and discriminator of both ways, with the same weights."""
    made = []
    for kind in (SemanticGenerator, PlainGenerator):
        torch.manual_seed(0)
        generator = kind(config["size_px"], **config["network"])
        for one in generator.parameters():
            if not one.any():
                torch.nn.init.normal_(one, std=0.1)
        made.append(generator.to(device, dtype))
    network = config["network"]
    widths = (network["channel_multiplier"], network["channel_max"])
    judge = DualDiscriminator(config["size_px"], network["seg_dim"], *widths)
    judge = judge.to(device, dtype)
    plain = filtered_plainly(made[1]), filtered_plainly(copy.deepcopy(judge))
    return {"here": (made[0], judge), "plain": plain}


def ways_of(config, both, batch):
    """The four steps of both ways: closures that return a loss and gradients."""
    like = next(both["here"][1].parameters())
    draws = torch.Generator().manual_seed(1)
    size, classes = config["size_px"], config["network"]["seg_dim"]

    def drawn(*shape):
        return torch.randn(*shape, generator=draws).to(like)

    labels = drawn(batch, classes, size, size).argmax(1)
    real = Real(drawn(batch, 3, size, size), one_hot(labels, classes).to(like), drawn(batch, 2))
    z, gaze = drawn(batch, config["network"]["style_dim"]), 0.3 * drawn(batch, 2)
    unit = drawn(max(1, batch // 2), 3, size, size)
    mean, found = torch.zeros((), dtype=like.dtype, device=like.device), {}
    for name, (generator, judge) in both.items():
        steps, noise = Steps(generator, judge, config["objective"]), generator.stored_noise()
        half = slice(0, len(unit))

        def asked(part=slice(None), generator=generator, noise=noise):
            return Asked(generator.style(z[part]), gaze[part], noise)

        def run(step, parameters):
            loss = step()["loss"]
            given = {"allow_unused": True, "materialize_grads": True}
            slopes = torch.autograd.grad(loss, parameters, **given)
            return torch.cat([loss.detach()[None], *(one.flatten() for one in slopes)])

        def way(step, owner, run=run):
            return lambda: run(step, list(owner.parameters()))

        found[name] = {
            "discriminator": way(lambda s=steps, a=asked: s.discriminator(real, a()), judge),
            "r1": way(lambda s=steps: s.r1(real), judge),
            "generator": way(lambda s=steps, a=asked: s.generator_step(a()), generator),
            "path": way(lambda s=steps, a=asked, h=half: s.path(a(h), mean, unit), generator),
        }
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    published = {"reconstruction": 0.0, "path": 0.5, "r1_every": 16}
    settings = ModelSettings(
        **{"class": "gcgan"}, preset=options.preset, size_px=options.size, objective=published
    )
    config = settings.resolve()
    double = ways_of(config, networks(config, torch.float64, options.device), options.batch)
    ways = ways_of(config, networks(config, torch.float32, options.device), options.batch)
    shares = {"discriminator": 1, "generator": 1}
    shares |= {"r1": 1 / config["objective"]["r1_every"]}
    shares |= {"path": 1 / config["objective"]["path_every"]}
    print(f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    whole, most = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    for step, share in shares.items():
        off = apart(double["here"][step](), double["plain"][step]())
        both = {name: ways[name][step] for name in ways}
        seconds, peaks, _ = measure(both, options.repeats, options.device)
        for name in ways:
            whole[name] += share * seconds[name]
            most[name] = max(most[name], peaks[name])
        told = " ".join(f"{n} {seconds[n]:.3f} s {peaks[n]:.0f} MB" for n in ways)
        print(f"{step:14} {told} ratio {seconds['plain'] / seconds['here']:.2f} apart {off:.1g}")
    print(
        f"{'iteration':14} here {whole['here']:.3f} s {most['here']:.0f} MB plain "
        f"{whole['plain']:.3f} s {most['plain']:.0f} MB ratio "
        f"{whole['plain'] / whole['here']:.2f} memory {most['here'] / most['plain']:.2f}"
    )


if __name__ == "__main__":
    main()
