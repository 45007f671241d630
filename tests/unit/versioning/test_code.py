"""Versions of code: by what a script reaches, on small libraries."""

import json
import sys
from textwrap import dedent

import pytest

from regaze.versioning import code
from regaze.versioning.code import Picked, Sources

BASE = {
    "regaze/redirectors/base.py": """
        from torch.nn import Module
        from regaze.methods import method_module

        class Redirector(Module):
            @property
            def network(self): ...
            def edit(self): ...
            def losses(self): ...

        def build_redirector(name):
            return method_module(name, "redirector").build()
    """,
    "regaze/a.py": """
        '''About.'''
        import regaze.b
        from regaze.c import *
        from regaze import d

        LIMIT = 3

        def used(n: "Nothing"):
            '''Docstring.'''
            return regaze.b.inner(n) + star() + d.last(LIMIT)

        def idle():
            return 1

        class Whole:
            def one(self): ...
            def two(self): ...
    """,
    "regaze/b.py": "def inner(n): return n\n",
    "regaze/c.py": "def star(): return 1\ndef other(): return 2\n",
    "regaze/d.py": "def last(n): return n\ndef idle(): ...\n",
}


@pytest.fixture
def tree(tmp_path):
    """Writes sources; ``version(script, ...)`` of a script's text."""

    class Tree:
        root = tmp_path

        def write(self, name, text):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))

        def change(self, name, old, new):
            text = (tmp_path / name).read_text()
            assert old in text
            (tmp_path / name).write_text(text.replace(old, new))

        def version(self, script, store=None, **chosen):
            without = chosen.pop("without", ())
            self.write("script.py", script)
            sources = Sources(tmp_path / "regaze", store)
            return sources.version(tmp_path / "script.py", Picked(chosen, without))

    made = Tree()
    for name, text in BASE.items():
        made.write(name, text)
    return made


USED = "from regaze.a import used\nused(1)\n"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a.py", "return regaze.b", "return -regaze.b"),
        ("a.py", "LIMIT = 3", "LIMIT = 4"),
        ("b.py", "return n", "return -n"),
        ("c.py", "return 1", "return 3"),
        ("d.py", "return n", "return -n"),
    ],
)
def test_what_is_reached_counts(tree, name, old, new):
    before = tree.version(USED)
    tree.change(f"regaze/{name}", old, new)
    assert tree.version(USED) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a.py", "return 1", "return 2"),
        ("a.py", "Docstring.", "Another."),
        ("a.py", "About.", "Another."),
        ("a.py", "def one(self): ...", "def one(self): return 1"),
        ("c.py", "return 2", "return 3"),
        ("d.py", "def idle(): ...", "def idle(): return 1"),
    ],
)
def test_what_is_not_reached_or_only_told_does_not(tree, name, old, new):
    before = tree.version(USED)
    tree.change(f"regaze/{name}", old, new)
    assert tree.version(USED) == before


def test_a_class_counts_whole_and_so_does_a_module_that_is_handed_over(tree):
    script = "from regaze.a import Whole\nfrom regaze import d\nWhole().one(d)\n"
    before = tree.version(script)
    tree.change("regaze/a.py", "def two(self): ...", "def two(self): return 1")
    between = tree.version(script)
    tree.change("regaze/d.py", "def idle(): ...", "def idle(): return 1")
    assert len({before, between, tree.version(script)}) == 3


METHOD = """
    from regaze.redirectors.base import Redirector
    from .layers import Net, quick

    class Mine(Redirector):
        size = 3
        def __init__(self): self.net = Net()
        def forward(self): ...
        def losses(self): return self._helper()
        def _helper(self): return 1
        def edit(self): return quick()

    def build(): return Mine()
"""
SCRIPT = "from regaze.redirectors.base import build_redirector\nbuild_redirector('m').losses()\n"


@pytest.fixture
def method(tree, monkeypatch):
    """A method of another package."""
    tree.write("outer/__init__.py", "")
    tree.write("outer/mine/__init__.py", "")
    tree.write("outer/mine/redirector.py", METHOD)
    tree.write("outer/mine/layers.py", "class Net: ...\ndef quick(): return 1\ndef idle(): ...\n")
    monkeypatch.setattr(code, "methods", lambda: {"mine": "outer.mine"})
    monkeypatch.setattr(code, "distribution_of", lambda name: True)
    monkeypatch.setattr(code, "method_folder", lambda name: tree.root / "outer/mine")
    yield tree
    assert not any(name.partition(".")[0] == "outer" for name in sys.modules), "imported"


