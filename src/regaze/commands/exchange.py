"""``regaze exchange``: faces as files of other systems, and codes out of such files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

exchange_app = typer.Typer(
    help="Files of GazeNeRF and of the system that it grew from.", no_args_is_help=True
)


class Layout(StrEnum):
    """Which of the two."""

    gazenerf = "gazenerf"
    seed = "seed"


@exchange_app.command("export")
def export_command(
    results: Annotated[
        Path, typer.Argument(help="Folder of a data set's results, with faces and masks in it.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write into.")],
    layout: Annotated[Layout, typer.Option(help="Whose files.")] = Layout.gazenerf,
    encoder: Annotated[
        str | None,
        typer.Option(help="Whose latents; default the only ones there are; none: no codes."),
    ] = None,
    person: Annotated[
        list[str] | None, typer.Option(help="Whom to export, again and again; default all.")
    ] = None,
    prefix: Annotated[
        str,
        typer.Option(help="Of GazeNeRF's names: xgaze_, mpii_, columbia_ or gaze_capture_."),
    ] = "xgaze_",
    seed: Annotated[int, typer.Option(help="Deals rows to the seed's files of tests.")] = 0,
) -> None:
    """Write faces, masks, cameras and codes of a data set in the layout of another system."""
    from regaze.exchange import Material, export, shards_of

    try:
        material = Material.opened(*shards_of(results, encoder))
        made = export(material, out, layout, persons=person, prefix=prefix, seed=seed)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    for path in made:
        typer.echo(path)


@exchange_app.command("codes")
def codes_command(
    root: Annotated[Path, typer.Argument(help="Folder of such files.")],
    person: Annotated[str, typer.Argument(help="Whose row.")],
    row: Annotated[int, typer.Argument(min=0, help="Number of the row.")],
    out: Annotated[Path, typer.Argument(help="The _nl3dmm.pkl to write.")],
) -> None:
    """Write code and camera of a row as HeadNeRF's programs read those of a photo."""
    from regaze.exchange import row_fit
    from regaze.face3d.nl3dmm_fit import write_fit
    from regaze.sources import SourceError

    try:
        write_fit(out, row_fit(root, person, row))
    except (SourceError, ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    typer.echo(out)
