rule inversions:
    input:
        [
            path
            for model, declaration in settings.declarations.items()
            for one in declaration.inputs
            if one.kind == "inversions"
            for path in shards(one, learnt_from(model), SHARDS)
        ],


rule invert_shard:
    """Faces of one shard that somebody learns from, as an inverter draws them, and their codes."""
    input:
        faces="results/{dataset}/faces/shard-{shard}.h5",
        split=lambda wc: f"results/{divided(wc.dataset)[0]}/split.json",
        model="results/models/{inverter}/model.safetensors",
        record="results/models/{inverter}/model.json",
    output:
        inversions="results/{dataset}/inversions/{inverter}/shard-{shard}.h5",
    log:
        "logs/invert_shard/{dataset}-{inverter}-{shard}.log",
    benchmark:
        "benchmarks/rules/invert_shard/{dataset}-{inverter}-{shard}.tsv"
    wildcard_constraints:
        inverter="|".join(
            name for name, one in settings.models.items() if one.class_ == "inversion"
        )
        or "none",
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        **asks(
            "invert_shard", lambda wc: min(1, settings.models[wc.inverter].train.gpus)
        ),
    script:
        "../workflow_scripts/invert_shard.py"
