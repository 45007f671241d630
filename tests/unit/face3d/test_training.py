"""Training on the synthetic set: what is known, its signs, the losses, and a tiny whole run."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from heads import tiny_head

from regaze.angles import vector_from_angles
from regaze.capture import render_capture
from regaze.face3d.crop import to_image_space
from regaze.face3d.crops import CropBatches
from regaze.face3d.deca import Deca, load_encoder
from regaze.face3d.flame import Flame
from regaze.face3d.ground_truth import (
    face_triangles,
    fit_cameras,
    part_of,
    read_ground_truth,
    read_views,
)
from regaze.face3d.model import save_flame
from regaze.face3d.patches import crop_patches
from regaze.face3d.quality import measure, photos
from regaze.face3d.settings import EncoderSettings
from regaze.face3d.shading import SH_CONSTANTS
from regaze.face3d.stage import train_encoder
from regaze.face3d.training import EncoderTask, plain_weights
from regaze.faces import FacesReader
from regaze.normalise.stage import make_faces
from regaze.rotations import axis_angle_to_matrix
from regaze.training.context import ModelFiles


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Faces of a few people with the coarse head, and the files of the stage."""
    folder = tmp_path_factory.mktemp("synthetic")
    head = tiny_head()
    persons = {"train-redirector": 2, "train-evaluator": 1, "val": 1, "test": 2}
    root = folder / "capture"
    split = render_capture(
        root, persons=persons, head_poses=2, gazes=2, photo=160, focal=310.0, model=head
    )
    make_faces(
        {"source": "synthetic", "root": str(root)},
        folder / "shard.h5",
        folder / "rejected.parquet",
        shard=0,
        shards=1,
        frame_check="none",
    )
    model = head
    save_flame(folder / "head.npz", model)
    files = {
        "faces": [str(folder / "shard.h5")],
        "split": str(root / "split.json"),
        "head": str(folder / "head.npz"),
        "parameters": str(root / "parameters.h5"),
    }
    return files, split, model


@pytest.fixture(scope="module")
def known(data):
    files, _, model = data
    reader = FacesReader(files["faces"])
    return read_ground_truth(files["parameters"], reader, reader.rows(), model), reader


def test_known_heads_lie_on_the_photos(known):
    faces, _ = known
    size = np.ptp(faces.landmarks, axis=1).mean()
    assert faces.misfit.mean() / size < 0.03, "only perspective separates them"
    assert faces.camera[:, 0].min() > 0


def test_heads_turn_as_their_labels(known):
    """The nose of the head points along the label's direction: all three signs."""
    faces, reader = known
    turn = axis_angle_to_matrix(faces.pose[:, :3].double()).numpy()
    front = turn @ [0.0, 0.0, 1.0]
    direction = -vector_from_angles(reader.labels[faces.rows, 2:4].astype(float))
    np.testing.assert_allclose(front * [1, -1, -1], direction, atol=1e-6)
    up = turn @ [0.0, 1.0, 0.0]
    assert (up[:, 1] > 0.9).all() and (np.abs(up[:, 0]) < 0.15).all(), "no roll"


def test_camera_of_a_crop_projects_the_known_head_onto_the_crops_landmarks(known, data):
    faces, reader = known
    places = np.arange(len(faces))
    crops = crop_patches(reader.pixels(faces.rows), faces.landmarks, 32)
    head = Flame(data[2])(faces.shape, faces.exp, faces.pose, faces.eye_pose)
    cam = faces.cam(places, crops.transforms, 32)
    found = to_image_space(head.landmarks3d, cam)[..., :2]
    wanted = faces.targets(places, crops.transforms, 32)
    zoom = crops.transforms[:, 0, 0]
    apart = (found - wanted).norm(dim=-1).mean(1).numpy() * 16
    np.testing.assert_allclose(apart, faces.misfit * zoom, rtol=2e-3)


def test_cameras_are_found_exactly_where_there_is_no_perspective():
    rng = np.random.default_rng(0)
    points = rng.normal(0, 0.05, (3, 68, 2))
    true = np.array([[500.0, 60.0, 70.0], [400.0, 64.0, 66.0], [900.0, 10.0, -5.0]])
    marks = true[:, None, :1] * points * [1, -1] + true[:, None, 1:]
    camera, misfit = fit_cameras(points, marks)
    np.testing.assert_allclose(camera, true)
    assert misfit.max() < 1e-9


def test_a_part_of_the_head_is_posed_as_the_whole(data):
    model = data[2]
    keep = face_triangles(model)
    part = part_of(model, keep)
    torch.manual_seed(0)
    codes = 0.5 * torch.randn(2, 100), 0.5 * torch.randn(2, 50), 0.2 * torch.randn(2, 6)
    eyes = 0.2 * torch.randn(2, 6)
    whole, cut = Flame(model)(*codes, eyes), Flame(part)(*codes, eyes)
    torch.testing.assert_close(cut.landmarks3d, whole.landmarks3d, atol=1e-6, rtol=0)
    torch.testing.assert_close(cut.joints, whole.joints, atol=1e-6, rtol=0)
    kept = np.isin(np.arange(len(model.f)), np.flatnonzero(keep))
    assert kept.sum() <= len(part.f) < len(model.f)


