"""Shared by several files: shards, paths of a data set, files of a model."""

from regaze.provenance import code_version

SHARDS = [f"{number:03d}" for number in range(settings.shards)]
TRAINED_ON = settings.dataset


def capture_files(wildcards):
    """Root and supplementary file of a data set, rendered or brought by the user."""
    dataset = settings.datasets[wildcards.dataset]
    root = dataset.root or f"results/{wildcards.dataset}/capture"
    if dataset.source == "synthetic":
        return {"root": root}
    return {
        "root": root,
        "supplementary": dataset.supplementary or f"{root}/supplementary.h5",
    }


def face_shards(wildcards):
    """Shards of a data set; training takes those of the data set that is trained on."""
    dataset = getattr(wildcards, "dataset", TRAINED_ON)
    return expand(
        "results/{dataset}/faces/shard-{shard}.h5", dataset=dataset, shard=SHARDS
    )


def model_folder(wildcards):
    """The trained model's files, none for the pseudo-models."""
    if wildcards.model in ("copy", "truth"):
        return []
    return f"results/models/{wildcards.model}/model.safetensors"
