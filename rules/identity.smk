if settings.identity:

    rule train_identity:
        """Train the face recogniser, or take over a published one; verify it on test."""
        input:
            # A published one is named by its path; the rule runs again when its file changes.
            [settings.identity.checkpoint] if settings.identity.checkpoint else [],
            faces=face_shards,
            checked=f"results/{TRAINED_ON}/faces/rejected.parquet",
            split=f"results/{TRAINED_ON}/split.json",
        output:
            model="results/models/identity/model.safetensors",
            record="results/models/identity/model.json",
            curve="results/models/identity/curve.csv",
        log:
            "logs/train_identity.log",
        benchmark:
            "benchmarks/rules/train_identity.tsv"
        conda:
            "../envs/main.yaml"
        threads: settings.identity.train.threads
        resources:
            **asks("train_identity", train=lambda wc: settings.identity.train),
        params:
            state="results/state/identity",
            config=settings.identity.model_dump(),
            size_px=settings.estimators[settings.evaluation.estimator].size_px,
            seed=settings.seed,
        script:
            "../workflow_scripts/train_identity.py"
