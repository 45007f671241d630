"""``regaze photo-check``: the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regaze.commands import DEVICE, MODELS, STEPS, known_settings


def photo_check(
    places: Annotated[list[str], typer.Argument(help="Photos, or folders of photos.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of a trained model in --models, or its folder; default: photo for the gaze "
            "in photos, where it is trained, else xunet."
        ),
    ] = None,
    models: MODELS = Path("results/models"),
    estimator: Annotated[
        list[str] | None,
        typer.Option(help="Estimator in --models that reads the photos; default: the best there."),
    ] = None,
    judge: Annotated[
        list[Path] | None,
        typer.Option(help="Checkpoint of a published ETH-XGaze ResNet-18 or -50 that reads them."),
    ] = None,
    reach: Annotated[
        tuple[float, float],
        typer.Option(help="Half axes of the directions: pitch and yaw in degrees."),
    ] = (10.0, 15.0),
    read_gaze: Annotated[str, typer.Option(help="As of `regaze redirect`.")] = "irises",
    align: Annotated[bool, typer.Option(help="As of `regaze redirect`.")] = True,
    match_colours: Annotated[
        bool | None,
        typer.Option("--match-colours/--no-match-colours", help="As of `regaze redirect`."),
    ] = None,
    steps: STEPS = None,
    out: Annotated[Path, typer.Option(help="Folder of tables and sheet.")] = Path("photo-check"),
    device: DEVICE = "auto",
    config: Annotated[
        list[Path] | None,
        typer.Option(help="Configuration: sampling; default config.yaml if there is one."),
    ] = None,
) -> None:
    """Measure how far a model moves the eyes of photos, beside irises that are moved by hand."""
    from regaze.photo_check.job import run_check

    try:
        lines = run_check(
            places,
            model=model,
            models=models,
            estimators=estimator or [],
            judges=judge or [],
            reach=reach,
            adjust={"align": align, "match_colours": match_colours, "read_gaze": read_gaze},
            steps=steps,
            out=out,
            device=device,
            settings=known_settings(config),
        )
        for line in lines:
            typer.echo(line)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
