"""What runs again when the configuration changes: each leaf of it in turn, and no more than that.

``EXPECTED`` says which jobs read a leaf. Snakemake plans against a pretended run (``planning.py``):
those jobs, whatever comes after them, and nothing else shall run. The stages of ``dvc.yaml`` that
make their files shall depend on the leaf as well.
"""

import copy
import itertools
import json
import multiprocessing
import os
import shutil
from collections import Counter
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Literal, get_args, get_origin

import planning
import pytest
import yaml
from pydantic import BaseModel
from running import ROOT
from snakemake_interface_common.exceptions import WorkflowError

from regaze.configfiles import merge
from regaze.factors import CODED
from regaze.redirectors.declaration import declared
from regaze.settings import ConfigurationError, load_settings
from regaze.versioning import dvc_yaml

# In small everything that has a rule: rendered photos and a user's own, encoders and estimators
# that are trained and that are published, methods that need codes, an estimator, a teacher.
BASE = yaml.safe_load("""
shards: 1
datasets:
  photos: {source: folder, root: photos, intrinsics: files/cameras.csv, gaze: files/gaze.csv}
capture: {head_model: files/head.npz}
landmarks: {detector: face_alignment, fetch: true}
faces: {frame_check: sfm, sfm_mesh: files/sfm.bin}
views: {near: {patch_size: [64, 64], focal: 400}, small: {patch_size: [64, 64]},
  full: {patch_size: [128, 128]}}
encoders:
  deca: {preset: tiny}
  given_deca: {class: emoca, preset: reference, emoca: files/emoca.ckpt}
estimators:
  vgg: {preset: tiny, size_px: 32}
  resnet: {preset: tiny, size_px: 32}
  other: {arch: vgg, persons: train, preset: tiny, size_px: 32}
  given: {arch: vgg, persons: train, preset: reference, size_px: 128, preprocess: equalise,
    checkpoint: files/estimator.pth}
identity: {network: tiny, size_px: 32}
models:
  xunet: null
  xunet_deca:
    preset: tiny
    size_px: 32
    objective: {warp: ellipsoid}
    train: {transfer: files/start.safetensors}
  xunet_lite: {preset: tiny, size_px: 32}
  xunet_student: {preset: tiny, size_px: 32}
  regression: null
  sted: {preset: tiny, size_px: 32}
  redirtrans: null
  gazenerf: null
  diffusionrig_gaze: null
  xunet_near: {class: xunet, preset: tiny, size_px: 32, data: {view: near}}
sampling: {max_w: 1, save_gif: true}
evaluation:
  datasets: [photos]
  models: [copy, xunet_deca]
  remove_background: [photos]
  # An entry that is told nothing of codes any more would have one.
  atlas: 0
  study: {models: [xunet_deca], reference: {steps: 8}}
acquire: {photos: photos, landmarks: files/landmarks.csv, gaze: [1, 2], encoder: given_deca}
augmentation: {redirectors: [xunet_lite, sted], export: true, counts: [12], seeds: [0]}
""")
STAGES = ("capture", "landmarks", "faces", "latents", "masks", "acquired", "estimators", "models")
STAGES += ("samples", "metrics", "study", "report", "augmentation", "all")
TARGETS = ("all", "augmentation", "masks", "latents", "acquired", "landmarks")

