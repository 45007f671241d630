"""Files that are not what they are called: messages begin with what they are, in our words."""

import gzip
import io
import json
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from face_alignment.detection.sfd.net_s3fd import s3fd
from safetensors.torch import save

from regaze.capture.head import load_head
from regaze.codes.latents import LatentsReader
from regaze.estimators.store import load_reference
from regaze.face3d.checkpoints import read_deca, read_emoca
from regaze.face3d.convert import read_texture
from regaze.face3d.crop import read_landmarks
from regaze.face3d.model import load_flame
from regaze.face3d.parsing import load_parser
from regaze.face3d.photo_faces import landmarks_of
from regaze.face3d.pickles import read_npy_object, read_pickle
from regaze.faces import FacesReader
from regaze.filetypes import damage, file_type, read_npz, unreadable
from regaze.hdf5 import open_hdf5
from regaze.identity.store import load_published
from regaze.landmarks.face_alignment import _load
from regaze.pairs import read_pairs
from regaze.perceptual import load_lpips
from regaze.redirectors.sted.checkpoints import read_checkpoint
from regaze.redirectors.transfer import read_start
from regaze.sources.hdf5 import opened
from regaze.training.posthoc import find_snapshots
from regaze.weights import read_record, read_weights, torch_content

PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>...</body></html>"
XML = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'


def packed(write):
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def zipped(stream):
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.txt", "x")


TORCH = packed(lambda stream: torch.save({"a": torch.zeros(1000)}, stream))
NPZ = packed(lambda stream: np.savez(stream, a=np.zeros(1000)))

