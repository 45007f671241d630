# Jobs to which things happen the first time that they run; test_states.py does them.
from regaze.slurm import attend

FIRST = "if [ ! -e {wildcards.name}.started ]; then touch {wildcards.name}.started; sleep 600; fi"


onstart:
    attend(workflow, logger)


rule all:
    input:
        expand("{name}.done", name=["preempted", "requeued", "cancelled", "undisturbed"]),


rule one:
    output:
        "{name}.done",
    resources:
        runtime=10,
        mem_mb=lambda wc: 12000 if wc.name in ("preempted", "requeued") else 500,
        slurm_partition=lambda wc: {"preempted": "cancelled", "requeued": "requeued"}.get(
            wc.name, "cpu"
        ),
        # Two that ask for most of a node's memory are on one each.
        slurm_extra=lambda wc: {"preempted": "--nodelist=n1", "requeued": "--nodelist=n2"}.get(
            wc.name, ""
        ),
    shell:
        f"{FIRST}; touch {{output}}"


rule undisturbed:
    output:
        "undisturbed.done",
    resources:
        runtime=10,
        mem_mb=500,
    shell:
        "touch undisturbed.started; sleep 8; touch {output}"


ruleorder: undisturbed > one
