"""``regaze face3d``: 3-D faces from photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regaze.commands import DEVICE, LANDMARKS, known_settings

app = typer.Typer(help="3-D face acquisition.", add_completion=False)


@app.command()
def face3d(
    places: Annotated[
        list[str], typer.Argument(help="Photos, folders of photos, or rows FACES.h5:person/index.")
    ],
    encoder: Annotated[
        str, typer.Option(help="An entry of encoders, or deca or emoca: the first of that class.")
    ] = "deca",
    out: Annotated[Path, typer.Option(help="Folder of the faces' folders.")] = Path("acquired"),
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Published weights of --encoder deca or emoca; no configuration needed."),
    ] = None,
    head: Annotated[Path, typer.Option(help="The head model that the encoder belongs to.")] = Path(
        "results/face3d/head.npz"
    ),
    head_sha256: Annotated[
        str | None,
        typer.Option(help="Head model that a --checkpoint of your own training belongs to."),
    ] = None,
    landmarks: LANDMARKS = None,
    gaze: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Pitch (up +) and yaw (picture left +) in degrees; default: the row's."),
    ] = None,
    photo_texture: Annotated[
        bool, typer.Option(help="Texture from the photo where it shows the face.")
    ] = True,
    turntable: Annotated[bool, typer.Option(help="Write turntable.gif.")] = True,
    device: DEVICE = "auto",
    config: Annotated[
        list[Path] | None, typer.Option(help="Configuration files; default config.yaml.")
    ] = None,
) -> None:
    """Write meshes, codes, landmarks, pictures and a turntable of every face."""
    import numpy as np

    from regaze.face3d.acquire import acquire
    from regaze.face3d.encode import open_encoder
    from regaze.face3d.photo_faces import is_row
    from regaze.landmarks.detectors import configured_detector

    try:
        settings = None
        if checkpoint is not None and encoder not in ("deca", "emoca"):
            raise ValueError(
                f"--checkpoint: expected --encoder deca or emoca, found {encoder!r}; entries of "
                "encoders name theirs as checkpoint"
            )
        if checkpoint is not None:
            weights = {encoder: checkpoint}
            if head_sha256 is not None:
                weights["head_sha256"] = head_sha256
        elif head_sha256 is not None:
            raise ValueError(
                "--head-sha256: belongs to a --checkpoint of --encoder deca or emoca, found none; "
                "entries of encoders state it as head_sha256"
            )
        else:
            settings = _settings(config)
            weights = weights_of(settings.encoders, encoder)
        made = open_encoder(head, device=device, **weights)
        photos = any(not is_row(place) for place in places)
        find = None
        if photos and not landmarks:
            known = settings or known_settings(config)
            chosen = known and (known.landmarks, known.assets)
            find = configured_detector(*(chosen or (None, None)), device).all_faces
        done = acquire(
            places,
            made,
            out,
            landmarks=landmarks,
            find=find,
            gaze=None if gaze is None else np.radians(gaze),
            extract_texture=photo_texture,
            animate=turntable,
        )
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    for one in done:
        for folder in one.folders or (f"({one.reason})",):
            typer.echo(f"{one.source}: {out / folder if one.folders else folder}")


def weights_of(encoders, name: str) -> dict[str, object]:
    """Which weights an entry of ``encoders`` stands for, as :func:`open_encoder` takes them.

    Args:
        encoders: entries by name.
        name: of an entry, or ``deca`` or ``emoca`` for the first one of that class.

    Raises:
        ValueError: there is none.
    """
    if name not in encoders:
        same = [key for key, entry in encoders.items() if entry.class_ == name]
        if not same:
            known = ", ".join(encoders) or "none"
            raise ValueError(f"encoder: expected one of {known}, found {name!r}")
        name = same[0]
    return encoders[name].weights or {"folder": Path("results/models") / name}


def _settings(config: list[Path] | None):
    from regaze.configfiles import read_settings

    return read_settings(config or [Path("config.yaml")])
