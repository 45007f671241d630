import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.angles import angles_from_vector, vector_from_angles
from regaze.capture.writer import CaptureConfig, render_person
from regaze.face3d import gaze
from regaze.face3d.flame import Flame
from regaze.rotations import rodrigues


def pupils(model, vertices):
    """Centres (B, 2, 3) of the pupils and of the eyeballs, from texture and regions alone."""
    out = []
    for name in ("left_eye", "right_eye"):
        rows = model.rows_of(name)
        # an eyeball's chart is a disc about its pupil, whose edge is at 10 of 180 degrees
        inside = np.isin(model.f, rows).all(1)
        corners = dict(zip(model.f[inside].ravel(), model.uvfaces[inside].ravel(), strict=True))
        chart = np.array([model.uvcoords[corners[row]] for row in rows])
        away = np.linalg.norm(chart - np.median(chart, 0), axis=1)
        pupil = rows[away < 0.065 * np.ptp(chart[:, 1])]
        out.append((vertices[:, pupil].mean(1), vertices[:, rows].mean(1)))
    return torch.stack([a for a, _ in out], 1), torch.stack([b for _, b in out], 1)


def posed(model, labels, root):
    flame = Flame(model).double()
    eyes = gaze.eye_pose_from_labels(labels, root)
    batch = len(labels)
    zero = torch.zeros(batch, 3, dtype=torch.float64)
    codes = [torch.zeros(batch, n, dtype=torch.float64) for n in (100, 50)]
    return flame(*codes, torch.cat([root, zero], 1), eyes)


def test_pupils_point_along_the_labels(model):
    labels = torch.deg2rad(torch.tensor([[0, 0], [15, 0], [-15, 0], [0, 20], [0, -20.0], [9, -9]]))
    labels = labels.double()
    for degrees in ([0, 0, 0], [10, 0, 0], [0, 25, 0], [-12, 18, 7]):
        root = torch.deg2rad(torch.tensor(degrees).double()).expand(len(labels), 3)
        pupil, ball = pupils(model, posed(model, labels, root).vertices)
        line = torch.nn.functional.normalize(pupil - ball, dim=-1)
        # in the camera: x right, y down, z into the scene; gaze is minus the label's vector
        found = line * torch.tensor([1.0, -1.0, -1.0])
        wanted = -vector_from_angles(labels)[:, None]
        assert ((found * wanted).sum(-1) > np.cos(np.radians(0.5))).all(), degrees


def test_signs(model):
    # labels look up for positive pitch, to image left (the subject's right) for positive yaw
    root = torch.zeros(4, 3, dtype=torch.float64)
    labels = torch.tensor([[0.2, 0], [-0.2, 0], [0, 0.2], [0, -0.2]]).double()
    eyes = gaze.eye_pose_from_labels(labels, root)
    assert torch.allclose(eyes[:, 0], torch.tensor([-0.2, 0.2, 0, 0]).double(), atol=1e-9)
    assert torch.allclose(eyes[:, 1], torch.tensor([0, 0, -0.2, 0.2]).double(), atol=1e-9)
    pupil, ball = pupils(model, posed(model, labels, root).vertices)
    line = pupil - ball
    assert (line[0, :, 1] > 1e-3).all() and (line[1, :, 1] < -1e-3).all()
    assert (line[2, :, 0] < -1e-3).all() and (line[3, :, 0] > 1e-3).all()


def test_agrees_with_the_captures_own_eye_poses(head, model):
    config = CaptureConfig({"val": 1}, head_poses=2, gazes=2, photo=64, focal=120.0)
    person = render_person(head, config, "40001")
    stored = torch.tensor(person.parameters["eye_pose"])
    labels = torch.tensor(person.labels)
    # the capture names the eyes by their place in the picture: the right eye first
    both = labels[:, 4:].reshape(-1, 2, 2).flip(1)
    # in the normalised camera the head is where its label says
    in_patch = gaze.root_from_labels(labels[:, 2:4])
    assert torch.allclose(gaze.eye_pose_from_labels(both, in_patch), stored, atol=1e-6)
    # the face's label is the gaze of both eyes up to their convergence on a near target
    one = gaze.eye_pose_from_labels(labels[:, :2], in_patch)
    assert (one - stored).abs().max() < np.radians(6)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-1.2, 1.2), min_size=4, max_size=4),
    st.lists(st.floats(-0.6, 0.6), min_size=3, max_size=3),
)
def test_labels_come_back(angles, turn):
    labels = torch.tensor(angles, dtype=torch.float64).view(1, 2, 2)
    root = torch.tensor([turn], dtype=torch.float64)
    eyes = rodrigues(gaze.eye_pose_from_labels(labels, root).view(1, 2, 3))[..., 2]
    looks = eyes @ rodrigues(root).transpose(1, 2) * torch.tensor([1.0, -1.0, -1.0]).double()
    assert torch.allclose(angles_from_vector(-looks), labels, atol=1e-6)


def test_no_torsion_and_zero_for_straight_ahead():
    assert torch.equal(gaze.eye_pose_from_labels(torch.zeros(1, 2)), torch.zeros(1, 6))
    eyes = gaze.eye_pose_from_labels(torch.tensor([[0.3, -0.4]]))
    assert torch.equal(eyes[:, [2, 5]], torch.zeros(1, 2))
    # a turn of the head that the eyes undo
    root = torch.tensor([[0.0, 0.3, 0.0]])
    eyes = gaze.eye_pose_from_labels(torch.zeros(1, 2), root)
    assert torch.allclose(eyes[0, :3], torch.tensor([0.0, -0.3, 0.0]), atol=1e-6)


def test_a_turn_of_the_head_may_be_a_matrix():
    labels = torch.tensor([[0.2, -0.1], [0.0, 0.3]])
    root = torch.tensor([[0.1, 0.3, 0.0], [-0.2, 0.0, 0.1]])
    turned = gaze.eye_pose_from_labels(labels, rodrigues(root))
    torch.testing.assert_close(turned, gaze.eye_pose_from_labels(labels, root))
    assert not torch.allclose(turned, gaze.eye_pose_from_labels(labels), atol=0.01)


def test_gradients_are_finite_straight_ahead():
    labels = torch.zeros(1, 2, requires_grad=True)
    eyes = gaze.eye_pose_from_labels(labels)
    slope = torch.autograd.grad(eyes[0, 1], labels)[0]
    assert torch.allclose(slope, torch.tensor([[0.0, -1.0]]), atol=1e-6)
