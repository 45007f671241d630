"""``regaze edit``: the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regaze.commands import (
    CONFIG,
    DEVICE,
    FACE,
    FOCAL,
    LANDMARKS,
    MODELS,
    PHOTO_ROOT,
    STEPS,
    known_settings,
)

app = typer.Typer(help="Edit faces.", add_completion=False)

_FIRST = "its first numbers, with commas between; the others stay"


@app.command()
def edit(
    places: Annotated[
        list[str] | None,
        typer.Argument(help="Photos, folders of photos, or rows FACES.h5:person/index."),
    ] = None,
    like: Annotated[
        list[str] | None, typer.Option(help="Photo, folder or row to take from; several times.")
    ] = None,
    modes: Annotated[
        str,
        typer.Option(
            help="What to take from each --like, a picture per mode: exp, pose, light, gaze, or "
            "several joined by +."
        ),
    ] = "exp,pose,light",
    targets: Annotated[
        Path | None,
        typer.Option(
            help="CSV of further edits with the columns like and mode, a picture of each line."
        ),
    ] = None,
    gaze: Annotated[
        tuple[float, float] | None, typer.Option(help="Where to look: degrees, pitch and yaw.")
    ] = None,
    head: Annotated[
        tuple[float, float] | None, typer.Option(help="Where to turn the head: degrees.")
    ] = None,
    expression: Annotated[str | None, typer.Option(help=f"Expression code: {_FIRST}.")] = None,
    jaw: Annotated[
        str | None, typer.Option(help=f"Axis-angle of the jaw in radians: {_FIRST}.")
    ] = None,
    light: Annotated[str | None, typer.Option(help=f"Light code: {_FIRST}.")] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            help="gif or mp4: an animation of each edit, from the source to it and back, with a "
            "table of its frames."
        ),
    ] = None,
    frames: Annotated[int, typer.Option(help="Pictures of a sweep.", min=2, max=1000)] = 24,
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of a trained model in --models, or its folder; default: the first one that "
            "edits all that is asked for."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the pictures and their table; default: edited.")
    ] = None,
    models: MODELS = Path("results/models"),
    landmarks: LANDMARKS = None,
    face: FACE = 0,
    focal: FOCAL = None,
    photo_root: PHOTO_ROOT = None,
    paste: Annotated[
        str, typer.Option(help="difference keeps the photo's detail; full pastes the patch.")
    ] = "full",
    steps: STEPS = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the noise, the same for all edits.")
    ] = None,
    device: DEVICE = "auto",
    config: CONFIG = None,
) -> None:
    """Give faces the expression, pose, light or gaze of others, or of numbers."""
    from regaze.redirect.edit import Edits
    from regaze.redirect.paste import MODES

    try:
        if paste not in MODES:
            raise ValueError(f"paste: expected one of {', '.join(MODES)}, found {paste!r}")
        told = {"expression": expression, "jaw": jaw, "light": light}
        job = Edits(
            places or [],
            like=like or [],
            modes=modes,
            numbers={name: _numbers(name, text) for name, text in told.items()},
            targets=targets,
            gaze=gaze,
            head=head,
            sweep=sweep,
            frames=frames,
            model=model,
            models=models,
            out=out,
            landmarks=landmarks,
            face=face,
            focal=focal,
            photo_root=photo_root,
            paste=paste,
            steps=steps,
            seed=seed,
            device=device,
            settings=known_settings(config),
        )
        for line in job.run():
            typer.echo(line)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None


def _numbers(name: str, text: str | None) -> list[float]:
    try:
        return [] if text is None else [float(one) for one in text.split(",")]
    except ValueError:
        raise ValueError(f"{name}: expected numbers with commas between, found {text!r}") from None
