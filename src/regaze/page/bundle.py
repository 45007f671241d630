"""The runtime that a page runs models with: onnxruntime-web, which the user brings or has fetched.

Nothing is fetched unless asked for; what is used has the checksums that stand here.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from regaze.outputs import replacing

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}
"""Names of its files in the package's folder ``dist``, and their SHA-256."""
_MOST_BYTES = 32 << 20
_SECONDS = 300


@dataclass(frozen=True)
class Bundle:
    """The runtime's files.

    Attributes:
        script: its JavaScript, a module.
        wasm: its WebAssembly.
    """

    script: bytes
    wasm: bytes


def cache() -> Path:
    """The folder of fetched files, below the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "regaze" / f"{PACKAGE}-{VERSION}"


def open_bundle(folder: Path | None = None, *, fetch: bool = False) -> Bundle:
    """Read the runtime, checked.

    Args:
        folder: where :data:`FILES` lie; None: the cache.
        fetch: fill the cache by npm where it lacks them.

    Raises:
        FileNotFoundError: a file is missing; the message says how to get it.
        ValueError: a file is another one, or npm failed.
    """
    place = folder or cache()
    if folder is None and fetch and not all((place / name).is_file() for name in FILES):
        _fetch(place)
    return Bundle(*(_checked(place / name, known) for name, known in FILES.items()))


def _checked(path: Path, known: str) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a file of {PACKAGE} {VERSION}, found none; have it fetched by npm "
            f"with --fetch, or run `npm pack {PACKAGE}@{VERSION}`, unpack it and name its folder "
            "dist with --runtime"
        )
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != known:
        raise ValueError(
            f"{path}: expected the file of {PACKAGE} {VERSION}, SHA-256 {known}, found {found}"
        )
    return content


def _fetch(place: Path) -> None:
    """Fill a folder with :data:`FILES` from the package that npm downloads."""
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(f"--fetch: expected npm to fetch {PACKAGE} with, found none on the path")
    with tempfile.TemporaryDirectory() as there:
        line = [npm, "pack", "--silent", "--ignore-scripts", f"{PACKAGE}@{VERSION}"]
        try:
            done = subprocess.run(line, cwd=there, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise ValueError(f"npm pack {PACKAGE}@{VERSION}: no answer in {_SECONDS} s") from None
        archives = list(Path(there).glob("*.tgz"))
        if done.returncode or not archives:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise ValueError(f"npm pack {PACKAGE}@{VERSION}: failed: {lines[-1]}")
        try:
            _unpack(archives[0], place)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise ValueError(f"npm pack {PACKAGE}@{VERSION}: damaged archive: {error}") from None


def _unpack(archive: Path, place: Path) -> None:
    """Copy :data:`FILES` out of an archive, each only if its checksum agrees."""
    wanted = {f"package/dist/{name}": name for name in FILES}
    with tarfile.open(archive) as content:
        for member in content:
            name = wanted.get(member.name)
            if name is None or not member.isreg() or member.size > _MOST_BYTES:
                continue
            data = io.BytesIO()
            shutil.copyfileobj(content.extractfile(member), data)
            with replacing(place / name) as part:
                part.write_bytes(data.getvalue())
                _checked(part, FILES[name])
