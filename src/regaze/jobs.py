"""What a workflow script needs around its one library call; the only module that knows Snakemake.

It also holds the way every output of the project is written: under a temporary name in the same
folder, then renamed, so that a killed job never leaves a half-written file under a final name.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from regaze.locks import join_workflow

REMEDY = "; if the workflow made it, delete it and run the same command again"
"""End of messages about damaged files. Snakemake makes a missing input again, never a bad one."""

_RECORDED: set[str] = set()
_ASKED: dict[str, float] = {}


def start(job) -> logging.Logger:
    """Prepare the process of a ``script:`` rule and return its logger.

    Log records go to the rule's log file and to stderr; an exception ends up in the log with its
    traceback; ``job.threads`` bounds OpenMP and torch's own threads. What the job was is recorded
    when the process ends (:func:`recorded`).
    """
    join_workflow()
    recorded(job)
    _ASKED.clear()
    if asked := _memory_mb(job):
        _ASKED["mem_mb"] = asked
    threads = str(job.threads)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = threads
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if job.log:
        Path(job.log[0]).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(job.log[0], mode="w", encoding="utf-8"))
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=handlers,
        force=True,
    )
    logging.captureWarnings(True)
    log = logging.getLogger("regaze")
    # Snakemake reports a failed script by its exit status alone: without this hook the reason
    # would be on the terminal only, and not in the rule's log where a cluster user looks.
    sys.excepthook = lambda kind, error, trace: log.error(
        "%s", error, exc_info=(kind, error, trace)
    )
    _check_dates(getattr(job, "input", []))
    return log


def asked_memory() -> float | None:
    """Megabytes that this process may use by what its job asks for, None outside of jobs."""
    return _ASKED.get("mem_mb")


def _memory_mb(job) -> float | None:
    asked = getattr(getattr(job, "resources", None), "mem_mb", None)
    if not isinstance(asked, int | float):
        return None
    # What a job asks for is for all processes of a machine; a training has one per GPU.
    config = dict(job.params.items()).get("config") if hasattr(job, "params") else None
    train = config.get("train") if isinstance(config, Mapping) else None
    return asked / max((train or {}).get("gpus", 0), 1)


def recorded(job) -> None:
    """Have the record of a job of Snakemake's written when its process ends, once.

    Only the first of several processes writes; a job without a rule, as in tests, has no record.
    """
    rule = getattr(job, "rule", None)
    if rule is None or rule in _RECORDED or int(os.environ.get("RANK", 0)):
        return
    _RECORDED.add(rule)
    # Later than at the script's last line, where it would stand in each of them, and not before
    # the outputs are there. A job that fails has none, and gets no record.
    atexit.register(_record, job)


def _record(job) -> None:
    from regaze.provenance.record import write_record

    try:
        write_record(
            job.rule,
            dict(job.wildcards.items()),
            inputs=job.input,
            outputs=job.output,
            params=dict(job.params.items()),
            threads=job.threads,
            root=getattr(job.input, "root", None),
        )
    except (OSError, ValueError) as error:
        # The results are whole; `regaze provenance` will say that this record is missing.
        logging.getLogger("regaze").warning("no record of this job: %s", error)


def _check_dates(inputs: Sequence[str] | Mapping[str, str | Sequence[str]]) -> None:
    """Refuse inputs that are dated in the future, before any work is done.

    Snakemake deletes outputs that are older than an input when the job ends, be it days of
    training. A minute is what clocks of file servers may be ahead.
    """
    # Processes of one training get a dictionary.
    named = inputs.values() if isinstance(inputs, Mapping) else inputs
    for name in (Path(path) for paths in named for path in several(paths)):
        # What Snakemake goes by for folders.
        stamp = name / ".snakemake_timestamp"
        found = stamp if stamp.exists() else name
        if found.exists() and found.stat().st_mtime > time.time() + 60:
            raise RuntimeError(
                f"{name}: dated in the future, was a clock set back? Snakemake would delete the "
                "outputs as outdated. With the clock right, `snakemake --touch --forceall "
                "--cores 1` dates all results anew, and `touch` files of your own"
            )


def several(paths: str | os.PathLike | Sequence) -> list:
    """The files of a named input or output as a list; Snakemake hands over one alone as it is."""
    return [paths] if isinstance(paths, str | os.PathLike) else list(paths)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it to ``path`` on success.

    On an exception the temporary file or folder is removed and ``path`` stays as it was. A folder
    written under the temporary name replaces an existing folder as a whole.

    Raises:
        OSError: writing failed; the error names ``path`` where the system's names no file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    _remove(part)
    try:
        yield part
        if part.is_dir() and path.is_dir():
            shutil.rmtree(path)
        os.replace(part, path)
    except BaseException as error:
        _remove(part)
        # A write to a full disk fails without telling where.
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def rounded(value, digits: int = 6):
    """Return ``value`` with every float rounded to significant digits, for stable JSON.

    Raises:
        ValueError: a float is NaN or infinite, which JSON cannot say; use ``None`` and a reason.
    """
    if isinstance(value, dict):
        return {str(key): rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a result is {value}; results must be finite or null with a reason")
        return float(f"{value:.{digits}g}")
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return rounded(value.item(), digits)
    return value


def write_json(path: str | os.PathLike, content) -> None:
    """Write JSON with sorted keys and floats of six significant digits, by atomic replacement."""
    text = json.dumps(rounded(content), indent=1, sort_keys=True, allow_nan=False) + "\n"
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
