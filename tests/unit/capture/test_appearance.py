"""Each detail of the appearance ``varied`` changes what it says, and labels stay exact."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from regaze.capture import build_head, scene
from regaze.capture.actor import Actor
from regaze.capture.head import eye_rotation, pose_feature
from regaze.capture.lamps import Lamp, draw_lamps
from regaze.capture.parts import LABELS
from regaze.capture.renderer import SUB, View
from regaze.capture.style import draw_style, squinting, stream
from regaze.capture.subject import draw_look
from regaze.capture.writer import CaptureConfig, render_person
from regaze.capture_settings import DETAILS, shares

SHAPE = {"head_poses": 1, "gazes": 2, "photo": 128, "focal": 250.0, "quality": 100}
EYES = (LABELS["left_eye"], LABELS["right_eye"])
IN_EYES = ("highlights", "irises", "pupils")
OVER = ("lenses", "lashes", "make_up", "skin", "light", "camera", *IN_EYES)
"""Details that change neither what is where nor landmarks."""


@pytest.fixture(scope="module")
def model():
    return build_head()


def _person(model, name="00002", **options):
    return render_person(model, CaptureConfig({"train-redirector": 1}, **SHAPE, **options), name)


def _pixels(person):
    return np.array([cv2.imdecode(np.frombuffer(one, np.uint8), 1) for one in person.jpegs])


@pytest.fixture(scope="module")
def plain(model):
    """A person with glasses, which are drawn with the other traits."""
    person = _person(model)
    assert draw_look(0, 2, model.meta).kind == "feminine"
    return person


def _same(one, other):
    assert one.jpegs == other.jpegs
    np.testing.assert_array_equal(one.masks, other.masks)
    np.testing.assert_array_equal(one.landmarks, other.landmarks)
    for name, values in one.parameters.items():
        np.testing.assert_array_equal(values, other.parameters[name])


def test_plain_photos_are_those_of_the_traits_alone(model, plain):
    """Against the renderer without a style: no lamps, no camera, nothing drawn in addition."""
    rng = np.random.default_rng([0, 2, 12])
    look = draw_look(0, 2, model.meta)
    camera = scene.draw_camera(rng, SHAPE["photo"], SHAPE["focal"])
    light = scene.expose(scene.draw_light(rng), look.skin)
    background = scene.draw_background(rng, camera.width, camera.height)
    series = scene.draw_series(rng, 1, 2)
    view = View(Actor(model, look), camera, camera.ray_grid(SUB), light, background, series, 0)
    for gaze, jpeg in enumerate(plain.jpegs):
        spot = view.to_head @ (series.target(0, gaze) - series.translation(0))
        frame = view.finish(view.actor.eyes(np.stack([spot, spot])))
        told = cv2.imencode(".jpg", frame.pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1]
        assert told.tobytes() == jpeg
        np.testing.assert_array_equal(frame.labels, plain.masks[gaze])


def test_details_that_nobody_has_change_nothing(model, plain):
    none = dict.fromkeys(set(DETAILS) - {"glasses"}, 0.0)
    _same(_person(model, appearance="plain", details=none), plain)
    bare = _person(model, details={"glasses": 0.0})
    _same(_person(model, appearance="varied", details={**none, "glasses": 0.0}), bare)


@pytest.mark.parametrize("detail", OVER)
def test_a_detail_changes_photos_and_no_label(model, detail):
    worn = {"glasses": 1.0} if detail == "lenses" else {"glasses": 0.0}
    before = _person(model, details=worn)
    after = _person(model, details={**worn, detail: 1.0})
    change = np.abs(_pixels(before).astype(int) - _pixels(after)).max(-1)
    assert change.max() > 12
    if detail in IN_EYES:
        near = [cv2.dilate(np.isin(mask, EYES).astype("u1"), np.ones((5, 5))) for mask in
                before.masks]  # fmt: skip
        assert change[np.array(near) == 0].max() <= 12
    if detail == "lashes":
        assert (change[before.masks == LABELS["hair"]] <= 12).all()
    np.testing.assert_array_equal(before.masks, after.masks)
    np.testing.assert_array_equal(before.landmarks, after.landmarks)
    for name in set(before.parameters) - {"light"}:
        np.testing.assert_array_equal(before.parameters[name], after.parameters[name])


def test_glasses_are_in_the_masks_and_change_no_label(model, plain):
    worn = _person(model, details={"glasses": 1.0, "lenses": 1.0})
    frames, clear = worn.masks == LABELS["glasses"], _person(model, details={"glasses": 0.0})
    assert frames.any(axis=(1, 2)).all() and not (clear.masks == LABELS["glasses"]).any()
    # lenses are clear: beside the frames everything keeps its label
    np.testing.assert_array_equal(worn.masks[~frames], clear.masks[~frames])
    assert np.isin(worn.masks, EYES).any()
    np.testing.assert_array_equal(worn.labels, plain.labels)


def test_everybody_has_what_all_have_and_shares_are_kept(model):
    looks = {number: draw_look(0, number, model.meta) for number in range(1, 301)}
    drawn = [draw_style(0, n, look, shares("varied", {})) for n, look in looks.items()]
    assert np.mean([bool(look.glasses) for look, _ in drawn]) == pytest.approx(0.3, abs=0.08)
    worn = [style.lenses is not None for look, style in drawn if look.glasses]
    assert np.mean(worn) == pytest.approx(0.75, abs=0.13)
    assert not any(style.lenses for look, style in drawn if not look.glasses)
    assert all(style.iris and style.lid_gain and style.highlights for _, style in drawn)
    pupils = 24 * np.array([look.pupil for look, _ in drawn])
    assert pupils.min() < 2.6 and pupils.max() > 5.8
    gains = np.array([style.lid_gain for _, style in drawn])
    blinks = np.array([style.squint for _, style in drawn])
    assert blinks.min() < 0 and blinks.max() > 0.4
    assert (
        gains.min() >= 0.55 and gains.max() <= 0.9 and gains.mean() == pytest.approx(0.72, abs=0.02)
    )


def test_details_do_not_change_one_another(model):
    look = draw_look(0, 5, model.meta)
    _, whole = draw_style(0, 5, look, shares("varied", {"lids": 1.0, "irises": 1.0}))
    _, alone = draw_style(0, 5, look, shares("plain", {"lids": 1.0, "irises": 1.0}))
    assert whole.lid_gain == alone.lid_gain
    np.testing.assert_array_equal(whole.iris.waves, alone.iris.waves)


def test_a_varied_person_depends_on_seed_and_name_only(model):
    _same(
        _person(model, "00007", appearance="varied"), _person(model, "00007", appearance="varied")
    )


def _scene(model, number, heads=0.0, photo=480):
    look, style = draw_style(0, number, draw_look(0, number, model.meta), shares("varied", {}))
    rng = np.random.default_rng(number)
    camera = scene.draw_camera(rng, photo, photo * 1.95)
    light = scene.draw_light(rng)
    series = scene.draw_series(rng, 1, 1)
    return replace(look, glasses=""), replace(style, lenses=None), camera, light, series


def _eyes(actor, pitch):
    aim = np.array([0.0, np.sin(pitch), np.cos(pitch)])
    return actor.eyes(actor.centres + 500 * aim)


@pytest.mark.parametrize("number", [2, 5, 9])
def test_upper_lids_follow_as_far_as_drawn(model, number):
    look, style, *_ = _scene(model, number)
    actor = Actor(model, look, style)
    upper = [37, 38, 43, 44]
    level = actor.landmarks(_eyes(actor, 0.0))
    for degrees in (-15, -8, 8, 15):
        pitch = np.radians(degrees)
        moved = actor.landmarks(_eyes(actor, pitch))[upper, 1] - level[upper, 1]
        followed = moved.mean() / (pitch * actor.radius)
        # of the margin's middle; the landmarks are beside it
        assert followed == pytest.approx(style.lid_gain, abs=0.16), degrees
        plain = Actor(model, look)
        before = plain.landmarks(_eyes(plain, pitch))[upper, 1] - level[upper, 1]
        assert followed != pytest.approx(before.mean() / (pitch * actor.radius), abs=1e-4)


@pytest.mark.parametrize("number", [2, 5])
def test_eyes_are_as_far_closed_as_drawn_and_lids_do_not_cross(model, number):
    look, style, *_ = _scene(model, number)
    upper, lower = [37, 38, 43, 44], [41, 40, 47, 46]

    def heights(blink, pitch):
        made = squinting(look, replace(style, squint=(blink, blink)), model.meta)
        marks = Actor(model, made, style)
        marks = marks.landmarks(_eyes(marks, np.radians(pitch)))
        return marks[upper, 1] - marks[lower, 1]

    wide, narrow = heights(-0.1, 0.0), heights(0.5, 0.0)
    assert (narrow < 0.65 * wide).all() and (narrow > 0.2 * wide).all()
    # Half closed, lids still follow, and stay open also far down.
    assert (heights(0.5, 12.0) > narrow + 0.3).all()
    assert (heights(0.5, -35.0) > 0.0).all()


def test_codes_and_eye_pose_give_the_lids_as_they_are_seen(model):
    look, style, *_ = _scene(model, 5)
    actor = Actor(model, look, style)
    eyes = _eyes(actor, np.radians(-14))
    pose = np.zeros((5, 3))
    pose[3:] = eye_rotation(eyes.axes)
    first = model.n_shape_total
    codes = np.zeros(model.shapedirs.shape[2] - first)
    codes[: look.expression.size] = look.expression
    codes = codes + eyes.codes
    shaped = model.v_template + model.shapedirs[:, :, : len(look.shape)] @ look.shape
    shaped = shaped + model.shapedirs[:, :, first:] @ codes + model.posedirs @ pose_feature(pose)
    told = 1000 * shaped[actor.eye_rows] - actor.corner_origin
    assert np.abs(told - eyes.vertices).max() < 1e-2
    assert np.abs(eyes.codes).max() > 0.01


def test_highlights_stay_with_the_light_while_the_iris_moves(model):
    look, style, camera, light, drawn = _scene(model, 3)
    style = replace(style, lashes=None)
    ahead = np.array([0.05, -0.2, -1.0])
    axes = np.stack([[1.0, 0, 0], [0, -1.0, 0], ahead / np.linalg.norm(ahead)])
    lamp = Lamp(axes, np.array([0.12, 0.12]), np.full(3, 60.0), "round")
    gazes = np.radians([[0, 0], [0, 10], [0, -10]])
    series = scene.Series(0 * drawn.heads, gazes, drawn.rotation, drawn.centre)
    dark = np.zeros((camera.height, camera.width, 3), np.float32)
    found = []
    for lamps in ((), (lamp,)):
        actor, lit = Actor(model, look, style), replace(light, lamps=lamps)
        view = View(actor, camera, camera.ray_grid(SUB), lit, dark, series, 0)
        spots = [view.to_head @ (series.target(0, g) - series.translation(0)) for g in range(3)]
        eyes = [actor.eyes(np.stack([spot, spot])) for spot in spots]
        found.append([view.finish(one) for one in eyes])
    for side, label in enumerate(EYES):
        glint, iris = [], []
        for gaze, (unlit, lit) in enumerate(zip(*found, strict=True)):
            change = lit.pixels.astype(float).sum(-1) - unlit.pixels.sum(-1)
            change = np.where(lit.labels == label, np.maximum(change, 0), 0)
            assert change.max() > 150
            glint.append((change * np.arange(camera.width)).sum() / change.sum())
            spot = actor.centres[side] + 12 * eyes[gaze].axes[side]
            iris.append(camera.project(view.camera_points(spot[None]))[0, 0])
        assert abs(iris[1] - iris[2]) > 5
        assert abs(glint[1] - glint[2]) < 0.65 * abs(iris[1] - iris[2])


def test_lamps_are_seen_where_they_are():
    rng = np.random.default_rng(3)
    lamps = draw_lamps(rng, scene.draw_light(rng))
    for lamp in lamps:
        ahead = lamp.axes[2]
        np.testing.assert_allclose(lamp.axes @ lamp.axes.T, np.eye(3), atol=1e-9)
        off = ahead + 3 * max(lamp.half) * lamp.axes[0]
        rays = np.stack([-ahead, off / np.linalg.norm(off)])
        assert (lamp.seen(rays) < 1e-6).all()
        inside = ahead + 0.7 * lamp.half[0] * lamp.axes[0]
        assert lamp.seen(inside[None] / np.linalg.norm(inside))[0] > 0.3


@pytest.mark.parametrize(
    ("heads", "gazes"), [((15, 20), (25, 30)), ((30, 40), (25, 35)), ((5, 5), (4, 4))]
)
def test_ranges_of_heads_and_gazes(heads, gazes):
    limits = np.radians([heads, gazes])
    drawn = [scene.draw_series(np.random.default_rng(seed), 4, 4, limits) for seed in range(25)]
    for part, limit in (("heads", limits[0]), ("gazes", limits[1])):
        most = np.abs(np.concatenate([getattr(one, part) for one in drawn])).max(0)
        assert (most <= limit).all() and (most > 0.75 * limit).all()


def test_the_usual_ranges_draw_the_usual_series():
    usual = np.radians([[15.0, 20.0], [15.0, 20.0]])
    for seed in range(10):
        one, other = (
            scene.draw_series(np.random.default_rng(seed), 3, 3, *at) for at in ((), (usual,))
        )
        np.testing.assert_array_equal(one.gazes, other.gazes)
        np.testing.assert_array_equal(one.heads, other.heads)


def test_noise_is_of_the_photo_and_the_camera_of_the_person(model):
    one = _person(model, details={"camera": 1.0})
    again = _person(model, details={"camera": 1.0})
    assert one.jpegs == again.jpegs
    part = [photo[:40, :40].astype(float) for photo in _pixels(one)]
    # the corner shows the background alone, which is the same in all photos of a person
    assert np.abs(part[0] - part[1]).mean() > 0.3
    assert np.abs(part[0].mean((0, 1)) - part[1].mean((0, 1))).max() < 4


def test_streams_of_a_person_differ():
    drawn = {stream(0, 1, name, part).random() for name in DETAILS for part in (0, 1)}
    assert len(drawn) == 2 * len(DETAILS)
