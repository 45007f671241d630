"""The crop, its camera and the way back to the photo."""

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.face3d.crop import (
    CropBox,
    crop_box,
    landmark_bounds,
    project,
    read_landmarks,
    to_crop_pixels,
    to_image_space,
    to_photo,
    undetected_bounds,
    warp,
    warp_tensor,
)


def smooth_photo(height: int = 70, width: int = 90) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    planes = [x * 2, y * 3, 128 + 60 * np.sin(x / 9) * np.cos(y / 7)]
    return np.stack(planes, -1).clip(0, 255).astype(np.uint8)


def test_boxes_of_landmarks_and_of_a_detector():
    bounds = [10.0, 30.0, 20.0, 50.0]
    face = crop_box(bounds)
    assert face.centre.tolist() == [20, 35]
    assert float(face.extent) == pytest.approx(25 * 1.1) and int(face.size) == 34
    box = crop_box(bounds, "detector")
    assert box.centre.tolist() == [20, 35 + 0.12 * 25]
    assert float(box.extent) == 25 and int(box.size) == 31
    many = crop_box([bounds, bounds])
    assert many.size.tolist() == [34, 34] and many.transform().shape == (2, 3, 3)


@given(
    left=st.floats(-50, 200),
    top=st.floats(-50, 200),
    width=st.floats(10, 300),
    height=st.floats(10, 300),
)
@settings(max_examples=40, deadline=None)
def test_the_square_goes_onto_the_crop_and_back(left, top, width, height):
    box = crop_box([left, left + width, top, top + height])
    matrix = box.transform()
    half = box.size / 2
    corners = box.centre + half * np.array([(-1, -1), (-1, 1), (1, -1)])
    target = np.array([(0, 0), (0, 223), (223, 0)], float)
    assert corners @ matrix[:2, :2].T + matrix[:2, 2] == pytest.approx(target, abs=1e-7)


def test_bounds_of_a_face_and_of_none():
    points = np.array([[3.0, 4], [10, 2], [5, 9]])
    assert landmark_bounds(points).tolist() == [3, 10, 2, 9]
    assert undetected_bounds(80, 60).tolist() == [0, 79, 0, 59]


def test_warps_agree_and_are_black_outside():
    photo = smooth_photo()
    boxes = [crop_box([30, 60, 25, 55]), crop_box([-20, 20, -15, 30]), crop_box([5, 85, 0, 69])]
    transforms = np.stack([box.transform(48) for box in boxes])
    crops = torch.stack([warp(photo, transform, 48) for transform in transforms])
    assert crops.shape == (3, 3, 48, 48) and crops.dtype == torch.float32
    photos = torch.from_numpy(photo).permute(2, 0, 1)[None].expand(3, -1, -1, -1).float() / 255
    torch.testing.assert_close(
        warp_tensor(photos, torch.from_numpy(transforms), 48), crops, atol=3e-5, rtol=0
    )
    assert (crops[1, :, 0, 0] == 0).all() and crops[1, :, -1, -1].sum() > 0
    # turned a little: the same picture through the general way
    angle = np.array([[np.cos(1e-7), -np.sin(1e-7), 0], [np.sin(1e-7), np.cos(1e-7), 0], [0, 0, 1]])
    for crop, transform in zip(crops, transforms, strict=True):
        torch.testing.assert_close(warp(photo, angle @ transform, 48), crop, atol=1e-4, rtol=0)
    turned = np.array([[0.6, -0.2, 3.0], [0.2, 0.6, -8.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(
        warp_tensor(photos[:1], torch.from_numpy(turned[None]), 48)[0], warp(photo, turned, 48),
        atol=3e-5, rtol=0,
    )  # fmt: skip
    # a crop that sees none of the photo
    gone = CropBox(np.array([500.0, 500]), np.array(20.0), np.array(25)).transform(16)
    assert (warp(photo, gone, 16) == 0).all()


def test_identity_warp_returns_the_photo():
    photo = smooth_photo(40, 40)
    found = warp(photo, np.eye(3), 40)
    assert torch.equal((found * 255).round().byte(), torch.from_numpy(photo).permute(2, 0, 1))


def test_projection_shifts_before_it_scales_and_flips():
    points = torch.tensor([[[0.01, 0.02, 0.03]]])
    cam = torch.tensor([[10.0, 0.01, -0.01]])
    torch.testing.assert_close(project(points, cam), torch.tensor([[[0.2, 0.1, 0.3]]]))
    image = to_image_space(points, cam)
    torch.testing.assert_close(image, torch.tensor([[[0.2, -0.1, -0.3]]]))
    pixels = to_crop_pixels(image)
    torch.testing.assert_close(pixels[0, 0], torch.tensor([134.4, 100.8, -0.3]))


def test_points_return_to_the_photo():
    box = crop_box([30, 60, 25, 55])
    transform = torch.from_numpy(box.transform()[None])
    points = torch.tensor([[[-1.0, -1, 0.5], [1, 1, 0.25]]])
    found = to_photo(points, transform, 90, 70)
    pixels = (found[0, :, :2].double() + 1) / 2 * torch.tensor([90.0, 70.0])
    half = float(box.size) / 2
    # 224 on the way back against 223 on the way in
    wanted = np.stack([box.centre - half, box.centre - half + box.size * 224 / 223])
    assert pixels.numpy() == pytest.approx(wanted, abs=1e-4)
    assert found[0, :, 2].tolist() == [0.5, 0.25]


def test_landmark_files(tmp_path):
    table = np.arange(68 * 3, dtype=float).reshape(68, 3)
    np.savetxt(tmp_path / "a.txt", table)
    scipy.io.savemat(tmp_path / "a.mat", {"pt3d_68": table.T})
    for name in ("a.txt", "a.mat"):
        assert read_landmarks(tmp_path / name) == pytest.approx(table[:, :2])
    scipy.io.savemat(tmp_path / "b.mat", {"points": table})
    (tmp_path / "b.txt").write_text("one two\n")
    (tmp_path / "c.mat").write_bytes(b"no")
    np.savetxt(tmp_path / "d.txt", table[:, :1])
    for name, text in {
        "b.mat": "pt3d_68",
        "b.txt": "not a table",
        "c.mat": "not a readable MAT",
        "d.txt": "N rows of x, y",
        "d.csv": "expected landmarks in",
    }.items():
        with pytest.raises(ValueError, match=text):
            read_landmarks(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none\.mat"):
        read_landmarks(tmp_path / "none.mat")
