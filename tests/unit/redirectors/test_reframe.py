"""Pictures of one view of photos as those of another, against patches that were made in it."""

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.factors import FACTORS
from regaze.images import reduce_patches, to_uint8
from regaze.normalise.camera import pad_distortion, undistort_points
from regaze.normalise.geometry import Variant, virtual_view
from regaze.normalise.warp import transform_points
from regaze.pairs import write_pairs
from regaze.redirectors import sample
from regaze.redirectors.base import Redirector
from regaze.redirectors.declaration import Declaration, Sampling
from regaze.redirectors.reframe import Reframing
from regaze.views import told_view

CAMERA = np.array([[900.0, 900.0, 320.0, 240.0]])
ORIGINS = np.array([[10.0, -30.0, 500.0], [-80.0, 40.0, 700.0], [0.0, 0.0, 610.0]])
HEAD = np.eye(3)[None].repeat(3, 0)


def colours(rays):
    """A smooth scene that has a colour in every direction."""
    x, y = np.moveaxis(rays[..., :2] / rays[..., 2:], -1, 0)
    waves = [np.sin(31 * x + 9 * y), np.cos(24 * y - 7 * x), np.sin(18 * (x + y))]
    return 127.5 + 110 * np.stack(waves, -1)


def faces(path, variant, rows=(0, 1, 2)):
    """A file of patches of the scene, each pixel the mean over 4 x 4 rays in it."""
    rotation, homography, _ = virtual_view(ORIGINS, HEAD, CAMERA.repeat(3, 0), variant)
    width, height = variant.size
    steps = [(np.arange(side * 4) + 0.5) / 4 - 0.5 for side in (width, height)]
    points = np.stack([*np.meshgrid(*steps), np.ones((height * 4, width * 4))], -1)
    inner = np.array([[900.0, 0, 320], [0, 900, 240], [0, 0, 1]])
    pixels = []
    for row in rows:
        rays = points @ np.linalg.inv(homography[row] @ inner).T
        values = colours(rays).reshape(height, 4, width, 4, 3).mean((1, 3))
        pixels.append(np.rint(values).astype(np.uint8))
    size = {"patch_size": variant.size, "focal": variant.focal, "distance": variant.distance}
    about = FacesAttributes(variant=variant.name, frame_check="none", source="test", **size)
    with FacesWriter(path, about) as writer:
        writer.add_person(
            "a", np.stack(pixels), np.zeros((len(rows), 8)), source_index=np.array(rows) + 5,
            rotation=rotation[[*rows]], gaze_origin=ORIGINS[[*rows]],
        )  # fmt: skip
    return FacesReader(path)


def aligned(path, matrices, rows=(0, 1, 2), lens=None, size=128):
    """A file of patches of framing ffhq of the same scene, seen through a lens."""
    lens = pad_distortion(np.zeros(4) if lens is None else lens)[None]
    steps = (np.arange(size * 4) + 0.5) / 4 - 0.5
    points = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    pixels = []
    for row in rows:
        photo = transform_points(np.linalg.inv(matrices[row]), points)
        rays = undistort_points(photo[None], CAMERA, lens)[0]
        values = colours(np.concatenate([rays, np.ones((len(rays), 1))], 1))
        values = values.reshape(size, 4, size, 4, 3).mean((1, 3))
        pixels.append(np.rint(values).astype(np.uint8))
    about = FacesAttributes("sted", (size, size), None, None, "none", "test", framing="ffhq")
    with FacesWriter(path, about) as writer:
        writer.add_person(
            "a", np.stack(pixels), np.zeros((len(rows), 8)), source_index=np.array(rows) + 5,
            alignment=matrices[[*rows]], camera=CAMERA.repeat(len(rows), 0),
            distortion=lens.repeat(len(rows), 0),
        )  # fmt: skip
    return FacesReader(path)


def around_faces(scale=0.9, turn=0.1):
    """Matrices (3, 3, 3) that show what is around the three faces, turned and scaled."""
    made = []
    for x, y, z in ORIGINS:
        near, middle = scale * z / 600, np.array([900 * x / z + 320, 900 * y / z + 240])
        cos, sin = near * np.cos(turn), near * np.sin(turn)
        matrix = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        matrix[:2, 2] = 64 - matrix[:2, :2] @ middle
        made.append(matrix)
    return np.array(made)


@pytest.fixture
def compared(tmp_path):
    return faces(tmp_path / "compared.h5", Variant.named("sted"))


def levels(tensor):
    return ((tensor + 1) * 127.5).permute(0, 2, 3, 1).numpy()


def test_a_view_that_shows_more_gives_the_compared_patches(compared, tmp_path):
    wide = faces(tmp_path / "wide.h5", Variant.named("custom", 256, 800.0, 620.0))
    reframing = Reframing(wide, compared, 256)
    made = reframing(reduce_patches(wide.pixels([0, 1, 2])), np.arange(3), 64)
    wanted = levels(reduce_patches(compared.pixels([0, 1, 2]), 64))
    assert np.abs(levels(made) - wanted).max() < 2.5
    assert reframing.covered == 1.0
    # A shift of half a pixel would be seen.
    assert np.abs(wanted[:, :, 1:] - wanted[:, :, :-1]).mean() > 5


