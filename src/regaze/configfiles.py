"""The configuration as files and ``--config`` give it, layered as Snakemake layers them."""

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
        # Dates that no calendar has are a ValueError.
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigurationError(f"{file}: expected YAML, found: {error}") from None
        if not isinstance(content, dict):
            raise ConfigurationError(f"{file}: expected a mapping, found {type(content).__name__}")
        merge(merged, content)
    return merged


def read_arguments(arguments: Iterable[str]) -> dict:
    """What ``--config`` says, read as a file would be.

    Snakemake itself keeps every value inside of a mapping as text without its quotes: ``{frames:
    1}`` is ``{"frames": "1"}``, and null and "null" are the same. To be merged over its reading.

    Args:
        arguments: ``KEY=VALUE`` as they were given, of ``workflow.config_settings.config_args``.

    Raises:
        ConfigurationError: a value is no YAML.
    """
    merged: dict = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        try:
            merge(merged, {key: yaml.safe_load(value)})
        except (ValueError, yaml.YAMLError) as error:
            raise ConfigurationError(
                f"--config {argument}: expected YAML, found: {error}; a file (--configfile) needs "
                "no quotes for the shell"
            ) from None
    return merged


def merge(below: dict, above: dict) -> None:
    """Put ``above`` on top of ``below``: mappings key by key, everything else replaced.

    An empty mapping replaces nothing, whatever is below: so does Snakemake's own ``update_config``.
    """
    for key, value in above.items():
        if not isinstance(value, dict):
            below[key] = value
        elif value or key not in below:
            if not isinstance(below.get(key), dict):
                below[key] = {}
            merge(below[key], value)
