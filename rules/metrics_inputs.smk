"""What measuring takes besides the evaluation estimator."""

from os.path import isfile

# Files of the networks of LPIPS and FID, which are null without them.
JUDGES = {
    name: getattr(settings.assets, name).model_dump()
    for name in ("lpips_alexnet", "lpips_vgg16", "inception")
}


def measured_with(wildcards):
    """Networks that a measurement uses besides the estimator, where they are there."""
    files = measured_files(wildcards)
    if settings.identity:
        files["identity"] = "results/models/identity/model.safetensors"
    files |= coder_files()
    if weights := [asset["path"] for asset in JUDGES.values() if isfile(asset["path"])]:
        files["weights"] = weights
    return files


def coder_files():
    """The 3-D face encoder that reads factors from pictures, where such are evaluated."""
    if not settings.coded:
        return {}
    files = encoder_files(settings.coder)
    return {"encoder": [*files.values()], "head": HEAD}


def coder_weights():
    """Published weights of that encoder, none of one that is trained here."""
    return settings.encoders[settings.coder].weights if settings.coded else {}


def perturbed_file(wildcards):
    """Readings of turned factors; the pseudo-models cannot be told to turn anything."""
    if wildcards.model in settings.models and settings.evaluation.perturbed:
        return {"perturbed": "results/evaluation/{model}/{dataset}/perturbed.parquet"}
    return {}


# What edits codes of an inverter, and the inverters themselves, are also compared with inversions,
# where they see faces in the view that all are compared in.
INVERTED = {
    name: one.entry
    for model, declaration in settings.declarations.items()
    for one in declaration.networks
    if one.role == "inverter" and model in settings.rows
    for name in (one.entry, model)
    if name in settings.rows and settings.data_of(name).view == DEFAULT
}
INVERTERS = [
    name
    for name in settings.rows
    if name in settings.models
    and settings.models[name].class_ == "inversion"
    and settings.data_of(name).view == DEFAULT
]
