"""States of the training stages: what of a redirector or estimator may go on from which state."""

import json
import logging
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from regaze.codes import CODES
from regaze.codes.latents import LatentsWriter
from regaze.estimators.build import build_estimator
from regaze.estimators.settings import EstimatorSettings
from regaze.estimators.stage import train_estimator
from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.links import PixelLink
from regaze.redirectors.train import TrainingData, train_redirector
from regaze.redirectors.xunet.settings import ModelSettings
from regaze.training import context, loop, state
from regaze.training.context import ModelFiles, Training
from regaze.training.loop import Interrupted


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class Faces:
    """Six persons of noise, and what a told X-UNet with a training estimator takes."""

    def __init__(self, folder):
        self.folder, self.rng = folder, np.random.default_rng(0)
        self.pixels = self.rng.integers(0, 256, (6, 4, 32, 32, 3), dtype=np.uint8)
        self.labels = self.rng.uniform(-0.3, 0.3, (6, 4, 8)).astype(np.float32)
        self.codes = {
            name: self.rng.normal(size=(24, width)).astype(np.float32)
            for name, width in CODES.items()
        }
        self.write()
        self.write_codes()
        lists = {"train-redirector": list("abcd"), "val": list("ef"), "test": ["f"]}
        self.split = folder / "split.json"
        self.split.write_text(json.dumps(lists))
        self.estimator()

    def write(self, shards=1, variant="sted", order="rgb", landmarks=None):
        attributes = FacesAttributes(variant, (32, 32), 125.0, 600.0, "none", "test", order)
        self.faces = [self.folder / f"shard-{number}.h5" for number in range(shards)]
        for number, path in enumerate(self.faces):
            with FacesWriter(path, attributes) as writer:
                for place in range(number, 6, shards):
                    more = {"landmarks": np.full((4, 68, 2), landmarks)} if landmarks else {}
                    names = [f"{number} {row}.jpg" for row in range(4)]
                    given = (self.pixels[place], self.labels[place])
                    writer.add_person("abcdef"[place], *given, file_name=names, **more)

    def write_codes(self):
        identity = {"encoder": "deca", "checkpoint_sha256": "a" * 64, "head_sha256": "b" * 64}
        self.latents = self.folder / "latents.parquet"
        with LatentsWriter(self.latents, identity) as writer:
            for place, person in enumerate("abcdef"):
                rows = slice(4 * place, 4 * place + 4)
                codes = {name: values[rows] for name, values in self.codes.items()}
                writer.add([person] * 4, np.arange(4), codes, np.full(4, True))

    def estimator(self, seed=0, **config):
        home = self.folder / "vgg"
        home.mkdir(exist_ok=True)
        torch.manual_seed(seed)
        save_file(
            build_estimator("vgg", "tiny", 32, preprocess="none").state_dict(),
            home / "model.safetensors",
        )
        entry = {"arch": "vgg", "preset": "tiny", "size_px": 32, "preprocess": "none"} | config
        record = {"kind": "estimator", "name": "vgg", "config": entry}
        (home / "model.json").write_text(json.dumps(record))

    def identity(self, monkeypatch, code="1", **changes):
        """Hashes of all that the state of a told redirector must agree with, by name."""
        entry = {"class": "xunet", "preset": "tiny", "size_px": 32}
        entry |= {"network": {"code": "film"}, "deca": {"parts": ("pose",)}}
        entry["train"] = {"images": 24, "batch": 4, "validate_estimator": "vgg"} | changes
        files = ModelFiles(*(self.folder / name for name in ("m", "r", "c")), self.folder / "s")
        data = TrainingData(
            faces=list(map(str, self.faces)),
            split=str(self.split),
            inputs={"codes": [str(self.latents)]},
            networks={"estimator": str(self.folder / "vgg")},
        )
        told = []

        def train(*_, config, **__):
            told.append(state.leaves(config))
            raise Interrupted

        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(context, "train", train)
            resolved = ModelSettings(**entry).resolve()
            train_redirector("m", resolved, data, seed=0, files=files, code=code)
        return told[0]

    def train(self, code="1", finished=True, **changes):
        """Train an estimator; return its weights."""
        entry = {"arch": "resnet", "preset": "tiny", "size_px": 32, "persons": "train-redirector"}
        options = {"images": 24, "batch": 4, "log_every_images": 4, "precision": "fp32"}
        entry["train"] = options | {"tensorboard": False} | changes
        names = ("model.safetensors", "model.json", "curve.csv")
        files = ModelFiles(*(self.folder / "e" / name for name in names), self.folder / "state")
        given = {"faces": list(map(str, self.faces)), "split": str(self.split), "files": files}
        config = EstimatorSettings(**entry).model_dump()
        train_estimator("e", config, **given, seed=0, code=code, finished=finished)
        return load_file(files.model)


