"""Shared by several files: shards, paths of a data set, files of a model."""

from regaze.redirectors.inputs import shards

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


def read_inputs(wildcards):
    """What a model reads of a data set's pictures besides pixels, by its declaration."""
    declaration = settings.declarations.get(wildcards.model)
    dataset = getattr(wildcards, "dataset", TRAINED_ON)
    return {
        f"input_{one.kind}": shards(one, dataset, SHARDS)
        for one in (declaration.inputs if declaration else ())
    }


def used_networks(wildcards, making=False):
    """Weights of the networks that a model uses, in training or while making pictures."""
    declaration = settings.declarations.get(wildcards.model)
    return {
        f"network_{one.role}": f"results/models/{one.entry}/model.safetensors"
        for one in (declaration.networks if declaration else ())
        if one.always or not making
    }


def asks(rule, gpus=0, train=None):
    """Resources of a rule from the table of the configuration; they grow with the attempt.

    `gpus` is what the stage's options want, a number or a function of the wildcards; `train` gives
    the section of a training, whose processes may be spread over GPUs and machines.
    """
    return settings.resources.of_rule(rule, gpus, train)
