"""Batches: a function of seed, step and rank; labels follow their pictures."""

import os
import pickle
import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from regaze import jobs
from regaze.codes import CODES
from regaze.codes.condition import CodeRows
from regaze.codes.latents import LatentsWriter
from regaze.estimators.batches import ImageBatches
from regaze.face3d.crops import CropBatches
from regaze.faces import FacesReader
from regaze.links import PixelLink
from regaze.redirectors.base import build_redirector
from regaze.redirectors.declaration import declared_by
from regaze.redirectors.pairs import PairBatches
from regaze.redirectors.train import fit
from regaze.redirectors.xunet.settings import ModelSettings
from regaze.training.settings import Jitter


@pytest.fixture
def reader(tmp_path):
    """Four persons, 2 head poses x 3 gazes; a patch's level tells person and row."""
    rng = np.random.default_rng(1)
    with h5py.File(tmp_path / "faces.h5", "w") as file:
        for number, person in enumerate("abcd"):
            heads, gazes = rng.uniform(-0.3, 0.3, (2, 2)), rng.uniform(-0.3, 0.3, (3, 2))
            labels = np.zeros((6, 8), np.float32)
            labels[:, :2], labels[:, 2:4] = np.tile(gazes, (2, 1)), np.repeat(heads, 3, 0)
            pixels = np.zeros((6, 8, 8, 3), np.uint8)
            pixels[..., 0] = (number * 50 + np.arange(6))[:, None, None]
            pixels[:, :, :4, 1] = 255
            file[f"{person}/labels"], file[f"{person}/pixels"] = labels, pixels
    return FacesReader(tmp_path / "faces.h5")


def pairs(reader, **kwargs):
    options = {"size": 8, "batch": 6, "seed": 0} | kwargs
    return PairBatches(reader, reader.persons, **options)


def test_an_epoch_visits_everything_once_and_ranks_share_it(reader):
    levels = []
    for rank in (0, 1):
        batches = ImageBatches(reader, reader.persons, size=8, batch=3, seed=0, rank=rank, world=2)
        levels += [batches.load(step)["image"][:, 0, 0, 0] for step in range(4)]
    assert sorted(torch.cat(levels).tolist()) == sorted(
        n * 50 + r for n in range(4) for r in range(6)
    )


JITTER = Jitter(shift=0.1, offset=20.0, noise=8.0, source_gaze_deg=4.0)


def test_jitter_changes_neither_the_choice_of_pairs_nor_how_they_are_shared(reader):
    plain, whole = pairs(reader).load(3), pairs(reader, jitter=JITTER).load(3)
    for name in ("source_row", "target_row", "target_gaze"):
        assert torch.allclose(plain[name], whole[name], atol=1e-6)
    assert not torch.equal(plain["source"], whole["source"])
    assert not torch.equal(plain["source_gaze"], whole["source_gaze"])
    parts = [pairs(reader, jitter=JITTER, batch=3, rank=r, world=2).load(3) for r in (0, 1)]
    for name in whole:
        assert torch.equal(torch.cat([part[name] for part in parts]), whole[name])


def test_a_resumed_training_has_the_jitter_of_an_unbroken_one(reader):
    straight = pairs(reader, jitter=JITTER)
    for step in range(3):
        straight.load(step)
    again = pairs(reader, jitter=JITTER, cache="none").load(3)
    for name, value in straight.load(3).items():
        assert torch.equal(value, again[name])


def test_batches_do_not_depend_on_cache_or_history(reader):
    a, b = pairs(reader), pairs(reader, cache="none")
    a.load(0), a.load(7)
    for key, value in a.load(5).items():
        assert torch.equal(value, b.load(5)[key]), key


def test_mapped_patches_are_those_of_the_files(reader, tmp_path):
    folder = tmp_path / "state"
    mapped, plain = pairs(reader, cache="mmap"), pairs(reader, cache="none")
    before = mapped.load(3)
    mapped.keep_in(folder)
    (file,) = folder.iterdir()
    assert file.read_bytes() == reader.pixels(mapped.rows).tobytes()
    for step in range(5):
        held, mapped_again = pairs(reader).load(step), pickle.loads(pickle.dumps(mapped))
        for key, value in plain.load(step).items():
            assert torch.equal(value, mapped.load(step)[key]), key
            assert torch.equal(value, mapped_again.load(step)[key]), key
            assert torch.equal(value, held[key]), key
    assert torch.equal(before["source"], mapped.load(3)["source"])
    assert len(pickle.dumps(mapped)) < len(pickle.dumps(plain)) + 500


def test_mapped_patches_are_written_once_and_again_when_the_data_differ(reader, tmp_path):
    folder = tmp_path / "state"
    pairs(reader, cache="mmap").keep_in(folder)
    (file,) = folder.iterdir()
    written = file.stat().st_mtime_ns
    pairs(reader, cache="mmap").keep_in(folder)
    assert [(one, one.stat().st_mtime_ns) for one in folder.iterdir()] == [(file, written)]
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    pairs(reader, cache="mmap").keep_in(folder)
    assert file.read_bytes() == whole
    changed = shutil.copy(reader.paths[0], tmp_path / "changed.h5")
    with h5py.File(changed, "a") as faces:
        faces["a/pixels"][0] = 99
    fresh = FacesReader(changed)
    pairs(fresh, cache="mmap").keep_in(folder)
    (other,) = folder.iterdir()
    assert other != file and other.read_bytes() == fresh.pixels(fresh.rows()).tobytes()


