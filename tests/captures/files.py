"""Writing of single files: photos, JSON, and the tables that several layouts share."""

import csv
import fcntl
import json
from contextlib import contextmanager

import cv2
import h5py
import numpy as np


@contextmanager
def being_written(path):
    """Hold the lock that HDF5 holds on a file that it writes."""
    with open(path, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_photo(path, pixels, quality=97):
    """Write RGB pixels (h, w, 3) as a JPEG with full colour resolution, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    how = [cv2.IMWRITE_JPEG_QUALITY, quality]
    how += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), how)
    assert done, path
    path.write_bytes(data.tobytes())


def write_json(path, content):
    """Write JSON as GazeCapture's files are: no spaces, no line breaks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


def write_csv(path, rows, header=None):
    """Write rows of text and numbers; numbers keep all their digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream, lineterminator="\n")
        if header is not None:
            out.writerow(header)
        for row in rows:
            out.writerow([one if isinstance(one, str | int) else repr(float(one)) for one in row])


def write_landmark_table(path, truth):
    """Write a CSV of the 68 landmarks, those of the pose model being exact, of (person, name) ->
    shot."""
    header = ["file_name", *(f"{axis}{number}" for number in range(68) for axis in "xy")]
    rows = [[name, *shot.exact_landmarks().ravel()] for (_, name), shot in truth.items()]
    write_csv(path, rows, header)


def write_supplementary(path, truth):
    """Write a supplementary HDF5 as ``swook/faze_preprocess`` reads it.

    ``truth`` is what the writers return: (person, file name) -> :class:`captures.truth.Shot`.
    """
    with h5py.File(path, "w") as file:
        for person in sorted({person for person, _ in truth}):
            names = [name for owner, name in truth if owner == person]
            shots = [truth[person, name] for name in names]
            group = file.create_group(person)
            group["file_name"] = np.array([name.encode() for name in names])
            group["camera_parameters"] = np.stack([shot.camera_parameters for shot in shots])
            group["distortion_parameters"] = np.stack([shot.distortion for shot in shots])
            group["head_pose"] = np.stack([shot.head_pose() for shot in shots])
            group["3d_gaze_target"] = np.stack([shot.target for shot in shots])
    return path


def write_landmarks(path, people):
    """Write what the landmark step would have found.

    ``people``: person -> list of (file name, landmarks (68, 2) pixels).
    """
    with h5py.File(path, "w") as file:
        for person, rows in sorted(people.items()):
            marks = np.stack([landmarks for _, landmarks in rows]).astype(np.float32)
            group = file.create_group(person)
            text = h5py.string_dtype()
            group.create_dataset("file_name", data=[name for name, _ in rows], dtype=text)
            group["landmarks"] = marks
            group["score"] = np.full(len(rows), 0.95, np.float32)
            group["box"] = np.concatenate([marks.min(1), marks.max(1)], 1)
            group["box_score"] = np.full(len(rows), 0.99, np.float32)
            group["faces_found"] = np.ones(len(rows), np.int32)
            group.create_dataset("status", data=[""] * len(rows), dtype=text)
    return path
