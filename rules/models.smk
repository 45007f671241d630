from regaze.training.settings import transfer_file


def required_files(wildcards):
    """What a training takes beyond faces: codes, masks, trained networks, first weights."""
    needs = requirements(settings.models[wildcards.model])
    files = told_codes(wildcards)
    if needs.masks:
        files["masks"] = expand(
            "results/{dataset}/masks/shard-{shard}.h5", dataset=TRAINED_ON, shard=SHARDS
        )
    for role in ("estimator", "teacher"):
        if (name := getattr(needs, role)) is not None:
            files[role] = f"results/models/{name}/model.safetensors"
    start = getattr(settings.models[wildcards.model].train, "transfer", None)
    if start is not None:
        files["transfer"] = transfer_file(start)
    if checkpoint := getattr(settings.models[wildcards.model], "checkpoint", None):
        files["checkpoint"] = checkpoint
    labels = settings.models[wildcards.model].labels
    if labels is not None and labels.estimator is not None:
        files["labeller"] = f"results/models/{labels.estimator}/model.safetensors"
    return files


def training_code(entry):
    """Version of what decides the weights of an entry of `models`."""
    return code_version(
        f"redirectors/{entry.class_}",
        "redirectors/base.py",
        "redirectors/face_codes.py",
        "codes.py",
        "latents.py",
        "face3d/gaze.py",
        "face3d/rotations.py",
        "diffusion",
        "metrics/redirection.py",
        "training",
        "images.py",
        "angles.py",
    )


rule models:
    input:
        expand("results/models/{model}/model.safetensors", model=settings.models),


rule train_model:
    """Train one redirector."""
    input:
        unpack(required_files),
        faces=face_shards,
        checked=f"results/{TRAINED_ON}/faces/rejected.parquet",
        split=f"results/{TRAINED_ON}/split.json",
    output:
        model="results/models/{model}/model.safetensors",
        record="results/models/{model}/model.json",
        curve="results/models/{model}/curve.csv",
    log:
        "logs/train_model/{model}.log",
    benchmark:
        "benchmarks/rules/train_model/{model}.tsv"
    wildcard_constraints:
        model="|".join(settings.models),
    # Before the estimators: the longest jobs last would leave cores idle at the end.
    priority: 10
    conda:
        "../envs/main.yaml"
    threads: lambda wc: settings.models[wc.model].train.threads
    resources:
        **asks("train_model", train=lambda wc: settings.models[wc.model].train),
    params:
        name="{model}",
        state="results/state/{model}",
        config=lambda wc: settings.models[wc.model].resolve(),
        seed=settings.seed,
        code=lambda wc: training_code(settings.models[wc.model]),
    script:
        "../workflow_scripts/train_model.py"
