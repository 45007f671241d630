"""Read users' pickled model files without unpickling: FLAME models, landmark files, old tensors.

The files are dictionaries of arrays, written by Python 2 (text decoded as latin1), in which some
arrays are wrapped in ``chumpy`` objects, SciPy's sparse matrices or torch tensors. This reader
knows those wrappers by name and takes their arrays out; every other name in a file is refused,
so that a file can only ever become data. See :mod:`regaze.face3d.pickle_machine`.

Values come back as Python scalars, text, lists, tuples, dicts, sets and NumPy arrays: ``chumpy``
objects as the array they hold, sparse matrices dense, tensors as arrays on the CPU.
"""

from __future__ import annotations

import io
import math
import os
import re
from pathlib import Path

import numpy as np

from regaze.face3d.pickle_machine import Built, Machine, Name, PickleRefused
from regaze.filetypes import damage, file_type

__all__ = ["PickleRefused", "read_npy_object", "read_pickle"]

MAX_BYTES = 1 << 29
MAX_DEPTH = 32
MAX_VALUES = 200_000
MAX_DENSE = 1 << 24
SPARE_BYTES = 64 << 20
"""Bytes of arrays and containers that a file may become beyond four times its own size."""

_ARRAY, _SCALAR, _TYPE, _CLASS = "_reconstruct", "scalar", "dtype", "ndarray"
_CHUMPY, _SPARSE, _OBJECT = "chumpy.Ch", "csc_matrix", "object"
_TENSOR, _STORAGE = "_rebuild_tensor_v2", "_load_from_bytes"
ALLOWED = {
    "numpy.core.multiarray._reconstruct": _ARRAY,
    "numpy._core.multiarray._reconstruct": _ARRAY,
    "numpy.core.multiarray.scalar": _SCALAR,
    "numpy._core.multiarray.scalar": _SCALAR,
    "numpy.ndarray": _CLASS,
    "numpy.dtype": _TYPE,
    "collections.OrderedDict": "OrderedDict",
    "__builtin__.set": "set",
    "builtins.set": "set",
    "__builtin__.object": _OBJECT,
    "builtins.object": _OBJECT,
    "copy_reg._reconstructor": "_reconstructor",
    "copyreg._reconstructor": "_reconstructor",
    "_codecs.encode": "encode",
    "chumpy.ch.Ch": _CHUMPY,
    "scipy.sparse.csc.csc_matrix": _SPARSE,
    "scipy.sparse._csc.csc_matrix": _SPARSE,
    "torch._utils._rebuild_tensor_v2": _TENSOR,
    "torch.storage._load_from_bytes": _STORAGE,
}
"""Every name that may occur in a file, and the word this module knows it by."""

_SPARSE_KEYS = ("data", "indices", "indptr")


def read_pickle(path: str | os.PathLike, *, expected: type = dict, max_bytes: int = MAX_BYTES):
    """Read a pickled file of arrays safely.

    Args:
        path: the file.
        expected: type of the top value; ``numpy.ndarray`` for a pickled array or tensor.
        max_bytes: largest file taken.

    Raises:
        PickleRefused: the file holds something outside the allow-list, is damaged, too large or
            too deep, or its top value has another type; the message names file and reason.
        OSError: the file cannot be read.
    """
    data = _read(path, max_bytes)
    return _refusing(path, lambda: _typed(_Reader(data).value(), expected))


def read_npy_object(path: str | os.PathLike, *, expected: type = dict, max_bytes: int = MAX_BYTES):
    """Read a 0-d object array as ``numpy.save`` writes for a dict, safely; returns the object.

    Arguments and errors are those of :func:`read_pickle`.
    """
    data = _read(path, max_bytes)

    def parse():
        stream = io.BytesIO(data)
        try:
            version = np.lib.format.read_magic(stream)
            reader = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if reader is None:
                raise PickleRefused(f".npy version {version}, expected 1.0 or 2.0")
            shape, _, kind = reader(stream)
        except PickleRefused:
            raise
        except Exception:  # NumPy parses the header as Python text: many kinds
            raise PickleRefused("not an .npy file (its header is damaged)") from None
        if shape != () or kind != np.dtype("O"):
            raise PickleRefused(f"expected a 0-d object array, found shape {shape} of {kind}")
        value = _Reader(data, stream.tell()).value()
        if not isinstance(value, np.ndarray) or value.dtype != object or value.shape != ():
            raise PickleRefused("the stored object is no 0-d object array")
        return _typed(value.item(), expected)

    return _refusing(path, parse)


