"""A pickle interpreter that can only build data: nothing named in a file is ever called.

Python's own unpickler calls what the file says. This one never does: the operation codes of the
pickle format (documented in Python's ``pickletools``) drive a stack of plain values, and a
name in the file becomes an inert :class:`Name`. Only names of an allow-list may occur, and what
"calling" one of them means is decided by :mod:`regaze.face3d.pickles`, not by the file.

Everything that can cost memory or time is bounded before it is done: operations, memo entries,
integer and text lengths (a length is compared with the bytes at hand before the slice is taken)
and nesting.
"""

from __future__ import annotations

import codecs
import pickletools
import struct
from collections.abc import Callable, Mapping

MAX_OPERATIONS = 1_000_000
MAX_INTEGER_BYTES = 32
MAX_OPEN_MARKS = 256

_SCALARS = (str, bytes, int, float, bool, type(None))
_CODES = {ord(entry.code): entry.name for entry in pickletools.opcodes}
_MARK, _STOP = object(), object()


class PickleRefused(ValueError):
    """A pickle holds something outside the allow-list, is damaged, or is too large."""


class Name:
    """An allow-listed global: an inert token with the dotted name, never the thing itself."""

    __slots__ = ("text",)

    def __init__(self, text: str):
        self.text = text


class Built:
    """The result of ``NEWOBJ`` or ``REDUCE`` whose state may still come by ``BUILD``.

    ``kind`` is a word for what it is, ``value`` its arguments and later its content.
    """

    __slots__ = ("kind", "value", "ready")

    def __init__(self, kind: str, value=None, ready: bool = False):
        self.kind, self.value, self.ready = kind, value, ready


