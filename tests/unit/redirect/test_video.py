"""``regaze redirect`` on videos: times, sound, who is redirected, and how much of it is done."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from clips import packets_of, portrait_pictures, write_clip
from redirect_command import done, refused
from safetensors.torch import load_file, save_file

from regaze.landmarks.mesh import MeshDetector
from regaze.redirect import looks
from regaze.redirect.angles import Request
from regaze.redirect.courses import course_of
from regaze.redirect.effect import Ramp, eye_areas, fading, level_seams
from regaze.redirect.in_frames import InFrames
from regaze.redirect.live import Live, redirect_live
from regaze.redirect.run import Redirection
from regaze.redirect.video import redirect_video
from regaze.video.reading import Camera, Film
from regaze.video.tracks import Track


@pytest.fixture(scope="module")
def lively(models, tmp_path_factory):
    """A model that moves eyes somewhere: its last layer's weights are drawn."""
    folder = tmp_path_factory.mktemp("lively")
    for name in ("eyes", "judge"):
        (folder / name).mkdir()
        (folder / name / "model.json").write_bytes((models / name / "model.json").read_bytes())
        state = load_file(models / name / "model.safetensors")
        if name == "eyes":
            torch.manual_seed(1)
            state = {
                key: 0.2 * torch.randn_like(value) if "last." in key else value
                for key, value in state.items()
            }
        save_file(state, folder / name / "model.safetensors")
    return folder


@pytest.fixture
def asked(lively):
    return (
        *("--model", "eyes", "--models", lively, "--gaze", 8, -12, "--device", "cpu"),
        *("--source-gaze", 0, 0),
    )


def told(path="redirected/redirect.json"):
    with open(path) as file:
        return json.load(file)["faces"][0]


def changes(path, out):
    """Largest change (n,) of each frame of a video."""
    pairs = zip(Film(path), Film(out), strict=True)
    return np.array([np.abs(a.picture.astype(int) - b.picture).max() for a, b in pairs])


def test_a_video_into_a_file(here, asked):
    ticks = [0, 20, 60, 90, 110, 150]
    write_clip("clip.mp4", portrait_pictures(6), ticks=ticks, sound="aac")
    said = done("clip.mp4", *asked, "--out", "out.mp4")
    assert "clip.mp4: out.mp4 (6 of 6 frames redirected; " in said and "per second" in said
    assert [tick / 600 for tick in ticks] == pytest.approx(
        [frame.time for frame in Film("out.mp4")]
    )
    assert packets_of("out.mp4") == packets_of("clip.mp4")
    about = told("out.json")
    assert about["file"] == "out.mp4" and about["codec"] == "h264" and about["people"] == 1
    assert about["results"][3]["target_gaze_deg"] == pytest.approx([8, -12])
    assert changes("clip.mp4", "out.mp4").min() > 20
    assert not list(here.glob(".*"))


def test_only_the_eyes_are_changed_and_light_stays(here, lively):
    pictures = portrait_pictures(6)
    points = [MeshDetector().all_faces(one)[0] for one in pictures]
    engine = Redirection(lively / "eyes", {}, None, "cpu")
    job = InFrames(engine, Request((8.0, -12.0)))
    for picture, marks in zip(pictures, points, strict=True):
        place = job.place("clip.mp4", picture, marks)
        made, facts = job.redirect(place, np.zeros(2))
        changed = np.abs(made.astype(int) - picture).max(axis=2)
        width = np.linalg.norm(marks[36] - marks[39])
        distance = np.min(
            [
                np.hypot(*(np.indices(changed.shape)[::-1] - middle[:, None, None]))
                for middle in (marks[36:42].mean(0), marks[42:48].mean(0))
            ],
            axis=0,
        )
        assert facts["mask"] == "eyes" and changed.max() > 20
        assert changed[distance > 2.0 * width].max() == 0
        assert changed[(distance > 1.3 * width) & (distance < 1.5 * width)].mean() < 1.0
        same, facts = job.redirect(place, np.zeros(2), 0.0)
        assert facts["share"] == 0.0 and same is picture


@pytest.mark.parametrize("way", [(), ("--live",)])
def test_pixels_outside_the_eyes_do_not_flicker(here, asked, way):
    pictures, rng = portrait_pictures(8, step=0.5), np.random.default_rng(0)
    noisy = [np.clip(one + rng.normal(0, 1.5, one.shape), 0, 255) for one in pictures]
    write_clip("clip.mp4", [one.astype(np.uint8) for one in noisy], options={"crf": "16"})
    done("clip.mp4", *asked, *way, "--out", "out.mp4")
    (marks,) = MeshDetector().all_faces(pictures[0])
    width = np.linalg.norm(marks[36] - marks[39])
    face, eyes = np.zeros((2, 240, 320), np.uint8)
    cv2.fillConvexPoly(face, cv2.convexHull(np.rint(marks).astype(np.int32)), 1)
    for eye in (marks[36:42], marks[42:48]):
        cv2.circle(eyes, np.rint(eye.mean(0)).astype(int).tolist(), round(0.9 * width), 1, -1)
    outside = (face > 0) & (eyes == 0)

    def change(path):
        shown = [frame.picture.astype(float)[outside] for frame in Film(path)]
        return np.abs(np.diff(shown, axis=0)).mean()

    assert outside.sum() > 2000 and change("out.mp4") <= 1.1 * change("clip.mp4")