def test_a_view_that_shows_less_leaves_the_rest_to_the_source(compared, tmp_path):
    near = faces(tmp_path / "near.h5", Variant.named("custom", 64, 400.0, 600.0))
    reframing = Reframing(near, compared, 64)
    grey = torch.zeros(2, 3, 64, 64)
    made = levels(reframing(grey, np.array([1, 2]), 128))
    source = levels(reduce_patches(compared.pixels([1, 2]), 128))
    # It shows 500 / 400 * 64 = 80 of 128 pixels of the compared patch, around its middle.
    inner = np.zeros((128, 128), bool)
    inner[25:104, 25:104] = True
    outer = np.ones((128, 128), bool)
    outer[23:106, 23:106] = False
    np.testing.assert_allclose(made[:, inner], 127.5, atol=1e-3)
    np.testing.assert_allclose(made[:, outer], source[:, outer], atol=1e-3)
    assert reframing.covered == pytest.approx((80 / 128) ** 2, abs=0.01)


@pytest.mark.parametrize("lens", [None, [0.08, -0.05, 0.002, -0.003]])
def test_framing_ffhq_gives_the_compared_patches_through_the_photos_lens(compared, tmp_path, lens):
    own = aligned(tmp_path / "own.h5", around_faces(scale=0.45), lens=lens, size=128)
    reframing = Reframing(own, compared, 128)
    made = reframing(reduce_patches(own.pixels([0, 1, 2])), np.arange(3), 32)
    wanted = levels(reduce_patches(compared.pixels([0, 1, 2]), 32))
    assert np.abs(levels(made) - wanted).max() < 4
    assert np.abs(levels(made) - wanted).mean() < 0.5
    assert reframing.covered == 1.0


def test_what_a_turned_square_does_not_show_is_the_sources(compared, tmp_path):
    own = aligned(tmp_path / "own.h5", around_faces(scale=0.9, turn=0.5))
    reframing = Reframing(own, compared, 128)
    made = levels(reframing(torch.zeros(1, 3, 128, 128), np.array([2]), 128))[0]
    source = levels(reduce_patches(compared.pixels([2]), 128))[0]
    # Its patches are of 0.9 px per photo pixel, those compared of 500 / 900; the corners are not
    # in a square of 79 pixels that is turned.
    for corner in (made[:8, :8] - source[:8, :8], made[-8:, -8:] - source[-8:, -8:]):
        np.testing.assert_allclose(corner, 0, atol=1e-3)
    np.testing.assert_allclose(made[50:78, 50:78], 127.5, atol=1e-3)
    assert reframing.covered == pytest.approx((128 * 500 / 900 / 0.9 / 128) ** 2, abs=0.02)


def test_one_and_the_same_view_changes_nothing(compared, tmp_path):
    reframing = Reframing(compared, compared, 64)
    pictures = reduce_patches(compared.pixels([0, 2]), 64)
    torch.testing.assert_close(
        reframing(pictures, np.array([0, 2]), 64), pictures, atol=1e-5, rtol=0
    )


def test_no_picture_depends_on_its_neighbours(compared, tmp_path):
    near = faces(tmp_path / "near.h5", Variant.named("custom", 64, 400.0, 600.0))
    reframing = Reframing(near, compared, 64)
    pictures = reduce_patches(near.pixels([0, 1, 2]))
    whole = reframing(pictures, np.arange(3), 64)
    alone = torch.cat([reframing(pictures[n : n + 1], np.array([n]), 64) for n in range(3)])
    torch.testing.assert_close(whole, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("width", "focal", "size_px", "least", "size"),
    [(64, 250.0, 64, 32, 64), (64, 250.0, 64, 48, 48), (256, 500.0, 256, 32, 128),
     (64, 400.0, 64, 32, 64), (64, 500.0, 32, 32, 64), (64, 250.0, 16, 32, 32)],
)  # fmt: skip
def test_compared_pictures_are_as_fine_as_the_models(
    compared, tmp_path, width, focal, size_px, least, size
):
    own = faces(tmp_path / "own.h5", Variant.named("custom", width, focal, 600.0))
    assert Reframing(own, compared, size_px).size(least) == size


def test_rows_are_matched_by_their_photos(compared, tmp_path):
    own = faces(tmp_path / "own.h5", Variant.named("custom", 64, 400.0, 600.0), rows=(2, 0, 1))
    assert Reframing(own, compared, 64).rows(np.array([0, 1, 2])).tolist() == [1, 2, 0]
    fewer = faces(tmp_path / "fewer.h5", Variant.named("custom", 64, 400.0, 600.0), rows=(0, 2))
    with pytest.raises(
        ValueError, match="person a: expected the faces of .* found none of photo 6"
    ):
        Reframing(fewer, compared, 64).rows(np.array([0]))


