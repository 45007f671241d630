"""Overlays of the configuration as commented YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

_LONGEST_KEY = 1024
"""Of keys that YAML understands without a question mark before them."""


@dataclass(frozen=True)
class Noted:
    """A value of an overlay with a comment on the line above it."""

    value: Any
    comment: str


def put(overlay: dict, path: str, value: Any, comment: str | None = None) -> None:
    """Set the value at a path such as ``models.sted.train.batch``."""
    *parents, last = path.split(".")
    for key in parents:
        overlay = overlay.setdefault(key, {})
    overlay[last] = value if comment is None else Noted(value, comment)


def plain(overlay: Mapping) -> dict:
    """The overlay without its comments."""

    def bare(value):
        value = value.value if isinstance(value, Noted) else value
        return (
            {key: bare(item) for key, item in value.items()} if isinstance(value, dict) else value
        )

    return {key: bare(value) for key, value in overlay.items()}


def as_yaml(overlay: Mapping, head: str) -> str:
    """YAML text of an overlay in block style; ``head`` becomes the comment above it."""
    return "\n".join([*_comment(head, 0), *_lines(overlay, 0)]) + "\n"


def _lines(overlay: Mapping, depth: int) -> Iterator[str]:
    for key, value in overlay.items():
        if isinstance(value, Noted):
            yield from _comment(value.comment, depth)
            value = value.value
        pad, written = "  " * depth, _scalar(key)
        name = f"{pad}{written}:"
        if len(written) > _LONGEST_KEY:
            yield f"{pad}? {written}"
            name = f"{pad}:"
        if isinstance(value, Mapping) and value:
            yield name
            yield from _lines(value, depth + 1)
        elif isinstance(value, list) and value:
            yield name
            yield from (f"{pad}  - {_scalar(item)}" for item in value)
        else:
            yield f"{name} {_scalar(value)}"


def _scalar(value: Any) -> str:
    # Unusual text is quoted: plain and single-quoted text would be folded over lines.
    style = '"' if isinstance(value, str) and not value.isprintable() else None
    text = yaml.safe_dump(value, default_flow_style=True, default_style=style, width=10**9)
    return text.removesuffix("\n...\n").removesuffix("\n")


def _comment(text: str, depth: int) -> Iterator[str]:
    width = 98 - 2 * depth
    for paragraph in text.split("\n"):
        paragraph = "".join(letter if letter.isprintable() else "?" for letter in paragraph)
        line = ""
        for word in paragraph.split(" "):
            if line and len(line) + 1 + len(word) > width:
                yield f"{'  ' * depth}# {line}"
                line = word
            else:
                line = f"{line} {word}" if line else word
        yield f"{'  ' * depth}# {line}".rstrip()