def test_views_hold_the_colours_of_the_face(known, data):
    faces, reader = known
    views = read_views(faces, reader, data[2], 0)
    assert len(views.uv) == int(faces.view.max()) + 1 < len(faces)
    assert float(views.share.mean()) > 0.8
    assert float(views.uv.abs().max()) <= 1 and float(views.colours.max()) <= 1
    assert float((views.normals[..., 2] > 0).float().mean()) > 0.98
    again = read_views(faces, reader, data[2], 0)
    assert torch.equal(views.colours, again.colours)


def task_and_batch(data, known, **weights):
    files, split, model = data
    reader = FacesReader(files["faces"])
    faces = read_ground_truth(files["parameters"], reader, reader.rows(split["train"]), model)
    torch.manual_seed(0)
    losses = EncoderSettings().losses.model_dump() | weights
    task = EncoderTask(Deca(model, "tiny"), faces, losses)
    views = read_views(faces, reader, model, 0)
    batches = CropBatches(
        reader, split["train"], size=32, batch=4, seed=0, known=faces, views=views, jitter=0.05
    )
    return task, batches


def test_batches_depend_on_the_step_alone(data, known):
    _, batches = task_and_batch(data, known)
    first, other, again = batches.load(3), batches.load(4), batches.load(3)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["transform"], other["transform"])


def test_known_codes_cost_nothing_but_the_perspective(data, known):
    task, batches = task_and_batch(data, known)
    batch = batches.finish(batches.load(0))
    assert batch["crops"].shape == (4, 3, 32, 32)
    truth = {name: batch[name] for name in ("shape", "exp", "pose", "cam")}
    truth |= {"tex": torch.zeros(4, 50), "light": torch.zeros(4, 9, 3)}
    truth["light"][:, 0] = 3.0
    task.network.regress = lambda crops: truth
    terms = task.losses(batch, "main", None)
    assert float(terms["shape"]) == 0 == float(terms["expression"]) and float(terms["pose"]) == 0
    assert float(terms["light_prior"]) == 0 and float(terms["texture_prior"]) == 0
    assert float(terms["landmark_px"]) < 1.0
    dark = {**truth, "light": truth["light"] * 0.1}
    task.network.regress = lambda crops: dark
    assert float(task.losses(batch, "main", None)["photo"]) > float(terms["photo"])


def test_a_head_without_texture_is_painted_grey(data, known):
    files, split, model = data
    _, batches = task_and_batch(data, known)
    batch = batches.finish(batches.load(0))
    bare = Deca(replace(model, MU=None, PC=None), "tiny")
    faces = read_ground_truth(files["parameters"], known[1], known[1].rows(split["train"]), model)
    task = EncoderTask(bare, faces, EncoderSettings().losses.model_dump())
    found = {name: batch[name] for name in ("shape", "exp", "pose", "cam")}
    found |= {"tex": torch.ones(4, 50), "light": torch.zeros(4, 9, 3)}
    found["light"][:, 0] = 3.0
    task.network.regress = lambda crops: found
    shading = 3 * SH_CONSTANTS[0]
    grey = {**batch, "colours": torch.full_like(batch["colours"], 0.7 * shading)}
    assert float(task.losses(grey, "main", None)["photo"]) == pytest.approx(0, abs=1e-6)
    lighter = {**batch, "colours": grey["colours"] + 0.1}
    assert float(task.losses(lighter, "main", None)["photo"]) == pytest.approx(0.2, rel=1e-4)


def test_a_head_without_a_mask_or_a_chart(known, data):
    _, reader = known
    faces, model = known[0], data[2]
    whole = replace(model, uv_face_mask=None)
    assert face_triangles(whole).all() and not face_triangles(model).all()
    share = read_views(faces, reader, whole, 0).share
    assert set(share.unique().tolist()) <= {0.0, 1.0} and float(share.mean()) > 0.9
    torch.manual_seed(0)
    bare = Deca(replace(model, uvcoords=None, uvfaces=None, MU=None, PC=None), "tiny")
    found = measure(bare, reader, faces)
    assert found["psnr_db"] is None and found["psnr_db_mean"] is None
    assert found["landmark_percent"] > found["landmark_percent_known"]


def test_untrained_encoder_predicts_the_mean_and_folds_exactly(data, known):
    task, batches = task_and_batch(data, known)
    batch = batches.finish(batches.load(0))
    task.network.eval()
    plain = Deca(data[2], "tiny").eval()
    plain.load_state_dict(plain_weights(task.network, task.network.state_dict()))
    ours, theirs = task.network.encode(batch["crops"]), plain.encode(batch["crops"])
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-5)
    assert float(ours["cam"][:, 0].min()) > 5
    assert float(ours["pose"][:, 3:].abs().max()) == 0, "the capture's jaws never move"