def test_mapped_patches_of_links_follow_the_file_that_they_lie_in(reader, tmp_path):
    (released,), shard, folder = reader.paths, tmp_path / "shard.h5", tmp_path / "state"
    with h5py.File(released) as source, h5py.File(shard, "w") as file:
        for person in source:
            shape = source[f"{person}/pixels"].shape
            link = PixelLink(released, f"{person}/pixels", shape, np.arange(shape[0]))
            file[f"{person}/labels"] = source[f"{person}/labels"][:]
            file.create_virtual_dataset(f"{person}/pixels", link.layout(tmp_path))
    pairs(FacesReader(shard), cache="mmap").keep_in(folder)
    (file,) = folder.iterdir()
    assert file.read_bytes() == reader.pixels(reader.rows()).tobytes()
    pairs(FacesReader(shard), cache="mmap").keep_in(folder)
    assert list(folder.iterdir()) == [file]
    os.utime(released, ns=(0, 0))
    pairs(FacesReader(shard), cache="mmap").keep_in(folder)
    (other,) = folder.iterdir()
    assert other != file


def test_pairs_are_of_one_person_and_half_share_the_head(reader):
    batches = pairs(reader, same_head_fraction=0.5)
    same = total = 0
    for step in range(60):
        batch = batches.load(step)
        source, target = batch["source"][:, 0, 0, 0], batch["target"][:, 0, 0, 0]
        assert torch.equal(source // 50, target // 50)
        assert (source != target).all()
        same += (batch["source_head"] == batch["target_head"]).all(1).sum()
        total += len(source)
    # Half are drawn so; of the other half 2 of 5 share the head by chance.
    assert float(same) / total == pytest.approx(0.5 + 0.5 * 0.4, abs=0.08)


def test_flip_mirrors_pictures_and_yaw(reader):
    plain, flipped = pairs(reader), pairs(reader, flip=True)
    mirrored = 0
    for step in range(8):
        a, b = plain.finish(plain.load(step)), flipped.finish(flipped.load(step))
        which = flipped.load(step)["flip"]
        mirrored += int(which.sum())
        sign = torch.where(which[:, None], torch.tensor([1.0, -1.0]), torch.tensor([1.0, 1.0]))
        for side in ("source", "target"):
            assert torch.equal(b[f"{side}_gaze"], a[f"{side}_gaze"] * sign)
            assert torch.equal(b[f"{side}_head"], a[f"{side}_head"] * sign)
            expected = torch.where(which[:, None, None, None], a[side].flip(-1), a[side])
            assert torch.equal(b[side], expected)
    assert 10 < mirrored < 38


def job_that_asks_for(mem_mb, gpus=0):
    return SimpleNamespace(
        threads=1,
        log=[],
        resources=SimpleNamespace(mem_mb=mem_mb),
        params={"config": {"train": {"gpus": gpus}}},
    )


def test_patches_in_memory_are_no_more_than_the_job_asks_for(reader, monkeypatch):
    width, height = reader.patch_size
    needed = len(reader) * width * height * 3 / 1e6
    monkeypatch.setattr(jobs, "_ASKED", {})
    assert len(pairs(reader).rows), "outside of jobs nothing is asked for"
    jobs._ASKED["mem_mb"] = jobs._memory_mb(job_that_asks_for(2 * needed))
    pairs(reader)
    # Two processes share what a machine is asked for, and each holds all patches.
    jobs._ASKED["mem_mb"] = jobs._memory_mb(job_that_asks_for(1.9 * needed, gpus=2))
    words = rf"train.cache: 'memory' holds {len(reader)} patches of {width} x {height} px"
    with pytest.raises(ValueError, match=rf"{words}.* set train.cache: mmap"):
        pairs(reader)
    for cache in ("mmap", "none"):
        assert len(pairs(reader, cache=cache).rows) == len(reader)


def test_nobody_is_an_error(reader):
    with pytest.raises(ValueError, match="faces.h5: no rows for the 1 persons"):
        PairBatches(reader, ["x"], size=8, batch=2, seed=0)


def test_crops_are_drawn_around_the_faces_that_are_known(reader):
    known = SimpleNamespace(rows=np.arange(5))
    with pytest.raises(ValueError, match="known faces: expected those of the 24 rows trained on"):
        CropBatches(reader, reader.persons, size=8, batch=2, seed=0, known=known, views=None)


def test_faces_that_all_lack_a_code_train_nothing(reader, tmp_path):
    latents = tmp_path / "latents.parquet"
    identity = {"encoder": "deca", "checkpoint_sha256": "a" * 64, "head_sha256": "b" * 64}
    with LatentsWriter(latents, identity) as writer:
        for person in reader.persons:
            codes = {name: np.zeros((6, width), np.float32) for name, width in CODES.items()}
            writer.add([person] * 6, np.arange(6), codes, np.full(6, person == "d"))
    inputs = {"codes": CodeRows({"parts": ("pose",)}, [latents], reader)}
    entry = {"class": "xunet", "preset": "tiny", "size_px": 16, "network": {"code": "film"}}
    told = build_redirector(ModelSettings(**entry, deca={"parts": ("pose",)}).resolve(), {})
    given = {"inputs": inputs, "declaration": declared_by(told.config)}
    with pytest.raises(ValueError, match="faces.h5: no face has codes to train with"):
        PairBatches(reader, ["a", "b"], **given, size=8, batch=2, seed=0)
    with pytest.raises(ValueError, match="codes: none of 12 training faces has any"):
        fit(told, inputs, reader, ["a", "b"])
    fit(told, inputs, reader, ["a", "d"])
    assert inputs["codes"].known.sum() == 6
