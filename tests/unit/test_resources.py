"""The table of resources: growth, limits, partitions, machines, names of rules."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from pydantic import ValidationError

from regaze.resources import RULES, ResourceTable
from regaze.settings import load_settings
from regaze.training.settings import TrainSettings

ROOT = Path(__file__).parents[2]


def table(**changes):
    rules = {"train_model": {"mem_mb": 3000, "runtime": 100, "partition": "long"}}
    return ResourceTable(**{"rules": rules} | changes)


def test_names_are_those_of_the_rules_and_every_rule_asks_under_its_own():
    made, asked = set(), []
    for file in (ROOT / "rules").glob("*.smk"):
        for part in re.split(r"^ *(?=rule \w+:$)", file.read_text(), flags=re.MULTILINE):
            if (name := re.match(r"rule (\w+):", part)) and "script:" in part:
                made.add(name[1])
                asked += [(name[1], found) for found in re.findall(r'asks\(\s*"(\w+)"', part)]
    # `use rule ... as` takes over what the other asks for.
    assert made == RULES
    assert asked and all(rule == found for rule, found in asked)
    assert {rule for rule, _ in asked} == RULES


def test_memory_and_time_grow_with_the_attempt_up_to_the_limits():
    asks = table(max_mem_mb=7000, max_runtime=250).of_rule("train_model", gpus=1)
    assert [asks["mem_mb"](None, attempt) for attempt in (1, 2, 3)] == [3000, 6000, 7000]
    assert [asks["runtime"](None, attempt) for attempt in (1, 2, 3)] == [100, 200, 250]
    assert asks["gpu"](None, 2) == 1 and asks["slurm_partition"](None, 1) == "long"
    default = table(default={"mem_mb": 10, "runtime": 2}).of_rule("write_split")
    assert default["mem_mb"](None, 2) == 20 and default["runtime"](None, 3) == 6


def test_partitions_go_by_gpus_and_are_left_to_the_profile_otherwise():
    asks = ResourceTable(partition="cpu", gpu_partition="gpu").of_rule
    wanted = SimpleNamespace(a=0, b=2)
    by_name = asks("sample_model", lambda name: getattr(wanted, name))
    assert [by_name["slurm_partition"](name, 1) for name in "ab"] == ["cpu", "gpu"]
    assert ResourceTable(partition="cpu").partition_of("sample_model", 1) == "cpu"
    assert set(ResourceTable().of_rule("sample_model")) == {"mem_mb", "runtime", "gpu"}
    given = ResourceTable(rules={"sample_model": {"gpu": 1}}, gpu_partition="gpu")
    assert given.asked("sample_model", 1)["gpu"] == 1
    assert given.asked("sample_model", 1)["slurm_partition"] == "gpu"


@pytest.mark.parametrize(
    ("gpus", "nodes", "expected"),
    [
        (0, 1, {"mem_mb": 3000}),
        (4, 1, {"gpu": 4, "mem_mb": 12000}),
        (0, 2, {"mem_mb": 3000, "nodes": 2, "mpi": "srun", "tasks": 2}),
        (
            *(4, 2),
            {"mem_mb": 12000, "nodes": 2, "mpi": "srun", "tasks_per_node": 4}
            | {"gres": "gpu:4", "tasks_per_gpu": 0},
        ),
        (
            *(1, 3),
            {"mem_mb": 3000, "nodes": 3, "mpi": "srun", "tasks": 3}
            | {"gres": "gpu:1", "tasks_per_gpu": 0},
        ),
    ],
)
def test_trainings_on_several_gpus_and_machines(gpus, nodes, expected):
    section = TrainSettings(gpus=gpus, nodes=nodes, batch=24)
    asks = table().of_rule("train_model", train=lambda wildcards: section)
    found = {name: ask(None, 1) for name, ask in asks.items()}
    asked = {name: value for name, value in found.items() if value is not None}
    assert asked == expected | {"runtime": 100, "slurm_partition": "long"}


def test_mistakes_are_named():
    with pytest.raises(ValidationError, match="no rule 'train_modle'; expected one of acquire"):
        ResourceTable(rules={"train_modle": {"mem_mb": 1}})
    with pytest.raises(ValidationError, match="mem_mb"):
        ResourceTable(rules={"train_model": {"mem_mb": 0}})
    with pytest.raises(KeyError, match="no_rule: missing in regaze.resources.RULES"):
        table().of_rule("no_rule")
    with pytest.raises(ValidationError, match=r"multiple of gpus x nodes \(6\), found 8"):
        TrainSettings(gpus=2, nodes=3, batch=8)
    with pytest.raises(ValidationError, match=r"multiple of nodes \(3\), found 8"):
        TrainSettings(nodes=3, batch=8)


def test_the_embedded_table_is_complete_and_valid():
    settings = load_settings(yaml.safe_load((ROOT / "config.yaml").read_text()))
    assert set(settings.resources.rules) == RULES
    assert settings.resources.asked("train_model", 1)["runtime"] == 1440
