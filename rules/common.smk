"""What several rule files share: names, wildcards, paths of a data set, a model's parameters."""

from regaze.provenance import code_version

SHARDS = [f"{number:03d}" for number in range(settings.shards)]
TRAINED_ON = settings.dataset


wildcard_constraints:
    dataset="|".join(settings.datasets),
    shard=r"\d{3}",
    estimator="|".join(settings.estimators),
    model="|".join(["copy", "truth", *settings.models]),


localrules:
    all,
    capture,
    faces,
    estimators,
    models,
    samples,
    metrics,
    report,


def capture_files(wildcards):
    """Root, supplementary file and split of a data set, rendered or brought by the user."""
    dataset = settings.datasets[wildcards.dataset]
    root = dataset.root or f"results/{wildcards.dataset}/capture"
    if dataset.source == "synthetic":
        return {"root": root}
    return {
        "root": root,
        "supplementary": dataset.supplementary or f"{root}/supplementary.h5",
        "split": dataset.split or f"{root}/split.json",
    }


def face_shards(wildcards):
    """Shards of a data set; training takes those of the data set that is trained on."""
    dataset = getattr(wildcards, "dataset", TRAINED_ON)
    return expand("results/{dataset}/faces/shard-{shard}.h5", dataset=dataset, shard=SHARDS)


def model_folder(wildcards):
    """The trained model's files, none for the pseudo-models."""
    if wildcards.model in ("copy", "truth"):
        return []
    return f"results/models/{wildcards.model}/model.safetensors"