def test_a_photo_that_framing_ffhq_lost_stays_as_it_is(compared, tmp_path, monkeypatch):
    own = aligned(tmp_path / "own.h5", around_faces(), rows=(2, 1))
    reframing = Reframing(own, compared, 64)
    assert reframing.rows(np.arange(3)).tolist() == [-1, 1, 0]
    made = levels(reframing(torch.zeros(3, 3, 64, 64), np.arange(3), 64))
    source = levels(reduce_patches(compared.pixels([0]), 64))
    np.testing.assert_allclose(made[:1], source, atol=1e-3)
    np.testing.assert_allclose(made[1:, 24:40, 24:40], 127.5, atol=1e-3)
    # Rows of the pairs are 2, 0, 1.
    made, covers, seen = sampled(monkeypatch, tmp_path, compared, own, 64)
    whole = to_uint8(reduce_patches(compared.pixels([0]), made.shape[1])).astype(int)
    np.testing.assert_array_equal(made[1], whole[0])
    assert seen == [0, 1] and covers < 2 / 3
    with h5py.File(tmp_path / "samples.h5") as file:
        assert file.attrs["sources_not_in_view"] == 1


def test_pictures_are_compared_in_the_view_of_a_camera_only(compared, tmp_path):
    own = aligned(tmp_path / "own.h5", around_faces())
    with pytest.raises(ValueError, match="own.h5: expected faces of a virtual camera"):
        Reframing(compared, own, 64)


def test_faces_that_cannot_be_mapped_are_refused(compared, tmp_path):
    strip = faces(tmp_path / "strip.h5", Variant.named("faze"))
    with pytest.raises(ValueError, match="expected square patches, found 256 x 64"):
        Reframing(strip, compared, 64)
    about = FacesAttributes("sted", (8, 8), 500.0, 600.0, "none", "test")
    with FacesWriter(tmp_path / "bare.h5", about) as writer:
        writer.add_person("a", np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8)))
    with pytest.raises(ValueError, match="rotation: expected it of every person"):
        Reframing(FacesReader(tmp_path / "bare.h5"), compared, 8)


class Same(Redirector):
    """Gives its sources back, and remembers their rows."""

    network = nn.Identity()

    def __init__(self):
        super().__init__()
        self.rows = []

    def invert(self, source, *, seed):
        self.rows += source["source_row"].tolist()
        return dict(source)

    def edit(self, state, target, *, seed):
        return state["source"].expand(len(target["pair"]), -1, -1, -1)


def sampled(monkeypatch, tmp_path, compared, own, size_px, view=None):
    """Samples of a model that was trained on a view, of a pair per row."""
    redirector = Same()
    record = {
        "name": "same", "config": {"size_px": size_px}, "inputs": {},
        "view": view or told_view(own.attributes),
    }  # fmt: skip
    monkeypatch.setattr(sample, "load_redirector", lambda *_: (redirector, record))
    monkeypatch.setattr(sample, "declared_by", lambda config: Declaration())
    table = pd.DataFrame(
        {"pair": range(3), "person": "a", "source_index": [2, 0, 1], "target_index": -1}
    )
    table["kind"] = "sweep"
    for name, factor in FACTORS.items():
        for side in ("source", "target"):
            table[f"{side}_{name}"] = [np.zeros(len(factor.parts), np.float32)] * 3
    write_pairs(tmp_path / "pairs.parquet", table)
    (tmp_path / "model.safetensors").touch()
    sample.sample_redirector(
        tmp_path, faces=compared.paths, view=own.paths, pairs=tmp_path / "pairs.parquet",
        sampling=Sampling(batch=2).model_dump(), samples=tmp_path / "samples.h5",
        speed=tmp_path / "speed.json", size_px=32,
    )  # fmt: skip
    with h5py.File(tmp_path / "samples.h5") as file:
        return file["pixels"][:].astype(int), file.attrs["view_covers"], redirector.rows


def test_a_model_of_another_view_is_sampled_in_it_and_compared_in_that_of_all(
    compared, tmp_path, monkeypatch
):
    # Its rows stand in another order.
    near = Variant.named("custom", 128, 800.0, 600.0)
    own = faces(tmp_path / "near.h5", near, rows=(2, 0, 1))
    made, covers, seen = sampled(monkeypatch, tmp_path, compared, own, 64)
    assert seen == [0, 1, 2] and made.shape == (3, 64, 64, 3)
    assert covers == pytest.approx((80 / 128) ** 2, abs=0.02)
    wanted = to_uint8(reduce_patches(compared.pixels([2, 0, 1]), 64)).astype(int)
    assert np.abs(made - wanted).max() <= 4 and np.abs(made - wanted).mean() < 0.5


def test_a_model_is_not_sampled_in_a_view_that_it_was_not_trained_on(
    compared, tmp_path, monkeypatch
):
    own = faces(tmp_path / "near.h5", Variant.named("custom", 128, 800.0, 600.0))
    with pytest.raises(ValueError, match="was trained on another view: expected 128 x 128 px that"):
        sampled(monkeypatch, tmp_path, compared, own, 64, told_view(compared.attributes))
