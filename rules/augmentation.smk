include: "augmentation_inputs.smk"


rule augmentation:
    input:
        f"{FEW_ROOT}/index.html",
        expand(
            f"{FEW_ROOT}/faces/{{redirector}}/{{draw}}-Redirected_samples.h5",
            redirector=FEW.redirectors if FEW.export else [],
            draw=DRAWS,
        ),


rule train_labelled_redirector:
    """Train a redirector with the labels of few samples."""
    input:
        unpack(augmenting_training),
        faces=lambda wc: shards_of(learnt_from(wc.redirector)),
        checked=lambda wc: f"results/{learnt_from(wc.redirector)}/faces/rejected.parquet",
        split=f"results/{TRAINED_ON}/split.json",
    output:
        model="results/augmentation/models/{redirector}/{draw}/model.safetensors",
        record="results/augmentation/models/{redirector}/{draw}/model.json",
        curve="results/augmentation/models/{redirector}/{draw}/curve.csv",
    log:
        "logs/train_labelled_redirector/{redirector}-{draw}.log",
    benchmark:
        "benchmarks/rules/train_labelled_redirector/{redirector}-{draw}.tsv"
    wildcard_constraints:
        **FEW_CONSTRAINTS,
    conda:
        "../envs/main.yaml"
    threads: lambda wc: settings.models[wc.redirector].train.threads
    resources:
        **asks(
            "train_labelled_redirector",
            train=lambda wc: settings.models[wc.redirector].train,
        ),
    params:
        name="{redirector}-{draw}",
        state="results/state/augmentation/{redirector}-{draw}",
        config=augmenting_config,
        networks=lambda wc: network_options(wc.redirector),
        seed=lambda wc: settings.seed + Draw.parse(wc.draw).seed,
    script:
        "../workflow_scripts/train_model.py"


rule augment_faces:
    """Redirect the labelled samples to directions drawn from their labels."""
    input:
        unpack(augmenting_inputs),
        faces=face_shards,
        split=f"results/{TRAINED_ON}/split.json",
        model=augmenting_redirector,
    output:
        faces="results/augmentation/faces/{redirector}/{draw}.h5",
    log:
        "logs/augment_faces/{redirector}-{draw}.log",
    benchmark:
        "benchmarks/rules/augment_faces/{redirector}-{draw}.tsv"
    wildcard_constraints:
        **FEW_CONSTRAINTS,
    conda:
        "../envs/main.yaml"
    threads: settings.sampling.threads
    resources:
        **asks("augment_faces", settings.sampling.gpus),
    params:
        draw=lambda wc: Draw.parse(wc.draw).plain,
        seed=lambda wc: settings.seed + Draw.parse(wc.draw).seed,
        per_sample=FEW.targets,
        sampling=lambda wc: settings.sampling_of(wc.redirector),
    script:
        "../workflow_scripts/augment_faces.py"


rule export_augmented:
    """Augmented faces as ST-ED's code reads them."""
    input:
        faces="results/augmentation/faces/{redirector}/{draw}.h5",
    output:
        samples="results/augmentation/faces/{redirector}/{draw}-Redirected_samples.h5",
    log:
        "logs/export_augmented/{redirector}-{draw}.log",
    wildcard_constraints:
        **FEW_CONSTRAINTS,
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        **asks("export_augmented"),
    script:
        "../workflow_scripts/export_augmented.py"


rule train_labelled_estimator:
    """Train an estimator on few labels, and measure it on people whom nobody learnt from."""
    input:
        faces=lambda wc: shards_of(seen_in_training(wc.estimator)),
        checked=lambda wc: f"results/{seen_in_training(wc.estimator)}/faces/rejected.parquet",
        split=f"results/{TRAINED_ON}/split.json",
        augmented=augmented_faces,
    output:
        model="results/augmentation/estimators/{estimator}/{maker}/{draw}/model.safetensors",
        record="results/augmentation/estimators/{estimator}/{maker}/{draw}/model.json",
        curve="results/augmentation/estimators/{estimator}/{maker}/{draw}/curve.csv",
        errors="results/augmentation/estimators/{estimator}/{maker}/{draw}/errors.parquet",
    log:
        "logs/train_labelled_estimator/{estimator}-{maker}-{draw}.log",
    benchmark:
        "benchmarks/rules/train_labelled_estimator/{estimator}-{maker}-{draw}.tsv"
    wildcard_constraints:
        **FEW_CONSTRAINTS,
    conda:
        "../envs/main.yaml"
    threads: lambda wc: settings.estimators[wc.estimator].train.threads
    resources:
        **asks(
            "train_labelled_estimator",
            train=lambda wc: settings.estimators[wc.estimator].train,
        ),
    params:
        name="{estimator}-{maker}-{draw}",
        state="results/state/augmentation/{estimator}-{maker}-{draw}",
        config=lambda wc: estimator_entry(
            settings.estimators[wc.estimator],
            Draw.parse(wc.draw),
            FEW.images,
            "labelled" if wc.maker == "real" else "augmented",
        ),
        seed=lambda wc: settings.seed + Draw.parse(wc.draw).seed,
        persons=settings.evaluation.split,
    script:
        "../workflow_scripts/train_labelled_estimator.py"


rule write_augmentation:
    """Table, figure and page of error against number of labels."""
    input:
        errors=FEW_ERRORS,
    output:
        table="results/augmentation/table.csv",
        figure="results/augmentation/figure.png",
        page="results/augmentation/index.html",
    log:
        "logs/write_augmentation.log",
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        **asks("write_augmentation"),
    params:
        about=FEW.about(TRAINED_ON, settings.estimators, settings.evaluation.split),
        resamples=settings.evaluation.bootstrap,
        seed=settings.seed,
    script:
        "../workflow_scripts/write_augmentation.py"
