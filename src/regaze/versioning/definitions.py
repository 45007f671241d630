"""Definitions and imports of a module, read from its source without importing it.

What counts as code, and what of a class counts by itself, is said in
:mod:`regaze.versioning.code`.
"""

from __future__ import annotations

import ast
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate
from pathlib import Path

# What torch itself calls of a module belongs to the class.
_OF_TORCH = {
    *("forward", "train", "eval", "to", "cpu", "cuda", "float", "half", "double", "apply"),
    *("_apply", "state_dict", "load_state_dict", "_save_to_state_dict", "_load_from_state_dict"),
    *("get_extra_state", "set_extra_state", "parameters", "named_parameters", "buffers"),
    *("named_buffers", "children", "named_children", "modules", "named_modules", "zero_grad"),
    *("requires_grad_", "extra_repr"),
}
_PLAIN = {"property", "cached_property", "staticmethod", "classmethod", "no_grad"}


Symbol = tuple[str, str]
"""A module and a name in it; an empty name stands for all of the module."""
# In place of a name: the module itself, under the name that it was imported as.
SELF = "*"


@dataclass(eq=False)
class Unit:
    """A definition, or another statement of a module.

    Attributes:
        symbol: its name in the module, empty for other statements.
        text: its source without docstrings.
        names: names used in it, with the attribute that is taken of them or None.
        attributes: all attributes used in it, of whatever.
        bases: of a class, names of its bases.
        split: of a class, what always counts and what may count by itself, by name.
    """

    symbol: str
    text: bytes
    names: set[tuple[str, str | None]]
    attributes: set[str]
    bases: tuple[str, ...] = ()
    split: tuple[Unit, dict[str, list[Unit]]] | None = None


@dataclass
class Module:
    """Definitions, other statements and imports of a module.

    ``stars`` are imported whole; ``origins`` are names of all modules that it may import.
    """

    name: str
    path: Path
    units: dict[str, list[Unit]] = field(default_factory=dict)
    top: list[Unit] = field(default_factory=list)
    imports: dict[str, set[Symbol]] = field(default_factory=dict)
    stars: set[str] = field(default_factory=set)
    origins: set[str] = field(default_factory=set)


def parsed(path: Path, name: str) -> Module:
    """The module ``name`` of a source; ``name`` is empty for a script."""
    return replace(_parsed_source(path.read_bytes(), name, path.name == "__init__.py"), path=path)


@cache
def _parsed_source(data: bytes, name: str, is_package: bool) -> Module:
    """A module by its text alone, wherever it lies; nobody changes what is inside."""
    starts = [0, *accumulate(map(len, data.splitlines(keepends=True)))]
    about = Module(name, Path())

    def text(node: ast.AST, without: Collection[ast.AST] = ()) -> bytes:
        """The source of a node without some that are in it, and without docstrings."""
        cuts = [_span(starts, one) for one in [*without, *filter(_is_docstring, ast.walk(node))]]
        at, end = _span(starts, node)
        parts = []
        for first, last in sorted(cuts):
            parts.append(data[at : max(at, first)])
            at = max(at, last)
        return b"".join([*parts, data[at:end]])

    def unit(symbol: str, node: ast.stmt) -> Unit:
        found = Unit(symbol, text(node), *_used([node]))
        if isinstance(node, ast.ClassDef):
            found.bases = tuple(base.id for base in node.bases if isinstance(base, ast.Name))
            apart = [one for one in node.body if _counts_by_itself(one)]
            if not any(map(_is_computed_name, ast.walk(node))):
                rest = [one for one in node.body if one not in apart]
                outside = [*node.bases, *node.keywords, *node.decorator_list, *rest]
                core = Unit(symbol, text(node, apart), *_used(outside))
                members: dict[str, list[Unit]] = {one.name: [] for one in apart}
                for one in apart:
                    members[one.name].append(Unit(symbol, text(one), *_used([one])))
                found.split = (core, members)
        return found

    for node in ast.parse(data, name or "<script>").body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        for one in ast.walk(node):
            if isinstance(one, ast.Import | ast.ImportFrom):
                _note_import(about, one, is_package)
        if isinstance(node, ast.Import | ast.ImportFrom) or _is_docstring(node):
            continue
        names = _defined(node)
        for symbol in names:
            about.units.setdefault(symbol, []).append(unit(symbol, node))
        if not names:
            about.top.append(unit("", node))
    return about


