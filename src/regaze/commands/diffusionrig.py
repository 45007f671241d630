"""``regaze diffusionrig``: data of DiffusionRig's own code, written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

diffusionrig_app = typer.Typer(
    help="Data in the layout of adobe-research/diffusion-rig.", no_args_is_help=True
)


@diffusionrig_app.command("export-lmdb")
def export(
    faces: Annotated[list[Path], typer.Argument(help="Faces files of a data set.")],
    latents: Annotated[list[Path], typer.Option(help="Their codes, a file per shard.")],
    out: Annotated[Path, typer.Option(help="Folder that is new or empty.")],
    encoder: Annotated[Path, typer.Option(help="Model folder of the encoder of the codes.")] = Path(
        "results/models/deca"
    ),
    head: Annotated[Path, typer.Option(help="Its head model.")] = Path("results/face3d/head.npz"),
    size: Annotated[int, typer.Option(min=16, help="Side of the pictures.")] = 128,
) -> None:
    """Write faces with rendered buffers as DiffusionRig's own code trains on them."""
    from regaze.face3d.deca import load_encoder
    from regaze.face3d.model import load_flame
    from regaze.redirectors.diffusionrig.lmdb_files import export_buffers

    try:
        face = load_encoder(encoder, load_flame(head))
        files = [str(one) for one in faces], [str(one) for one in latents]
        rows, lost = export_buffers(*files, face, out, size)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    typer.echo(f"{out}: {rows} pictures; {lost} left out that have no codes")


@diffusionrig_app.command("import-lmdb")
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder of the LMDB.")],
    out: Annotated[Path, typer.Option(help="Folder that is new or empty.")],
) -> None:
    """Write an LMDB of DiffusionRig as PNGs and one HDF5 file of buffers."""
    from regaze.redirectors.diffusionrig.lmdb_files import import_buffers

    try:
        rows = import_buffers(folder, out)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    typer.echo(f"{out}: {rows} pictures")
