"""What the allow-listed names of a pickle make, and why their arguments are refused."""

import io
import pickle
import re
import struct

import numpy as np
import pytest
import torch

from regaze.face3d.pickles import PickleRefused, read_npy_object, read_pickle

NDARRAY, DTYPE = b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"
BARE_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n" + NDARRAY + b"K\x00\x85U\x01b\x87R"
F8 = DTYPE + b"U\x02f8\x85R"
CHUMPY = b"cchumpy.ch\nCh\n)\x81"
SPARSE = b"cscipy.sparse.csc\ncsc_matrix\n)\x81"
STORED = b"ctorch.storage\n_load_from_bytes\n"


def call(name: str, *arguments: bytes) -> bytes:
    """A call of ``module.name`` with arguments that are given as operations."""
    module, _, last = name.rpartition(".")
    return f"c{module}\n{last}\n(".encode() + b"".join(arguments) + b"tR"


def array_state(*parts: bytes) -> bytes:
    return BARE_ARRAY + b"(" + b"".join(parts) + b"tb"


def bare(dtype: bytes) -> bytes:
    """An array without entries."""
    return array_state(b"K\x01", b"K\x00\x85", dtype, b"\x89", b"U\x00")


def storage(raw: bytes) -> bytes:
    """A tensor's storage as torch pickles it: bytes in its old file format."""
    return STORED + b"B" + struct.pack("<I", len(raw)) + raw + b"\x85R"


def stored(raw: bytes) -> bytes:
    """A tensor of two numbers in such a storage."""
    return tensor(storage(raw), *REST_OF_SIX)