SAMPLED = "sample_model * xunet_deca, perturb_model, draw_path, sample_weights, sample_study, "
SAMPLED += "augment_faces"
MEASURED = "measure_model, measure_weights, measure_study"
LEARNT = "train_estimator, train_identity, train_model, train_labelled_redirector, "
LEARNT += "train_labelled_estimator"
STUDIED = "train_labelled_redirector, augment_faces, export_augmented, train_labelled_estimator"
ON_PHOTOS = ", ".join(
    f"{rule} photos *" for rule in ("sample_model", "perturb_model", "draw_path", "measure_model")
)
# By the longest beginning of a leaf's name: the jobs that depend on it themselves. The page prints
# the configuration, so `write_report` depends on all of it but the resources.
EXPECTED = {
    "seed": f"render_capture, write_split, fix_pairs, perturb_model, {MEASURED}, train_deca, "
    f"{LEARNT}, augment_faces, write_augmentation",
    "shards": "detect_landmarks, estimate_poses, normalise_shard, gather_faces, fix_pairs, "
    f"encode_shard * 001, mask_shard * 001, draw_masks, train_deca, {LEARNT}, sample_model, "
    f"{SAMPLED}, {MEASURED}",
    "dataset": f"{LEARNT}, augment_faces, write_augmentation, sample_weights, measure_weights, "
    "sample_study, measure_study, normalise_shard photos@near *, gather_faces photos@near",
    "datasets.synthetic.root": "normalise_shard synthetic*, write_split synthetic, "
    "mask_shard synthetic *, gather_faces synthetic*",
    # How folders are watched changes nothing while they are as they were.
    "datasets.synthetic.watch": "",
    "datasets.photos.watch": "",
    "datasets.synthetic.capture": "render_capture",
    "datasets.synthetic.undistort_camera": "normalise_shard synthetic*, write_split synthetic",
    "datasets.photos": "detect_landmarks, estimate_poses, normalise_shard photos *, "
    "write_split photos",
    **dict.fromkeys(
        ("datasets.photos.root", "datasets.photos.person"),
        "detect_landmarks, estimate_poses, normalise_shard photos *, gather_faces photos, "
        "write_split photos",
    ),
    "datasets.photos.landmarks": "estimate_poses, normalise_shard photos *, write_split photos",
    "datasets.photos.split": "write_split photos",
    "datasets.photos.undistort_camera": "normalise_shard photos *, write_split photos",
    "capture": "render_capture",
    "capture.threads": "",
    "capture.head_model": "render_capture, make_head",
    "landmarks": "",
    "landmarks.detector": "detect_landmarks",
    "landmarks.max_side": "detect_landmarks",
    "landmarks.min_score": "estimate_poses",
    "faces": "normalise_shard",
    # The view near has its own.
    **dict.fromkeys(
        ("faces.focal", "faces.patch_size"), "normalise_shard synthetic *, normalise_shard photos *"
    ),
    "faces.max_rejected": "gather_faces",
    "faces.max_lost": "gather_faces",
    "faces.threads": "",
    "views": "normalise_shard synthetic@near *",
    # It says what faces say.
    "views.near.variant": "",
    "views.small": "",
    "views.full": "",
    "encoders.deca": "train_deca",
    "encoders.deca.rasterizer": "train_deca, mask_shard photos *",
    "encoders.deca.checkpoint": "encode_shard * deca *",
    "encoders.deca.emoca": "encode_shard * deca *",
    "encoders.given_deca": "",
    "encoders.given_deca.emoca": "encode_shard * given_deca *, acquire_faces given_deca",
    "encoders.given_deca.head_sha256": "encode_shard * given_deca *, acquire_faces given_deca",
    # Redirectors that learn from it get one of their own in the study of few labels.
    "estimators.vgg": "train_estimator vgg, train_labelled_estimator * vgg *",
    "estimators.vgg.persons": "train_estimator vgg",
    "estimators.vgg.labels": "train_estimator vgg",
    "estimators.vgg.train.images": "train_estimator vgg",
    "estimators.vgg.view": "train_estimator vgg, train_labelled_estimator * vgg *, "
    "normalise_shard *@small *, gather_faces *@small",
    "estimators.resnet": "train_estimator resnet, train_labelled_estimator * resnet *",
    "estimators.resnet.persons": "train_estimator resnet",
    "estimators.resnet.labels": "train_estimator resnet",
    "estimators.resnet.train.images": "train_estimator resnet",
    "estimators.resnet.size_px": "train_estimator resnet, train_labelled_estimator * resnet *, "
    "train_identity, sample_model * copy",
    "estimators.other": "train_estimator other",
    "estimators.given": "train_estimator given",
    "estimators.given.view": "train_estimator given, normalise_shard *@full *, gather_faces *@full",
    "identity": "train_identity",
    "models.xunet_deca": "train_model xunet_deca",
    # Whether and which codes it is told, sampling has to know too.
    "models.xunet_deca.network.code": "train_model xunet_deca, sample_model * xunet_deca, "
    "perturb_model, draw_path, sample_weights, sample_study",
    "models.xunet_deca.deca.encoder": "train_model xunet_deca, sample_model * xunet_deca, "
    "perturb_model, draw_path, sample_weights, sample_study",
    # A source that is turned over its head needs the head while it is sampled as well.
    "models.xunet_deca.objective.warp": "train_model xunet_deca, sample_model * xunet_deca, "
    "perturb_model, draw_path, sample_weights, sample_study",
    # An entry that learns from other data, or sees them otherwise, runs again alone.
    "models.xunet_deca.data.labelled": "train_model xunet_deca",
    "models.xunet_deca.data.view": "train_model xunet_deca, sample_model * xunet_deca, "
    "perturb_model, draw_path, sample_weights, sample_study, normalise_shard photos@near *, "
    "encode_shard *@near *, mask_shard *@near *",
    "models.sted.data.labelled": "train_model sted, write_augmentation",
    "models.sted.data.view": "train_model sted, train_labelled_redirector * sted, "
    "augment_faces * sted, normalise_shard *@small *, gather_faces *@small",
    # How a model samples makes its own pictures again, and trains nothing.
    "models.xunet_deca.sampling": "sample_model * xunet_deca, perturb_model, draw_path, "
    "sample_weights, sample_study",
    "models.xunet_lite.sampling": "augment_faces * xunet_lite",
    "models.xunet_lite": "train_model xunet_lite, train_labelled_redirector * xunet_lite",
    "models.xunet_lite.train.images": "train_model xunet_lite",
    "models.xunet_student": "train_model xunet_student",
    "models.xunet_near": "train_model xunet_near",
    "models.sted": "train_model sted, train_labelled_redirector * sted",
    "models.sted.train.images": "train_model sted",
    "models.sted.checkpoint": "train_model sted, write_augmentation",
    "models.sted.preprocess": "train_model sted, write_augmentation",
    "models.sted.estimator": "train_model sted, train_labelled_redirector * sted, "
    "train_labelled_estimator * other *",
    "sampling": SAMPLED,
    "sampling.max_w": "sample_weights, measure_weights",
    "sampling.save_gif": "",
    "sampling.sample_only": "sample_weights photos *",
    "evaluation.estimator": f"perturb_model, {MEASURED}",
    "evaluation.datasets": "",
    "evaluation.models": "",
    "evaluation.split": "fix_pairs, perturb_model, train_labelled_estimator, write_augmentation",
    "evaluation.same_deg": "fix_pairs",
    "evaluation.pairs": "fix_pairs",
    # Faces that are not detected are counted apart, where its pairs are.
    "evaluation.pairs.gazenerf_paper": f"fix_pairs, {MEASURED}",
    # No entry edits what is read from codes (test_networks.py).
    "evaluation.encoder": "",
    **dict.fromkeys((f"evaluation.pairs.{name}_only" for name in CODED), ""),
    "evaluation.albums": "draw_albums, fix_pairs, perturb_model",
    # The one method here reads codes, so that it has none (test_atlases.py).
    "evaluation.atlas": "",
    "evaluation.bootstrap": f"{MEASURED}, write_augmentation",
    "evaluation.perturbed": "perturb_model",
    "evaluation.study": "sample_study",
    "evaluation.study.models": "",
    "evaluation.study.steps": "sample_study, measure_study",
    "evaluation.study.weights": "sample_study, measure_study",
    "evaluation.remove_background": ON_PHOTOS,
    "evaluation.background": ON_PHOTOS,
    "masks.method": "mask_shard synthetic *",
    "masks.encoder": "mask_shard photos *",
    "masks.parsing": "",
    "acquire": "acquire_faces",
    "augmentation.redirectors": "write_augmentation",
    "augmentation.redirector_labels": "augment_faces, write_augmentation",
    # sted can learn from pictures without labels.
    "augmentation.pseudo_labels": "train_labelled_redirector * xunet_lite, write_augmentation",
    "augmentation.estimator": "train_labelled_redirector * xunet_lite, "
    "train_labelled_estimator * other *, write_augmentation",
    "augmentation.counts": f"{STUDIED}, write_augmentation",
    "augmentation.seeds": f"{STUDIED}, write_augmentation",
    "augmentation.targets": "augment_faces, write_augmentation",
    "augmentation.images": "train_labelled_estimator, write_augmentation",
    "augmentation.redirector_images": "train_labelled_redirector",
    "augmentation.export": "",
    "assets": MEASURED,
    "assets.face_alignment_landmarks": "detect_landmarks",
    "assets.face_alignment_detector": "detect_landmarks",
    "resources": "",
}
# Leaves that have another value only together with others, or with a file that fits.
CHANGES = yaml.safe_load(f"""
datasets.photos.root: {{datasets: {{photos: {{root: others}}}}}}
datasets.photos.intrinsics: {{datasets: {{photos: {{intrinsics: files/other-cameras.csv}}}}}}
datasets.photos.gaze: {{datasets: {{photos: {{gaze: files/other-gaze.csv}}}}}}
datasets.photos.landmarks: {{datasets: {{photos: {{landmarks: files/photos-landmarks.csv}}}}}}
datasets.synthetic.capture.appearance:
  {{datasets: {{synthetic: {{capture: {{appearance: varied}}}}}}}}
acquire.photos: {{acquire: {{photos: others}}}}
datasets.photos.split: {{datasets: {{photos: {{split: files/split.json}}}}}}
faces.variant:
  {{faces: {{variant: custom, patch_size: [128, 128], focal: 510, distance: 600}}}}
faces.patch_size: {{faces: {{patch_size: [256, 256]}}}}
# The other word is what faces say, so that a view that says it too changes nothing.
views.near.resampling: {{views: {{near: {{resampling: two_step}}}}}}
encoders.deca.checkpoint: {{encoders: {{deca: {{checkpoint: files/other, preset: reference}}}}}}
encoders.deca.emoca:
  {{encoders: {{deca: {{emoca: files/other, preset: reference, class: emoca}}}}}}
estimators.vgg.checkpoint:
  estimators:
    vgg: {{checkpoint: files/other, preset: reference, size_px: 128, preprocess: equalise}}
identity.checkpoint: {{identity: {{network: irse50, checkpoint: files/other}}}}
identity.sha256: {{identity: {{network: irse50, checkpoint: files/other, sha256: "{"1" * 64}"}}}}
models.xunet_deca.network.attn_levels: {{models: {{xunet_deca: {{network: {{attn_levels: [1]}}}}}}}}
models.xunet_deca.objective.parameterization: &eps
  models: {{xunet_deca: {{objective: {{parameterization: eps, base: none, loss_weight: min_snr}}}}}}
models.xunet_deca.objective.loss_weight: *eps
models.sted.checkpoint:
  models: {{sted: {{checkpoint: files/other, preset: reference, size_px: 128}}}}
  augmentation: {{redirectors: [xunet_lite]}}
models.sted.preprocess:
  models: {{sted: {{preprocess: equalise}}}}
  augmentation: {{redirectors: [xunet_lite]}}
estimators.vgg.view: {{estimators: {{vgg: {{view: small}}}}}}
estimators.given.view: {{estimators: {{given: {{view: full}}}}}}
models.xunet_deca.data.labelled: {{models: {{xunet_deca: {{data: {{labelled: photos}}}}}}}}
models.xunet_deca.data.view: {{models: {{xunet_deca: {{data: {{view: near}}}}}}}}
models.sted.data.labelled:
  models: {{sted: {{data: {{labelled: photos}}}}}}
  augmentation: {{redirectors: [xunet_lite]}}
models.sted.data.view: {{models: {{sted: {{data: {{view: small}}}}}}}}
models.sted.network.kind: {{models: {{sted: {{size_px: 128, network: {{kind: dense}}}}}}}}
models.sted.objective.mixing:
  models:
    sted: {{objective: {{mixing: false, disentangle_embedding: 0, disentangle_pseudo_label: 0}}}}
evaluation.albums: {{evaluation: {{albums: {{size: 3}}}}}}
evaluation.encoder: {{evaluation: {{encoder: given_deca}}}}
evaluation.datasets: {{evaluation: {{datasets: [], remove_background: []}}}}
evaluation.models: {{evaluation: {{models: [copy]}}}}
augmentation.counts: {{augmentation: {{counts: [13]}}}}
""")
# Leaves without another value: what their entry is, or that it is published.
WITHOUT = {
    *("datasets.synthetic.source", "datasets.synthetic.split", "datasets.photos.source"),
    *("datasets.synthetic.capture.photo", "datasets.synthetic.capture.quality"),
    *(f"encoders.given_deca.{key}" for key in ("class", "preset", "checkpoint")),
    *("encoders.deca.head_sha256", "estimators.resnet.checkpoint", "estimators.resnet.view"),
    *(f"estimators.given.{key}" for key in ("preset", "size_px", "preprocess", "labels")),
    *(f"models.xunet_deca.{key}" for key in ("class", "distil", "objective.flip")),
    *(f"models.sted.{key}" for key in ("class", "labels", "network.densenet_blocks")),
    *("models.xunet_student.distil.teacher", "models.xunet_lite.sampling.sources"),
    # A view with numbers of a camera has the one framing; no method here learns from pictures
    # without labels, and who has a model per person is evaluated on one data set
    # (test_entry_data.py).
    "views.near.framing",
    *(
        f"models.{m}.data.{k}"
        for m in ("xunet_deca", "sted")
        for k in ("unlabelled", "per", "album")
    ),
}
# Entries that are there for the sake of others; the leaves of their kinds are changed elsewhere.
FOR_OTHERS = ("estimators.other.", "models.xunet_lite.", "models.xunet_student.")
FOR_OTHERS += ("models.xunet_near.", "views.small.", "views.full.")


