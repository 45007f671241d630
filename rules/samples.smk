from regaze.report.settings import weight_variants

# Sampling options that decide no picture of `sample_model`.
NO_PICTURE = {"max_w", "sample_only", "save_gif"}
PICTURES = settings.sampling.model_dump(exclude=NO_PICTURE)
SAMPLING_CODE = code_version(
    "redirectors/sample.py",
    "redirectors/face_codes.py",
    "latents.py",
    "diffusion",
    "images.py",
    "masks/background.py",
)
WEIGHTS = weight_variants(settings.sampling.weights)
STUDY = settings.evaluation.study
STUDIED = [model for model in STUDY.models or [] if model in settings.rows]
VARIANTS = STUDY.variants() if STUDIED else {}
WEIGHT_SAMPLES = "results/evaluation/{model}/{dataset}/{variant}/samples.h5"


def sampled_files(wildcards):
    """The model, and the codes or masks that it or the data set is sampled with."""
    model = model_folder(wildcards)
    files = {"model": model} if model else {}
    return files | told_codes(wildcards) | measured_files(wildcards)


def measured_files(wildcards):
    """Masks of a data set whose background is removed."""
    if not settings.without_background(wildcards.dataset):
        return {}
    part = "results/{dataset}/masks/shard-{shard}.h5"
    return {"masks": expand(part, dataset=wildcards.dataset, shard=SHARDS)}


def background_of(wildcards):
    """The colour that takes the background's place, where it is removed."""
    if settings.without_background(wildcards.dataset):
        return list(settings.evaluation.background)
    return []


rule samples:
    input:
        expand(
            "results/evaluation/{model}/{dataset}/samples.h5",
            model=settings.rows,
            dataset=settings.evaluated,
        ),
        expand(
            WEIGHT_SAMPLES,
            model=settings.weighted,
            dataset=settings.evaluated,
            variant=WEIGHTS,
        ),
        expand(
            "results/evaluation/{model}/{dataset}/samples.gif",
            model=settings.animated,
            dataset=settings.evaluated,
        ),


rule fix_pairs:
    """Draw once which pictures every method redirects, and to which directions."""
    input:
        faces=face_shards,
        checked="results/{dataset}/faces/rejected.parquet",
        split="results/{dataset}/split.json",
    output:
        pairs="results/{dataset}/pairs.parquet",
    log:
        "logs/fix_pairs/{dataset}.log",
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        dataset="{dataset}",
        split=settings.evaluation.split,
        counts=settings.evaluation.pairs.model_dump(),
        same_deg=settings.evaluation.same_deg,
        seed=settings.seed,
        code=code_version("pairs.py"),
    script:
        "../workflow_scripts/fix_pairs.py"


rule sample_model:
    """Redirect all evaluation pairs with one model."""
    input:
        unpack(sampled_files),
        faces=face_shards,
        pairs="results/{dataset}/pairs.parquet",
    output:
        samples="results/evaluation/{model}/{dataset}/samples.h5",
        speed="results/evaluation/{model}/{dataset}/speed.json",
    log:
        "logs/sample_model/{model}-{dataset}.log",
    benchmark:
        "benchmarks/rules/sample_model/{model}-{dataset}.tsv"
    conda:
        "../envs/main.yaml"
    threads: settings.sampling.threads
    resources:
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
        runtime=240,
        gpu=settings.sampling.gpus,
    params:
        name="{model}",
        sampling=lambda wc: PICTURES if wc.model in settings.models else {},
        background=background_of,
        size_px=settings.estimators[settings.evaluation.estimator].size_px,
        code=SAMPLING_CODE,
    script:
        "../workflow_scripts/sample_model.py"


rule draw_path:
    """Animate how a few pictures come out of the noise."""
    input:
        unpack(sampled_files),
        faces=face_shards,
        pairs="results/{dataset}/pairs.parquet",
    output:
        path="results/evaluation/{model}/{dataset}/samples.gif",
    log:
        "logs/draw_path/{model}-{dataset}.log",
    wildcard_constraints:
        model="|".join(settings.models),
    conda:
        "../envs/main.yaml"
    threads: settings.sampling.threads
    resources:
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
        runtime=60,
        gpu=settings.sampling.gpus,
    params:
        sampling=PICTURES,
        background=background_of,
        code=[SAMPLING_CODE, code_version("animation.py")],
    script:
        "../workflow_scripts/draw_path.py"


if WEIGHTS:

    rule sample_weights:
        """Redirect all evaluation pairs with every guidance weight, in one pass."""
        input:
            unpack(sampled_files),
            faces=face_shards,
            pairs="results/{dataset}/pairs.parquet",
        output:
            samples=expand(WEIGHT_SAMPLES, variant=WEIGHTS, allow_missing=True),
            speed=expand(
                "results/evaluation/{model}/{dataset}/{variant}/speed.json",
                variant=WEIGHTS,
                allow_missing=True,
            ),
        log:
            "logs/sample_weights/{model}-{dataset}.log",
        benchmark:
            "benchmarks/rules/sample_weights/{model}-{dataset}.tsv"
        conda:
            "../envs/main.yaml"
        threads: settings.sampling.threads
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=480,
            gpu=settings.sampling.gpus,
        params:
            sampling=PICTURES,
            variants=WEIGHTS,
            background=background_of,
            code=SAMPLING_CODE,
        script:
            "../workflow_scripts/sample_variants.py"


if VARIANTS:

    rule sample_study:
        """Redirect the study's pairs in many and few steps, with and without guidance."""
        input:
            unpack(sampled_files),
            faces=face_shards,
            pairs="results/{dataset}/pairs.parquet",
        output:
            samples=expand(
                "results/study/{model}/{dataset}/{variant}/samples.h5",
                variant=VARIANTS,
                allow_missing=True,
            ),
            speed=expand(
                "results/study/{model}/{dataset}/{variant}/speed.json",
                variant=VARIANTS,
                allow_missing=True,
            ),
        log:
            "logs/sample_study/{model}-{dataset}.log",
        benchmark:
            "benchmarks/rules/sample_study/{model}-{dataset}.tsv"
        conda:
            "../envs/main.yaml"
        threads: settings.sampling.threads
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=480,
            gpu=settings.sampling.gpus,
        params:
            sampling=PICTURES,
            variants=VARIANTS,
            pairs={"kind": STUDY.kind, "first": STUDY.pairs},
            background=background_of,
            code=SAMPLING_CODE,
        script:
            "../workflow_scripts/sample_variants.py"
