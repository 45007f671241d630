"""Damages of folders: names, links and strangers among the photos; and of splits."""

import json
import os
import shutil

from captures.damage import LAYOUTS, Damage
from captures.damaged_tables import FILES


def _photo(layout, change):
    def apply(folder):
        path = folder / "data" / LAYOUTS[layout].photos[0]
        change(path)

    return apply


def _renamed(name):
    def change(path):
        os.rename(path, os.path.join(os.fsencode(path.parent), name))

    return change


def _copied(name):
    return lambda path: shutil.copy(path, path.parent / name)


def _linked(name, target):
    return lambda path: (path.parent / name).symlink_to(target, target_is_directory=True)


def _loop(path):
    (path.parent / "round").mkdir()
    (path.parent / "round" / "back").symlink_to("..", target_is_directory=True)


def folder_damages():
    """A folder of photos."""
    out = []
    person = {"touched": LAYOUTS["folder_bare"].person()}

    def add(name, change, **how):
        out.append(Damage(f"folder {name}", "folder_bare", _photo("folder_bare", change), **how))

    # one row of the first person is called otherwise, but shows the same
    for name in (
        b"new\nline.jpg",
        b"-n.jpg",
        b"'q\".jpg",
        b"\xe9\xa1\x94.jpg",
        b"a" * 240 + b".jpg",
    ):
        add(f"name {name[:20]!r}", _renamed(name), kept=1, close=True)
    add("name of no UTF-8", _renamed(b"\xff\xfe.jpg"), reasons={"unreadable_image": 1})
    add("name as an escape, and what it escapes",
        lambda path: (_renamed(b"\xff.jpg")(path), (path.parent / "\\xff.jpg").touch()),
        reasons={"unreadable_image": 2})  # fmt: skip
    add("hidden file", _copied(".hidden.jpg"), touched=frozenset())
    add("a file of another kind", _copied("notes.txt"), touched=frozenset())
    add("a stranger's photo", lambda path: (path.parent / "more.jpg").write_bytes(b"\xff\xd8no"),
        touched=frozenset(), reasons={"unreadable_image": 1})  # fmt: skip
    add("an empty folder within", lambda path: (path.parent / "none").mkdir(), touched=frozenset())
    add("a folder named as a photo", lambda path: (path.parent / "dir.jpg").mkdir(),
        touched=frozenset())  # fmt: skip
    add("a link round", _loop, **person, reasons={"bad_file_name": 3})
    add("a link out to a folder", _linked("out", "/etc"), **person, reasons={"bad_file_name": 3})
    add("a link out to a file", _linked("out.jpg", "/etc/passwd"), **person,
        reasons={"bad_file_name": 3})  # fmt: skip
    add("200 folders deep", _deep, kept=1, close=True)
    bare = LAYOUTS["folder_bare"]

    def root(name, change, **how):
        out.append(
            Damage(f"root {name}", "folder_bare", lambda folder: change(folder / "data"), **how)
        )

    root("missing", shutil.rmtree, error="expected the data set.s folder, found none")
    root("empty", _emptied, error="expected a folder for each person, found none")
    root(
        "a file",
        lambda path: (shutil.rmtree(path), path.touch()),
        error="expected the data set.s folder",
    )
    root("a person without photos", lambda path: (path / "nobody").mkdir(),
         touched=frozenset(), reasons={"missing_person": 1})  # fmt: skip
    root("a person of no UTF-8", lambda path: os.mkdir(os.fsencode(path) + b"/\xff"),
         error="expected UTF-8 names of persons")  # fmt: skip
    root("a person is a link", lambda path: (path / "carl").symlink_to("anna"),
         error="carl: expected a folder, found a link")  # fmt: skip
    root("a person with a line break", lambda path: (path / "anna").rename(path / "an\nna"),
         touched=bare.person(), kept=2)  # fmt: skip
    root("a person called -rf", lambda path: (path / "anna").rename(path / "-rf"),
         touched=bare.person(), kept=2)  # fmt: skip
    root("photos beside the persons", lambda path: (path / "x.jpg").touch(),
         error="expected a folder for each person, found 1 photos beside them")  # fmt: skip
    return out


def _deep(path):
    place = path.parent
    for _ in range(200):
        place = place / "d"
        place.mkdir()
    path.rename(place / "deep.jpg")