def overlay(name, value):
    """A configuration that sets one leaf."""
    for key in reversed(name.split(".")):
        value = {key: value}
    return value


CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def merged(*overlays):
    config = copy.deepcopy(CONFIG)
    for above in overlays:
        merge(config, copy.deepcopy(above))
    return config


def told(config):
    """What the settings say, with what presets fill in, as text."""
    settings = load_settings(config)
    models = [
        [name, model.resolve(), str(declared(model)), model.sampling.model_dump()]
        + [settings.data_of(name).model_dump()]
        for name, model in settings.models.items()
    ]
    return json.dumps([settings.model_dump(mode="json", exclude={"models"}), models])


def leaves(section, name=""):
    """Every leaf of the settings: its name, value and annotation."""
    for key, field in type(section).model_fields.items():
        value, inner = getattr(section, key), f"{name}{field.alias or key}"
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{inner}.")
        elif isinstance(value, dict) and any(isinstance(v, BaseModel) for v in value.values()):
            for entry, settings in value.items():
                yield from leaves(settings, f"{inner}.{entry}.")
        else:
            yield inner, value, field.annotation


def choices(annotation):
    """Values that an annotation lists."""
    if get_origin(annotation) is Literal:
        return [*get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in choices(part)]


def others(value, annotation=None):
    """Values that a leaf may be able to have instead."""
    yield from choices(annotation)
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (type(value)(n) for n in (value + 1, value * 2, value / 2, value + 0.01))
    elif isinstance(value, list | tuple):
        yield from ([*value[::-1]], [*value[:-1]], [*value, 0.1])
        yield from ([*value[:-1], other] for other in others(value[-1]) if value)
    elif isinstance(value, str):
        yield from (
            "files/other",
            "val",
            "other",
            "deca",
            "given_deca",
            "vgg",
            "resnet",
            "photos",
            "2" * 64,
        )
    else:
        yield from (True, False, 2, 3, 1, 4, 8, 16, 0.5, 0.1, 12, [1, 2], [8, 16], [0.1, 0.2])
        yield from ("files/other", "vgg", "other", "given_deca", "1" * 64, {"count": 12})
    yield None


