import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy_flame import posed
from scipy.spatial import cKDTree
from typer.testing import CliRunner

from regaze.capture import ict_fit, load_head, surface, template
from regaze.capture.actor import Actor
from regaze.capture.ict import IctLayout, checked_out, convert_ict
from regaze.capture.ict_fit import affine_row, fit_ball, fit_jaw
from regaze.capture.ict_surface import eye_rings
from regaze.capture.parts import LABELS
from regaze.capture.subject import draw_look
from regaze.capture.writer import CaptureConfig, render_person
from regaze.commands.head import head_app
from regaze.face3d import gaze
from regaze.face3d.flame import Flame
from regaze.face3d.model import load_flame, model_hash

_spec = importlib.util.spec_from_file_location(
    "ict_fixture", Path(__file__).with_name("ict_fixture.py")
)
ict_fixture = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ict_fixture)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, head):
    folder = tmp_path_factory.mktemp("ict") / "ICT-FaceKit"
    ict_fixture.write_model(folder / "FaceXModel", head)
    return folder


@pytest.fixture(scope="module")
def path(folder):
    out = folder.parent / "ict.npz"
    convert_ict(folder, out, commit="a" * 40)
    return out


@pytest.fixture(scope="module")
def model(path):
    return load_flame(path)


@pytest.fixture(scope="module")
def twin(head, model):
    """Row of the procedural head for every row of the converted one (made from it)."""
    # the lips' inner points coincide until the jaw opens
    opened = model.shapedirs[:, :, 4 + model.meta["expressions"].index("jawOpen")]
    own = np.concatenate([model.v_template, model.v_template + opened], 1)
    other = ict_fixture.moves(head)["jawOpen"]
    other = np.concatenate([head.v_template, head.v_template + other], 1)
    distance, row = cKDTree(other.astype(float)).query(own.astype(float))
    assert distance.max() < 1e-6
    return row


def test_parts_triangles_and_quads(head, model, twin):
    # copies along the border are welded, the iris shells, teeth and the loose piece left out
    assert len(model.v_template) == len(head.v_template) and len(np.unique(twin)) == len(twin)
    assert len(model.f) == len(head.f)
    old = {tuple(np.roll(f, -f.argmin())) for f in head.f}
    assert {tuple(np.roll(f, -f.argmin())) for f in twin[model.f]} == old
    left, right = model.rows_of("left_eye"), model.rows_of("right_eye")
    assert np.array_equal(left, np.arange(left[0], right[0]))
    assert right[-1] == len(model.v_template) - 1
    assert model.n_shape_total == 4 and model.n_expression_total == 16


def test_bases_and_names(head, model, twin):
    assert np.abs(model.shapedirs[:, :, :4] - head.shapedirs[twin, :, :4]).max() < 1e-7
    names = model.meta["expressions"]
    assert [n for n in names if n.startswith("eyeLook")] == names[-8:]
    smile = model.shapedirs[:, :, 4 + names.index("mouthSmile_L")]
    assert np.abs(smile[model.v_template[:, 0] < 0]).max() < 1e-8


def test_joints_follow_the_head(head, model, twin):
    own = model.J_regressor @ model.v_template
    expected = head.J_regressor @ head.v_template
    assert np.abs(own[2:] - expected[2:]).max() < 1e-5
    assert np.abs(own[:2] - expected[:2]).max() < 0.02
    # eyes keep their centres in every identity
    for code in range(4):
        moved = model.v_template + 2 * model.shapedirs[:, :, code]
        centre = moved[model.rows_of("left_eye")].mean(0)
        assert np.abs(model.J_regressor[3] @ moved - centre).max() < 1e-5
    assert model.meta["eye_radius"] == pytest.approx(12, abs=1e-3)
    assert model.meta["jaw"]["degrees"] == pytest.approx(14, abs=0.01)


def test_lids_follow_the_eyes_as_the_shapes_do(head, model, twin):
    flame = Flame(model).double()
    zero = torch.zeros(1, 100).double(), torch.zeros(1, 50).double(), torch.zeros(1, 6).double()
    for x, y in ((30, 0), (-30, 0), (0, 30), (0, -30), (12, 0)):
        eyes = torch.deg2rad(torch.tensor([[x, y, 0, x, y, 0.0]])).double()
        pose = np.zeros((5, 3))
        pose[3:] = eyes.view(2, 3).numpy()
        expected = posed(head, pose=pose)[twin] * 1000
        found = flame(*zero, eyes).vertices[0].numpy() * 1000
        off = np.linalg.norm(found - expected, axis=1)
        assert off.max() < (0.08 if abs(x) + abs(y) == 30 else 0.6), (x, y)


