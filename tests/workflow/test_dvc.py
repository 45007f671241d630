"""dvc.yaml and the Snakefile describe the same work, and DVC re-runs what a change affects."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from running import ROOT, snakemake

from regaze.configfiles import merge, read_settings
from regaze.redirectors.declaration import declared
from regaze.settings import ConfigurationError, load_settings
from regaze.versioning import dvc_yaml

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
STAGES = yaml.safe_load(dvc_yaml(CONFIG))["stages"]
TINY = yaml.safe_load((ROOT / "config.yaml").read_text())
merge(TINY, yaml.safe_load((ROOT / "configs/tiny.yaml").read_text()))
SHARED = (".dvc/config", ".dvcignore", ".gitignore", "Snakefile", "rules", "workflow_scripts")
SHARED += ("profiles/default", "envs", "results/.gitignore", "src", "Makefile")


def outs(stage):
    """Everything that a stage makes."""
    entries = [*stage["outs"], *stage.get("metrics", [])]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def test_the_file_is_that_of_the_configuration():
    assert (ROOT / "dvc.yaml").read_text() == dvc_yaml(CONFIG), "run `make schema`"


def test_stages_name_rules_and_targets_that_exist(tmp_path):
    listed = snakemake(tmp_path, "--list-rules")
    assert listed.returncode == 0, listed.output
    rules = set(re.findall(r"^(\w+)", listed.stdout, re.MULTILINE))
    # The tiny workflow has more kinds of jobs than the default.
    stages, wanted = yaml.safe_load(dvc_yaml(TINY))["stages"], []
    for name, stage in stages.items():
        allowed, targets = re.fullmatch(r"\$\{run\} (.+) -- (.+)", stage["cmd"]).groups()
        assert set(allowed.split()) <= rules, name
        wanted += targets.split()
    plan = snakemake(tmp_path, "-n", "--", *wanted)
    assert plan.returncode == 0, plan.output[-3000:]
    # Every file that the whole workflow makes belongs to a stage, and to one only.
    made = [path for stage in stages.values() for path in outs(stage)]
    assert len(made) == len(set(made))
    planned = set(re.findall(r"^ +output: (.+)$", plan.output, re.MULTILINE))
    for path in (path for line in planned for path in line.split(", ")):
        owners = [out for out in made if Path(path).is_relative_to(out)]
        assert len(owners) == 1, f"{path}: {owners}"


def test_dependencies_are_made_or_there_and_parameters_are_in_the_configuration():
    made = [path for stage in STAGES.values() for path in outs(stage)]
    for name, stage in STAGES.items():
        for path in stage["deps"]:
            of_stage = any(Path(out).is_relative_to(path) or path == out for out in made)
            assert of_stage or (ROOT / path).exists(), f"{name}: {path}"
        for entry in stage.get("params", []):
            for key in entry["config.yaml"]:
                here = CONFIG
                for part in key.split("."):
                    assert part in here, f"{name}: {key}"
                    here = here[part]


def test_models_depend_on_what_their_training_is_given():
    for name, entry in load_settings(CONFIG).models.items():
        about, deps = declared(entry), STAGES[f"train-{name}"]["deps"]
        for network in about.networks:
            assert f"results/models/{network.entry}/model.safetensors" in deps
        told, codes = [path for path in deps if "/latents/" in path], about.input("codes")
        encoders = [] if codes is None else [codes.options["encoder"]]
        assert told == [f"results/synthetic/latents/{encoder}" for encoder in encoders]
    # A model that nobody learns from is nobody's dependency but that of its own evaluation.
    path = "results/models/regression/model.safetensors"
    assert [name for name, stage in STAGES.items() if path in stage["deps"]] == [
        "evaluate-regression"
    ]


def test_code_of_pictures_is_no_dependency_of_a_training():
    sampling = "src/regaze/redirectors/xunet/sampling.py"
    for name in ("xunet", "regression"):
        training = STAGES[f"train-{name}"]["deps"]
        assert not [one for one in training if f"{sampling}/".startswith(f"{one}/")]
        assert sampling in STAGES[f"evaluate-{name}"]["deps"]


@pytest.mark.parametrize(
    "overlay",
    [
        "gazecapture",
        *(pytest.param(name, marks=pytest.mark.whole) for name in ("eth-xgaze", "columbia")),
        "gpu",
        "gan",
    ],
)
def test_other_configurations_have_stages_of_their_own(overlay):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    merge(config, yaml.safe_load((ROOT / f"configs/{overlay}.yaml").read_text()))
    stages = yaml.safe_load(dvc_yaml(config, augmentation=True))["stages"]
    trained_on = load_settings(config).dataset
    assert f"results/{trained_on}/faces" in outs(stages["faces"])
    assert outs(stages["augmentation"]) == ["results/augmentation"]
    made = [path for stage in stages.values() for path in outs(stage)]
    assert len(made) == len(set(made))
    read = {path for stage in stages.values() for path in stage["deps"] if path[:8] == "results/"}
    nobody = [
        path
        for path in read
        if not any(Path(out).is_relative_to(path) or Path(path).is_relative_to(out) for out in made)
    ]
    assert nobody == []


@pytest.mark.parametrize(
    "override",
    [
        "models.xunet.train.lr=1e-05",
        "models.xunet_lite.sampling={steps: 4, sigma_min: 1e-05}",
        "evaluation.study.weights=[0, 1e-05, .5]",
        "augmentation.counts=[100, all]",
        "capture.head_model=null",
        "capture.head_model='null'",
        "landmarks.fetch=off",
        "models.sted=null",
        "seed=1:30",
        "+datasets.mine={source: folder, root: x, person: '123'}",
    ],
)
def test_what_dvc_writes_means_what_a_file_says(tmp_path, override):
    from dvc.utils.hydra import apply_overrides

    file = tmp_path / "config.yaml"
    shutil.copy(ROOT / "config.yaml", file)
    apply_overrides(file, [override])
    path, _, value = override.lstrip("+").partition("=")
    said = yaml.safe_load(value)
    for key in reversed(path.split(".")):
        said = {key: said}
    expected = yaml.safe_load((ROOT / "config.yaml").read_text())
    merge(expected, said)
    assert read_settings([file]) == load_settings(expected)


@pytest.mark.parametrize("override", ["seed=010", "dataset=off", "dataset='off'"])
def test_what_dvc_writes_otherwise_is_refused(tmp_path, override):
    from dvc.utils.hydra import apply_overrides

    file = tmp_path / "config.yaml"
    shutil.copy(ROOT / "config.yaml", file)
    apply_overrides(file, [override])
    with pytest.raises(ConfigurationError, match="leading zeros, found '010'|needs quotes"):
        read_settings([file])


def environment(folder):
    """Programs of this environment, and the library of the copy."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    identity = {
        f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    quiet = {"DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
    return os.environ | identity | quiet | {"PATH": programs, "PYTHONPATH": str(folder / "src")}


def run(folder, *line, before=(), **more):
    done = subprocess.run(
        [*before, *line],
        cwd=folder,
        env=environment(folder) | more,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def recipe_of_pull(folder):
    """The lines of `make pull`, with the programs of this environment."""
    text = (folder / "Makefile").read_text()
    recipe = re.search(r"^pull:.*\n((?:\t.*\n)+)", text, re.MULTILINE)[1]
    lines = recipe.strip().splitlines()
    return [line.replace("$(BIN)/", "").split("$$PATH ")[-1].split() for line in lines]


NOBODY = 65534


def as_ordinary_user():
    """The start of a command of somebody who may read every file here, but write no other's.

    Root is nobody for that time: what is write-protected for others never is for root.
    """
    if os.getuid():
        return []
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    start = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *reading]
    try:
        subprocess.run([*start, sys.executable, "-c", ""], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"root cannot run a program as somebody else: {error}")
    return start


@pytest.fixture(scope="module")
def versioned(finished, tmp_path_factory):
    """A repository of the project with the tiny configuration and its results, recorded by DVC."""
    folder = tmp_path_factory.mktemp("versioned") / "project"
    folder.mkdir()
    for name in SHARED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, folder / name)
    shutil.copytree(finished / "results", folder / "results", dirs_exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    (folder / "dvc.yaml").write_text(dvc_yaml(TINY))
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "add", ".")
    run(folder, "git", "commit", "--quiet", "-m", "project")
    run(folder, "snakemake", "--touch", "--forceall", "--cores", "1", "--quiet", "all")
    run(folder, "dvc", "commit", "-f")
    run(folder, "git", "add", ".")
    run(folder, "git", "commit", "--quiet", "-m", "results")
    return folder


