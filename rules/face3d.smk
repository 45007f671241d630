include: "face3d_inputs.smk"


rule latents:
    input:
        expand(
            "results/{dataset}/latents/{encoder}/part-{shard}.parquet",
            dataset=settings.evaluated,
            encoder=settings.encoders,
            shard=SHARDS,
        ),


rule masks:
    input:
        expand(
            "results/{dataset}/masks/shard-{shard}.h5",
            dataset=settings.evaluated,
            shard=SHARDS,
        ),
        expand("results/{dataset}/masks/contact-sheet.png", dataset=settings.evaluated),


rule acquired:
    input:
        [f"results/acquired/{ACQUIRE_ENCODER}"] if settings.acquire.photos else [],


rule make_head:
    """The head model that the capture and all encoders share."""
    input:
        given=settings.capture.head_model or [],
    output:
        head=HEAD,
    log:
        "logs/make_head.log",
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        **asks("make_head"),
    params:
        head_model=settings.capture.head_model or "procedural",
    script:
        "../workflow_scripts/make_head.py"


if SYNTHETIC is not None:

    rule train_deca:
        """Train one 3-D face encoder on rendered faces, whose codes are known."""
        input:
            faces=expand(f"results/{SYNTHETIC}/faces/shard-{{shard}}.h5", shard=SHARDS),
            checked=f"results/{SYNTHETIC}/faces/rejected.parquet",
            split=f"results/{SYNTHETIC}/split.json",
            capture=f"results/{SYNTHETIC}/capture",
            head=HEAD,
        output:
            model="results/models/{encoder}/model.safetensors",
            record="results/models/{encoder}/model.json",
            curve="results/models/{encoder}/curve.csv",
            quality="results/models/{encoder}/quality.png",
        log:
            "logs/train_deca/{encoder}.log",
        benchmark:
            "benchmarks/rules/train_deca/{encoder}.tsv"
        conda:
            "../envs/main.yaml"
        threads: lambda wc: settings.encoders[wc.encoder].train.threads
        resources:
            **asks("train_deca", train=lambda wc: settings.encoders[wc.encoder].train),
        params:
            name="{encoder}",
            state="results/state/{encoder}",
            config=lambda wc: settings.encoders[wc.encoder].resolve(),
            seed=settings.seed,
        script:
            "../workflow_scripts/train_deca.py"


rule encode_shard:
    """3-D face codes of one shard."""
    input:
        unpack(lambda wc: encoder_files(wc.encoder)),
        faces="results/{dataset}/faces/shard-{shard}.h5",
        head=HEAD,
    output:
        latents="results/{dataset}/latents/{encoder}/part-{shard}.parquet",
    log:
        "logs/encode_shard/{dataset}-{encoder}-{shard}.log",
    benchmark:
        "benchmarks/rules/encode_shard/{dataset}-{encoder}-{shard}.tsv"
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        **asks("encode_shard", lambda wc: one_gpu(wc.encoder)),
        device=lambda wc: device_of(wc.encoder),
    params:
        folder="results/models/{encoder}",
        stated=lambda wc: stated_head(wc.encoder),
    script:
        "../workflow_scripts/encode_shard.py"


rule mask_shard:
    """Head, eyes and parts of the faces of one shard."""
    input:
        unpack(mask_files),
        faces="results/{dataset}/faces/shard-{shard}.h5",
    output:
        masks="results/{dataset}/masks/shard-{shard}.h5",
    log:
        "logs/mask_shard/{dataset}-{shard}.log",
    benchmark:
        "benchmarks/rules/mask_shard/{dataset}-{shard}.tsv"
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        **asks("mask_shard"),
    params:
        method=mask_method,
        options=mask_options,
    script:
        "../workflow_scripts/mask_shard.py"


rule draw_masks:
    """Masks over faces, to be looked at."""
    input:
        faces=face_shards,
        masks=expand("results/{{dataset}}/masks/shard-{shard}.h5", shard=SHARDS),
    output:
        sheet="results/{dataset}/masks/contact-sheet.png",
    log:
        "logs/draw_masks/{dataset}.log",
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        **asks("draw_masks"),
    script:
        "../workflow_scripts/draw_masks.py"


rule acquire_faces:
    """Meshes, codes, landmarks and pictures of the faces in the user's photos."""
    input:
        unpack(acquire_files),
        photos=acquired_photos,
        head=HEAD,
    output:
        faces=directory("results/acquired/{encoder}"),
    log:
        "logs/acquire_faces/{encoder}.log",
    benchmark:
        "benchmarks/rules/acquire_faces/{encoder}.tsv"
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        **asks("acquire_faces", lambda wc: one_gpu(wc.encoder)),
        device=lambda wc: device_of(wc.encoder),
    params:
        folder="results/models/{encoder}",
        stated=lambda wc: stated_head(wc.encoder),
        photos=lambda wc: acquired_manifest(),
        detector=acquired_detector(),
        options=dict(
            landmarks=settings.acquire.landmarks,
            gaze=settings.acquire.gaze and [*map(radians, settings.acquire.gaze)],
            extract_texture=settings.acquire.photo_texture,
            animate=settings.acquire.turntable,
        ),
    script:
        "../workflow_scripts/acquire_faces.py"