def test_jaw_turns_as_it_opens(head, model, twin):
    names = model.meta["expressions"]
    opened = model.v_template + model.shapedirs[:, :, 4 + names.index("jawOpen")]
    flame = Flame(model).double()
    pose = torch.zeros(1, 6).double()
    pose[0, 3] = np.radians(model.meta["jaw"]["degrees"])
    found = flame(torch.zeros(1, 100).double(), torch.zeros(1, 50).double(), pose)
    off = np.linalg.norm(found.vertices[0].numpy() - opened, axis=1) * 1000
    assert off.max() < 0.3
    chin = (
        found.landmarks3d[0, 8, 1]
        - model.v_template[model.f[model.full_lmk_faces_idx[0, 8]]][:, 1].mean()
    )
    assert chin * 1000 < -10
    assert model.weights[model.rows_of("skin")][:, 2].max() > 0.95


def test_landmarks_and_contour(head, model, twin):
    corners = model.f[model.full_lmk_faces_idx[0]]
    found = np.einsum("lk,lkd->ld", model.full_lmk_bary_coords[0], model.v_template[corners])
    full = head.f[head.full_lmk_faces_idx[0]]
    best = head.full_lmk_bary_coords[0].argmax(1)
    assert np.abs(found - head.v_template[full[np.arange(68), best]]).max() < 1e-6
    assert np.array_equal(model.static_lmk_faces_idx, model.full_lmk_faces_idx[0, 17:])
    # the silhouettes of the two heads agree up to the registration's error
    for row in (0, 20, 39, 60, 78):
        points = []
        for m in (model, head):
            c = m.f[m.dynamic_lmk_faces_idx[row]]
            points.append(np.einsum("lk,lkd->ld", m.dynamic_lmk_bary_coords[row], m.v_template[c]))
        assert np.linalg.norm(points[0] - points[1], axis=1).mean() < 0.012


def test_skin_is_registered_to_the_procedural_head(head, path, twin):
    converted = load_head(path)
    count = len(converted.plane)
    rows = twin[:count]
    at = np.minimum(rows, len(head.plane) - 1)
    skin = (rows == at) & (np.abs(head.plane[at, 0]) < 150)
    off = np.abs(converted.plane[skin] - head.plane[rows[skin]])
    assert np.median(off) < 1 and np.percentile(off, 95) < 7
    # ears lie where neither hair nor beard grows
    ears = converted.regions[:count] == 4
    assert (head.regions[rows[ears]] == 4).mean() > 0.9 and ears.sum() > 100
    # the lid margin is the head's own, closed, and inside the rest
    for side in (1, -1):
        mine = np.sign(converted.v_template[:count, 0]) == side
        margin = mine & (np.abs(converted.ring - surface.RINGS[0]) < 1e-6)
        assert margin.sum() > 12 and (head.ring[rows[margin]] < 0.4).all()
        assert (mine & (converted.ring == 0)).sum() > 12
    far = converted.ring == 9
    assert (head.ring[rows[far & (rows < len(head.plane))]] > 1.0).all()


def test_texture_charts(model, path):
    corner = model.uvcoords[model.uvfaces]
    # A triangle at the crown reaches from the middle of the face to the seam, half the chart, and
    # none further.
    assert np.ptp(corner[..., 0], axis=1).max() <= 0.5
    nose = model.uvcoords[model.uvfaces[model.static_lmk_faces_idx[13]]].mean(0)
    assert abs(nose[0] - 0.5) < 0.03 and nose[1] < template.SKIN_CHART
    with np.load(path) as stored:
        assert stored["udim_uvcoords"][:, 0].max() > 1
        assert stored["udim_uvfaces"].shape == model.f.shape
        assert not any(stored[name].dtype == object for name in stored.files)


