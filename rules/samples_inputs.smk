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
    model = model_folder(wildcards)
    files = {"model": model} if model else {}
    files |= read_inputs(wildcards) | used_networks(wildcards, making=True)
    return files | measured_files(wildcards)


def measured_files(wildcards):
    """Masks of a data set whose background is removed."""
    if not settings.without_background(wildcards.dataset):
        return {}
    part = "results/{dataset}/masks/shard-{shard}.h5"
    return {"masks": expand(part, dataset=wildcards.dataset, shard=SHARDS)}


def pseudo_size(wildcards):
    """Side of the pictures of pseudo-models, in pixels; models have their own."""
    judge = settings.estimators[settings.evaluation.estimator]
    return None if wildcards.model in settings.models else judge.size_px


def background_of(wildcards):
    """The colour that takes the background's place, where it is removed."""
    if settings.without_background(wildcards.dataset):
        return list(settings.evaluation.background)
    return []
