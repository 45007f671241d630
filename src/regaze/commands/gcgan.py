"""``regaze gcgan``: pictures with classes for chosen gazes, drawn by a trained generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

gcgan_app = typer.Typer(
    help="Eye regions drawn with their classes (class gcgan).", no_args_is_help=True
)

_MODEL = Annotated[Path, typer.Argument(help="Model folder, results/models/<name>.")]
_TRUNCATION = Annotated[
    float, typer.Option(min=0, max=1, help="1: as drawn; below, codes are nearer to their mean.")
]
_SEED = Annotated[int, typer.Option(min=0, help="Seed of codes and of drawn gazes.")]


def _requested(gaze: str, count: int, faces: list[Path] | None, seed: int):
    """Those of :func:`_gazes`, none of which looks backwards."""
    import numpy as np

    found = _gazes(gaze, count, faces, seed)
    if not len(found) or not (np.abs(found) <= np.pi / 2).all():
        raise ValueError(
            f"--gaze {gaze}: expected pitch and yaw from -90 to 90 degrees, found "
            f"{np.degrees(found).round(1).tolist()[:3]}"
        )
    return found


def _gazes(gaze: str, count: int, faces: list[Path] | None, seed: int):
    """Gazes (n,2) radians: ``faces`` (drawn from their labels), ``grid``, ``P,Y`` or a CSV."""
    import numpy as np
    import pandas as pd

    from regaze.redirectors.gcgan.sampling import gazes_of_faces, grid_of_gazes

    if gaze == "faces":
        if not faces:
            raise ValueError("--faces: gazes are drawn from labels; expected a faces file")
        return gazes_of_faces([str(one) for one in faces], count, seed)
    if gaze == "grid":
        return grid_of_gazes(np.radians(20), np.radians(10))
    if gaze.endswith(".csv"):
        table = pd.read_csv(gaze)
        if not {"pitch", "yaw"} <= set(table.columns):
            raise ValueError(f"{gaze}: expected columns pitch and yaw, found {list(table.columns)}")
        return np.radians(table[["pitch", "yaw"]].to_numpy(float))
    try:
        pitch, yaw = (float(part) for part in gaze.split(","))
    except ValueError:
        raise ValueError(
            f"--gaze: expected faces, grid, PITCH,YAW in degrees or a .csv, found {gaze!r}"
        ) from None
    return np.tile(np.radians([pitch, yaw]), (count, 1))


@gcgan_app.command()
def sample(
    model: _MODEL,
    out: Annotated[Path, typer.Option(help="Folder that is new or empty.")],
    estimator: Annotated[
        Path, typer.Option(help="Model folder of an estimator, which reads the heads.")
    ],
    count: Annotated[int, typer.Option(min=1, help="Pictures; of grid and .csv: codes.")] = 100,
    gaze: Annotated[
        str,
        typer.Option(
            help="faces: drawn from the labels of --faces; grid: -20 to 20 degrees by 10; "
            "PITCH,YAW in degrees; or a .csv of pitch and yaw in degrees."
        ),
    ] = "faces",
    faces: Annotated[list[Path] | None, typer.Option(help="Faces files with labels.")] = None,
    per_code: Annotated[int, typer.Option(min=1, help="Pictures in a row of one person.")] = 1,
    truncation: _TRUNCATION = 0.7,
    seed: _SEED = 0,
) -> None:
    """Write faces, classes and codes of drawn pictures as a data set (source: faces_hdf5)."""
    import numpy as np

    from regaze.estimators.store import load_estimator
    from regaze.redirectors.gcgan.sampling import Draws, write_samples

    try:
        gazes = _requested(gaze, count, faces, seed)
        if gaze == "grid" or gaze.endswith(".csv"):
            per_code, gazes = len(gazes), np.tile(gazes, (count, 1))
        draws = Draws(gazes, per_code, truncation, seed)
        rows = write_samples(model, draws, out, load_estimator(estimator))
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    typer.echo(f"{out}: {rows} pictures of {draws.codes} persons")


@gcgan_app.command()
def interpolate(
    model: _MODEL,
    out: Annotated[Path, typer.Option(help="The .gif or .mp4 to write.")],
    component: Annotated[
        str, typer.Option(help="gaze, or a row of codes such as eye_shape or iris_texture.")
    ] = "gaze",
    latent: Annotated[
        Path | None, typer.Option(help="Code to begin at, an .npy; default: a drawn one.")
    ] = None,
    gaze: Annotated[
        tuple[float, float], typer.Option(help="Pitch and yaw in degrees where it stands still.")
    ] = (0.0, 0.0),
    frames: Annotated[int, typer.Option(min=2, max=1000)] = 48,
    truncation: _TRUNCATION = 0.7,
    seed: _SEED = 0,
) -> None:
    """Write a GIF or MP4 in which the gaze or one component of a code moves, beside its classes."""
    import numpy as np

    from regaze.redirect.animate import check_kind, write_animation
    from regaze.redirectors.gcgan.sampling import FRAME_MS, interpolation, known_latent

    try:
        check_kind(out)
        code = None if latent is None else known_latent(model, latent)
        where = tuple(np.radians(gaze))
        told = {"code": code, "gaze": where, "frames": frames}
        made = interpolation(model, component, **told, truncation=truncation, seed=seed)
        write_animation(out, made, FRAME_MS)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    typer.echo(f"{out}: {frames} frames")


@gcgan_app.command()
def score(
    model: _MODEL,
    faces: Annotated[list[Path], typer.Option(help="Faces files with landmarks.")],
    masks: Annotated[list[Path], typer.Option(help="Their masks, in the same order.")],
    inception: Annotated[Path, typer.Option(help="torchvision's Inception-v3, a file.")],
    count: Annotated[int, typer.Option(min=10, help="Pictures to draw.")] = 10_000,
    seed: _SEED = 0,
) -> None:
    """Print the Frechet distance and Inception score of drawn pictures, as GC-GAN computes them."""
    from regaze.metrics.inception import Inception, score_generator

    try:
        sides = [str(one) for one in faces], [str(one) for one in masks]
        found = score_generator(model, *sides, Inception(inception), count, seed)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    for name, value in found.items():
        typer.echo(f"{name} {value:.4f}")


@gcgan_app.command("export-lmdb")
def export(
    faces: Annotated[list[Path], typer.Argument(help="Faces files of a data set.")],
    out: Annotated[Path, typer.Option(help="Folder that is new or empty.")],
    size: Annotated[int, typer.Option(min=8, help="Side of the pictures.")] = 256,
) -> None:
    """Write eye regions with classes as GC-GAN's own code trains on them, its defects included."""
    from regaze.masks.lmdb_files import export_lmdb

    try:
        rows, lost = export_lmdb([str(one) for one in faces], out, size)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    typer.echo(f"{out}: {rows} pictures; no face found in {lost} patches")


@gcgan_app.command("import-lmdb")
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder of the LMDB.")],
    out: Annotated[Path, typer.Option(help="Folder that is new or empty.")],
) -> None:
    """Write an LMDB of GC-GAN as PNGs of pictures and classes, and its gazes as parquet."""
    from regaze.masks.lmdb_files import import_lmdb

    try:
        rows = import_lmdb(folder, out)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    typer.echo(f"{out}: {rows} pictures")
