from regaze.page.settings import atlased
from regaze.redirectors.facts import facts_of

# Variants of sampling with their folders: those of the study, and all pairs by guidance weight.
STUDY_ENTRIES = [
    {
        "model": model,
        "variant": variant,
        "changes": changes,
        "folder": f"results/{folder}/{model}/{TRAINED_ON}/{variant}",
        "all_pairs": folder == "evaluation",
    }
    for folder, models, variants in (
        ("study", STUDIED, VARIANTS),
        ("evaluation", settings.weighted, WEIGHTS),
    )
    for model in models
    for variant, changes in variants.items()
]


# Facts of the methods of this run: data, which no version of their code is of.
METHOD_FACTS = [
    str(facts_of(name))
    for name in sorted({entry.class_ for entry in settings.models.values()})
]


rule report:
    input:
        "results/report/index.html",
        expand(
            "results/evaluation/{model}/{dataset}/samples.gif",
            model=settings.animated,
            dataset=settings.evaluated,
        ),


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
        masks=expand(
            "results/{dataset}/masks/shard-{shard}.h5",
            dataset=filter(settings.without_background, settings.evaluated),
            shard=SHARDS,
        ),
        study=expand(
            "{folder}/{file}",
            folder=[entry["folder"] for entry in STUDY_ENTRIES],
            file=["samples.h5", "speed.json", "metrics.json", "per_pair.parquet"],
        ),
        inverted=[
            f"results/evaluation/{model}/{TRAINED_ON}/inverted/metrics.json"
            for model in INVERTED
        ],
        inverters=expand(
            "results/evaluation/{model}/{dataset}/inverter.{kind}",
            model=INVERTERS,
            dataset=TRAINED_ON,
            kind=["json", "png"],
        ),
        atlases=expand("results/report/atlas/{model}.html", model=atlased(settings)),
    output:
        page="results/report/index.html",
        table="results/report/comparison.csv",
        study="results/report/study.csv",
    log:
        "logs/write_report.log",
    conda:
        "../envs/main.yaml"
    threads: 1
    resources:
        **asks("write_report"),
    params:
        datasets=settings.evaluated,
        rows=settings.rows,
        evaluator=settings.evaluation.estimator,
        background=list(settings.evaluation.background),
        study=STUDY_ENTRIES,
        inverted=INVERTED,
        kind=STUDY.kind,
        settings=settings.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude={"resources"}
        ),
        facts=METHOD_FACTS,
    script:
        "../workflow_scripts/write_report.py"
