"""Shared by several files: shards, paths of a data set, files of a model."""

from regaze.provenance import code_version
from regaze.redirectors.settings import requirements

SHARDS = [f"{number:03d}" for number in range(settings.shards)]
TRAINED_ON = settings.dataset


def source_files(wildcards):
    """Root of a data set, rendered or brought by the user, and the files that go with it."""
    rendered = {"root": "results/{dataset}/capture"}
    return rendered | raw_root(wildcards) | settings.datasets[wildcards.dataset].files()


def raw_root(wildcards):
    """Root of a data set that the user brought; where it is gone, what was made of it counts."""
    root = settings.datasets[wildcards.dataset].root
    # The date of a folder tells little of the photos in it: `raw_shard` does.
    return {"root": ancient(root)} if root else {}


def raw_shard(wildcards):
    """Who of a data set that the user brought is in a shard, and what their files are like."""
    data = raw_sets[wildcards.dataset]
    return data and data.shard(int(wildcards.shard), settings.shards)


def pose_files(wildcards):
    """The shard's head poses where they have to be found from the photos."""
    if not settings.datasets[wildcards.dataset].needs_landmarks():
        return {}
    return {"poses": "results/{dataset}/supplementary/shard-{shard}.h5"}


def split_file(wildcards):
    """The split file that the configuration names, if any."""
    split = settings.datasets[wildcards.dataset].split
    return split if isinstance(split, str) else []


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


def told_codes(wildcards):
    """Latents of a data set where the model is told 3-D codes."""
    entry = settings.models.get(wildcards.model)
    encoder = requirements(entry).encoder if entry else None
    if encoder is None:
        return {}
    latents = expand(
        "results/{dataset}/latents/{encoder}/part-{shard}.parquet",
        dataset=getattr(wildcards, "dataset", TRAINED_ON),
        encoder=encoder,
        shard=SHARDS,
    )
    return {"latents": latents}


def asks(rule, gpus=0, train=None):
    """Resources of a rule from the table of the configuration; they grow with the attempt.

    `gpus` is what the stage's options want, a number or a function of the wildcards; `train` gives
    the section of a training, whose processes may be spread over GPUs and machines.
    """
    return settings.resources.of_rule(rule, gpus, train)
