"""Nothing in the source can turn data, weights, configurations or names into running code."""

import ast
import re
from pathlib import Path

import pytest

from regaze.face3d import pickles

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for folder in ("src/regaze", "workflow_scripts") for path in (ROOT / folder).rglob("*.py")
)
RULES = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]

FORBIDDEN = {
    "eval", "exec", "compile", "__import__",
    "os.system", "os.popen", "os.spawnl", "os.spawnv", "os.execv", "os.execvp",
    "subprocess.getoutput", "subprocess.getstatusoutput",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "_pickle.Unpickler",
    "marshal.load", "marshal.loads", "shelve.open", "joblib.load", "pandas.read_pickle",
    "pd.read_pickle", "dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load",
    "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter",
    "tempfile.mktemp", "shutil.unpack_archive",
}  # fmt: skip
FORBIDDEN_ENDINGS = (".extractall", ".read_pickle")
REQUIRED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}


def said(node):
    """The dotted name that is called, or ''."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *parts[::-1]]) if isinstance(node, ast.Name) else ""


def faults(text):
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and {said(base) for base in node.bases} & FORBIDDEN:
            found.append(f"line {node.lineno}: class {node.name}")
        if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "_pickle"):
            found.append(f"line {node.lineno}: names out of {node.module}")
        if not isinstance(node, ast.Call):
            continue
        name = said(node.func)
        keywords = {one.arg: one.value for one in node.keywords}
        if name in FORBIDDEN or name.endswith(FORBIDDEN_ENDINGS):
            found.append(f"line {node.lineno}: {name}")
        if "shell" in keywords and not (
            isinstance(keywords["shell"], ast.Constant) and keywords["shell"].value is False
        ):
            found.append(f"line {node.lineno}: shell=")
        if name in REQUIRED:
            key, value = REQUIRED[name]
            given = keywords.get(key)
            if not isinstance(given, ast.Constant) or given.value is not value:
                found.append(f"line {node.lineno}: {name} without {key}={value}")
        if name.startswith("subprocess.") and node.args:
            first = node.args[0]
            if isinstance(first, ast.JoinedStr | ast.Constant):
                found.append(f"line {node.lineno}: {name} with a text instead of a list")
    return found


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')",
        "os.system('ls')",
        "subprocess.run(['ls'], shell=True)",
        "subprocess.run(f'ls {name}')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "archive.extractall(folder)",
        "pickle.loads(data)",
        "class Reader(pickle.Unpickler): pass",
        "from pickle import Unpickler",
    ],
)
def test_the_check_sees_what_it_should(text):
    assert faults(text)


def test_no_source_executes_data():
    assert len(SOURCES) > 100
    found = {
        path.relative_to(ROOT).as_posix(): wrong
        for path in SOURCES
        if (wrong := faults(path.read_text(encoding="utf-8")))
    }
    # the one unpickler, whose every name is a class that does nothing
    (only,) = found.pop("src/regaze/face3d/pickles.py")
    assert only.endswith("class _Unpickler") and "find_class" in vars(pickles._Unpickler)
    assert all(issubclass(cls, pickles.Inert) for cls in pickles.ALLOWED.values())
    assert not found


def test_modules_are_chosen_by_names_that_exist_only():
    """What import_module is given comes out of a list of what is in the package."""
    from regaze.redirectors.base import build_redirector
    from regaze.sources import options_class

    for hostile in ("os", "..jobs", "xunet.settings", "../xunet", "", "a;b", "xunet\n"):
        with pytest.raises((ValueError, KeyError)):
            build_redirector({"class": hostile})
        with pytest.raises((ValueError, KeyError)):
            options_class(hostile)


def test_rules_have_no_shell():
    """Paths reach scripts as values; a shell would read quotes and semicolons of a name."""
    for path in RULES:
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"^\s*(shell|run|wrapper|notebook|cwl)\s*:", text, re.MULTILINE)
        assert not found, f"{path.name}: {found}"
        assert not re.search(r"\b(shell|eval|exec|os\.system)\(", text), path.name
