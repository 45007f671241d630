"""Fingerprints that results hold themselves: of weights, of the model sampled, of the estimator."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from regaze.hdf5 import InUse, hdf5_file
from regaze.provenance import fingerprint


class Claim(NamedTuple):
    """One such fingerprint: a line about it, and whether the file is another one."""

    text: str
    fault: bool


def claims(root: Path, record: Mapping) -> Iterator[Claim]:
    """Check what the outputs of a job say of weights, against the files.

    Args:
        root: working directory of the workflow.
        record: of the job; its inputs tell where the weights lie.
    """
    for name in record["outputs"]:
        path = root / name
        if not path.is_file():
            continue
        if path.name == "model.json":
            content = _json(path)
            albums = content.get("albums") or {}
            for person, about in albums.items():
                beside = [f"{Path(name).parent}/{about['folder']}/{path.name}"]
                yield from _claim(root, name, f"weights of {person}", about["fingerprint"], beside)
            if not albums:
                yield from _claim(root, name, "weights", content.get("fingerprint"), [name])
        elif path.name == "samples.h5":
            try:
                told = _attribute(path)
            except InUse as error:
                yield Claim(str(error), True)
            else:
                yield from _claim(root, name, "model", told, record["inputs"])
        elif path.name == "metrics.json":
            told = _json(path).get("estimator", {}).get("fingerprint")
            yield from _claim(root, name, "estimator", told, record["inputs"])


def _attribute(path: Path) -> str:
    try:
        with hdf5_file(path) as file:
            return str(file.attrs.get("fingerprint", ""))
    except InUse:
        raise
    except OSError:
        # A damaged file claims nothing; that it is another one is told of all files.
        return ""


def _json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _claim(root: Path, name: str, role: str, told: str | None, beside) -> Iterator[Claim]:
    """Whether one of the weights beside the given files has the fingerprint."""
    if not told:
        return
    folders = dict.fromkeys(Path(path).parent for path in beside)
    weights = [folder / "model.safetensors" for folder in folders]
    there = [path for path in weights if (root / path).is_file()]
    found = {path.as_posix(): fingerprint(root / path) for path in there}
    # Of a model per person the record stands for the weights of all.
    found |= {
        record.as_posix(): _json(root / record).get("fingerprint", "")
        for record in (folder / "model.json" for folder in folders)
        if (root / record).is_file() and "albums" in _json(root / record)
    }
    if told in found.values():
        where = next(path for path, value in found.items() if value == told)
        yield Claim(f"{name} names {role} {told}: {where}", False)
    else:
        listed = ", ".join(f"{path} is {value}" for path, value in found.items())
        yield Claim(f"{name}: names {role} {told}; {listed or 'no weights are there'}", True)
