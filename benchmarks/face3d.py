"""Renders per second of the 3-D face renderer on one core, forward and with gradients.

    OMP_NUM_THREADS=1 python benchmarks/face3d.py
    OMP_NUM_THREADS=1 python benchmarks/face3d.py --backend pytorch3d --device cuda --batch 16

One row per mesh and picture size: a sphere of 5,120 and of 20,480 triangles, and the procedural
head. `rasterise` finds triangles, weights and depths, building the search tree of the mesh anew;
`render` adds normals, texture and light; `with gradients` adds the way back to vertices, texture
and light. Baseline of the ratio: pytorch3d 0.7.9 on one CPU core, measured when the contract was
written (0.8 s and 2.5 s for 5,120 triangles at 128 and 224 pixels, 3.2 s and 9.7 s for 20,480).
"""

from __future__ import annotations

import argparse
import os
import platform
import time

import numpy as np
import torch

from regaze.capture import build_head
from regaze.face3d.crop import to_image_space
from regaze.face3d.render import Renderer

BASELINE = {(5120, 128): 0.8, (5120, 224): 2.5, (20480, 128): 3.2, (20480, 224): 9.7}


def sphere(triangles: int):
    """Sphere with a chart: vertices (V, 3) in m, triangles, chart points, chart triangles.

    Rings of quads between two short circles about the poles; ``triangles`` of the form 10 n^2.
    """
    rows = round((triangles / 10) ** 0.5)
    columns = 5 * rows
    theta = np.linspace(0.02, np.pi - 0.02, rows + 1)
    phi = np.linspace(-np.pi, np.pi, columns + 1)
    t, p = np.meshgrid(theta, phi, indexing="ij")
    # no multiples of the grid: edges through pixel centres would be a special case
    grid = np.stack([0.09 * np.sin(t) * np.sin(p), 0.11 * np.cos(t), 0.1 * np.sin(t) * np.cos(p)])
    vertices = np.moveaxis(grid, 0, -1)[:, :-1].reshape(-1, 3) + 0.0003
    chart = np.stack([(p + np.pi) / (2 * np.pi), 1 - t / np.pi], -1).reshape(-1, 2)
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    corners = [(row, column), (row + 1, column), (row, column + 1), (row + 1, column + 1)]
    faces = np.stack([np.stack(corners[i], -1) for i in (0, 1, 2, 2, 1, 3)], 2)
    faces = faces.reshape(-1, 3, 2)
    uvfaces = faces[..., 0] * (columns + 1) + faces[..., 1]
    return vertices, faces[..., 0] * columns + faces[..., 1] % columns, chart, uvfaces


def seconds(function, repeats: int, device: str) -> float:
    """Least time of one call."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def measure(mesh, size: int, given) -> tuple[float, float, float]:
    """Seconds per picture of rasterising, rendering, and rendering with gradients."""
    vertices, faces, chart, uvfaces = mesh
    draw = Renderer(faces, chart, uvfaces, size, 64, given.backend).to(given.device)
    world = torch.as_tensor(np.asarray(vertices), dtype=torch.float32, device=given.device)
    world = world.expand(given.batch, -1, -1).clone()
    cam = torch.tensor([[8.0, 0.001, 0.002]], device=given.device).expand(given.batch, -1)
    flat = to_image_space(world, cam)
    albedo = torch.rand(given.batch, 3, 256, 256, device=given.device)
    light = torch.rand(given.batch, 9, 3, device=given.device)

    def forward():
        with torch.no_grad():
            draw(world, flat, albedo, light)

    def both():
        leaves = [value.clone().requires_grad_(True) for value in (world, albedo, light)]
        image = draw(leaves[0], to_image_space(leaves[0], cam), *leaves[1:]).images
        (image**2).mean().backward()

    with torch.no_grad():
        raster = seconds(lambda: draw.fragments(flat), given.repeats, given.device)
    times = (raster, *(seconds(f, given.repeats, given.device) for f in (forward, both)))
    return tuple(value / given.batch for value in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="embree")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 224])
    given = parser.parse_args()
    head = build_head()
    meshes = {
        "sphere": sphere(5120),
        "large sphere": sphere(20480),
        "procedural head": (head.v_template, head.f, head.uvcoords, head.uvfaces),
    }
    print(f"backend {given.backend}, {given.device}, batch {given.batch}; renders/s (ms each)")
    print("mesh              triangles size   rasterise        render  with gradients  baseline")
    for name, mesh in meshes.items():
        for size in given.sizes:
            times = measure(mesh, size, given)
            columns = "  ".join(f"{1 / t:6.0f} ({1000 * t:5.1f})" for t in times)
            count = len(mesh[1])
            base = BASELINE.get((min(BASELINE, key=lambda k: abs(k[0] - count))[0], size))
            close = any(abs(count - known) < 0.04 * known for known, _ in BASELINE)
            ratio = f"{base / times[0]:6.0f}x" if base and close else "      -"
            print(f"{name:17s} {count:9d} {size:4d}  {columns}  {ratio}")
    print(
        f"machine: {os.cpu_count()} cores, {torch.get_num_threads()} thread(s), "
        f"{platform.machine()}, torch {torch.__version__}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
