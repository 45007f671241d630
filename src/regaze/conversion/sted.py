"""ST-ED's configuration as an overlay of ``config.yaml``, and what has no place in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from regaze.conversion.overlay import put
from regaze.conversion.sted_json import StedJsonError
from regaze.training.settings import TrainSettings

NONE = "."
"""ST-ED's path of a file that there is none of."""

_NETWORK = (
    *("growth_rate", "densenet_blocks", "size_0d_unit"),
    *("num_1d_units", "size_1d_unit", "num_2d_units", "size_2d_unit"),
)
_TERMS = (
    *("l1", "gaze", "embedding_consistency", "disentangle_embedding"),
    *("disentangle_pseudo_label", "discriminator", "redirection_feature", "redirection_gaze"),
)
_SETS = {
    # Key of the file: name of the data set, order of its channels.
    "gazecapture_file": ("gazecapture", "rgb"),
    "mpiigaze_file": ("mpiigaze", "rgb"),
    "columbia_file": ("columbia", "bgr"),
    "eyediap_file": ("eyediap", "bgr"),
}
_ESTIMATOR_TRAINING = {
    "images": 8_960_000,
    "batch": 64,
    "lr": 1e-4,
    "betas": [0.9, 0.95],
    "weight_decay": 0.0,
    "warmup_images": 0,
    "schedule": "constant",
    "ema_halflife_images": 0,
    "cache": "none",
}


def convert(
    values: Mapping[str, Any],
    given: Mapping[str, str],
    *,
    below: Mapping[str, Any] | None = None,
) -> tuple[dict, dict[str, str]]:
    """Map a configuration of ST-ED onto this project's.

    Args:
        values: every key with its value, see :func:`regaze.conversion.sted_json.read_sted_json`.
        given: the keys that files set; what has no place is told of these, and of ``num_2d_units``.
        below: ``models`` of the configuration below. Its entries work on other pictures than
            ST-ED and are left out; what an entry ``sted`` has and the JSON does not becomes the
            preset's again.

    Returns:
        The overlay (values may be :class:`regaze.conversion.overlay.Noted`), and for each key
        without a place the reason.

    Raises:
        StedJsonError: the values contradict each other.
    """
    overlay: dict = {}
    lost: dict[str, str] = {}
    _data(overlay, values)
    _estimators(overlay, values, lost)
    others = [name for name in below or {} if name != "sted"]
    for name in others:
        comment = "Works on smaller pictures than ST-ED." if name == others[0] else None
        put(overlay, f"models.{name}", None, comment)
    if others:
        put(overlay, "evaluation.study.models", None, "ST-ED does not sample with noise.")
    put(overlay, "models.sted.class", "sted")
    put(overlay, "models.sted.preset", "reference", "What is left out is the paper's setting.")
    put(overlay, "models.sted.size_px", 128)
    for key in _NETWORK:
        put(overlay, f"models.sted.network.{key}", values[key])
    if values["num_2d_units"] < 2:
        del overlay["models"]["sted"]["network"]["num_2d_units"]
        lost["num_2d_units"] = (
            f"{values['num_2d_units']}: gaze and head need two factors of two angles, and training "
            "fails upstream as well; the paper's 4 are used"
        )
    for term in _TERMS:
        put(overlay, f"models.sted.objective.{term}", values[f"coeff_{term}_loss"])
    put(overlay, "models.sted.objective.mixing", values["use_mixing"])
    _training(overlay, values)
    _few_labels(overlay, values, lost)
    _undo(overlay["models"]["sted"], (below or {}).get("sted") or {})
    put(overlay, "sampling.batch", values["eval_batch_size"], "No influence on the result.")
    _rest(overlay, values, lost)
    always = "num_2d_units"
    return overlay, {key: why for key, why in lost.items() if key in given or key == always}


def _undo(ours: dict, theirs: Mapping[str, Any]) -> None:
    """Take back what the entry below says and the overlay does not."""
    for key, value in theirs.items():
        if key in ("network", "objective"):
            for option in value or {}:
                ours[key].setdefault(option, None)
        elif key == "train":
            for option in value or {}:
                ours[key].setdefault(option, _train_default(option))
        else:
            ours.setdefault(key, "vgg" if key == "estimator" else None)


def _train_default(option: str) -> Any:
    field = TrainSettings.model_fields.get(option)
    default = None if field is None else field.get_default()
    return list(default) if isinstance(default, tuple) else default


def _data(overlay: dict, values: Mapping[str, Any]) -> None:
    present = [key for key in _SETS if values[key] != NONE]
    if "gazecapture_file" in present:
        put(overlay, "dataset", "gazecapture")
    for key in present:
        name, order = _SETS[key]
        put(overlay, f"datasets.{name}.source", "faces_hdf5")
        put(overlay, f"datasets.{name}.root", values[key])
        put(overlay, f"datasets.{name}.channel_order", order)
        if name == "gazecapture":
            comment = "ST-ED reads this file from its own folder: say where it is."
            put(overlay, f"datasets.{name}.split", "gazecapture_split.json", comment)
        else:
            comment = "Nobody of this set is trained on."
            put(overlay, f"datasets.{name}.split", {"val": 0.0, "test": 1.0}, comment)
    if present:
        names = [_SETS[key][0] for key in present if key != "gazecapture_file"]
        put(overlay, "evaluation.datasets", names)
        comment = "Heads of real people are never twice in the same pose."
        put(overlay, "evaluation.same_deg", 2.0, comment)


