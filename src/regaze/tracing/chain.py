"""From a result back to raw files: the records of all jobs, compared with what is on the disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from regaze.provenance.record import BY_CONTENT, FOLDER, PERSONS, READ, describe
from regaze.tracing.claims import claims

_SHOWN = 4
_KEYS = {"rule", "wildcards", "inputs", "outputs", "config", "code", "revision", "machine"}


class ProvenanceError(ValueError):
    """There is nothing to trace, or a record is none."""


@dataclass
class Chain:
    """What :func:`trace` found.

    Attributes:
        lines: the chain as text, a result above what it was made from.
        faults: a line per recorded fingerprint that is not the file's, or that is not there.
    """

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def trace(target: str | Path) -> Chain:
    """Follow a result back to the files that the workflow was given, and check all on the way.

    Args:
        target: a file that the workflow made, or a folder of such files.

    Every file's fingerprint is compared with the record of the job that made it, and with those of
    the jobs that read it; fingerprints that models, samples and metrics hold themselves
    (:mod:`regaze.tracing.claims`) with the files that they are of.

    Raises:
        ProvenanceError: no records beside it, no record of it, or a broken record.
    """
    root, name = _located(Path(target))
    tracer = _Tracer(root, _records(root))
    wanted = [path for path in tracer.made if path == name or _inside(path, name)]
    wanted = wanted or [path for path in tracer.made if _inside(name, path)]
    if not wanted:
        raise ProvenanceError(
            f"{target}: none of the {len(tracer.records)} records below {root / FOLDER} is of it; "
            "they are written when the workflow's jobs end"
        )
    for job in dict.fromkeys(tracer.made[path] for path in wanted):
        of_job = [path for path in wanted if tracer.made[path] == job]
        tracer.follow(job, {path: None for path in of_job}, 0)
    return tracer.chain


def _located(target: Path) -> tuple[Path, str]:
    """The working directory of the workflow that made a file, and the file's path from there."""
    absolute = target.absolute()
    for folder in (absolute, *absolute.parents):
        if (folder / FOLDER).is_dir():
            return folder, absolute.relative_to(folder).as_posix()
    raise ProvenanceError(
        f"{target}: expected a folder {FOLDER} beside it or further up, found none; "
        "it is written by the workflow's jobs, and kept by git"
    )


