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


rule inverted:
    input:
        [
            f"results/evaluation/{model}/{dataset}/inverted/metrics.json"
            for model in INVERTED
            for dataset in settings.evaluated
        ],
        [
            f"results/evaluation/{model}/{dataset}/inverter.json"
            for model in INVERTERS
            for dataset in settings.evaluated
        ],


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


if INVERTED:

    rule measure_inverted:
        """Measure the samples of one model against inversions of the true pictures."""
        input:
            unpack(measured_with),
            samples="results/evaluation/{model}/{dataset}/samples.h5",
            pairs="results/{dataset}/pairs.parquet",
            faces=face_shards,
            estimator=f"results/models/{settings.evaluation.estimator}/model.safetensors",
            inverter=lambda wc: f"results/models/{INVERTED[wc.model]}/model.safetensors",
        output:
            metrics="results/evaluation/{model}/{dataset}/inverted/metrics.json",
            per_pair="results/evaluation/{model}/{dataset}/inverted/per_pair.parquet",
        log:
            "logs/measure_inverted/{model}-{dataset}.log",
        wildcard_constraints:
            model="|".join(INVERTED),
        conda:
            "../envs/main.yaml"
        threads: 1
        resources:
            **asks("measure_inverted"),
        params:
            seed=settings.seed,
            resamples=settings.evaluation.bootstrap,
            background=background_of,
            assets=JUDGES,
            published=coder_weights(),
        script:
            "../workflow_scripts/measure_inverted.py"


if INVERTERS:

    rule measure_inverter:
        """What an inverter loses of unseen people, and what it draws of chance."""
        input:
            unpack(measured_files),
            faces=face_shards,
            split=lambda wc: f"results/{wc.dataset}/split.json",
            estimator=f"results/models/{settings.evaluation.estimator}/model.safetensors",
            inverter="results/models/{model}/model.safetensors",
        output:
            told="results/evaluation/{model}/{dataset}/inverter.json",
            sheet="results/evaluation/{model}/{dataset}/inverter.png",
        log:
            "logs/measure_inverter/{model}-{dataset}.log",
        wildcard_constraints:
            model="|".join(INVERTERS),
        conda:
            "../envs/main.yaml"
        threads: 1
        resources:
            **asks("measure_inverter"),
        params:
            seed=settings.seed,
            persons=settings.evaluation.split,
            background=background_of,
        script:
            "../workflow_scripts/measure_inverter.py"


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
