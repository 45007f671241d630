"""Which modules of the library a script can reach, by following names through the sources.

Imports alone would tell too much: a module with three trainings imports what each of them needs.
So names are followed: from the names that a script uses to the functions and classes that they
are, to the names used in those, and so on. Annotations of functions are left out.
"""

import ast
from functools import cache
from pathlib import Path

SRC = Path(__file__).parents[2] / "src"


@cache
def module(name):
    """Definitions, imports and names used at the top of a module; None where there is none."""
    base = SRC / name.replace(".", "/")
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return parsed(path, name) if path.is_file() else None


def parsed(path, name):
    tree = ast.parse(path.read_text())
    defined, imported, top = {}, {}, set()

    def visit(body):
        for node in body:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                continue
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in (name for entry in targets for name in ast.walk(entry)):
                    if isinstance(target, ast.Name):
                        defined.setdefault(target.id, []).append(node)
            elif isinstance(node, ast.If | ast.Try | ast.With | ast.For):
                visit([*node.body, *getattr(node, "orelse", [])])
            elif not isinstance(node, ast.Import | ast.ImportFrom):
                top.update(used(node))

    visit(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("regaze"):
            for alias in node.names:
                imported[alias.asname or alias.name] = (node.module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("regaze"):
                    imported[alias.asname or alias.name.split(".")[0]] = (alias.name, None)
    return {"name": name, "defined": defined, "imported": imported, "top": top}


def used(node):
    """Names that are used below a node, and attributes of names as ``(name, attribute)``."""
    found, todo = set(), [node]
    while todo:
        here = todo.pop()
        if isinstance(here, ast.Name):
            found.add((here.id, None))
        elif isinstance(here, ast.Attribute) and isinstance(here.value, ast.Name):
            found.add((here.value.id, here.attr))
            continue
        for part, value in ast.iter_fields(here):
            function = isinstance(here, ast.FunctionDef | ast.arg)
            if function and part in ("annotation", "returns"):
                continue
            children = value if isinstance(value, list) else [value]
            todo += [child for child in children if isinstance(child, ast.AST)]
    return found


def reached(script, dynamic):
    """Modules with a definition that a script reaches.

    Args:
        script: path of the script.
        dynamic: for functions that import by name, ``(module, name)``, what they reach.
    """
    about = parsed(Path(script), "script")
    todo = [(about, names) for names in [about["top"], *map(used, bodies(about))]]
    seen, modules = set(), set()

    def follow(name, symbol):
        found = module(name)
        if found is None or (name, symbol) in seen:
            return
        seen.add((name, symbol))
        if symbol in found["defined"]:
            if name not in modules:
                modules.add(name)
                todo.append((found, found["top"]))
            for node in found["defined"][symbol]:
                todo.append((found, used(node)))
            for other, target in dynamic.get((name, symbol), []):
                follow(other, target)
        elif symbol in found["imported"]:
            follow(*found["imported"][symbol])

    while todo:
        here, names = todo.pop()
        for name, attribute in names:
            if name in here["imported"]:
                origin, symbol = here["imported"][name]
                inner = origin if symbol is None else f"{origin}.{symbol}"
                if module(inner) is not None:
                    follow(inner, attribute)
                else:
                    follow(origin, symbol)
            elif name in here["defined"] and here["name"] != "script":
                follow(here["name"], name)
    return modules


def bodies(about):
    return [node for nodes in about["defined"].values() for node in nodes]