@pytest.mark.parametrize(
    ("name", "old", "new", "counts"),
    [
        ("redirector.py", "return self._helper()", "return 2", True),
        ("redirector.py", "return 1", "return 2", True),
        ("redirector.py", "size = 3", "size = 4", True),
        ("redirector.py", "def forward(self): ...", "def forward(self): return 1", True),
        ("redirector.py", "return quick()", "return -quick()", False),
        ("layers.py", "class Net: ...", "class Net: new = 1", True),
        ("layers.py", "return 1", "return 2", False),
    ],
)
def test_methods_of_a_method_count_where_they_are_called(method, name, old, new, counts):
    before = method.version(SCRIPT), method.version(SCRIPT.replace("losses", "edit"))
    method.change(f"outer/mine/{name}", old, new)
    assert (method.version(SCRIPT) != before[0]) is counts
    if name == "layers.py":
        assert method.version(SCRIPT.replace("losses", "edit")) != before[1]


def test_what_never_comes_to_torch_calls_no_method(method):
    method.write("regaze/table.py", "def rows(table): return table.edit\n")
    script = f"from regaze.table import rows\nrows(1)\n{SCRIPT}"
    before = method.version(script)
    method.change("outer/mine/redirector.py", "return quick()", "return -quick()")
    assert method.version(script) == before
    # As in a module that a network may be given to, seen through what it imports.
    method.write("regaze/e.py", "import torch\n")
    method.write("regaze/table.py", "from regaze import e\ndef rows(net): return net.edit\n")
    before = method.version(script)
    method.change("outer/mine/redirector.py", "return -quick()", "return quick()")
    assert method.version(script) != before


def test_a_class_that_computes_names_of_its_own_counts_whole(method):
    method.change("outer/mine/redirector.py", "size = 3", "def f(self, n): getattr(self, n)")
    before = method.version(SCRIPT)
    method.change("outer/mine/redirector.py", "return quick()", "return -quick()")
    assert method.version(SCRIPT) != before


def test_what_is_not_picked_does_not_count(method):
    before = method.version(SCRIPT, methods=[])
    without = method.version(SCRIPT, without=["outer.mine.layers:Net"])
    method.change("outer/mine/layers.py", "class Net: ...", "class Net: new = 1")
    assert method.version(SCRIPT, methods=[]) == before
    assert method.version(SCRIPT, without=["outer.mine.layers:Net"]) == without
    with pytest.raises(ValueError, match="nothing is called other, others"):
        method.version(SCRIPT, methods=["other"], others=[])


def test_files_that_a_module_names_beside_itself_count(tree):
    tree.write("regaze/page.py", "STYLE = Path(__file__).with_name('x.css')\n")
    tree.write("regaze/x.css", "a")
    tree.write("regaze/y.css", "a")
    script = "from regaze.page import STYLE\nSTYLE\n"
    before = tree.version(script)
    tree.write("regaze/y.css", "b")
    assert tree.version(script) == before
    tree.write("regaze/x.css", "b")
    assert tree.version(script) != before


def test_versions_are_kept_while_no_source_changes(tree, monkeypatch):
    store = tree.root / "kept/versions.json"
    expected = tree.version(USED, store)
    assert not store.exists()
    store.parent.mkdir()
    assert tree.version(USED, store) == expected
    monkeypatch.setattr(Sources, "reached", lambda *given: pytest.fail("looked again"))
    assert tree.version(USED, store) == expected
    monkeypatch.undo()
    # Another script, another source, a broken file: looked at again.
    assert tree.version("from regaze.b import inner\ninner(1)\n", store) != expected
    tree.change("regaze/b.py", "return n", "return -n")
    assert tree.version(USED, store) not in (expected, None)
    for broken in ("", "[]", '{"sources": 1}', json.dumps({"sources": 1, "versions": None})):
        store.write_text(broken)
        assert tree.version(USED, store) != expected


def test_all_places_that_pick_by_name_are_there():
    sources = Sources()
    for place, names in sources.choices.values():
        symbols = {place, *(symbol for picks in names.values() for symbol in picks)}
        for module, name in symbols:
            about = sources._module(module)
            assert about is not None, module
            assert not name or name in about.units, f"{module}:{name}"
    assert set(code.EXEMPT) == {name for name in code.EXEMPT if sources._module(name)}
