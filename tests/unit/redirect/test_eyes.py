"""Looking into the camera, and redirecting one eye alone."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from redirect_command import done, refused
from safetensors.torch import load_file, save_file
from skimage import data

from regaze.faces import FacesAttributes, FacesWriter
from regaze.landmarks.mesh import MeshDetector
from regaze.normalise.geometry import Variant, normalise
from regaze.redirect.animate import write_mp4
from regaze.redirect.one_eye import one_eye_mask


@pytest.fixture(scope="module")
def portrait():
    """A public-domain portrait by NASA, (512, 512, 3) uint8."""
    return data.astronaut()


@pytest.fixture(scope="module")
def points(portrait):
    return MeshDetector().all_faces(portrait)[0]


@pytest.fixture
def restless(models, tmp_path):
    """A model that changes every picture: its last layer's weights are drawn."""
    folder = shutil.copytree(models, tmp_path / "restless")
    state = load_file(folder / "small/model.safetensors")
    torch.manual_seed(0)
    last = [key for key, value in state.items() if value.ndim == 4 and not value.any()]
    assert last
    for key in last:
        state[key] = 0.3 * torch.randn_like(state[key])
    save_file(state, folder / "small/model.safetensors")
    return ("--model", "small", "--models", folder, "--device", "cpu", "--source-gaze", 0, 0)


def faces(folder="redirected"):
    with open(f"{folder}/redirect.json") as file:
        return json.load(file)["faces"]


def test_the_camera_lies_at_0_0_of_every_normalised_face():
    """However a face stands before it: the virtual camera is the photo's own, turned."""
    rng = np.random.default_rng(0)
    turn, place = rng.uniform(-0.6, 0.6, (50, 3)), rng.uniform(-250, 250, (50, 3)) + [0, 0, 700]
    camera = np.array([[500.0, 500.0, 320.0, 240.0]]).repeat(50, 0)
    poses = np.concatenate([turn, place], 1)
    for variant in ("sted", "faze"):
        made = normalise(camera, poses, np.zeros((50, 3)), Variant.named(variant))
        assert not made.problem.astype(bool).any()
        np.testing.assert_allclose(made.gaze, 0.0, atol=1e-9)


def test_looking_at_the_camera_is_a_gaze_of_0_0(here, portrait, models):
    Image.fromarray(portrait).save("a.png")
    asked = ("a.png", "--model", "small", "--models", models, "--device", "cpu")
    done(*asked, "--look-at-camera", "--out", "camera")
    done(*asked, "--gaze", 0, 0, "--out", "told")
    assert faces("camera") == faces("told")
    assert faces("camera")[0]["results"][0]["target_gaze_deg"] == [0, 0]
    for others, name in (
        (("--gaze", 1, 2), "--gaze"),
        (("--relative",), "--relative"),
        (("--sweep", "line"), "--sweep"),
        (("--table", "t.csv"), "--table"),
    ):
        said = refused(*asked, "--look-at-camera", *others, "--out", "none")
        assert f"look-at-camera: expected no {name} beside it" in said
    assert not (here / "none").exists()


def test_every_frame_of_a_video_looks_at_the_camera(here, portrait, models):
    shifted = [portrait[10:250, 90 + 6 * number : 410 + 6 * number] for number in range(3)]
    write_mp4("clip.mp4", shifted, 12.0)
    done("clip.mp4", "--model", "small", "--models", models, "--look-at-camera", "--device", "cpu")
    results = faces()[0]["results"]
    np.testing.assert_allclose([one["target_gaze_deg"] for one in results], 0.0, atol=1e-6)
    assert [one["frame"] for one in results] == [0, 1, 2]