def _estimators(overlay: dict, values: Mapping[str, Any], lost: dict[str, str]) -> None:
    for name, persons in (("vgg", "train-redirector"), ("resnet", "train-evaluator")):
        comment = None
        if name == "vgg":
            comment = "Not in ST-ED's JSON: the published networks, and the rates of train_facenet."
        put(overlay, f"estimators.{name}.arch", name, comment)
        put(overlay, f"estimators.{name}.preset", "reference")
        put(overlay, f"estimators.{name}.persons", persons)
        put(overlay, f"estimators.{name}.size_px", 128)
        put(overlay, f"estimators.{name}.preprocess", "equalise")
        put(overlay, f"estimators.{name}.loss", "angular")
        put(overlay, f"estimators.{name}.augment", False)
        put(overlay, f"estimators.{name}.train", dict(_ESTIMATOR_TRAINING))
    put(overlay, "evaluation.estimator", "resnet")
    for key, name in (("gazenet_savepath", "vgg"), ("eval_gazenet_savepath", "resnet")):
        if values[key] == NONE:
            continue
        if name == "vgg" and values["semi_supervised"]:
            lost[key] = (
                "nothing tells which labels those weights have seen; estimators.vgg is trained "
                "with the few that models.sted has"
            )
        else:
            put(overlay, f"estimators.{name}.checkpoint", values[key])


def _training(overlay: dict, values: Mapping[str, Any]) -> None:
    batch = values["batch_size"]
    if batch < 1 or values["num_training_steps"] < 1:
        raise StedJsonError("batch_size, num_training_steps: expected at least 1")
    if values["decay_steps"] < 1 or not 0 < values["decay"] <= 1:
        raise StedJsonError("decay_steps: expected at least 1; decay: above 0 and at most 1")
    train = {
        "batch": batch,
        # Derived upstream too, by the same product.
        "lr": float(f"{batch * values['base_learning_rate']:.12g}"),
        "images": values["num_training_steps"] * batch,
        "betas": [0.9, 0.999],
        "optimizer": "adam",
        "weight_decay": values["l2_reg"],
        "warmup_images": 0,
        "schedule": "stepped",
        "decay": values["decay"],
        "decay_images": values["decay_steps"] * batch,
        "ema_halflife_images": 0,
        "precision": "bf16" if values["use_apex"] else "fp32",
        "cache": "none",
        "workers": values["num_data_loaders"],
        "log_every_images": values["print_freq_train"] * batch,
        "validate_every_images": values["print_freq_test"] * batch,
        "state_every_images": values["save_interval"] * batch,
        "tensorboard": values["use_tensorboard"],
    }
    comments = {
        "lr": "batch_size times base_learning_rate",
        "images": f"{values['num_training_steps']} steps",
        "decay_images": f"{values['decay_steps']} steps",
    }
    for key, value in train.items():
        put(overlay, f"models.sted.train.{key}", value, comments.get(key))


def _few_labels(overlay: dict, values: Mapping[str, Any], lost: dict[str, str]) -> None:
    count = values["num_labeled_samples"]
    put(overlay, "augmentation.redirectors", ["sted"])
    put(overlay, "augmentation.estimator", "vgg")
    put(overlay, "augmentation.images", None)
    put(overlay, "augmentation.redirector_images", None)
    if values["semi_supervised"]:
        if count < 1:
            raise StedJsonError(
                f"num_labeled_samples: expected at least 1 with semi_supervised, found {count}"
            )
        labels = {"count": count, "seed": 0}
        put(overlay, "models.sted.labels", labels)
        comment = "Upstream expects this and does not check it: otherwise labels leak."
        put(overlay, "estimators.vgg.labels", dict(labels), comment)
        put(overlay, "augmentation.counts", [count])
        put(overlay, "augmentation.seeds", [0])
    elif count:
        lost["num_labeled_samples"] = "without semi_supervised it has no effect"
    if values["store_redirect_dataset"]:
        comment = "`snakemake augmentation` writes Redirected_samples.h5 and learns from it."
        put(overlay, "augmentation.export", True, comment)
        if not values["semi_supervised"]:
            put(overlay, "augmentation.counts", ["all"])
            put(overlay, "augmentation.seeds", [0])


def _rest(overlay: dict, values: Mapping[str, Any], lost: dict[str, str]) -> None:
    if values["save_path"] != NONE:
        lost["save_path"] = (
            "results go below `results/` of the working directory: snakemake --directory "
            f"{values['save_path']}"
        )
    lost["save_freq_images"] = (
        "pictures are made after training, by the stage `samples`; models.sted.train."
        "image_every_images shows some in TensorBoard before"
    )
    lost["test_subsample"] = "tests while training are on `val`; evaluation is of evaluation.pairs"
    lost["compute_full_result"] = "evaluation always follows training, of evaluation.pairs"
    if values["pick_at_least_per_person"] is not None:
        lost["pick_at_least_per_person"] = "everybody with a sample is trained on"
    if values["load_step"]:
        file = PurePath(values["save_path"], "checkpoints", f"{values['load_step']}.pt")
        if values["skip_training"]:
            put(overlay, "models.sted.checkpoint", str(file), "Measured as it is, not trained.")
            return
        lost["load_step"] = (
            "trainings go on from their own state; of upstream's, models.sted.checkpoint takes "
            f"{file} as it is, without training"
        )
    if values["skip_training"]:
        lost["skip_training"] = "what is trained is not trained again; there is nothing to skip"


def head(files: Sequence[str], lost: Mapping[str, str]) -> str:
    """The comment above the overlay: where it is from, how it is used, what has no place."""
    lines = [
        f"Converted by `regaze convert-config` from {', '.join(files)} (ST-ED).",
        "snakemake --cores all --configfile THIS_FILE",
    ]
    if lost:
        lines += ["", "Without a place here:"]
        lines += [f"- {key}: {why}" for key, why in lost.items()]
    return "\n".join(lines)
