"""A small finished workflow that tests of faults copy and damage."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from kills import SMALL, Workflow, undisturbed


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Folder for the kill harness: capture to a trained estimator and pairs, made once."""
    folder = tmp_path_factory.mktemp("faults").resolve()
    origin = folder / "undisturbed"
    origin.mkdir()
    (origin / "seconds.json").write_text(json.dumps(undisturbed(origin, SMALL)))
    return folder


@pytest.fixture
def made(small, tmp_path):
    """A copy of the finished folder, which a test may damage."""
    folder = Path(tmp_path.resolve(), "made")
    shutil.copytree(small / "undisturbed", folder, symlinks=True)
    return folder


@pytest.fixture
def again():
    """Run the same command again in a folder; status and output."""

    def run(folder, *goals):
        output = folder / "again.log"
        output.unlink(missing_ok=True)
        status = Workflow(folder, output, goals or SMALL).process.wait(timeout=300)
        return SimpleNamespace(returncode=status, output=output.read_text())

    return run
