include: "samples_inputs.smk"


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


if settings.evaluation.albums:

    rule draw_albums:
        """Draw pictures of evaluated persons for models of their own; no pair has them."""
        input:
            faces=face_shards,
            checked="results/{dataset}/faces/rejected.parquet",
            split="results/{dataset}/split.json",
        output:
            albums="results/{dataset}/albums.json",
        log:
            "logs/draw_albums/{dataset}.log",
        conda:
            "../envs/main.yaml"
        threads: 1
        resources:
            **asks("draw_albums"),
        params:
            dataset="{dataset}",
            split=settings.evaluation.split,
            size=settings.evaluation.albums.size,
            people=settings.evaluation.albums.persons,
            seed=settings.seed,
        script:
            "../workflow_scripts/draw_albums.py"


rule fix_pairs:
    """Draw once which pictures every method redirects, and to which directions."""
    input:
        unpack(album_file),
        unpack(coded_labels),
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
        **asks("fix_pairs"),
    params:
        dataset="{dataset}",
        part=settings.evaluation.split,
        counts=settings.pair_counts,
        coded=settings.coded,
        same_deg=settings.evaluation.same_deg,
        seed=settings.seed,
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
        **asks("sample_model", settings.sampling.gpus),
    params:
        name="{model}",
        sampling=sampling_options,
        background=background_of,
        size_px=compared_size,
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
        **asks("draw_path", settings.sampling.gpus),
    params:
        sampling=sampling_options,
        background=background_of,
    script:
        "../workflow_scripts/draw_path.py"


rule draw_atlas:
    """Draw a few evaluated persons for a grid of gaze directions, which the report links to."""
    input:
        unpack(atlas_files),
        faces=lambda wildcards: shards_of(TRAINED_ON),
        pairs=f"results/{TRAINED_ON}/pairs.parquet",
        estimator=f"results/models/{settings.evaluation.estimator}/model.safetensors",
    output:
        page="results/report/atlas/{model}.html",
    log:
        "logs/draw_atlas/{model}.log",
    wildcard_constraints:
        model="|".join(settings.models),
    conda:
        "../envs/main.yaml"
    threads: settings.sampling.threads
    resources:
        **asks("draw_atlas"),
    params:
        sampling=sampling_options,
        persons=settings.evaluation.atlas,
    script:
        "../workflow_scripts/draw_atlas.py"


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
            **asks("sample_weights", settings.sampling.gpus),
        params:
            sampling=sampling_options,
            size_px=compared_size,
            variants=WEIGHTS,
            background=background_of,
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
            **asks("sample_study", settings.sampling.gpus),
        params:
            sampling=sampling_options,
            size_px=compared_size,
            variants=VARIANTS,
            pairs={"kind": STUDY.kind, "first": STUDY.pairs},
            background=background_of,
        script:
            "../workflow_scripts/sample_variants.py"
