"""``regaze redirect``: the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regaze.commands import (
    ANGLES,
    CONFIG,
    DEVICE,
    ESTIMATOR,
    FACE,
    FOCAL,
    GAZE,
    INTRINSICS,
    LANDMARKS,
    MODELS,
    PHOTO_ROOT,
    SOURCE_GAZE,
    STEPS,
    known_settings,
)

app = typer.Typer(help="Redirect photos.", add_completion=False)


@app.command()
def redirect(
    places: Annotated[
        list[str] | None,
        typer.Argument(
            help="Photos, folders, videos, cameras by number, rows FACES.h5:person/index."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of a trained model in --models, or its folder; default: photo for the gaze "
            "in photos, where it is trained, else xunet."
        ),
    ] = None,
    gaze: GAZE = None,
    look_at_camera: Annotated[
        bool, typer.Option("--look-at-camera", help="Look into the camera: the same as --gaze 0 0.")
    ] = False,
    eyes: Annotated[
        str, typer.Option(help="Which eyes are redirected, the person's own: both, left or right.")
    ] = "both",
    head: Annotated[
        tuple[float, float] | None,
        typer.Option(help=f"Where to turn the head: {ANGLES}; default: it stays."),
    ] = None,
    relative: Annotated[
        bool, typer.Option("--relative", help="Angles are offsets from the source's.")
    ] = False,
    table: Annotated[
        Path | None,
        typer.Option(help="CSV file_name,gaze_pitch,gaze_yaw[,head_pitch,head_yaw]."),
    ] = None,
    sweep: Annotated[
        str | None, typer.Option(help="ellipse or line: move the gaze, write an animation.")
    ] = None,
    grid: Annotated[
        bool,
        typer.Option("--grid", help="All of -10, 0, 10 degrees of head and gaze: sheet and table."),
    ] = False,
    reach: Annotated[
        tuple[float, float], typer.Option(help="Half axes of a sweep: pitch and yaw in degrees.")
    ] = (12.0, 20.0),
    frames: Annotated[int, typer.Option(help="Pictures of one round.", min=2, max=1000)] = 32,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the pictures (default: redirected), or the file of one video or sweep."
        ),
    ] = None,
    models: MODELS = Path("results/models"),
    landmarks: LANDMARKS = None,
    face: FACE = 0,
    focal: FOCAL = None,
    intrinsics: INTRINSICS = None,
    distortion: Annotated[
        str | None, typer.Option(help="Lens: k1,k2,p1,p2[,k3[,...]] as OpenCV has them.")
    ] = None,
    photo_root: PHOTO_ROOT = None,
    source_gaze: SOURCE_GAZE = None,
    estimator: ESTIMATOR = None,
    code: Annotated[
        Path | None,
        typer.Option(help="File of a W+ code (.npz, .safetensors) in place of the photo's own."),
    ] = None,
    save_code: Annotated[
        str | None, typer.Option(help="npz or safetensors: also write the W+ codes of photos.")
    ] = None,
    read_gaze: Annotated[
        str,
        typer.Option(help="What tells where a photo's face looks: irises (geometry) or estimator."),
    ] = "irises",
    paste: Annotated[
        str, typer.Option(help="difference keeps the photo's detail; full pastes the patch.")
    ] = "difference",
    align: Annotated[
        bool, typer.Option(help="Photos: put the eyes where the model was trained to have them.")
    ] = True,
    match_colours: Annotated[
        bool | None,
        typer.Option(
            "--match-colours/--no-match-colours",
            help="Photos: show the model colours as it was trained on; default: yes, but where it "
            "learnt of changed colours.",
        ),
    ] = None,
    beyond: Annotated[
        str,
        typer.Option(help="Directions that the model was not trained on: clip, keep or refuse."),
    ] = "clip",
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Videos: redirect frame by frame as they come; needed for cameras, by number.",
        ),
    ] = False,
    all_faces: Annotated[
        bool, typer.Option("--all-faces", help="Videos: redirect all faces, not one (--face).")
    ] = False,
    full_below: Annotated[
        float,
        typer.Option(help="Videos: degrees of gaze and head up to which all of it is done."),
    ] = 10.0,
    none_beyond: Annotated[
        float, typer.Option(help="Videos: degrees of gaze or head from which nothing is done.")
    ] = 35.0,
    steps: STEPS = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the noise.")] = None,
    device: DEVICE = "auto",
    config: CONFIG = None,
) -> None:
    """Change gaze and head pose in photos, and paste the faces back."""
    from regaze.redirect.job import Job

    try:
        job = Job(
            places or [],
            model=model,
            models=models,
            gaze=gaze,
            look_at_camera=look_at_camera,
            eyes=eyes,
            head=head,
            relative=relative,
            table=table,
            sweep=sweep,
            grid=grid,
            code=code,
            save_code=save_code,
            reach=reach,
            frames=frames,
            out=out,
            landmarks=landmarks,
            face=face,
            focal=focal,
            intrinsics=intrinsics,
            distortion=distortion,
            photo_root=photo_root,
            source_gaze=source_gaze,
            estimator=estimator,
            read_gaze=read_gaze,
            paste=paste,
            align=align,
            match_colours=match_colours,
            beyond=beyond,
            live=live,
            all_faces=all_faces,
            full_below=full_below,
            none_beyond=none_beyond,
            steps=steps,
            seed=seed,
            device=device,
            settings=known_settings(config),
        )
        for line in job.run():
            typer.echo(line)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
