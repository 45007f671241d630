"""The detector with the package's own networks, whose weights here make them find coloured dots."""

import pickle
import socket

import numpy as np
import pytest
import torch

from regaze.assets import AssetError, AssetFile, AssetSettings
from regaze.landmarks.detectors import configured_detector
from regaze.landmarks.face_alignment import Detector, crop_square, cut, find_peaks, to_photo
from regaze.landmarks.settings import WEIGHTS, LandmarkSettings
from regaze.provenance import file_sha256

NOWHERE = np.full((1, 4), np.nan)
DOTS = ((125, 60), (95, 75), (110, 95))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.fixture(scope="module")
def face(detector, draw):
    """A photo of one face, and what is found in it."""
    photo = draw((208, 176), [("green", 6, 4)], DOTS)
    return photo, *detector.detect([photo], NOWHERE)


def test_landmarks_lie_where_the_dots_are(face, expected):
    _, found = face
    assert found.status == "" and found.faces_found == 1
    # The tile's middle is (104, 72), the box reported around it 64 pixels wide.
    np.testing.assert_allclose(found.box, [72, 40, 136, 104], atol=1e-3)
    assert found.box_score > 0.99
    assert found.score == pytest.approx(0.9, abs=0.05)
    # A heatmap's cell is two pixels of this photo.
    assert np.abs(found.landmarks - expected(DOTS)).max() < 1.1


def test_it_agrees_with_the_package(weights, face, monkeypatch):
    import face_alignment
    from face_alignment import utils

    # Compiling its loops takes longer than running them once.
    for name in ("_get_preds_fromhm", "transform_np"):
        monkeypatch.setattr(utils, name, getattr(utils, name).py_func)

    class Local(face_alignment.FaceAlignment):
        def _load_native(self, name, size, device, dtype):
            from face_alignment.models import FAN

            network = FAN(size)
            network.load_state_dict(torch.load(weights[0], weights_only=True))
            return network.eval()

    theirs = Local(
        face_alignment.LandmarksType.TWO_D,
        device="cpu",
        compile=False,
        face_detector_kwargs={"path_to_detector": str(weights[1])},
    )
    photo, found = face
    points, _, boxes = theirs.get_landmarks_from_image(photo, return_bboxes=True)
    np.testing.assert_allclose(found.box, boxes[0][:4], atol=1e-3)
    # Theirs are cut down to whole pixels.
    assert np.abs(found.landmarks - points[0]).max() <= 1.6


def test_a_large_photo_is_shrunk_for_faces_only(weights, draw, expected):
    photo = draw((208, 176), [("green", 6, 4)], DOTS).repeat(4, axis=0).repeat(4, axis=1)
    detector = Detector(*weights, device="cpu", max_side=208)
    (found,) = detector.detect([photo], NOWHERE)
    np.testing.assert_allclose(found.box, 4.0 * np.array([72, 40, 136, 104]), atol=1e-3)
    # The middle of pixel x is the middle of pixels 4x to 4x + 3.
    assert np.abs(found.landmarks - (4.0 * expected(DOTS) + 1.5)).max() < 4.4


def test_the_subjects_face_is_picked(detector, draw):
    photo = draw((320, 192), [("green", 2, 3), ("red", 7, 2)])
    boxes = [NOWHERE[0], [10.0, 30.0, 60.0, 60.0], [100.0, 150.0, 30.0, 30.0]]
    largest, annotated, elsewhere = detector.detect([photo] * 3, np.array(boxes))
    assert largest.faces_found == annotated.faces_found == elsewhere.faces_found == 2
    np.testing.assert_allclose(largest.box, [176, 16, 304, 144], atol=1e-3)
    np.testing.assert_allclose(annotated.box, [8, 24, 72, 88], atol=1e-3)
    assert elsewhere.status == "other_face" and np.isnan(elsewhere.landmarks).all()


def test_results_do_not_depend_on_the_batch(weights, detector, draw):
    photos = [
        draw((160, 128), [("green", 4, 3)], ((70, 50), (60, 60), (80, 70))),
        draw((96, 96)),
        draw((160, 128), [("green", 5, 4)], ((80, 70), (90, 60), (85, 80))),
    ]
    boxes = np.full((3, 4), np.nan)
    together = detector.detect(photos, boxes)
    assert [one.status for one in together] == ["", "no_face", ""]
    single = Detector(*weights, device="cpu", batch=1)
    for photo, result in zip(photos[1:], together[1:], strict=True):
        (alone,) = single.detect([photo], NOWHERE)
        np.testing.assert_array_equal(alone.landmarks, result.landmarks)
        np.testing.assert_array_equal(
            [alone.score, alone.box_score], [result.score, result.box_score]
        )


def test_tiny_and_thin_photos_have_no_face(detector):
    photos = [np.zeros((1, 1, 3), np.uint8), np.zeros((3, 70, 3), np.uint8)]
    results = detector.detect(photos, np.full((2, 4), np.nan))
    assert [one.status for one in results] == ["no_face", "no_face"]
    assert detector.detect([], np.zeros((0, 4))) == []


