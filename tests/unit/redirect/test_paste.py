"""Taking a patch out of a photo and putting it back."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.images import reduce_patches
from regaze.normalise.camera import pad_distortion
from regaze.normalise.geometry import Variant, normalise
from regaze.normalise.warp import patch_map
from regaze.redirect.paste import Motion, View, eye_mask, face_mask, paste, window_mask

SIZE = (320, 240)
LENS = (-0.12, 0.03, 0.001, -0.002)
CAMERA = np.array([400.0, 402.0, 161.0, 118.0])
POSE = np.array([0.1, -0.15, 0.02, 12.0, -8.0, 520.0])


def view(lens=(0, 0, 0, 0), pose=POSE, scale=1.0, size=128):
    variant = Variant.named("sted", size)
    camera = CAMERA * scale
    made = normalise(camera[None], pose[None], None, variant)
    return View(made.homography[0], camera, pad_distortion(lens), variant.size)


def levels(patch, size):
    picture = reduce_patches(patch[None], size)[0].permute(1, 2, 0).numpy()
    return ((picture + 1) * 127.5).astype(np.float32)


@pytest.mark.parametrize("lens", [(0, 0, 0, 0), LENS, (-0.3, 0.1, 0.002, 0.001, -0.02)])
def test_photo_to_patch_is_the_inverse_of_the_forward_map(lens):
    seen = view(lens)
    forward = patch_map(seen.homography, seen.camera, seen.distortion, SIZE, (128, 128))
    back = seen.to_patch(forward.reshape(-1, 2)).reshape(128, 128, 2)
    grid = np.stack(np.meshgrid(np.arange(128), np.arange(128)), -1)
    inside = (forward > 0).all(-1) & (forward < np.array(SIZE)).all(-1)
    assert inside.mean() > 0.5
    assert np.abs(back - grid)[inside].max() < 0.02


@settings(max_examples=10, deadline=None)
@given(
    st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), st.floats(-40, 40), st.sampled_from([0, -0.2, 0.1])
)
def test_there_and_back_for_any_pose(pitch, yaw, x, bend):
    seen = view((bend, 0, 0, 0), np.array([pitch, yaw, 0.0, x, 0.0, 600.0]))
    left, top, right, bottom = seen.box(SIZE)
    points = np.array([[left + right, top + bottom], [left + right + 40, top + bottom - 30]]) / 2
    found = seen.to_patch(points)
    forward = patch_map(seen.homography, seen.camera, seen.distortion, SIZE, (128, 128))
    for place, point in zip(found, points, strict=True):
        again = cv2.remap(forward, *(np.float32([[v]]) for v in place), cv2.INTER_LINEAR)
        assert np.abs(again[0, 0] - point).max() < 0.05


def test_what_the_lens_cannot_show_has_no_place():
    # With this coefficient the picture folds over: nothing is seen beyond a radius.
    found = view((-2.0, 0, 0, 0)).to_patch(np.array([[161.0, 118.0], [319.0, 239.0]]))
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


@pytest.mark.parametrize("mode", ["difference", "full"])
@pytest.mark.parametrize("lens", [(0, 0, 0, 0), LENS])
def test_an_unchanged_patch_gives_the_photo_back(textured, mode, lens):
    # Texture that the model's resolution can show; what it cannot show is lost in `full`.
    photo = textured(blur=6.0 if mode == "full" else 1.0)
    seen = view(lens)
    patch = levels(seen.take(photo), 128)
    mask = window_mask((128, 128))
    made = paste(photo, seen, patch, patch, mask, mode)
    difference = np.abs(made.astype(int) - photo)
    assert difference.max() <= (2 if mode == "full" else 0)


def test_half_a_pixel_is_accounted_for():
    # A model picture at half the size of the patch: a ramp must come back as the same ramp.
    across = np.tile(np.linspace(40, 200, SIZE[0]), (SIZE[1], 1))
    photo = np.repeat(across[..., None], 3, 2).astype(np.uint8)
    seen = view()
    source = levels(seen.take(photo), 32)
    made = paste(photo, seen, source, source, window_mask((128, 128), (0.1, 0.1)), "full")
    left, top, right, bottom = seen.box(SIZE)
    inner = slice(top + 25, bottom - 25), slice(left + 25, right - 25)
    difference = made.astype(int)[inner] - photo[inner]
    assert abs(difference.mean()) < 0.6 and np.abs(difference).max() <= 2


@pytest.mark.parametrize("mode", ["difference", "full"])
def test_pixels_outside_the_mask_are_untouched(textured, mode):
    photo, seen = textured(blur=0.5), view(LENS)
    source = levels(seen.take(photo), 32)
    mask = face_mask(oval(), (128, 128))
    made = paste(photo, seen, source, 255 - source, mask, mode)
    left, top, right, bottom = seen.box(SIZE)
    grid = np.stack(np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1])), -1).reshape(-1, 2)
    place = np.clip(seen.to_patch(grid), -99, 999).astype(np.float32).reshape(*photo.shape[:2], 2)
    place[np.isnan(place)] = -99
    weight = cv2.remap(mask, place, None, cv2.INTER_LINEAR)
    assert (made[weight == 0] == photo[weight == 0]).all()
    assert np.abs(made.astype(int) - photo)[weight == 1].mean() > 20
    assert (made[:top] == photo[:top]).all() and (made[:, right:] == photo[:, right:]).all()


def test_difference_keeps_detail_where_nothing_changes_and_drops_it_where_much_does(textured):
    photo, seen = textured(blur=0.7), view()
    source = levels(seen.take(photo), 32)
    changed = source.copy()
    changed[12:20, 12:20] = 230.0
    made = paste(photo, seen, source, changed, window_mask((128, 128), (0.05, 0.05)), "difference")
    patch = seen.take(made)
    assert np.abs(patch[56:72, 56:72].astype(int) - 230).max() <= 12
    assert np.abs(patch[20:36, 20:100].astype(int) - seen.take(photo)[20:36, 20:100]).max() <= 1


def test_large_photos_are_averaged_not_aliased():
    # Stripes of one pixel in a photo of eight times the patch's resolution are grey.
    size = (2560, 1920)
    photo = np.zeros((size[1], size[0], 3), np.uint8)
    photo[:, ::2] = 254
    seen = view(scale=8.0)
    assert 4 < seen.detail(size) < 9
    patch = seen.take(photo)
    assert np.abs(patch.astype(int) - 127).max() < 25
    made = paste(photo, seen, levels(patch, 32), levels(patch, 32), window_mask((128, 128)))
    assert (made == photo).all()


def test_between_the_lids_detail_goes_with_less_change(textured):
    photo, seen = textured(blur=0.7), view()
    source = levels(seen.take(photo), 32)
    marks = oval()
    marks[36:42] = 48 + 8 * np.array([[-1, 0], [-0.5, -1], [0.5, -1], [1, 0], [0.5, 1], [-0.5, 1]])
    eyes = eye_mask(marks, (128, 128))
    assert eyes[48, 48] > 0.99 and eyes[48, 60] == 0.0
    window = window_mask((128, 128))
    plain, gone = (
        seen.take(paste(photo, seen, source, source + 9.5, window, eyes=e))[44:53, 44:53].std()
        for e in (None, eyes)
    )
    assert gone < plain * 0.7


def test_strips_do_not_show(textured, monkeypatch):
    photo, seen = textured(blur=1.0), view(LENS)
    source = levels(seen.take(photo), 32)
    arguments = (photo, seen, source, 255 - source, window_mask((128, 128)))
    whole = paste(*arguments)
    monkeypatch.setattr("regaze.redirect.paste._STRIP", 700)
    assert (paste(*arguments) == whole).all()


def oval():
    angle = np.linspace(0, np.pi, 17)
    jaw = np.stack([64 - 40 * np.cos(angle), 55 + 55 * np.sin(angle)], -1)
    brows = np.stack([np.linspace(30, 98, 10), np.full(10, 35)], -1)
    return np.concatenate([jaw, brows, np.full((41, 2), 64.0)])


def test_the_mask_is_soft_whole_inside_and_zero_outside():
    mask = face_mask(oval(), (128, 128))
    assert mask[64, 64] == 1.0 and mask[45, 40] > 0.5
    assert mask[0].max() == mask[-1].max() == mask[:, 0].max() == mask[:, -1].max() == 0.0
    assert mask[64, 8] == 0.0
    assert np.abs(np.diff(mask, axis=1)).max() < 0.3
    window = window_mask((128, 128))
    assert window[64, 64] == 1.0 and window[0].max() == 0.0


def test_bad_arguments_are_named(textured):
    photo, seen, picture = textured(), view(), np.zeros((32, 32, 3), np.float32)
    with pytest.raises(ValueError, match="difference, full, found 'blend'"):
        paste(photo, seen, picture, picture, window_mask((128, 128)), "blend")
    with pytest.raises(ValueError, match="mask: expected"):
        paste(photo, seen, picture, picture, window_mask((64, 64)))
    with pytest.raises(ValueError, match="two pictures"):
        paste(photo, seen, picture, picture[:16], window_mask((128, 128)))
    away = view(pose=np.array([0.0, 0, 0, 5000.0, 0, 520.0]))
    with pytest.raises(ValueError, match="outside"):
        paste(photo, away, picture, picture, window_mask((128, 128)))


def still(size):
    return Motion(np.zeros((size, size, 2), np.float32), np.ones((size, size), np.float32))


@pytest.mark.parametrize("lens", [(0, 0, 0, 0), LENS])
def test_patch_to_photo_is_the_inverse_of_photo_to_patch(lens):
    seen = view(lens)
    points = np.array([[20.0, 30.0], [64.0, 40.5], [100.0, 90.0]])
    assert np.abs(seen.to_patch(seen.to_photo(points)) - points).max() < 0.02


@pytest.mark.parametrize("lens", [(0, 0, 0, 0), LENS])
def test_pixels_that_stay_where_they_are_keep_all_detail(textured, lens):
    photo = textured(blur=0.7)
    seen = view(lens)
    picture = levels(seen.take(photo), 32)
    mask = window_mask((128, 128))
    made = paste(photo, seen, picture, picture, mask, motion=still(32))
    assert np.array_equal(made, photo)


def test_moved_pixels_bring_their_own_detail(textured):
    """A shift that a coarse model makes is a shift of the photo's own pixels."""
    photo, size = textured(blur=1.0), 32
    seen, motion = view(), still(32)
    motion.flow[..., 0] = 1.5
    patch = seen.take(photo)
    picture = levels(patch, size)
    x = np.arange(size, dtype=np.float32)
    places = np.stack(np.meshgrid(x + 1.5, x), -1).astype(np.float32)
    redirected = cv2.remap(picture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = np.ones((128, 128), np.float32)
    made = seen.take(paste(photo, seen, picture, redirected, mask, motion=motion))
    wanted = patch[:, 6:].astype(int)
    inner = np.s_[20:-20, 20:-20]
    error = np.abs(made[:, :-6].astype(int) - wanted)[inner].mean()
    without = seen.take(paste(photo, seen, picture, redirected, mask))
    assert error < 0.12 * np.abs(without[:, :-6].astype(int) - wanted)[inner].mean()
    sharp = [np.square(np.diff(one.astype(float), axis=1)[inner]).mean() for one in (made, patch)]
    assert sharp[0] > 0.97 * sharp[1]


def test_what_was_painted_has_no_detail_of_the_photo(textured):
    photo, size = textured(blur=0.7), 32
    seen, motion = view(), still(32)
    motion.share[:] = 0.0
    flat = np.full((size, size, 3), 90.0, np.float32)
    made = paste(photo, seen, levels(seen.take(photo), size), flat, window_mask((128, 128)),
                 motion=motion)  # fmt: skip
    assert np.abs(seen.take(made)[50:80, 50:80].astype(int) - 90).max() <= 1
