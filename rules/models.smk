include: "training_inputs.smk"


rule models:
    input:
        map(made_model, settings.models),


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
        model="|".join(
            name for name in settings.models if name not in settings.personal
        )
        or "none",
    conda:
        "../envs/main.yaml"
    threads: lambda wc: settings.models[wc.model].train.threads
    resources:
        **asks("train_model", train=lambda wc: settings.models[wc.model].train),
    params:
        name="{model}",
        state="results/state/{model}",
        config=lambda wc: settings.models[wc.model].resolve(),
        networks=lambda wc: network_options(wc.model),
        seed=settings.seed,
    script:
        "../workflow_scripts/train_model.py"


if settings.personal:

    rule train_albums:
        """Train one redirector for every person of a shard, on their albums."""
        input:
            unpack(required_files),
            faces=lambda wc: shards_of(learnt_from(wc.model)),
            checked=lambda wc: f"results/{learnt_from(wc.model)}/faces/rejected.parquet",
            split=lambda wc: f"results/{settings.data_of(wc.model).labelled}/split.json",
            albums=lambda wc: f"results/{settings.data_of(wc.model).labelled}/albums.json",
        output:
            models=directory("results/models/{model}/album-{shard}"),
        log:
            "logs/train_albums/{model}-{shard}.log",
        benchmark:
            "benchmarks/rules/train_albums/{model}-{shard}.tsv"
        wildcard_constraints:
            model="|".join(settings.personal),
        conda:
            "../envs/main.yaml"
        threads: lambda wc: settings.models[wc.model].train.threads
        resources:
            **asks("train_albums", train=lambda wc: settings.models[wc.model].train),
        params:
            name="{model}",
            state="results/state/{model}",
            config=lambda wc: settings.models[wc.model].resolve(),
            networks=lambda wc: network_options(wc.model),
            size=lambda wc: settings.data_of(wc.model).album,
            shard=lambda wc: int(wc.shard),
            shards=settings.shards,
            seed=settings.seed,
        script:
            "../workflow_scripts/train_albums.py"

    rule gather_albums:
        """One record and one curve of all models of an entry."""
        input:
            models=expand("results/models/{{model}}/album-{shard}", shard=SHARDS),
        output:
            record="results/models/{model}/model.json",
            curve="results/models/{model}/curve.csv",
        log:
            "logs/gather_albums/{model}.log",
        wildcard_constraints:
            model="|".join(settings.personal),
        conda:
            "../envs/main.yaml"
        threads: 1
        resources:
            **asks("gather_albums"),
        params:
            name="{model}",
        script:
            "../workflow_scripts/gather_albums.py"
