"""Faces moved to other expressions: where points go, what photos become, what is drawn."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from heads import tiny_head

from regaze.capture import render_capture
from regaze.face3d.crop import to_image_space
from regaze.face3d.crops import CropBatches
from regaze.face3d.expressions import KEPT, Expressions
from regaze.face3d.flame import Flame
from regaze.face3d.ground_truth import read_ground_truth, read_views
from regaze.faces import FacesReader
from regaze.normalise.stage import make_faces


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Three persons, each with one photo, and with two more that differ in expression alone."""
    folder, head = tmp_path_factory.mktemp("expressive"), tiny_head()
    root = folder / "capture"
    options = {"head_poses": 1, "gazes": 1, "expressions": 2, "photo": 240, "focal": 470.0}
    persons = {"train-redirector": 3, "train-evaluator": 1, "val": 1, "test": 1}
    render_capture(root, persons=persons, model=head, **options)
    made = folder / "shard.h5", folder / "rejected.parquet"
    source = {"source": "synthetic", "root": str(root)}
    make_faces(source, *made, shard=0, shards=1, frame_check="none")
    reader = FacesReader([str(made[0])])
    split = json.loads((root / "split.json").read_text())
    rows = reader.rows(split["train-redirector"])
    known = read_ground_truth(root / "parameters.h5", reader, rows, head)
    return reader, split["train-redirector"], known, read_views(known, reader, head, 0), head


def batches(faces, expressions):
    reader, persons, known, views, _ = faces
    given = {"known": known, "views": views, "expressions": expressions}
    return CropBatches(reader, persons, size=64, batch=4, seed=0, jitter=0.05, **given)


def test_a_moved_photo_comes_nearer_to_the_photo_of_that_expression(faces):
    reader, _, known, views, head = faces
    moving = Expressions(known, head)
    first = np.arange(0, len(known), 3)
    pixels = torch.from_numpy(reader.pixels(known.rows)).float()
    before, after = [], []
    for other in (first + 1, first + 2):
        change = known.exp[other] - known.exp[first]
        far = moving.moves(change, known.pose[first, :3], moving.face)
        far = far * known.camera[first, 0][:, None, None]
        seen = views.nearest[known.view[first]]
        images = torch.from_numpy(reader.pixels(known.rows[first]))
        made = moving.moved(images, far, seen).float()
        # of all that is to change: the face below the eyes
        marks = known.landmarks[first]
        for row, lines in enumerate(marks[:, :, 1]):
            part = slice(int(lines[30]), int(lines[8]))
            true = pixels[other[row], part]
            before.append(float((pixels[first[row], part] - true).square().mean()))
            after.append(float((made[row, part] - true).square().mean()))
    assert np.mean(after) < 0.5 * np.mean(before)


def test_landmarks_and_codes_go_along(faces):
    _, _, known, _, head = faces
    plain, moved = batches(faces, None), batches(faces, Expressions(known, head, 3.0))
    for step in range(3):
        was, now = plain.finish(plain.load(step)), moved.finish(moved.load(step))
        points = Flame(head)
        change = []
        for one in (was, now):
            posed = points(was["shape"], one["exp"], was["pose"], was["eye_pose"])
            change.append(to_image_space(posed.landmarks3d, was["cam"])[..., :2])
        there = now["landmarks"] - was["landmarks"]
        torch.testing.assert_close(there, change[1] - change[0], atol=2e-4, rtol=0)
        changed = (now["exp"] != was["exp"]).any(1)
        assert torch.equal((there != 0).any(2).any(1), changed)
        same = (now["crops"] - was["crops"]).abs().amax((1, 2, 3)) < 1e-3
        assert torch.equal(same, ~changed)


def test_what_is_drawn_is_that_of_other_rows_and_wider(faces):
    known, head = faces[2], faces[4]
    many = replace(known, exp=torch.randn(len(known), 50, generator=torch.manual_seed(0)))
    moving, rng = Expressions(many, head, 3.0), np.random.default_rng(0)
    drawn = torch.stack([moving.draw(2, rng) for _ in range(400)])
    kept = (drawn == 0).all(1)
    assert float(kept.float().mean()) == pytest.approx(KEPT, abs=0.06)
    made = (many.exp[2] + drawn)[~kept]
    mean = many.exp.mean(0)
    allowed = mean + 3.0 * (many.exp - mean)
    nearest = (made[:, None] - allowed[None]).abs().amin(1)
    assert float(nearest.max()) < 1e-4
    spread = (made - mean).std(0) / many.exp.std(0)
    assert float(spread.mean()) == pytest.approx(3.0, rel=0.15)
