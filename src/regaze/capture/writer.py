"""Render a capture: a GazeCapture root with supplementary file, split and exact parameters.

Layout of the photos and JSON files: GazeCapture (Krafka et al. 2016); layout of
``supplementary.h5``: ``swook/faze_preprocess``. ``parameters.h5`` beside them holds per person
what no public set has: head-model codes, eye rotations, light, landmarks and masks.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

import cv2
import h5py
import numpy as np

from regaze.angles import angles_from_vector
from regaze.capture import scene
from regaze.capture.actor import Actor
from regaze.capture.film import draw_film, exposed
from regaze.capture.head import HeadConfig, build_head
from regaze.capture.lamps import draw_lamps
from regaze.capture.parts import LABELS
from regaze.capture.renderer import SUB, View
from regaze.capture.style import Style, draw_style, squinting, stream
from regaze.capture.subject import Look, draw_expression, draw_look
from regaze.capture_settings import shares
from regaze.face3d.model import FlameModel
from regaze.outputs import replacing, write_json

SPLITS = ("train-redirector", "train-evaluator", "val", "test")
"""The groups persons are dealt to; the first two together are ``train``."""
SCREEN = {"width": 700.0, "height": 520.0, "points": (1400, 1040)}
"""The screen around the camera, mm and points: the camera looks out of its middle."""


@dataclass(frozen=True)
class CaptureConfig:
    """What to render.

    Attributes:
        persons: split name of ``SPLITS`` -> how many persons.
        head_poses, gazes: every person shows every gaze in every head pose, in one series.
        expressions, lights: further photos of the first gaze of every head pose, in which the
            expression, or the light, is another and nothing else.
        photo: short side of the photos in pixels, even; the long side is 4/3 of it.
        focal: mean focal length in pixels.
        quality: of the JPEG files, 1..100.
        seed: of the data set.
        head: sizes of the head model.
        head_range, gaze_range: largest pitch and yaw of heads and gazes, degrees.
        appearance: ``plain`` or ``varied``, see :mod:`regaze.capture_settings`.
        details: shares of persons by name of ``capture_settings.DETAILS``, in place of those of
            the appearance; None leaves them.
    """

    persons: Mapping[str, int]
    head_poses: int = 4
    gazes: int = 4
    expressions: int = 0
    lights: int = 0
    photo: int = 240
    focal: float = 470.0
    quality: int = 95
    seed: int = 0
    head: HeadConfig = field(default_factory=HeadConfig)
    head_range: tuple[float, float] = (15.0, 20.0)
    gaze_range: tuple[float, float] = (15.0, 20.0)
    appearance: str = "plain"
    details: Mapping[str, float | None] = field(default_factory=dict)


def deal(persons: Mapping[str, int]) -> dict[str, list[str]]:
    """Number persons and deal them to splits: five-digit names, blocks in the order of ``SPLITS``.

    Every split has its own range of 19999 numbers, so that a person's name (and with it everything
    about the person) does not change when another split grows.
    """
    out: dict[str, list[str]] = {}
    for index, name in enumerate(SPLITS):
        first = 20000 * index + 1
        out[name] = [f"{number:05d}" for number in range(first, first + persons.get(name, 0))]
    out["train"] = sorted(out["train-redirector"] + out["train-evaluator"])
    return out


@dataclass(frozen=True)
class Person:
    """Everything rendered of one person; arrays have one row per frame."""

    name: str
    jpegs: list[bytes]
    pixels_shape: tuple[int, int]
    camera: np.ndarray
    distortion: np.ndarray
    head_pose: np.ndarray
    target: np.ndarray
    labels: np.ndarray
    parameters: dict[str, np.ndarray]
    landmarks: np.ndarray
    masks: np.ndarray


class _Film:
    """What becomes of a person's photos: the files that their camera writes."""

    def __init__(self, config: CaptureConfig, number: int, style: Style, side: int):
        self.seed, self.number, self.quality = config.seed, number, config.quality
        self.film = None
        if style.camera:
            self.film = draw_film(stream(config.seed, number, "camera"), config.quality, side)

    def developed(self, pixels: np.ndarray, index: int) -> bytes:
        """The JPEG file of the person's photo ``index``, of RGB ``pixels`` (H, W, 3) uint8."""
        quality = self.quality
        if self.film is not None:
            rng = np.random.default_rng([self.seed, self.number, 22, index])
            pixels, quality = exposed(self.film, pixels, rng)
        done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not done:
            raise RuntimeError(f"person {self.number:05d}: JPEG encoding failed")
        return data.tobytes()


