rule samples:
    input:
        expand(
            "results/evaluation/{model}/{dataset}/samples.h5",
            model=settings.rows,
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
        faces=face_shards,
        pairs="results/{dataset}/pairs.parquet",
        model=model_folder,
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
        sampling=lambda wc: (
            settings.sampling.model_dump() if wc.model in settings.models else {}
        ),
        size_px=settings.estimators[settings.evaluation.estimator].size_px,
        code=code_version(
            "redirectors/sample.py",
            "redirectors/face_codes.py",
            "latents.py",
            "diffusion",
            "images.py",
        ),
    script:
        "../workflow_scripts/sample_model.py"
