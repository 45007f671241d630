"""How quickly videos are redirected, and how much they flicker, by model.

    python benchmarks/video.py --models results/models photo regression --work build/video

Two clips of 640 x 480 at 25 frames a second: a rendered person of the part ``test``, whom no model
has seen, who turns the head by up to 8 degrees, looks around by up to 12 and blinks once; and the
portrait of scikit-image (NASA, public domain), moved and zoomed. Both get the noise of a camera.
They are kept in ``--work``.

``copy`` is the clip encoded anew and nothing else. Flicker is the mean change from one frame to the
next of pixels of the face outside the eyes (the lids' outlines, made a third of their width larger
all around), over that of the source; in the files, after encoding. ``eyes`` is the same inside
them. ``seam`` is the mean difference of a frame from its source in a ring around these, in grey
levels. CPU seconds are of the whole process; frames a second are of the clock, whatever else runs.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage import data

from regaze.capture import scene
from regaze.capture.actor import Actor
from regaze.capture.head import HeadConfig, build_head
from regaze.capture.renderer import SUB, View
from regaze.capture.subject import draw_look, expression_rows
from regaze.landmarks.mesh import MeshDetector
from regaze.redirect.angles import Request
from regaze.redirect.in_frames import InFrames
from regaze.redirect.live import Live, redirect_live
from regaze.redirect.models import model_folder, open_estimator
from regaze.redirect.run import Redirection
from regaze.redirect.video import redirect_video
from regaze.redirectors.declaration import Sampling, sampling_defaults
from regaze.video.reading import Film
from regaze.video.writing import Writer
from regaze.weights import read_record

SIZE, RATE = (640, 480), 25
NOISE = 1.5
"""Grey levels, of the camera."""
PERSON = 60001
TOLERANCE = 1.1
"""Flicker that is asked for."""
_EYES = (slice(36, 42), slice(42, 48))


class Source:
    """What a writer asks of a source that is no file."""

    size = stored_size = SIZE
    rotation, count, aspect, colours = 0, 0, None, None
    time_base, rate = Fraction(1, RATE), Fraction(RATE)


def moves(times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heads and gazes (n, 2) in radians, and how far lids are shut (n,)."""
    head = np.radians([6.0, 8.0]) * np.stack([np.sin(1.1 * times), np.sin(1.7 * times + 1)], -1)
    rests = np.radians([[0, 0], [6, -10], [-4, 12], [3, 4], [-6, -8]])
    gaze = rests[(times / 0.7).astype(int) % len(rests)]
    shut = np.exp(-0.5 * ((times - 1.2) / 0.06) ** 2)
    return head, gaze, np.where(shut < 0.05, 0.0, shut)


def rendered(count: int):
    """Frames of a rendered person who moves."""
    rng = np.random.default_rng(7)
    model = build_head(HeadConfig())
    look = draw_look(0, PERSON, model.meta)
    camera = scene.Camera(*SIZE, np.array([660.0, 660.0, 320.0, 240.0]), np.zeros(5))
    light = scene.expose(scene.draw_light(rng), look.skin)
    background = scene.draw_background(rng, *SIZE)
    grid, still = camera.ray_grid(SUB), Actor(model, look)
    heads, gazes, shut = moves(np.arange(count) / RATE)
    series = scene.draw_series(np.random.default_rng(1), count, 1, np.radians([[9, 9], [15, 15]]))
    times = np.arange(count) / RATE
    sway = np.stack(
        [12 * np.sin(1.3 * times), 6 * np.cos(0.9 * times), 10 * np.sin(0.7 * times)], 1
    )
    centre = np.array([0.0, 0.0, 600.0]) + sway
    forward = centre / np.linalg.norm(centre, axis=1, keepdims=True)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    rows = np.stack([right, np.cross(forward, right), forward], 1)
    series = replace(series, heads=heads, gazes=gazes, rotation=rows, centre=centre)
    for number in range(count):
        actor = still
        if shut[number]:
            expression = look.expression.copy()
            for side in ("left", "right"):
                for index, factor in expression_rows(model.meta, f"eye_blink_{side}").items():
                    expression[index] = factor * shut[number]
            actor = Actor(model, replace(look, expression=expression))
        view = View(actor, camera, grid, light, background, series, number)
        spot = view.to_head @ (series.target(number, number) - series.translation(number))
        yield view.finish(actor.eyes(np.stack([spot, spot]))).pixels


def portrait(count: int):
    """Frames of the portrait, moved and zoomed."""
    picture = data.astronaut()
    for t in np.arange(count) / RATE:
        zoom = 1.4 + 0.15 * np.sin(1.2 * t)
        x, y = 330 - 224 * zoom + 25 * np.sin(2.1 * t), 200 - 120 * zoom + 12 * np.cos(1.7 * t)
        matrix = np.array([[zoom, 0, x], [0, zoom, y]])
        yield cv2.warpAffine(
            picture, matrix, SIZE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )


CLIPS = {"rendered": rendered, "portrait": portrait}