def render_person(model: FlameModel, config: CaptureConfig, name: str) -> Person:
    """Render all frames of one person; depends on ``config.seed`` and ``name`` alone."""
    number = int(name)
    rng = np.random.default_rng([config.seed, number, 12])
    look = draw_look(config.seed, number, model.meta)
    look, style = draw_style(config.seed, number, look, shares(config.appearance, config.details))
    look = squinting(look, style, model.meta)
    camera = scene.draw_camera(rng, config.photo, config.focal)
    light = scene.draw_light(rng)
    background = scene.draw_background(rng, camera.width, camera.height)
    limits = np.radians([config.head_range, config.gaze_range])
    series = scene.draw_series(rng, config.head_poses, config.gazes, limits)
    if style.light:
        light = scene.draw_wide_light(stream(config.seed, number, "light"))
    light = scene.expose(light, look.skin)
    if style.highlights or style.lenses:
        light = replace(light, lamps=draw_lamps(stream(config.seed, number, "highlights"), light))
    film = _Film(config, number, style, max(camera.width, camera.height))
    actor = Actor(model, look, style)
    grid = camera.ray_grid(SUB)
    stage = _Stage(actor, camera, grid, background, series, film)
    out: dict[str, list] = defaultdict(list)
    for head in range(config.head_poses):
        view = stage.view(actor, light, head)
        for gaze in range(config.gazes):
            stage.shoot(out, view, head, gaze)
        others = _others(model, config, look, style, light, (number, head))
        for variation, (other, changed) in enumerate(others, 1):
            # Whatever is not changed is the very same, so that nothing else differs.
            there = actor if other is look else Actor(model, other, style)
            stage.shoot(out, stage.view(there, changed, head), head, 0, variation)
    count = len(out["jpeg"])
    parameters = {
        "shape": np.tile(look.shape, (count, 1)),
        "expression": np.array(out["expression"]),
        "eye_pose": np.array(out["eye"]),
        "light": np.array(out["light"]),
        "labels": np.concatenate([out["label"], out["eye_label"]], 1),
        "normalisation": series.rotation[out["head"]],
        "head_index": np.array(out["head"]),
        "gaze_index": np.array(out["gaze"]),
    }
    if config.expressions or config.lights:
        parameters["variation"] = np.array(out["variation"])
    return Person(
        name=name,
        jpegs=out["jpeg"],
        pixels_shape=(camera.height, camera.width),
        camera=np.tile(camera.parameters, (count, 1)),
        distortion=np.tile(camera.distortion, (count, 1)),
        head_pose=np.array(out["pose"]),
        target=np.array(out["target"]),
        labels=parameters["labels"],
        parameters=parameters,
        landmarks=np.array(out["marks"], np.float32),
        masks=np.array(out["mask"]),
    )


class _Stage:
    """What all photos of a person share, and how one is taken."""

    def __init__(self, actor: Actor, camera, grid, background, series, film: _Film):
        self.camera, self.grid, self.background = camera, grid, background
        self.series, self.film = series, film
        model = actor.model
        self.codes = model.shapedirs.shape[2] - model.n_shape_total

    def view(self, actor: Actor, light: scene.Light, head: int) -> View:
        """The person in a head pose."""
        return View(actor, self.camera, self.grid, light, self.background, self.series, head)

    def shoot(
        self, out: dict[str, list], view: View, head: int, gaze: int, variation: int = 0
    ) -> None:
        """Add a photo of a gaze, and all that is known of it, to columns."""
        series, actor, camera = self.series, view.actor, self.camera
        rotation, translation = series.head_rotation(head), series.translation(head)
        target = series.target(head, gaze)
        spot = view.to_head @ (target - translation)
        eyes = actor.eyes(np.stack([spot, spot]))
        frame = view.finish(eyes)
        expression = np.zeros(self.codes)
        expression[: actor.look.expression.size] = actor.look.expression
        out["jpeg"].append(self.film.developed(frame.pixels, len(out["jpeg"])))
        out["mask"].append(frame.labels)
        out["marks"].append(camera.project(view.camera_points(actor.landmarks(eyes))))
        out["pose"].append(np.concatenate([cv2.Rodrigues(rotation)[0].ravel(), translation]))
        out["target"].append(target)
        out["label"].append(np.concatenate([series.gazes[gaze], series.heads[head]]))
        out["eye"].append(actor.eye_pose(eyes))
        out["expression"].append(expression + eyes.codes)
        out["light"].append(view.light.codes())
        out["head"].append(head)
        out["gaze"].append(gaze)
        out["variation"].append(variation)
        centres = view.camera_points(actor.centres)
        # image left first: the subject's right eye
        lines = (target - centres)[::-1] @ series.rotation[head].T
        out["eye_label"].append(angles_from_vector(-lines).ravel())