def test_notice_and_commit(folder, path, model, tmp_path):
    assert "2020 USC Institute for Creative Technologies" in model.meta["notice"]
    assert model.meta["upstream"] == {"repository": "ICT-VGL/ICT-FaceKit", "commit": "a" * 40}
    assert len(model.meta["inputs"]["sha256"]) == 64
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "LICENSE").write_text("the file's own notice")
    (copy / ".git" / "refs" / "heads").mkdir(parents=True)
    (copy / ".git" / "HEAD").write_text("ref: refs/heads/master\n")
    (copy / ".git" / "refs" / "heads" / "master").write_text("b" * 40 + "\n")
    mesh = copy / "FaceXModel/generic_neutral_mesh.obj"
    lines = [line for line in mesh.read_text().splitlines() if not line.startswith("vt ")]
    mesh.write_text(re.sub(r"(\d+)/\d+", r"\1", "\n".join(lines)))
    meta = convert_ict(copy, tmp_path / "c.npz", teeth=True).meta
    assert meta["notice"] == "the file's own notice" and meta["upstream"]["commit"] == "b" * 40
    assert len(load_flame(tmp_path / "c.npz").v_template) == len(model.v_template) + 24
    # charts of the download's own are kept where it has them
    with np.load(path) as own, np.load(tmp_path / "c.npz") as bare:
        assert set(own.files) - set(bare.files) == {"udim_uvcoords", "udim_uvfaces"}


def test_the_capture_renders_it(path):
    head = load_head(path)
    config = CaptureConfig({"val": 1}, head_poses=1, gazes=2, photo=96, focal=190.0)
    person = render_person(head, config, "40001")
    assert person.parameters["shape"].shape == (2, 4)
    assert person.parameters["expression"].shape == (2, 16)
    for mask, marks in zip(person.masks, person.landmarks, strict=True):
        # the middles of the eyes' landmarks show eyeballs, the bridge of the nose skin
        for name, rows in (("right_eye", slice(36, 42)), ("left_eye", slice(42, 48))):
            x, y = marks[rows].mean(0).round().astype(int)
            assert (mask[y - 1 : y + 2, x - 2 : x + 3] == LABELS[name]).any()
        x, y = marks[28].round().astype(int)
        assert mask[y, x] == LABELS["skin"]
    # the eyes' poses are the labels', as for the procedural head
    both = torch.tensor(person.labels[:, 4:]).reshape(-1, 2, 2).flip(1)
    root = gaze.root_from_labels(torch.tensor(person.labels[:, 2:4]))
    stored = torch.tensor(person.parameters["eye_pose"])
    assert torch.allclose(gaze.eye_pose_from_labels(both, root), stored, atol=1e-6)


def test_larger_eyeballs_are_rendered_as_such(path):
    head = load_head(path)
    head.meta["eye_radius"] = 15.0
    look = draw_look(0, 40001, head.meta)
    assert Actor(head, look).radius == 15.0
    # the traits of a person use the groups of expressions that stand for the capture's own
    names = head.meta["expressions"]
    assert look.expression[names.index("mouthSmile_L")] != 0
    assert look.expression[names.index("eyeBlink_L")] == look.expression[names.index("eyeBlink_R")]
    assert (look.expression[-8:] == 0).all()


def test_balls_and_affine_rows():
    rng = np.random.default_rng(0)
    ray = rng.normal(size=(400, 3))
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    points = 15 * ray + [31, 36, 80]
    points[ray[:, 2] > 0.8, 2] += 1.5  # the cornea
    centre, radius = fit_ball(points)
    assert np.allclose(centre, [31, 36, 80]) and radius == pytest.approx(15)
    row = affine_row(points, centre)
    assert row.sum() == pytest.approx(1) and np.allclose(row @ points, centre)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert np.allclose(row @ (1.1 * points @ turn + 5), 1.1 * centre @ turn + 5)
    with pytest.raises(ValueError, match="no sphere"):
        fit_ball(points * [1, 1, 0.2])
    with pytest.raises(ValueError, match="expected 8 vertices behind its middle, found 7"):
        fit_ball(np.concatenate([points[points[:, 2] < 75][:7], points[points[:, 2] > 94]]))


def lower_face():
    """Points of a skull and, below its mouth, of a chin; 68 landmarks with the ears at z = -10."""
    rng = np.random.default_rng(0)
    skull = rng.uniform([-60, -40, -60], [60, 100, 60], (60, 3))
    chin = rng.uniform([-25, -100, 40], [25, -85, 60], (40, 3))
    marks = np.zeros((68, 3))
    marks[[0, 16], 1:], marks[57, 1] = (5, -10), -70
    return {"face": chin, "head": skull}, marks


def about_x(points, degrees, hinge):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (points - hinge) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T + hinge - points


