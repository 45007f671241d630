"""Configuration files read as Snakemake reads them, for commands beside the workflow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from regaze.settings import ConfigurationError, Settings, load_settings


def read_settings(files: Iterable[str | Path]) -> Settings:
    """The checked settings of configuration files, later ones on top.

    Raises:
        ConfigurationError: a file is no YAML mapping, or the settings are not valid.
    """
    return load_settings(read_config(files))


def read_config(files: Iterable[str | Path]) -> dict:
    """The content of configuration files, later ones on top, unchecked.

    Raises:
        ConfigurationError: a file is not there, or no YAML mapping.
    """
    merged: dict = {}
    for file in map(Path, files):
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigurationError(f"{file}: expected YAML, found: {error}") from None
        if not isinstance(content, dict):
            raise ConfigurationError(f"{file}: expected a mapping, found {type(content).__name__}")
        merge(merged, content)
    return merged


def merge(below: dict, above: dict) -> None:
    """Put ``above`` on top of ``below``: mappings key by key, everything else replaced."""
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            merge(below[key], value)
        else:
            below[key] = value