def another(name, value, annotation, before):
    """An overlay that gives a leaf another valid value, None where there is none."""
    if name in CHANGES:
        return CHANGES[name]
    for other in others(value, annotation):
        try:
            if told(merged(BASE, overlay(name, other))) != before:
                return overlay(name, other)
        except (ConfigurationError, TypeError):
            continue
    return None


def groups(every):
    """Overlays by the leaf that they change, in groups that are planned at once.

    Of every leaf, one by one, but: networks have their leaves changed side by side, since their
    jobs differ; and resources, which no job depends on, are changed all together. Otherwise one
    leaf of each line of ``EXPECTED``, those of different sections side by side.
    """
    found, before, places = {"none": {}}, told(merged(BASE)), Counter()
    lines = set()
    for name, value, annotation in leaves(load_settings(merged(BASE))):
        parts = name.split(".")
        section, entry, training = parts[0], ".".join(parts[:2]), ".train." in name
        kept = (".train.", ".distil.", "models.xunet_lite.sampling.")
        if name.startswith(FOR_OTHERS) and not any(part in name for part in kept):
            continue
        if not every and line_of(name) in lines:
            continue
        above = another(name, value, annotation, before)
        if above is None:
            found["none"] |= {} if training else {name: None}
            continue
        lines.add(line_of(name))
        group = name
        if section == "resources":
            group = "resources"
        elif section in ("models", "estimators", "encoders", "identity") and name not in CHANGES:
            entry = "identity" if section == "identity" else entry
            group = f"network leaves {places[entry]}"
            places[entry] += 1
        elif not every and len(parts) > 1:
            group = f"leaves {places[section]}"
            places[section] += 1
        try:
            load_settings(merged(BASE, *found.get(group, {}).values(), above))
        except ConfigurationError:
            group = name
        found.setdefault(group, {})[name] = above
    return found