def test_a_jaw_without_teeth_is_fitted_to_the_chin():
    points, marks = lower_face()
    still = np.zeros_like(points["head"])
    hinge = np.array([0.0, 10.0, -20.0])
    moves = {"face": about_x(points["face"], 14, hinge), "head": still}
    found = fit_jaw(points, moves, marks, None)
    np.testing.assert_allclose(found["hinge"], hinge, atol=1e-6)
    assert np.degrees(found["angle"]) == pytest.approx(14)
    # a hinge outside the head, or a chin that moves straight down, is that before the ears
    for away in (
        about_x(points["face"], 4, np.array([0, 200.0, 0])),
        0 * points["face"] - [0, 8, 0],
    ):
        found = fit_jaw(points, {"face": away, "head": still}, marks, None)
        np.testing.assert_allclose(found["hinge"], [0, 0, -10])
        arm, goal = ((points["face"] + move).mean(0) - [0, 0, -10] for move in (0, away))
        turned = found["turn"] @ arm
        np.testing.assert_allclose(
            turned / np.linalg.norm(turned), goal / np.linalg.norm(goal), atol=0.1
        )
        assert 1 < np.degrees(found["angle"]) < 15
    with pytest.raises(ValueError, match=r"by 1\.\.60 degrees, found -\d"):
        fit_jaw(points, {"face": 0 * points["face"] + [0, 8, 0], "head": still}, marks, None)
    with pytest.raises(ValueError, match="a millimetre or more, found 0.50 mm"):
        fit_jaw(points, {"face": 0 * points["face"] + [0, 0.5, 0], "head": still}, marks, None)


def test_a_neck_without_vertices_at_its_joint_takes_the_nearest():
    rng = np.random.default_rng(0)
    rest = rng.uniform(-80, 80, (200, 3))
    rest[:80, 1], rest[80:160, 1] = -100, 0
    part = {"left_sclera": np.arange(160, 180), "right_sclera": np.arange(180, 200)}
    balls = {"left": (np.array([30.0, 40, 50]), 12.0), "right": (np.array([-30.0, 40, 50]), 12.0)}
    jaw = {"hinge": np.array([0.0, 0, -20])}
    found = ict_fit.joints(rest, 160, part, balls, jaw, np.arange(80, 148))
    np.testing.assert_allclose(found.sum(1), 1)
    assert np.flatnonzero(found[0]).tolist() == list(range(80))
    upper = np.flatnonzero(found[1])
    assert len(upper) == 12 and upper.min() >= 80
    np.testing.assert_allclose(
        found[2:] @ rest, [jaw["hinge"], balls["left"][0], balls["right"][0]], atol=1e-9
    )


def test_an_eye_on_two_pieces_of_skin_is_refused():
    rest = np.random.default_rng(0).normal(size=(6, 3))
    marks = np.zeros(68, int)
    marks[36:42] = [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="landmarks of an eye lie on separate pieces of skin"):
        eye_rings(rest, np.array([[0, 1, 2], [3, 4, 5]]), 6, marks)


def _copy(folder, tmp_path):
    copy = tmp_path / "m"
    shutil.copytree(folder / "FaceXModel", copy)
    return copy, json.loads((copy / "vertex_indices.json").read_text())


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c, j: (c / "generic_neutral_mesh.obj").unlink(), "generic_neutral_mesh.obj; down"),
        (lambda c, j: (c / "identity002.obj").unlink(), "identity002.obj: no such file"),
        (lambda c, j: (c / "jawOpen.obj").unlink(), "jawOpen.obj: no such file"),
        (lambda c, j: (c / "vertex_indices.json").write_text("{"), "not a readable JSON"),
        (lambda c, j: (c / "vertex_indices.json").write_text("[]"), "an object, found list"),
        (lambda c, j: j.update(expressions="jawOpen"), "expressions: expected a list of names"),
        (lambda c, j: (c / "mouthPucker.obj").write_text("v 0 0 0\n"), "Pucker.obj: expected"),
        (lambda c, j: j.update(expressions=["jawOpen"]), "lacks eyeLookUp_L"),
        (lambda c, j: j["expressions"].append("../x"), "plain names"),
        (lambda c, j: j.update(idx_to_landmark_verts=[1, 2]), "expected 68 vertices, found 2"),
        (lambda c, j: j["jaw"].pop(), "expected 17"),
        (lambda c, j: j["idx_to_landmark_verts"].__setitem__(40, 10**6), "are no vertices"),
        (lambda c, j: j["parts"].pop("face"), "lacks face, unknown none"),
        (lambda c, j: j["parts"].update(nose=[0, 1]), "lacks none, unknown nose"),
        (lambda c, j: j["parts"].update(teeth=[0, 5]), "overlap"),
        (lambda c, j: j["parts"].update(teeth=[0, 10**6]), "part teeth is vertices 0..1000000"),
        (lambda c, j: j["parts"].update(teeth="x"), "first, last"),
        (lambda c, j: j.pop("parts"), "expected 26719 vertices, found"),
        (lambda c, j: j.update(identities=9), "expected 9 files identityNNN.obj, found 4"),
    ],
)
def test_what_is_missing_or_other_is_named(folder, tmp_path, change, words):
    copy, content = _copy(folder, tmp_path)
    before = json.dumps(content)
    change(copy, content)
    if json.dumps(content) != before:
        (copy / "vertex_indices.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        convert_ict(copy, tmp_path / "o.npz")
    assert not (tmp_path / "o.npz").exists()


def test_turns_of_the_eyes_beyond_the_usual_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"look_degrees: expected 5\.\.60, found 3"):
        convert_ict(folder, tmp_path / "o.npz", look_degrees=3)


