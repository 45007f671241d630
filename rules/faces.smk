rule faces:
    input:
        expand("results/{dataset}/faces/rejected.parquet", dataset=settings.face_sets),
        expand("results/{dataset}/faces/contact-sheet.png", dataset=settings.face_sets),
        expand("results/{dataset}/split.json", dataset=settings.read),


rule normalise_shard:
    """Photos of one shard of persons to normalised patches and labels."""
    input:
        unpack(source_files),
        unpack(pose_files),
        sfm_mesh=settings.faces.sfm_mesh or [],
    output:
        faces="results/{dataset}/faces/shard-{shard}.h5",
        rejected="results/{dataset}/faces/rejected-{shard}.parquet",
    log:
        "logs/normalise_shard/{dataset}-{shard}.log",
    benchmark:
        "benchmarks/rules/normalise_shard/{dataset}-{shard}.tsv"
    conda:
        "../envs/main.yaml"
    threads: settings.faces.threads
    resources:
        **asks("normalise_shard"),
    params:
        source=lambda wc: settings.options_of(wc.dataset).model_dump(
            exclude={"split", "watch", "capture"}
        ),
        raw=raw_shard,
        faces=lambda wc: settings.faces_in(wc.dataset).model_dump(
            exclude={"max_rejected", "max_lost", "threads"}
        ),
        shards=settings.shards,
    script:
        "../workflow_scripts/normalise_shard.py"


rule gather_faces:
    """Count what was rejected and who was lost, fail when it is too much, draw a contact sheet."""
    input:
        unpack(raw_root),
        faces=face_shards,
        rejected=expand(
            "results/{{dataset}}/faces/rejected-{shard}.parquet", shard=SHARDS
        ),
    output:
        rejected="results/{dataset}/faces/rejected.parquet",
        sheet="results/{dataset}/faces/contact-sheet.png",
    log:
        "logs/gather_faces/{dataset}.log",
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        **asks("gather_faces"),
    params:
        limits=settings.faces.model_dump(include={"max_rejected", "max_lost"}),
        raw=lambda wc: raw_data(wc) and raw_data(wc).people(),
    script:
        "../workflow_scripts/gather_faces.py"


rule write_split:
    """The data set's split, checked: nobody is in two of train, val and test, all have faces."""
    input:
        unpack(source_files),
        split=split_file,
        checked=lambda wc: f"results/{settings.first_view(wc.dataset)}/faces/rejected.parquet",
    output:
        split="results/{dataset}/split.json",
    log:
        "logs/write_split/{dataset}.log",
    # Before hours of work on photos: a split that lacks somebody ends the run.
    priority: 100
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        **asks("write_split"),
        # Here and not in params: the lists are the same whoever needs them.
        needed=lambda wc: " ".join(settings.needed_lists(wc.dataset)),
    params:
        source=lambda wc: settings.datasets[wc.dataset].model_dump(
            exclude={"watch", "capture"}
        ),
        raw=lambda wc: raw_data(wc) and raw_data(wc).split(),
        seed=settings.seed,
    script:
        "../workflow_scripts/write_split.py"
