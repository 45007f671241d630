"""Frames per second of the synthetic capture on one core, JPEG writing included.

    python benchmarks/capture.py --persons 12
    python benchmarks/capture.py --persons 24 --workers 2

Prints CPU and wall time per frame, the share of every step, and the machine.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import platform
import pstats
import tempfile
import time
from pathlib import Path

from regaze.capture import CaptureConfig, build_head, render_capture
from regaze.capture.writer import render_person

BUDGET = 25.0
STEPS = {
    "person (shape, textures, hair, trees)": ("actor.py", "__init__"),
    "views (skin, hair, clothes, shadows)": ("renderer.py", "_trace_static"),
    "eyes and lids": ("renderer.py", "finish"),
    "JPEG": ("~", "<imencode>"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--persons", type=int, default=12)
    parser.add_argument("--head-poses", type=int, default=4)
    parser.add_argument("--gazes", type=int, default=4)
    parser.add_argument("--photo", type=int, default=240, help="short side in pixels")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--appearance", default="plain", help="plain or varied")
    given = parser.parse_args()
    start = time.process_time()
    model = build_head()
    print(f"head model: {time.process_time() - start:.2f} s once, {len(model.f)} triangles")
    shape = {"head_poses": given.head_poses, "gazes": given.gazes, "photo": given.photo}
    shape["appearance"] = given.appearance
    config = CaptureConfig({"train-redirector": given.persons}, **shape)
    render_person(model, config, "00001")
    frames = given.persons * given.head_poses * given.gazes
    with tempfile.TemporaryDirectory() as folder:
        cpu, wall = time.process_time(), time.perf_counter()
        render_capture(
            Path(folder) / "capture",
            persons=config.persons,
            workers=given.workers,
            model=model,
            **shape,
        )
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    note = "" if given.workers == 1 else " (of the parent process alone)"
    print(f"{frames} frames, {given.workers} worker(s): {wall:.2f} s wall, {cpu:.2f} s CPU{note}")
    print(f"{frames / wall:.1f} frames/s wall, {frames / wall / given.workers:.1f} per worker")
    if given.workers == 1:
        print(f"{frames / cpu:.1f} frames/s/core of CPU time (budget {BUDGET:g})")
    watch = cProfile.Profile(time.process_time)
    watch.enable()
    for name in ("00001", "00002", "00003"):
        render_person(model, config, name)
    watch.disable()
    table = pstats.Stats(watch).stats
    per_frame = 3 * given.head_poses * given.gazes
    for label, (file, function) in STEPS.items():
        spent = sum(
            row[3]
            for (path, _, name), row in table.items()
            if (path.endswith(f"capture/{file}") and name == function)
            or (file == "~" and function.strip("<>") in name)
        )
        print(f"  {label}: {1000 * spent / per_frame:.1f} ms per frame (profiled)")
    print(
        f"machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