@pytest.mark.parametrize(
    "head, packed, commit",
    [
        ("b" * 40, None, "b" * 40),
        ("ref: refs/heads/main", f"# packed\n{'c' * 40} refs/heads/main\n", "c" * 40),
        ("ref: refs/heads/main", f"{'c' * 40} refs/heads/other\n", "unknown"),
        ("ref: refs/heads/main", None, "unknown"),
        ("no commit", None, "unknown"),
    ],
)
def test_the_commit_of_a_download_is_read_from_its_git_data(tmp_path, head, packed, commit):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/HEAD").write_text(head + "\n")
    if packed is not None:
        (tmp_path / ".git/packed-refs").write_text(packed)
    assert checked_out(tmp_path / "FaceXModel") == commit


def test_polygons_that_leave_the_parts_bare_are_refused(folder, tmp_path):
    copy, _ = _copy(folder, tmp_path)
    path = copy / "generic_neutral_mesh.obj"
    lines = path.read_text().splitlines()
    faces = [line for line in lines if line.startswith("f ")]
    path.write_text("\n".join([n for n in lines if n[:2] != "f "] + faces[:100]) + "\n")
    with pytest.raises(ValueError, match=r"parts: \d+ of \d+ vertices belong to no polygon"):
        convert_ict(copy, tmp_path / "o.npz")


def test_landmarks_outside_the_polygons_are_named():
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    triangles, weights = ict_fit.corners_at(faces, np.array([3, 1]))
    assert triangles.tolist() == [1, 0] and weights.tolist() == [[0, 0, 1], [0, 1, 0]]
    with pytest.raises(ValueError, match="landmarks: vertex 4 .* is in no polygon"):
        ict_fit.corners_at(faces, np.array([0, 4]))


def test_the_published_layout_is_the_default():
    layout = IctLayout()
    assert layout.vertices == 26719 and layout.identities == 100
    assert len(layout.rows("face", "head")) == 11248
    assert len(layout.rows("left_sclera")) == len(layout.rows("right_sclera")) == 770


def test_commands_convert_to_the_same_bytes(folder, path, tmp_path):
    run = CliRunner().invoke
    out = tmp_path / "ict.npz"
    given = [str(folder / "FaceXModel"), str(out), "--commit", "a" * 40]
    done = run(head_app, ["convert-ict", *given])
    assert done.exit_code == 0 and "source ict, sha256" in done.output
    assert out.read_bytes() == path.read_bytes()
    assert model_hash(load_flame(out)) in run(head_app, ["show", str(out)]).output
    failed = run(head_app, ["convert-ict", str(tmp_path), str(out)])
    assert failed.exit_code == 1 and "generic_neutral_mesh.obj" in str(failed.exception)
    failed = run(head_app, ["convert", str(out), str(out), str(tmp_path / "x.npz")])
    assert failed.exit_code == 1 and "refused" in str(failed.exception)
    built = tmp_path / "own.npz"
    assert run(head_app, ["build", str(built)]).exit_code == 0
    assert load_flame(built).meta["source"] == "synthetic"
