"""ST-ED's JSON configuration, read as its own code reads it.

Keys and defaults are those of ``zhengyuf/STED-gaze``: files are layered over the defaults in the
order given, an unknown key is an error, and a value has the type of its default. Upstream refuses
``200`` where the default is ``200.0``; here whole numbers are taken for fractions. Command-line
overrides are documented upstream but were never implemented; here they are Snakemake's
``--config``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

DEFAULTS: Mapping[str, Any] = {
    # Data and folders; "." says that there is none.
    "mpiigaze_file": ".",
    "gazecapture_file": ".",
    "columbia_file": ".",
    "eyediap_file": ".",
    "save_path": ".",
    "gazenet_savepath": ".",
    "eval_gazenet_savepath": ".",
    # Networks.
    "growth_rate": 12,
    "densenet_blocks": 5,
    "size_0d_unit": 512,
    "num_1d_units": 16,
    "size_1d_unit": 16,
    "num_2d_units": 0,
    "size_2d_unit": 16,
    # Losses.
    "coeff_l1_loss": 200.0,
    "coeff_gaze_loss": 2.0,
    "coeff_embedding_consistency_loss": 1.0,
    "coeff_disentangle_embedding_loss": 0.0,
    "coeff_disentangle_pseudo_label_loss": 0.0,
    "coeff_discriminator_loss": 0.5,
    "coeff_redirection_feature_loss": 0.0,
    "coeff_redirection_gaze_loss": 1.0,
    "use_mixing": True,
    # Training.
    "batch_size": 32,
    "eval_batch_size": 128,
    "num_data_loaders": 12,
    "base_learning_rate": 5e-5,
    "l2_reg": 1e-4,
    "decay_steps": 34480,
    "decay": 0.8,
    "num_training_steps": 206865,
    "use_apex": False,
    # Logs and evaluation.
    "print_freq_train": 200,
    "print_freq_test": 4000,
    "save_freq_images": 4000,
    "save_interval": 50000,
    "test_subsample": 0.05,
    "use_tensorboard": False,
    "skip_training": False,
    "compute_full_result": True,
    "load_step": 0,
    # Few labels.
    "semi_supervised": False,
    "num_labeled_samples": 0,
    "store_redirect_dataset": False,
    "pick_at_least_per_person": None,
}
"""Every key with its default. Of ``pick_at_least_per_person`` a value is a whole number."""


class StedJsonError(ValueError):
    """A file that is not ST-ED's configuration; the message names file, key, and expectation."""


def read_sted_json(files: Sequence[str | PathLike]) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration of files layered over the defaults, later ones on top.

    Returns:
        All keys of :data:`DEFAULTS` with their values; and, for those that a file set, the file.

    Raises:
        StedJsonError: a file cannot be read or is no JSON object, a key is unknown or written
            twice, or a value is of another type than its default.
    """
    values, origin = dict(DEFAULTS), {}
    for file in files:
        for key, value in _content(Path(file)).items():
            if key not in DEFAULTS:
                raise StedJsonError(f"{file}: {key}: unknown key; ST-ED has {', '.join(DEFAULTS)}")
            values[key] = _typed(f"{file}: {key}", value, DEFAULTS[key])
            origin[key] = str(file)
    return values, origin


def _content(path: Path) -> dict[str, Any]:
    def without_repetition(pairs):
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise StedJsonError(f"{path}: {twice}: expected once, found twice")
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=without_repetition)
    except (OSError, UnicodeDecodeError) as error:
        raise StedJsonError(f"{path}: expected a JSON file, found: {error}") from None
    except json.JSONDecodeError as error:
        raise StedJsonError(f"{path}: expected JSON, found: {error}") from None
    if not isinstance(content, dict):
        raise StedJsonError(f"{path}: expected an object, found {type(content).__name__}")
    return content


def _typed(where: str, value: Any, default: Any) -> Any:
    wanted = int if default is None else type(default)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted and not (default is None and value is None):
        name = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise StedJsonError(f"{where}: expected {name[wanted]}, found {json.dumps(value)}")
    if wanted is float and value in (float("inf"), float("-inf")) or value != value:
        raise StedJsonError(f"{where}: expected a finite number, found {value}")
    return value
