"""The study of few labels: its draws, and what each of its trainings reads."""

from types import SimpleNamespace

from regaze.few_labels.settings import Draw, estimator_entry, redirector_entry

FEW = settings.augmentation
FEW_ROOT = "results/augmentation"
DRAWS = [Draw(count, seed).name for count in FEW.counts for seed in FEW.seeds]
FEW_CONSTRAINTS = {
    "estimator": "|".join(settings.estimators),
    "redirector": "|".join(settings.models) or "none",
    "maker": "|".join(["real", *settings.models]),
    "draw": r"n(\d+|all)-s\d+",
}


def augmenting_redirector(wildcards):
    """The redirector that makes the pictures: one that knows these labels, or all."""
    entry = settings.models[wildcards.redirector]
    if FEW.redirector_labels == "all":
        return f"results/models/{wildcards.redirector}/model.safetensors"
    # What `models` trains is what a training with all labels would be again.
    same = entry.labels is None and FEW.redirector_images is None
    if Draw.parse(wildcards.draw).subset is None and same:
        return f"results/models/{wildcards.redirector}/model.safetensors"
    return (
        f"{FEW_ROOT}/models/{wildcards.redirector}/{wildcards.draw}/model.safetensors"
    )


def augmenting_config(wildcards):
    """Configuration of a redirector that is trained for one point of the study."""
    draw = Draw.parse(wildcards.draw)
    return redirector_entry(
        settings.models[wildcards.redirector],
        draw,
        FEW.redirector_images,
        labeller=few_labeller(wildcards.redirector, draw),
    )


def few_labeller(redirector, draw):
    """The study's estimator, where it labels the pictures without labels."""
    bare = settings.declarations[redirector].unlabelled_targets
    wanted = FEW.pseudo_labels and not bare and draw.subset is not None
    return FEW.estimator if wanted else None


def augmenting_training(wildcards):
    """What a redirector of the study learns with; estimators know its labels and no others."""
    files = required_files(SimpleNamespace(model=wildcards.redirector))
    trained = f"{FEW_ROOT}/estimators/{{name}}/real/{wildcards.draw}/model.safetensors"
    names = {
        one.role: one.entry
        for one in settings.declarations[wildcards.redirector].networks
        if one.section == "estimators"
    }
    labeller = few_labeller(wildcards.redirector, Draw.parse(wildcards.draw))
    names |= {"labeller": labeller} if labeller is not None else {}
    return files | {
        f"network_{role}": trained.format(name=name) for role, name in names.items()
    }


def augmenting_inputs(wildcards):
    """What the redirector reads of the faces besides pixels, and uses besides its weights."""
    model = SimpleNamespace(model=wildcards.redirector)
    files = redirected_files(wildcards.redirector, TRAINED_ON)
    return files | used_networks(model, making=True)


def augmented_faces(wildcards):
    """The augmented faces that an estimator learns from, none for real pictures alone."""
    if wildcards.maker == "real":
        return []
    return f"{FEW_ROOT}/faces/{wildcards.maker}/{wildcards.draw}.h5"


FEW_ERRORS = expand(
    f"{FEW_ROOT}/estimators/{FEW.estimator}/{{maker}}/{{draw}}/errors.parquet",
    maker=["real", *FEW.redirectors] if FEW.estimator else [],
    draw=DRAWS,
)
