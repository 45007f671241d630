import collections
import copyreg
import io
import math
import os
import pickle
import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.face3d.pickles import ALLOWED, Inert, PickleRefused, read_npy_object, read_pickle


class Calls:
    """Pickles as a call of ``function(*arguments)``."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self):
        if self.state is None:
            return self.function, self.arguments
        return self.function, self.arguments, self.state


def raw_global(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def array_pickle(shape: bytes, dtype: bytes, data: bytes) -> bytes:
    """An array as numpy pickles it, with the three parts given as operations."""
    kind = raw_global("numpy", "dtype") + dtype + b"\x89\x88\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
    kind += b"J\xff\xff\xff\xffK\x00tb"
    start = raw_global("numpy.core.multiarray", "_reconstruct") + raw_global("numpy", "ndarray")
    return start + b"K\x00\x85U\x01b\x87R(K\x01" + shape + kind + b"\x89" + data + b"tb"


def nested(depth: int) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def hostile(sentinel: Path) -> dict[str, tuple[bytes, str]]:
    """Name -> bytes of a file and a word that the error must hold."""
    touch = f"touch {sentinel}"
    code = f"open({str(sentinel)!r}, 'w')"

    def dumped(value, protocol=2):
        return pickle.dumps(value, protocol)

    def call(module, name, argument, protocol=b"\x80\x02"):
        return protocol + raw_global(module, name) + text(argument) + b"\x85R."

    ball = b"\x80\x02]q\x01"
    for level in range(1, 40):
        ball += b"0(" + (b"h" + bytes([level])) * 2 + b"l" + b"q" + bytes([level + 1])
    cases = {
        "os.system": (call("os", "system", touch), "os.system"),
        "posix.system": (dumped(Calls(os.system, touch)), "posix.system"),
        "nt.system": (call("nt", "system", touch), "nt.system"),
        "subprocess.Popen": (dumped(Calls(subprocess.Popen, ["touch", str(sentinel)])), "Popen"),
        "subprocess.call": (call("subprocess", "call", touch), "subprocess.call"),
        "builtins.eval": (call("builtins", "eval", code), "builtins.eval"),
        "__builtin__.exec": (call("__builtin__", "exec", code), "__builtin__.exec"),
        "builtins.getattr": (dumped(Calls(getattr, "x", "upper"), 4), "builtins.getattr"),
        "builtins.__import__": (call("builtins", "__import__", "os"), "__import__"),
        "builtins.open": (call("builtins", "open", str(sentinel)), "builtins.open"),
        "dotted name": (
            b"\x80\x04\x8c\x05numpy\x8c\x13ndarray.__class__.x\x93.",
            "numpy.ndarray.__class__",
        ),
        "torch.load": (call("torch", "load", str(sentinel)), "torch.load"),
        "torch.hub": (call("torch.hub", "load", touch), "torch.hub.load"),
        "numpy.load": (call("numpy", "load", str(sentinel)), "numpy.load"),
        "inst": (b"(S'" + touch.encode() + b"'\nios\nsystem\n.", "os.system"),
        "obj": (b"\x80\x02(" + raw_global("os", "system") + text(touch) + b"o.", "os.system"),
        "obj of allowed": (
            b"\x80\x02(" + raw_global("numpy", "dtype") + text("f8") + b"o.", "stands where",
        ),
        "newobj_ex": (
            b"\x80\x04" + raw_global("numpy", "dtype") + text("f8") + b"\x85}\x92.",
            "stands where",
        ),
        "reconstructor": (
            dumped(Calls(copyreg._reconstructor, collections.Counter, object, None)),
            "collections.Counter",
        ),
        "reconstructor of an allowed class": (
            dumped(Calls(copyreg._reconstructor, np.ndarray, object, None)),
            "_reconstructor of neither",
        ),
        "reconstructor with a base": (
            b"\x80\x02" + raw_global("copyreg", "_reconstructor") + raw_global("chumpy.ch", "Ch")
            + raw_global("builtins", "set") + b"]\x87R.",
            "no dict",
        ),
        "setstate": (dumped(Calls(np.ndarray, (2,), state=(1, 2))), "ndarray"),
        "setstate on a dict": (b"\x80\x02}" + text("x") + b"b.", "state is not a dictionary"),
        "state with slots": (
            b"\x80\x02" + raw_global("chumpy.ch", "Ch") + b")\x81}}" + text("f")
            + raw_global("os", "system") + b"s\x86b.",
            "os.system",
        ),
        "chumpy node": (
            b"\x80\x02" + raw_global("chumpy.reordering", "Select") + b")\x81.",
            "chumpy.reordering.Select",
        ),
        "partial": (call("functools", "partial", touch), "functools.partial"),
        "attrgetter": (call("operator", "attrgetter", "system"), "operator.attrgetter"),
        "codec zip": (
            b"\x80\x02" + raw_global("_codecs", "encode") + text("aa") + text("zip") + b"\x86R.",
            "'zip'",
        ),
        "codec decode": (call("_codecs", "decode", "aa"), "_codecs.decode"),
        "codec beyond latin1": (
            b"\x80\x02" + raw_global("_codecs", "encode") + text("\u20ac") + text("latin1")
            + b"\x86R.",
            "latin-1",
        ),
        "persistent id": (b"\x80\x02" + text("id") + b"Q.", "found a str"),
        "persistent id, text": (b"Pid\n.", "found a str"),
        "extension code": (b"\x80\x02\x82\x01.", "EXT1"),
        "extension code 4": (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
        "next buffer": (b"\x80\x05\x97.", "out-of-band"),
        "readonly buffer": (b"\x80\x05C\x01a\x98.", "found a bytes"),
        "bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.", "bytearray8"),
        "protocol 9": (b"\x80\x09}.", "protocol: 9"),
        "unknown operation": (b"\x80\x02\xff.", "byte 2: expected another operation"),
        "deep recursion": (nested(100_000), "nested"),
        "deep marks": (b"\x80\x02" + b"(" * 5000 + b".", "0 values left"),
        "deep key": (b"\x80\x02}" + b")" + b"\x85" * 50_000 + b"Ns.", "as key"),
        "cycle": (b"\x80\x02]q\x00h\x00a.", "nested"),
        "doubling lists": (ball + b".", "nested"),
        "wide doubling": (
            b"\x80\x02]q\x01" + b"".join(
                b"0(" + b"h\x01" * 100 + b"lq\x01" for _ in range(12)) + b".",
            "more than",
        ),
        "memo index": (b"\x80\x02}r\xff\xff\xff\xff.", "memo index 4294967295"),
        "memo index, text": (b"\x80\x02}p99999999999\n.", "memo index 99999999999"),
        "memo never stored": (b"\x80\x02h\x05.", "KeyError: 5"),
        "endless operations": (b"\x80\x02" + b"N0" * 600_000 + b"}.", "operations"),
        "giant text": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.", "only 2 remain"),
        "giant frame": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"}.", "truncated"),
        "giant integer": (b"\x80\x02\x8b\xff\xff\xff\x7f" + b"1" * 99 + b".", "long4"),
        "long decimal": (b"L" + b"9" * 4000 + b"L\n.", "found a int"),
        "giant array": (
            b"\x80\x02" + array_pickle(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", text("f8"),
                                       b"U\x04aaaa") + b".",
            "bytes, found 4",
        ),
        "giant empty array": (
            b"\x80\x02" + array_pickle(b"K\x00" + b"J\xff\xff\xff\x7f" * 2 + b"\x87", text("f8"),
                                       b"U\x00") + b".",
            "damaged",
        ),
        "negative size": (
            b"\x80\x02" + array_pickle(b"J\xff\xff\xff\xff\x85", text("f8"), b"U\x00") + b".",
            "no counts",
        ),
        "object array from bytes": (
            b"\x80\x02" + array_pickle(b"K\x01\x85", text("O8"), b"U\x08aaaaaaaa") + b".",
            "object array from bytes",
        ),
        "object scalar": (
            b"\x80\x02" + raw_global("numpy.core.multiarray", "scalar")
            + raw_global("numpy", "dtype") + text("O8") + b"\x89\x88\x87RU\x08aaaaaaaa\x86R.",
            "object array from bytes",
        ),
        "structured dtype": (dumped(np.zeros(2, [("a", "f8")])), "dtype 'V8'"),
        "dtype of an object": (
            b"\x80\x02" + array_pickle(b"K\x00\x85", raw_global("numpy", "ndarray"), b"U\x00")
            + b".",
            "a type where text is expected",
        ),
        "array of another class": (
            b"\x80\x02" + raw_global("numpy.core.multiarray", "_reconstruct")
            + raw_global("builtins", "set") + b"K\x00\x85U\x01b\x87R.",
            "never given its content",
        ),
        "array never filled": (
            b"\x80\x02" + raw_global("numpy.core.multiarray", "_reconstruct")
            + raw_global("numpy", "ndarray") + b"K\x00\x85U\x01b\x87R.",
            "never given its content",
        ),
        "bare name": (b"\x80\x02" + raw_global("numpy", "ndarray") + b".", "stands where"),
        "call of text": (b"\x80\x02" + text("os.system") + b")R.", "'str' object is not callable"),
        "list at the top": (dumped([1, 2]), "expected a dict, found a list"),
        "text at the top": (dumped("x"), "expected a dict, found a str"),
        "several left": (b"\x80\x02}}.", "values left"),
        "nothing": (b"", "or the end"),
        "only a stop": (b".", "0 values left"),
        "text, no pickle": (b"version https://git-lfs.github.com/spec/v1\n", ""),
        "stored tensor with code": (
            _tensor(pickle.dumps(Calls(os.system, touch), 2)), "posix.system",
        ),
        "stored tensor, a zip": (_tensor(_saved(torch.zeros(2), True)), "refused"),
        "stored tensor, giant": (_tensor(_giant_storage()), "announces"),
        "stored tensor, endless": (_tensor(b"N0" * 1000 + b"N."), "more than 1000 operations"),
        "stored tensor, memo": (_tensor(b"Nr\xff\xff\xff\xff."), "memo index 4294967295"),
        # keys whose hash would take for ever, or overflow the C stack
        "doubled key": (b"\x80\x02}" + _doubled(40) + b"Ns.", "as key"),
        "doubled keys": (b"\x80\x02}(" + _doubled(40) + b"Nu.", "as key"),
        "doubled keys, protocol 0": (b"(" + _doubled(40) + b"Nd.", "as key"),
        "doubled member": (b"\x80\x04\x8f(" + _doubled(40) + b"\x90.", "as key"),
        "doubled members": (b"\x80\x04(" + _doubled(40) + b"\x91.", "as key"),
        "doubled key, DUP": (b"\x80\x02}" + _doubled(40) + b"2s.", "as key"),
        "doubled key, PUT": (b"\x80\x02" + _doubled(40) + b"q\x070}h\x07Ns.", "as key"),
        "doubled key, APPENDS": (b"\x80\x02}" + _doubled(40) + b"(eNs.", "as key"),
        "doubled key, SETITEMS": (b"\x80\x02}" + _doubled(40) + b"(uNs.", "as key"),
        "doubled key, ADDITEMS": (b"\x80\x04}" + _doubled(40) + b"(\x90Ns.", "as key"),
        "doubled key, BUILD": (b"\x80\x02}" + _doubled(40) + b"NbNs.", "as key"),
        "doubled key, id": (b"\x80\x02}" + _doubled(40) + b"QNs.", "as key"),
        "doubled key of an ordered dict": (
            b"\x80\x02" + raw_global("collections", "OrderedDict") + b")R" + _doubled(40)
            + b"Ns.",
            "as key",
        ),
        "doubled key in arguments": (
            b"\x80\x02" + raw_global("collections", "OrderedDict") + b"](" + _doubled(40)
            + b"N\x86e\x85R.",
            "nested",
        ),
        "doubled member in arguments": (
            b"\x80\x02" + raw_global("builtins", "set") + b"](" + _doubled(40) + b"e\x85R.",
            "nested",
        ),
        "doubled codec": (
            b"\x80\x02" + raw_global("_codecs", "encode") + text("aa") + ball + b"\x86R.",
            "a list where text is expected",
        ),
        "keys of one hash": (
            b"\x80\x02}(" + b"".join(
                b"\x8a\x10" + (number * (2**61 - 1)).to_bytes(16, "little") + b"N"
                for number in range(9, 20_009)
            ) + b"u.",
            "as key",
        ),
        # nothing changes the classes that stand for names
        "state of a name": (
            b"\x80\x02" + raw_global("chumpy.ch", "Ch") + b"N}" + text("state") + text("x")
            + b"s\x86b.",
            "TypeError",
        ),
        "item of a name": (b"\x80\x02" + raw_global("numpy", "ndarray") + b"NNs.", "TypeError"),
        "item of an instance": (
            b"\x80\x02" + raw_global("chumpy.ch", "Ch") + b")\x81NNs.", "TypeError",
        ),
        "call of an instance": (
            b"\x80\x02" + raw_global("chumpy.ch", "Ch") + b")\x81)R.", "not callable",
        ),
        "module that speaks when imported": (b"\x80\x02cthis\ns\n.", "this.s"),
    }  # fmt: skip
    return cases


def _sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def _doubled(levels: int) -> bytes:
    """A tuple of two equal tuples of two equal tuples ..."""
    return b")" + b"q\x630h\x63h\x63\x86" * levels


def _tensor(stored: bytes) -> bytes:
    """A tensor of two numbers whose storage is the file ``stored``."""
    start = b"\x80\x02" + raw_global("torch._utils", "_rebuild_tensor_v2") + b"("
    start += raw_global("torch.storage", "_load_from_bytes") + b"B" + _sized(stored) + b"\x85R"
    return start + b"K\x00K\x02\x85K\x01\x85\x89NtR."


def _saved(value, new: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=new)
    return stream.getvalue()


def _giant_storage() -> bytes:
    data = _saved(torch.arange(1234.0)._typed_storage(), False)
    assert data.count(b"M\xd2\x04N") == 1
    return data.replace(b"M\xd2\x04N", b"\x8a\x06\x00\x00\x00\x00\x00\x01N")


NAMES = sorted(hostile(Path("sentinel")))
CLASSES = {cls: dict(vars(cls)) for cls in (Inert, *ALLOWED.values())}


def test_enough_attacks():
    assert len(NAMES) >= 90


@pytest.mark.parametrize("name", NAMES)
def test_hostile_files_are_refused_and_nothing_runs(tmp_path, name):
    sentinel = tmp_path / "sentinel"
    data, word = hostile(sentinel)[name]
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    with pytest.raises(PickleRefused) as error:
        read_pickle(path)
    assert str(path) in str(error.value) and word in str(error.value)
    assert len(str(error.value)) < 600
    assert not sentinel.exists() and "this" not in sys.modules
    assert all(vars(cls) == before for cls, before in CLASSES.items())
    # the same bytes inside an .npy of objects
    stored = tmp_path / "landmarks.npy"
    np.save(stored, np.array({}, object), allow_pickle=True)
    header = stored.read_bytes()[:128]
    stored.write_bytes(header + data)
    with pytest.raises(PickleRefused, match="landmarks.npy"):
        read_npy_object(stored)
    assert not sentinel.exists()


def test_some_of_the_attacks_are_real(tmp_path):
    # what the reader refuses does run under Python's own unpickler
    sentinel = tmp_path / "sentinel"
    pickle.loads(hostile(sentinel)["posix.system"][0])
    assert sentinel.exists()


class Chumpy:
    def __init__(self, x):
        self.__dict__.update(x=x, _dirty_vars=set(), _itr=None, _depends_on_deps={})


class Sparse:
    def __init__(self, dense, old):
        from scipy.sparse import csc_matrix

        held = csc_matrix(dense)
        self.__dict__.update(data=held.data, indices=held.indices, indptr=held.indptr)
        self.__dict__["shape" if old else "_shape"] = held.shape


for _class, _module, _name in (
    (Chumpy, "chumpy.ch", "Ch"),
    (Sparse, "scipy.sparse.csc", "csc_matrix"),
):
    _class.wire = (_module, _name)


def dump_as_upstream(value, protocol: int) -> bytes:
    """Pickle with our stand-ins written under the names they stand for."""
    data = pickle.dumps(value, protocol)
    for cls in (Chumpy, Sparse):
        module, name = cls.wire
        ours = f"{cls.__module__}\n{cls.__name__}\n".encode()
        data = data.replace(b"c" + ours, raw_global(module, name))
    return data


@pytest.mark.parametrize("protocol", [0, 1, 2])
@pytest.mark.parametrize("old", [False, True])
def test_arrays_chumpy_and_sparse_come_out_plain(tmp_path, protocol, old):
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((5, 9)) < 0.4, rng.random((5, 9)), 0)
    content = {
        "x": rng.normal(size=(3, 4)),
        "fortran": np.asfortranarray(rng.normal(size=(3, 4))),
        "big": np.arange(6, dtype=">i4").reshape(2, 3),
        "flag": np.array([True, False]),
        "scalar": np.float64(2.5),
        "word": "lbs",
        "list": [1, (2, None), -3.5, True],
        "set": {1, 2},
        "ordered": collections.OrderedDict([("a", 1), ("b", np.zeros(2))]),
        "chumpy": Chumpy(rng.normal(size=(2, 3))),
        "sparse": Sparse(dense, old),
    }
    path = tmp_path / "m.pkl"
    path.write_bytes(dump_as_upstream(content, protocol))
    found = read_pickle(path)
    for name in ("x", "fortran", "big", "flag"):
        assert (found[name] == content[name]).all() and found[name].flags.writeable
        assert found[name].dtype == content[name].dtype.newbyteorder("=")
    assert found["scalar"] == 2.5 and found["word"] == "lbs" and found["set"] == {1, 2}
    assert found["list"] == [1, (2, None), -3.5, True]
    assert list(found["ordered"]) == ["a", "b"]
    assert (found["chumpy"] == content["chumpy"].x).all()
    assert np.array_equal(found["sparse"], dense)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_python_3_is_read(tmp_path, monkeypatch, protocol):
    from scipy.sparse import csc_matrix

    chumpy = types.ModuleType("chumpy.ch")
    chumpy.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    for name in ("chumpy", "chumpy.ch"):
        monkeypatch.setitem(sys.modules, name, chumpy)
    held = chumpy.Ch()
    held.__dict__.update(x=np.ones((2, 3)), _dirty_vars={"x"}, _itr=None)
    arrays = {
        "floats": np.linspace(0, 1, 6).reshape(2, 3),
        "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "swapped": np.arange(3, dtype=">i4"),
        "part": np.arange(9)[::2],
        "empty": np.zeros((0, 3)),
        "names": np.array(["a", "bc"]),
        "objects": np.array([1, "b", None], object),
    }
    value = {
        "numbers": [0, -1, 255, 256, 70_000, -70_000, 1 << 70, -(1 << 70), 0.1, -2.5, math.inf],
        "constants": (None, True, False),
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "text": ["", "ä\nb\\", "\U0001f441", "x" * 300],
        "bytes": [b"a\0b", b"y" * 300],
        "empty": [[], {}],
        "sets": [set(), {1, "a", None}],
        7: {"inner": [{}], 2.5: 1, None: 2, b"key": 3, True: 4},
        "scalar": np.float32(1.5),
    }
    value["again"] = value["text"]
    path = tmp_path / "m.pkl"
    content = {**value, "arrays": arrays, "ch": held, "csc": csc_matrix(np.eye(3))}
    path.write_bytes(pickle.dumps(content, protocol))
    found = read_pickle(path)
    for name, array in found.pop("arrays").items():
        assert np.array_equal(array, arrays[name]) and array.dtype.kind == arrays[name].dtype.kind
        assert array.flags.writeable and array.dtype.isnative
    assert (found.pop("ch") == np.ones((2, 3))).all() and (found.pop("csc") == np.eye(3)).all()
    assert found == value
    assert [type(part) for part in found["constants"]] == [type(None), bool, bool]


@pytest.mark.parametrize("protocol", [4, 5])
def test_frozen_sets_are_read(tmp_path, protocol):
    path = tmp_path / "m.pkl"
    value = {"a": frozenset({2.5, b"b"}), "b": frozenset()}
    path.write_bytes(pickle.dumps(value, protocol))
    assert read_pickle(path) == value


def test_extension_codes_of_the_process_are_not_reached(tmp_path):
    copyreg.add_extension("posix", "system", 0x77)
    try:
        pickle.loads(b"\x80\x02\x82\x77.")  # now Python's own cache of codes knows it
        path = tmp_path / "m.pkl"
        path.write_bytes(b"\x80\x02\x82\x77" + text(f"touch {tmp_path}/sentinel") + b"\x85R.")
        with pytest.raises(PickleRefused, match="EXT1"):
            read_pickle(path)
    finally:
        copyreg.remove_extension("posix", "system", 0x77)
    assert not (tmp_path / "sentinel").exists()


def test_one_storage_named_again_and_again_is_bounded(tmp_path):
    stored = _tensor(_saved(torch.arange(2.0)._typed_storage(), False))[2:-1]
    path = tmp_path / "m.pkl"
    path.write_bytes(b"\x80\x02}" + text("a") + b"](" + stored + b"q\x09" + b"h\x09" * 60 + b"es.")
    assert len(read_pickle(path)["a"]) == 61
    path.write_bytes(
        b"\x80\x02}" + text("a") + b"](" + stored + b"q\x09" + b"h\x09" * 9000 + b"es."
    )
    with pytest.raises(PickleRefused, match="far more than its own size"):
        read_pickle(path)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_tensors_come_back_as_arrays(tmp_path, protocol):
    base = torch.arange(24.0).view(4, 6)
    content = {
        "plain": base,
        "turned": base.T,
        "part": base[1:3, ::2],
        "rows": torch.arange(5),
        "empty": torch.zeros(0, 3),
        "half": torch.ones(2, dtype=torch.float16),
    }
    path = tmp_path / "t.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    found = read_pickle(path)
    for name, tensor in content.items():
        assert np.array_equal(found[name], tensor.numpy()), name
    path.write_bytes(pickle.dumps(base))
    assert np.array_equal(read_pickle(path, expected=np.ndarray), base.numpy())


def test_tensors_beyond_their_storage_are_refused(tmp_path):
    from torch._utils import _rebuild_tensor_v2

    storage = torch.arange(6.0)._typed_storage()
    path = tmp_path / "t.pkl"
    for offset, shape, strides in ((0, (7,), (1,)), (5, (2,), (1,)), (0, (1 << 35,), (0,))):
        forged = Calls(
            _rebuild_tensor_v2, storage, offset, shape, strides, False, collections.OrderedDict()
        )
        path.write_bytes(pickle.dumps(forged, 2))
        with pytest.raises(PickleRefused, match="storage of 6"):
            read_pickle(path, expected=np.ndarray)


@pytest.mark.parametrize(
    "change", [{"indptr": [0, 2]}, {"indices": [9]}, {"data": [1.0, 2.0]}, {"_shape": (1 << 30, 1)}]
)
def test_sparse_parts_must_fit(tmp_path, change):
    sparse = Sparse(np.array([[1.0]]), False)
    for name, value in change.items():
        sparse.__dict__[name] = value if name == "_shape" else np.array(value)
    path = tmp_path / "s.pkl"
    path.write_bytes(dump_as_upstream({"s": sparse}, 2))
    with pytest.raises(PickleRefused, match="csc_matrix|more than its own size"):
        read_pickle(path)


def test_naming_the_same_bytes_again_is_bounded(tmp_path):
    # one text of a megabyte, remembered, and hundreds of arrays of it
    text_of = b"T" + struct.pack("<i", 1 << 20) + b"a" * (1 << 20) + b"q\x00"
    kind = text("u1")
    one = array_pickle(b"J\x00\x00\x10\x00\x85", kind, b"h\x00")
    path = tmp_path / "m.pkl"
    path.write_bytes(b"\x80\x02}" + text("a") + b"]" + b"(" + text_of + one * 300 + b"es.")
    with pytest.raises(PickleRefused, match="far more than its own size"):
        read_pickle(path)
    path.write_bytes(b"\x80\x02}" + text("a") + b"]" + b"(" + text_of + one * 3 + b"es.")
    assert len(read_pickle(path)["a"]) == 4
    many = (
        b"]("
        + b"K\x01" * 100_000
        + b"eq\x01"
        + b"0("
        + (raw_global("builtins", "set") + b"h\x01\x85R") * 100
        + b"l"
    )
    path.write_bytes(b"\x80\x02}" + text("a") + many + b"s.")
    with pytest.raises(PickleRefused, match="far more than its own size"):
        read_pickle(path)


def test_files_of_objects(tmp_path):
    path = tmp_path / "o.npy"
    np.save(path, np.array({"a": np.arange(3), "t": torch.ones(2)}, object), allow_pickle=True)
    found = read_npy_object(path)
    assert found["a"].tolist() == [0, 1, 2] and found["t"].tolist() == [1, 1]
    np.save(path, np.zeros(3))
    with pytest.raises(PickleRefused, match="0-d object array, found shape"):
        read_npy_object(path)
    np.save(path, np.array([1, 2], object), allow_pickle=True)
    with pytest.raises(PickleRefused, match=r"found shape \(2,\)"):
        read_npy_object(path)
    path.write_bytes(b"\x93NUMPY\x01\x00\x20\x00{'descr': __import__('os'), 'x':1}\n")
    with pytest.raises(PickleRefused, match="o.npy"):
        read_npy_object(path)
    path.write_bytes(b"no array")
    with pytest.raises(PickleRefused, match="not an .npy file"):
        read_npy_object(path)


def test_files_too_large_are_not_read(tmp_path):
    path = tmp_path / "m.pkl"
    with open(path, "wb") as stream:
        stream.truncate(1 << 32)
    with pytest.raises(PickleRefused, match="expected at most"):
        read_pickle(path)


def test_every_truncation_is_refused(tmp_path):
    whole = dump_as_upstream({"a": np.arange(4.0), "c": Chumpy(np.ones(2)), "b": "x"}, 2)
    path = tmp_path / "m.pkl"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(PickleRefused):
            read_pickle(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_never_raises_anything_else(tmp_path_factory, data):
    whole = bytearray(
        dump_as_upstream({"a": np.arange(4.0), "c": Chumpy(np.ones(2)), "t": torch.ones(3)}, 2)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(whole) - 1))
        whole[where] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(bytes(whole))
    try:
        found = read_pickle(path)
    except PickleRefused:
        return
    assert isinstance(found, dict)
