"""Cut off and altered files of a finished workflow: each error names the file and the remedy."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from kills import SMALL, differences
from safetensors.torch import save_file

from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.outputs import REMEDY, write_json
from regaze.pairs import draw_pairs, read_pairs, write_pairs
from regaze.weights import read_record, read_weights

pytestmark = pytest.mark.faults
SHARD = "results/synthetic/faces/shard-001.h5"
MODEL = "results/models/vgg/model.safetensors"
PAIRS = "results/synthetic/pairs.parquet"


@pytest.fixture
def written(tmp_path):
    """Faces of noise, their pairs, and weights, as the workflow's jobs write them."""
    folder = Path(tmp_path.resolve(), "written")
    rng = np.random.default_rng(0)
    (folder / SHARD).parent.mkdir(parents=True)
    attributes = FacesAttributes("sted", (32, 32), 500.0, 600.0, "none", "synthetic")
    with FacesWriter(folder / SHARD, attributes) as writer:
        for person in ("a", "b"):
            labels = rng.uniform(-0.3, 0.3, (6, 8)).astype(np.float32)
            pixels = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
            writer.add_person(person, pixels, labels)
    reader = FacesReader(folder / SHARD)
    counts = {"gaze_and_head": 6, "gaze_only": 0, "head_only": 0, "sweep": 1}
    drawn = draw_pairs(reader, reader.persons, counts, seed=0, dataset="synthetic")
    write_pairs(folder / PAIRS, drawn)
    (folder / MODEL).parent.mkdir(parents=True)
    save_file({"weight": torch.rand(64, 64)}, folder / MODEL)
    write_json(folder / MODEL.replace("safetensors", "json"), {"name": "vgg", "config": {}})
    return folder


def halve(path):
    """Cut a file in the middle, with its dates as before, so that nothing counts as changed."""
    found = path.stat()
    path.write_bytes(path.read_bytes()[: found.st_size // 2])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize(
    ("name", "read", "told"),
    [
        (SHARD, FacesReader, "not a readable HDF5 file"),
        (MODEL, read_weights, "not a readable safetensors file"),
        (MODEL.replace("safetensors", "json"), read_record, "not a readable JSON file"),
        (PAIRS, read_pairs, "not a readable parquet file"),
    ],
)
def test_half_a_file_is_named_with_the_remedy(written, name, read, told):
    read(written / name)
    halve(written / name)
    with pytest.raises(ValueError) as caught:
        read(written / name)
    message = str(caught.value)
    assert message.startswith(f"{written / name}: {told}") and message.endswith(REMEDY)


def test_a_bit_that_flipped_in_pixels_is_found_when_they_are_read(written):
    made = written
    with h5py.File(made / SHARD) as file:
        person = sorted(file)[0]
        where = file[person]["pixels"].id.get_chunk_info(0)
    content = bytearray((made / SHARD).read_bytes())
    # In the middle of a compressed picture; zlib's checksum covers what comes out of it.
    content[where.byte_offset + where.size // 2] ^= 16
    (made / SHARD).write_bytes(content)
    reader = FacesReader(made / SHARD)
    with pytest.raises(OSError, match="cannot be read") as caught:
        reader.pixels(np.arange(len(reader)))
    assert f"{made / SHARD}: {person}/pixels" in str(caught.value)
    assert str(caught.value).endswith(REMEDY)


@pytest.mark.whole
def test_a_cut_off_shard_stops_the_training_and_is_made_again_when_deleted(small, made, again):
    halve(made / SHARD)
    (made / MODEL).unlink()
    failed = again(made, MODEL)
    assert failed.returncode != 0
    log = (made / "logs/train_estimator/vgg.log").read_text()
    assert f"{SHARD}: not a readable HDF5 file" in log and REMEDY in log
    (made / SHARD).unlink()
    assert again(made).returncode == 0
    assert differences(made, small / "undisturbed") == []


@pytest.mark.whole
def test_a_deleted_shard_is_made_again_for_who_needs_it(small, made, again):
    (made / SHARD).unlink()
    (made / SMALL[0]).unlink()
    assert again(made).returncode == 0
    assert differences(made, small / "undisturbed") == []
