include: "training_inputs.smk"


rule estimators:
    input:
        expand(
            "results/models/{estimator}/model.safetensors",
            estimator=settings.estimators,
        ),


rule train_estimator:
    """Train one gaze and head estimator, or take published weights."""
    input:
        unpack(published_weights),
        faces=lambda wc: shards_of(seen_in_training(wc.estimator)),
        checked=lambda wc: f"results/{seen_in_training(wc.estimator)}/faces/rejected.parquet",
        split=f"results/{TRAINED_ON}/split.json",
    output:
        model="results/models/{estimator}/model.safetensors",
        record="results/models/{estimator}/model.json",
        curve="results/models/{estimator}/curve.csv",
    log:
        "logs/train_estimator/{estimator}.log",
    benchmark:
        "benchmarks/rules/train_estimator/{estimator}.tsv"
    conda:
        "../envs/main.yaml"
    threads: lambda wc: settings.estimators[wc.estimator].train.threads
    resources:
        **asks(
            "train_estimator", train=lambda wc: settings.estimators[wc.estimator].train
        ),
    params:
        name="{estimator}",
        state="results/state/{estimator}",
        config=lambda wc: settings.estimators[wc.estimator].model_dump(),
        seed=settings.seed,
    script:
        "../workflow_scripts/train_estimator.py"
