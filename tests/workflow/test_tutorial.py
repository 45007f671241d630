"""The commands that docs/tutorial.md calls tested, run as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT

LINKED = (
    "Snakefile",
    "config.yaml",
    "configs",
    "rules",
    "src",
    "workflow_scripts",
    "profiles",
    "envs",
)
BLOCK = re.compile(r"^```(\w+) (\w+)(?:=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def clone(finished, tmp_path_factory):
    """A folder like a clone after `make tiny`, with the files that the page has one write."""
    folder = tmp_path_factory.mktemp("clone")
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(finished, folder / "build" / "tiny")
    for _, kind, name, text in BLOCK.findall((ROOT / "docs/tutorial.md").read_text("utf-8")):
        if kind == "file":
            (folder / name).write_text(text, "utf-8")
    return folder


def commands():
    text = (ROOT / "docs/tutorial.md").read_text("utf-8")
    for _, kind, _, block in BLOCK.findall(text):
        if kind in ("run", "plan"):
            for line in block.replace("\\\n", " ").splitlines():
                yield kind, " ".join(line.split())


def test_the_page_has_commands():
    assert len(list(commands())) >= 6


@pytest.mark.parametrize("kind, line", list(commands()))
def test_command(clone, kind, line):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if kind == "plan":
        line = line.replace("snakemake ", "snakemake -n ", 1)
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=clone,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    if "--gaze" in line:
        assert list((clone / "redirected").glob("*.png"))
    if "mine.yaml" in line and "-n" in line.split():
        assert "train_model" in done.stdout and "render_capture" not in done.stdout
    if "data.yaml" in line:
        assert (clone / "build/tiny/results/photos/faces/contact-sheet.png").is_file()