def clip(name: str, count: int, work: Path) -> Path:
    """The file of a clip, made where it is not there."""
    path = work / f"{name}-{count}.mp4"
    if not path.exists():
        noise = np.random.default_rng(0)
        with Writer(path, Source()) as writer:
            for number, picture in enumerate(CLIPS[name](count)):
                noisy = picture + noise.normal(0, NOISE, picture.shape)
                writer.write(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), number)
    return path


def areas(pictures: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each frame: pixels of the face outside the eyes, of the eyes, of a ring around them."""
    detector, found = MeshDetector(), []
    for picture in pictures:
        marks = detector.large_faces(picture)[0].landmarks
        face, eyes = np.zeros((2, *picture.shape[:2]), np.uint8)
        cv2.fillConvexPoly(face, cv2.convexHull(np.rint(marks).astype(np.int32)), 1)
        for eye in _EYES:
            cv2.fillConvexPoly(eyes, cv2.convexHull(np.rint(marks[eye]).astype(np.int32)), 1)
        width = np.linalg.norm(marks[36] - marks[39])

        def grown(share: float, eyes=eyes, width=width) -> np.ndarray:
            side = 2 * round(share * width) + 1
            return cv2.dilate(eyes, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))) > 0

        inner = grown(1 / 3)
        found.append(((face > 0) & ~inner, inner, grown(0.9) & ~inner))
    return found


def change(pictures: list[np.ndarray], where: list[np.ndarray]) -> float:
    """Mean change from frame to frame of the pixels that both count."""
    made = []
    for a, b, here, there in zip(pictures, pictures[1:], where, where[1:], strict=False):
        made.append(np.abs(b.astype(np.float32) - a)[here & there].mean())
    return float(np.mean(made))


def run(way: str, path: Path, out: Path, asked: InFrames | None) -> tuple[float, float]:
    """Frames a second by the clock, and milliseconds of CPU a frame."""
    wall, cpu = time.perf_counter(), time.process_time()
    if asked is None:
        film = Film(path)
        with Writer(out, film) as writer:
            frames = [writer.write(frame.picture, frame.ticks) for frame in film]
        count = len(frames)
    elif way == "live":
        count = redirect_live(Film(path), out, Live(asked, MeshDetector(), path=path))["frames"]
    else:
        count = redirect_video(path, out, asked, MeshDetector())["frames"]
    return count / (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu) / count


def sheet(path: Path, before: list[np.ndarray], after: list[np.ndarray], count: int = 8) -> None:
    """The eyes of frames, before above after."""
    detector, columns = MeshDetector(), []
    for number in np.linspace(0, len(before) - 1, count).astype(int):
        marks = detector.large_faces(before[number])[0].landmarks[36:48]
        (x, y), reach = marks.mean(axis=0), 0.8 * np.ptp(marks[:, 0])
        scale = 110 / reach
        matrix = np.array([[scale, 0, 110 - scale * x], [0, scale, 55 - scale * y]])
        pair = [cv2.warpAffine(one[number], matrix, (220, 110)) for one in (before, after)]
        columns.append(np.vstack(pair))
    Image.fromarray(np.hstack(columns)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=["photo"], help="models")
    parser.add_argument("--models", type=Path, default=Path("results/models"))
    parser.add_argument("--work", type=Path, default=Path("build/video"))
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--clips", nargs="*", default=list(CLIPS), choices=list(CLIPS))
    parser.add_argument("--gaze", type=float, nargs=2, default=(0.0, 0.0))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    print("clip      model       way      frames/s  CPU ms/frame  flicker  eyes  seam")
    for name in options.clips:
        path = clip(name, options.frames, options.work)
        before = [frame.picture for frame in Film(path)]
        places = areas(before)
        outside, inside, ring = zip(*places, strict=True)
        ways = [("copy", "", None)]
        for model in options.names:
            folder = model_folder(options.models, model)
            record = read_record(folder / "model.json")
            estimator = open_estimator(options.models, None, record.get("view"))
            sampling = Sampling().model_dump() | sampling_defaults(record["config"]["class"])
            engine = Redirection(folder, sampling, estimator, "cpu")
            asked = InFrames(engine, Request(tuple(options.gaze)))
            ways += [(model, way, asked) for way in ("offline", "live")]
        for model, way, asked in ways:
            out = options.work / f"{path.stem}-{model}{way and '-'}{way}.mp4"
            rate, cpu = run(way, path, out, asked)
            after = [frame.picture for frame in Film(out)]
            flicker = change(after, outside) / change(before, outside)
            eyes = change(after, inside) / change(before, inside)
            pairs = zip(before, after, ring, strict=True)
            seam = np.mean([np.abs(a[w].astype(float) - b[w]).mean() for a, b, w in pairs])
            print(
                f"{name:<10}{model:<12}{way:<9}{rate:8.1f}{cpu:14.1f}{flicker:9.3f}"
                f"{'' if flicker <= TOLERANCE else '!'}{eyes:6.2f}{seam:6.2f}"
            )
            sheet(out.with_suffix(".png"), before, after)


if __name__ == "__main__":
    main()
