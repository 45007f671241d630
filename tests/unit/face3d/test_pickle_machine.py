import math
import pickle
import re
import struct

import pytest

from regaze.face3d.pickle_machine import Machine, PickleRefused

ALLOWED = {"some.thing": "thing"}
THING = b"csome\nthing\n"


def run(data: bytes):
    """What the machine leaves; calling a name gives the name and its arguments."""
    return Machine(data, ALLOWED, lambda name, arguments: (name, arguments), None).run()


@pytest.mark.parametrize("protocol", range(6))
def test_what_pickle_wrote_is_read(protocol):
    value = {
        "numbers": [0, -1, 255, 256, 70_000, -70_000, 1 << 70, -(1 << 70), 0.1, -2.5, math.inf],
        "constants": (None, True, False),
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "text": ["", "ä\nb\\", "\U0001f441", "x" * 300],
        "empty": [[], {}],
        7: {"inner": [{}]},
    }
    value["again"] = value["text"]
    found = run(pickle.dumps(value, protocol))
    assert found == value and found["again"] is found["text"]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_bytes_are_read(protocol):
    value = [b"", b"a\0b", b"y" * 300]
    assert run(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [4, 5])
def test_sets_are_read(protocol):
    value = [set(), {1, "a", None}, frozenset(), frozenset({2.5, b"b"})]
    found = run(pickle.dumps(value, protocol))
    assert found == value and [type(part) for part in found] == [type(part) for part in value]


@pytest.mark.parametrize(
    "operations, value",
    [
        pytest.param(b"K\x07(0.", 7, id="POP of a mark"),
        pytest.param(b"K\x07K\x080.", 7, id="POP of a value"),
        pytest.param(b"K\x07(K\x01K\x021.", 7, id="POP_MARK"),
        # a mark that is gone no longer counts as open
        pytest.param(b"K\x07" + b"(0" * 300 + b".", 7, id="POP of many marks"),
        pytest.param(b"K\x07" + b"(N1" * 300 + b".", 7, id="POP_MARK of many marks"),
        pytest.param(b"K\x072\x86.", (7, 7), id="DUP"),
        pytest.param(
            b"K\x07r\x00\x01\x00\x000Nj\x00\x01\x00\x00\x86.", (None, 7), id="LONG_BINGET"
        ),
        pytest.param(b"\x8e" + struct.pack("<Q", 2) + b"ab.", b"ab", id="BINBYTES8"),
        pytest.param(b"\x8d" + struct.pack("<Q", 2) + b"ab.", "ab", id="BINUNICODE8"),
        pytest.param(b"T\x02\x00\x00\x00\xe4b.", "äb", id="BINSTRING"),
        pytest.param(b"U\x02\xe4b.", "äb", id="SHORT_BINSTRING"),
        pytest.param(b"S'\\xe4\\'b'\n.", "ä'b", id="STRING"),
        pytest.param(b"(K\x01K\x02d.", {1: 2}, id="DICT"),
        pytest.param(THING + b"K\x07\x85R.", ("thing", (7,)), id="REDUCE"),
        pytest.param(THING + b")\x81.", ("thing", ()), id="NEWOBJ"),
    ],
)
def test_operations_that_pickle_no_longer_writes(operations, value):
    assert run(operations) == value


REFUSED = {
    "APPEND to a dict": (b"}Na.", "byte 2: APPEND to a dict, expected a list"),
    "APPENDS to a name": (THING + b"(Ne.", "APPEND to a name 'thing', expected a list"),
    "SETITEM of a list": (b"]NNs.", "byte 3: SETITEM of a list, expected a dict"),
    "SETITEMS, odd": (b"}(K\x01u.", "byte 4: SETITEMS with a key but no value"),
    "DICT, odd": (b"(K\x01d.", "SETITEMS with a key but no value"),
    "ADDITEMS to a list": (b"](K\x01\x90.", "byte 4: ADDITEMS to a list, expected a set"),
    "list in a set": (b"\x8f(]\x90.", "a list as key or set member, expected text or a number"),
    "tuple in a frozenset": (b"()\x91.", "a tuple as key or set member"),
    "DUP of nothing": (b"2.", "byte 0: the stack is empty where a value is needed"),
    "DUP of a mark": (b"(2.", "byte 1: the stack is empty where a value is needed"),
    "TUPLE1 beyond a mark": (b"N(\x85.", "byte 2: the stack is empty where a value is needed"),
    "TUPLE without a mark": (b"Nt.", "byte 1: no mark on the stack"),
    "BINSTRING, negative": (b"T\xff\xff\xff\xff.", "byte 0: text of -1 bytes"),
    "FLOAT": (b"Fone\n.", "byte 0: a float operation holds no number"),
    "INT": (b"Ione\n.", "byte 0: an integer operation holds no integer"),
    "STRING, no quotes": (b"Sab\n.", "byte 0: a text operation without quotes"),
    "STRING, other quote": (b"S'ab\"\n.", "a text operation without quotes"),
    "STRING, one quote": (b"S'\n.", "a text operation without quotes"),
    "STRING, escape": (b"S'\\x1'\n.", "byte 0: a text operation with a broken escape"),
    "STRING, cut off": (b"S'ab'", "byte 0: truncated: a text operation has no line end"),
    "UNICODE": (b"V\\u12\n.", "byte 0: text is not raw-unicode-escape"),
    "BINUNICODE": (b"\x8c\x01\xff.", "byte 0: text is not utf-8"),
    "STACK_GLOBAL, name": (b"\x8c\x04someK\x01\x93.", "a global whose module or name is not text"),
    "STACK_GLOBAL, module": (b"N\x8c\x05thing\x93.", "a global whose module or name is not text"),
    "REDUCE with a list": (THING + b"]R.", "REDUCE with a list, expected a tuple of arguments"),
    "NEWOBJ of text": (b"U\x01a)\x81.", "NEWOBJ of a str, expected an allow-listed name"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_the_refusal_says_where_and_why(name):
    operations, message = REFUSED[name]
    where = "" if message.startswith("byte ") else r"byte \d+: "
    with pytest.raises(PickleRefused, match=f"^{where}{re.escape(message)}"):
        run(operations)
