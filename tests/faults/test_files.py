"""Cut off and altered files of a finished workflow: each error names the file and the remedy."""

import os

import h5py
import numpy as np
import pytest
from kills import SMALL, differences

from regaze.faces import FacesReader
from regaze.outputs import REMEDY
from regaze.pairs import read_pairs
from regaze.weights import read_record, read_weights

pytestmark = pytest.mark.faults
SHARD = "results/synthetic/faces/shard-001.h5"


def halve(path):
    """Cut a file in the middle, with its dates as before, so that nothing counts as changed."""
    found = path.stat()
    path.write_bytes(path.read_bytes()[: found.st_size // 2])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize(
    ("name", "read", "told"),
    [
        (SHARD, FacesReader, "not a readable HDF5 file"),
        ("results/models/vgg/model.safetensors", read_weights, "not a readable safetensors file"),
        ("results/models/vgg/model.json", read_record, "not a readable JSON file"),
        ("results/synthetic/pairs.parquet", read_pairs, "not a readable parquet file"),
    ],
)
def test_half_a_file_is_named_with_the_remedy(made, name, read, told):
    halve(made / name)
    with pytest.raises(ValueError) as caught:
        read(made / name)
    message = str(caught.value)
    assert message.startswith(f"{made / name}: {told}") and message.endswith(REMEDY)


def test_a_bit_that_flipped_in_pixels_is_found_when_they_are_read(made):
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
    (made / "results/models/vgg/model.safetensors").unlink()
    failed = again(made, "results/models/vgg/model.safetensors")
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
