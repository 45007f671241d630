"""Photos normalised per second on one core, against the reference's order of work.

    python benchmarks/normalisation.py [--photos 120] [--repeats 5]

The reference repeats the steps of ``swook/faze_preprocess`` photo by photo: decode, compute the
undistortion map of the whole frame, apply it, reverse the channels, project the mesh of the frame
check, compute the labels, warp; then it writes a person's rows, a chunk each, lzf. ``map once``
spares it the map when the camera is that of the photo before, as it always is here: upstream does
so for nearly equal cameras. Ours is ``normalise_shard`` with both its files. ``decoding`` reads
the photos with OpenCV and does nothing else, ``reading`` with ``read_photo``, whose decoder reports
damage: no pipeline can be faster. The reference's mesh has as many points as the dense one that
upstream projects; ours is the default ellipsoid. Seconds are CPU seconds of the process, so a
shared machine matters less; rounds are interleaved and rates are medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import h5py
import numpy as np

from regaze.normalise.face_model import FACE_MODELS, ellipsoid_mesh
from regaze.normalise.geometry import VARIANTS
from regaze.normalise.photo import read_photo
from regaze.normalise.pipeline import normalise_shard
from regaze.sources import open_source

SIZES = ((640, 480), (1920, 1080))
LENS = np.array([0.08, -0.15, 0.001, -0.0005, 0.02])


def draw_capture(root: Path, size: tuple[int, int], photos: int) -> None:
    """Write ``photos`` JPEGs of blurred noise with fine grain, and their labels."""
    random = np.random.default_rng([7, *size])
    (root / "p0" / "frames").mkdir(parents=True)
    names = [f"p0/frames/{number:05d}.jpg" for number in range(photos)]
    for name in names:
        coarse = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        photo = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC).astype(np.int16)
        photo += random.integers(-6, 7, photo.shape, dtype=np.int16)
        photo = np.clip(photo, 0, 255).astype(np.uint8)
        cv2.imwrite(str(root / name), photo, [cv2.IMWRITE_JPEG_QUALITY, 92])
    camera = [size[0] * 0.95, size[0] * 0.95, size[0] / 2, size[1] / 2]
    pose = random.normal(size=(photos, 6)) * [0.15, 0.2, 0.1, 15, 15, 30]
    with h5py.File(root / "supplementary.h5", "w") as file:
        file["p0/file_name"] = np.array(names, "S")
        file["p0/camera_parameters"] = np.tile(camera, (photos, 1))
        file["p0/distortion_parameters"] = np.tile(LENS, (photos, 1))
        file["p0/head_pose"] = pose + [0, 0, 0, 0, -20, 520]
        file["p0/3d_gaze_target"] = random.normal(size=(photos, 3)) * [60, 60, 5]


def angles(vector: np.ndarray) -> list[float]:
    return [np.arcsin(vector[1]), np.arctan2(vector[0], vector[2])]


def reference(root: Path, out: Path, cached: bool) -> None:
    """Normalise the capture in the reference's order."""
    variant, model, mesh = VARIANTS["sted"], FACE_MODELS["sfm14"], ellipsoid_mesh(60, 59)
    with h5py.File(root / "supplementary.h5", "r") as file:
        group = {key: values[()] for key, values in file["p0"].items()}
    maps, patches, labels = None, [], []
    for row, name in enumerate(group["file_name"]):
        photo = cv2.imread(str(root / name.decode()))
        size = (photo.shape[1], photo.shape[0])
        fx, fy, cx, cy = group["camera_parameters"][row]
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        lens, pose = group["distortion_parameters"][row], group["head_pose"][row]
        if maps is None or not cached:
            maps = cv2.initUndistortRectifyMap(matrix, lens, None, matrix, size, cv2.CV_32FC1)
        photo = cv2.remap(photo, *maps, cv2.INTER_LINEAR)[:, :, ::-1]
        pixels = cv2.projectPoints(mesh, pose[:3], pose[3:], matrix, lens)[0][:, 0]
        if (pixels < 0).any() or (pixels > size).any():
            continue
        head = cv2.Rodrigues(pose[:3])[0]
        points = model.points @ head.T + pose[3:]
        origin = points[13]
        distance = np.linalg.norm(origin)
        forward = origin / distance
        down = np.cross(forward, head[:, 0])
        down /= np.linalg.norm(down)
        right = np.cross(down, forward)
        rotation = np.stack([right / np.linalg.norm(right), down, forward])
        scale = np.diag([1.0, 1.0, variant.distance / distance])
        warp = variant.camera @ scale @ rotation @ np.linalg.inv(matrix)
        patches.append(cv2.warpPerspective(photo, warp, variant.size))
        starts = [origin, points[[9, 10]].mean(axis=0), points[[11, 12]].mean(axis=0)]
        rays = [rotation @ (group["3d_gaze_target"][row] - start) for start in starts]
        gaze, left, right = ([*angles(-ray / np.linalg.norm(ray))] for ray in rays)
        labels.append([*gaze, *angles((rotation @ head)[:, 2]), *left, *right])
    with h5py.File(out, "w") as file:
        for key, values in (
            ("pixels", np.array(patches)),
            ("labels", np.array(labels, np.float32)),
        ):
            chunk = (1, *values.shape[1:])
            file.create_dataset(f"p0/{key}", data=values, chunks=chunk, compression="lzf")


def ours(root: Path, out: Path) -> None:
    source = open_source({"source": "synthetic", "root": str(root)})
    rejected = out.with_suffix(".parquet")
    normalise_shard(source, source.persons, out, rejected, frame_check="ellipsoid")


def decoding(root: Path) -> None:
    for path in sorted((root / "p0" / "frames").iterdir()):
        cv2.imread(str(path))


def reading(root: Path) -> None:
    for path in sorted((root / "p0" / "frames").iterdir()):
        read_photo(path, root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=int, default=120, help="photos per size")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved rounds")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"photos per second of one core, sted 128 x 128, OpenCV {cv2.__version__}")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "capture"
            draw_capture(root, size, options.photos)
            out = Path(folder) / "faces.h5"
            weights = [path.stat().st_size for path in (root / "p0" / "frames").iterdir()]
            density = 8 * statistics.mean(weights) / (size[0] * size[1])
            tasks = {
                "ours": lambda root=root, out=out: ours(root, out),
                "reference": lambda root=root, out=out: reference(root, out, False),
                "reference, map once": lambda root=root, out=out: reference(root, out, True),
                "decoding": lambda root=root: decoding(root),
                "reading": lambda root=root: reading(root),
            }
            seconds = {name: [] for name in tasks}
            for round_ in range(options.repeats + 1):
                for name, task in tasks.items():
                    start = time.process_time()
                    task()
                    if round_:  # the first round warms caches
                        seconds[name].append(time.process_time() - start)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        print(f"{size[0]}x{size[1]}, {density:.1f} bits per pixel")
        for name, median in medians.items():
            rate, ratio = options.photos / median, median / medians["ours"]
            note = "" if name == "ours" else f"   ours is {ratio:.2f} times as fast"
            print(f"  {name:20s} {rate:8.1f}/s{note}")


if __name__ == "__main__":
    main()
