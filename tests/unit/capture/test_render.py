"""Rendered photos obey their labels; the capture's files agree with each other."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pytest
from heads import tiny_head

from regaze.angles import angles_from_vector, angular_error
from regaze.capture import build_head, render_capture, scene, surface, writer
from regaze.capture.actor import Actor
from regaze.capture.parts import LABELS, beard
from regaze.capture.renderer import SUB, View
from regaze.capture.subject import draw_look
from regaze.capture.writer import CaptureConfig, deal, render_person


@pytest.fixture(scope="module")
def model():
    return build_head()


@pytest.fixture(scope="module")
def capture(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("capture") / "one"
    persons = {"train-redirector": 2, "val": 1}
    options = {"head_poses": 2, "gazes": 2, "photo": 96, "focal": 188.0}
    render_capture(folder, persons=persons, model=model, **options)
    return folder


def _view(model, person, photo=480):
    look = draw_look(0, person, model.meta)
    rng = np.random.default_rng(person)
    camera = scene.draw_camera(rng, photo, photo * 1.95)
    light = scene.draw_light(rng)
    background = scene.draw_background(rng, camera.width, camera.height)
    series = scene.draw_series(rng, 1, 1)
    return Actor(model, look), camera, light, background, series


@pytest.mark.parametrize("person", [3, 19])
def test_pupil_points_where_the_label_says(model, person):
    """The pupil's pixels are those that change with its size; their centroid lies on the axis."""
    wide, camera, light, background, drawn = _view(model, person)
    small = Actor(model, dataclasses.replace(wide.look, pupil=0.03))
    gazes = np.radians([[0, 0], [9, 0], [-9, 0], [0, 14], [0, -14], [7, 10], [-7, -10]])
    series = scene.Series(drawn.heads * 0.4, gazes, drawn.rotation, drawn.centre)
    grid = camera.ray_grid(SUB)
    views = [View(actor, camera, grid, light, background, series, 0) for actor in (wide, small)]
    found, said = np.empty((2, len(gazes), 2)), np.empty((2, len(gazes), 2))
    for gaze in range(len(gazes)):
        target = series.target(0, gaze)
        spot = views[0].to_head @ (target - series.translation(0))
        frames = [view.finish(view.actor.eyes(np.stack([spot, spot]))) for view in views]
        change = np.abs(frames[0].pixels.astype(float) - frames[1].pixels).sum(-1)
        for side, name in enumerate(("left_eye", "right_eye")):
            weight = np.where(frames[0].labels == LABELS[name], change, 0.0)
            ys, xs = np.nonzero(weight > 0.4 * weight.max())
            found[side, gaze] = xs.mean(), ys.mean()
            centre = views[0].camera_points(wide.centres[side])
            line = (target - centre) / np.linalg.norm(target - centre)
            said[side, gaze] = camera.project((centre + surface.RADIUS * line)[None])[0]
    # pitch up moves the pupil up in the image, yaw > 0 to image left
    move = found - found[:, :1]
    assert (move[:, 1, 1] < -1.5).all() and (move[:, 2, 1] > 1.5).all()
    assert (move[:, 3, 0] < -3).all() and (move[:, 4, 0] > 3).all()
    assert np.abs(found - said).max() < 1.6
    assert np.abs(found - said).mean() < 0.6


