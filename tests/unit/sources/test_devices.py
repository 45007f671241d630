"""Screens, orientations and assumed cameras."""

import os

import numpy as np
import pytest
from PIL import Image

from regaze.sources.devices import (
    SCREENS,
    assumed_camera,
    camera_to_target,
    canonical,
    focal_factor,
    photo_size,
    photo_sizes,
    points_to_camera,
)


@pytest.mark.parametrize(
    "orientation, size, near, expected",
    [
        # iPhone 6: the camera sits 18.61 mm to the right of the screen's corner, 8.03 mm above it.
        (1, (375, 667), (0, 0), (-1.861, -0.803)),
        (1, (375, 667), (375, 667), (3.989, -11.208)),
        # upside down the camera is below the screen, and seen from the user on the right
        (2, (375, 667), (0, 0), (-3.989, 11.208)),
        (2, (375, 667), (375, 667), (1.861, 0.803)),
        # home button right: the camera is left of the screen
        (3, (667, 375), (0, 0), (0.803, 3.989)),
        (3, (667, 375), (667, 375), (11.208, -1.861)),
        # home button left: it is right of it
        (4, (667, 375), (0, 0), (-11.208, 1.861)),
        (4, (667, 375), (667, 375), (-0.803, -3.989)),
    ],
)
def test_the_corners_of_a_phone_in_every_orientation(orientation, size, near, expected):
    found = points_to_camera([near], [orientation], [size], SCREENS["iPhone 6"])
    np.testing.assert_allclose(found, [expected], atol=1e-9)


def test_unknown_orientations_and_empty_screens_give_nan():
    held, size = [1, 0, 5, np.nan, 1, 2.5], [(10, 10)] * 4 + [(0, 10)] + [(10, 10)]
    found = points_to_camera(np.ones((6, 2)), held, size, SCREENS["iPad Air"])
    assert np.isfinite(found).all(axis=1).tolist() == [True] + [False] * 5


def test_a_dot_below_the_camera_on_the_users_right_is_image_left_and_down():
    np.testing.assert_array_equal(camera_to_target([[2.0, -3.0]]), [[-20.0, 30.0, 0.0]])


def test_the_factor_states_where_it_comes_from():
    assert canonical(" iphone  4S ") == "iPhone 4s"
    factor, reason = focal_factor("iPhone 6")
    assert factor == pytest.approx(0.8956, abs=1e-4) and "31 mm" in reason
    factor, reason = focal_factor("Tricorder")
    assert factor == 1.0 and "assumed" in reason and "Tricorder" in reason
    assert focal_factor("iPhone 6", 0.9)[0] == 0.9
    assert focal_factor("iPhone 6", 0.9, {"iphone 6": 0.8})[0] == 0.8


def test_the_assumed_camera_does_not_depend_on_how_the_device_is_held():
    found = assumed_camera([[640, 480], [480, 640], [np.nan, np.nan]], 0.9)
    expected = [[576, 576, 320, 240], [576, 576, 240, 320]]
    np.testing.assert_allclose(found[:2], expected)
    assert np.isnan(found[2]).all()


def test_sizes_are_those_of_the_picture_as_shown(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    image = Image.fromarray(noise)
    image.save(tmp_path / "plain.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.save(tmp_path / "named.png")
    (tmp_path / "named.png").rename(tmp_path / "png-named.jpg")
    content = (tmp_path / "plain.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[:-200])
    assert photo_size(tmp_path / "plain.jpg") == photo_size(tmp_path / "cut.jpg") == (30, 20)
    assert photo_size(tmp_path / "turned.jpg") == (20, 30)
    assert photo_size(tmp_path / "png-named.jpg") == (30, 20)


def test_what_is_no_photo_has_no_size(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "stub.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    # a picture of 65500 x 65500 pixels in a header without any data
    huge = b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xdc\xff\xdc\x03" + b"\x01\x11\x00" * 3
    (tmp_path / "huge.jpg").write_bytes(huge)
    names = ["empty.jpg", "text.jpg", "stub.jpg", "folder.jpg", "pipe.jpg", "none.jpg", "huge.jpg"]
    sizes = photo_sizes([*(tmp_path / name for name in names), None])
    assert sizes.shape == (8, 2) and np.isnan(sizes).all()
