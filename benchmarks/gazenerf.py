"""Radiance fields against the plain order of their work, in one process.

    OMP_NUM_THREADS=1 python benchmarks/gazenerf.py
    OMP_NUM_THREADS=1 python benchmarks/gazenerf.py --side 16 --batch 1 --filled 0.2
    OMP_NUM_THREADS=1 python benchmarks/gazenerf.py --model results/models/gazenerf
    python benchmarks/gazenerf.py --device cuda --side 64

The plain order is the published one: codes are repeated for every sample, all samples go through
all layers, features are added up behind the last one, and each picture is rendered by itself. Both
make the same pictures and gradients from the same weights, codes and draws. Rows are a training
step of `gazenerf` (all four pictures, gradients of all weights), and a sweep of gazes of
`headnerf_gaze`.

`filled` is the share of samples that have a density: in a trained field most of space is empty.
Times on a CPU are the process's own; memory is what was held at once above what was before.
Differences are those in double precision: in single a unit whose sum rounds to the other side of 0
changes a gradient by more than rounding.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
from pathlib import Path

import torch
from clock import now
from torch.nn import functional

from regaze.redirectors.gazenerf import rays
from regaze.redirectors.gazenerf.field import HeadField
from regaze.redirectors.networks import load_redirector

NAMES = ("background", "face", "eyes", "image")


def plain_samples(field, camera, draws):
    """Encoded points (B,63,R,N), lengths, as in :meth:`HeadField.prepare`."""
    directions = rays.ray_directions(camera, rays.pixel_grid(field.side, camera.centre.device))
    depths = rays.plane_depths(camera, field.count, *field.planes)
    depths = depths.expand(-1, directions.shape[1], -1)
    depths = depths if draws is None else rays.jittered(depths, draws)
    samples = rays.samples_at(camera, directions, depths)
    return rays.encoded(samples.points, field.bands).permute(0, 3, 1, 2), samples.lengths


def repeated(code, like):
    """A code (B,c) for every sample of (B,C,R,N)."""
    return code[..., None, None].expand(-1, -1, *like.shape[2:])


def plain_trunk(mlp, told):
    """The layers of a trunk."""
    values = told
    for number in range(8):
        values = torch.cat([told, values], 1) if number == 5 else values
        values = mlp.layer(number)(values).relu()
    return values


def plain_added(field, densities, features, lengths):
    """Maps (B,C,F,F) with the background."""
    weights = rays.sample_weights(densities[:, 0], lengths)
    maps = (features * weights[:, None]).sum(-1).unflatten(2, (field.side, field.side))
    clear = (1 - weights.sum(-1)).unflatten(1, (field.side, field.side))
    return maps + clear[:, None] * field.neural_render.bg_featmap


def plain_picture(renderer, maps):
    """A map to a picture, channels before pixels: each block smoothed at its full width."""

    def smooth(values):
        kernel = renderer.rgb_upsample[1].f[:, None] * renderer.rgb_upsample[1].f / 16
        kernel = kernel.to(values.dtype).expand(values.shape[1], 1, 3, 3)
        padded = functional.pad(values, (1, 1, 1, 1), "reflect")
        return functional.conv2d(padded, kernel, groups=values.shape[1])

    def twice(picture):
        return smooth(functional.interpolate(picture, scale_factor=2, mode="bilinear"))

    picture, last = twice(renderer.feat_2_rgb_list[0](maps)), len(renderer.feat_layers) - 1
    for number, layer in enumerate(renderer.feat_layers):
        block = renderer.feat_upsample_list[number]
        values = functional.leaky_relu(block.layer_1(maps), 0.2)
        values = functional.leaky_relu(block.layer_2(values), 0.2) + maps.repeat(1, 4, 1, 1)
        larger = smooth(functional.pixel_shuffle(values, 2))
        maps = functional.leaky_relu(layer(larger), 0.2)
        picture = picture + renderer.feat_2_rgb_list[number + 1](maps)
        picture = twice(picture) if number < last else picture
    return picture.sigmoid()


def plain_step(field, camera, codes, gaze, draws):
    """The four pictures of `gazenerf`."""
    points, lengths = plain_samples(field, camera, draws)
    told = repeated(torch.cat([codes[0], field.gaze_scale * gaze], 1), points)
    seen = repeated(codes[1], points)
    maps = {"background": field.neural_render.bg_featmap}
    for name, mlp in field.streams.items():
        values = plain_trunk(mlp, torch.cat([points, told], 1))
        density = mlp.density_module(values).relu()
        colours = mlp.RGB_layer_1(torch.cat([mlp.RGB_layer_0(values), seen], 1)).relu()
        maps[name] = plain_added(field, density, mlp.RGB_layer_2(colours), lengths)
    maps["eyes"] = rays.turn_features(maps["eyes"], gaze)
    maps["image"] = torch.maximum(maps["face"], maps["eyes"])
    return {name: plain_picture(field.neural_render, maps[name]) for name in NAMES}


def plain_sweep(field, camera, codes, gazes, eyes):
    """Pictures of `headnerf_gaze`, one by one; the features of gaze 0 are computed and weigh 0."""
    return torch.cat([plain_look(field, camera, codes, gaze[None], eyes) for gaze in gazes])


def plain_look(field, camera, codes, gaze, eyes):
    mlp = field.fg_CD_predictor
    points, lengths = plain_samples(field, camera, None)
    values = plain_trunk(mlp, torch.cat([points, repeated(codes[0], points)], 1))
    added = []
    for one in (gaze, torch.zeros_like(gaze)):
        ray = field.gaze_embedding(one, eyes).transpose(1, 2)[..., None]
        embedded = torch.cat([points, ray.expand(-1, -1, -1, points.shape[3])], 1)
        more = plain_trunk(mlp.gaze_layers, embedded)
        added.append((more, mlp.gaze_layers.Gaze_RGB_layer_1(more).relu()))
    share = field.gaze_share
    density, brighter = (share * a + (1 - share) * b for a, b in zip(*added, strict=True))
    seen = torch.cat([mlp.RGB_layer_0(values), repeated(codes[1], points)], 1)
    colours = mlp.RGB_layer_1(seen).relu() + brighter
    density = mlp.density_module(values + density).relu()
    maps = plain_added(field, density, mlp.RGB_layer_2(colours), lengths)
    return plain_picture(field.neural_render, maps)


def step_of(field, camera, codes, gaze, draws):
    """The four pictures, here."""
    heads = field.prepare(camera, *codes, draws)
    return field(heads, gaze, names=NAMES)


def sweep_of(field, camera, codes, gazes, eyes):
    """Pictures of a sweep, here."""
    heads = field.prepare(camera, *codes)
    of = torch.zeros(len(gazes), dtype=torch.long)
    return field(heads, gazes, eyes=eyes.expand(len(gazes), -1, -1, -1), of=of)["image"]


def fill(field, share, camera, codes, gaze):
    """Move the densities' biases so that this share of samples has one."""
    with torch.no_grad():
        points, _ = plain_samples(field, camera, None)
        if field.variant == "gazenerf":
            told = torch.cat([codes[0], field.gaze_scale * gaze], 1)
            told = torch.cat([points, repeated(told, points)], 1)
        else:
            told = torch.cat([points, repeated(codes[0], points)], 1)
        for mlp in field.streams.values():
            mlp.density_module.bias.zero_()
            found = mlp.density_module(plain_trunk(mlp, told)).flatten()
            mlp.density_module.bias.fill_(-float(found.quantile(1 - share)))


