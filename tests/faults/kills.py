"""Kill the real workflow at random moments, run it again, and compare with an undisturbed run.

    python tests/faults/kills.py FOLDER --kills 50

Every kill waits for a job of a chosen stage, then a random part of the time that such a job takes,
and sends SIGKILL: to the whole process group, to Snakemake alone, or to the job alone. Then the
same command runs again, until the workflow completes; a pass takes several kills. Its files must
be those of the undisturbed run, byte by byte. ``FOLDER/kills.jsonl`` gets a line per kill and per
pass. Linux only (it looks processes up in ``/proc``).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("results/models/vgg/model.safetensors", "results/synthetic/pairs.parquet")
"""What the short tests make: all stages up to an estimator and the pairs."""
MICRO = ROOT / "tests/faults/micro.yaml"
FAILING = ROOT / "tests/faults/failing"
"""On the path of jobs, for the kind ``fail`` of :meth:`Workflow.kill`."""
KINDS = ("group", "workflow", "job")
_SCRIPT = re.compile(r"/\.snakemake/scripts/\w+\.(\w+)\.py$")
# Folders below results/ that no rule declares: resumable states, and records of revision and
# machine, which are those of the last run of a job.
_UNDECLARED = ("state", "provenance")
# Columns of tables that hold seconds.
_TIMES = ("seconds", "seconds_per_source", "seconds_per_request")


def command(
    folder: Path, goals: Sequence[str] = (), root: Path = ROOT, more: Sequence[str | Path] = ()
) -> list[str]:
    """The documented command, on the micro configuration.

    Args:
        folder: that the workflow runs in.
        goals: files or stages.
        root: of the project, or of a copy of it.
        more: configuration files on top, then options.
    """
    parts = [sys.executable, "-m", "snakemake", "--snakefile", root / "Snakefile", "--cores", "2"]
    parts += ["--directory", folder, "--configfile", root / "configs/tiny.yaml", MICRO, *more]
    return [*map(str, parts), "--workflow-profile", str(root / "profiles/default"), *goals]


class Workflow:
    """A running workflow in a process group of its own, its output going to a file.

    Arguments are those of :func:`command`. The library is the one below ``root``.
    """

    def __init__(
        self,
        folder: Path,
        output: Path,
        goals: Sequence[str] = (),
        root: Path = ROOT,
        more: Sequence[str | Path] = (),
    ):
        self.folder = folder
        paths = [root / "src", FAILING, *filter(None, [os.environ.get("PYTHONPATH")])]
        paths = {"PYTHONPATH": os.pathsep.join(map(str, paths))}
        with open(output, "ab") as stream:
            self.process = subprocess.Popen(
                command(folder, goals, root, more),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **paths, "OMP_NUM_THREADS": "1"},
            )

    def jobs(self) -> dict[int, str]:
        """Processes that run a rule's script for this folder, with the script's name."""
        return jobs_in(self.folder)

    def kill(self, kind: str, victim: int | None) -> None:
        """Send SIGKILL to the group, to Snakemake alone, or to the job ``victim`` alone.

        With ``fail`` the job gets an exception in place of the signal.
        """
        if kind == "group":
            os.killpg(self.process.pid, signal.SIGKILL)
        elif kind == "workflow":
            self.process.kill()
        elif victim is not None:
            # It may have ended in the meantime.
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGUSR1 if kind == "fail" else signal.SIGKILL)


def jobs_in(folder: Path) -> dict[int, str]:
    """Living processes whose script Snakemake wrote below ``folder``, with the script's name."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        for argument in arguments[1:3]:
            match = _SCRIPT.search(argument)
            if match and argument.startswith(f"{folder}/"):
                found[int(entry.name)] = match[1]
    return found


def undisturbed(folder: Path, *arguments, **named) -> dict[str, float]:
    """Run the workflow once and return the scripts in their order, with the seconds of a job.

    Further arguments are those of :class:`Workflow` after ``output``.
    """
    run = Workflow(folder, folder / "run.log", *arguments, **named)
    began, seconds = {}, defaultdict(list)
    while run.process.poll() is None:
        now, alive = time.monotonic(), run.jobs()
        for pid, script in alive.items():
            if (pid, script) not in began:
                seconds.setdefault(script, [])
                began[pid, script] = now
        for key in [key for key in began if key[0] not in alive]:
            seconds[key[1]].append(now - began.pop(key))
        time.sleep(0.1)
    if run.process.returncode:
        raise SystemExit(f"{folder}/run.log: the undisturbed run failed")
    return {script: sum(of) / max(len(of), 1) for script, of in seconds.items()}


def comparable(path: Path) -> bytes:
    """A result without what two runs do not share: seconds, and the revision of the code."""
    content = path.read_bytes()
    if path.name in ("curve.csv", "comparison.csv", "study.csv"):
        rows = list(csv.reader(content.decode().splitlines()))
        kept = [place for place, name in enumerate(rows[0]) if name not in _TIMES] if rows else []
        return repr([[row[place] for place in kept] for row in rows]).encode()
    if path.suffix == ".json":
        # Somebody may commit between two runs.
        return re.sub(rb'"revision": "[^"]*"', b"", content)
    if path.suffix == ".html":
        return without_times(content.decode()).encode()
    return content


def without_times(page: str) -> str:
    """The report without the times that pictures and trainings took."""
    return re.sub(r"[\d.]+ (ms|s|min|h)\s*<", "<", page)


