"""``regaze convert-config``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def convert_config(
    files: Annotated[list[Path], typer.Argument(help="ST-ED's JSON files, later ones on top.")],
    base: Annotated[Path, typer.Option(help="The configuration that the overlay is for.")] = Path(
        "config.yaml"
    ),
) -> None:
    """Turn ST-ED's JSON configuration into an overlay; prints YAML, tells what has no place."""
    import yaml

    from regaze.conversion.overlay import as_yaml
    from regaze.conversion.sted import convert, head
    from regaze.conversion.sted_json import StedJsonError, read_sted_json

    try:
        below = yaml.safe_load(base.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SystemExit(f"{base}: expected the configuration (--base), found: {error}") from None
    models = (below or {}).get("models") if isinstance(below, dict) else None
    try:
        values, given = read_sted_json(files)
        overlay, lost = convert(values, given, below=models)
    except StedJsonError as error:
        raise SystemExit(str(error)) from None
    sys.stdout.write(as_yaml(overlay, head([str(file) for file in files], lost)))
    for key, why in lost.items():
        typer.echo(f"not mapped: {key}: {why}", err=True)
