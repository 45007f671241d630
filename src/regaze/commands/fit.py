"""``regaze fit``: the command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from regaze.commands import (
    ANGLES,
    CONFIG,
    DEVICE,
    FACE,
    FOCAL,
    GAZE,
    INTRINSICS,
    LANDMARKS,
    MODELS,
    known_settings,
)


def fit(
    photo: Annotated[str, typer.Argument(help="A photo, or a row FACES.h5:person/index.")],
    model: Annotated[
        str, typer.Option(help="Name of a trained radiance field in --models, or its folder.")
    ] = "gazenerf",
    models: MODELS = Path("results/models"),
    out: Annotated[Path, typer.Option(help="Folder of what is written.")] = Path("fitted"),
    morph: Annotated[
        str | None, typer.Option(help="A second photo or row: an animation to it and back.")
    ] = None,
    take: Annotated[
        list[str] | None,
        typer.Option(
            help="PART=PHOTO: take a part of the code (shape, expression, texture, light) of "
            "another photo, row or .fit.safetensors; PART@0.5=PHOTO: half of it."
        ),
    ] = None,
    gaze: GAZE = None,
    head: Annotated[
        tuple[float, float] | None, typer.Option(help=f"Where to turn the head: {ANGLES}.")
    ] = None,
    relative: Annotated[
        bool, typer.Option("--relative", help="Angles are offsets from the photo's.")
    ] = False,
    camera: Annotated[
        tuple[float, float, float],
        typer.Option(
            help="Pitch, yaw and roll in degrees by which the camera walks around the head: up, to "
            "the picture's right, clockwise; the eyes stay in the head."
        ),
    ] = (0.0, 0.0, 0.0),
    steps: Annotated[
        int | None,
        typer.Option(min=0, help="Of the fit; default: 100, or as many as the model's sampling."),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Picture of the photo's size, white where the head is; default: the face by its "
            "landmarks."
        ),
    ] = None,
    codes: Annotated[
        Path | None,
        typer.Option(
            help="Codes to start at instead of the encoder's: *_nl3dmm.pkl or LatentCodes_*.pth."
        ),
    ] = None,
    reach: Annotated[
        tuple[float, float],
        typer.Option(help="Half axes of the round of gazes; the camera goes half the pitch."),
    ] = (15.0, 20.0),
    landmarks: LANDMARKS = None,
    face: FACE = 0,
    focal: FOCAL = None,
    intrinsics: INTRINSICS = None,
    source_gaze: Annotated[
        tuple[float, float] | None,
        typer.Option(help=f"Where the photo looks: {ANGLES}; default: labels, or estimated."),
    ] = None,
    estimator: Annotated[
        str | None, typer.Option(help="Estimator in --models; default: the best there.")
    ] = None,
    device: DEVICE = "auto",
    config: CONFIG = None,
) -> None:
    """Fit a radiance field to a photo: novel views, gazes, morphs, codes to edit and to keep."""
    from regaze.redirect.fit_job import FitJob

    try:
        job = FitJob(
            photo,
            model=model,
            models=models,
            out=out,
            morph=morph,
            take=take or [],
            gaze=gaze,
            head=head,
            relative=relative,
            camera=camera,
            steps=steps,
            mask=mask,
            codes=codes,
            reach=reach,
            landmarks=landmarks,
            face=face,
            focal=focal,
            intrinsics=intrinsics,
            source_gaze=source_gaze,
            estimator=estimator,
            device=device,
            settings=known_settings(config),
            bar=_bar,
        )
        for line in job.run():
            typer.echo(line)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None


@contextmanager
def _bar(what: str, steps: int) -> Iterator:
    """A progress bar with the residual of the fit, on standard error where that is a terminal."""
    with typer.progressbar(length=steps, label=f"fitting {what}", file=sys.stderr) as bar:

        def told(_: int, loss: float) -> None:
            bar.label = f"fitting {what}, residual {loss:.4f}"
            bar.update(1)

        yield told
