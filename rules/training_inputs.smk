"""What trainings read besides faces, and what decides their weights."""

from regaze.training.settings import transfer_file


def published_weights(wildcards):
    """What an estimator that is not trained here is read from."""
    path = settings.estimators[wildcards.estimator].checkpoint
    return {} if path is None else {"checkpoint": path}


def required_files(wildcards):
    """What a training takes beyond faces: codes, masks, trained networks, first weights."""
    needs = requirements(settings.models[wildcards.model])
    files = told_codes(wildcards)
    if needs.masks:
        files["masks"] = expand(
            "results/{dataset}/masks/shard-{shard}.h5", dataset=TRAINED_ON, shard=SHARDS
        )
    for role in ("estimator", "teacher"):
        if (name := getattr(needs, role)) is not None:
            files[role] = f"results/models/{name}/model.safetensors"
    start = getattr(settings.models[wildcards.model].train, "transfer", None)
    if start is not None:
        files["transfer"] = transfer_file(start)
    if checkpoint := getattr(settings.models[wildcards.model], "checkpoint", None):
        files["checkpoint"] = checkpoint
    labels = settings.models[wildcards.model].labels
    if labels is not None and labels.estimator is not None:
        files["labeller"] = f"results/models/{labels.estimator}/model.safetensors"
    return files


def training_code(entry):
    """Version of what decides the weights of an entry of `models`."""
    return code_version(
        f"redirectors/{entry.class_}",
        "redirectors/base.py",
        "redirectors/face_codes.py",
        "codes.py",
        "latents.py",
        "face3d/gaze.py",
        "face3d/rotations.py",
        "diffusion",
        "metrics/redirection.py",
        "training",
        "images.py",
        "angles.py",
    )
