"""What the jobs of a cluster ask for: the ``resources:`` table of the configuration.

Light: the Snakefile imports it. Resources are no parameters of a rule, so that a change of the
table re-runs nothing. Memory and time grow with each attempt, because a job that was too large
for what it asked is what a retry is mostly about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from regaze.training.settings import TrainSettings


class RuleResources(BaseModel):
    """What one rule asks for where it differs from the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mem_mb: int | None = Field(
        None, ge=1, description="memory of a process in MB, first attempt; default of the table"
    )
    runtime: int | None = Field(
        None, ge=1, description="minutes, first attempt; default of the table"
    )
    gpu: int | None = Field(
        None, ge=0, description="GPUs to reserve; default what train, sampling or landmarks say"
    )
    partition: str | None = Field(
        None, min_length=1, description="SLURM partition; default `partition` or `gpu_partition`"
    )


class DefaultResources(BaseModel):
    """What every rule asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mem_mb: int = Field(2000, ge=1, description="memory of a process in MB, first attempt")
    runtime: int = Field(60, ge=1, description="minutes, first attempt")


RULES = frozenset({
    "acquire_faces", "augment_faces", "detect_landmarks", "draw_albums", "draw_atlas",
    "draw_masks",
    "draw_path", "encode_shard", "estimate_poses", "export_augmented", "fetch_asset",
    "fix_pairs", "gather_albums", "gather_faces", "invert_shard", "make_head", "mask_shard",
    "measure_inverted", "measure_inverter", "measure_model", "normalise_shard", "perturb_model",
    "render_capture", "sample_model", "sample_study", "sample_weights", "train_albums",
    "train_deca", "train_estimator", "train_identity", "train_labelled_estimator",
    "train_labelled_redirector", "train_model", "write_augmentation", "write_report",
    "write_split",
})  # fmt: skip
"""Rules that do something; an entry of another name is a mistake that would go unnoticed."""


class ResourceTable(BaseModel):
    """What jobs ask a cluster for; changes nothing but where and how long they may run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: DefaultResources = DefaultResources()
    rules: dict[str, RuleResources] = Field(
        {}, description="by the name of a rule: what differs from the default"
    )
    partition: str | None = Field(
        None, min_length=1, description="SLURM partition of jobs without GPU; null: the cluster's"
    )
    gpu_partition: str | None = Field(
        None, min_length=1, description="SLURM partition of jobs with GPUs; null: `partition`"
    )
    max_mem_mb: int | None = Field(
        None, ge=1, description="no attempt asks for more MB than this, as the largest node has"
    )
    max_runtime: int | None = Field(
        None, ge=1, description="no attempt asks for more minutes than this, as a partition allows"
    )

    @field_validator("rules")
    @classmethod
    def _are_rules(cls, rules):
        for name in rules:
            if name not in RULES:
                raise ValueError(f"no rule {name!r}; expected one of {', '.join(sorted(RULES))}")
        return rules

    def mem_mb(self, rule: str, attempt: int = 1, processes: int = 1) -> int:
        """Megabytes per machine of the ``attempt``-th attempt with so many processes there."""
        asked = (self._given(rule).mem_mb or self.default.mem_mb) * attempt * processes
        return min(asked, self.max_mem_mb or asked)

    def runtime(self, rule: str, attempt: int = 1) -> int:
        """Minutes of the ``attempt``-th attempt."""
        asked = (self._given(rule).runtime or self.default.runtime) * attempt
        return min(asked, self.max_runtime or asked)

    def gpu(self, rule: str, wanted: int = 0) -> int:
        """GPUs per machine, where the options of the stage want so many."""
        given = self._given(rule).gpu
        return wanted if given is None else given

    def partition_of(self, rule: str, gpu: int = 0) -> str | None:
        """Partition of a job with so many GPUs, None for the cluster's own default."""
        general = (self.gpu_partition or self.partition) if gpu else self.partition
        return self._given(rule).partition or general

    def asked(
        self, rule: str, attempt: int, gpus: int = 0, nodes: int = 1, each: bool = False
    ) -> dict:
        """Everything one attempt of a job asks for, under Snakemake's names of resources.

        Args:
            rule: its name.
            attempt: 1 for the first.
            gpus: GPUs per machine that the options of its stage want.
            nodes: machines.
            each: whether every GPU has a process of its own, with memory of its own.

        Returns:
            ``mem_mb`` and ``runtime``, and where GPUs, the table or several machines make them
            necessary ``gpu``, ``slurm_partition``, ``nodes``, ``mpi``, ``tasks`` or
            ``tasks_per_node``, ``gres``, ``tasks_per_gpu``, as the SLURM executor of Snakemake
            reads them. Keys whose value is None are not asked for.

        Raises:
            KeyError: the rule is not one of :data:`RULES`.
        """
        if rule not in RULES:
            raise KeyError(f"{rule}: missing in regaze.resources.RULES")
        gpu = self.gpu(rule, gpus)
        several = nodes > 1
        processes = max(gpus, 1) if each else 1
        return {
            "mem_mb": self.mem_mb(rule, attempt, processes),
            "runtime": self.runtime(rule, attempt),
            # Of several machines it is a total that SLURM may spread unevenly; `gres` is for each.
            # None is not asked for: the executor of Kubernetes takes 0 for a GPU as well.
            "gpu": None if several else gpu or None,
            "gres": f"gpu:{gpu}" if several and gpu else None,
            "slurm_partition": self.partition_of(rule, gpu),
            "nodes": nodes if several else None,
            # Tells the executor that the job starts its processes itself.
            "mpi": "srun" if several else None,
            # It refuses one task per node, and takes tasks for tasks per GPU unless told not to.
            "tasks": nodes if several and processes == 1 else None,
            "tasks_per_node": processes if several and processes > 1 else None,
            "tasks_per_gpu": 0 if several and gpu else None,
        }

    def of_rule(
        self,
        rule: str,
        gpus: int | Callable[[Any], int] = 0,
        train: Callable[[Any], TrainSettings] | None = None,
    ) -> dict[str, Callable]:
        """What stands below ``resources:`` of a rule: functions of wildcards and attempt.

        Args:
            rule: its name.
            gpus: GPUs that the options of its stage want, or a function of the wildcards.
            train: section of a training by wildcards, for rules that train.

        Raises:
            KeyError: the rule is not one of :data:`RULES`.
        """

        def asked(wildcards, attempt: int) -> dict:
            if train is not None:
                section = train(wildcards)
                return self.asked(rule, attempt, section.gpus, section.nodes, each=True)
            return self.asked(rule, attempt, gpus(wildcards) if callable(gpus) else gpus)

        def one(name: str) -> Callable:
            return lambda wildcards, attempt: asked(wildcards, attempt)[name]

        names = set(self.asked(rule, 1))
        given = [self.partition, self.gpu_partition, *(r.partition for r in self.rules.values())]
        if not any(given):
            # Left to the profile then.
            names.discard("slurm_partition")
        if train is None:
            names &= {"mem_mb", "runtime", "gpu", "slurm_partition"}
        return {name: one(name) for name in sorted(names)}

    def _given(self, rule: str) -> RuleResources:
        return self.rules.get(rule, RuleResources())
