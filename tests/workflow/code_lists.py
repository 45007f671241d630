"""Print which library sources every rule's `code_version` names, and what each rule depends on."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

from regaze import provenance

ROOT = Path(__file__).parents[2]


class Version(str):
    """A version that remembers what it is of."""

    packages: tuple = ()


def remembering(*packages):
    version = Version("0")
    version.packages = packages
    return version


def sources(value):
    """Names in a parameter, which is a version or a list of such."""
    if isinstance(value, Version):
        return set(value.packages)
    return set().union(*map(sources, value)) if isinstance(value, list | tuple) else set()


def main(folder, config):
    provenance.code_version = remembering
    listed = {}
    with SnakemakeApi(OutputSettings(quiet={"all"})) as api:
        given = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[Path(file) for file in config]),
            snakefile=ROOT / "Snakefile",
            workdir=Path(folder),
        )
        settings = given._workflow.globals["settings"]
        # Landmarks are looked for in data sets that come without, and by their kind's own reader.
        bare = next(
            name for name, options in settings.datasets.items() if options.needs_landmarks()
        )
        for rule in given._workflow.rules:
            if rule.script is None:
                continue
            code = dict(rule.params.items()).get("code")
            # Of the rules that train, the list is that of the entry's method.
            names = list(settings.models) if callable(code) else [None]
            for name in names:
                wanted = SimpleNamespace(model=name, redirector=name, dataset=bare)
                value = code(wanted) if callable(code) else code
                key = rule.name if name is None else f"{rule.name} {settings.models[name].class_}"
                listed[key] = {"script": Path(rule.script).name, "code": sorted(sources(value))}
    json.dump(listed, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
