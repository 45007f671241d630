"""What trainings read besides faces, and what decides their weights."""


def published_weights(wildcards):
    """What an estimator that is not trained here is read from."""
    path = settings.estimators[wildcards.estimator].checkpoint
    return {} if path is None else {"checkpoint": path}


def seen_in_training(estimator):
    """The name of the data set, in its view, that an entry of `estimators` is trained on."""
    return in_view(TRAINED_ON, settings.estimators[estimator].view)


def required_files(wildcards):
    """What a training takes beyond faces: inputs, trained networks, first weights."""
    declaration = settings.declarations[wildcards.model]
    files = {
        f"start_{one.key.replace('.', '_')}": one.path for one in declaration.starts
    }
    files |= used_networks(wildcards)
    if declaration.published is None:
        files |= read_inputs(wildcards.model, learnt_from(wildcards.model))
        files |= unlabelled_files(wildcards.model)
    return files


def unlabelled_files(model):
    """The unlabelled pictures that a training learns from besides, and what it reads of them."""
    dataset = settings.data_of(model).unlabelled
    if dataset is None:
        return {}
    name = seen_by(model, dataset)
    files = {
        f"unlabelled_input_{one.kind}": shards(one, name, SHARDS)
        for one in settings.declarations[model].inputs
        if "unlabelled" in one.sides
    }
    return files | {
        "unlabelled": shards_of(name),
        "unlabelled_checked": f"results/{name}/faces/rejected.parquet",
        "unlabelled_split": f"results/{dataset}/split.json",
    }