def given(field, count, device):
    """Cameras, codes and gazes."""
    torch.manual_seed(1)
    head = 0.2 * torch.randn(count, 2, device=device)
    camera = rays.patch_camera(head, field.side, focal=500 / 128, distance=600.0)
    sizes = (field.told_shape, field.told_appearance)
    codes = tuple(torch.randn(count, size, device=device) for size in sizes)
    return camera, codes, 0.3 * torch.randn(count, 2, device=device)


class Peak:
    """Megabytes held at once in a block, above what was held before."""

    def __init__(self, device):
        self.device, self.megabytes = device, 0.0

    def __enter__(self):
        if self.device == "cpu":
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            self.before = self._told("VmRSS")
        else:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        return self

    def __exit__(self, *_):
        if self.device == "cpu":
            self.megabytes = (self._told("VmHWM") - self.before) / 1000
        else:
            self.megabytes = (torch.cuda.max_memory_allocated() - self.before) / 1e6

    @staticmethod
    def _told(name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(name)))


def apart(first, second):
    """The largest difference over the largest value."""
    return float((first - second).abs().max() / first.abs().max().clamp(min=1e-30))


def measure(ways, repeats, device):
    """Best seconds, and peaks, of both ways, and what they made last."""
    spent, peaks, made = ({name: [] for name in ways} for _ in range(3))
    for _ in range(repeats):
        for name, way in ways.items():
            with Peak(device) as peak:
                start = now(device)
                made[name] = way()
                spent[name].append(now(device) - start)
            peaks[name].append(peak.megabytes)
    # Memory that was freed may come back without being asked for: the largest peak is the true one.
    return {n: min(s) for n, s in spent.items()}, {n: max(p) for n, p in peaks.items()}, made


