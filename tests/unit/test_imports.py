"""Imports between the packages and modules of the library run in one direction."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import regaze

ROOT = Path(regaze.__file__).parent


def imported(tree):
    """Names of modules that a module imports, wherever in it, and not only at run time."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_there(path):
    """Whether there is a module or package of this name."""
    return path.is_dir() or path.with_suffix(".py").exists()


def below(root, depth):
    """What imports what below a folder, by names of ``depth`` parts after the package's own."""
    edges = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        name = ".".join(parts[:depth])
        for other in imported(ast.parse(path.read_text("utf-8"))):
            package, _, rest = other.partition(".")
            target = rest.split(".")
            # The last part may be a function of a module.
            while target and not any(
                (root / "/".join(target)).with_suffix(s).exists() for s in ("", ".py")
            ):
                target.pop()
            other = ".".join(target[:depth])
            if package == root.name and other not in ("", name):
                edges.setdefault(name, set()).add(other)
    return edges


@pytest.mark.parametrize("depth", [1, 2])
def test_imports_go_round_in_no_circle(depth):
    try:
        TopologicalSorter(below(ROOT, depth)).prepare()
    except CycleError as error:
        pytest.fail(f"circle of imports: {' <- '.join(error.args[1])}")


def test_circles_are_found(tmp_path):
    package = tmp_path / "house"
    for room, other in (("attic", "cellar"), ("cellar", "attic")):
        (package / room).mkdir(parents=True)
        (package / room / "things.py").write_text(
            f"def find():\n    from house.{other}.things import find\n"
        )
    edges = below(package, 1)
    assert edges == {"attic": {"cellar"}, "cellar": {"attic"}}
    with pytest.raises(CycleError):
        TopologicalSorter(edges).prepare()
