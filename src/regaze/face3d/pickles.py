"""Read users' pickled model files without running them: FLAME models, landmark files, tensors.

The files are dictionaries of arrays, written by Python 2 (text decoded as latin1) or 3, in which
some arrays are wrapped in ``chumpy`` objects, SciPy's sparse matrices or torch tensors. Python's
own unpickler reads them, but each name of an allow-list stands for an inert class that only keeps
what it is given, and every other name is refused: nothing that a file names is imported or called.
Arrays are made of what was kept when the file has been read, with all sizes checked.

Values come back as Python scalars, text, lists, tuples, dicts, sets and NumPy arrays: ``chumpy``
objects as the array they hold, sparse matrices dense, tensors as arrays on the CPU.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import re
from pathlib import Path

import numpy as np
from scipy.sparse import csc_matrix

from regaze.filetypes import file_type

MAX_BYTES = 1 << 29
MAX_OPERATIONS = 1_000_000
MAX_DEPTH = 32
VALUE_BYTES = 320
SPARE_BYTES = 64 << 20
"""Bytes of arrays and values, :data:`VALUE_BYTES` each, that a file may become beyond four times
its own size: its parts can be named again and again."""


class PickleRefused(ValueError):
    """A pickle holds something outside the allow-list, is damaged, or is too large."""


def _require(good, otherwise: str) -> None:
    if not good:
        raise PickleRefused(otherwise)


def read_pickle(path: str | os.PathLike, *, expected: type = dict):
    """Read a pickled file of arrays safely.

    Args:
        path: the file.
        expected: type of the top value; ``numpy.ndarray`` for a pickled array or tensor.

    Raises:
        PickleRefused: the file holds something outside the allow-list, is damaged, too large or
            too deep, or its top value has another type; the message names file and reason.
        OSError: the file cannot be read.
    """
    return _read(path, expected, _value)


def read_pickled(raw: bytes, where: str, *, expected: type = dict):
    """The same of bytes that are no file's; ``where`` they are is told in messages."""
    _require(len(raw) <= MAX_BYTES, f"{where}: {len(raw)} bytes, expected at most {MAX_BYTES}")
    try:
        value = _value(io.BytesIO(raw))
        found = f"found a {type(value).__name__}"
        _require(isinstance(value, expected), f"expected a {expected.__name__}, {found}")
    except Exception as error:  # as in _read
        known = isinstance(error, PickleRefused)
        text = error if known else f"damaged ({type(error).__name__}: {error})"[:220]
        raise PickleRefused(f"{where}: refused: {text}") from None
    return value


def read_npy_object(path: str | os.PathLike, *, expected: type = dict):
    """Read a 0-d object array as ``numpy.save`` writes for a dict, safely; returns the object.

    Arguments and errors are those of :func:`read_pickle`.
    """
    return _read(path, expected, _npy_value)


def _read(path: str | os.PathLike, expected: type, parse):
    size = os.stat(path).st_size
    _require(size <= MAX_BYTES, f"{path}: {size} bytes, expected at most {MAX_BYTES}")
    try:
        value = parse(io.BytesIO(Path(path).read_bytes()))
        found = f"found a {type(value).__name__}"
        _require(isinstance(value, expected), f"expected a {expected.__name__}, {found}")
    except Exception as error:  # what Python's unpickler and NumPy raise is of many kinds
        found = file_type(path)
        lead = f"{found.words}, " if found.remedy else ""
        known = isinstance(error, PickleRefused)
        text = error if known else f"damaged ({type(error).__name__}: {error})"[:220]
        raise PickleRefused(f"{path}: {lead}refused: {text}{found.remedy}") from None
    return value


def _value(stream: io.BytesIO):
    return _Maker(4 * len(stream.getbuffer()) + SPARE_BYTES)(_load(stream))


def _npy_value(stream: io.BytesIO):
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError:
        raise PickleRefused("not an .npy file (its header is damaged)") from None
    _require(version in ((1, 0), (2, 0)), f".npy version {version}, expected 1.0 or 2.0")
    shape, _, kind = getattr(np.lib.format, f"read_array_header_{version[0]}_0")(stream)
    found = f"found shape {shape} of {kind}"
    _require(shape == () and kind == np.dtype("O"), f"expected a 0-d object array, {found}")
    value = _value(stream)
    zero_d = isinstance(value, np.ndarray) and value.dtype == object and value.shape == ()
    _require(zero_d, "the stored object is no 0-d object array")
    return value.item()


# --- what the names of a file stand for


