"""Damages of HDF5 files that the layouts consist of: released patches, landmarks and poses."""

import h5py
import numpy as np

from captures.damage import LAYOUTS, Damage
from captures.damaged_hdf5 import DATASETS, FILES, cycle, first, userblock, valued


def _in(path, change, key=None):
    return lambda folder: change(folder / path) if key is None else change(folder / path, key)


def _edit(path, change):
    def apply(folder):
        with h5py.File(folder / path, "r+") as file:
            change(file)

    return apply


class _Target:
    """A dataset to be damaged, and what comes of it: of the first row, or of the person."""

    def __init__(self, layout, path, group, out, after="raw"):
        self.layout, self.path, self.group, self.out, self.after = layout, path, group, out, after
        self.all = LAYOUTS[layout].person()

    def add(self, key, name, change, fate, count=None):
        """``fate``: a reason for all rows, ("first", reason), "same", or None for any."""
        if fate == "same":
            how = {"touched": frozenset()}
        elif fate is None:
            how = {"kept": None, "touched": self.all}
        elif isinstance(fate, tuple):
            how = {"reasons": {fate[1]: 1}}
        else:
            how = {"touched": self.all, "reasons": {fate: count or len(self.all)}}
        apply = _in(self.path, change, self.group + key)
        name = f"{self.path.split('/')[-1]} {key} {name}"
        self.out.append(Damage(name, self.layout, apply, after=self.after, **how))

    def whole(self, name, change, **how):
        """A damage of the file."""
        apply = _in(self.path, change)
        name = f"{self.path.split('/')[-1]} {name}"
        self.out.append(Damage(name, self.layout, apply, after=self.after, **how))


_MISSING = {"missing": "missing_key", "a group": "missing_key"}
_LINKS = ("a soft link", "a soft link to itself", "an external link", "raw data of another file")
_BOTH = {
    **_MISSING,
    **dict.fromkeys((*_LINKS, "an unknown filter"), "bad_source"),
    "chunks of 2 GiB": "same",
    "big endian": "same",
}
_PIXELS = {
    **_BOTH,
    "a virtual dataset": "same",
    "a chunk missing": ("first", "unreadable_image"),
    "a wrong checksum": ("first", "unreadable_image"),
    "junk for deflated data": ("first", "unreadable_image"),
    "a chunk that inflates to 1 GB": ("first", "unreadable_image"),
}
_LABELS = {
    **_BOTH,
    "a virtual dataset": "bad_source",
    "a chunk missing": ("first", "non_finite_label"),
    "a wrong checksum": "bad_source",
    "junk for deflated data": "bad_source",
    "a chunk that inflates to 1 GB": ("first", "non_finite_label"),
}
_VALUES = {
    "NaN": (first(np.nan, 1), "non_finite_label"),
    "infinite": (first(np.inf, 0), "non_finite_label"),
    "1e300": (first(1e300, 0), "non_finite_label"),
    "degrees": (first(40.0, 0), "label_out_of_range"),
}


def patch_damages():
    """Datasets of files of normalised patches."""
    out = []
    for layout, path, group, (pixels, labels) in (
        ("faces_hdf5", "data.h5", "00002/", ("pixels", "labels")),
        ("eth_xgaze_hdf5", "data/train/subject0000.h5", "", ("face_patch", "face_gaze")),
    ):
        target = _Target(layout, path, group, out)
        for name, change in DATASETS.items():
            count = 4 if name == "one row more" else 3
            target.add(pixels, name, change, _PIXELS.get(name, "bad_shape"), count)
            target.add(labels, name, change, _LABELS.get(name, "bad_shape"), count)
        for name, (change, reason) in _VALUES.items():
            target.add(labels, name, change, ("first", reason))
        for name, kind in (("float32", np.float32), ("16-bit", np.uint16), ("signed", np.int8)):
            change = valued(lambda values, kind=kind: values.astype(kind))
            target.add(pixels, name, change, "bad_shape")
    return out