FOREIGN = {
    "page": (PAGE, "a web page (HTML)"),
    "page after a mark": (b"\xef\xbb\xbf\r\n" + PAGE, "a web page (HTML)"),
    "page of 16 bits": (PAGE.decode().encode("utf-16"), "a web page (HTML)"),
    "page after a comment": (b"<!-- saved\nfrom url -->\n" + PAGE, "a web page (HTML)"),
    "page in capitals": (b"\n<HTML><BODY>no such file</BODY></HTML>", "a web page (HTML)"),
    "part of a page": (b"<title>404</title><h1>Not found</h1>", "a web page (HTML)"),
    "long page": (PAGE + b"\xc3\xa4" * 4000, "a web page (HTML)"),
    "XHTML": (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x"><html/>', "a web page (HTML)"),
    "packed page": (gzip.compress(PAGE), "a web page (HTML), compressed by gzip"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    "annex": (b"/annex/objects/MD5E-s1--0.pt\n", "a pointer of git-annex"),
    "DVC": (b"outs:\n- md5: 0\n  path: model.pt\n", "a pointer of DVC"),
    "XML": (XML, "an XML answer of a server (AccessDenied)"),
    "packed XML": (gzip.compress(XML), "an XML answer of a server (AccessDenied), compressed by"),
    "JSON": (b'{"error": {"code": 404}}', "a JSON answer of a server that tells of an error"),
    "empty": (b"", "an empty file"),
    "half a torch file": (TORCH[:2000], "a zip archive that is cut off or damaged"),
    "half an npz": (NPZ[:2000], "a zip archive that is cut off or damaged"),
    "gzip": (gzip.compress(TORCH), "a gzip archive"),
}
OTHERS = {
    "torch": (TORCH, "a torch file"),
    "npz": (NPZ, "an .npz of arrays"),
    "zip": (packed(zipped), "a zip archive of 'a.txt'"),
    "npy": (packed(lambda stream: np.save(stream, np.zeros(3))), "an .npy array"),
    "old torch": (
        packed(lambda s: torch.save([1], s, _use_new_zipfile_serialization=False)),
        "a torch file",
    ),
    "pickle": (pickle.dumps([1], 2), "a pickle"),
    "safetensors": (save({"a": torch.zeros(3)}), "a safetensors file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "HDF5 after a block": (bytes(1024) + b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "parquet": (b"PAR1 and no more", "a parquet file"),
    "JPEG": (b"\xff\xd8\xff\xe0", "a JPEG picture"),
    "TFLite": (b"\x1c\0\0\0TFL3" + bytes(20), "a TFLite model"),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x032.1", "an ONNX model"),
    "tar": (bytes(257) + b"ustar" + bytes(300), "a tar archive"),
    "text": (b"Not Found", "a text that begins with 'Not Found'"),
    "plain JSON": (b'{"a": 1}', "a JSON file"),
    "bytes": (b"\x01\x02\x03\x04\x05\x06\x07\x08\x09", "a file that begins with b'\\x01\\x02"),
}


@pytest.mark.parametrize("name", [*FOREIGN, *OTHERS])
def test_files_are_known_by_what_is_in_them(name, tmp_path):
    content, words = (FOREIGN | OTHERS)[name]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    found = file_type(path)
    assert words in found.words
    assert bool(found.remedy) == (name in FOREIGN)
    stream = io.BytesIO(content)
    stream.seek(3)
    assert file_type(stream) == found and stream.tell() == 3


def test_what_is_no_file(tmp_path):
    assert file_type(tmp_path).words == "a folder"
    assert file_type(tmp_path / "none").words == "no such file"


LOADERS = {
    "torch": torch_content,
    "transfer": read_start,
    "sted": read_checkpoint,
    "estimator": lambda path: load_reference(path, "vgg"),
    "identity": lambda path: load_published(path, "mobilefacenet"),
    "parser": load_parser,
    "landmark-detector": lambda path: _load(torch.nn.Linear(1, 1), path),
    "deca": read_deca,
    "emoca": read_emoca,
    "safetensors": read_weights,
    "model.json": read_record,
    "head-model": load_flame,
    "capture-head": load_head,
    "texture": lambda path: read_texture(path, 3),
    "texture-conversion": lambda path: read_texture(path, 1),
    "landmarks.mat": read_landmarks,
    "landmarks.txt": read_landmarks,
    "landmarks.npz": lambda path: landmarks_of(Path("a.png"), path),
    "transfer.safetensors": read_start,
    "faces": FacesReader,
    "samples": open_hdf5,
    "source": lambda path: opened(path).__enter__(),
    "latents": LatentsReader,
    "pairs": read_pairs,
    "std.safetensors": lambda path: find_snapshots(path.parent),
    "flame": read_pickle,
    "landmark-embedding": read_npy_object,
}
LIBRARIES = (
    "weights_only|allow_pickle|pickle\\.load|torch\\.load|PytorchStreamReader|miniz|Unpickler|"
    "signature|synchronously|HeaderToo|deserializ|magic|Parquet|EOF|Errno|central directory"
)


@pytest.mark.parametrize("loader", LOADERS)
def test_readers_say_what_they_got(loader, tmp_path):
    suffix = loader[loader.find(".") :] if "." in loader else ".bin"
    for name, (content, words) in FOREIGN.items():
        if loader == "landmarks.txt" and name == "empty":
            continue
        if loader == "model.json" and name == "JSON":
            continue
        path = tmp_path / f"std{suffix}"
        path.write_bytes(content)
        with pytest.raises((ValueError, OSError)) as caught:
            LOADERS[loader](path)
        said = str(caught.value)
        if (loader, name) == ("source", "empty"):
            words = "expected an HDF5 file, found another: an empty file"
        assert said.startswith(f"{path}: {words}"), (name, said)
        assert not re.search(LIBRARIES, said), (name, said)
        assert caught.value.__cause__ is None or loader == "landmark-detector"


def test_lpips_and_s3fd_say_it_as_well(tmp_path):
    path = tmp_path / "alexnet.pth"
    path.write_bytes(PAGE)
    for load in (lambda: load_lpips(path, "alex"), lambda: _load(s3fd(), path)):
        with pytest.raises(ValueError, match=r"alexnet\.pth: a web page \(HTML\), "):
            load()


def test_damage_inside_is_told_without_the_libraries_words(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a/pixels"] = np.arange(1000)
    whole = path.read_bytes()
    path.write_bytes(whole[:-500])
    size = f"cut off, {len(whole) - 500} of {len(whole)} bytes are there"
    with pytest.raises(ValueError, match=rf"a\.h5: not a readable HDF5 file \({size}\); if the"):
        open_hdf5(path)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a", data=np.arange(1000), chunks=(1000,), fletcher32=True)
        place = data.id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with h5py.File(path, "r") as file, pytest.raises(OSError) as caught:
        file["a"][:]
    assert damage(caught.value) == "a stored piece does not fit its checksum"
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"a": torch.zeros(100)})[:-7])
    with pytest.raises(ValueError, match=r"not a readable safetensors file \(cut off or altered\)"):
        read_weights(path)
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array({"b": 1}, object))
    with pytest.raises(ValueError, match=r"a\.npz: not numbers \(holds pickled objects\)"):
        read_npz(path, "not numbers")
    assert "holds pickled objects" in unreadable(path, "no", "npz", ValueError("Object arrays"))
    assert damage(MemoryError()) == "claims more than fits into memory"
    assert damage(KeyError("a is not a file in the archive")) == "lacks a"
    assert damage(OSError(11, "unable to lock file, errno = 11")) == "locked by another program"
    assert damage(PermissionError(13, "x")) == "Permission denied"


class Thing:
    def __reduce__(self):
        return os.getenv, ("HOME",)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_no_tensor_is_named(tmp_path, legacy):
    path = tmp_path / "a.pt"
    torch.save({"a": Thing()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError) as caught:
        torch_content(path)
    said = str(caught.value)
    assert said == (
        f"{path}: not a torch file of plain weights (holds 'os.getenv', which is neither a "
        "tensor nor a plain value)"
    )
    path.write_bytes(pickle.dumps({"a": [1.0]}))
    with pytest.raises(ValueError, match="not a torch file of plain weights: found a pickle"):
        torch_content(path)


def test_a_header_that_claims_too_much_is_only_damage(tmp_path):
    path = tmp_path / "a.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    with pytest.raises(ValueError, match=r"not a readable safetensors file \(cut off or altered\)"):
        read_weights(path)
