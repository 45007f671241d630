"""What a workflow script needs around its library call; the only module that knows Snakemake."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from regaze.locks import join_workflow
from regaze.outputs import several
from regaze.progress import LOG_FILES_ONLY
from regaze.provenance.record import write_record

_RECORDED: set[str] = set()
_ASKED: dict[str, float] = {}


def removed_background(job) -> dict:
    """Masks and what replaces the background, as library calls take them; empty where it stays."""
    if not job.input.get("masks"):
        return {}
    return {"masks": several(job.input.masks), "background": job.params.background}


def coder_of(job) -> dict:
    """The 3-D face encoder that reads codes of pictures, as an option of measuring, if any."""
    folder = folder_of(job, "encoder")
    if folder is None:
        return {}
    weights = job.params.published or {"folder": folder}
    return {"encoder": {"head": job.input.head, **weights}}


def folder_of(job, name: str) -> Path | None:
    """The folder of the model whose file is the input ``name``, None without one."""
    files = several(job.input.get(name) or [])
    return Path(files[0]).parent if files else None


def given(job, names: Iterable[str]) -> dict[str, str]:
    """Those of the inputs ``names`` that the job has, by name."""
    return {name: job.input[name] for name in names if job.input.get(name)}


def start(job) -> logging.Logger:
    """Prepare the process of a ``script:`` rule and return its logger.

    Log records go to the rule's log file and to stderr, unless a live line is shown there
    (:mod:`regaze.progress`); an exception ends up in the log with its traceback; ``job.threads``
    bounds OpenMP and torch's own threads. What the job was is recorded when the process ends
    (:func:`recorded`).
    """
    join_workflow()
    recorded(job)
    _ASKED.clear()
    if asked := _memory_mb(job):
        _ASKED["mem_mb"] = asked
    threads = str(job.threads)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = threads
    handlers: list[logging.Handler] = []
    if not (job.log and os.environ.get(LOG_FILES_ONLY)):
        handlers.append(logging.StreamHandler(sys.stderr))
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