def line_of(name):
    """The longest beginning of a leaf's name that ``EXPECTED`` has, None where it has none."""
    parts = name.split(".")
    starts = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((start for start in starts if start in EXPECTED), None)


def readers(name, jobs):
    """Jobs that depend on a leaf themselves, among those that are planned."""
    if line_of(name) is None:
        return {f"EXPECTED says nothing of {name}"}
    page = set() if name.startswith("resources.") else matching("write_report", jobs)
    return matching(EXPECTED[line_of(name)], jobs) | page


def matching(patterns, jobs):
    """Jobs whose name, or its beginning, fits one of the patterns."""
    return {
        job
        for job in jobs
        for pattern in patterns.split(", ")
        if fnmatch(job, pattern) or fnmatch(job, f"{pattern} *")
    }


@pytest.fixture(scope="module")
def pretended(tmp_path_factory):
    """A folder that looks as if everything had run with ``BASE``."""
    folder = tmp_path_factory.mktemp("pretended")
    for place, person in itertools.product(("photos", "others"), "abc"):
        (folder / place / person).mkdir(parents=True)
        (folder / place / person / "0.jpg").touch()
    names = ("cameras.csv", "gaze.csv", "head.npz", "sfm.bin", "emoca.ckpt", "estimator.pth")
    names += ("start.safetensors", "landmarks.csv", "other", "split.json")
    for name in (*(f"files/{name}" for name in names), CONFIG["assets"]["lpips_alexnet"]["path"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"train": ["a"], "val": ["b"], "test": ["c"]}')
    points = [f"{axis}{number}" for number in range(68) for axis in "xy"]
    tables = {"cameras": ["fx", "fy", "cx", "cy"], "gaze": ["pitch_deg", "yaw_deg"]}
    tables = tables | {f"other-{name}": columns for name, columns in tables.items()}
    for name, columns in (tables | {"photos-landmarks": points}).items():
        lines = [",".join(["file_name", *columns])]
        lines += [",".join([f"{person}/0.jpg", *["50"] * len(columns)]) for person in "abc"]
        (folder / f"files/{name}.csv").write_text("\n".join(lines) + "\n")
    with planning.quickly():
        planning.pretend(folder, merged(BASE), TARGETS)
        assert planning.plan(folder, merged(BASE), TARGETS).needed == set()
        yield folder


def replanned(folder, overlays):
    """What is wrong with a plan after changes, and the files of the jobs that read them."""
    plan = planning.plan(folder, merged(BASE, *overlays.values()), TARGETS)
    wanted = {name: readers(name, {*plan.outputs}) for name in overlays}
    jobs = set().union(*wanted.values())
    faults = [f"not run: {job}" for job in jobs - plan.own]
    faults += [f"run: {job}" for job in plan.own - jobs]
    if plan.needed != plan.following(plan.own):
        faults.append(f"not as follows: {sorted(plan.needed ^ plan.following(plan.own))}")
    files = {
        name: {f for job in of for f in plan.outputs.get(job, [])} for name, of in wanted.items()
    }
    return sorted(faults), files


WHOLE = pytest.mark.whole
EVERY = pytest.mark.parametrize(
    "changed", [False, pytest.param(True, marks=WHOLE)], ids=["some", "every"], indirect=True
)


@pytest.fixture(scope="module")
def changed(pretended, request):
    """By the name of a group: its overlays, what is wrong with the plan, and files by leaf."""
    groups_of = groups(request.param)
    without = set(groups_of.pop("none"))
    assert without == WITHOUT if request.param else without <= WITHOUT
    with multiprocessing.get_context("fork").Pool(2) as pool:
        plans = pool.starmap(replanned, [(pretended, of) for of in groups_of.values()], chunksize=4)
    return {name: (groups_of[name], *plan) for name, plan in zip(groups_of, plans, strict=True)}


def test_of_each_leaf_is_said_who_reads_it():
    names = [name for name, _, _ in leaves(load_settings(merged(BASE)))]
    unsaid = {name for name in names if line_of(name) is None}
    assert len(names) > 500 and unsaid <= WITHOUT


@EVERY
def test_each_leaf_reruns_the_jobs_that_depend_on_it_and_no_others(changed):
    faults = {name: said for name, (_, said, _) in changed.items() if said}
    assert faults == {}, json.dumps(faults, indent=1)


def stages(config):
    """Stages of dvc.yaml for a configuration in which every key is said."""
    whole = load_settings(config).model_dump(mode="json", by_alias=True)
    return yaml.safe_load(dvc_yaml(whole, augmentation=True))["stages"]


def stage_of(path, stages):
    """Name of the stage that makes a file, None where none does."""
    for name, stage in stages.items():
        found = [*stage["outs"], *stage.get("metrics", [])]
        outs = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in found]
        if any(PurePosixPath(path).is_relative_to(out) for out in outs):
            return name
    return None


