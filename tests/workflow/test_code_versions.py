"""A change of the library re-runs the rules that it can affect, and no others."""

import ast
import json
import shutil

import planning
import pytest
import test_reruns
from test_reruns import BASE, TARGETS, matching, merged

from regaze.versioning import code

pretended = test_reruns.pretended

XUNET = "sample_model * xunet_*, perturb_model, draw_path, sample_weights, sample_study, "
XUNET += "augment_faces * xunet_lite"
EVERY = "train_model, train_labelled_redirector"
SAMPLED = "sample_model, draw_path, sample_weights, sample_study"
# By what is changed, a file and a definition in it (the whole file without one): the jobs that have
# to run again themselves.
RERUN = {
    # How pictures are made is no part of a training,
    "redirectors/sample.py sample_redirector": SAMPLED,
    "redirectors/xunet/sampling.py PictureSampler": XUNET,
    "redirectors/xunet/redirector.py XUNetRedirector.edit": XUNET,
    "redirectors/xunet/memory.py": XUNET,
    "redirectors/sted/redirector.py StedRedirector.edit": "augment_faces * sted",
    "diffusion/guidance.py guided": f"{XUNET}, train_model xunet_student",
    # and how they are learnt none of making them.
    "redirectors/xunet/redirector.py XUNetRedirector.losses": "train_model xunet_*, "
    "train_labelled_redirector * xunet_lite",
    "redirectors/xunet/objective.py Objective.loss": f"train_model xunet_*, {XUNET}, "
    "train_labelled_redirector * xunet_lite",
    "redirectors/xunet/distil.py XUNetStudent.losses": "train_model xunet_student",
    "redirectors/sted/objective.py": "train_model sted, train_labelled_redirector * sted, "
    "augment_faces * sted",
    "redirectors/sted/redirector.py StedRedirector.losses": "train_model sted, "
    "train_labelled_redirector * sted",
    "redirectors/pairs.py": EVERY,
    "training/loop.py train": f"{EVERY}, train_estimator, train_labelled_estimator, "
    "train_identity, train_deca",
    # Pages, drawings.
    "report/page.py": "write_report",
    "report/templates/report.css": "write_report",
    "report/style.mplstyle": "write_report, write_augmentation",
    "animation.py": "write_report, draw_path, acquire_faces, sample_model, sample_weights, "
    "sample_study",
    # What entries pick by name.
    "sources/folder.py open_source": "detect_landmarks photos *, estimate_poses photos *, "
    "normalise_shard photos *, write_split photos",
    "sources/columbia.py": "",
    "estimators/vgg.py": "train_estimator vgg, train_estimator given, train_estimator other, "
    "train_labelled_estimator * vgg *, train_labelled_estimator * other *",
    "identity/small.py": "train_identity",
    # Faces are acquired here with landmarks that are given.
    "landmarks/face_alignment.py": "detect_landmarks",
    # Records of models tell where it finds the eyes in training patches.
    "landmarks/mesh.py": EVERY,
    "landmarks/ibug_from_mesh.csv": EVERY,
    "masks/parsed.py": "",
    "masks/exact.py write_exact": "mask_shard synthetic *",
    "identity/irse.py": "",
    # One of the many that read pairs draws them.
    "pairs.py draw_pairs": "fix_pairs",
    "metrics/bootstrap.py": "measure_model, measure_weights, measure_study, write_report, "
    "write_augmentation",
    # No entry edits what is read from codes.
    "metrics/coded.py": "",
    # What decides nothing.
    "jobs.py": "",
    "versioning/code.py": "",
    "cli.py": "",
}


def change(path, name):
    """Add a statement to a definition of a source, and to all definitions without a name."""
    text = path.read_text()
    if path.suffix != ".py":
        path.write_text(f"{text}\n")
        return
    lines = text.splitlines(keepends=True)
    found = [
        (f"{above}.{node.name}" if above else node.name, node.body[-1])
        for above, body in [
            ("", ast.parse(text).body),
            *((n.name, n.body) for n in ast.parse(text).body if isinstance(n, ast.ClassDef)),
        ]
        for node in body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    wanted = [node for own, node in found if name is None or own == name]
    assert wanted, f"{path} has no {name}"
    for node in sorted(wanted, key=lambda one: -one.lineno):
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        lines.insert(first - 1, f"{' ' * node.col_offset}pass\n")
    path.write_text("".join(lines))
    ast.parse(path.read_text())


def replanned(folder, library, monkeypatch):
    sources = code.Sources(library)
    monkeypatch.setattr(code, "_sources", lambda: sources)
    code._version.cache_clear()
    return planning.plan(folder, merged(BASE), TARGETS)


@pytest.fixture
def library(tmp_path):
    """A copy of the library's sources."""
    ignored = shutil.ignore_patterns("__pycache__")
    yield shutil.copytree(code.LIBRARY, tmp_path / "library", ignore=ignored)
    code._version.cache_clear()


def test_nothing_runs_again_where_the_library_lies_elsewhere(pretended, library, monkeypatch):
    assert replanned(pretended, library, monkeypatch).needed == set()


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(changed, marks=[pytest.mark.whole] * (number % 5 > 0))
        for number, changed in enumerate(RERUN)
    ],
)
def test_a_change_reruns_what_it_can_affect_and_nothing_else(
    pretended,
    library,
    monkeypatch,
    changed,
):
    name, _, definition = changed.partition(" ")
    change(library / name, definition or None)
    plan = replanned(pretended, library, monkeypatch)
    wanted = matching(RERUN[changed], plan.outputs) if RERUN[changed] else set()
    faults = {
        "not run": sorted(wanted - plan.own),
        "run": sorted(plan.own - wanted),
    }
    assert plan.own == wanted, json.dumps(faults, indent=1)
