"""Files of weights that carry a program, lie about their size or hide paths: none does anything."""

import contextlib
import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from regaze.estimators import store
from regaze.estimators.store import load_estimator, load_reference
from regaze.face3d.checkpoints import read_deca, read_emoca
from regaze.face3d.model import load_flame
from regaze.face3d.parsing import load_parser
from regaze.face3d.pickles import PickleRefused, read_npy_object, read_pickle
from regaze.identity.store import load_published, load_recogniser
from regaze.perceptual import load_inception, load_lpips
from regaze.redirectors.sted.checkpoints import read_checkpoint
from regaze.redirectors.transfer import read_start
from regaze.weights import torch_content

LOADERS = {
    "transfer": read_start,
    "sted": read_checkpoint,
    "estimator-resnet": lambda path: load_reference(path, "resnet"),
    "estimator-vgg": lambda path: load_reference(path, "vgg"),
    "identity": lambda path: load_published(path, "mobilefacenet"),
    "lpips": lambda path: load_lpips(path, "alex"),
    "inception": load_inception,
    "parser": load_parser,
    "deca": read_deca,
    "emoca": read_emoca,
    "flame": read_pickle,
    "landmark-embedding": read_npy_object,
    "head-model": load_flame,
}


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (os.mkdir, (self.mark,))


class ByEval(Payload):
    def __reduce__(self):
        return (eval, (f"__import__('os').mkdir({self.mark!r})",))


def zipped(path, content):
    torch.save(content, path)


def legacy(path, content):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain(path, content):
    path.write_bytes(pickle.dumps(content))


def archived(path, content):
    data = io.BytesIO()
    torch.save(content, data)
    add(path, "at_step_10.pth.tar", data.getvalue())


def npy(path, content):
    with open(path, "wb") as file:
        np.save(file, np.array(content, object), allow_pickle=True)


def npz(path, content):
    with open(path, "wb") as file:
        np.savez(file, v_template=np.array(content, object))


def add(path, name, data, **fields):
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        for key, value in fields.items():
            setattr(entry, key, value)
        archive.addfile(entry, io.BytesIO(data))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("loader", LOADERS)
def test_a_program_in_weights_is_refused_and_not_run(tmp_path, loader):
    mark = tmp_path / "mark"
    slow = loader in ("inception", "lpips")  # they build their network first
    for number, write in enumerate((zipped, legacy, plain, archived, npy, npz)):
        if slow and number not in (0, 2):
            continue
        for kind in (Payload,) if slow else (Payload, ByEval):
            path = tmp_path / f"{number}.pth"
            write(path, {"state_dict": {"a": torch.zeros(1), "b": kind(mark)}, "model": kind(mark)})
            with pytest.raises((ValueError, FileNotFoundError)):
                LOADERS[loader](path)
            assert not mark.exists()


def test_the_payloads_do_run_where_they_are_unpickled(tmp_path):
    """Without this the test above would also pass with payloads that do nothing."""
    for number, kind in enumerate((Payload, ByEval)):
        mark = tmp_path / str(number)
        pickle.loads(pickle.dumps(kind(mark)))
        assert mark.is_dir()


def test_classes_of_a_lightning_checkpoint_are_not_imported(tmp_path):
    """EMOCA's files name classes beside the weights; they are read without them."""
    mark, path = tmp_path / "mark", tmp_path / "last.ckpt"
    names = ("E_flame", "E_detail", "D_detail", "E_expression")
    torch.save(
        {
            "state_dict": {f"deca.{name}.layer": torch.ones(2) for name in names},
            "callbacks": Payload(mark),
        },
        path,
    )
    with contextlib.suppress(ValueError):
        assert set(read_emoca(path)[0]) == set(names)
    assert not mark.exists()