def _emptied(path):
    shutil.rmtree(path)
    path.mkdir()


def columbia_damages():
    """Names of Columbia Gaze, which hold the labels."""
    out = []
    layout = LAYOUTS["columbia"]

    def add(name, change, **how):
        out.append(Damage(f"name {name}", "columbia", _photo("columbia", change), **how))

    all_three = {"touched": layout.person(), "reasons": {"bad_file_name": 3}}
    for name in (
        b"0001_2m_7P_10V_-5H.jpg",
        b"0001_2m_-15P_11V_-5H.jpg",
        b"0001_2m_-15P_10V_999H.jpg",
        b"0001_2m_-15P_10V.jpg",
        b"0013_2m_-15P_10V_-5H.jpg",
        b"0001_2m_-15P_10V_-5H.txt",
        b"0001_2m_\xd9\xa1P_10V_-5H.jpg",
        b"0001_2m_-15P_10V_-5H.jpg\n",
        b"\xff.jpg",
    ):
        add(repr(name), _renamed(name), **all_three)
    add("a stranger's photo beside", _copied("IMG_0001.jpg"), touched=layout.person(),
        reasons={"bad_file_name": 4})  # fmt: skip
    add("litter", lambda path: (path.parent / "Thumbs.db").touch(), touched=frozenset())
    add("the same labels twice", _copied("0001_2m_-15P_10V_-5H.JPG"), touched=frozenset(), kept=1)
    add("an empty person", lambda path: (path.parents[1] / "0002").mkdir(), touched=frozenset(),
        reasons={"missing_person": 1})  # fmt: skip
    return out


def tree_damages():
    """All of them."""
    return folder_damages() + columbia_damages()


def _changed(change):
    """A split file that is good but for ``change``."""

    def apply(folder):
        content = {"train": ["00002"], "val": [], "test": ["00517"]}
        content = change(content)
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path = folder / "split.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return apply


def _file(change):
    def apply(folder):
        path = _changed(lambda content: content)(folder)
        change(path)
        return path

    return apply


SPLITS = {
    # name: what is done, pattern of the error
    "a person in two parts": (
        _changed(lambda c: c | {"val": ["00002"]}),
        "00002.*train.*val",
    ),
    "a person twice": (_changed(lambda c: c | {"train": ["00002"] * 2}), "'00002' is listed twice"),
    "a part missing": (_changed(lambda c: {"train": []}), "val: expected a list"),
    "a part that is a text": (_changed(lambda c: c | {"val": "00517"}), "val: expected a list"),
    "a part that is null": (_changed(lambda c: c | {"val": None}), "val: expected a list"),
    "numbers for names": (_changed(lambda c: c | {"val": [517]}), "val: expected a list of names"),
    "lists of lists": (_changed(lambda c: c | {"val": [["x"]]}), "val: expected a list of names"),
    "an empty name": (_changed(lambda c: c | {"val": [""]}), "val: expected a list of names"),
    "another part": (_changed(lambda c: c | {"dev": []}), "dev: expected train, val, test"),
    "a stranger in a sub-list": (
        _changed(lambda c: c | {"train-phone": ["00517"]}),
        "train-phone: expected persons of 'train'",
    ),
    "both judges": (
        _changed(lambda c: c | {"train-redirector": ["00002"], "train-evaluator": ["00002"]}),
        "expected nobody in two lists",
    ),
    "a list": (_changed(lambda c: [c]), "expected an object of lists"),
    "only strangers": (
        _changed(lambda c: {"train": ["a"], "val": [], "test": []}),
        "expected persons of",
    ),
    "nested deeply": (_changed(lambda c: "[" * 100_000), "expected JSON"),
    "numbers that never end": (_changed(lambda c: "1" * 10_000), "expected"),
    "UTF-16": (_changed(lambda c: json.dumps(c).encode("utf-16")), "expected JSON"),
    **{name: (_file(change), "split.json: ") for name, change in FILES.items()},
}
"""Splits that are refused."""

HARMLESS_SPLITS = {
    "a BOM": _changed(lambda c: b"\xef\xbb\xbf" + json.dumps(c).encode()),
    "CRLF": _changed(lambda c: json.dumps(c, indent=1).replace("\n", "\r\n")),
    "persons who are not there": _changed(lambda c: c | {"val": ["99999"]}),
}
"""Splits that are taken."""
