"""``regaze head draw``: published heads, from where one likes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def draw(
    codes: Annotated[Path, typer.Argument(help="LatentCodes_*.pth or *_nl3dmm.pkl of a head.")],
    model: Annotated[
        Path, typer.Option(help="Published weights: model_Reso32HR.pth, *_ckpt.pth.tar, *.json.")
    ],
    out: Annotated[Path, typer.Argument(help="The .png, or the .gif of an orbit, to write.")],
    turn: Annotated[
        tuple[float, float, float],
        typer.Option(help="Pitch, yaw and roll of the head in degrees, of a .png."),
    ] = (0.0, 0.0, 0.0),
    gaze: Annotated[
        tuple[float, float],
        typer.Option(help="Pitch and yaw in degrees, in the frame of the weights."),
    ] = (0.0, 0.0),
    views: Annotated[int, typer.Option(min=2, help="Cameras of an orbit.")] = 45,
    take: Annotated[
        list[str] | None,
        typer.Option(
            help="PART=CODES: take a part (shape, expression, texture, light) of another head's "
            "codes; PART@0.5=CODES: half of it."
        ),
    ] = None,
) -> None:
    """Draw a head of HeadNeRF's files with published weights: turned, or from all around."""
    import numpy as np
    import torch

    from regaze.animation import gif
    from regaze.face3d.drawing import write_png
    from regaze.outputs import replacing
    from regaze.redirect.fit import Taken
    from regaze.redirectors.gazenerf import cameras, published

    try:
        if out.suffix not in (".png", ".gif"):
            raise ValueError(f"{out}: expected a .png or a .gif")
        head = published.read_codes(codes)
        field = published.open_field(model, head)
        for one in map(Taken.of, take or []):
            other = published.read_codes(one.place)
            head = published.with_part(head, other, one.part, one.share)
        looking = tuple(np.radians(gaze).tolist())
        if out.suffix == ".png":
            angles = torch.tensor(np.radians([turn]), dtype=torch.float32)
            camera = cameras.turned_about_head(head.seen(field.side), angles)
            write_png(out, next(published.pictures(field, head, camera, looking)))
        else:
            from PIL import Image

            camera = cameras.orbit(field.side, views)
            frames = [
                Image.fromarray(one) for one in published.pictures(field, head, camera, looking)
            ]
            content = gif(frames, round(3000 / views))
            with replacing(out) as part:
                part.write_bytes(content)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    typer.echo(out)