def results(folder: Path) -> dict[str, Path]:
    """Declared results: everything below ``results`` but states, records, and pure timings."""
    root = folder / "results"
    return {
        str(path.relative_to(root)): path
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and path.relative_to(root).parts[0] not in _UNDECLARED
        and path.name not in ("speed.json", ".snakemake_timestamp")
    }


def differences(folder: Path, reference: Path) -> list[str]:
    """What differs between the results of two folders, by name; leftovers of any kind too."""
    here, there = results(folder), results(reference)
    found = [f"missing: {name}" for name in there.keys() - here.keys()]
    found += [f"extra: {name}" for name in here.keys() - there.keys()]
    for name in here.keys() & there.keys():
        if comparable(here[name]) != comparable(there[name]):
            found.append(f"differs: {name}")
    found += [f"temporary: {path}" for path in (folder / "results").rglob(".*.part")]
    found += [f"still running: {name} ({pid})" for pid, name in jobs_in(folder).items()]
    return sorted(found)


class Pass:
    """One passage through the workflow, with a kill per target."""

    def __init__(self, folder: Path, seconds: dict[str, float], chance: random.Random, log, goals):
        folder.mkdir(parents=True)
        self.folder, self.seconds, self.chance, self.log = folder, seconds, chance, log
        self.goals = goals
        self.errors: list[str] = []

    def go(self, targets: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Run to completion; return the targets whose jobs did not come any more."""
        waiting, attempt = list(targets), 0
        while True:
            attempt += 1
            output = self.folder / f"attempt-{attempt}.log"
            run = Workflow(self.folder, output, self.goals)
            killed = self._disturb(run, waiting)
            try:
                status = run.process.wait(timeout=300)
            except subprocess.TimeoutExpired:
                os.killpg(run.process.pid, signal.SIGKILL)
                self.errors.append(f"{output.name}: hangs")
                return waiting
            if killed:
                time.sleep(1)
                left = jobs_in(self.folder)
                self.log({**killed, "folder": self.folder.name, "alive_after_1_s": len(left)})
                continue
            if status:
                self.errors.append(f"{output.name}: exit status {status} without a kill")
            return waiting

    def _disturb(self, run: Workflow, waiting: list[tuple[str, str]]) -> dict | None:
        """Wait for a job of a target and kill; None when the workflow ended before."""
        while waiting and run.process.poll() is None:
            alive = {script: pid for pid, script in run.jobs().items()}
            for target in waiting:
                script, kind = target
                if script not in alive:
                    continue
                delay = self.chance.uniform(0, 1.05 * self.seconds[script])
                time.sleep(delay)
                running = run.jobs()
                # A job that ended meanwhile leaves its kill to whichever runs now, if any.
                victim = alive[script] if alive[script] in running else next(iter(running), None)
                if run.process.poll() is not None or (kind == "job" and victim is None):
                    break
                run.kill(kind, victim)
                waiting.remove(target)
                hit = sorted(running.values()) or ["between jobs"]
                return {"stage": script, "kind": kind, "after_s": round(delay, 2), "running": hit}
            time.sleep(0.05)
        return None


def schedule(scripts: list[str], kills: int, chance: random.Random) -> list[tuple[str, str]]:
    """Targets that go round all stages, in an order and with kinds of chance."""
    found: list[tuple[str, str]] = []
    while len(found) < kills:
        turn = list(scripts)
        chance.shuffle(turn)
        found += [(script, chance.choice(KINDS)) for script in turn]
    return found[:kills]


def kill_often(
    folder: Path,
    kills: int,
    per_pass: int,
    seed: int,
    minutes: float = 1e9,
    reference: Path | None = None,
    goals: Sequence[str] = (),
) -> dict:
    """Run passes until so many kills are done; return counts and what went wrong.

    Args:
        folder: new folder for the undisturbed run, the passes and the log.
        kills: how many in all; ``per_pass``: how many in one pass.
        seed: of targets, kinds and delays.
        minutes: no new pass begins after so many.
        reference: folder of an earlier call whose undisturbed run serves again.
        goals: files or stages that are asked for; without any the whole workflow.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    origin = Path(reference or folder).resolve() / "undisturbed"
    times = origin / "seconds.json"
    if not times.exists():
        origin.mkdir(parents=True)
        times.write_text(json.dumps(undisturbed(origin, goals)))
    seconds = json.loads(times.read_text())
    chance, done, errors, number = random.Random(seed), [], [], 0
    targets = schedule(list(seconds), kills, chance)
    end = time.monotonic() + 60 * minutes

    def log(entry: dict) -> None:
        with open(folder / "kills.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        if "stage" in entry:
            done.append(entry)

    while targets and time.monotonic() < end:
        number += 1
        now, targets = targets[:per_pass], targets[per_pass:]
        began = time.monotonic()
        run = Pass(folder / f"pass-{number}", seconds, chance, log, goals)
        targets += run.go(now)
        wrong = run.errors + differences(run.folder, origin)
        errors += [f"pass-{number}: {text}" for text in wrong]
        took = round(time.monotonic() - began)
        log({"pass": number, "kills": len(done), "seconds": took, "wrong": wrong})
    return {"kills": len(done), "passes": number, "errors": errors, "targets_left": len(targets)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--per-pass", type=int, default=8)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--minutes", type=float, default=1e9, help="no new pass after so many")
    options.add_argument("--reference", type=Path, help="folder with an undisturbed run")
    given = vars(options.parse_args())
    outcome = kill_often(**given)
    print(json.dumps(outcome, indent=1))
    raise SystemExit(bool(outcome["errors"]))


if __name__ == "__main__":
    main()