def test_layout(capture):
    with h5py.File(capture / "supplementary.h5") as tables:
        split = json.loads((capture / "split.json").read_text())
        assert sorted(tables) == sorted(split["train"] + split["val"] + split["test"])
        assert split["train"] == split["train-redirector"] + split["train-evaluator"]
        for person in tables:
            group = tables[person]
            assert set(group) == {"file_name", "camera_parameters", "distortion_parameters",
                                  "head_pose", "3d_gaze_target"}  # fmt: skip
            assert group["camera_parameters"].shape == (4, 4)
            assert group["distortion_parameters"].shape == (4, 5)
            assert group["head_pose"].shape == (4, 6) and group["3d_gaze_target"].shape == (4, 3)
            names = [name.decode() for name in group["file_name"][()]]
            assert names == [f"{person}/frames/{i:05d}.jpg" for i in range(4)]
            dots = json.loads((capture / person / "dotInfo.json").read_text())
            target = group["3d_gaze_target"][()]
            said = -10 * np.stack([dots["XCam"], dots["YCam"]], -1)
            assert np.allclose(target[:, :2], said, rtol=1e-5, atol=1e-3)
            assert np.array_equal(target[:, 2], np.zeros(4))
            assert np.allclose(np.array(dots["XPts"]) / 1400 * 700 - 350, -target[:, 0], atol=1e-2)
            info = json.loads((capture / person / "info.json").read_text())
            assert info["TotalFrames"] == 4 and info["Dataset"] in ("train", "val", "test")
            assert json.loads((capture / person / "frames.json").read_text())[1] == "00001.jpg"
            for name in ("appleFace", "appleLeftEye", "appleRightEye", "faceGrid"):
                box = json.loads((capture / person / f"{name}.json").read_text())
                assert box["IsValid"] == [1] * 4 and min(box["W"]) > 0
            left = json.loads((capture / person / "appleLeftEye.json").read_text())["X"]
            right = json.loads((capture / person / "appleRightEye.json").read_text())["X"]
            assert left[0] > right[0]


def test_labels_survive_the_normalisation(capture):
    """The formulas of the normalisation give back the drawn labels to 1e-5 radians."""
    points = np.array([[0, 30.0, 0]])
    with (
        h5py.File(capture / "supplementary.h5") as tables,
        h5py.File(capture / "parameters.h5") as truth,
    ):
        for person in tables:
            labels = truth[person]["labels"][()]
            for row, (pose, target) in enumerate(
                zip(tables[person]["head_pose"], tables[person]["3d_gaze_target"], strict=True)
            ):
                head, t = cv2.Rodrigues(pose[:3])[0], pose[3:]
                o = (points @ head.T + t)[0]
                f = o / np.linalg.norm(o)
                d = np.cross(f, head[:, 0])
                d /= np.linalg.norm(d)
                rotation = np.stack([np.cross(d, f), d, f])
                g = rotation @ (target - o) / np.linalg.norm(target - o)
                gaze = [np.arcsin(-g[1]), np.arctan2(-g[0], -g[2])]
                m = rotation @ head
                turned = [np.arcsin(m[1, 2]), np.arctan2(m[0, 2], m[2, 2])]
                assert np.abs(np.array(gaze + turned) - labels[row, :4]).max() < 1e-5
                assert np.abs(truth[person]["normalisation"][row] - rotation).max() < 1e-9
                assert angular_error(labels[row, 4:6], labels[row, :2]) < 15


def test_series_share_head_and_gaze(capture):
    with h5py.File(capture / "parameters.h5") as truth:
        for person in truth:
            labels = truth[person]["labels"][()].reshape(2, 2, 8)
            assert np.array_equal(labels[0, :, :2], labels[1, :, :2])
            assert np.array_equal(labels[:, 0, 2:4], labels[:, 1, 2:4])
            first, second = (
                cv2.imread(str(capture / person / "frames" / f"{i:05d}.jpg")) for i in (0, 1)
            )
            mask = truth[person]["mask"][:2]
            changed = np.abs(first.astype(int) - second).max(-1) > 12
            marks = truth[person]["landmarks"][0]
            outside = np.ones_like(changed)
            for first_mark in (36, 42):
                eye = marks[first_mark : first_mark + 6]
                x0, y0 = np.floor(eye.min(0) - 9).astype(int)
                x1, y1 = np.ceil(eye.max(0) + 9).astype(int)
                outside[y0:y1, x0:x1] = False
            assert changed.any() and not changed[outside].any()
            assert set(np.unique(mask)) <= set(LABELS.values())
            assert {LABELS["left_eye"], LABELS["right_eye"]} <= set(np.unique(mask))
            # the subject's left eye is on the right of the image
            columns = [
                np.nonzero(mask[0] == LABELS[n])[1].mean() for n in ("left_eye", "right_eye")
            ]
            assert columns[0] > columns[1]


