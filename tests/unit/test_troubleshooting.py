"""`docs/troubleshooting.md` quotes what the code says, not what it once said."""

import ast
import re
from pathlib import Path

import pytest

from regaze.outputs import REMEDY

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
# Words of the operating system.
FOREIGN = {"No space left on device", "Read-only file system", "Permission denied"}
QUOTED = [
    message
    for heading in re.findall(r"^### (.*)$", PAGE, re.MULTILINE)
    for message in re.findall(r"`([^`]+)`", heading)
    if message not in FOREIGN
]


def texts():
    """All texts of the library and the Snakefile, with … for what is filled in."""
    found = []
    for path in [*(ROOT / "src/regaze").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(map(part, node.values)))
    return [*found, *re.findall(r'"([^"\n]+)"', (ROOT / "Snakefile").read_text())]


def part(node):
    if isinstance(node, ast.Constant):
        return node.value
    name = getattr(getattr(node, "value", None), "id", None)
    return REMEDY if name == "REMEDY" else "…"


@pytest.fixture(scope="module")
def said():
    return texts()


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_one_of_the_code(message, said):
    pieces = [re.escape(piece.strip(" :")) for piece in message.split("…") if piece.strip(" :.;")]
    assert pieces, "nothing but what is filled in"
    pattern = re.compile(".*".join(pieces), re.DOTALL)
    assert any(pattern.search(text) for text in said)


def test_there_are_enough_of_them():
    assert len(QUOTED) >= 15
