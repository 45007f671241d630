"""Photos are shown to a model as its training patches were, and given back as they were."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from regaze.cli import app
from regaze.normalise.camera import pad_distortion
from regaze.normalise.geometry import Variant, normalise
from regaze.normalise.warp import transform_points
from regaze.redirect.adjust import Adjustment, similarity
from regaze.redirect.angles import Request
from regaze.redirect.paste import View, paste, window_mask
from regaze.redirect.place import photo_place
from regaze.redirectors.patches import OUTER_CORNERS, TrainedPatches

CORNERS = np.array([[27.0, 39.0], [101.0, 40.0]])
TOLD = {
    "patch_size": [128, 128],
    "looked_at": 100,
    "eyes": {
        "right": CORNERS[0].tolist(),
        "left": CORNERS[1].tolist(),
        "by_head": None,
        "spread_px": [1, 1, 1, 1],
        "found": 98,
        "detector": "mediapipe",
    },
    "colours": {"mean": [150, 120, 100], "spread": [20, 25, 30]},
    "gaze": {"pitch": [-14, 13], "yaw": [-19, 18]},
    "head": {"pitch": [-10, 10], "yaw": [-16, 17]},
}
STRAIGHT = np.zeros(2)


def told(**changes):
    return TrainedPatches.model_validate(TOLD | changes)


def adjustment(**options):
    return Adjustment(told(), **options)


def seen(size=128):
    camera = np.array([400.0, 402.0, 161.0, 118.0])
    pose = np.array([0.1, -0.15, 0.02, 12.0, -8.0, 520.0])
    variant = Variant.named("sted", size)
    made = normalise(camera[None], pose[None], None, variant)
    lens = pad_distortion([-0.12, 0.03, 0.001, -0.002])
    return View(made.homography[0], camera, lens, variant.size)


def marks(scale=1.0, roll=0.0, shift=(0.0, 0.0)):
    """68 points whose outer corners lie off where training has them."""
    points = np.random.default_rng(0).uniform(20, 110, (68, 2))
    middle, turn = CORNERS.mean(0), np.array([[np.cos(roll), np.sin(roll)],
                                              [-np.sin(roll), np.cos(roll)]])  # fmt: skip
    points[OUTER_CORNERS] = middle + shift + scale * (CORNERS - middle) @ turn
    return points


def run(*arguments):
    return CliRunner().invoke(app, ["redirect", *(str(one) for one in arguments)])


@pytest.fixture
def trained(models, tmp_path):
    """The untrained models, one of which tells what it was trained on."""
    folder = shutil.copytree(models, tmp_path / "trained")
    change(folder, TOLD)
    return folder


def change(folder, patches):
    record = json.loads((folder / "small/model.json").read_text())
    (folder / "small/model.json").write_text(json.dumps(record | {"patches": patches}))


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    with open("redirected/redirect.json") as file:
        return result.output, json.load(file)["faces"][0]


def test_two_points_come_to_two_others_by_scale_roll_and_shift_alone():
    matrix = similarity(marks(1.1, 0.2, (3, -2))[OUTER_CORNERS], CORNERS)
    np.testing.assert_allclose(
        transform_points(matrix, marks(1.1, 0.2, (3, -2))[OUTER_CORNERS]), CORNERS, atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(matrix), 1.1**-2)
    np.testing.assert_allclose(matrix[:2, :2] @ matrix[:2, :2].T, np.eye(2) / 1.1**2, atol=1e-12)


@pytest.mark.parametrize(
    "off", [{"scale": 1.05}, {"shift": (2, 2)}, {"roll": 0.05}, {"scale": 0.95, "shift": (-2, 1)}]
)
def test_eyes_that_were_found_elsewhere_give_the_same_patch(textured, off):
    """A normalisation that is off by a similarity is taken back."""
    photo, exact = textured(blur=4.0), seen()
    points = marks(**off)
    moved = View(
        similarity(CORNERS, points[OUTER_CORNERS]) @ exact.homography,
        exact.camera, exact.distortion, exact.patch_size,
    )  # fmt: skip
    view, there, facts = adjustment().aligned(moved, points, STRAIGHT)
    np.testing.assert_allclose(there[OUTER_CORNERS], CORNERS, atol=1e-9)
    np.testing.assert_allclose(view.homography, exact.homography, atol=1e-9)
    before = np.abs(moved.take(photo).astype(int) - exact.take(photo)).mean()
    assert np.abs(view.take(photo).astype(int) - exact.take(photo)).max() <= 1 < before
    np.testing.assert_allclose(facts["scale"], 1 / off.get("scale", 1.0))
    np.testing.assert_allclose(facts["roll_deg"], -np.degrees(off.get("roll", 0.0)), atol=1e-9)


def test_larger_patches_have_their_eyes_in_the_same_place():
    large = seen(256)
    points = marks() * 2 + 0.5
    _, there, facts = adjustment().aligned(large, points, STRAIGHT)
    np.testing.assert_allclose(there[OUTER_CORNERS], (CORNERS + 0.5) * 2 - 0.5)
    np.testing.assert_allclose(facts["scale"], 1.0)


def test_eyes_move_as_the_head_turns_within_what_training_saw():
    rows = [[27, 0, 10, 0, 0], [39, 0, 0, 0, 0], [101, 0, 10, 0, -20], [40, 5, 0, 0, 0]]
    patches = told(eyes=TOLD["eyes"] | {"by_head": rows})
    head = np.radians([10.0, 17.0])
    expected = [[27 + 10 * head[1], 39], [101 + 10 * head[1] - 20 * head[1] ** 2, 40 + 5 * head[0]]]
    np.testing.assert_allclose(patches.eyes.at(head), expected)
    for one in (head, head * 3):
        _, there, _ = Adjustment(patches).aligned(seen(), marks(), one)
        np.testing.assert_allclose(there[OUTER_CORNERS], expected)


@pytest.mark.parametrize("off", [{"scale": 2.0}, {"roll": 0.5}, {"shift": (30, 0)}])
def test_landmarks_of_no_face_move_nothing_and_it_is_told(off):
    view, points = seen(), marks(**off)
    same, there, facts = adjustment().aligned(view, points, STRAIGHT)
    assert same is view and there is points and "too far" in facts["reason"]


@pytest.mark.parametrize("mode", ["difference", "full"])
def test_what_an_aligned_patch_is_cut_from_is_pasted_back(textured, mode):
    photo = textured(blur=6.0)
    view, _, _ = adjustment().aligned(seen(), marks(1.08, 0.06, (2, -2)), STRAIGHT)
    patch = view.take(photo).astype(np.float32)
    made = paste(photo, view, patch, patch, window_mask(view.patch_size), mode)
    assert np.abs(made.astype(int) - photo).max() <= (2 if mode == "full" else 0)


def test_colours_become_those_of_training(textured):
    patch = (textured(3, (128, 128)) * [0.5, 0.6, 0.7] + 20).astype(np.uint8)
    made = adjustment().colours_of(patch).apply(patch)[32:96, 32:96].reshape(-1, 3)
    np.testing.assert_allclose(made.mean(0), TOLD["colours"]["mean"], atol=0.5)
    np.testing.assert_allclose(made.std(0).mean(), np.mean(TOLD["colours"]["spread"]), atol=0.5)
    assert adjustment(match_colours=False).colours_of(patch) is None
    assert Adjustment(told(colours=None)).colours_of(patch) is None


def test_white_that_a_model_puts_into_a_photo_is_white_there(textured):
    # Skin with little blue: a gain for each channel would bring more of it back.
    patch = (textured(3, (128, 128)) * [1.0, 0.6, 0.3]).astype(np.uint8)
    match = adjustment().colours_of(patch)
    dark, own = np.full((1, 1, 3), 30.0), np.full((1, 1, 3), 20.0)
    made = match.restore(dark + 100, dark, own)[0, 0]
    assert np.ptp(made) < 1e-3 and made[0] > 60


def test_a_flat_patch_is_not_blown_up():
    match = adjustment().colours_of(np.full((128, 128, 3), 40, np.uint8))
    assert match.gain.max() <= 2.5
    np.testing.assert_allclose(match.apply(np.full((1, 1, 3), 40))[0, 0], TOLD["colours"]["mean"])


def test_what_a_model_leaves_keeps_its_own_colours_exactly_and_changes_are_scaled_back(textured):
    patch = np.minimum(textured(1, (128, 128), 0.5), 240)
    match = adjustment().colours_of(patch)
    # Among them are levels that had to be clipped.
    both = np.concatenate([patch, 255 * np.ones_like(patch), 0 * patch])
    shown, own = match.apply(both), both.astype(np.float32)
    assert (shown == 0).any()
    assert (match.restore(shown, shown, own) == own).all()
    changed = match.restore(shown[:128] + 5.0, shown[:128], own[:128]) - own[:128]
    np.testing.assert_allclose(changed, np.tile(5 / match.gain, (128, 128, 1)), atol=1e-3)


def test_targets_in_range_are_kept_and_others_clipped_kept_or_refused():
    inside, outside = Request((5.0, -10.0)), Request((20.0, -30.0), (0.0, 25.0))
    head = np.radians([2.0, 40.0])
    gaze, same, facts = adjustment().kept(inside, *inside.resolve(head, head))
    np.testing.assert_allclose(np.degrees(gaze), [5, -10])
    assert same is not None and not facts and (same == head).all()
    gaze, turned, facts = adjustment().kept(outside, *outside.resolve(head, head))
    np.testing.assert_allclose(np.degrees([*gaze, *turned]), [13, -19, 0, 17])
    np.testing.assert_allclose(facts["asked_gaze_deg"], [20, -30])
    np.testing.assert_allclose(facts["asked_head_deg"], [0, 25])
    gaze, _, facts = adjustment(beyond="keep").kept(outside, *outside.resolve(head, head))
    np.testing.assert_allclose(np.degrees(gaze), [20, -30])
    assert "asked_gaze_deg" in facts
    with pytest.raises(ValueError, match="gaze: expected a direction .*-14.0 to 13.0.* 20.0 "):
        adjustment(beyond="refuse").kept(outside, *outside.resolve(head, head))
    with pytest.raises(ValueError, match="beyond: expected one of clip, keep, refuse, found 'x'"):
        adjustment(beyond="x")


def test_models_that_tell_nothing_change_nothing(textured):
    view, points, patch = seen(), marks(), textured(0, (128, 128))
    assert Adjustment().aligned(view, points, STRAIGHT) == (view, points, None)
    assert Adjustment().colours_of(patch) is None
    asked = Request((60.0, 60.0))
    assert Adjustment().kept(asked, *asked.resolve(STRAIGHT, STRAIGHT))[2] == {}


def test_a_photo_is_adjusted_and_it_is_told(here, scene, trained):
    common = (scene.path, "--models", trained, "--model", "small", "--landmarks", scene.marks)
    said, face = done(*common, "--gaze", 20, -30)
    assert (
        "gaze 20.0 -30.0 asked for, 13.0 -19.0 used: the model was trained on pitch -14.0 to 13.0, "
        "yaw -19.0 to 18.0 degrees" in said
    )
    (result,) = face["results"]
    np.testing.assert_allclose(result["target_gaze_deg"], [13, -19])
    np.testing.assert_allclose(result["asked_gaze_deg"], [20, -30])
    assert face["aligned"]["scale"] != 1 and len(face["colours"]["gain"]) == 3
    # An untrained model returns its source, and so does all that is done around it.
    made = np.asarray(Image.open(here / "redirected/photo.png")).astype(int)
    assert np.abs(made - scene.photo).max() <= 2
    plain = ("--no-align", "--no-match-colours", "--beyond", "keep")
    said, face = done(*common, "--gaze", 20, -30, *plain)
    assert face["aligned"] is None and face["colours"] is None
    assert face["results"][0]["target_gaze_deg"] == [20, -30]
    result = run(*common, "--gaze", 20, -30, "--beyond", "refuse", "--out", "none")
    assert result.exit_code != 0 and "photo.png: gaze: expected a direction" in result.output
    assert not (here / "none").exists()


def test_of_a_table_photos_beyond_the_range_are_left_out_where_that_is_refused(
    here, scene, trained
):
    for name in ("a.png", "b.png"):
        shutil.copy(scene.path, here / name)
        shutil.copy(scene.marks, here / name.replace(".png", ".npz"))
    (here / "t.csv").write_text("file_name,gaze_pitch,gaze_yaw\na.png,40,0\nb.png,4,0\n")
    common = ("--models", trained, "--model", "small", "--landmarks", here, "--beyond", "refuse")
    said, face = done("--table", "t.csv", *common)
    assert face["source"] == "b.png" and "left out: a.png: gaze: expected a direction" in said
    assert not (here / "redirected/a.png").exists()


def test_a_sweep_stays_in_range_and_says_so_once(here, scene, trained):
    result = run(
        scene.path, "--models", trained, "--model", "small", "--landmarks", scene.marks,
        "--sweep", "ellipse", "--reach", 10, 25, "--frames", 6, "--out", "s.gif",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.output.count("asked for") == 1 and "(and 1 more like it)" in result.output
    record = json.loads((here / "s.json").read_text())
    yaws = [one["target_gaze_deg"][1] for one in record["faces"][0]["results"]]
    np.testing.assert_allclose([max(yaws), min(yaws)], [18, -19])


def test_eyes_of_a_photo_lie_where_training_has_them(here, scene, trained):
    place = photo_place(scene.path, size_px=32, landmarks=scene.marks, adjust=adjustment())
    np.testing.assert_allclose(place.landmarks[OUTER_CORNERS], CORNERS, atol=1e-6)
    seen_there = place.view.to_patch(scene.points[OUTER_CORNERS])
    np.testing.assert_allclose(seen_there, CORNERS, atol=0.01)


def test_heads_turn_as_asked_in_adjusted_photos(here, scene, trained):
    common = (scene.path, "--models", trained, "--model", "small", "--landmarks", scene.marks)
    _, face = done(*common, "--head", 5, 12)
    (result,) = face["results"]
    np.testing.assert_allclose(result["target_head_deg"], [5, 12])
    assert result["mask"] == "patch" and "asked_head_deg" not in result


@pytest.mark.parametrize(
    ("patches", "said"),
    [
        (TOLD | {"patch_size": "large"}, "model.json: patches.patch_size: "),
        (TOLD | {"eyes": TOLD["eyes"] | {"left": [20, 40]}}, "patches.eyes: right, left: expected"),
        (TOLD | {"gaze": {"pitch": [3, 2], "yaw": [0, 1]}}, "patches.gaze: pitch: expected two"),
        (TOLD | {"colours": {"mean": [0, 0, 0], "spread": [0, 1, 1]}}, "patches.colours.spread.0"),
        (TOLD | {"more": 1}, "patches.more: "),
        ([1], "model.json: patches: "),
    ],
)
def test_records_that_tell_nonsense_are_refused(here, scene, trained, patches, said):
    change(trained, patches)
    result = run(
        scene.path, "--models", trained, "--model", "small", "--landmarks", scene.marks,
        "--gaze", 0, 0,
    )  # fmt: skip
    assert result.exit_code != 0 and said in result.output and "Traceback" not in result.output


def test_nothing_known_is_nothing_done(here, scene, trained):
    change(trained, TOLD | dict.fromkeys(("eyes", "colours", "gaze", "head")))
    common = (scene.path, "--models", trained, "--model", "small", "--landmarks", scene.marks)
    said, face = done(*common, "--gaze", 60, 50)
    assert "asked for" not in said and face["aligned"] is None and face["colours"] is None


def test_what_the_estimator_hardly_reads_is_left_out_with_the_reason(here, scene, trained, caplog):
    record = json.loads((trained / "judge/model.json").read_text())
    asked = (
        scene.path, "--models", trained, "--model", "small", "--landmarks", scene.marks,
        "--gaze", 0, 0,
    )  # fmt: skip

    def read(pitch, yaw):
        slopes = {"gaze_pitch_slope": pitch, "gaze_yaw_slope": yaw}
        text = json.dumps(record | {"held_out": {"gaze_deg": 6.1, **slopes}})
        (trained / "judge/model.json").write_text(text)
        said, face = done(*asked)
        estimator = json.loads((here / "redirected/redirect.json").read_text())["estimator"]
        assert [estimator[f"held_out_gaze_{one}_slope"] for one in ("pitch", "yaw")] == [pitch, yaw]
        (result,) = face["results"]
        return said, [result[name] for name in ("measured_patch", "measured_photo")]

    said, measured = read(0.79, 0.93)
    for one in measured:
        pitch, yaw = one["gaze_deg"]
        assert pitch is None and np.isfinite(yaw) and one["gaze_error_deg"] is None
        assert list(one["unread"]) == ["pitch"] and "judge reads 0.79" in one["unread"]["pitch"]
        assert np.isfinite(one["head_deg"]).all() and one["head_error_deg"] >= 0
    assert f"measured - {measured[1]['gaze_deg'][1]:.1f})" in said
    assert "estimator judge reads 0.79 of a change of gaze in pitch" in caplog.text
    assert "in yaw" not in caplog.text
    for slopes in ((0.8, 0.93), (None, None)):
        for one in read(*slopes)[1]:
            assert np.isfinite(one["gaze_deg"]).all() and "unread" not in one
            assert one["gaze_error_deg"] >= 0