def _others(
    model: FlameModel,
    config: CaptureConfig,
    look: Look,
    style: Style,
    light: scene.Light,
    place: tuple[int, int],
) -> Iterator[tuple[Look, scene.Light]]:
    """Looks with other expressions, then other lights, of a person's head pose (number, head)."""
    for kind, count in enumerate((config.expressions, config.lights)):
        for index in range(count):
            rng = np.random.default_rng([config.seed, place[0], 23, place[1], kind, index])
            if kind == 0:
                other = replace(look, expression=draw_expression(rng, model.meta))
                yield squinting(other, style, model.meta), light
                continue
            draw = scene.draw_wide_light if style.light else scene.draw_light
            other = scene.expose(draw(rng), look.skin)
            lamps = style.highlights or style.lenses
            yield look, replace(other, lamps=draw_lamps(rng, other)) if lamps else other


def _box(points: np.ndarray, scale: float) -> np.ndarray:
    """Square boxes x, y, size (n, 3) around point sets (n, k, 2)."""
    low, high = points.min(1), points.max(1)
    size = (high - low).max(1) * scale
    return np.concatenate([(low + high) / 2 - size[:, None] / 2, size[:, None]], 1)


def _json_files(person: Person, dataset: str) -> dict[str, object]:
    """GazeCapture's JSON files of a person, from the exact landmarks and targets."""
    count = len(person.jpegs)
    height, width = person.pixels_shape
    marks = person.landmarks.astype(float)
    face = np.round(_box(marks, 1.15), 2)
    ones = [1] * count

    def columns(box):
        names = {"X": box[:, 0], "Y": box[:, 1], "W": box[:, 2], "H": box[:, 2]}
        return {**{k: v.tolist() for k, v in names.items()}, "IsValid": ones}

    def eye(first):
        box = _box(marks[:, first : first + 6], 1.6)
        box[:, :2] -= face[:, :2]
        return columns(np.round(box, 2))

    grid = np.array([25 / width, 25 / height, 25 / width])
    cells = np.clip(np.round(face * grid).astype(int), 0, 24)
    tall = np.clip(np.round(face[:, 2] * 25 / height).astype(int), 1, 25)
    centimetres = -person.target[:, :2] / 10
    # orientation 1: XCam = x - dX, YCam = -dY - y (mm from the screen's top left corner)
    dx, dy = SCREEN["width"] / 2, -SCREEN["height"] / 2
    points = (10 * centimetres * [1, -1] + [dx, -dy]) / [SCREEN["width"], SCREEN["height"]]
    points = points * SCREEN["points"]
    frames = [f"{i:05d}.jpg" for i in range(count)]
    screen = [[value] * count for value in SCREEN["points"]]
    return {
        "appleFace": columns(face),
        # "left" is the subject's own: landmarks 42..47
        "appleLeftEye": eye(42),
        "appleRightEye": eye(36),
        "dotInfo": {
            "DotNum": person.parameters["gaze_index"].tolist(),
            **dict(zip(("XPts", "YPts"), points.T.tolist(), strict=True)),
            **dict(zip(("XCam", "YCam"), centimetres.T.tolist(), strict=True)),
            "Time": [i / 10 for i in range(count)],
        },
        "faceGrid": {
            "X": (cells[:, 0] + 1).tolist(),
            "Y": (cells[:, 1] + 1).tolist(),
            "W": np.maximum(cells[:, 2], 1).tolist(),
            "H": tall.tolist(),
            "IsValid": ones,
        },
        "frames": frames,
        "info": {
            "TotalFrames": count,
            "NumFaceDetections": count,
            "NumEyeDetections": count,
            "Dataset": dataset,
            "DeviceName": "Synthetic webcam" if width > height else "Synthetic phone",
        },
        "motion": [],
        "screen": {"W": screen[0], "H": screen[1], "Orientation": ones},
    }


