"""What 36 requests on one source cost when the source is inverted once, against 36 sources.

    OMP_NUM_THREADS=1 python benchmarks/sweep.py --repeats 7
    OMP_NUM_THREADS=1 python benchmarks/sweep.py --model xunet_lite

``once``: ``edit`` of 36 targets with the state of one source, inverting included. ``copies``: the
same pictures from a batch that holds the source 36 times, as callers did before there was a state.
Both of an untrained network of `config.yaml`'s entry with its own sampling, one after the other in
turn; CPU seconds of the process per request, medians, and their ratio. Pictures must agree.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
import yaml

from regaze.redirectors.base import build_redirector
from regaze.redirectors.sample import channels_last
from regaze.settings import load_settings

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Time both ways in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="xunet")
    parser.add_argument("--requests", type=int, default=36)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    settings = load_settings(yaml.safe_load((ROOT / "config.yaml").read_text()))
    config = settings.models[asked.model].resolve()
    torch.manual_seed(0)
    redirector = build_redirector(config, settings.sampling_of(asked.model)).eval()
    for parameter in redirector.network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    channels_last(redirector)
    count, size = asked.requests, config["size_px"]
    source = {
        "source": torch.rand(1, 3, size, size) * 2 - 1,
        "source_gaze": torch.tensor([[0.1, -0.2]]),
        "source_head": torch.tensor([[0.05, 0.1]]),
    }
    # A sweep of the gaze: the head stays.
    target = {
        "target_gaze": torch.rand(count, 2) * 0.8 - 0.4,
        "target_head": source["source_head"].expand(count, -1),
        "pair": torch.zeros(count, dtype=torch.int64),
    }
    copies = {name: value.repeat_interleave(count, 0) for name, value in source.items()}
    ways = {
        "once": lambda: redirector.edit(redirector.invert(source, seed=0), target, seed=0),
        "copies": lambda: redirector.edit(redirector.invert(copies, seed=0), target, seed=0),
    }
    seconds, made = {name: [] for name in ways}, {}
    with torch.no_grad():
        for number in range(asked.repeats + 1):
            for name, way in ways.items():
                began = time.process_time()
                made[name] = way()
                if number:
                    seconds[name].append((time.process_time() - began) / count)
    for name, times in seconds.items():
        print(f"{name}: {1000 * statistics.median(times):.2f} ms of CPU per request")
    ratios = [a / b for a, b in zip(seconds["once"], seconds["copies"], strict=True)]
    apart = float((made["once"] - made["copies"]).abs().max())
    print(f"ratio {statistics.median(ratios):.3f}; pictures differ by at most {apart:.1e}")


if __name__ == "__main__":
    main()
