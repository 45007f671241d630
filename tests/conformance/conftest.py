"""Run every conformance case found below a folder; ``tests/conftest.py`` counts what happened."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # adapters import `kit` and `loading` by name


def pytest_addoption(parser):
    parser.addoption(
        "--conformance-dir",
        metavar="DIR",
        help="run the cases found at DIR/TOPIC/NAME (default: tests/conformance/cases)",
    )


def case_folders(config) -> list[Path]:
    """Return the case folders asked for, sorted by topic and name."""
    root = Path(config.getoption("conformance_dir", None) or HERE / "cases")
    folders = sorted(path.parent for path in root.glob("*/*/manifest.json"))
    if not folders:
        raise pytest.UsageError(f"--conformance-dir: no TOPIC/NAME/manifest.json below {root}")
    return folders


def pytest_generate_tests(metafunc):
    if "case_folder" in metafunc.fixturenames:
        folders = case_folders(metafunc.config)
        names = [f"{folder.parent.name}/{folder.name}" for folder in folders]
        metafunc.parametrize("case_folder", folders, ids=names)


def pytest_collection_modifyitems(items):
    for item in items:
        if "case_folder" in getattr(item, "fixturenames", ()):
            item.user_properties.append(("conformance", True))