def saved(tensor: torch.Tensor) -> bytes:
    stream = io.BytesIO()
    torch.save(tensor._typed_storage(), stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def changed(old: bytes, new: bytes) -> bytes:
    raw = saved(torch.arange(1234.0))
    assert raw.count(old) == 1
    return raw.replace(old, new)


def tensor(*arguments: bytes) -> bytes:
    return call("torch._utils._rebuild_tensor_v2", *arguments)


STORAGE = storage(saved(torch.arange(6.0)))
REST = (b"\x89", b"N")  # whether it requires gradients, and its hooks
REST_OF_SIX = (b"K\x00", b"K\x02\x85", b"K\x01\x85", *REST)
THING = b"cchumpy.ch\nCh\n"

REFUSED = {
    "array from a short state": (array_state(b"K\x01", b")", F8), "expected 5, got 3"),
    "array without a dtype": (
        array_state(b"K\x01", b")", b"N", b"\x89", b"U\x00"), "an array without a dtype",
    ),
    "array from a number": (
        array_state(b"K\x01", b")", F8, b"\x89", b"K\x08"), "a int where bytes are expected",
    ),
    "array of two dtypes": (
        array_state(b"K\x01", b"K\x01\x85", F8, b"\x89", b"U\x02ab"), "needs 8 bytes, found 2",
    ),
    "scalar of other bytes": (
        call("numpy.core.multiarray.scalar", F8, b"U\x02ab"), "float64 needs 8 bytes, found 2",
    ),
    "buffer of other bytes": (
        call("numpy._core.numeric._frombuffer", b"C\x02ab", F8, b"K\x01\x85", b"U\x01C"),
        "shape (1,) of float64 needs 8 bytes, found 2",
    ),
    "dtype with fields": (
        bare(F8 + b"(K\x03U\x01|N(U\x01atNtb"), "a dtype with fields is not allowed",
    ),
    "dtype with a short state": (
        bare(F8 + b"(K\x03U\x01<tb"), "a dtype with fields is not allowed",
    ),
    "dtype in a strange order": (
        bare(F8 + b"(K\x03U\x01!NNNtb"), "a dtype with an unknown byte order",
    ),
    "dtype as a value": (F8, "a numpy.dtype stands where a value is expected"),
    "ordered dict of a dict": (call("collections.OrderedDict", b"}U\x03abcNs"), "unpack"),
    "ordered dict of triples": (
        call("collections.OrderedDict", b"](K\x01K\x02K\x03\x87e"), "too many values to unpack",
    ),
    "ordered dict with a list as key": (
        call("collections.OrderedDict", b"](]K\x02\x86e"), "a list as key or set member",
    ),
    "set of tuples": (call("builtins.set", b"]()e"), "a tuple as key or set member"),
    "set of nothing": (call("builtins.set"), "IndexError"),
    "chumpy with a list as state": (CHUMPY + b"]b", "the state of a chumpy.ch.Ch is no dict"),
    "chumpy without its array": (CHUMPY + b"}b", "a chumpy.Ch object whose 'x' is no array"),
    "chumpy of a number": (
        CHUMPY + b"}U\x01xK\x01sb", "a chumpy.Ch object whose 'x' is no array",
    ),
    "sparse without its parts": (
        SPARSE + b"}U\x06_shapeK\x01K\x01\x86sb", "a csc_matrix without data, indices, indptr",
    ),
    "sparse without a shape": (SPARSE + b"}b", "sizes that are no counts"),
    "sparse of one dimension": (SPARSE + b"}U\x06_shapeK\x01\x85sb", "a csc_matrix of shape (1,)"),
    "tensor of three arguments": (
        tensor(STORAGE, b"K\x00", b")"), "missing 1 required positional argument",
    ),
    "tensor of a list": (
        tensor(b"]", b"K\x00", b")", b")", *REST), "_rebuild_tensor_v2 of no stored tensor",
    ),
    "tensor at a negative offset": (
        tensor(STORAGE, b"J\xff\xff\xff\xff", b"K\x02\x85", b"K\x01\x85", *REST),
        "sizes that are no counts",
    ),
    "tensor with a list of sizes": (
        tensor(STORAGE, b"K\x00", b"]", b")", *REST), "sizes that are no counts",
    ),
    "tensor without its strides": (
        tensor(STORAGE, b"K\x00", b"K\x02K\x03\x86", b"K\x03\x85", *REST), "ValueError: zip()",
    ),
    "storage as a value": (
        STORAGE, "a torch.storage._load_from_bytes stands where a value is expected",
    ),
    "storage of a number": (
        tensor(call("torch.storage._load_from_bytes", b"K\x01"), *REST_OF_SIX),
        "a int where bytes are expected",
    ),
    "storage that is no storage": (
        stored(changed(b"Q.", b"Q\x85.")), "a stored tensor with an unknown header",
    ),
    "storage that calls": (
        stored(b"ctorch\nFloatStorage\n)R."), "expected another operation",
    ),
    "storage of text": (stored(b"U\x01aQ." * 5), "a stored tensor with an unknown header"),
    "storage of no known kind": (
        stored(changed(b"ctorch\nFloatStorage\n", b"U\x01a")),
        "a stored tensor with an unknown header",
    ),
    "storage of another name": (
        stored(changed(b"ctorch\nFloatStorage\n", b"cnumpy\nndarray\n")),
        "a stored tensor with an unknown header",
    ),
    "storage that is a view": (
        stored(changed(b"M\xd2\x04N", b"M\xd2\x04)")), "a stored tensor with an unknown header",
    ),
    "storage with a negative count": (
        stored(changed(b"M\xd2\x04N", b"J\xff\xff\xff\xffN")),
        "a stored tensor with an unknown header",
    ),
    "storage of another version": (
        stored(changed(b"M\xe9\x03.", b"M\xe8\x03.")), "a stored tensor with an unknown header",
    ),
    "storage that is cut off": (stored(saved(torch.arange(6.0))[:-1]), "24 bytes, 23 are there"),
    "storage of bfloat16": (
        stored(saved(torch.ones(2, dtype=torch.bfloat16))),
        "the name 'torch.BFloat16Storage' is not in the allow-list",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_the_refusal_names_file_and_reason(tmp_path, name):
    operations, message = REFUSED[name]
    path = tmp_path / "model.pkl"
    path.write_bytes(operations + b".")
    with pytest.raises(PickleRefused, match=rf"model\.pkl: refused: .*{re.escape(message)}"):
        read_pickle(path, expected=object)


@pytest.mark.parametrize(
    "operations",
    [
        b"}Na", THING + b"(Ne", b"]NNs", b"}(K\x01u", b"(K\x01d", b"](K\x01\x90", b"\x8f(]\x90",
        b"()\x91", b"2", b"(2", b"N(\x85", b"Nt", b"T\xff\xff\xff\xff", b"Fone\n", b"Ione\n",
        b"Sab\n", b"S'ab\"\n", b"S'\n", b"S'\\x1'\n", b"S'ab'", b"V\\u12\n", b"\x8c\x01\xff",
        b"\x8c\x04someK\x01\x93", b"N\x8c\x05thing\x93", THING + b"]R", b"U\x01a)\x81",
        b"h", b"N" + b"(" * 300, b"1",
    ],
)  # fmt: skip
def test_operations_that_make_no_sense_are_refused(tmp_path, operations):
    path = tmp_path / "model.pkl"
    path.write_bytes(operations + b".")
    with pytest.raises(PickleRefused, match=r"model\.pkl: refused: "):
        read_pickle(path, expected=object)


FLOATS = np.array([1.5, -2.0])


@pytest.mark.parametrize(
    "operations, value",
    [
        pytest.param(
            call("collections.OrderedDict", b"](](U\x01bK\x01eU\x01aK\x02\x86e"),
            {"b": 1, "a": 2},
            id="ordered dict of Python 2",
        ),
        pytest.param(call("__builtin__.set", b"](K\x01U\x01ae"), {1, "a"}, id="set of Python 2"),
        pytest.param(
            array_state(b"K\x01", b"K\x02\x85", DTYPE + b"C\x02f8\x85R", b"\x89",
                        b"C\x10" + FLOATS.tobytes()),
            FLOATS,
            id="dtype and content from bytes",
        ),
        pytest.param(
            array_state(b"K\x01", b"K\x02\x85", F8 + b"(K\x03C\x01>NNNtb", b"\x89",
                        b"C\x10" + FLOATS.astype(">f8").tobytes()),
            FLOATS,
            id="byte order from bytes",
        ),
        pytest.param(
            array_state(b"K\x01", b"K\x02\x85", b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR", b"I00\n",
                        b"S'" + FLOATS.tobytes().replace(b"\0", b"\\x00") + b"'\n"),
            FLOATS,
            id="text of Python 2, protocol 0",
        ),
        pytest.param(b"K\x07(0", 7, id="POP of a mark"),
        pytest.param(b"K\x07K\x080", 7, id="POP of a value"),
        pytest.param(b"K\x07(K\x01K\x021", 7, id="POP_MARK"),
        pytest.param(b"K\x07" + b"(0" * 300, 7, id="POP of many marks"),
        pytest.param(b"K\x072\x86", (7, 7), id="DUP"),
        pytest.param(b"K\x07r\x00\x01\x00\x000Nj\x00\x01\x00\x00\x86", (None, 7), id="LONG_BINGET"),
        pytest.param(b"\x8e" + struct.pack("<Q", 2) + b"ab", b"ab", id="BINBYTES8"),
        pytest.param(b"\x8d" + struct.pack("<Q", 2) + b"ab", "ab", id="BINUNICODE8"),
        pytest.param(b"T\x02\x00\x00\x00\xe4b", "äb", id="BINSTRING"),
        pytest.param(b"U\x02\xe4b", "äb", id="SHORT_BINSTRING"),
        pytest.param(b"S'\\xe4\\'b'\n", "ä'b", id="STRING"),
        pytest.param(b"(K\x01K\x02d", {1: 2}, id="DICT"),
        pytest.param(call("builtins.set", b"U\x02ab"), {"a", "b"}, id="set of text"),
        pytest.param(
            CHUMPY + b"}U\x01x" + pickle.dumps(FLOATS, 2)[2:-1] + b"sN\x86b",
            FLOATS,
            id="chumpy with a state of dict and slots",
        ),
        pytest.param(
            tensor(STORED + b"T" + struct.pack("<i", len(raw := saved(torch.arange(4.0)))) + raw
                   + b"\x85R", b"K\x01", b"K\x02\x85", b"K\x02\x85", *REST),
            np.array([1.0, 3.0]),
            id="storage from the text of Python 2",
        ),
    ],
)  # fmt: skip
def test_forms_that_other_writers_use(tmp_path, operations, value):
    path = tmp_path / "model.pkl"
    path.write_bytes(operations + b".")
    found = read_pickle(path, expected=type(value))
    np.testing.assert_array_equal(found, value)
    if isinstance(value, dict):
        assert list(found) == list(value)


def test_an_array_file_of_a_later_version_is_refused(tmp_path):
    path = tmp_path / "landmarks.npy"
    np.save(path, np.array({}, object), allow_pickle=True)
    data = path.read_bytes()
    path.write_bytes(data[:6] + b"\x03" + data[7:])
    with pytest.raises(PickleRefused, match=r"landmarks\.npy: .*\(3, 0\), expected 1\.0 or 2\.0"):
        read_npy_object(path)


@pytest.mark.parametrize("content", [b"}.", pickle.dumps(np.zeros(1, object), 2)])
def test_the_stored_object_must_be_what_the_header_says(tmp_path, content):
    path = tmp_path / "landmarks.npy"
    np.save(path, np.array({}, object), allow_pickle=True)
    path.write_bytes(path.read_bytes()[:128] + content)
    with pytest.raises(PickleRefused, match=r"landmarks\.npy: .* no 0-d object array"):
        read_npy_object(path)