@pytest.mark.parametrize("which", ["left", "right"])
@pytest.mark.parametrize("mode", ["difference", "full"])
def test_only_one_eye_of_a_photo_is_pasted(here, portrait, points, restless, which, mode):
    Image.fromarray(portrait).save("a.png")
    asked = ("a.png", *restless, "--gaze", 5, 9, "--paste", mode)
    done(*asked, "--eyes", which)
    made = np.asarray(Image.open("redirected/a.png")).astype(int)
    changed = np.abs(made - portrait).max(axis=2)
    # The person's right eye lies left in the picture.
    eyes = {"right": points[36:42].mean(0), "left": points[42:48].mean(0)}
    near = {
        name: changed[int(y) - 4 : int(y) + 5, int(x) - 8 : int(x) + 9]
        for name, (x, y) in eyes.items()
    }
    other = "left" if which == "right" else "right"
    assert near[which].mean() > 3 and near[other].max() == 0
    mouth, chin = points[51].astype(int), points[8].astype(int)
    assert changed[mouth[1] :].max() == 0 and changed[chin[1], chin[0]] == 0
    (result,) = faces()[0]["results"]
    assert faces()[0]["eyes"] == which
    # Estimators read both eyes: of one there is nothing to tell.
    assert "measured_patch" not in result and "measured_photo" not in result
    patch = np.asarray(Image.open("redirected/a.patch.png")).astype(int)
    done(*asked, "--eyes", "both", "--out", "both")
    whole = np.asarray(Image.open("both/a.patch.png")).astype(int)
    assert faces("both")[0]["eyes"] == "both" and (whole != patch).any()


def test_one_eye_of_a_video(here, portrait, restless):
    write_mp4("clip.mp4", [portrait[10:250, 90:410]] * 2, 12.0)
    done("clip.mp4", *restless, "--gaze", 5, 9, "--eyes", "left")
    assert faces()[0]["eyes"] == "left" and faces()[0]["redirected"] == 2


def test_what_one_eye_needs(here, portrait, models):
    Image.fromarray(portrait).save("a.png")
    asked = ("a.png", "--model", "small", "--models", models, "--device", "cpu", "--gaze", 0, 0)
    said = refused(*asked, "--eyes", "middle")
    assert "eyes: expected one of both, left, right, found 'middle'" in said
    said = refused(*asked, "--head", 0, 9, "--eyes", "left")
    assert "a.png: eyes: expected both where the head turns, found left" in said


def test_the_mask_has_a_soft_seam_between_the_eyes(points):
    shifted = points - points[36:48].mean(0) + [64, 64]
    left, right = (one_eye_mask(shifted, (128, 128), name) for name in ("left", "right"))
    for mask, own, other in ((right, 36, 42), (left, 42, 36)):
        x, y = shifted[own : own + 6].mean(0).round().astype(int)
        assert mask[y, x] == 1.0
        x, y = shifted[other : other + 6].mean(0).round().astype(int)
        assert mask[y, x] == 0.0
        assert mask.min() >= 0.0 and mask.max() == 1.0
        assert np.abs(np.diff(mask, axis=1)).max() < 0.35
        assert not mask[[0, -1]].any() and not mask[:, [0, -1]].any()
    assert (left * right).max() < 0.5


def test_one_eye_of_rows(here, restless, points, textured):
    """Rows with landmarks; without them there is no telling where the eyes are."""
    marks = (points - points[36:48].mean(0)) * 0.9 + [64, 42]
    labels = np.zeros((2, 8), np.float32)
    attributes = FacesAttributes("sted", (128, 128), 500.0, 600.0, "none", "synthetic")
    pixels = np.stack([textured(seed, (128, 128)) for seed in range(2)])
    for name, columns in (("with.h5", {"landmarks": np.stack([marks] * 2)}), ("without.h5", {})):
        with FacesWriter(name, attributes) as writer:
            writer.add_person("p", pixels, labels, **columns)
    asked = (*restless, "--gaze", 5, 9, "--eyes", "right")
    done("with.h5:p/0", *asked)
    patch = np.asarray(Image.open("redirected/p_0.patch.png")).astype(int)
    shown = pixels[0].reshape(32, 4, 32, 4, 3).mean((1, 3))
    changed = np.abs(patch - shown).max(axis=2)
    (x, y), (other_x, other_y) = (marks[at : at + 6].mean(0) / 4 for at in (36, 42))
    assert changed[int(y), int(x)] > 2 > changed[int(other_y), int(other_x)]
    said = refused("without.h5:p/0", *asked, "--out", "none")
    assert "eyes: expected a face with landmarks to redirect the right eye alone" in said