@pytest.mark.whole
def test_a_recorded_run_is_up_to_date(versioned):
    told = run(versioned, "dvc", "repro")
    assert "Data and pipelines are up to date" in told and "Running stage" not in told
    # Git has the small texts, and no others.
    kept = set(run(versioned, "git", "ls-files", "results").split())
    assert "results/evaluation/xunet/synthetic/metrics.json" in kept
    assert "results/provenance/train_model/xunet.json" in kept
    names = {Path(path).suffix for path in kept if Path(path).name != ".gitignore"}
    assert names == {".json", ".csv"}


@pytest.mark.whole
def test_a_clone_that_pulled_has_nothing_to_do(versioned, tmp_path):
    run(versioned, "dvc", "remote", "add", "--local", "-d", "-f", "store", str(tmp_path / "store"))
    run(versioned, "dvc", "push")
    clone = tmp_path / "clone"
    run(versioned, "git", "clone", "--quiet", ".", str(clone))
    run(clone, "dvc", "remote", "add", "--local", "-d", "store", str(tmp_path / "store"))
    for line in recipe_of_pull(clone):
        run(clone, *line)
    assert "Nothing to be done" in run(clone, "snakemake", "-n")
    assert "up to date" in run(clone, "dvc", "status")
    # A change is noticed in the clone as well.
    change = "models={regression: {train: {lr: 0.003}}}"
    assert "train_model" in run(clone, "snakemake", "-n", "--config", change)