def test_a_change_of_light_does_not_reach_the_seam():
    marks = np.zeros((68, 2))
    for first, left in ((36, 30), (42, 76)):
        marks[first : first + 6] = np.array(
            [[0, 0], [7, -3], [14, -3], [21, 0], [14, 3], [7, 3]]
        ) + [left, 50]
    areas = eye_areas(marks, (128, 128), "both")
    assert len(eye_areas(marks, (128, 128), "left")) == 1
    shown = np.random.default_rng(0).uniform(60, 180, (64, 64, 3)).astype(np.float32)
    levels = shown + np.float32([7.0, -3.0, 4.0])
    levels[22:28, 18:24] += 50.0
    made = level_seams(levels, shown, areas) - shown
    small = np.max([cv2.resize(one, (64, 64), interpolation=cv2.INTER_AREA) for one in areas], 0)
    ring = (small > 0.03) & (small < 0.6)
    assert ring.sum() > 100 and np.abs(made[ring]).max() < 1e-3
    assert made[22:28, 18:24].mean() == pytest.approx(50.0, abs=0.5)


def test_how_much_is_done_depends_on_gaze_and_head():
    ramp, ahead = Ramp(), np.zeros(2)
    degrees = np.arange(0, 50)
    shares = [ramp.share(np.radians([one, 0.0]), ahead) for one in degrees]
    assert shares[10] == pytest.approx(1.0) and shares[35] == 0.0 and 0.3 < shares[22] < 0.7
    assert (np.diff(shares) <= 0).all() and np.abs(np.diff(shares)).max() < 0.08
    assert ramp.share(ahead, np.radians([0.0, 40.0])) == 0.0
    assert ramp.share(np.full(2, np.nan), ahead) == 1.0
    assert fading(0.5) == 1.0 and fading(0.0) == 0.0 and fading(0.1) < 0.7
    for below, beyond in ((-1, 10), (35, 35), (10, 200), (np.nan, 30)):
        with pytest.raises(ValueError, match="full-below"):
            Ramp(below, beyond)


def test_the_ramp_in_a_command(here, asked):
    write_clip("clip.mp4", portrait_pictures(3))
    gaze = list(asked)
    gaze[-2:] = [0, 20]
    done("clip.mp4", *gaze, "--out", "half.mp4")
    (share,) = {round(one["share"], 6) for one in told("half.json")["results"]}
    assert share == pytest.approx(0.648, abs=0.01)
    assert told("half.json")["results"][0]["target_gaze_deg"][0] == pytest.approx(8 * share)
    done("clip.mp4", *gaze, "--out", "none.mp4", "--full-below", 5, "--none-beyond", 15)
    assert told("none.json")["results"][0]["share"] == 0
    assert told("none.json")["ramp_deg"] == [5, 15]
    assert told("none.json")["unchanged"] == {"eyes closed, or turned away from the camera": 3}
    assert told("none.json")["redirected"] == 0 and told("half.json")["redirected"] == 3
    said = refused("clip.mp4", *gaze, "--out", "x.mp4", "--full-below", 40)
    assert "full-below, none-beyond: expected degrees" in said and not (here / "x.mp4").exists()


def two(count, leave=()):
    """A large and a small portrait side by side; the small one gone in some frames."""
    made = []
    for number, picture in enumerate(portrait_pictures(count, (320, 240), step=1.0)):
        small = cv2.resize(picture, (240, 180), interpolation=cv2.INTER_AREA)
        wide = np.full((240, 560, 3), 90, np.uint8)
        wide[:, :320] = picture
        if number not in leave:
            wide[40:220, 320:] = small
        made.append(wide)
    return made