@pytest.fixture
def faces(tmp_path):
    return Faces(tmp_path)


def other_pixels(faces):
    # Of one person, in one channel, by one level; labels stay.
    faces.pixels[1, 0, 0, 0, 0] ^= 1
    faces.write()


def in_place(faces):
    with h5py.File(faces.faces[0], "r+") as file:
        file["c/pixels"][2, 5, 5] = 7


def other_labels(faces):
    faces.labels[0, 0, 0] += 0.01
    faces.write()


def other_codes(faces):
    faces.codes["pose"][3] += 1
    faces.write_codes()


def other_split(faces):
    lists = json.loads(faces.split.read_text())
    faces.split.write_text(json.dumps(lists | {"train-redirector": list("abc")}))


def nothing(faces):
    pass


CHANGES = {
    "pixels": (other_pixels, {}, ["data.faces"]),
    "pixels in place": (in_place, {}, ["data.faces"]),
    "channel order": (lambda faces: faces.write(order="bgr"), {}, ["data.faces"]),
    "variant": (lambda faces: faces.write(variant="faze"), {}, ["data.faces"]),
    "landmarks": (lambda faces: faces.write(landmarks=3.0), {}, ["data.faces"]),
    "labels": (other_labels, {}, ["data.faces", "data.labels"]),
    "codes": (other_codes, {}, ["data.codes of rows"]),
    "split": (other_split, {}, ["data.split"]),
    "estimator": (lambda faces: faces.estimator(seed=1), {}, ["data.estimator"]),
    "its input": (
        lambda faces: faces.estimator(preprocess="equalise"),
        {},
        ["networks.estimator.preprocess"],
    ),
    "code": (nothing, {"code": "2"}, ["code"]),
    "rate": (nothing, {"lr": 0.1}, ["train.lr"]),
    # What makes no difference.
    "shards": (lambda faces: faces.write(shards=4), {}, []),
    "how often": (nothing, {"log_every_images": 8, "state_every_images": 4}, []),
    "where from": (nothing, {"cache": "mmap", "workers": 2}, []),
    "processes": (nothing, {"gpus": 2, "nodes": 2}, []),
    "its training": (lambda faces: faces.estimator(train={"images": 3}), {}, []),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_state_must_agree_with(faces, monkeypatch, name):
    change, options, told = CHANGES[name]
    before = faces.identity(monkeypatch)
    change(faces)
    after = faces.identity(monkeypatch, **options)
    assert sorted(key for key in before if before[key] != after[key]) == told
    assert before.keys() == after.keys()


def test_the_version_of_what_reads_the_data_counts(faces, monkeypatch):
    before = faces.identity(monkeypatch)
    read = []

    def other(*sources):
        read.extend(sources)
        return "other"

    monkeypatch.setattr(context, "code_version", other)
    after = faces.identity(monkeypatch)
    assert [key for key in before if before[key] != after[key]] == ["code"]
    assert {"faces.py", "links.py", "estimators"} == set(read)


def test_the_method_of_a_teacher_counts_its_training_does_not(faces, monkeypatch):
    home = faces.folder / "teacher"
    home.mkdir()
    monkeypatch.setattr(context, "code_version", lambda *sources: list(sources))
    config = {"class": "sted", "size_px": 32, "train": {"images": 3}}
    (home / "model.json").write_text(json.dumps({"config": config, "kind": "redirector"}))
    (home / "model.safetensors").write_bytes(b"")

    def identity(code, **networks):
        files = ModelFiles("m", "r", "c", "s")
        given = {"faces": faces.faces, "split": faces.split, "seed": 0, "files": files}
        training = Training("m", {"train": {"lr": 1}}, **given, code=code)
        for role, folder in networks.items():
            training.use(role, Path(folder) / "model.safetensors")
        return training.identity({})

    found = identity("1", teacher=home)
    assert found["networks"] == {"teacher": {"class": "sted", "size_px": 32}}
    assert found["code"] == ["1", ["faces.py", "links.py", "redirectors/sted"]]
    assert identity("1")["code"] == ["1", ["faces.py", "links.py"]]
    assert identity(None)["code"][0] == ["."]


@pytest.fixture
def stopped(faces, monkeypatch):
    """Faces with a training that was interrupted at step 3 of 6."""
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(loop._Run, "_asked_to_stop", lambda run: run.step == 3)
        faces.train()
    return faces


@pytest.mark.parametrize("change", [nothing, other_pixels], ids=["same", "other pixels"])
def test_only_the_same_training_goes_on_and_once(stopped, caplog, change):
    change(stopped)
    with caplog.at_level(logging.INFO, "regaze"):
        ended = stopped.train()
    resumed = "resuming at step 3 of 6" in caplog.text
    assert resumed == (change is nothing) and resumed == ("step 1/6" not in caplog.text)
    assert ("(data.faces), starting afresh" in caplog.text) == (not resumed)
    caplog.clear()
    # Forced to run again it begins anew, with the same outcome.
    with caplog.at_level(logging.INFO, "regaze"):
        again = stopped.train()
    assert "step 1/6" in caplog.text and "resuming" not in caplog.text and same(ended, again)


def test_a_training_whose_results_cannot_be_written_goes_on_at_its_end(faces, caplog, monkeypatch):
    def full(*_, **__):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(context, "write_model", full)
        faces.train()
    with caplog.at_level(logging.INFO, "regaze"):
        weights = faces.train(finished=False)
        assert caplog.text.count("resuming at step 6 of 6") == 1
        # More is to be made of it, so it is not over yet.
        assert same(weights, faces.train())
        assert caplog.text.count("resuming at step 6 of 6") == 2
        assert same(weights, faces.train())
    assert caplog.text.count("resuming") == 2
    assert caplog.text.count("state of a finished training") == 1


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"val": []}, "split.json: split: val: expected somebody, found nobody"),
        ({"test": []}, "split.json: split: test: expected somebody, found nobody"),
        ({"val": ["x", "y"]}, "split: val: expected somebody, found no face of its 2 persons"),
        ({"train-redirector": []}, "split: train-redirector: expected somebody, found nobody"),
    ],
)
def test_lists_without_anybody_are_told_before_training(faces, lists, words, monkeypatch):
    content = json.loads(faces.split.read_text()) | lists
    faces.split.write_text(json.dumps(content))
    monkeypatch.setattr(context, "train", lambda *_, **__: pytest.fail("training began"))
    with pytest.raises(ValueError, match=words):
        faces.train()
    if "test" not in lists:
        with pytest.raises(ValueError, match=words):
            faces.identity(monkeypatch)