@EVERY
def test_stages_of_dvc_depend_on_the_leaves_that_their_rules_depend_on(changed):
    before, lacking = stages(merged(BASE)), {}
    keys = {
        name: [key for entry in stage.get("params", []) for key in entry["config.yaml"]]
        for name, stage in before.items()
    }
    for overlays, _, files in changed.values():
        for leaf in overlays:
            makers = {stage_of(path, before) for path in files[leaf]} - {None}
            left = {
                name
                for name in makers
                if not any(f"{leaf}.".startswith(f"{k}.") for k in keys[name])
            }
            if left:
                # A stage that the change writes anew runs again as well.
                now = stages(merged(BASE, overlays[leaf]))
                lacking[leaf] = sorted(name for name in left if now.get(name) == before[name])
    # Other shards are other files, which DVC sees; and it asks for samples and page alike.
    found = {leaf: names for leaf, names in lacking.items() if names}
    assert found.keys() <= {"shards", "sampling.sample_only"}, found


@pytest.mark.parametrize(
    ("first", "second", "reading"),
    [
        # Numbers of one rule that change places.
        ("{seed: 100, evaluation: {bootstrap: 200}}", "{seed: 200, evaluation: {bootstrap: 100}}",
         "measure_model"),
        pytest.param("{seed: 3, evaluation: {perturbed: 5}}",
                     "{seed: 5, evaluation: {perturbed: 3}}", "perturb_model", marks=WHOLE),
        pytest.param("{seed: 3, augmentation: {targets: 5}}",
                     "{seed: 5, augmentation: {targets: 3}}", "augment_faces", marks=WHOLE),
        # The same files in other roles.
        ("{encoders: {given_deca: {class: emoca, emoca: files/other}}}",
         "{encoders: {given_deca: {class: deca, checkpoint: files/other, emoca: null}}}",
         "encode_shard * given_deca *, acquire_faces given_deca"),
        pytest.param(
            "{assets: {face_alignment_landmarks: {path: a}, face_alignment_detector: {path: b}}}",
            "{assets: {face_alignment_landmarks: {path: b}, face_alignment_detector: {path: a}}}",
            "detect_landmarks", marks=WHOLE),
    ],
)  # fmt: skip
def test_values_that_change_places_are_noticed(pretended, tmp_path, first, second, reading):
    folder = tmp_path / "again"
    shutil.copytree(pretended, folder)
    first, second = (merged(BASE, yaml.safe_load(above)) for above in (first, second))
    planning.pretend(folder, first, TARGETS)
    plan = planning.plan(folder, second, TARGETS)
    assert matching(reading, plan.outputs) and matching(reading, plan.outputs) <= plan.own


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=WHOLE)])
def test_contents_of_files_count_as_their_names_do(pretended, tmp_path, every):
    folder = tmp_path / "again"
    shutil.copytree(pretended, folder)
    given = {
        name: value
        for name, value, _ in leaves(load_settings(merged(BASE)))
        if isinstance(value, str) and (folder / value).is_file()
    }
    assert len(given) == 11, given
    for name, value in [*given.items()][::every]:
        before = (folder / value).read_bytes(), (folder / value).stat().st_mtime_ns
        # Tables of the data set have to stay readable, since plans read them.
        (folder / value).write_bytes(before[0] + b"\n")
        plan = planning.plan(folder, merged(BASE), TARGETS)
        reading = readers(name, plan.outputs) - {"write_report"}
        assert reading and plan.needed == plan.following(reading), name
        (folder / value).write_bytes(before[0])
        os.utime(folder / value, ns=(before[1], before[1]))


