include: "training_inputs.smk"


rule models:
    input:
        expand("results/models/{model}/model.safetensors", model=settings.models),


rule train_model:
    """Train one redirector."""
    input:
        unpack(required_files),
        faces=lambda wc: shards_of(learnt_from(wc.model)),
        checked=lambda wc: f"results/{learnt_from(wc.model)}/faces/rejected.parquet",
        split=lambda wc: f"results/{settings.data_of(wc.model).labelled}/split.json",
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
    script:
        "../workflow_scripts/train_model.py"