@pytest.mark.whole
def test_results_that_are_links_are_made_again_by_ordinary_users(versioned, tmp_path):
    start = as_ordinary_user()
    page = (ROOT / "docs/versions.md").read_text()
    (advised,) = re.findall(r"dvc config cache.type ([\w,]+)", page)
    copy, home = tmp_path / "project", tmp_path / "home"
    shutil.copytree(versioned, copy, symlinks=True)
    home.mkdir()
    if start:
        for path in (copy, home, *copy.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def user(*line):
        return run(copy, *line, before=start, HOME=str(home))

    # Where files can share blocks nothing is a link, and nothing is to be tested.
    user("dvc", "config", "cache.type", advised.replace("reflink,", ""))
    user("dvc", "checkout", "--relink")
    model = copy / "results/models/regression/model.safetensors"
    assert model.is_symlink() or model.stat().st_nlink > 1
    touch = recipe_of_pull(copy)[-1]
    assert "--touch" in touch
    user(*touch)
    assert "Nothing to be done" in user("snakemake", "-n")
    made_again = ("results/synthetic/faces/shard-000.h5", "results/synthetic/split.json")
    user("snakemake", "--cores", "1", "--force", "--", *made_again)
    assert not any((copy / path).is_symlink() for path in made_again)
    # What the links led to is as it was.
    assert "up to date" in user("dvc", "status")


@pytest.mark.whole
def test_a_changed_parameter_reruns_that_models_stages(versioned):
    told = run(versioned, "dvc", "exp", "run", "-S", "config.yaml:models.regression.train.lr=0.003")
    ran = set(re.findall(r"Running stage '([^']+)'", told))
    assert ran == {"train-regression", "evaluate-regression", "report"}
    assert "up to date" in run(versioned, "dvc", "status")
    changed = run(versioned, "git", "diff", "--name-only", "HEAD", "--", "results").split()
    models = {path.split("/")[2] for path in changed if "/models/" in path}
    assert models == {"regression"}
