"""How long one redirection takes on a CPU, and what a source that stays the same saves.

    python benchmarks/interactive.py results/models/xunet results/models/xunet_student

Every request is one source patch turned to new gaze and head angles (batch 1). ``request``: the
model's own sampler as `config.yaml` has it, from patch to picture, wall milliseconds (median, 95th
percentile) and CPU milliseconds (median; on a shared machine the ones to compare). ``kept``: CPU
milliseconds where what ``invert`` computes of the source was kept, in turn with the whole request,
and the median of their ratios; both make the same picture. Then the CPU milliseconds of its parts:
``inputs`` (warp, poses), ``maps`` (pose maps, all of them), ``source`` (frame 0 up to where the
frames meet; none with one frame) and ``evaluation`` (the network once).
Needs trained models that are told no 3-D codes.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml

from regaze.redirectors.declaration import declared_by
from regaze.redirectors.networks import load_redirector
from regaze.settings import load_settings

ROOT = Path(__file__).parents[1]


def requests(count: int, size: int) -> list[dict[str, torch.Tensor]]:
    """Batches of 1 with one source and different targets."""
    draw = torch.Generator().manual_seed(0)
    source = torch.rand((1, 3, size, size), generator=draw) * 2 - 1
    own = torch.rand((2, 1, 2), generator=draw) * 0.4 - 0.2
    made = []
    for number in range(count):
        target = torch.rand((2, 1, 2), generator=draw) * 0.6 - 0.3
        made.append(
            {
                "source": source,
                "source_gaze": own[0],
                "source_head": own[1],
                "target_gaze": target[0],
                "target_head": target[1],
                "pair": torch.tensor([number]),
            }
        )
    return made


def timed(function, items) -> tuple[np.ndarray, np.ndarray]:
    """Wall and CPU milliseconds of each call, after three to warm up."""
    for item in items[:3]:
        function(item)
    wall, cpu = [], []
    for item in items:
        began, spent = time.perf_counter(), time.process_time()
        function(item)
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - spent)
    return 1000 * np.array(wall), 1000 * np.array(cpu)


def keeping(redirector, batches) -> tuple[float, float]:
    """CPU milliseconds of a request whose source was inverted before, and how much that saves."""
    state = redirector.invert(batches[0], seed=0)
    spent, ratios = [], []
    for batch in batches:
        begun = time.process_time()
        whole = redirector.redirect(batch, seed=0)
        middle = time.process_time()
        kept = redirector.edit(state, batch, seed=0)
        spent.append(time.process_time() - middle)
        ratios.append((middle - begun) / spent[-1])
        torch.testing.assert_close(kept, whole)
    return 1000 * float(np.median(spent[3:])), float(np.median(ratios[3:]))


@torch.inference_mode()
def measure(folder: Path, sampling: dict, count: int) -> str:
    """Return the table row of one model."""
    redirector, record = load_redirector(folder, sampling)
    if declared_by(record["config"]).inputs:
        raise SystemExit(f"{folder}: expected a model without 3-D codes")
    net = redirector.net
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.channels_last)
    batches = requests(count, record["config"]["size_px"])
    wall, cpu = timed(lambda batch: redirector.redirect(batch, seed=0), batches)

    kept, ratio = keeping(redirector, batches)

    def inputs(batch):
        given = redirector._inputs(batch)
        return {**given, "z": batch["source"], "logsnr": torch.tensor([[20.0, -6.0]])}

    told = [inputs(batch) for batch in batches]
    ready = [net.prepare(one) for one in told]
    keep = torch.ones(1, dtype=torch.bool)
    whole = timed(net.prepare, told)[1]
    source = np.zeros(1)
    if net.config.frames == 2:
        source = timed(lambda one: net.look(ready[0], one["x"]), told)[1]
        # Frame 0 of another request of the same source, frame 1 of this one.
        mixed = [replace(ready[0], maps=one.maps) for one in ready]
        for one, kept, own in zip(told[:3], mixed, ready, strict=False):
            torch.testing.assert_close(net(one, keep, kept), net(one, keep, own))
    pairs = list(zip(told, ready, strict=True))
    once = timed(lambda pair: net(pair[0], keep, pair[1]), pairs)[1]
    parts = [np.median(timed(inputs, batches)[1]), np.median(whole) - np.median(source)]
    parts += [np.median(source), np.median(once)]
    cells = [redirector.evaluations_per_image(), f"{np.median(wall):.1f}"]
    cells += [f"{np.percentile(wall, 95):.1f}", f"{np.median(cpu):.1f}"]
    cells += [f"{kept:.1f}", f"{ratio:.2f}"]
    return " | ".join(map(str, [record["name"], *cells, *(f"{part:.1f}" for part in parts)]))


def main() -> None:
    """Print a row per model and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, help="model folders")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--requests", type=int, default=60)
    options = parser.parse_args()
    settings = load_settings(yaml.safe_load((ROOT / "config.yaml").read_text()))
    heads = "threads | model | evaluations | request ms | p95 | CPU ms | kept | ratio"
    print(f"| {heads} | inputs | maps | source | evaluation |")
    print("|---" * 12 + "|")
    for threads in options.threads:
        torch.set_num_threads(threads)
        for folder in options.models:
            row = measure(folder, settings.sampling_of(folder.name), options.requests)
            print(f"| {threads} | {row} |", flush=True)


if __name__ == "__main__":
    main()