def _span(starts: list[int], node: ast.AST) -> tuple[int, int]:
    """First and last byte of a node, from the line of its first decorator on."""
    end = starts[node.end_lineno - 1] + node.end_col_offset
    if decorators := getattr(node, "decorator_list", []):
        return starts[decorators[0].lineno - 1], end
    return starts[node.lineno - 1] + node.col_offset, end


def _is_docstring(node: ast.AST) -> bool:
    constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return constant and isinstance(node.value.value, str)


def _counts_by_itself(node: ast.stmt) -> bool:
    """Whether nobody but code that names it calls a method."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    names = {
        one.id if isinstance(one, ast.Name) else getattr(one, "attr", "")
        for decorator in node.decorator_list
        for one in [decorator.func if isinstance(decorator, ast.Call) else decorator]
    }
    special = node.name.startswith("__") and node.name.endswith("__")
    return names <= _PLAIN and not special and node.name not in _OF_TORCH


def _is_computed_name(node: ast.AST) -> bool:
    """Whether an attribute is taken of the object itself by a name that is no constant."""
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    if not called or node.func.id != "getattr" or len(node.args) < 2:
        return False
    of, name = node.args[:2]
    return isinstance(of, ast.Name) and of.id == "self" and not isinstance(name, ast.Constant)


def _defined(node: ast.AST) -> set[str]:
    """Names that a statement of a module defines or changes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        inner = (one for target in targets for one in ast.walk(target))
        return {one.id for one in inner if isinstance(one, ast.Name)}
    return {name for one in ast.iter_child_nodes(node) for name in _defined(one)}


def _note_import(about: Module, node: ast.Import | ast.ImportFrom, is_package: bool) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            # Of `import a.b` the name is `a`, and what is taken of it may be of any module.
            name = alias.asname or alias.name.partition(".")[0]
            symbol = "" if alias.asname is None and "." in alias.name else SELF
            about.imports.setdefault(name, set()).add((alias.name, symbol))
            about.origins.add(alias.name)
        return
    origin = node.module or ""
    if node.level:
        parts = about.name.split(".")
        parts = parts[: len(parts) - node.level + is_package]
        origin = ".".join([*parts, *([node.module] if node.module else [])])
    about.origins |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    for alias in node.names:
        if alias.name == "*":
            about.stars.add(origin)
        else:
            about.imports.setdefault(alias.asname or alias.name, set()).add((origin, alias.name))


def _used(nodes: Collection[ast.AST]) -> tuple[set[tuple[str, str | None]], set[str]]:
    """Names used below nodes, with the attribute taken of them, and all attributes."""
    names: set[tuple[str, str | None]] = set()
    attributes: set[str] = set()
    todo = [*nodes]
    while todo:
        here = todo.pop()
        if isinstance(here, ast.Name):
            names.add((here.id, None))
            continue
        if isinstance(here, ast.Attribute):
            attributes.add(here.attr)
            if isinstance(here.value, ast.Name):
                names.add((here.value.id, here.attr))
                continue
        elif isinstance(here, ast.Call) and isinstance(here.func, ast.Name):
            named = here.args[1:2] if here.func.id in ("getattr", "hasattr") else []
            attributes |= {str(one.value) for one in named if isinstance(one, ast.Constant)}
        untold = isinstance(here, ast.FunctionDef | ast.AsyncFunctionDef | ast.arg)
        for part, value in ast.iter_fields(here):
            if untold and part in ("annotation", "returns"):
                continue
            children = value if isinstance(value, list) else [value]
            todo += [child for child in children if isinstance(child, ast.AST)]
    return names, attributes