def test_one_of_two_faces_or_both(here, asked):
    ticks = [72 * number for number in range(6)]
    write_clip("two.mp4", two(6, leave=(0,)), ticks=ticks, options={"crf": "12"})

    def moved(out):
        pair = zip(list(Film("two.mp4"))[2:], list(Film(out))[2:], strict=True)
        parts = [np.abs(a.picture.astype(int) - b.picture).max(axis=2) for a, b in pair]
        # Encoding anew changes single pixels by as much.
        return [float(np.mean([(one[:, part] > 40).sum() for one in parts])) > 20
                for part in (slice(0, 310), slice(330, 560))]  # fmt: skip

    done("two.mp4", *asked, "--out", "first.mp4")
    assert moved("first.mp4") == [True, False] and told("first.json")["people"] == 2
    done("two.mp4", *asked, "--out", "second.mp4", "--face", 1)
    assert moved("second.mp4") == [False, True]
    assert told("second.json")["redirected"] == 5
    assert told("second.json")["unchanged"] == {"no face found": 1}
    done("two.mp4", *asked, "--out", "all.mp4", "--all-faces")
    assert moved("all.mp4") == [True, True]
    assert {one["person"] for one in told("all.json")["results"]} == {0, 1}
    said = refused("two.mp4", *asked, "--out", "third.mp4", "--face", 2)
    assert "two.mp4: face 2: expected one of 0 to 1" in said


def test_a_clip_of_a_telephone_held_upright(here, asked):
    lying, ticks = [np.rot90(one, -1) for one in portrait_pictures(4)], [0, 20, 60, 90]
    write_clip("clip.mov", lying, ticks=ticks, turn=90)
    assert Film("clip.mov").size == (320, 240)
    done("clip.mov", *asked, "--out", "out.mov")
    assert Film("out.mov").rotation == 90 and Film("out.mov").stored_size == (240, 320)
    assert [one.time for one in Film("out.mov")] == pytest.approx([t / 600 for t in ticks])
    assert changes("clip.mov", "out.mov").min() > 20
    assert told("out.json")["redirected"] == 4


def test_a_video_frame_by_frame(here, asked, lively):
    write_clip("clip.mp4", portrait_pictures(6), sound="aac")
    done("clip.mp4", *asked, "--live", "--out", "live.mp4")
    assert told("live.json")["redirected"] == 6
    assert packets_of("live.mp4") == packets_of("clip.mp4")
    assert changes("clip.mp4", "live.mp4").min() > 20
    # A camera is read by the same class as a file is here.
    engine = Redirection(lively / "eyes", {}, None, "cpu")
    job = InFrames(engine, Request((8.0, -12.0)), source_gaze=(0, 0))
    about = redirect_live(Camera("clip.mp4"), "camera.mp4", Live(job, MeshDetector()))
    assert about["redirected"] == 6 and about["codec"] == "h264"
    assert changes("clip.mp4", "camera.mp4").min() > 20


def test_what_comes_later_changes_nothing_live(lively):
    pictures = portrait_pictures(6)
    engine = Redirection(lively / "eyes", {}, None, "cpu")
    job = InFrames(engine, Request((8.0, -12.0)), source_gaze=(0, 0))

    def run(frames):
        live = Live(job, MeshDetector())
        return [live.step(one, number / 25)[0] for number, one in enumerate(frames)]

    for ours, theirs in zip(run(pictures[:3]), run(pictures), strict=False):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("way", ["offline", "live"])
def test_irises_are_read_by_the_mesh_that_follows_the_face(here, lively, monkeypatch, way):
    def again(*_):
        raise AssertionError("the mesh is laid over the face a second time")

    monkeypatch.setattr(looks, "mesh_there", again)
    write_clip("clip.mp4", portrait_pictures(4))
    engine, detector = Redirection(lively / "eyes", {}, None, "cpu"), MeshDetector()
    job = InFrames(engine, Request((8.0, -12.0)))
    if way == "live":
        about = redirect_live(Film("clip.mp4"), "out.mp4", Live(job, detector))
    else:
        about = redirect_video("clip.mp4", "out.mp4", job, detector)
    assert about["redirected"] == 4
    # Of other pictures of the same face it is.
    face = detector.large_faces(picture := portrait_pictures(1)[0])[0]
    place = job.place("clip.mp4", picture, face.landmarks, points=face.points)
    with pytest.raises(AssertionError, match="second time"):
        engine._looks.gazes(place, [picture.copy()])


def test_networks_have_one_thread_while_frames_come(here, lively):
    write_clip("clip.mp4", portrait_pictures(4))
    engine, seen, before = Redirection(lively / "eyes", {}, None, "cpu"), set(), 3
    live = Live(InFrames(engine, Request((8.0, -12.0)), source_gaze=(0, 0)), MeshDetector())
    held = torch.get_num_threads()
    torch.set_num_threads(before)
    try:
        redirect_live(
            Film("clip.mp4"), "out.mp4", live, lambda *_: seen.add(torch.get_num_threads())
        )
        assert seen == {1} and torch.get_num_threads() == before
    finally:
        torch.set_num_threads(held)


