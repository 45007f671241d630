"""A change of the library re-runs the rules that it can affect, and no others."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from reach import SRC, reached
from running import ROOT, snakemake

from regaze.methods import methods
from regaze.sources import KINDS
from regaze.versioning import dvc_yaml

# Modules that decide no result, and why.
EXEMPT = {
    "regaze.jobs": "starts and logs",
    "regaze.outputs": "writes; a change of what is written shows in the writers",
    "regaze.locks": "keeps two workflows apart",
    "regaze.provenance": "names results; decides none",
    "regaze.provenance.record": "names results; decides none",
    "regaze.training.launch": "starts processes; part of the folder where it matters",
    "regaze.settings": "its values are parameters of the rules",
    "regaze.weights": "loads weights as they are, or refuses them",
    "regaze.assets": "verifies files by their checksums",
    "regaze.methods": "finds methods by name",
    "regaze.redirectors": "is empty",
    "regaze.redirectors.declaration": "what it says are inputs and parameters of the rules",
    "regaze.redirectors.presets": "its values are parameters of the rules",
    "regaze.sources": "finds kinds of data sets by name",
    "regaze.sources.options": "its values are parameters of the rules",
    "regaze.filetypes": "opens files as they are, or tells what they are instead",
    "regaze.resources": "asks for memory and refuses what is beyond",
    "regaze.masks": "reads what mask_shard wrote, whose version it is part of",
}
# The same of single rules.
EXEMPT_HERE = {
    ("sample_model", "regaze.animation"): "only draw_path animates",
    ("sample_study", "regaze.animation"): "only draw_path animates",
    ("sample_weights", "regaze.animation"): "only draw_path animates",
}
# Landmarks are looked for in photos; what reads their labels does not change them.
EXEMPT_HERE |= {
    ("detect_landmarks", f"regaze.{name}"): "reads labels, which no landmark depends on"
    for name in (
        *("faces", "hdf5", "sources.devices", "sources.hdf5", "sources.supplementary"),
        *("sources.files", "sources.tables"),
    )
}
# What is listed for all methods, though only those that are told 3-D codes reach it.
FOR_CODES = {"face3d/gaze.py", "rotations.py"}


def covers(entry, name):
    """Whether a listed file or folder holds a module."""
    path = entry.removesuffix(".py").replace("/", ".")
    inside = name == f"regaze.{path}" or name.startswith(f"regaze.{path}.")
    return inside and (not entry.endswith(".py") or name == f"regaze.{path}")


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Per rule its script, what its version is of, and what the rules before it are of."""
    folder = tmp_path_factory.mktemp("lists")
    helper = [sys.executable, ROOT / "tests/workflow/code_lists.py", folder]
    bare = folder / "bare.yaml"
    bare.write_text("datasets: {photos: {source: folder, root: photos}}\n")
    line = [*map(str, helper), str(ROOT / "config.yaml"), str(bare)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    more = "sampling={max_w: 1, save_gif: true}"
    wanted = ("all", "augmentation", "masks")
    graph = snakemake(folder, "--rulegraph", "dot", "--config", more, "--", *wanted)
    assert graph.returncode == 0, graph.output[-3000:]
    labels = dict(re.findall(r'(\d+)\[label = "(\w+)"', graph.stdout))
    before = {name: set() for name in labels.values()}
    for first, second in re.findall(r"(\d+) -> (\d+)", graph.stdout):
        before[labels[second]].add(labels[first])
    before["export_augmented"] = {"augment_faces"}
    found = json.loads(done.stdout)
    for about in found.values():
        about["before"] = []
    for key, about in found.items():
        todo, seen = [key.split()[0]], set()
        while todo:
            for name in before.get(todo.pop(), set()) - seen:
                seen.add(name)
                todo.append(name)
        about["before"] = sorted(
            {entry for other in found for entry in found[other]["code"] if other.split()[0] in seen}
        )
    return found


def dynamic(key):
    """What functions that import by name reach: of a training its own method, else all."""
    kinds = ["folder"] if key.startswith("detect_landmarks") else KINDS
    chosen = [name for name in methods() if name in key.split()[1:]] or methods()
    return {
        ("regaze.redirectors.base", "build_redirector"): [
            (f"regaze.redirectors.{name}.redirector", "build") for name in chosen
        ],
        ("regaze.redirectors.inputs", "reader_of"): [
            ("regaze.codes.condition", "CodeRows"),
            ("regaze.masks.condition", "MaskRows"),
        ],
        ("regaze.sources", "open_source"): [
            (f"regaze.sources.{kind}", "open_source") for kind in kinds
        ],
    }


def test_versions_are_of_all_that_a_rule_can_reach(lists):
    missing = {}
    for key, about in lists.items():
        used = reached(ROOT / "workflow_scripts" / about["script"], dynamic(key))
        known = about["code"] + about["before"]
        left = [
            name
            for name in sorted(used)
            if name not in EXEMPT
            and (key.split()[0], name) not in EXEMPT_HERE
            and not name.endswith(".settings")
            and not any(covers(entry, name) for entry in known)
        ]
        if left:
            missing[key] = left
    assert missing == {}, json.dumps(missing, indent=1)


def test_versions_are_of_nothing_that_a_rule_cannot_reach(lists):
    idle = {}
    for key, about in lists.items():
        used = reached(ROOT / "workflow_scripts" / about["script"], dynamic(key))
        left = [
            entry
            for entry in set(about["code"]) - FOR_CODES
            if not any(covers(entry, name) for name in used)
        ]
        if left:
            idle[key] = left
    assert idle == {}


def test_stages_of_dvc_depend_on_the_same_sources(lists):
    """Where Snakemake would run a rule again, DVC runs its stage."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["evaluation"]["remove_background"] = True
    lacking = {}
    for name, stage in yaml.safe_load(dvc_yaml(config, augmentation=True))["stages"].items():
        deps = [path.removeprefix("src/regaze/") for path in stage["deps"]]
        rules = re.fullmatch(r"\$\{run\} (.+) -- .+", stage["cmd"])[1].split()
        kind = config["models"].get(name.removeprefix("train-"), {}).get("class", "xunet")
        for rule in rules:
            about = lists.get(rule) or lists.get(f"{rule} {kind}") or {"code": [], "script": None}
            listed = [entry.removesuffix(".py").replace("/", ".") for entry in about["code"]]
            left = [one for one in listed if not any(covers(dep, f"regaze.{one}") for dep in deps)]
            script = about["script"] and f"workflow_scripts/{about['script']}"
            left += [script] if script and script not in stage["deps"] else []
            if left:
                lacking[f"{name}: {rule}"] = left
    assert lacking == {}, json.dumps(lacking, indent=1)


def test_names_are_followed_and_not_imports():
    found = reached(ROOT / "workflow_scripts/fix_pairs.py", {})
    assert {"regaze.pairs", "regaze.faces"} <= found
    assert all(
        (SRC / Path(*name.split("."))).with_suffix(".py").exists()
        or (SRC / Path(*name.split("."))).is_dir()
        for name in found
    )
    estimator = reached(ROOT / "workflow_scripts/train_estimator.py", {})
    # 3-D encoders are trained by the same loop, of which an estimator knows nothing else.
    assert {"regaze.training.context", "regaze.estimators.stage"} <= estimator
    assert not {"regaze.face3d.deca", "regaze.redirectors.base"} & estimator
