"""What sampling takes: options, variants, and the files of a model and a data set."""

from regaze.report.settings import weight_variants

WEIGHTS = weight_variants(settings.sampling.weights)
STUDY = settings.evaluation.study
STUDIED = [model for model in STUDY.models or [] if model in settings.rows]
VARIANTS = STUDY.variants() if STUDIED else {}
WEIGHT_SAMPLES = "results/evaluation/{model}/{dataset}/{variant}/samples.h5"


def sampling_options(wildcards):
    """Options of sampling of a model, the workflow's and its own; none of pseudo-models."""
    return settings.sampling_of(wildcards.model)


def sampled_files(wildcards):
    """The model, what it makes its pictures with, and masks that the data set is sampled with."""
    files = model_files(wildcards.model)
    masked = settings.without_background(wildcards.dataset)
    files |= redirected_files(wildcards.model, wildcards.dataset, masked)
    files |= used_networks(wildcards, making=True)
    return files | measured_files(wildcards)


def atlas_files(wildcards):
    """The model of an atlas, and the networks that it makes its pictures with."""
    return model_files(wildcards.model) | used_networks(wildcards, making=True)


def coded_labels(wildcards):
    """Codes of a data set, where factors that are read from them are evaluated."""
    if not settings.coded:
        return {}
    part = f"results/{{dataset}}/latents/{settings.coder}/part-{{shard}}.parquet"
    return {"codes": expand(part, dataset=wildcards.dataset, shard=SHARDS)}


def measured_files(wildcards):
    """Masks of a data set whose background is removed."""
    if not settings.without_background(wildcards.dataset):
        return {}
    part = "results/{dataset}/masks/shard-{shard}.h5"
    return {"masks": expand(part, dataset=wildcards.dataset, shard=SHARDS)}


def compared_size(wildcards):
    """Side of what has no size of its own where pictures are compared, in pixels, else None.

    That are pseudo-models, and models that see faces in another view than all are compared in.
    """
    model = wildcards.model
    if model in settings.models and settings.data_of(model).view == DEFAULT:
        return None
    return settings.estimators[settings.evaluation.estimator].size_px


def background_of(wildcards):
    """The colour that takes the background's place, where it is removed."""
    if settings.without_background(wildcards.dataset):
        return list(settings.evaluation.background)
    return []
