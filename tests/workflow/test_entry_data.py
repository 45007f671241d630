"""Entries with data of their own: what is made for them, and what a change of these makes anew."""

import planning
import pytest
import yaml

from regaze.settings import ConfigurationError, load_settings
from regaze.versioning import dvc_yaml

CONFIG = """
shards: 2
datasets: {other: {source: folder, root: photos, intrinsics: cameras.csv}}
views: {near: {patch_size: [64, 64], focal: 400}, far: {focal: 300}}
encoders: {deca: {preset: tiny}}
estimators: {vgg: {preset: tiny, size_px: 32}, resnet: {preset: tiny, size_px: 32}}
identity: null
models:
  xunet: null
  xunet_deca: {preset: tiny, size_px: 32, data: {view: far}}
  xunet_lite: {preset: tiny, size_px: 32}
  xunet_student: null
  regression: {preset: tiny, size_px: 32, data: {view: near, labelled: other}}
  sted: null
  diffusionrig_gaze: null
  personal: {class: xunet, preset: tiny, size_px: 32, data: {per: person, album: 3},
    train: {transfer: results/models/xunet_lite}}
evaluation: {albums: {size: 4}, remove_background: true, study: {models: null}}
augmentation: {redirectors: []}
"""


def merged(text="{}"):
    return planning.configured(CONFIG, text)


@pytest.fixture(scope="module")
def pretended(tmp_path_factory):
    """A folder that looks as if everything had run."""
    folder = tmp_path_factory.mktemp("data")
    lines = ["file_name,fx,fy,cx,cy"]
    for person in "abcdefgh":
        (folder / "photos" / person).mkdir(parents=True)
        (folder / "photos" / person / "0.jpg").touch()
        lines.append(f"{person}/0.jpg,50,50,50,50")
    (folder / "cameras.csv").write_text("\n".join(lines) + "\n")
    lists = '{"train": ["a", "b"], "val": ["c"], "test": ["d"]}'
    (folder / "photos/split.json").write_text(lists)
    for name in ("face_alignment_landmarks", "face_alignment_detector"):
        path = folder / merged()["assets"][name]["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with planning.quickly():
        planning.pretend(folder, merged(), ("all",))
        yield folder


def own(folder, text):
    """Rules and models of the jobs that a change makes run again themselves, pages apart."""
    plan = planning.plan(folder, merged(text), ("all",))
    assert plan.needed == plan.following(plan.own)
    return {job for job in plan.own if not job.startswith("write_report")}, plan


def test_what_an_entry_sees_is_made_in_its_view(pretended):
    plan = planning.plan(pretended, merged(), ("all",))
    assert plan.needed == set()
    inputs = set(plan.inputs["train_model regression"])
    assert {"results/other@near/faces/shard-001.h5", "results/other/split.json"} <= inputs
    assert "results/other@near/faces/rejected.parquet" in inputs
    codes = {f"results/synthetic@far/latents/deca/part-{n}.parquet" for n in ("000", "001")}
    for job in ("train_model xunet_deca", "sample_model synthetic xunet_deca"):
        assert codes <= set(plan.inputs[job])
    sampled = set(plan.inputs["sample_model synthetic xunet_deca"])
    assert {
        "results/synthetic/faces/shard-000.h5", "results/synthetic/masks/shard-000.h5",
        "results/synthetic@far/faces/shard-000.h5", "results/synthetic@far/masks/shard-000.h5",
    } <= sampled  # fmt: skip
    # The other set is seen in the one view, and nobody is redirected in it.
    assert not [job for job in plan.outputs if job.endswith((" other", " other 000"))
                and not job.startswith(("write_split", "detect", "estimate"))]  # fmt: skip


def test_a_model_per_person_is_trained_on_albums_and_evaluated_as_one(pretended):
    plan = planning.plan(pretended, merged(), ("all",))
    assert {"train_albums personal 000", "train_albums personal 001"} <= set(plan.outputs)
    assert "train_model personal" not in plan.outputs
    inputs = set(plan.inputs["train_albums personal 000"])
    assert {
        "results/synthetic/albums.json",
        "results/models/xunet_lite/model.safetensors",
    } <= inputs
    for job in ("fix_pairs synthetic", "perturb_model synthetic personal"):
        assert "results/synthetic/albums.json" in plan.inputs[job]
    sampled = set(plan.inputs["sample_model synthetic personal"])
    assert {"results/models/personal/model.json", "results/models/personal/album-001"} <= sampled
    assert "results/evaluation/personal/synthetic/metrics.json" in plan.inputs["write_report"]


@pytest.mark.parametrize(
    ("text", "jobs"),
    [
        ("models: {personal: {data: {album: 2}}}", {"train_albums"}),
        ("models: {personal: {train: {images: 99}}}", {"train_albums"}),
        ("evaluation: {albums: {size: 5}}", {"draw_albums"}),
        # Its new set is checked in its view, in which it was sampled before.
        (
            "models: {regression: {data: {labelled: null}}}",
            {"train_model regression", "gather_faces synthetic@near"},
        ),
        ("views: {far: {focal: 310}}", {"normalise_shard"}),
    ],
)
def test_a_change_of_data_runs_again_who_has_it_alone(pretended, text, jobs):
    found, plan = own(pretended, text)
    assert found and {next((j for j in jobs if one.startswith(j)), one) for one in found} == jobs
    trained = {job for job in plan.needed if job.startswith("train_") and " deca" not in job}
    wanted = {
        "draw_albums": "personal",
        "train_albums": "personal",
        "normalise_shard": "xunet_deca",
    }
    wanted = next((wanted[job] for job in jobs if job in wanted), "regression")
    assert trained and all(wanted in job for job in trained)


def test_stages_of_dvc_are_told_apart_by_view():
    stages = yaml.safe_load(dvc_yaml(merged()))["stages"]
    assert {"faces-in-far", "masks-in-far", "latents-deca-in-far", "faces-other-in-near"} <= set(
        stages
    )
    assert "results/synthetic@far/faces" in stages["faces-in-far"]["outs"]
    assert "views.far" in stages["faces-in-far"]["params"][0]["config.yaml"]
    assert "views.far" not in stages["faces"]["params"][0]["config.yaml"]
    personal = stages["train-personal"]
    assert "train_albums gather_albums" in personal["cmd"]
    assert {"results/models/personal/album-000", "results/models/personal/album-001"} <= {
        out for out in personal["outs"] if isinstance(out, str)
    }
    assert "results/synthetic/albums.json" in personal["deps"]
    assert "results/models/personal/album-000" in stages["evaluate-personal"]["deps"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("evaluation: {albums: null}", "'person' needs evaluation.albums, found none"),
        ("models: {personal: {data: {album: 5}}}", "albums have 4 pictures"),
        ("models: {xunet_lite: {data: {album: 3}}}", "album: is for per: person"),
        ("evaluation: {datasets: [other]}", "but evaluated is on synthetic, other"),
        ("models: {personal: {labels: {count: 9}}}", "labels: not with a model per person"),
        ("models: {personal: {train: {gpus: 2, batch: 8}}}", "is trained by one process"),
        ("augmentation: {redirectors: [personal]}", "has a model per person, none for all"),
        (
            "models: {xunet_lite: {train: {transfer: results/models/personal}}}",
            "none that 'xunet_lite' could learn from",
        ),
    ],
)  # fmt: skip
def test_personal_models_that_cannot_be_are_refused(text, told):
    with pytest.raises(ConfigurationError, match=told):
        load_settings(merged(text))
