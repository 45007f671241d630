rule metrics:
    input:
        expand(
            "results/evaluation/{model}/{dataset}/metrics.json",
            model=settings.rows,
            dataset=settings.evaluated,
        ),


rule measure_model:
    """Measure the samples of one model with the evaluation estimator."""
    input:
        samples="results/evaluation/{model}/{dataset}/samples.h5",
        pairs="results/{dataset}/pairs.parquet",
        faces=face_shards,
        estimator=f"results/models/{settings.evaluation.estimator}/model.safetensors",
    output:
        metrics="results/evaluation/{model}/{dataset}/metrics.json",
        per_pair="results/evaluation/{model}/{dataset}/per_pair.parquet",
    log:
        "logs/measure_model/{model}-{dataset}.log",
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=120,
    params:
        seed=settings.seed,
        resamples=settings.evaluation.bootstrap,
        code=code_version("metrics", "estimators", "images.py", "angles.py"),
    script:
        "../workflow_scripts/measure_model.py"
