"""Commands of ``regaze`` with many options; the others are in :mod:`regaze.cli`."""

from pathlib import Path
from typing import Annotated

import typer

LANDMARKS = Annotated[
    Path | None,
    typer.Option(
        help="68 landmarks in pixels of the photo as it is shown: .csv, .npz, .txt, .mat, or a "
        "folder of them; default: looked for."
    ),
]
"""The option of commands that take photos."""
MODELS = Annotated[Path, typer.Option(help="Folder of the trained models.")]
STEPS = Annotated[int | None, typer.Option(min=1, help="Sampler's steps.")]
DEVICE = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def known_settings(config: list[Path] | None):
    """The checked settings; None where there is no ``config.yaml`` and no other file was named."""
    from regaze.configfiles import read_settings

    default = Path("config.yaml")
    if not config and not default.is_file():
        return None
    return read_settings(config or [default])