def test_person_depends_on_seed_and_name_only(model, capture, tmp_path):
    options = {"head_poses": 2, "gazes": 2, "photo": 96, "focal": 188.0}
    more = {"train-redirector": 3, "val": 1}
    render_capture(tmp_path / "more", persons=more, model=model, workers=2, **options)
    for file in sorted((capture / "00002").rglob("*.*")):
        twin = tmp_path / "more" / file.relative_to(capture)
        assert twin.read_bytes() == file.read_bytes(), file
    with (
        h5py.File(capture / "parameters.h5") as one,
        h5py.File(tmp_path / "more/parameters.h5") as two,
    ):
        for name in one["40001"]:
            assert np.array_equal(one["40001"][name][()], two["40001"][name][()]), name


def test_rays_invert_projection():
    rng = np.random.default_rng(1)
    camera = scene.draw_camera(rng, 240, 470.0)
    pixels = rng.uniform(0, 1, (50, 2)) * [camera.width - 1, camera.height - 1]
    assert np.abs(camera.project(camera.directions(pixels) * 700) - pixels).max() < 1e-6
    grid = camera.ray_grid(SUB)
    back = camera.project(grid[10, 20].astype(float) * 600)
    assert np.abs(back - (np.array([20, 10]) + SUB)).max() < 1e-3
    matrix = np.array([[camera.parameters[0], 0, camera.parameters[2]],
                       [0, camera.parameters[1], camera.parameters[3]], [0, 0, 1]])  # fmt: skip
    points = rng.normal(size=(20, 3)) * [90, 90, 20] + [0, 0, 600]
    seen = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, camera.distortion)[0][:, 0]
    assert np.abs(camera.project(points) - seen).max() < 1e-6


def test_eyes_stay_within_their_limits():
    # The first gazes drawn with the last of these seeds turn an eye too far.
    for seed in range(21):
        series = scene.draw_series(np.random.default_rng(seed), 4, 4)
        for head in range(4):
            for gaze in range(4):
                ray = series.target(head, gaze) - series.centre[head]
                inner = series.head_rotation(head).T @ -ray
                assert (np.abs(angles_from_vector(inner)) <= scene.EYE_LIMIT + 1e-9).all()


@pytest.mark.parametrize("limit", [[6.0, 8.0], [9.0, 12.0]])
def test_series_are_redrawn_until_no_eye_turns_too_far(monkeypatch, limit):
    monkeypatch.setattr(scene, "EYE_LIMIT", np.radians(limit))
    for seed in range(20):
        series = scene.draw_series(np.random.default_rng(seed), 1, 3)
        for gaze in range(3):
            inner = series.head_rotation(0).T @ (series.centre[0] - series.target(0, gaze))
            assert (np.abs(angles_from_vector(inner)) <= scene.EYE_LIMIT + 1e-9).all()


def test_limits_that_no_series_meets_are_told(monkeypatch):
    monkeypatch.setattr(scene, "EYE_LIMIT", np.radians([4.0, 4.0]))
    with pytest.raises(RuntimeError, match="no series found within the limits"):
        scene.draw_series(np.random.default_rng(0), 1, 1)


def _photo(model, look, shift=(0, 0, 0)):
    _, camera, light, background, series = _view(model, 3, 64)
    series = dataclasses.replace(series, centre=series.centre + shift)
    view = View(Actor(model, look), camera, camera.ray_grid(SUB), light, background, series, 0)
    spot = view.to_head @ (series.target(0, 0) - series.translation(0))
    return view.finish(view.actor.eyes(np.stack([spot, spot]))), view


