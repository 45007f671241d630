"""Shared by several files: shards, paths of a data set, files of a model.

The wildcard `dataset` names a data set, or a data set in a view: `synthetic@small`.
"""

from regaze.redirectors.inputs import shards
from regaze.views import DEFAULT, divided, in_view

SHARDS = [f"{number:03d}" for number in range(settings.shards)]
TRAINED_ON = settings.dataset


def source_files(wildcards):
    """Root of a data set, rendered or brought by the user, and the files that go with it."""
    rendered = {"root": f"results/{divided(wildcards.dataset)[0]}/capture"}
    given = settings.options_of(wildcards.dataset).files()
    return rendered | raw_root(wildcards) | given


def raw_root(wildcards):
    """Root of a data set that the user brought; where it is gone, what was made of it counts."""
    root = settings.options_of(wildcards.dataset).root
    # The date of a folder tells little of the photos in it: `raw_shard` does.
    return {"root": ancient(root)} if root else {}


def raw_data(wildcards):
    """A data set that the user brought, None of a rendered one."""
    return raw_sets[divided(wildcards.dataset)[0]]


def raw_shard(wildcards):
    """Who of a data set that the user brought is in a shard, and what their files are like."""
    data = raw_data(wildcards)
    return data and data.shard(int(wildcards.shard), settings.shards)


def pose_files(wildcards):
    """The shard's head poses where they have to be found from the photos.

    And the landmarks found where they frame the faces and nothing else tells them.
    """
    options = settings.options_of(wildcards.dataset)
    folder = f"results/{divided(wildcards.dataset)[0]}"
    if options.needs_landmarks():
        return {"poses": f"{folder}/supplementary/shard-{wildcards.shard}.h5"}
    if settings.faces_in(wildcards.dataset).aligned and not options.brings_landmarks():
        return {"found": f"{folder}/landmarks/shard-{wildcards.shard}.h5"}
    return {}


def split_file(wildcards):
    """The split file that the configuration names, if any."""
    split = settings.options_of(wildcards.dataset).split
    return split if isinstance(split, str) else []


def shards_of(name, folder="faces"):
    """Shards of a data set in a view."""
    return expand(f"results/{name}/{folder}/shard-{{shard}}.h5", shard=SHARDS)


def face_shards(wildcards):
    """Shards of a data set; training takes those of the data set that is trained on."""
    return shards_of(getattr(wildcards, "dataset", TRAINED_ON))


def seen_by(model, dataset):
    """The name of a data set in the view of an entry of `models`."""
    return in_view(dataset, settings.data_of(model).view)


def learnt_from(model):
    """The name of the data set, in its view, that an entry of `models` is trained on."""
    return seen_by(model, settings.data_of(model).labelled)


def album_file(wildcards):
    """Albums of a data set's evaluated persons, whose pictures are not evaluated."""
    if settings.evaluation.albums is None:
        return {}
    return {"albums": f"results/{wildcards.dataset}/albums.json"}


def made_model(name):
    """The file that a trained entry of `models` is known by: its weights, or the record of all.

    An entry with a model per person has no weights of its own.
    """
    file = "model.json" if name in settings.personal else "model.safetensors"
    return f"results/models/{name}/{file}"


def model_files(model):
    """The trained model's files, none for the pseudo-models."""
    if model not in settings.models:
        return {}
    files = {"model": made_model(model)}
    if model in settings.personal:
        files["of_persons"] = expand(
            "results/models/{model}/album-{shard}", model=model, shard=SHARDS
        )
    return files


def read_inputs(model, name, making=False):
    """What a model reads of the pictures of a data set in a view besides pixels, as it declares.

    `making`: while it makes pictures.
    """
    declaration = settings.declarations.get(model)
    return {
        f"input_{one.kind}": shards(one, name, SHARDS)
        for one in (declaration.inputs if declaration else ())
        if one.always or not making
    }


def redirected_files(model, dataset, masked=False):
    """What a model reads of the pictures of a data set that it redirects: inputs, its own view.

    `masked`: whether the background is removed, in that view as well.
    """
    if model not in settings.models:
        return {}
    name = seen_by(model, dataset)
    files = read_inputs(model, name, making=True)
    if name != dataset:
        files["view"] = shards_of(name)
        files |= {"view_masks": shards_of(name, "masks")} if masked else {}
    return files


def used_networks(wildcards, making=False):
    """Weights of the networks that a model uses, in training or while making pictures."""
    declaration = settings.declarations.get(wildcards.model)
    used = declaration.used if declaration else ()
    used = [one for one in used if one.always or not making]
    files = {f"network_{one.role}": settings.network_weights(one) for one in used}
    if any(one.section == "encoders" for one in used):
        files["head_of_networks"] = "results/face3d/head.npz"
    return files


def network_options(model):
    """What is told of the networks of a model that are not trained here, by role."""
    declared = settings.declarations[model].networks
    found = {one.role: settings.network_options(one) for one in declared}
    return {role: options for role, options in found.items() if options}


def asks(rule, gpus=0, train=None):
    """Resources of a rule from the table of the configuration; they grow with the attempt.

    `gpus` is what the stage's options want, a number or a function of the wildcards; `train` gives
    the section of a training, whose processes may be spread over GPUs and machines.
    """
    return settings.resources.of_rule(rule, gpus, train)