def _write_person(root, person: Person, dataset: str) -> None:
    folder = root / person.name
    (folder / "frames").mkdir(parents=True)
    for index, data in enumerate(person.jpegs):
        (folder / "frames" / f"{index:05d}.jpg").write_bytes(data)
    for name, content in _json_files(person, dataset).items():
        write_json(folder / f"{name}.json", content)


def _write_tables(supplementary, parameters, person: Person) -> None:
    count = len(person.jpegs)
    names = [f"{person.name}/frames/{i:05d}.jpg".encode() for i in range(count)]
    group = supplementary.create_group(person.name)
    group.create_dataset("file_name", data=np.array(names))
    group.create_dataset("camera_parameters", data=person.camera)
    group.create_dataset("distortion_parameters", data=person.distortion)
    group.create_dataset("head_pose", data=person.head_pose)
    group.create_dataset("3d_gaze_target", data=person.target)
    group = parameters.create_group(person.name)
    for name, values in person.parameters.items():
        kind = np.int32 if values.dtype.kind == "i" else np.float64
        group.create_dataset(name, data=values.astype(kind))
    group.create_dataset("landmarks", data=person.landmarks)
    stored = {"chunks": (1, *person.masks.shape[1:]), "compression": "gzip", "compression_opts": 1}
    group.create_dataset("mask", data=person.masks, **stored)


_STATE: dict[str, object] = {}


def _prepare(model: FlameModel, config: CaptureConfig) -> None:
    cv2.setNumThreads(1)
    _STATE["model"], _STATE["config"] = model, config


def _render(name: str) -> Person:
    return render_person(_STATE["model"], _STATE["config"], name)


def render_capture(
    folder: str | os.PathLike,
    *,
    workers: int = 1,
    model: FlameModel | None = None,
    **options,
) -> dict[str, list[str]]:
    """Render a whole capture into ``folder`` (replaced as a whole) and return its split.

    Args:
        folder: written under a temporary name, then renamed.
        workers: processes; the bytes written do not depend on it.
        model: takes the place of the procedural head if given.
        options: of :class:`CaptureConfig`.
    """
    config = CaptureConfig(**options)
    model = model or build_head(config.head)
    split = deal(config.persons)
    kind = {n: s for s in SPLITS for n in split[s]}
    names = sorted(kind)
    with replacing(folder) as root:
        root.mkdir(parents=True)
        with (
            h5py.File(root / "supplementary.h5", "w") as supplementary,
            h5py.File(root / "parameters.h5", "w") as parameters,
        ):
            parameters.attrs["labels"] = json.dumps(LABELS, sort_keys=True)
            parameters.attrs["head"] = json.dumps(asdict(config.head), sort_keys=True)
            parameters.attrs["seed"] = config.seed
            for person in _persons(model, config, names, workers):
                dataset = kind[person.name].split("-")[0]
                _write_person(root, person, dataset)
                _write_tables(supplementary, parameters, person)
        write_json(root / "split.json", split)
    return split


def _persons(model: FlameModel, config: CaptureConfig, names: list[str], workers: int):
    """Persons in the order of ``names``, rendered by a pool when that pays."""
    if workers == 1 or len(names) == 1:
        threads = cv2.getNumThreads()
        _prepare(model, config)
        try:
            for name in names:
                yield _render(name)
        finally:
            cv2.setNumThreads(threads)
        return
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    context = multiprocessing.get_context("spawn")
    # Linear algebra reads the limit when it is imported; without it every worker keeps a thread
    # per core spinning, and two workers on two cores render at half the rate. Workers import the
    # caller's main module first: a workflow script has no ``__main__`` guard, and they need
    # nothing of it.
    main = vars(sys.modules["__main__"])
    with _changed(os.environ, **threads), _changed(main, __spec__=None, __file__=None):
        pool = context.Pool(min(workers, len(names)), _prepare, (model, config))
    with pool:
        yield from pool.imap(_render, names)


@contextmanager
def _changed(table: MutableMapping, **values) -> Iterator[None]:
    """Let entries of a dictionary have other values inside of the block."""
    before = {name: table[name] for name in values if name in table}
    table.update(values)
    try:
        yield
    finally:
        for name in values:
            del table[name]
        table.update(before)
