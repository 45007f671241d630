"""``regaze page``: the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regaze.commands import (
    CONFIG,
    DEVICE,
    ESTIMATOR,
    FACE,
    LANDMARKS,
    MODELS,
    SOURCE_GAZE,
    STEPS,
    known_settings,
)


def page(
    places: Annotated[
        list[str], typer.Argument(help="Photos, folders of photos, or rows FACES.h5:person/index.")
    ],
    out: Annotated[Path | None, typer.Option(help="HTML file to write.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of a trained model in --models, or its folder; default: photo for photos, "
            "where it is trained, else xunet."
        ),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="The model runs in the page, instead of a grid of faces.")
    ] = False,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Serve the page on this machine, so that it has threads."),
    ] = False,
    port: Annotated[int, typer.Option(help="Of --serve; 0: any that is free.")] = 8000,
    cells: Annotated[
        int, typer.Option(help="Directions per axis of the grid, an odd number.")
    ] = 11,
    reach: Annotated[
        tuple[float, float], typer.Option(help="Degrees of pitch and yaw, from ahead to the rim.")
    ] = (15.0, 20.0),
    precision: Annotated[
        str, typer.Option(help="--live: of the model's weights in the page, fp16 or fp32.")
    ] = "fp16",
    runtime: Annotated[
        Path | None,
        typer.Option(help="--live: folder of onnxruntime-web's files; default: those fetched."),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="--live: have npm fetch them where they are missing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file --out.")] = False,
    landmarks: LANDMARKS = None,
    face: FACE = 0,
    source_gaze: SOURCE_GAZE = None,
    estimator: ESTIMATOR = None,
    steps: STEPS = None,
    models: MODELS = Path("results/models"),
    device: DEVICE = "auto",
    config: CONFIG = None,
) -> None:
    """Write a page whose face follows the pointer: one file, which a browser opens."""
    from regaze.page.job import Options, run_page

    try:
        options = Options(
            out=out,
            model=model,
            models=models,
            live=live,
            serve=serve,
            port=port,
            cells=cells,
            reach=reach,
            precision=precision,
            runtime=runtime,
            fetch=fetch,
            overwrite=overwrite,
            landmarks=landmarks,
            face=face,
            source_gaze=source_gaze,
            estimator=estimator,
            steps=steps,
            device=device,
        )
        for line in run_page(places, options, known_settings(config)):
            typer.echo(line)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