def _read(path: str | os.PathLike, max_bytes: int) -> bytes:
    size = os.stat(path).st_size
    if size > max_bytes:
        raise PickleRefused(f"{path}: {size} bytes, expected at most {max_bytes}")
    return Path(path).read_bytes()


def _refusing(path, parse):
    try:
        return parse()
    except PickleRefused as error:
        found = file_type(path)
        lead = f"{found.words}, " if found.remedy else ""
        raise PickleRefused(f"{path}: {lead}refused: {error}{found.remedy}") from None
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        # sizes that pass the checks but that NumPy cannot make, such as (0, 2**39, 2**39)
        raise PickleRefused(f"{path}: refused: damaged ({error})") from None


def _typed(value, expected: type):
    if not isinstance(value, expected):
        raise PickleRefused(
            f"the top value is a {type(value).__name__}, expected a {expected.__name__}"
        )
    return value


class _Reader:
    """One file's interpreter and what is left of the memory it may ask for.

    A text or an array of the file can be named again and again; every array made of it counts.
    """

    def __init__(self, data: bytes, start: int = 0):
        self.left = 4 * len(data) + SPARE_BYTES
        self.machine = Machine(data, ALLOWED, self._reduce, self._build, start=start)

    def value(self):
        return _plain(self.machine.run(), self.spend)

    def spend(self, count: int) -> None:
        """Count bytes before they are allocated."""
        self.left -= count
        if self.left < 0:
            raise PickleRefused("the file becomes far more than its own size")

    def _reduce(self, name: str, arguments: tuple):
        maker = _MAKERS.get(name)
        if maker is None:
            raise PickleRefused(f"the name {name!r} cannot be called")
        self.spend(sum(_weight(argument) for argument in arguments))
        return maker(arguments)

    def _build(self, built: Built, state) -> None:
        if type(state) is tuple:
            self.spend(sum(_weight(part) for part in state))
        _build(built, state)


def _weight(value) -> int:
    """About how many bytes a maker allocates for an argument."""
    if type(value) in (str, bytes):
        return len(value)
    if type(value) in (list, dict):
        return 64 * len(value)
    if type(value) is Built and isinstance(value.value, np.ndarray):
        return value.value.nbytes
    return 0


# --- what the allow-listed names make


def _make_array(arguments):
    first, shape, code = _exactly(arguments, 3, _ARRAY)
    if type(first) is not Name or first.text != _CLASS:
        raise PickleRefused("_reconstruct of something other than numpy.ndarray")
    if shape != (0,) or code not in ("b", b"b"):
        raise PickleRefused("_reconstruct with arguments that numpy does not write")
    return Built("array")


def _make_type(arguments):
    code = arguments[0] if arguments else None
    plain = all(type(extra) in (int, bool) for extra in arguments[1:]) and len(arguments) <= 3
    if isinstance(code, bytes):
        code = code.decode("latin-1")
    if not isinstance(code, str) or not plain:
        raise PickleRefused("a dtype with arguments that numpy does not write")
    if re.fullmatch(r"[|=<>]?O[48]?", code):
        return Built(_TYPE, np.dtype(object))
    if not re.fullmatch(r"[|=<>]?(b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,6})", code):
        raise PickleRefused(f"the dtype {code[:40]!r} is not allowed")
    return Built(_TYPE, np.dtype(code))


def _make_scalar(arguments):
    kind, raw = _exactly(arguments, 2, _SCALAR)
    kind, raw = _dtype(kind), _raw(raw)
    if kind.hasobject or len(raw) != kind.itemsize:
        raise PickleRefused(f"a NumPy scalar of {kind} from {len(raw)} bytes")
    return np.frombuffer(raw, kind)[0].item()