@pytest.mark.parametrize(
    ("target", "change"),
    [
        *(
            pytest.param(target, "{}", marks=[WHOLE] * (number % 3 > 0))
            for number, target in enumerate(STAGES)
        ),
        *(
            pytest.param(
                target,
                "{sampling: {sample_only: true}}",
                marks=[] if target in ("samples", "all") else WHOLE,
            )
            for target in STAGES
        ),
    ],
)
def test_a_stage_asks_for_everything_that_is_made_for_it(pretended, target, change):
    plan = planning.plan(pretended, merged(BASE, yaml.safe_load(change)), (target,))
    made = {path for job, outputs in plan.outputs.items() for path in outputs if job != target}
    assert made and made <= set(plan.inputs[target])


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=WHOLE)])
def test_a_missing_file_is_made_again_and_what_follows_it(pretended, tmp_path, every):
    """Of one job of every rule, or every fifth, whose last output is gone."""
    folder = tmp_path / "again"
    shutil.copytree(pretended, folder)
    plan = planning.plan(folder, merged(BASE), TARGETS)
    jobs = {job.split()[0]: job for job, outputs in plan.outputs.items() if outputs}
    for job in [*jobs.values()][::every]:
        path = plan.outputs[job][-1]
        (folder / path).rename(folder / "away")
        assert planning.plan(folder, merged(BASE), TARGETS).needed == plan.following({job}), path
        (folder / "away").rename(folder / path)


def test_results_stand_without_the_photos_that_they_were_made_from(pretended, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(pretended, folder)
    for gone in ("photos", "results/photos/landmarks", "results/photos/supplementary"):
        shutil.rmtree(folder / gone)
    config = merged(BASE, {"acquire": {"photos": None}})
    # The page prints the configuration.
    assert planning.plan(folder, config, ("all",)).needed == {"write_report", "all"}


@pytest.mark.parametrize(
    ("value", "told"),
    [("__import__('pathlib').Path('a')", "PosixPath"), ("lambda wildcards, input: 1", "'input'")],
)
def test_a_parameter_that_would_not_be_compared_is_refused(tmp_path, value, told):
    """One without a text of its own, and a function of more than wildcards."""
    snakefile = tmp_path / "Snakefile"
    snakefile.write_text(
        f'include: "{ROOT}/rules/staleness.smk"\n'
        f'rule a:\n    output: "a.txt"\n    params: x={value}\n    script: "a.py"\n'
        "compare_whole(rules.a.rule)\n"
    )
    with pytest.raises(WorkflowError, match=told):
        planning.plan(tmp_path, {}, ("a",), snakefile)