@pytest.mark.parametrize(("hair", "glasses"), [("bald", ""), ("side", "round"), ("buzz", "")])
def test_what_a_person_wears_is_in_the_labels(model, hair, glasses):
    look = dataclasses.replace(draw_look(0, 3, model.meta), hair=hair, glasses=glasses)
    labels = _photo(model, look)[0].labels
    assert (labels == LABELS["hair"]).any() == (hair != "bald")
    assert (labels == LABELS["glasses"]).any() == bool(glasses)
    assert (labels == LABELS["skin"]).any() and (labels == LABELS["left_eye"]).any()


def test_a_beard_without_hairs_is_no_mesh(model):
    look = dataclasses.replace(draw_look(0, 3, model.meta), beard="full", beard_thick=4.0)
    face = np.array([[0, 1, 2]])
    points = np.eye(3) * 10
    assert beard(look, points, points, np.zeros(3), face, points[:, :2]) == []
    assert len(beard(look, points, points, np.ones(3), face, points[:, :2])) == 1


@pytest.mark.parametrize("shift", [(400, 0, 0), (0, -160, 0)], ids=["all", "the face"])
def test_what_is_outside_of_the_photo_is_not_in_it(model, shift):
    frame, view = _photo(model, draw_look(0, 3, model.meta), shift)
    assert not np.isin(frame.labels, [LABELS["left_eye"], LABELS["right_eye"]]).any()
    assert frame.pixels.shape[:2] == frame.labels.shape == view.labels.shape
    np.testing.assert_array_equal(frame.pixels, view.pixels)


def test_a_head_cut_off_above_the_neck_stands_on_its_lowest_skin(model):
    rest = 1000.0 * model.v_template[: len(model.plane)]
    head = SimpleNamespace(model=model, count=len(rest), rest=rest)
    neck = Actor._neck_radius(head)
    head.model = dataclasses.replace(model, plane=0.6 * model.plane)
    assert head.model.plane[:, 1].min() > -135
    assert Actor._neck_radius(head) == pytest.approx(neck, rel=0.25)


@pytest.mark.parametrize("file", [None, "script.py"])
def test_workers_do_not_run_the_script_that_started_them(monkeypatch, file):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", file, raising=False)
    if file is None:
        monkeypatch.delattr(main, "__file__")
    before = main.__spec__
    with writer._changed(vars(main), __spec__=None, __file__=None):
        assert main.__spec__ is None and main.__file__ is None
    assert main.__spec__ is before
    assert vars(main).get("__file__", "absent") == (file or "absent")


def test_a_photo_that_cannot_be_encoded_names_the_person(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "imencode", lambda *_: (False, None))
    with pytest.raises(RuntimeError, match="person 00001: JPEG encoding failed"):
        render_person(tiny_head(), CaptureConfig({"val": 1}, photo=32, gazes=1), "00001")


def test_further_photos_differ_in_expression_or_light_alone():
    options = {"persons": {"val": 1}, "photo": 64, "focal": 125.0, "head_poses": 1, "gazes": 1}
    model = tiny_head()
    plain = render_person(model, CaptureConfig(**options), "00001")
    found = render_person(model, CaptureConfig(**options, expressions=1, lights=1), "00001")
    assert found.jpegs[0] == plain.jpegs[0] and "variation" not in plain.parameters
    assert len(set(found.jpegs)) == 3
    told = found.parameters
    assert told["variation"].tolist() == [0, 1, 2]
    for name, changed in (("expression", 1), ("light", 2)):
        same = [np.array_equal(row, told[name][0]) for row in told[name]]
        assert same == [number != changed for number in range(3)], name
    for values in (found.head_pose, found.target, told["shape"], told["labels"][:, :4]):
        assert (values == values[0]).all()


def test_deal_keeps_names_when_a_split_grows():
    small, large = deal({"val": 1, "train-redirector": 1}), deal({"val": 2, "train-redirector": 9})
    assert set(small["val"]) <= set(large["val"]) and not set(large["val"]) & set(large["train"])