def _records(root: Path) -> dict[str, dict]:
    found = {}
    for path in sorted((root / FOLDER).rglob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ProvenanceError(f"{path}: expected the record of a job, found {error}") from None
        lacking = sorted(_KEYS - set(content)) if isinstance(content, dict) else ["everything"]
        if lacking:
            raise ProvenanceError(
                f"{path}: expected the record of a job, found none of {', '.join(lacking)}"
            )
        found[path.relative_to(root).as_posix()] = content
    return found


def _inside(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(folder)


class _Tracer:
    """Walks from jobs to the jobs that made their inputs; every job is told once."""

    def __init__(self, root: Path, records: dict[str, dict]):
        self.root, self.records = root, records
        self.made = {path: job for job, record in records.items() for path in record["outputs"]}
        self.chain = Chain()
        self._told: set[str] = set()
        self._disk: dict[tuple[str, bool], dict] = {}

    def follow(self, job: str, read: Mapping[str, dict | None], depth: int) -> None:
        """Tell files that a job made, the job, and what it was made from.

        Args:
            job: path of the record.
            read: its outputs that are asked for, as they were when they were read, or None.
            depth: steps from the result.
        """
        record, pad = self.records[job], "  " * depth
        states = {
            path: self._state(path, record["outputs"].get(path), seen)
            for path, seen in read.items()
        }
        self.chain.lines += [pad + line for line in _grouped(states)]
        self._told.add(job)
        self.chain.lines.append(f"{pad}| {_job(record)}")
        for claim in claims(self.root, record):
            if claim.fault:
                self.chain.faults.append(claim.text)
            self.chain.lines.append(f"{pad}| {claim.text}")
        sources: dict[str, dict] = {}
        given = {}
        for path, seen in record["inputs"].items():
            maker = self._maker(path)
            raw = seen.get("by") in (READ, PERSONS)
            if maker is not None:
                sources.setdefault(maker, {})[path] = None if raw else seen
            elif raw:
                given[path] = self._raw(path, seen, record["params"])
            else:
                given[path] = self._state(path, None, seen)
        above = {}
        for maker, files in sources.items():
            if maker in self._told:
                outputs = self.records[maker]["outputs"]
                above |= {p: self._state(p, outputs.get(p), seen) for p, seen in files.items()}
            else:
                self.follow(maker, files, depth + 1)
        self.chain.lines += [f"{pad}  {line} (see above)" for line in _grouped(above)]
        self.chain.lines += [f"{pad}  {line}" for line in _grouped(given)]

    def _maker(self, path: str) -> str | None:
        """The job that made a file, or the folder that it lies in."""
        folders = [path, *(str(parent) for parent in PurePosixPath(path).parents)]
        return next((self.made[folder] for folder in folders if folder in self.made), None)

    def _state(self, path: str, recorded: dict | None, seen: dict | None) -> str:
        """What is to say about a file: as it was made and as it was read, against the disk."""
        now = self._now(path, recorded or seen)
        if now["fingerprint"] is None:
            return self._fault(path, "missing")
        about = now["fingerprint"]
        if "files" in now:
            about += f", {now['files']} files, {now['bytes'] / 1e6:.1f} MB, by {now['by']}"
        if recorded is not None and recorded["fingerprint"] != now["fingerprint"]:
            made = recorded["fingerprint"]
            return self._fault(path, f"changed since it was made: was {made}, is {about}")
        if seen is not None:
            # Makers tell the content of a folder, readers names and sizes.
            was, here = seen["fingerprint"], self._now(path, seen)["fingerprint"]
            if was != here:
                shown = about if here == now["fingerprint"] else here
                return self._fault(path, f"another version was read: {was}, is {shown}")
        if recorded is None:
            if PurePosixPath(path).parts[:1] == ("results",):
                return self._fault(path, f"no record of what made it, is {about}")
            return f"given, {about}"
        return f"ok, {about}"

    def _raw(self, path: str, seen: dict, params: Mapping) -> str:
        """The same of a raw data set, of which a job reads some persons."""
        from regaze.sources import open_source, source_options
        from regaze.sources.raw import manifest

        told = params["raw"]
        if seen["by"] == PERSONS:
            return f"given, {len(told['persons'])} persons"
        try:
            # Relative paths of the configuration are relative to where the workflow ran.
            entry = {**params["source"], "root": path}
            files = {
                key: str(self.root / name) for key, name in source_options(entry).files().items()
            }
            entry |= {key: name for key, name in files.items() if entry.get(key)}
            now = manifest(open_source({**entry, "root": str(self.root / path)}), told["persons"])
        except (OSError, ValueError) as error:
            return self._fault(path, f"cannot be listed: {error}")
        about = f"{now.sizes}, {now.files} files, {now.bytes / 1e6:.1f} MB, by {READ}"
        if now.sizes != seen["fingerprint"]:
            return self._fault(path, f"another version was read: {seen['fingerprint']}, is {about}")
        dated = "" if now.dates == seen["dates"] else ", dated otherwise"
        return f"given, {about}{dated}"

    def _fault(self, path: str, text: str) -> str:
        line = f"{path}: {text}"
        if line not in self.chain.faults:
            self.chain.faults.append(line)
        return f"!! {text}"

    def _now(self, path: str, recorded: dict | None) -> dict:
        # A folder is fingerprinted in the way that it was when it was recorded.
        named = (recorded or {}).get("by") == "names and sizes"
        if (path, named) not in self._disk:
            limit = -1 if named else BY_CONTENT
            self._disk[path, named] = describe(self.root / path, limit=limit)
        return self._disk[path, named]


def _grouped(states: Mapping[str, str]) -> Iterator[str]:
    """A line per file; of many that are well only the first and the last are named."""
    well = [path for path, state in states.items() if state.startswith(("ok", "given"))]
    short = well[1:-1] if len(well) > _SHOWN else []
    for path, state in states.items():
        if path not in short:
            yield f"{path}: {state}"
        elif path == short[0]:
            yield f"... {len(short)} more, all well"


def _job(record: Mapping) -> str:
    machine = record["machine"]
    gpus = ", ".join(gpu["name"] for gpu in machine.get("gpus", []))
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB"
    return (
        f"{' '.join([record['rule'], *record['wildcards'].values()])}: "
        f"configuration {record['config']}, code {_code(record['code'])}, "
        f"revision {record['revision']}, on {where}{', ' + gpus if gpus else ''}"
    )


def _code(code) -> str:
    return "+".join(code) if isinstance(code, list) else str(code)