@pytest.mark.parametrize("load", [load_estimator, load_recogniser])
def test_model_folders_hold_safetensors_only(tmp_path, load):
    mark = tmp_path / "mark"
    kind = "estimator" if load is load_estimator else "identity"
    (tmp_path / "model.json").write_text(
        f'{{"kind": "{kind}", "config": {{"arch": "resnet", "preset": "tiny", "size_px": 32, '
        '"preprocess": "sted", "network": "small"}}'
    )
    zipped(tmp_path / "model.safetensors", {"a": Payload(mark)})
    with pytest.raises(Exception, match=r"(?i)header|safetensors|json|Preprocess|preprocess"):
        load(tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../at_step_9.pth.tar", "/tmp/at_step_9.pth.tar", "a/../../x"])
def test_an_archive_that_climbs_is_refused(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    add(inside / "weights.tar", name, b"x" * 10)
    with pytest.raises(ValueError, match="relative names|at_step"):
        load_reference(inside / "weights.tar", "resnet")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inside", "weights.tar"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_pipes_in_an_archive_are_not_followed(tmp_path, kind):
    secret = tmp_path / "secret.pt"
    torch.save({"a": torch.ones(1)}, secret)
    add(tmp_path / "w.tar", "at_step_9.pth.tar", b"", type=kind, linkname=str(secret))
    with pytest.raises(ValueError, match="at_step_<number>"):
        load_reference(tmp_path / "w.tar", "resnet")


def test_an_archive_that_claims_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MOST_BYTES", 1000)
    add(tmp_path / "w.tar", "at_step_9.pth.tar", b"\0" * 5000)
    with pytest.raises(ValueError, match="at most 1000 bytes together, found 5000"):
        load_reference(tmp_path / "w.tar", "resnet")
    packed = tmp_path / "w.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        entry = tarfile.TarInfo("at_step_9.pth.tar")
        entry.size = 1 << 20
        archive.addfile(entry, io.BytesIO(bytes(1 << 20)))
    with pytest.raises(ValueError, match="found 1048576"):
        load_reference(packed, "resnet")


def repacked(path, **options):
    """The same torch file with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_a_compressed_container_is_refused(tmp_path):
    """A megabyte of zeros is a kilobyte of zip: only what is stored as it is gets read."""
    path = tmp_path / "bomb.pt"
    torch.save({"a": torch.zeros(1 << 18)}, path)
    repacked(path)
    assert torch.equal(torch_content(path)["a"], torch.zeros(1 << 18))
    repacked(path, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    for loader in ("transfer", "sted", "estimator-vgg", "identity", "lpips", "parser", "deca"):
        with pytest.raises(ValueError, match="compressed"):
            LOADERS[loader](path)


def test_members_that_overlap_are_refused(tmp_path):
    path = tmp_path / "twice.pt"
    torch.save({"a": torch.zeros(1000)}, path)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        first = max(archive.infolist(), key=lambda one: one.file_size)
        start = archive.start_dir
    # The directory names the largest member ten times.
    head = first.filename.encode()
    at = data.index(b"PK\1\2", start)
    while data[at + 46 : at + 46 + len(head)] != head:
        at = data.index(b"PK\1\2", at + 4)
    stop = data.index(b"PK\1\2", at + 4)
    entry = data[at:stop]
    end = bytearray(data[data.rindex(b"PK\5\6") :])
    directory = entry * 10
    end[8:12] = (10).to_bytes(2, "little") * 2
    end[12:16] = len(directory).to_bytes(4, "little")
    end[16:20] = start.to_bytes(4, "little")
    path.write_bytes(data[:start] + directory + bytes(end))
    with pytest.raises(ValueError, match="members claim"):
        torch_content(path)


@pytest.mark.parametrize("loader", LOADERS)
def test_what_is_no_file_of_weights_is_one_clear_error(tmp_path, loader):
    contents = (b"", b"PK\3\4" + bytes(50), b"../../etc\n")
    for number, content in enumerate(contents[:: 2 if loader == "inception" else 1]):
        path = tmp_path / f"{number}.pth"
        path.write_bytes(content)
        with pytest.raises((ValueError, FileNotFoundError), match=str(path)):
            LOADERS[loader](path)


def test_deep_and_selfreferring_pickles_end(tmp_path):
    path = tmp_path / "deep.pkl"
    path.write_bytes(b"\x80\x02" + b"]" * 200_000 + b".")
    with pytest.raises(PickleRefused):
        read_pickle(path)
    # A dictionary that holds itself ten times at each of thirty levels.
    path.write_bytes(
        b"\x80\x02]q\0" + b"".join(b"](h%c" % 0 + b"h\0" * 9 + b"eq\0" for _ in range(30)) + b"."
    )
    with pytest.raises(PickleRefused):
        read_pickle(path)


def test_hostile_file_names_are_only_names(tmp_path):
    for name in ("$(touch mark).pt", "-rf.pt", "a;touch mark.pt", "`touch mark`.pt", "a\nb.pt"):
        path = tmp_path / name
        torch.save({"model": {"a": torch.ones(1)}}, path)
        assert list(read_start(path).weights) == ["a"]
    assert not (tmp_path / "mark").exists() and not Path("mark").exists()
