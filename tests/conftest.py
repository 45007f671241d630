"""One thread per process: tiny networks lose more to waiting threads than they gain."""

import os
from collections import Counter
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

FOLDERS = ("tests/workflow", "tests/faults")
"""Folders whose tests share a run of the workflow, which a session fixture makes."""
APART = ("test_code_versions.py", "test_reruns.py")
"""Files there that run nothing. `xdist_group` would say this, but does nothing with pytest 9.2."""


FIRST = (
    "tests/workflow",
    "tests/unit/redirectors/test_contract.py",
    "tests/conformance/test_conformance.py",
    "tests/unit/training/test_ddp.py",
    "tests/workflow/test_reruns.py",
    "tests/workflow/test_code_versions.py",
    "tests/unit/landmarks/test_face_alignment.py",
    "tests/unit/training/test_redirector_stage.py",
    "tests/unit/capture/test_render.py",
    "tests/unit/redirectors/xunet/test_sampling.py",
    "tests/unit/redirectors/xunet/test_distil.py",
    "tests/unit/face3d/test_ict.py",
    "tests/unit/face3d/test_acquire.py",
    "tests/unit/training/test_loop.py",
    "tests/unit/face3d/test_training.py",
    "tests/unit/redirectors/test_sample.py",
)
"""What takes longest; what takes a few seconds fills the cores up to the end."""


def run_of(nodeid):
    """The file of a test, or the folder whose tests share a run of the workflow."""
    path = nodeid.split("::")[0]
    folder = path.rpartition("/")[0]
    return folder if folder in FOLDERS and Path(path).name not in APART else path


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, and go on with files of many tests."""
    counts = Counter(run_of(item.nodeid) for item in items)
    places = {name: number for number, name in enumerate(FIRST)}

    def place(item):
        run = run_of(item.nodeid)
        return places.get(run, len(FIRST)), -counts[run]

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Of a run in several processes each takes whole files, in the order of the collection."""
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False

    class ByRun(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return run_of(nodeid)

    return ByRun(config, log)


class Tally:
    """Says at the end how many conformance cases passed, in however many processes."""

    def __init__(self):
        self.counts = Counter()

    def pytest_runtest_logreport(self, report):
        # User properties are lists in reports from other processes.
        counted = ["conformance", True] in map(list, report.user_properties)
        if counted and (report.when == "call" or report.outcome != "passed"):
            self.counts[report.outcome] += 1

    def pytest_terminal_summary(self, terminalreporter):
        if self.counts:
            told = (self.counts[name] for name in ("passed", "failed", "skipped"))
            terminalreporter.ensure_newline()
            terminalreporter.write_line(
                "conformance: {} passed, {} failed, {} not covered".format(*told)
            )


def pytest_configure(config):
    config.pluginmanager.register(Tally())
