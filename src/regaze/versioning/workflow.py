"""The jobs of the workflow, from its own rules, whether or not their files are there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from regaze.landmarks.settings import WEIGHTS
from regaze.settings import Settings

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Job:
    """A job of a rule, with paths relative to the working directory.

    Attributes:
        rule: its name.
        wildcards: their values.
        inputs: paths, made by other jobs or given.
        outputs: paths.
        networks: those of the inputs that are weights of a network that the job uses.
        script: name of its script.
    """

    rule: str
    wildcards: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    networks: tuple[str, ...]
    script: str


def jobs(config: Mapping, settings: Settings, targets: Sequence[str]) -> list[Job]:
    """All jobs that the workflow has for some of its targets, those that are asked for first.

    Args:
        config: of the workflow; nothing that it names has to be there.
        settings: of the configuration.
        targets: names of rules without wildcards.

    Raises:
        FileNotFoundError: the library was installed without its rules.
    """
    if not (ROOT / "Snakefile").is_file():
        raise FileNotFoundError(f"{ROOT / 'Snakefile'}: no such file; expected the project's rules")
    # Weights that detectors need are looked for on the disk unless they may be fetched.
    assets = dict(config.get("assets") or {})
    assets |= {name: {"path": getattr(settings.assets, name).path} for name in WEIGHTS}
    landmarks = {**(config.get("landmarks") or {}), "fetch": True}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("Snakefile", "rules", "workflow_scripts", "envs"):
            Path(folder, name).symlink_to(ROOT / name)
        content = {**config, "assets": assets, "landmarks": landmarks}
        Path(folder, "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        with chdir(folder):
            return list(_walked(folder, targets))


def _walked(folder: str, targets: Sequence[str]) -> Iterator[Job]:
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import (
        DAGSettings,
        OutputSettings,
        ResourceSettings,
        WorkflowSettings,
    )
    from snakemake_interface_executor_plugins.settings import ExecMode

    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        loaded = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            # Only the main process looks whether files are there.
            workflow_settings=WorkflowSettings(exec_mode=ExecMode.SUBPROCESS),
            snakefile=Path(folder, "Snakefile"),
            workdir=Path(folder),
        )
        loaded.dag(DAGSettings())
        rules = [*loaded._workflow.rules]

        @cache
        def maker(path):
            return next((rule for rule in rules if rule.is_producer(path)), None)

        asked = [rule for name in targets for rule in rules if rule.name == name]
        todo = [path for rule in asked for path in rule.expand_input({})[0]]
        seen = set()
        for path in todo:
            if (rule := maker(path)) is None:
                continue
            values = rule.get_wildcards(path)
            if (key := (rule.name, *sorted(values.items()))) in seen:
                continue
            seen.add(key)
            given = rule.expand_input(values)[0]
            inputs = tuple(dict.fromkeys(map(str, given)))
            todo += inputs
            yield Job(
                rule.name,
                dict(values),
                inputs,
                tuple(map(str, rule.expand_output(values)[0])),
                tuple(
                    str(path)
                    for name, path in given.items()
                    if name == "model" or name.startswith("network_")
                ),
                os.path.basename(rule.script),
            )
