rule report:
    input:
        "results/report/index.html",


rule write_report:
    """One self-contained page that compares all methods, and its table as CSV."""
    input:
        metrics=expand(
            "results/evaluation/{model}/{dataset}/metrics.json",
            model=settings.rows,
            dataset=settings.evaluated,
        ),
        samples=expand(
            "results/evaluation/{model}/{dataset}/{file}",
            model=settings.rows,
            dataset=settings.evaluated,
            file=["samples.h5", "speed.json"],
        ),
        models=expand("results/models/{model}/model.json", model=settings.models),
        estimators=expand(
            "results/models/{estimator}/model.json", estimator=settings.estimators
        ),
        encoders=expand("results/models/{encoder}/model.json", encoder=SHOWN_ENCODERS),
        faces=expand(
            "results/{dataset}/faces/shard-{shard}.h5",
            dataset=settings.evaluated,
            shard=SHARDS,
        ),
        pairs=expand("results/{dataset}/pairs.parquet", dataset=settings.evaluated),
        rejected=expand(
            "results/{dataset}/faces/rejected.parquet", dataset=settings.evaluated
        ),
        sheets=expand(
            "results/{dataset}/faces/contact-sheet.png", dataset=settings.evaluated
        ),
    output:
        page="results/report/index.html",
        table="results/report/comparison.csv",
    log:
        "logs/write_report.log",
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        datasets=settings.evaluated,
        rows=settings.rows,
        evaluator=settings.evaluation.estimator,
        settings=settings.model_dump(mode="json", by_alias=True, exclude_none=True),
        code=code_version("report", "metrics/bootstrap.py", "angles.py", "animation.py"),
    script:
        "../workflow_scripts/write_report.py"
