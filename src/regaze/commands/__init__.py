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
CONFIG = Annotated[
    list[Path] | None,
    typer.Option(help="Configuration: sampling, assets; default config.yaml if there is one."),
]

# Of commands that take photos, or rows of faces files.
FACE = Annotated[int, typer.Option(min=0, help="Which face of a photo; 0: the largest.")]
FOCAL = Annotated[
    float | None, typer.Option(help="Focal length in pixels; default: the longer side.")
]
INTRINSICS = Annotated[
    tuple[float, float, float, float] | None, typer.Option(help="fx fy cx cy in pixels.")
]
PHOTO_ROOT = Annotated[
    Path | None, typer.Option(help="Rows: folder of their photos, to paste back.")
]
ANGLES = "degrees, pitch (up +) and yaw (picture left +)"
GAZE = Annotated[tuple[float, float] | None, typer.Option(help=f"Where to look: {ANGLES}.")]
SOURCE_GAZE = Annotated[
    tuple[float, float] | None,
    typer.Option(help=f"Where the source looks: {ANGLES}; default: labels, or estimated."),
]
ESTIMATOR = Annotated[
    str | None, typer.Option(help="Estimator in --models; default: the best one there.")
]


def known_settings(config: list[Path] | None):
    """The checked settings; None where there is no ``config.yaml`` and no other file was named."""
    from regaze.configfiles import read_settings

    default = Path("config.yaml")
    if not config and not default.is_file():
        return None
    return read_settings(config or [default])