def _make_dict(arguments):
    if arguments == ():
        return {}
    (pairs,) = _exactly(arguments, 1, "OrderedDict")
    if type(pairs) is not list:
        raise PickleRefused("an OrderedDict of something other than a list of pairs")
    out = {}
    for pair in pairs:
        if type(pair) not in (list, tuple) or len(pair) != 2 or not _is_key(pair[0]):
            raise PickleRefused("an OrderedDict of something other than a list of pairs")
        out[pair[0]] = pair[1]
    return out


def _make_set(arguments):
    (values,) = _exactly(arguments, 1, "set")
    if type(values) not in (list, tuple) or not all(map(_is_key, values)):
        raise PickleRefused("a set of something other than a list of text and numbers")
    return set(values)


def _make_instance(arguments):
    kind, base, state = _exactly(arguments, 3, "_reconstructor")
    if type(base) is not Name or base.text != _OBJECT or state is not None:
        raise PickleRefused("_reconstructor with a base other than object")
    if type(kind) is not Name or kind.text not in (_CHUMPY, _SPARSE):
        word = kind.text if type(kind) is Name else type(kind).__name__
        raise PickleRefused(f"_reconstructor of {word!r}, expected {_CHUMPY} or {_SPARSE}")
    return Built(kind.text)


def _make_bytes(arguments):
    text, codec = _exactly(arguments, 2, "_codecs.encode")
    if type(text) is not str or codec not in ("latin1", "latin-1"):
        raise PickleRefused(f"_codecs.encode with the codec {str(codec)[:40]!r}, expected latin1")
    return _latin1(text)