class Machine:
    """Interpret one pickle in ``data`` starting at ``start``.

    Args:
        data: the bytes at hand.
        allowed: ``module.name`` of every global that may occur.
        reduce: called as ``reduce(name, arguments)`` for REDUCE and NEWOBJ of an allowed name;
            must only make data.
        build: called as ``build(built, state)`` for BUILD; fills ``built`` in place.
        persistent: called with a persistent id (torch's old storages); refused when None.
        start: offset of the first operation; after :meth:`run`, ``position`` is behind STOP.
    """

    def __init__(
        self,
        data: bytes,
        allowed: Mapping[str, str],
        reduce: Callable[[str, tuple], object],
        build: Callable[[Built, object], None],
        persistent: Callable[[object], object] | None = None,
        start: int = 0,
    ):
        self.data, self.position = data, start
        self.allowed, self.reduce, self.build = allowed, reduce, build
        self.persistent = persistent
        self.stack: list = []
        self.memo: dict[int, object] = {}
        self.marks = 0

    def run(self):
        """Return the value that STOP leaves.

        Raises:
            PickleRefused: see the class; the message says what and at which byte.
        """
        for _ in range(MAX_OPERATIONS):
            at = self.position
            code = self._take(1)[0]
            step = _STEPS.get(code)
            if step is None:
                if code not in _CODES:
                    raise PickleRefused(f"byte {at}: 0x{code:02x} is no pickle operation")
                raise PickleRefused(f"byte {at}: operation {_CODES[code]} is not allowed")
            try:
                if step is _STOP:
                    value = self._pop()
                    if self.stack:
                        raise PickleRefused(f"{len(self.stack)} values left on the stack")
                    return value
                step(self)
            except PickleRefused as error:
                text = str(error)
                raise PickleRefused(
                    text if text.startswith("byte ") else f"byte {at}: {text}"
                ) from None
        raise PickleRefused(f"more than {MAX_OPERATIONS} operations")

    # --- bytes and stack

    def _take(self, count: int) -> bytes:
        if count > len(self.data) - self.position:
            raise PickleRefused(
                f"truncated: {count} bytes announced, {len(self.data) - self.position} left"
            )
        out = self.data[self.position : self.position + count]
        self.position += count
        return out

    def _number(self, layout: str) -> int:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _line(self, longest: int = 4096) -> bytes:
        end = self.data.find(b"\n", self.position, self.position + longest)
        if end < 0:
            raise PickleRefused("truncated: a text operation has no line end")
        out = self.data[self.position : end]
        self.position = end + 1
        return out

    def _text(self, raw: bytes, encoding: str = "utf-8") -> str:
        try:
            return raw.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")
        except UnicodeDecodeError:
            raise PickleRefused(f"text is not {encoding}") from None

    def _push(self, value) -> None:
        self.stack.append(value)

    def _pop(self):
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleRefused("the stack is empty where a value is needed")
        return self.stack.pop()

    def _top(self):
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleRefused("the stack is empty where a value is needed")
        return self.stack[-1]

    def _since_mark(self) -> list:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                out = self.stack[index + 1 :]
                del self.stack[index:]
                self.marks -= 1
                return out
        raise PickleRefused("no mark on the stack")

    def _remember(self, index: int) -> None:
        if not 0 <= index < MAX_OPERATIONS:
            raise PickleRefused(f"memo index {index}, expected below {MAX_OPERATIONS}")
        self.memo[index] = self._top()

    def _recall(self, index: int) -> None:
        if index not in self.memo:
            raise PickleRefused(f"memo index {index} was never stored")
        self._push(self.memo[index])

    def _key(self, value):
        # deep keys would be hashed and compared recursively in C
        if not isinstance(value, _SCALARS):
            raise PickleRefused(f"a {_word(value)} as key or set member, expected text or a number")
        return value

    # --- framing and stack operations

    def _op_proto(self):
        version = self._take(1)[0]
        if version > 5:
            raise PickleRefused(f"pickle protocol {version}, expected at most 5")

    def _op_frame(self):
        size = self._number("<Q")
        if size > len(self.data) - self.position:
            raise PickleRefused(f"truncated: a frame of {size} bytes is announced")

    def _op_mark(self):
        self.marks += 1
        if self.marks > MAX_OPEN_MARKS:
            raise PickleRefused(f"more than {MAX_OPEN_MARKS} open marks: nested too deeply")
        self._push(_MARK)

    def _op_pop(self):
        if self.stack and self.stack[-1] is _MARK:
            self.stack.pop()
            self.marks -= 1
        else:
            self._pop()

    def _op_pop_mark(self):
        self._since_mark()

    def _op_dup(self):
        self._push(self._top())

    # --- memo

    def _op_put(self):
        self._remember(self._integer(self._line()))

    def _op_binput(self):
        self._remember(self._take(1)[0])

    def _op_long_binput(self):
        self._remember(self._number("<I"))

    def _op_memoize(self):
        self._remember(len(self.memo))

    def _op_get(self):
        self._recall(self._integer(self._line()))

    def _op_binget(self):
        self._recall(self._take(1)[0])

    def _op_long_binget(self):
        self._recall(self._number("<I"))

    # --- scalars

    def _integer(self, raw: bytes) -> int:
        if len(raw) > 3 * MAX_INTEGER_BYTES:
            raise PickleRefused(f"an integer of {len(raw)} digits")
        try:
            return int(raw)
        except ValueError:
            raise PickleRefused("an integer operation holds no integer") from None

    def _long(self, size: int) -> None:
        if not 0 <= size <= MAX_INTEGER_BYTES:
            raise PickleRefused(f"an integer of {size} bytes")
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    def _op_none(self):
        self._push(None)

    def _op_newtrue(self):
        self._push(True)

    def _op_newfalse(self):
        self._push(False)

    def _op_int(self):
        line = self._line()
        self._push({b"00": False, b"01": True}[line] if len(line) == 2 and line in (b"00", b"01")
                   else self._integer(line))  # fmt: skip

    def _op_long(self):
        self._push(self._integer(self._line().removesuffix(b"L")))

    def _op_binint(self):
        self._push(self._number("<i"))

    def _op_binint1(self):
        self._push(self._take(1)[0])

    def _op_binint2(self):
        self._push(self._number("<H"))

    def _op_long1(self):
        self._long(self._take(1)[0])

    def _op_long4(self):
        self._long(self._number("<i"))

    def _op_float(self):
        try:
            self._push(float(self._line()))
        except ValueError:
            raise PickleRefused("a float operation holds no number") from None

    def _op_binfloat(self):
        self._push(self._number(">d"))

    # --- text and bytes; Python 2's byte strings are read as latin1 text

    def _op_string(self):
        line = self._line(len(self.data))
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[:1] != line[-1:]:
            raise PickleRefused("a text operation without quotes")
        try:
            raw = codecs.escape_decode(line[1:-1])[0]
        except ValueError:
            raise PickleRefused("a text operation with a broken escape") from None
        self._push(self._text(raw, "latin-1"))

    def _op_binstring(self):
        size = self._number("<i")
        if size < 0:
            raise PickleRefused(f"text of {size} bytes")
        self._push(self._text(self._take(size), "latin-1"))

    def _op_short_binstring(self):
        self._push(self._text(self._take(self._take(1)[0]), "latin-1"))

    def _op_unicode(self):
        self._push(self._text(self._line(len(self.data)), "raw-unicode-escape"))

    def _op_short_binunicode(self):
        self._push(self._text(self._take(self._take(1)[0])))

    def _op_binunicode(self):
        self._push(self._text(self._take(self._number("<I"))))

    def _op_binunicode8(self):
        self._push(self._text(self._take(self._number("<Q"))))

    def _op_short_binbytes(self):
        self._push(self._take(self._take(1)[0]))

    def _op_binbytes(self):
        self._push(self._take(self._number("<I")))

    def _op_binbytes8(self):
        self._push(self._take(self._number("<Q")))

    # --- containers

    def _op_empty_list(self):
        self._push([])

    def _op_list(self):
        self._push(self._since_mark())

    def _op_append(self):
        value = self._pop()
        self._append([value])

    def _op_appends(self):
        self._append(self._since_mark())

    def _append(self, values) -> None:
        target = self._top()
        if type(target) is not list:
            raise PickleRefused(f"APPEND to a {_word(target)}, expected a list")
        target.extend(values)

    def _op_empty_tuple(self):
        self._push(())

    def _op_tuple(self):
        self._push(tuple(self._since_mark()))

    def _op_tuple1(self):
        self._push((self._pop(),))

    def _op_tuple2(self):
        second = self._pop()
        self._push((self._pop(), second))

    def _op_tuple3(self):
        third, second = self._pop(), self._pop()
        self._push((self._pop(), second, third))

    def _op_empty_dict(self):
        self._push({})

    def _op_dict(self):
        values = self._since_mark()
        self._push({})
        self._set_items(values)

    def _op_setitem(self):
        value = self._pop()
        self._set_items([self._pop(), value])

    def _op_setitems(self):
        self._set_items(self._since_mark())

    def _set_items(self, values) -> None:
        target = self._top()
        if type(target) is not dict:
            raise PickleRefused(f"SETITEM of a {_word(target)}, expected a dict")
        if len(values) % 2:
            raise PickleRefused("SETITEMS with a key but no value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[self._key(key)] = value

    def _op_empty_set(self):
        self._push(set())

    def _op_additems(self):
        values = self._since_mark()
        target = self._top()
        if type(target) is not set:
            raise PickleRefused(f"ADDITEMS to a {_word(target)}, expected a set")
        target.update(self._key(value) for value in values)

    def _op_frozenset(self):
        self._push(frozenset(self._key(value) for value in self._since_mark()))

    # --- names and what is made of them

    def _find(self, module, name) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleRefused("a global whose module or name is not text")
        wanted = f"{module}.{name}"
        if wanted not in self.allowed:
            raise PickleRefused(f"the name {wanted[:200]!r} is not in the allow-list")
        self._push(Name(self.allowed[wanted]))

    def _op_global(self):
        module = self._text(self._line())
        self._find(module, self._text(self._line()))

    def _op_stack_global(self):
        name = self._pop()
        self._find(self._pop(), name)

    def _call(self, what: str) -> None:
        arguments, callee = self._pop(), self._pop()
        if type(callee) is not Name:
            raise PickleRefused(f"{what} of a {_word(callee)}, expected an allow-listed name")
        if type(arguments) is not tuple:
            raise PickleRefused(f"{what} with a {_word(arguments)}, expected a tuple of arguments")
        self._push(self.reduce(callee.text, arguments))

    def _op_reduce(self):
        self._call("REDUCE")

    def _op_newobj(self):
        self._call("NEWOBJ")

    def _op_build(self):
        state = self._pop()
        target = self._top()
        if type(target) is not Built or target.ready:
            raise PickleRefused(f"BUILD of a {_word(target)}")
        self.build(target, state)

    def _op_binpersid(self):
        if self.persistent is None:
            raise PickleRefused("operation BINPERSID is not allowed")
        self._push(self.persistent(self._pop()))


def _word(value) -> str:
    if type(value) is Name:
        return f"name {value.text!r}"
    return value.kind if type(value) is Built else type(value).__name__


_STEPS = {
    code: getattr(Machine, f"_op_{name.lower()}")
    for code, name in _CODES.items()
    if hasattr(Machine, f"_op_{name.lower()}")
} | {ord("."): _STOP}