def linked(folder, released, names=("p", "q")):
    """A shard whose pixels are those of a released file."""
    with (
        h5py.File(released) as source,
        FacesWriter(
            folder / "shard.h5", FacesAttributes("sted", (8, 8), 1.0, 1.0, "none", "test")
        ) as writer,
    ):
        for name in names:
            shape = source[f"{name}/pixels"].shape
            link = PixelLink(released, f"{name}/pixels", shape, np.arange(1, shape[0]))
            writer.add_person(name, link, np.zeros((shape[0] - 1, 8), np.float32))
    return FacesReader(folder / "shard.h5").fingerprint()


def test_linked_pixels_are_told_apart_without_being_read(tmp_path):
    released, moved = tmp_path / "released.h5", tmp_path / "moved"
    with h5py.File(released, "w") as file:
        for name in "pq":
            file[f"{name}/pixels"] = np.zeros((4, 8, 8, 3), np.uint8)
    first = linked(tmp_path, released)
    assert linked(tmp_path, released) == first
    moved.mkdir()
    at = released.stat()
    released.rename(moved / "released.h5")
    os.utime(moved / "released.h5", ns=(at.st_atime_ns, at.st_mtime_ns))
    assert linked(moved, moved / "released.h5") == first
    with h5py.File(moved / "released.h5", "r+") as file:
        file["p/pixels"][2] = 1
    assert linked(moved, moved / "released.h5") != first


def test_rows_that_were_never_written_and_rows_that_are_damaged(tmp_path):
    path = tmp_path / "faces.h5"
    with h5py.File(path, "w") as file:
        options = {"chunks": (1, 8, 8, 3), "compression": "gzip"}
        pixels = file.create_dataset("p/pixels", (3, 8, 8, 3), np.uint8, **options)
        pixels[0] = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
        file["p/labels"] = np.zeros((3, 8), np.float32)
    sparse = FacesReader(path).fingerprint()
    with h5py.File(path, "r+") as file:
        file["p/pixels"][1] = 5
    assert FacesReader(path).fingerprint() != sparse
