"""ETH-XGaze of rendered heads: four cameras, three of them upside down, raw and as released."""

import numpy as np
import pytest
from captures import eth_xgaze
from captures.checks import (
    STED,
    assert_faces,
    assert_pixels,
    faces_of,
    in_order,
    label_errors,
    pixel_errors,
)

from regaze.faces import FacesReader
from regaze.sources import open_source

RELEASED = {224: (224, 960.0, 600.0), 448: (448, 960.0, 300.0)}


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    root = tmp_path_factory.mktemp("eth_xgaze") / "root"
    return root, eth_xgaze.eth_xgaze(root)


def test_raw(capture, tmp_path):
    root, truth = capture
    source = open_source({"source": "eth_xgaze", "root": str(root)})
    assert source.persons == ["subject0000", "subject0004"]
    reader = faces_of(source, tmp_path)
    assert_faces(reader, in_order(reader, truth), model="xgaze6")


def test_raw_with_the_virtual_camera_of_the_release(capture, tmp_path):
    """The same subjects in the release's own geometry, by camera of the project and by the tool."""
    root, truth = capture
    source = open_source({"source": "eth_xgaze", "root": str(root)})
    size, focal, distance = RELEASED[224]
    options = {"variant": "custom", "patch_size": size, "focal": focal, "distance": distance}
    reader = faces_of(source, tmp_path, **options)
    shots = in_order(reader, truth)
    assert_faces(reader, shots, how=RELEASED[224], model="xgaze6")


def test_raw_with_lens_distortion(tmp_path):
    people = {"subject0004": eth_xgaze.photos(distorted=True)["subject0004"]}
    truth = eth_xgaze.eth_xgaze(tmp_path / "root", people)
    options = {"source": "eth_xgaze", "root": str(tmp_path / "root")}
    reader = faces_of(open_source(options | {"distortion": "used"}), tmp_path / "used")
    shots = in_order(reader, truth)
    assert_faces(reader, shots, model="xgaze6")
    true = np.stack([shot.patch_landmarks(*STED) for shot in shots])
    np.testing.assert_allclose(reader.dataset("landmarks", reader.rows()), true, atol=0.02)
    # the release ignores the lens: the labels stay, landmarks move by what it bends
    ignored = faces_of(open_source(options), tmp_path / "ignored")
    np.testing.assert_array_equal(ignored.labels, reader.labels)
    moved = np.abs(ignored.dataset("landmarks", ignored.rows()) - true).max(axis=(1, 2))
    assert 0.01 < moved.max() < 0.5


def test_upside_down_photos_give_upright_faces(capture, tmp_path):
    """The photos of cameras 3, 6, 13, stored upright under numbers of ordinary cameras."""
    root, truth = capture
    upright = {3: 1, 6: 2, 13: 4}
    people = {
        subject: [(frame, upright.get(number, number), shot) for frame, number, shot in rows]
        for subject, rows in eth_xgaze.photos().items()
    }
    twin_truth = eth_xgaze.eth_xgaze(tmp_path / "twin", people)
    turned = faces_of(open_source({"source": "eth_xgaze", "root": str(root)}), tmp_path / "a")
    twin = faces_of(
        open_source({"source": "eth_xgaze", "root": str(tmp_path / "twin")}), tmp_path / "b"
    )
    mine, its = in_order(turned, truth), in_order(twin, twin_truth)
    order = [next(i for i, other in enumerate(its) if other is shot) for shot in mine]
    np.testing.assert_array_equal(turned.labels, twin.labels[order])
    change = turned.pixels(turned.rows()).astype(int) - twin.pixels(twin.rows())[order]
    # only the blocks of the JPEGs lie elsewhere
    assert np.abs(change)[:, 8:-8, 8:-8].mean(axis=(1, 2, 3)).max() < 1.5


@pytest.mark.parametrize("size", [224, pytest.param(448, marks=pytest.mark.whole)])
def test_released_patches(tmp_path, size):
    from regaze.normalise.linked import link_shard

    root, faces = tmp_path / "root", tmp_path / "faces.h5"
    people = (
        eth_xgaze.photos() if size == 224 else {"subject0004": eth_xgaze.photos()["subject0004"]}
    )
    truth = eth_xgaze.eth_xgaze_hdf5(root, people, size=size)
    source = open_source({"source": "eth_xgaze_hdf5", "root": str(root)})
    counts = link_shard(source, source.persons, faces, tmp_path / "rejected.parquet")
    assert counts.rows_in == counts.rows_out == sum(map(len, truth.values()))
    reader = FacesReader(faces)
    shots = [shot for person in reader.persons for shot in truth[person]]
    assert reader.persons == list(truth)
    errors = label_errors(reader.labels, shots)
    assert errors[:, :2].max() < 0.1
    assert np.isnan(errors[:, 2:]).all()
    pixels = reader.pixels(reader.rows())
    assert pixels.shape[1:] == (size, size, 3)
    assert_pixels(pixels, shots, RELEASED[size])
    # blue first, as stored, is far from the truth
    grey, _ = pixel_errors(pixels[..., ::-1], shots, RELEASED[size])
    assert grey.min() > 10
    true = np.stack([shot.patch_landmarks(*RELEASED[size]) for shot in shots])
    np.testing.assert_allclose(reader.dataset("landmarks", reader.rows()), true, atol=0.02)
    views = np.stack([shot.view() for shot in shots])
    np.testing.assert_allclose(reader.dataset("rotation", reader.rows()), views, atol=1e-6)
