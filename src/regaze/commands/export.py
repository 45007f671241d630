"""``regaze export``: the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regaze.commands import CONFIG, MODELS, STEPS, known_settings


def export(
    model: Annotated[str, typer.Argument(help="Name of a trained model in --models, or folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    to: Annotated[str, typer.Option(help="Format: onnx.")] = "onnx",
    batch: Annotated[str, typer.Option(help="Rows that the graphs take, 1 to 10, or dynamic.")] = (
        "1"
    ),
    precision: Annotated[
        str, typer.Option(help="Of the stored weights: fp32, or fp16 for half the file.")
    ] = "fp32",
    faces: Annotated[
        list[Path] | None,
        typer.Option(help="Faces files to check with; default: those beside --models."),
    ] = None,
    steps: STEPS = None,
    models: MODELS = Path("results/models"),
    config: CONFIG = None,
) -> None:
    """Write a model as graphs of ONNX, compared with PyTorch on ten pairs."""
    from regaze.export.job import run_export

    try:
        lines = run_export(
            model,
            kind=to,
            out=out,
            models=models,
            batch=batch,
            precision=precision,
            faces=faces or (),
            steps=steps,
            settings=known_settings(config),
        )
        for line in lines:
            typer.echo(line)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
