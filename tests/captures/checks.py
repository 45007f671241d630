"""What every layout's faces are held against: the labels and the pixels that are true."""

import cv2
import numpy as np

from captures.files import write_landmarks
from captures.studio import ideal_patch
from captures.truth import angle_between
from regaze.faces import FacesReader
from regaze.landmarks.poses import pose_shard
from regaze.normalise.pipeline import normalise_shard
from regaze.normalise.rejections import read_rejected
from regaze.sources import open_source

STED = (128, 500.0, 600.0)
"""Size, focal length and distance of the patches that are checked."""


def faces_of(source, folder, **options):
    """Normalise everybody of a source of photos; nobody may be rejected. Returns the reader."""
    folder.mkdir(exist_ok=True)
    faces = folder / "faces.h5"
    options = {"variant": "sted", "frame_check": "ellipsoid"} | options
    rejected = folder / "rejected.parquet"
    counts = normalise_shard(source, source.persons, faces, rejected, **options)
    assert counts.rows_in == counts.rows_out > 0, read_rejected(rejected)[0].to_pylist()
    return FacesReader(faces)


def posed_faces_of(options, truth, folder, **normalisation):
    """Faces of a data set whose head poses are found from landmarks, those being exact.

    The landmarks are put where the camera that the source states would see the pose model. Data
    sets that bring their own landmarks are given none. Returns the reader.
    """
    folder.mkdir(exist_ok=True)
    source, found = open_source(options), {}
    for person in source.persons:
        photos = source.photos(person)
        if photos.landmarks is None:
            lenses = zip(photos.camera_parameters, photos.distortion, strict=True)
            found[person] = [
                (name, truth[person, name].exact_landmarks(*lens))
                for name, lens in zip(photos.file_name, lenses, strict=True)
            ]
    landmarks = write_landmarks(folder / "landmarks.h5", found) if found else None
    poses = folder / "poses.h5"
    counts = pose_shard(source, source.persons, landmarks, poses)
    assert counts == {"found": len(truth)}
    return faces_of(open_source(options, supplementary=poses), folder, **normalisation)


def in_order(reader, truth):
    """The shots of the reader's rows, by person and file name; all of them must be there."""
    names = reader.dataset("file_name", reader.rows())
    keys = [
        (reader.persons[person], name.decode() if isinstance(name, bytes) else str(name))
        for person, name in zip(reader.person_of, names, strict=True)
    ]
    assert sorted(keys) == sorted(truth)
    return [truth[key] for key in keys]


def label_errors(labels, shots, model="sfm14"):
    """Degrees (n, 4) between labels (n, 8) and truth: gaze, head, both eyes; NaN stays NaN."""
    true = np.array([shot.labels(model) for shot in shots])
    return angle_between(np.reshape(labels, (-1, 4, 2)), true.reshape(-1, 4, 2))


def pixel_errors(pixels, shots, how=STED, lean=0.28):
    """Grey levels (n,) and shifts (n, 2) px of patches against the rendered truth.

    The middle of the patch is compared, without ``lean`` of its width on each side: there is
    face only, and faces are rendered alike while backgrounds are not.
    """
    grey, shifts = [], []
    for patch, shot in zip(pixels, shots, strict=True):
        ideal = ideal_patch(shot, *how)
        margin = int(lean * len(ideal))
        inner = slice(margin, -margin)
        found, true = (part[inner, inner].astype(np.float32) for part in (patch, ideal))
        grey.append(np.abs(found - true).mean())
        window = cv2.createHanningWindow(found.shape[1::-1], cv2.CV_32F)
        shift, _ = cv2.phaseCorrelate(found.mean(-1), true.mean(-1), window)
        shifts.append(shift)
    return np.array(grey), np.array(shifts)


def iris_contrasts(pixels, shots, how=STED):
    """Luminance (n, 2) where each iris is truly seen, over that of the cheek below it."""
    out = []
    for patch, shot in zip(pixels, shots, strict=True):
        grey = cv2.cvtColor(np.ascontiguousarray(patch), cv2.COLOR_RGB2GRAY).astype(float)
        marks = shot.patch_landmarks(*how)
        eyes = shot.in_patch(shot.irises, *how)
        cheeks = [(marks[36:42].mean(0) + marks[48]) / 2, (marks[42:48].mean(0) + marks[54]) / 2]
        reach = len(patch) / 128 * 2.0
        ys, xs = np.mgrid[: grey.shape[0], : grey.shape[1]]

        def around(spot, ys=ys, xs=xs, reach=reach, grey=grey):
            return np.median(grey[np.hypot(xs - spot[0], ys - spot[1]) <= reach])

        out.append([around(eye) / around(cheek) for eye, cheek in zip(eyes, cheeks, strict=True)])
    return np.array(out)


def assert_faces(reader, shots, *, how=STED, model="sfm14", degrees=0.1, eyes=True):
    """Assert labels within ``degrees`` and pixels where and what the rendered truth says."""
    labels, pixels = reader.labels, reader.pixels(reader.rows())
    errors = label_errors(labels, shots, model)
    assert np.nanmax(errors[:, :2]) < degrees, errors
    if eyes:
        assert np.nanmax(errors[:, 2:]) < degrees, errors
        assert np.isfinite(errors).all()
    assert np.isfinite(errors[:, :2]).all()
    assert_pixels(pixels, shots, how)


def assert_pixels(pixels, shots, how=STED, grey=2.5):
    """Assert that patches show the rendered truth: colours within ``grey`` levels in the mean,
    no shift, irises where they are."""
    levels, shifts = pixel_errors(pixels, shots, how)
    assert levels.max() < grey, levels
    assert np.abs(shifts).max() < 0.35 * len(pixels[0]) / 128, shifts
    contrasts = iris_contrasts(pixels, shots, how)
    assert contrasts.max() < 0.8, contrasts