def training_row(field, options, share):
    """A training step in both orders."""
    camera, codes, gaze = given(field, options.batch, options.device)
    if share is not None:
        fill(field, share, camera, codes, gaze)
    rays_count = field.side**2
    draws = torch.rand(options.batch, rays_count, field.count + 1, device=options.device)
    parameters = [one for one in field.parameters() if one.requires_grad]

    def stepping(pictures):
        def way():
            made = pictures(field, camera, codes, gaze, draws)
            loss = sum((one - 0.3).square().mean() for one in made.values())
            slopes = torch.autograd.grad(loss, parameters)
            return {name: one.detach() for name, one in made.items()}, slopes

        return way

    ways = {"plain": stepping(plain_step), "here": stepping(step_of)}
    spent, peaks, _ = measure(ways, options.repeats, options.device)
    field.double()
    parameters = [one for one in field.parameters() if one.requires_grad]
    camera = rays.Camera(*(one.double() for one in vars(camera).values()))
    codes, gaze, draws = tuple(one.double() for one in codes), gaze.double(), draws.double()
    made = {name: way() for name, way in ways.items()}
    pictures = max(apart(made["plain"][0][name], made["here"][0][name]) for name in NAMES)
    slopes = max(apart(*pair) for pair in zip(made["plain"][1], made["here"][1], strict=True))
    return spent, peaks, pictures, slopes


def filled(field, camera, codes, gaze):
    """The share of samples with a density."""
    with torch.no_grad():
        found = field.follow(field.prepare(camera, *codes), gaze)
    return [float((one.weights > 0).float().mean()) for one in found.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=8, help="of the feature map")
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--channels", type=int, default=258)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--filled", type=float, nargs="*", default=[0.05, 0.2, 0.5])
    parser.add_argument("--model", help="folder of a trained gazenerf, in place of --filled")
    parser.add_argument("--frames", type=int, default=24, help="of the sweep; 0: none")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--recompute", action="store_true")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {platform.machine()}")
    columns = ("what", "filled", "plain, s", "here, s", "ratio", "plain, MB", "here, MB")
    columns += ("pictures", "gradients")
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    sizes = {name: getattr(options, name) for name in ("side", "hidden", "samples", "channels")}
    sizes |= {"size_px": 8 * options.side, "shape": 179, "appearance": 127, "gaze_dim": 64}
    if options.model:
        rows = [(load_redirector(options.model)[0].field.to(options.device), None)]
    else:
        rows = []
        for share in options.filled:
            torch.manual_seed(0)
            field = HeadField("gazenerf", recompute=options.recompute, **sizes)
            rows.append((field.to(options.device), share))
    for field, share in rows:
        field.requires_grad_(True)
        spent, peaks, pictures, slopes = training_row(field, options, share)
        told = "-" if share is None else f"{share:.0%}"
        show(f"step of gazenerf, {field.side} px map", told, spent, peaks, pictures, slopes)
    if options.frames:
        torch.manual_seed(0)
        field = HeadField("headnerf_gaze", **sizes).to(options.device).requires_grad_(False)
        camera, codes, _ = given(field, 1, options.device)
        eyes = torch.rand(1, 1, 64, 64, device=options.device).round()
        gazes = 0.4 * torch.randn(options.frames, 2, device=options.device)
        with torch.no_grad():
            ways = {
                name: lambda sweep=sweep: sweep(field, camera, codes, gazes, eyes)
                for name, sweep in (("plain", plain_sweep), ("here", sweep_of))
            }
            spent, peaks, made = measure(ways, options.repeats, options.device)
        pictures = apart(made["plain"], made["here"])
        show(f"{options.frames} gazes of headnerf_gaze", "-", spent, peaks, pictures, None)


def show(what, share, spent, peaks, pictures, slopes):
    ratio = spent["plain"] / spent["here"]
    slopes = "-" if slopes is None else f"{slopes:.1e}"
    print(
        f"| {what} | {share} | {spent['plain']:.3f} | {spent['here']:.3f} | {ratio:.2f} | "
        f"{peaks['plain']:.0f} | {peaks['here']:.0f} | {pictures:.1e} | {slopes} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
