"""dvc.yaml and the Snakefile describe the same work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def commands():
    """The Snakemake part of every stage's command, loops written out."""
    for name, stage in STAGES.items():
        if "foreach" not in stage:
            yield name, stage["cmd"]
            continue
        looped = stage["foreach"]
        keys = CONFIG[looped[2:-1]] if isinstance(looped, str) else looped
        for key in keys:
            text = stage["do"]["cmd"].replace("${key}", key).replace("${item}", key)
            yield f"{name}@{key}", text


@pytest.fixture(scope="module")
def rules():
    command = [sys.executable, "-m", "snakemake", "--list-rules"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^(\w+)", done.stdout, re.MULTILINE))


def test_stages_name_rules_and_targets_that_exist(rules, tmp_path):
    for name, command in commands():
        allowed, target = re.fullmatch(r"\$\{run\} (.+) -- (\S+)", command).groups()
        assert set(allowed.split()) <= rules, name
        plan = [sys.executable, "-m", "snakemake", "-n", "-s", ROOT / "Snakefile"]
        done = subprocess.run(
            [*map(str, plan), "--cores", "1", "-d", str(tmp_path), "--", target],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ,
        )
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


def test_dependencies_exist_and_parameters_are_keys_of_the_configuration():
    for name, stage in STAGES.items():
        body = stage.get("do", stage)
        for path in body["deps"]:
            if path.startswith("src/") and "${" not in path:
                assert (ROOT / path).exists(), f"{name}: {path}"
        for entry in body.get("params", []):
            for key in entry["config.yaml"]:
                here = CONFIG
                for part in key.split("."):
                    if part.startswith("${"):
                        break
                    assert part in here, f"{name}: {key}"
                    here = here[part]
