include: "metrics_inputs.smk"


rule metrics:
    input:
        expand(
            "results/evaluation/{model}/{dataset}/metrics.json",
            model=settings.rows,
            dataset=settings.evaluated,
        ),
        expand(
            "results/evaluation/{model}/{dataset}/{variant}/metrics.json",
            model=settings.weighted,
            dataset=settings.evaluated,
            variant=WEIGHTS,
        ),


rule study:
    input:
        expand(
            "results/study/{model}/{dataset}/{variant}/metrics.json",
            model=STUDIED,
            dataset=TRAINED_ON,
            variant=VARIANTS,
        ),


rule perturb_model:
    """Turn gaze, head and other factors at random, and read what else moves."""
    input:
        unpack(sampled_files),
        unpack(album_file),
        faces=face_shards,
        split="results/{dataset}/split.json",
        estimator=f"results/models/{settings.evaluation.estimator}/model.safetensors",
    output:
        "results/evaluation/{model}/{dataset}/perturbed.parquet",
    log:
        "logs/perturb_model/{model}-{dataset}.log",
    wildcard_constraints:
        model="|".join(settings.models),
    conda:
        "../envs/main.yaml"
    threads: settings.sampling.threads
    resources:
        **asks("perturb_model", settings.sampling.gpus),
    params:
        dataset="{dataset}",
        persons=settings.evaluation.split,
        pictures=settings.evaluation.perturbed,
        seed=settings.seed,
        sampling=sampling_options,
        size_px=compared_size,
        background=background_of,
    script:
        "../workflow_scripts/perturb_model.py"


rule measure_model:
    """Measure the samples of one model with the evaluation estimator."""
    input:
        unpack(measured_with),
        unpack(perturbed_file),
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
        **asks("measure_model"),
    params:
        seed=settings.seed,
        resamples=settings.evaluation.bootstrap,
        background=background_of,
        assets=JUDGES,
        published=coder_weights(),
    script:
        "../workflow_scripts/measure_model.py"


if WEIGHTS:

    use rule measure_model as measure_weights with:
        input:
            unpack(measured_with),
            samples=rules.sample_weights.output.samples,
            pairs=rules.measure_model.input.pairs,
            faces=face_shards,
            estimator=rules.measure_model.input.estimator,
        output:
            metrics=expand(
                "results/evaluation/{model}/{dataset}/{variant}/metrics.json",
                variant=WEIGHTS,
                allow_missing=True,
            ),
            per_pair=expand(
                "results/evaluation/{model}/{dataset}/{variant}/per_pair.parquet",
                variant=WEIGHTS,
                allow_missing=True,
            ),
        log:
            "logs/measure_weights/{model}-{dataset}.log",


if VARIANTS:

    use rule measure_model as measure_study with:
        input:
            unpack(measured_with),
            samples=rules.sample_study.output.samples,
            pairs=rules.measure_model.input.pairs,
            faces=face_shards,
            estimator=rules.measure_model.input.estimator,
        output:
            metrics=expand(
                "results/study/{model}/{dataset}/{variant}/metrics.json",
                variant=VARIANTS,
                allow_missing=True,
            ),
            per_pair=expand(
                "results/study/{model}/{dataset}/{variant}/per_pair.parquet",
                variant=VARIANTS,
                allow_missing=True,
            ),
        log:
            "logs/measure_study/{model}-{dataset}.log",