def _make_tensor(arguments):
    """A tensor as a NumPy array, after checking that it lies within its storage."""
    if len(arguments) not in (6, 7):
        raise PickleRefused(f"{_TENSOR} with {len(arguments)} arguments")
    storage, offset, shape, strides = arguments[:4]
    if type(storage) is not Built or storage.kind != _STORAGE:
        raise PickleRefused(f"{_TENSOR} of something other than a stored tensor")
    values = storage.value
    if not (_is_sizes((offset,)) and _is_sizes(shape) and _is_sizes(strides)):
        raise PickleRefused(f"{_TENSOR} with sizes that are no counts")
    if len(shape) != len(strides):
        raise PickleRefused(f"{_TENSOR} with {len(shape)} sizes and {len(strides)} strides")
    count = math.prod(shape)
    reach = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1
    if count and (reach > values.size or count > values.size):
        raise PickleRefused(
            f"a tensor of shape {shape} reaches entry {reach} of a storage of {values.size}"
        )
    if not count:
        return np.zeros(shape, values.dtype)
    steps = [s * values.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(values[offset:], shape, steps).copy()


def _make_storage(arguments):
    (raw,) = _exactly(arguments, 1, _STORAGE)
    raw = _raw(raw)
    _check_storage(raw)
    import torch

    try:
        storage = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch finds wrong, the file is refused
        raise PickleRefused(f"a stored tensor that torch does not load: {damage(error)}") from None
    if not isinstance(storage, torch.storage.TypedStorage):
        raise PickleRefused(f"a stored tensor is a {type(storage).__name__}, expected a storage")
    flat = torch.tensor([], dtype=storage.dtype).set_(storage)
    return Built(_STORAGE, flat.numpy().copy(), ready=True)


def _no_call(name: str, arguments: tuple):
    raise PickleRefused(f"the name {name!r} cannot be called in a stored tensor")


_BYTES_PER_ENTRY = {
    "torch.DoubleStorage": 8, "torch.FloatStorage": 4, "torch.HalfStorage": 2,
    "torch.LongStorage": 8, "torch.IntStorage": 4, "torch.ShortStorage": 2,
    "torch.CharStorage": 1, "torch.ByteStorage": 1, "torch.BoolStorage": 1,
}  # fmt: skip


def _check_storage(raw: bytes) -> None:
    """Check the size that torch's old storage format announces against the bytes at hand.

    torch allocates what the header says before it reads. The format is a row of pickles (magic
    number, version, system, the storage as a persistent id, its keys) followed by the numbers.
    """
    names = {f"torch.cuda.{n[6:]}": n for n in _BYTES_PER_ENTRY} | {n: n for n in _BYTES_PER_ENTRY}
    position, found = 0, []

    def persistent(entry):
        if not isinstance(entry, tuple) or len(entry) < 5 or type(entry[1]) is not Name:
            raise PickleRefused("a stored tensor with an unknown header")
        count = entry[4]
        if type(count) is not int or count < 0:
            raise PickleRefused("a stored tensor with an unknown header")
        found.append(count * _BYTES_PER_ENTRY[entry[1].text])
        return None

    for _ in range(5):
        machine = Machine(raw, names, _no_call, _build, persistent, position)
        machine.run()
        position = machine.position
    if len(found) != 1 or found[0] > len(raw) - position:
        raise PickleRefused(
            f"a stored tensor announces {sum(found)} bytes, {len(raw) - position} are there"
        )


_MAKERS = {
    _ARRAY: _make_array,
    _TYPE: _make_type,
    _SCALAR: _make_scalar,
    "OrderedDict": _make_dict,
    "set": _make_set,
    "_reconstructor": _make_instance,
    "encode": _make_bytes,
    _TENSOR: _make_tensor,
    _STORAGE: _make_storage,
    _CHUMPY: lambda arguments: Built(_CHUMPY, _exactly(arguments, 0, _CHUMPY)),
    _SPARSE: lambda arguments: Built(_SPARSE, _exactly(arguments, 0, _SPARSE)),
}


# --- states


def _build(built: Built, state) -> None:
    if built.kind == "array":
        built.value, built.ready = _array(state), True
    elif built.kind == _TYPE:
        built.value = _ordered(built.value, state)
    else:
        if type(state) is tuple and len(state) == 2 and not state[1]:
            state = state[0]
        if type(state) is not dict:
            raise PickleRefused(f"the state of {built.kind} is no dict")
        keys = ("x",) if built.kind == _CHUMPY else ("_shape", "shape", *_SPARSE_KEYS)
        built.value = {key: state[key] for key in keys if key in state}
        built.ready = True


def _ordered(kind: np.dtype, state) -> np.dtype:
    """A dtype with the byte order of its state; refuses fields, sub-arrays and metadata."""
    if type(state) is not tuple or len(state) < 5 or any(part is not None for part in state[2:5]):
        raise PickleRefused("a dtype with fields is not allowed")
    order = state[1]
    order = order.decode("latin-1") if isinstance(order, bytes) else order
    if order not in ("<", ">", "|", "="):
        raise PickleRefused("a dtype with an unknown byte order")
    return kind if order == "|" else kind.newbyteorder(order)


def _array(state):
    if type(state) is not tuple or len(state) != 5:
        raise PickleRefused("an array's state is not what numpy writes")
    _, shape, kind, fortran, raw = state
    kind = _dtype(kind)
    if not _is_sizes(shape) or type(fortran) not in (bool, int):
        raise PickleRefused("an array's state is not what numpy writes")
    count = math.prod(shape)
    if kind.hasobject:
        if type(raw) is not list or len(raw) != count:
            raise PickleRefused("an object array from bytes, or with another number of entries")
        return (shape, raw)
    raw = _raw(raw)
    if count * kind.itemsize != len(raw):
        raise PickleRefused(
            f"an array of shape {shape} needs {count * kind.itemsize} bytes, found {len(raw)}"
        )
    values = np.frombuffer(raw, kind).astype(kind.newbyteorder("="))
    return values.reshape(shape, order="F" if fortran else "C")


def _dtype(built) -> np.dtype:
    if type(built) is not Built or built.kind != _TYPE:
        raise PickleRefused("an array without a dtype")
    return built.value


def _raw(value) -> bytes:
    """Bytes as Python 3 wrote them, or Python 2's, which were read as latin1 text."""
    if type(value) is bytes:
        return value
    if type(value) is str:
        return _latin1(value)
    raise PickleRefused(f"a {type(value).__name__} where bytes are expected")


def _latin1(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise PickleRefused("text beyond latin1 where bytes are expected") from None


def _exactly(arguments: tuple, count: int, name: str) -> tuple:
    if len(arguments) != count:
        raise PickleRefused(f"{name} with {len(arguments)} arguments, expected {count}")
    return arguments


def _is_key(value) -> bool:
    return isinstance(value, str | bytes | int | float | type(None))


def _is_sizes(values) -> bool:
    return (
        type(values) is tuple
        and len(values) <= 16
        and all(type(size) is int and 0 <= size < 1 << 40 for size in values)
    )


# --- from what the machine leaves to plain values


def _plain(value, spend):
    """Replace built values by their arrays; bounds nesting and the number of values."""
    done: dict[int, tuple[object, int]] = {}
    keep = []

    def walk(item, depth: int) -> tuple[object, int]:
        if depth > MAX_DEPTH:
            raise PickleRefused(f"values nested more than {MAX_DEPTH} deep")
        if type(item) is Name:
            raise PickleRefused(f"the name {item.text!r} stands where a value is expected")
        if type(item) not in (list, tuple, dict, Built):
            return item, 1
        if id(item) in done:
            return done[id(item)]
        out = _convert(item, lambda part: walk(part, depth + 1), spend)
        if out[1] > MAX_VALUES:
            raise PickleRefused(f"more than {MAX_VALUES} values")
        done[id(item)] = out
        keep.append(item)
        return out

    return walk(value, 0)[0]


def _convert(item, walk, spend) -> tuple[object, int]:
    if type(item) is dict:
        parts = {key: walk(value) for key, value in item.items()}
        return {k: v for k, (v, _) in parts.items()}, 1 + sum(n for _, n in parts.values())
    if type(item) in (list, tuple):
        parts = [walk(value) for value in item]
        return type(item)(v for v, _ in parts), 1 + sum(n for _, n in parts)
    if item.kind == "array" and item.ready:
        if isinstance(item.value, np.ndarray):
            return item.value, 1
        shape, entries = item.value
        parts = [walk(value) for value in entries]
        out = np.empty(len(parts), object)
        out[:] = [None] * len(parts)
        for index, (value, _) in enumerate(parts):
            out[index] = value
        return out.reshape(shape), 1 + sum(n for _, n in parts)
    if item.kind == _CHUMPY and item.ready:
        inner, count = walk(item.value.get("x"))
        if not isinstance(inner, np.ndarray):
            raise PickleRefused(f"a {_CHUMPY} object whose 'x' is no array")
        return inner, count
    if item.kind == _SPARSE and item.ready:
        return _dense(walk, item.value, spend), 1
    if item.kind in (_TYPE, _STORAGE):
        raise PickleRefused(f"a {item.kind} stands where a value is expected")
    raise PickleRefused(f"a {item.kind} that was never given its content")


def _dense(walk, state: dict, spend) -> np.ndarray:
    shape = walk(state.get("_shape", state.get("shape")))[0]
    if not _is_sizes(shape) or len(shape) != 2 or math.prod(shape) > MAX_DENSE:
        raise PickleRefused(f"a {_SPARSE} of shape {str(shape)[:60]}")
    parts = [walk(state.get(key))[0] for key in _SPARSE_KEYS]
    if not all(isinstance(part, np.ndarray) and part.ndim == 1 for part in parts):
        raise PickleRefused(f"a {_SPARSE} without {', '.join(_SPARSE_KEYS)}")
    data, rows, starts = parts
    good = rows.dtype.kind in "iu" and starts.dtype.kind in "iu" and data.dtype.kind in "biuf"
    good = good and len(starts) == shape[1] + 1 and len(data) == len(rows)
    if good:
        rows, starts = rows.astype(np.int64), starts.astype(np.int64)
        counts = np.diff(starts)
        good = starts[0] == 0 and starts[-1] == len(rows) and (counts >= 0).all()
        good = good and (len(rows) == 0 or (rows.min() >= 0 and rows.max() < shape[0]))
    if not good:
        raise PickleRefused(f"a {_SPARSE} whose parts do not fit its shape {shape}")
    spend(math.prod(shape) * data.itemsize)
    out = np.zeros(shape, data.dtype)
    np.add.at(out, (rows, np.repeat(np.arange(shape[1]), counts)), data)
    return out
