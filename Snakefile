from snakemake.utils import min_version

from regaze.configfiles import merge, read_arguments
from regaze.face3d.editions import foreign_heads
from regaze.locks import Occupied, hold_workflow
from regaze.faults import missing_files
from regaze.progress.plan import Plan
from regaze.settings import load_settings
from regaze.slurm import attend
from regaze.sources.raw import RawSets

min_version("9.10")


configfile: f"{workflow.basedir}/config.yaml"


# Snakemake hands over the texts of mappings; numbers, true and null are what they are in files.
merge(config, read_arguments(workflow.config_settings.config_args))
settings = load_settings(config)
raw_sets = RawSets(settings.datasets)
if workflow.is_main_process:
    if absent := missing_files(settings):
        raise WorkflowError("The configuration names what is not there:", *absent)
    if faults := raw_sets.faults(settings.read):
        raise WorkflowError("Data sets cannot be used:", *faults)
    for line in raw_sets.told(settings.read):
        logger.warning(line)


wildcard_constraints:
    dataset="|".join(dict.fromkeys([*settings.datasets, *settings.face_sets])),
    shard=r"\d{3}",
    estimator="|".join(settings.estimators),
    encoder="|".join(settings.encoders) or "none",
    model="|".join(["copy", "truth", *settings.models]),


localrules:
    all,
    capture,
    landmarks,
    faces,
    latents,
    masks,
    inversions,
    acquired,
    estimators,
    models,
    samples,
    metrics,
    inverted,
    study,
    report,
    augmentation,


include: "rules/staleness.smk"
include: "rules/common.smk"
include: "rules/capture.smk"
include: "rules/landmarks.smk"
include: "rules/faces.smk"
include: "rules/face3d.smk"
include: "rules/estimators.smk"
include: "rules/identity.smk"
include: "rules/inversions.smk"
include: "rules/models.smk"
include: "rules/samples.smk"
include: "rules/metrics.smk"
include: "rules/report.smk"
include: "rules/augmentation.smk"


onstart:
    try:
        hold_workflow()
    except Occupied as error:
        raise WorkflowError(str(error))
    if foreign := foreign_heads(settings.encoders, settings.capture.head_model):
        raise WorkflowError(
            "Weights and head model do not belong together:", *foreign
        )
    attend(workflow, logger)
    plan = Plan.of_workflow(workflow, settings)
    plan.prioritise(workflow.dag)
    for handler in workflow.logger_manager.get_log_handlers():
        if hasattr(handler, "follow"):
            handler.follow(plan)


rule all:
    default_target: True
    input:
        HOME_LATENTS,
        rules.samples.input if settings.sampling.sample_only else rules.report.input,


for entry in workflow.rules:
    if entry.script:
        watch_code(entry)
        compare_whole(entry)
    else:
        ask_for_all_before(entry)