def test_wrong_inputs_are_named(data, tmp_path):
    files, split, model = data
    reader = FacesReader(files["faces"])
    rows = reader.rows(split["test"])
    broken = tmp_path / "parameters.h5"
    with h5py.File(files["parameters"]) as source, h5py.File(broken, "w") as file:
        for person in source:
            group = file.create_group(person)
            for name in ("shape", "expression", "eye_pose"):
                group[name] = source[person][name][:]
            group["shape"][...] = np.roll(group["shape"][:], 3, 1) * 12
        del file[split["test"][1]]["eye_pose"]
    with pytest.raises(ValueError, match=f"{split['test'][1]}/eye_pose: expected a dataset"):
        read_ground_truth(broken, reader, rows, model)
    with h5py.File(broken, "r+") as file:
        del file[split["test"][0]]["shape"]
        file[split["test"][0]]["shape"] = np.zeros((1, 4))
    words = f"{split['test'][0]}/shape: expected at least 4 rows, found 1"
    with pytest.raises(ValueError, match=words):
        read_ground_truth(broken, reader, reader.rows(split["test"][:1]), model)
    with h5py.File(broken, "r+") as file:
        del file[split["test"][0]]
    with pytest.raises(ValueError, match=f"{split['test'][0]}: expected a group, found none"):
        read_ground_truth(broken, reader, rows, model)
    with pytest.raises(ValueError, match="expected rows of faces, found none"):
        read_ground_truth(broken, reader, rows[:0], model)
    with pytest.raises(ValueError, match="another head_model"):
        read_ground_truth(broken, reader, reader.rows(split["train"]), model)
    with pytest.raises(ValueError, match="no such file"):
        read_ground_truth(tmp_path / "absent.h5", reader, rows, model)


def test_faces_without_landmarks_or_sources_are_named(data, tmp_path):
    files, _, model = data
    path = tmp_path / "faces.h5"
    path.write_bytes(Path(files["faces"][0]).read_bytes())
    reader = FacesReader(path)
    person = reader.persons[1]
    row = int(reader.rows([person])[2])
    with h5py.File(path, "r+") as file:
        file[person]["landmarks"][2, 30] = np.nan
    with pytest.raises(ValueError, match=rf"faces\.h5: landmarks: row {row}: expected numbers"):
        read_ground_truth(files["parameters"], FacesReader(path), reader.rows(), model)
    with h5py.File(path, "r+") as file:
        del file[person]["source_index"]
    with pytest.raises(ValueError, match=r"faces\.h5: source_index: expected in every person"):
        read_ground_truth(files["parameters"], FacesReader(path), reader.rows(), model)


def test_photos_lie_under_renderings(known):
    """A photo fetched for a rendering of the crop's own size is the crop half a pixel on."""
    faces, reader = known
    picture = photos(reader, faces, np.arange(2), 64, 64)
    crops = crop_patches(reader.pixels(faces.rows[:2]), faces.landmarks[:2], 64).images
    half = torch.nn.functional.avg_pool2d(crops, 2, 1)
    assert float((picture[..., :-1, :-1] - half).abs().mean()) < 0.01


def test_settings_refuse_weights_of_the_other_class():
    with pytest.raises(ValueError, match="belongs to class 'emoca'"):
        EncoderSettings(**{"class": "deca", "emoca": "run", "preset": "reference"})
    with pytest.raises(ValueError, match="need 'reference'"):
        EncoderSettings(checkpoint="deca_model.tar")
    done = EncoderSettings(checkpoint="deca_model.tar", preset="reference")
    assert done.published == "deca_model.tar" and done.resolve()["class"] == "deca"


@pytest.mark.parametrize("kind", ["deca", "emoca"])
def test_stage_writes_an_encoder_that_loads(data, tmp_path, kind):
    files, split, model = data
    config = EncoderSettings(
        **{
            "class": kind,
            "preset": "tiny",
            "train": {
                "images": 64,
                "batch": 16,
                "lr": 0.003,
                "ema_halflife_images": 32,
                "warmup_images": 32,
                "log_every_images": 64,
                "tensorboard": False,
                "precision": "fp32",
            },
        }
    ).resolve()
    names = {"model": "model.safetensors", "record": "model.json", "curve": "curve.csv"}
    written = {name: tmp_path / "m" / file for name, file in names.items()}
    written |= {"state": tmp_path / "state", "quality": tmp_path / "m" / "quality.png"}
    train_encoder("small", config, **files, seed=0, files=ModelFiles(**written))
    record = json.loads(written["record"].read_text())
    quality = record["quality"]
    assert record["kind"] == "encoder" and record["source"] == "synthetic"
    assert quality["rows"] == 8 and quality["rendered_rows"] == 4
    assert written["quality"].stat().st_size > 10_000
    found = load_encoder(tmp_path / "m", model)
    assert found.kind == kind
    reader = FacesReader(files["faces"])
    test = read_ground_truth(files["parameters"], reader, reader.rows(split["test"]), model)
    again = measure(found, reader, test, batch=3)
    assert again["landmark_px"] == pytest.approx(quality["landmark_px"], rel=1e-5)
    assert quality["landmark_percent"] < 15