def test_control_c_ends_a_live_video_whole(here, lively):
    write_clip("clip.mp4", portrait_pictures(6))
    engine = Redirection(lively / "eyes", {}, None, "cpu")
    live = Live(InFrames(engine, Request((8.0, -12.0)), source_gaze=(0, 0)), MeshDetector())

    def stop(what, done, of):
        if done == 4:
            raise KeyboardInterrupt

    assert redirect_live(Film("clip.mp4"), "out.mp4", live, stop)["frames"] == 4
    assert len(list(Film("out.mp4"))) == 4


def test_a_course_is_smooth_and_leaves_blinks_alone():
    times = np.arange(50) / 25
    track, rng = Track(0), np.random.default_rng(0)
    marks = MeshDetector().all_faces(portrait_pictures(1)[0])[0]
    for number, time in enumerate(times):
        points = marks + [40 * time, 0] + rng.normal(0, 0.4, (68, 2))
        if 20 <= number < 24:
            for first in (36, 42):
                middle = points[first : first + 6, 1].mean()
                points[first : first + 6, 1] = middle + 0.1 * (
                    points[first : first + 6, 1] - middle
                )
        if number != 30:
            track.add(number, time, points)
    gaze = rng.normal(0, 0.02, (49, 2)) + [0.1, 0.0]
    gaze[20:24] = 2.0
    course = course_of(track, gaze, times, (320, 240))
    assert len(course) == 50
    exact = marks + np.stack([40 * times, 0 * times], -1)[:, None]
    lids = np.abs(np.arange(50) - 21.5) > 5
    error = (course.landmarks - exact)[lids]
    assert np.sqrt((error**2).mean()) < 0.3
    assert np.abs(np.diff(course.poses[:, :3], 2, axis=0)).max() < 0.03
    np.testing.assert_allclose(course.gaze, np.tile([0.1, 0.0], (50, 1)), atol=0.045)
    assert course.share[20:24].max() < 0.05 and course.share[lids].min() > 0.9
    late = course_of(track, gaze, np.arange(60) / 25, (320, 240))
    assert 0.0 < late.share[-1] < 0.5 < late.share[-4]


def test_videos_that_are_refused(here, asked, lively):
    write_clip("empty.mp4", portrait_pictures(3, gone=range(3)))
    assert "empty.mp4: 3 frames: no face found" in refused("empty.mp4", *asked, "--out", "a.mp4")
    said = refused("empty.mp4", *asked, "--live", "--out", "a.mp4")
    assert "empty.mp4: 3 frames: no face found" in said
    rng = np.random.default_rng(0)
    noise = [one ^ rng.integers(0, 8, one.shape, dtype=np.uint8) for one in portrait_pictures(20)]
    write_clip("cut.mp4", noise, tags={"movflags": "faststart"})
    content = (here / "cut.mp4").read_bytes()
    (here / "cut.mp4").write_bytes(content[: len(content) * 2 // 3])
    for way in ((), ("--live",)):
        said = refused("cut.mp4", *asked, *way, "--out", "a.mp4")
        assert "cut.mp4: expected a whole video" in said
    write_clip("good.mp4", portrait_pictures(3))
    for others, fault in (
        (("--out", "good.mp4"), "out: expected another file than the video itself"),
        (("--out", "a.mp4", "--head", 0, 5), "moves eyes alone"),
        (("--out", "a.mp4", "--eyes", "middle"), "eyes: expected one of"),
        (("--out", "a.mp4", "--sweep", "line"), "expected no sweep"),
    ):
        assert fault in refused("good.mp4", *asked, *others)
    blind = [one for one in asked if one not in ("--source-gaze", 0)]
    (here / "alone").mkdir()
    (here / "alone/eyes").symlink_to(lively / "eyes")
    blind[blind.index("--models") + 1] = here / "alone"
    assert "give --source-gaze" in refused(
        "good.mp4", *blind, "--read-gaze", "estimator", "--out", "a.mp4"
    )
    assert "expected --live with it" in refused("0", *asked, "--out", "a.mp4")
    assert not list(here.glob("*a.mp4*"))
    done("good.mp4", "cut.mp4", *asked)
    assert sorted(one.name for one in (here / "redirected").iterdir()) == [
        "good.mp4",
        "redirect.json",
    ]


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ValueError, match="package av .PyAV., which is not installed"):
        Film("clip.mp4")


def test_a_bar_tells_frames_per_second(monkeypatch):
    from regaze.redirect import video_job

    shown = []
    screen = SimpleNamespace(isatty=lambda: True, write=shown.append, flush=lambda: None)
    monkeypatch.setattr(video_job.sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    with video_job._progress() as told:
        for done_now in (1, 2, 3):
            told("redirecting", done_now, 3)
    text = "".join(shown)
    assert "redirecting" in text and "per second" in text