def release_damages():
    """Such files as a whole."""
    out = []
    one = _Target("faces_hdf5", "data.h5", "", out)
    for name, change in FILES.items():
        one.whole(name, change, error="data.h5: (expected|no such)|rows were rejected")
    one.whole("a userblock", userblock, touched=frozenset())
    one.whole("within itself", cycle, touched=frozenset(), reasons={"missing_key": 1})
    one.whole("a person within itself", lambda path: cycle(path, "/00002", "/00002"),
              touched=frozenset())  # fmt: skip

    def add(name, change, **how):
        out.append(Damage(name, "faces_hdf5", _edit("data.h5", change), **how))

    add("no person", lambda file: file.clear(), error="a group per person, found none")
    add("an odd channel order", _attribute("channel_order", "grb"), error="expected rgb or bgr")
    add("a channel order of many", _attribute("channel_order", [1, 2]), error="expected a text")
    add("an odd gaze", _attribute("gaze", "maybe"), error="gaze: expected known or absent")
    add("a focal length in words", _attribute("focal", "long"), error="focal: expected")
    add("a negative distance", _attribute("distance", -600.0), error="distance: expected")
    add("a distance NaN", _attribute("distance", np.nan), error="distance: expected")
    add("a dataset beside the persons", lambda file: file.__setitem__("loose", np.zeros(3)),
        touched=frozenset(), reasons={"missing_key": 1})  # fmt: skip
    add("a link to nobody", lambda file: file.__setitem__("zzz", h5py.SoftLink("/nobody")),
        touched=frozenset(), reasons={"bad_source": 1})  # fmt: skip
    add("names of another number", lambda file: file["00002"].__setitem__(
        "file_name", np.array([b"a"])), **_person("faces_hdf5", "bad_shape"))  # fmt: skip
    add("names that are numbers", lambda file: file["00002"].__setitem__(
        "file_name", np.zeros(3)), **_person("faces_hdf5", "bad_shape"))  # fmt: skip
    add("names of no UTF-8", lambda file: file["00002"].__setitem__(
        "file_name", np.array([b"\xff", b"b", b"c"])),
        touched=LAYOUTS["faces_hdf5"].person(), kept=3)  # fmt: skip
    add("names that are references", lambda file: file["00002"].create_dataset(
        "file_name", (3,), h5py.ref_dtype), **_person("faces_hdf5", "bad_shape"))  # fmt: skip
    add("landmarks of another shape", lambda file: file["00002"].__setitem__(
        "landmarks", np.zeros((3, 5, 2))), **_person("faces_hdf5", "bad_shape"))  # fmt: skip

    folder = _Target("eth_xgaze_hdf5", "data/train/subject0000.h5", "", out)
    gone = {"touched": folder.all}
    for name, change in FILES.items():
        # Of a file that was cut off the beginning tells how many rows it had.
        cut = name in ("cut in half", "cut before the last byte", "another end")
        how = {**gone, "reasons": {"bad_source": 3 if cut else 1}}
        if name == "missing":
            how = gone
        elif name == "bytes spoiled":
            how = {**gone, "kept": None}
        folder.whole(name, change, **how)
    folder.whole("a userblock", userblock, touched=frozenset())
    for key in ("face_mat_norm", "facial_landmarks", "frame_index", "cam_index", "face_head_pose"):
        for name in ("one row less", "one axis more", "text", "a soft link"):
            reason = "bad_source" if name == "a soft link" else "bad_shape"
            folder.add(key, name, DATASETS[name], reason)
    return out


def _attribute(name, value):
    def change(file):
        file.attrs[name] = value

    return change


def _person(layout, reason):
    place = LAYOUTS[layout].person()
    return {"touched": place, "reasons": {reason: len(place)}}


def step_damages():
    """What the landmark step and the pose step wrote, damaged in between."""
    out = []
    for layout, person, rows in (("columbia", "0001", 3), ("folder_bare", "anna", 2)):
        every = LAYOUTS[layout].person()
        found = _Target(layout, "landmarks.h5", f"{person}/", out, "landmarks")
        if layout == "columbia":
            for name, change in DATASETS.items():
                found.add("landmarks", name, change, _STEP.get(name, "bad_shape"))
            for name in ("missing", "a group", "one row less", "a soft link", "compound"):
                for key in ("file_name", "status", "score"):
                    found.add(key, name, DATASETS[name], _step(key, name))
            for name, change in FILES.items():
                if name != "missing":
                    found.whole(
                        name,
                        change,
                        error="(?s)landmarks.h5: (expected|no such)|rows were rejected",
                    )
        found.add("landmarks", "NaN", first(np.nan), ("first", "pose_failed"))
        found.add("landmarks", "infinite", first(np.inf), ("first", "pose_failed"))
        found.add("landmarks", "all the same", first(50.0), ("first", "pose_failed"))
        found.add("landmarks", "far out", first(1e30), ("first", "pose_failed"))
        found.add("score", "NaN", first(np.nan), "same")
        found.add("score", "low", first(0.1), ("first", "low_score"))
        found.add("score", "infinite", first(-np.inf), ("first", "low_score"))
        names = {
            "others": valued(lambda values: np.array([b"other.jpg"] * len(values))),
            "of no UTF-8": valued(lambda values: np.array([b"\xff"] * len(values))),
            "turned round": valued(lambda values: values[::-1].copy()),
        }
        for name, change in names.items():
            found.add("file_name", name, change, "stale_landmarks", rows)
        words = valued(lambda values: np.array([b"\xff\xfe"] + [b""] * (len(values) - 1)))
        found.add("status", "of no UTF-8", words, "bad_shape")
        lost = _edit("landmarks.h5", lambda file, person=person: file.pop(person))
        out.append(Damage("landmarks.h5 a person is missing", layout, lost, touched=every,
                          reasons={"missing_person": rows}, after="landmarks"))  # fmt: skip
        poses = _Target(layout, "poses.h5", f"{person}/", out, "poses")
        for name in ("missing", "one row less", "a wrong checksum", "object references"):
            poses.add("head_pose", name, DATASETS[name], _STEP.get(name, "bad_shape"))
        lost = _edit("poses.h5", lambda file, person=person: file.pop(person))
        out.append(Damage("poses.h5 a person is missing", layout, lost, touched=every,
                          reasons={"missing_person": rows}, after="poses"))  # fmt: skip
        poses.whole("cut in half", FILES["cut in half"], error="poses.h5: expected an HDF5 file")
        poses.whole("text", FILES["text"], error="poses.h5: expected an HDF5 file")
        poses.whole("missing", FILES["missing"], error="poses.h5: no such file")
    return out


_STEP = {
    **_MISSING,
    **dict.fromkeys((*_LINKS, "an unknown filter", "a wrong checksum"), "bad_source"),
    "a virtual dataset": "bad_source",
    "junk for deflated data": "bad_source",
    "a chunk that inflates to 1 GB": "bad_source",
    "big endian": "same",
}


def _step(key, name):
    if key == "file_name" and name == "one row less":
        return "stale_landmarks"
    return _STEP.get(name, "bad_shape")


def hdf5_damages():
    """All of them."""
    return patch_damages() + release_damages() + step_damages()
