"""What every job of the workflow was, written when it ends: ``results/provenance/<rule>/...json``.

A record names the files that the job read and wrote with their fingerprints, its parameters, the
revision and the version of the code, the packages and the class of machine. It stands apart from
the results: it differs between machines and revisions where results do not, so as a part of them it
would make equal results look different to DVC and to everybody who compares them. It is no declared
output either: a job whose record is lost need not run again.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from regaze.outputs import write_json
from regaze.provenance import content_hash, file_sha256, fingerprint, git_revision, versions

FOLDER = Path("results/provenance")
# Folders up to this size are fingerprinted by content; larger ones, which are photos that a user
# brought, by the names and sizes of their files.
BY_CONTENT = 2**30
# Parameters that are said elsewhere in the record, or decide nothing.
_APART = ("code", "state", "name", "whole")
READ, PERSONS = "names and sizes of what was read", "names of persons"


def record_path(rule: str, wildcards: Mapping[str, str], folder: str | Path = FOLDER) -> Path:
    """Where the record of a job stands: a file per rule, or below it per value of its wildcards."""
    parts = [rule, *(str(value) for value in wildcards.values())]
    if any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts):
        raise ValueError(f"record of {rule}: expected names without slashes, found {parts[1:]}")
    return Path(folder, *parts[:-1], f"{parts[-1]}.json")


def write_record(
    rule: str,
    wildcards: Mapping[str, str],
    *,
    inputs: Iterable[str],
    outputs: Iterable[str],
    params: Mapping,
    threads: int,
    root: str | None = None,
    folder: str | Path = FOLDER,
) -> Path | None:
    """Write the record of a job that has ended, and return its path.

    Args:
        rule: name of the job's rule.
        wildcards: their values.
        inputs, outputs: files and folders, relative to the working directory.
        params: plain values; ``code`` is the version of the sources.
        threads: that the job was given.
        root: the input that is a raw data set. Where the parameter ``raw`` tells what the job reads
            of it (:mod:`regaze.sources.raw`), that is recorded, and the rest is not looked at.
        folder: of all records.

    Returns:
        The path, or None when an output is missing: such a job has failed, and is no origin.
    """
    # Snakemake's own order is not the same in every run.
    wildcards = dict(sorted(wildcards.items()))
    outputs = list(dict.fromkeys(map(str, outputs)))
    if not outputs or not all(map(os.path.exists, outputs)):
        return None
    told = {key: value for key, value in params.items() if key not in _APART}
    told = json.loads(json.dumps(told, default=str))
    content = {
        "format": 1,
        "rule": rule,
        "wildcards": dict(wildcards),
        "inputs": {
            path: _read(params["raw"]) if path == str(root) and params.get("raw") else _seen(path)
            for path in dict.fromkeys(map(str, inputs))
        },
        "outputs": {path: describe(path) for path in outputs},
        "params": told,
        "config": content_hash({key: value for key, value in told.items() if key != "raw"}),
        "code": params.get("code"),
        "threads": threads,
        "revision": git_revision(),
        "versions": {**versions(_method(params)), "python": platform.python_version()},
        "machine": machine(),
    }
    path = record_path(rule, wildcards, folder)
    write_json(path, content)
    return path


def _read(raw: Mapping) -> dict:
    """What a job read of a raw data set; who is in it where it reads nothing else."""
    if "sizes" not in raw:
        return {"fingerprint": content_hash(raw["persons"]), "by": PERSONS}
    told = {key: raw[key] for key in ("files", "bytes", "dates")}
    return {"fingerprint": raw["sizes"], "by": READ, **told}


def _method(params: Mapping) -> str:
    """The class of the model that a job trains, whose package may be from outside."""
    config = params.get("config")
    return str(config.get("class", "")) if isinstance(config, Mapping) else ""


def _seen(path: str) -> dict:
    # Of a folder that another job has made, such as a capture, its record tells the content.
    made = Path(path).is_relative_to(FOLDER.parent)
    return describe(path, limit=-1 if made else BY_CONTENT)


def describe(path: str | Path, limit: int = BY_CONTENT) -> dict:
    """Fingerprint and size of a file, or of a folder with the number of its files.

    A missing path has no fingerprint: ``{"fingerprint": None}``. ``by`` of a folder says whether
    its fingerprint is over contents, or over names and sizes where it holds more than ``limit``
    bytes.
    """
    path = Path(path)
    if path.is_file():
        return {"fingerprint": fingerprint(path), "bytes": path.stat().st_size}
    if not path.is_dir():
        return {"fingerprint": None}
    files = sorted(
        (file.relative_to(path).as_posix(), file)
        for file in path.rglob("*")
        # Snakemake marks the time in folders that it makes.
        if file.is_file() and not file.name.startswith(".snakemake")
    )
    sizes = {name: file.stat().st_size for name, file in files}
    content = sum(sizes.values()) <= limit
    about = {name: file_sha256(file) for name, file in files} if content else sizes
    return {
        "fingerprint": content_hash(about),
        "files": len(files),
        "bytes": sum(sizes.values()),
        "by": "content" if content else "names and sizes",
    }


def machine() -> dict:
    """The class of this machine: processor, cores, memory, GPUs; nothing that names it.

    GPUs are told by processes that use torch, the only ones whose results could depend on them.
    """
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        cpu = named[0] if named else cpu
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        memory = None
    torch = sys.modules.get("torch")
    gpus = []
    if torch is not None and torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(number)
            gpus.append({"name": found.name, "memory_gb": round(found.total_memory / 2**30)})
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": None if memory is None else round(memory / 2**30),
        "gpus": gpus,
        "system": f"{platform.system()} {platform.machine()}",
    }
