"""The stages of ``dvc.yaml``, written from the configuration.

DVC's own loops give every turn the same dependencies. Models differ in theirs: one is told codes,
one learns from an estimator, one from another model. So the file is written out, one stage per
model, by ``regaze dvc``; each command has Snakemake run the rules of its stage and no others.
"""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from regaze.settings import load_settings
from regaze.versioning.evaluation import Stages

HEADER = """\
# Written by `regaze dvc > dvc.yaml` from config.yaml; write it again when models, data sets or
# options come or go (`make lint` tells). Versions and experiments: docs/versions.md.
# Each command lets Snakemake run the rules of one stage only; after a direct Snakemake run,
# `dvc commit -f` records what was made.
"""
_RUN = "snakemake --cores all --allowed-rules"


def dvc_yaml(config: Mapping, augmentation: bool = False) -> str:
    """Return the text of ``dvc.yaml``.

    Args:
        config: what ``config.yaml`` holds. DVC reads parameters from that file and knows no
            overlays, so what the workflow shall run with stands there.
        augmentation: also the study of few labels, which the default target leaves out.

    Raises:
        ConfigurationError: the configuration is invalid.
    """
    stages = Stages(config, load_settings(dict(config)))
    stages.data()
    stages.networks()
    stages.models()
    stages.evaluation()
    if augmentation:
        stages.augmentation()
    models = stages.settings.models
    content = {
        "vars": [{"run": _RUN}],
        "stages": stages.found,
        "plots": stages.plots(),
        "artifacts": {
            name.replace("_", "-"): {
                "path": f"results/models/{name}/model.safetensors",
                "type": "model",
                "desc": f"redirector of class {entry.class_}",
            }
            for name, entry in models.items()
        },
    }
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=100)
