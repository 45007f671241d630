"""Where a result came from: code versions, fingerprints of files, package versions, revision.

:mod:`regaze.provenance.record` writes what every job was, :mod:`regaze.tracing.chain` reads it.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from importlib import metadata
from pathlib import Path, PurePosixPath

from regaze.methods import distribution_of, method_folder, methods

_SOURCE = Path(__file__).parents[1]
# What decides results; changed results and notes beside it do not make a revision dirty.
_DECIDING = ["src", "rules", "workflow_scripts", "envs", "requirements"]
_DECIDING += ["Snakefile", "config.yaml", "configs"]


def code_version(*packages: str) -> str:
    """Return 12 hex digits over the Python sources of library packages.

    Args:
        packages: names below ``regaze``, e.g. ``"normalise"``, ``"redirectors/xunet"`` or
            ``"angles.py"``; a method from outside is ``"redirectors/<name>"`` too. Used as a rule
            parameter, so that a change of the library re-runs what it affects and nothing else;
            files are read, nothing is imported.

    Raises:
        FileNotFoundError: no such package or module.
    """
    digest = hashlib.sha256()
    for package in sorted(packages):
        root = _root(package)
        files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if _is_source(p))
        if not files:
            raise FileNotFoundError(f"code_version: no sources below {root}")
        for file in files:
            name = PurePosixPath(package) / file.relative_to(root).as_posix()
            digest.update(name.as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _root(package: str) -> Path:
    folder, _, name = package.partition("/")
    return (
        method_folder(name) if folder == "redirectors" and name in methods() else _SOURCE / package
    )


def _is_source(path: Path) -> bool:
    return path.suffix in {".py", ".j2", ".css", ".mplstyle", ".json"}


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, read in blocks, as 64 hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(*paths: str | Path) -> str:
    """Return 16 hex digits over the contents of files, in the given order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(file_sha256(path).encode())
    return digest.hexdigest()[:16]


def content_hash(content) -> str:
    """Return 16 hex digits over a JSON-able value, independent of the order of its keys."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions(method: str = "") -> dict[str, str]:
    """Return the versions of the packages that decide numbers, and of regaze itself.

    ``method`` names a redirection method, whose own package is told if it is from outside.
    """
    names = ["regaze", "torch", "torchvision", "numpy", "opencv-python-headless", "h5py"]
    names += ["embreex", "face-alignment", "simplejpeg", "pillow"]
    found = {}
    if own := distribution_of(method):
        found[own.name] = own.version
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_revision(folder: str | Path = _SOURCE.parents[1]) -> str:
    """Return the revision of a work tree, ``unknown`` where there is none.

    Args:
        folder: root of the work tree; default the one that this library lies in.

    ``-dirty`` is appended where sources, rules or configuration files differ from the revision.
    """
    commands = [
        ["ls-files", "--error-unmatch", "Snakefile"],
        ["rev-parse", "--short=12", "HEAD"],
        ["status", "--porcelain", "--", *_DECIDING],
    ]
    told = []
    for command in commands:
        line = ["git", "--no-optional-locks", "-C", str(folder), *command]
        try:
            done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            return "unknown"
        told.append(done.stdout.strip())
    return told[1] + ("-dirty" if told[2] else "")
