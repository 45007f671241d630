from regaze.landmarks.settings import detector_options, fetched_weights, weight_files

WITHOUT_POSES = [
    name for name, options in settings.datasets.items() if options.needs_landmarks()
]
FETCHED = fetched_weights(settings.landmarks, settings.assets)
# Options of data sets that play no part before normalisation.
NO_MATTER = {"split", "undistort_camera", "watch", "capture"}


rule landmarks:
    input:
        expand(
            "results/{dataset}/supplementary/shard-{shard}.h5",
            dataset=WITHOUT_POSES,
            shard=SHARDS,
        ),


rule detect_landmarks:
    """68 landmarks of the subject's face in every photo of one shard of persons."""
    input:
        unpack(source_files),
        unpack(lambda wc: weight_files(settings.landmarks, settings.assets)),
    output:
        landmarks="results/{dataset}/landmarks/shard-{shard}.h5",
    log:
        "logs/detect_landmarks/{dataset}-{shard}.log",
    benchmark:
        "benchmarks/rules/detect_landmarks/{dataset}-{shard}.tsv"
    conda:
        "../envs/main.yaml"
    threads: settings.landmarks.threads
    resources:
        **asks("detect_landmarks", settings.landmarks.gpus),
        # Here and not in params: they change no result, so a change of them re-runs nothing.
        device=settings.landmarks.device,
        batch=settings.landmarks.batch,
    params:
        **detector_options(settings.landmarks, settings.assets),
        source=lambda wc: settings.options_of(wc.dataset).model_dump(exclude=NO_MATTER),
        raw=raw_shard,
        shards=settings.shards,
    script:
        "../workflow_scripts/detect_landmarks.py"


rule estimate_poses:
    """Head poses and gaze targets of one shard, as a supplementary file."""
    input:
        unpack(source_files),
        unpack(
            lambda wc: (
                {}
                if settings.options_of(wc.dataset).brings_landmarks()
                else {"found": "results/{dataset}/landmarks/shard-{shard}.h5"}
            )
        ),
    output:
        poses="results/{dataset}/supplementary/shard-{shard}.h5",
    log:
        "logs/estimate_poses/{dataset}-{shard}.log",
    benchmark:
        "benchmarks/rules/estimate_poses/{dataset}-{shard}.tsv"
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        **asks("estimate_poses"),
    params:
        source=lambda wc: settings.options_of(wc.dataset).model_dump(exclude=NO_MATTER),
        raw=raw_shard,
        min_score=settings.landmarks.min_score,
        shards=settings.shards,
    script:
        "../workflow_scripts/estimate_poses.py"


if FETCHED:

    localrules:
        fetch_asset,

    rule fetch_asset:
        """Download weights from where they are published, checked by SHA-256."""
        output:
            **FETCHED,
        log:
            "logs/fetch_asset.log",
        conda:
            "../envs/main.yaml"
        threads: 1
        resources:
            **asks("fetch_asset"),
        script:
            "../workflow_scripts/fetch_asset.py"