class Inert:
    """What an allow-listed name makes in place of the real thing: arguments and state, kept."""

    state = None

    def __new__(cls, *args):
        made = super().__new__(cls)
        made.args = args
        return made

    def __init__(self, *args):
        """Leave ``args`` unused: a dict would be filled with them."""

    def __setstate__(self, state):
        self.state = state


ALLOWED: dict[str, type[Inert]] = {}
"""Every name that may occur in a file, and the class that stands for it."""


def _inert(*names: str, bases: tuple[type, ...] = ()) -> type[Inert]:
    made = type(names[0], (Inert, *bases), {})
    ALLOWED.update(dict.fromkeys(names, made))
    return made


ARRAY = _inert("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
BUFFER = _inert("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")
SCALAR = _inert("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
DTYPE = _inert("numpy.dtype")
# bytes in the protocols of Python 2; the second stands for none
ENCODE = _inert("_codecs.encode", "__builtin__.bytes")
SET = _inert("builtins.set", "__builtin__.set")
# Python 3 writes the pairs as items, Python 2 as arguments
ORDERED = _inert("collections.OrderedDict", bases=(dict,))
INSTANCE = _inert("copyreg._reconstructor", "copy_reg._reconstructor")
CHUMPY = _inert("chumpy.ch.Ch")
SPARSE = _inert("scipy.sparse.csc.csc_matrix", "scipy.sparse._csc.csc_matrix")
TENSOR = _inert("torch._utils._rebuild_tensor_v2")
STORAGE = _inert("torch.storage._load_from_bytes")
_inert("numpy.ndarray")
_inert("builtins.object", "__builtin__.object")
_KINDS = {
    "Double": "<f8", "Float": "<f4", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2",
    "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip
_NUMBERS = {
    _inert(f"torch.{name}Storage", f"torch.cuda.{name}Storage"): np.dtype(code)
    for name, code in _KINDS.items()
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        wanted = f"{module}.{name}"
        _require(wanted in ALLOWED, f"the name {wanted[:200]!r} is not in the allow-list")
        return ALLOWED[wanted]

    def persistent_load(self, pid):
        return pid


def _load(stream: io.BytesIO, most: int = MAX_OPERATIONS):
    """What one pickle, which begins where the stream stands, leaves; the stream ends behind it."""
    start = stream.tell()
    _check_operations(stream, most)
    stream.seek(start)
    return _Unpickler(stream, encoding="latin1").load()


_OPERATIONS = {op.code.encode("latin-1"): op for op in pickletools.opcodes}
_KEYED = {"DICT": 2, "SETITEMS": 2, "ADDITEMS": 1, "FROZENSET": 1}  # every second one, or every
_KEYS = {"int", "int_or_bool", "bool", "float", "bytes", "bytes_or_str", "str", "None"}


def _check_operations(stream: io.BytesIO, most: int) -> None:
    """Refuse operations that could exhaust memory, time or the C stack while they are carried out.

    Python's unpickler allocates a table as long as the largest memo index, and hashes keys: those
    of nested tuples in recursion, those of chosen long integers all to one place. So operations
    are played through with a stack that knows of each value only whether it may be a key: text, a
    number that is not too long, or an :class:`Inert`. Lengths are checked before bytes are read.
    """
    stack, marks, memo = [], [], {}
    for _ in range(most):
        at, keys = stream.tell(), ()
        op = _OPERATIONS.get(stream.read(1))
        if op is None or op.name.startswith("EXT"):  # these reach past find_class
            found = op.name if op else "none of pickles, or the end"
            raise PickleRefused(f"byte {at}: expected another operation, found {found}")
        name, before, after = op.name, op.stack_before, op.stack_after
        # pickletools reads the byte strings of Python 2 as ASCII
        value = stream.readline() if name == "STRING" else op.arg and op.arg.reader(stream)
        if name == "STOP":
            return _require(len(stack) == 1, f"{len(stack)} values left on the stack, expected 1")
        if name == "MARK":
            marks.append(len(stack))
        elif name == "POP" and marks and marks[-1] == len(stack):
            marks.pop()
        elif name == "DUP":
            stack.append(stack[-1])
        elif "PUT" in name or name == "MEMOIZE":
            index = len(memo) if name == "MEMOIZE" else value
            if index >= MAX_OPERATIONS:
                raise PickleRefused(f"memo index {index}, expected below {MAX_OPERATIONS}")
            memo[index] = stack[-1]
        elif pickletools.stackslice in before:
            first = marks.pop()
            keys = stack[first :: _KEYED[name]] if name in _KEYED else ()
            del stack[first:]
            if before[0] is pickletools.markobject and after:
                stack.append(False)
        else:
            keys = stack[-2:-1] if name == "SETITEM" else ()
            del stack[len(stack) - len(before) :]
            if after:
                plain = not before and after[0].name in _KEYS
                plain = plain and not (isinstance(value, int) and value.bit_length() > 64)
                stack.append(memo[value] if "GET" in name else plain or name == "REDUCE")
        if not all(keys):
            raise PickleRefused(f"byte {at}: something else than text or a short number as key")
    raise PickleRefused(f"more than {most} operations")


# --- from what was kept to plain values


class _Maker:
    """Plain values of one file, as long as ``left`` bytes last; each use of a value counts."""

    def __init__(self, left: int):
        self.left, self.depth = left, 0

    def spend(self, count: int) -> None:
        """Count bytes before they are allocated."""
        self.left -= count
        _require(self.left >= 0, "the file becomes far more than its own size")

    def __call__(self, item):
        self.spend(VALUE_BYTES)
        kind = type(item)
        if kind in _SCALARS:
            return item
        word = item.__name__ if kind is type else kind.__name__
        _require(kind in _MAKERS, f"a {word} stands where a value is expected")
        _require(self.depth < MAX_DEPTH, f"values nested more than {MAX_DEPTH} deep")
        self.depth += 1
        made = _MAKERS[kind](self, item)
        self.depth -= 1
        return made

    def key(self, item):
        """A key or set member; those among arguments did not pass the check of operations."""
        made = self(item)
        short = type(made) in _SCALARS and not (type(made) is int and made.bit_length() > 64)
        _require(short, f"a {type(made).__name__} as key or set member")
        return made

    def pairs(self, pairs) -> dict:
        return {self.key(key): self(value) for key, value in pairs}

    def raw(self, item) -> bytes | bytearray:
        """Bytes as Python 3 wrote them, or Python 2's, which were read as latin1 text."""
        if type(item) is ENCODE:
            item, codec = item.args or ("", "latin1")
            _require(_text(codec) in ("latin1", "latin-1"), f"_codecs.encode to {codec[:40]!r}")
        good = type(item) in (str, bytes, bytearray)
        _require(good, f"a {type(item).__name__} where bytes are expected")
        self.spend(len(item))
        return item.encode("latin-1") if type(item) is str else item

    def array(self, shape, kind, raw, fortran=False) -> np.ndarray:
        kind, count = _dtype(kind), math.prod(_sizes(shape))
        if kind.hasobject:
            good = type(raw) is list and len(raw) == count
            _require(good, "an object array from bytes, or another number of entries")
            made = np.empty(count, object)
            for index, entry in enumerate(raw):
                made[index] = self(entry)
            return made.reshape(shape)
        raw, size = self.raw(raw), count * kind.itemsize
        found = f"shape {shape} of {kind} needs {size} bytes, found {len(raw)}"
        _require(size == len(raw), found)
        self.spend(size)
        made = np.frombuffer(raw, kind).astype(kind.newbyteorder("="))
        return made.reshape(shape, order="F" if fortran else "C")

    def filled(self, item) -> np.ndarray:
        """What numpy's ``_reconstruct`` and its state stand for."""
        _require(item.state is not None, "an array that was never given its content")
        _, shape, kind, fortran, raw = item.state
        return self.array(shape, kind, raw, fortran)

    def instance(self, item) -> np.ndarray:
        """An object of Python 2, whose class stands among the arguments."""
        kind = item.args[0]
        _require(kind in (CHUMPY, SPARSE), "_reconstructor of neither chumpy.Ch nor csc_matrix")
        return _MAKERS[kind](self, item)

    def chumpy(self, item) -> np.ndarray:
        made = self(_attributes(item).get("x"))
        _require(isinstance(made, np.ndarray), "a chumpy.Ch object whose 'x' is no array")
        return made

    def sparse(self, item) -> np.ndarray:
        state = _attributes(item)
        shape = _sizes(state.get("_shape", state.get("shape")))
        _require(len(shape) == 2, f"a csc_matrix of shape {shape}")
        parts = [self(state.get(name)) for name in ("data", "indices", "indptr")]
        numbers = all(isinstance(part, np.ndarray) and part.dtype.kind in "biuf" for part in parts)
        _require(numbers, "a csc_matrix without data, indices, indptr")
        self.spend(math.prod(shape) * parts[0].itemsize)
        try:
            made = csc_matrix((parts[0], *(part.astype(np.int64) for part in parts[1:])), shape)
            made.check_format(full_check=True)
        except ValueError as error:
            raise PickleRefused(f"a csc_matrix whose parts do not fit: {error}") from None
        return made.toarray()

    def tensor(self, storage, offset, shape, strides, *_) -> np.ndarray:
        """A tensor as a NumPy array, after checking that it lies within its storage."""
        _require(type(storage) is STORAGE, "_rebuild_tensor_v2 of no stored tensor")
        self.spend(100 * VALUE_BYTES)
        values = _storage(self.raw(*storage.args))
        (offset,), count = _sizes((offset,)), math.prod(_sizes(shape))
        reach = offset + sum((n - 1) * s for n, s in zip(shape, _sizes(strides), strict=True)) + 1
        found = f"reaches entry {reach} of a storage of {values.size}"
        inside = not count or (reach <= values.size and count <= values.size)
        _require(inside, f"a tensor of shape {shape} {found}")
        self.spend(count * values.itemsize)
        steps = [s * values.itemsize for s in strides]
        part = values[offset:] if count else np.empty(1, values.dtype)
        return np.lib.stride_tricks.as_strided(part, shape, steps).copy()


def _storage(raw: bytes) -> np.ndarray:
    """Numbers (n,) of the bytes of a tensor's storage, a file in torch's old format.

    That is a row of pickles (magic number, version, machine, the storage as a persistent id, its
    keys), a count and the numbers.
    """
    stream = io.BytesIO(raw)
    magic, version, _, entry, _ = (_load(stream, 1000) for _ in range(5))
    known = (magic, version) == (0x1950A86A20F9469CFC6C, 1001) and type(entry) is tuple
    _require(known and len(entry) == 6, "a stored tensor with an unknown header")
    _, kind, _, _, count, view = entry
    known = type(kind) is type and kind in _NUMBERS and view is None
    _require(known and type(count) is int and count >= 0, "a stored tensor with an unknown header")
    first, size = stream.tell() + 8, count * _NUMBERS[kind].itemsize
    found = len(raw) - first
    _require(size <= found, f"a stored tensor announces {size} bytes, {found} are there")
    return np.frombuffer(raw, _NUMBERS[kind], count, first)


def _dtype(item) -> np.dtype:
    """A dtype of plain numbers, text or objects; refuses fields, sub-arrays and metadata."""
    _require(type(item) is DTYPE, "an array without a dtype")
    code, (_, order, *extra) = _text(item.args[0]), item.state or (3, "|", None, None, None)
    known = r"[|=<>]?(b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,6}|O[48]?)"
    _require(re.fullmatch(known, code), f"the dtype {code[:40]!r} is not allowed")
    plain = len(extra) >= 3 and all(part is None for part in extra[:3])
    _require(plain, "a dtype with fields is not allowed")
    _require(_text(order) in ("<", ">", "|", "="), "a dtype with an unknown byte order")
    return np.dtype(code) if _text(order) == "|" else np.dtype(code).newbyteorder(_text(order))


def _text(item) -> str:
    item = item.decode("latin-1") if type(item) is bytes else item
    _require(type(item) is str, f"a {type(item).__name__} where text is expected")
    return item


def _attributes(item: Inert) -> dict:
    state = item.state
    if type(state) is tuple and len(state) == 2 and not state[1]:
        state = state[0]
    _require(type(state) is dict, f"the state of a {type(item).__name__} is no dict")
    return state


def _sizes(values) -> tuple[int, ...]:
    good = type(values) is tuple and len(values) <= 16
    good = good and all(type(size) is int and 0 <= size < 1 << 40 for size in values)
    _require(good, "sizes that are no counts")
    return values


_SCALARS = (str, bytes, int, float, bool, type(None))
_MAKERS = {
    list: lambda make, item: [make(part) for part in item],
    tuple: lambda make, item: tuple(make(part) for part in item),
    set: lambda make, item: {make.key(part) for part in item},
    frozenset: lambda make, item: frozenset(make.key(part) for part in item),
    dict: lambda make, item: make.pairs(item.items()),
    SET: lambda make, item: {make.key(part) for part in item.args[0]},
    ORDERED: lambda make, item: make.pairs(item.args[0] if item.args else item.items()),
    ARRAY: _Maker.filled,
    BUFFER: lambda make, item: make.array(*item.args[2:0:-1], item.args[0], item.args[3] == "F"),
    SCALAR: lambda make, item: make.array((), *item.args).item(),
    ENCODE: lambda make, item: bytes(make.raw(item)),
    INSTANCE: _Maker.instance,
    CHUMPY: _Maker.chumpy,
    SPARSE: _Maker.sparse,
    TENSOR: lambda make, item: make.tensor(*item.args),
}
