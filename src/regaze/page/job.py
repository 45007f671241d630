"""One call of ``regaze page``: from photos to one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regaze.diffusion.noise import image_noise
from regaze.face3d.photo_faces import is_row, list_photos
from regaze.outputs import replacing
from regaze.page.atlas import CELLS, REACH, make_atlas
from regaze.page.bundle import open_bundle
from regaze.page.faces import Shown, photo_face, row_face
from regaze.page.html import atlas_page, live_page
from regaze.page.live import live_face, packed
from regaze.page.serve import HOST, page_server
from regaze.redirect.known import detector_of, published_of
from regaze.redirect.models import model_folder, open_estimator, preferred, sampling_of
from regaze.redirect.place import Lens
from regaze.redirect.run import Redirection
from regaze.weights import read_record

MOST_CELLS = 31
"""Directions per axis of an atlas, at most."""


@dataclass(frozen=True)
class Options:
    """What the command was asked for; see its help.

    Raises:
        ValueError: options that cannot be used, alone or together.
    """

    out: Path | None
    model: str | None
    models: Path
    live: bool = False
    serve: bool = False
    port: int = 8000
    cells: int = CELLS
    reach: tuple[float, float] = REACH
    precision: str = "fp16"
    runtime: Path | None = None
    fetch: bool = False
    overwrite: bool = False
    landmarks: Path | None = None
    face: int = 0
    source_gaze: tuple[float, float] | None = None
    estimator: str | None = None
    steps: int | None = None
    device: str = "auto"

    def __post_init__(self):
        if not 3 <= self.cells <= MOST_CELLS or self.cells % 2 == 0:
            raise ValueError(
                f"cells: expected an odd number from 3 to {MOST_CELLS}, found {self.cells}"
            )
        if not all(np.isfinite(self.reach)) or min(self.reach) <= 0 or max(self.reach) > 45:
            raise ValueError(f"reach: expected degrees above 0 and up to 45, found {self.reach}")
        if not self.live and (self.runtime is not None or self.fetch):
            raise ValueError(
                "runtime, fetch: expected --live beside them, which alone runs a model"
            )
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port: expected 0 to 65535, found {self.port}")
        if self.out is None and not self.serve:
            raise ValueError("out: expected a file to write, or --serve; found neither")
        if self.out is not None:
            if self.out.is_dir():
                raise ValueError(f"{self.out}: expected a file to write, found a folder")
            if self.out.exists() and not self.overwrite:
                raise ValueError(
                    f"{self.out}: expected no such file yet; to replace it give --overwrite"
                )


def run_page(places: Sequence[str], options: Options, settings=None) -> Iterator[str]:
    """Write, or serve, a page of faces; yields lines about it.

    Args:
        places: photos, folders of photos, or rows ``FACES.h5:person/index``.
        options: of the command.
        settings: the checked configuration or None.

    Raises:
        ValueError, OSError: options or files that cannot be used; nothing is written then.
    """
    o = options
    # Before anything takes long.
    server = page_server(b"", o.port) if o.serve else None
    try:
        if server is not None:
            server.server_close()
        bundle = open_bundle(o.runtime, fetch=o.fetch) if o.live else None
        page, told = _made(places, o, bundle, settings)
        content = page.encode("utf-8")
        if o.out is not None:
            with replacing(o.out) as part:
                part.write_bytes(content)
            yield f"{o.out}: {len(content) / 1e6:.1f} MB"
        yield from told
        if o.serve:
            server = page_server(content, o.port)
            yield f"http://{HOST}:{server.server_port}/ (stop with Ctrl-C)"
            server.serve_forever()
    except KeyboardInterrupt:
        return
    finally:
        if server is not None:
            server.server_close()


def _made(places, o: Options, bundle, settings) -> tuple[str, list[str]]:
    """The page, and lines about it."""
    photos = []
    for place in places:
        photos += [place] if is_row(place) else [str(one) for one in list_photos(place)]
    if not photos:
        raise ValueError("expected photos or rows FACES.h5:person/index, found none")
    only_rows = all(is_row(one) for one in photos)
    folder = model_folder(o.models, o.model or preferred(o.models, photos=not only_rows))
    view = read_record(folder / "model.json").get("view")
    estimator = open_estimator(o.models, o.estimator, view)
    sampling = sampling_of(folder, settings, o.steps)
    engine = Redirection(folder, sampling, estimator, o.device, published_of(settings))
    if "gaze" not in engine.declaration.factors:
        raise ValueError(
            f"{engine.record['name']}: expected a model that edits the gaze, found one of "
            f"{', '.join(engine.declaration.factors) or 'nothing'}"
        )
    find = None
    if o.landmarks is None and not only_rows:
        find = detector_of(settings, o.device).all_faces
    shown = [_face(one, o, engine, find) for one in photos]
    name = engine.record["name"]
    title = f"{', '.join(one.name for one in shown)} looks around"
    if bundle is not None:
        return _live(shown, o, engine, bundle, folder, sampling, title)
    atlases = [
        (one.name, make_atlas(one, engine, reach=o.reach, cells=o.cells, source_gaze=o.source_gaze))
        for one in shown
    ]
    about = (
        f"Drawn beforehand by regaze, model {name} ({engine.fingerprint}), for {o.cells**2} "
        "directions. Degrees: up, and to the left of the picture."
    )
    lines = [f"{one}: {_errors(atlas)}" for one, atlas in atlases]
    return atlas_page(atlases, title=title, about=about), lines


def _face(place: str, o: Options, engine: Redirection, find) -> Shown:
    if is_row(place):
        return row_face(place, engine)
    return photo_face(place, engine, find, landmarks=o.landmarks, face=o.face, lens=Lens())


def _errors(atlas) -> str:
    count = len(atlas.used)
    if atlas.measured is None or np.isnan(atlas.measured).any():
        return f"{count} directions, not measured"
    off = np.abs(atlas.measured - atlas.used).mean(axis=0)
    return f"{count} directions, measured off by {off[0]:.1f} up and {off[1]:.1f} left on average"


def _live(shown, o: Options, engine: Redirection, bundle, folder, sampling, title):
    from regaze.export.job import PRECISIONS, exported, faces_beside

    if o.precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise ValueError(f"precision: expected one of {known}, found {o.precision!r}")
    made = exported(folder, sampling, half=o.precision == "fp16", faces=faces_beside(folder))
    seed = sampling.get("seed", 0)
    noise = {
        name: packed(image_noise(seed, [0], shape).numpy().astype("<f4"))
        for name, shape in engine.redirector.noise_shapes().items()
    }
    faces = []
    for one in shown:
        told = live_face(one, engine, source_gaze=o.source_gaze)
        faces.append((one.name, one.picture, {**told, "noise": noise}))
    model: dict[str, Any] = {
        "size": engine.size_px,
        "graphs": list(made.models),
        "eye_boxes": made.about["eye_boxes"],
    }
    blobs = {name: packed(one.SerializeToString()) for name, one in made.models.items()}
    blobs |= {"script": packed(bundle.script), "wasm": packed(bundle.wasm)}
    about = (
        f"Model {engine.record['name']} ({engine.fingerprint}) of regaze runs in this page by "
        "onnxruntime-web (MIT licence). Nothing is sent anywhere. Degrees: up, and to the left of "
        "the picture."
    )
    page = live_page(faces, model, blobs, reach=o.reach, title=title, about=about)
    told = made.about["check"]
    return page, [
        f"largest difference of the graphs from PyTorch: {told['largest']:.1e} of pictures in "
        f"[-1, 1], {told['pairs']} pairs"
    ]
