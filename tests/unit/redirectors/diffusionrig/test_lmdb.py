"""Buffers as LMDB: there and back, and what is refused before anything is written."""

import pickle
import shutil

import h5py
import lmdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from regaze.cli import app
from regaze.face3d.deca import encoder_identity
from regaze.redirectors.bench import Bench
from regaze.redirectors.diffusionrig.lmdb_files import export_buffers, import_buffers
from regaze.redirectors.diffusionrig.settings import ModelSettings
from regaze.redirectors.networks import load_redirector


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Faces with codes as an LMDB."""
    root = tmp_path_factory.mktemp("lmdb")
    models = {"rig": ModelSettings(**{"class": "diffusionrig", "preset": "tiny", "size_px": 32})}
    bench = Bench("rig", models, {}, root)
    bench.write_untrained()
    face = load_redirector(root / "models/rig")[0].face.face
    (codes,) = bench.input_files["codes"]
    table = pq.read_table(codes)
    own = {name.encode(): value.encode() for name, value in encoder_identity(face).items()}
    told = {**table.schema.metadata, **own}
    pq.write_table(table.replace_schema_metadata(told), root / "codes.parquet")
    files = bench.input_files["crops"], [root / "codes.parquet"]
    counts = export_buffers(*files, face, root / "lmdb", 32)
    return root / "lmdb", counts, files, face


def test_buffers_come_back(made, tmp_path):
    folder, (count, lost), files, face = made
    assert count > 2
    assert import_buffers(folder, tmp_path / "a") == count
    with h5py.File(tmp_path / "a/buffers.h5") as file:
        found = file["buffers"][:]
    assert found.shape == (count, 9, 32, 32) and found.dtype == np.float16
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as reading:
        stored = pickle.loads(reading.get(b"normal_000001"))
        assert reading.get(b"length") == str(count).encode()
        assert len(reading.get(b"normal_000001")) < 4 * stored.numel() + 1000
    assert stored.shape == (3, 32, 32) and stored.dtype == torch.float32 and stored.any()
    np.testing.assert_allclose(found[1, 3:6], stored, atol=1e-3)
    with Image.open(tmp_path / f"a/rgb/{count - 1:06d}.png") as picture:
        assert picture.size == (32, 32)


class Evil:
    """What a pickle could do."""

    def __reduce__(self):
        return print, ("run",)


def _set(key, value):
    def change(writing):
        writing.delete(key) if value is None else writing.put(key, value)

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_set(b"length", None), "length: expected a number of records, found None"),
        (_set(b"length", b"99"), "image_0000.*: expected a record, found none"),
        (_set(b"albedo_000002", None), "albedo_000002: expected a record, found none"),
        (_set(b"image_000001", b"x"), "image_000001: expected a PNG"),
        (_set(b"normal_000001", b"x"), "normal_000001: refused"),
        (_set(b"normal_000001", pickle.dumps(Evil())), "normal_000001: refused: .*print"),
        (
            _set(b"normal_000001", pickle.dumps(torch.zeros(3, 8, 8))),
            r"normal_000001: expected float32 \(3, 32, 32\), found float32 \(3, 8, 8\)",
        ),
    ],
)
def test_what_is_missing_or_strange_is_named(made, tmp_path, change, told, capsys):
    shutil.copytree(made[0], tmp_path / "lmdb")
    with lmdb.open(str(tmp_path / "lmdb")) as env, env.begin(write=True) as writing:
        change(writing)
    with pytest.raises(ValueError, match=told):
        import_buffers(tmp_path / "lmdb", tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["lmdb"], "nothing is half-written"
    assert "run" not in capsys.readouterr().out


def test_commands_tell_what_is_wrong(tmp_path):
    (tmp_path / "empty").mkdir()
    given = ["import-lmdb", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(app, ["diffusionrig", *given])
    assert told.exit_code == 1 and "expected an LMDB with data.mdb, found none" in told.output
    assert not (tmp_path / "out").exists()