@pytest.mark.parametrize(
    "photo", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)]
)
def test_other_arrays_are_refused(detector, photo):
    with pytest.raises(ValueError, match="expected"):
        detector.detect([photo], NOWHERE)


def test_numbers_of_boxes_are_checked(detector):
    with pytest.raises(ValueError, match=r"boxes: expected shape \(1, 4\)"):
        detector.detect([np.zeros((64, 64, 3), np.uint8)], np.zeros((2, 4)))


def test_attributes_name_the_weights(detector):
    assert detector.attributes["detector"] == "face-alignment"
    assert len(detector.attributes["landmark_weights_sha256"]) == 64
    assert detector.attributes["max_side"] == 960


class Harm:
    def __reduce__(self):
        return (pytest.fail, ("code of a weights file was run",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_that_are_no_weights(weights, tmp_path):
    with pytest.raises(AssetError, match="no such file"):
        Detector(tmp_path / "none.pth", weights[1], device="cpu")
    other = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(2)}, other)
    with pytest.raises(AssetError, match="missing conv1_1.weight"):
        Detector(weights[0], other, device="cpu")
    # Read first, so that the other network need not be made.
    for content in (b"", b"no weights", weights[1].read_bytes()[:5000], pickle.dumps(Harm())):
        other.write_bytes(content)
        with pytest.raises(AssetError, match="state dict of FAN"):
            Detector(other, weights[1], device="cpu")
    torch.save([1, 2], other)
    with pytest.raises(AssetError, match="found list"):
        Detector(other, weights[1], device="cpu")


def test_unknown_device(weights):
    with pytest.raises(ValueError, match="device: expected auto, cpu or cuda"):
        Detector(*weights, device="tpu")


def test_a_gpu_that_is_not_there_is_named(weights, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device: cuda was asked for, but there is no usable GPU"):
        Detector(*weights, device="cuda")


def test_acquisition_finds_all_faces_the_largest_first(
    weights, detector, draw, expected, monkeypatch
):
    """The commands' detector, with the weights that their configuration names."""
    opened = []

    def loaded(*files, **options):
        opened.append((files, options["device"]))
        return detector

    monkeypatch.setattr("regaze.landmarks.face_alignment.Detector", loaded)
    files = [AssetFile(path=str(path), sha256=file_sha256(path)) for path in weights]
    assets = AssetSettings(**dict(zip(WEIGHTS, files, strict=True)))
    settings = LandmarkSettings(detector="face_alignment")
    find = configured_detector(settings, assets, "cpu").all_faces
    assert opened == [(tuple(weights), "cpu")]
    small, large = ((20, 40), (60, 50), (40, 80)), ((200, 50), (270, 60), (240, 110))
    photo = draw((320, 192), [("green", 2, 3)], small)
    photo = np.maximum(photo, draw((320, 192), [("red", 7, 2)], large))
    found = find(photo)
    assert len(found) == 2
    # A heatmap's cell is four pixels of the large face, two of the small one.
    assert np.abs(found[0] - expected(large)).max() < 2.2
    assert np.abs(found[1] - expected(small)).max() < 1.1
    assert find(draw((96, 96))) == []


def test_peaks_are_found_to_a_quarter_of_a_cell():
    heatmaps = np.zeros((1, 68, 64, 64), np.float32)
    heatmaps[:, :, 20, 30] = 0.8
    heatmaps[:, :, 20, 31] = 0.3
    heatmaps[:, :, 19, 30] = 0.1
    heatmaps[:, 1:, 0, 63] = 1.0
    peaks, scores = find_peaks(heatmaps)
    np.testing.assert_allclose(peaks[0, 0] * 64, [30.75, 20.25], atol=1e-6)
    np.testing.assert_allclose(peaks[0, 1] * 64, [63.5, 0.5], atol=1e-6)
    assert scores[0] == pytest.approx((0.8 + 67.0) / 68)
    with pytest.raises(ValueError, match="64 cells"):
        find_peaks(np.zeros((1, 68, 32, 32), np.float32))


@pytest.mark.parametrize("side", [40, 256, 700])
@pytest.mark.parametrize("corner", [(-10, 12), (60, -8)])
def test_a_crop_and_back_again(side, corner):
    """A bright tile, found in the crop by its centroid, is mapped back to its place."""
    photo = np.zeros((400, 500, 3), np.uint8)
    x, y = corner[0] + side // 2 + 3, corner[1] + side // 2 - 4
    photo[y - 3 : y + 4, x - 3 : x + 4] = 255
    crop = cut(photo, (*corner, side))[..., 0].astype(float)
    rows, columns = np.indices(crop.shape)
    centre = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
    peaks = np.broadcast_to((centre + 0.5) / 256, (1, 68, 2))
    found = to_photo(peaks, np.array([[*corner, side]]))
    # A crop of grey levels tells the centroid to a tenth of its pixels.
    np.testing.assert_allclose(found[0, 0], [x, y], atol=0.1 * max(1.0, side / 256))


def test_a_square_outside_the_photo_is_black():
    assert not cut(np.full((50, 60, 3), 255, np.uint8), (500, -400, 90)).any()
    assert crop_square(np.array([10.0, 20.0, 10.2, 20.2, 1.0]))[2] == 1
