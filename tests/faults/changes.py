"""Change something of a finished run, stop a single job of what follows, and run again.

    python tests/faults/changes.py FOLDER --rounds 24

A round changes the code, the configuration or the photos, or forces a rule; one job of the run
that follows is killed, or fails by an exception, while Snakemake lives. Then the change stays, or
is taken back, and a plain ``snakemake`` runs: it must have something to do, and end in the files of
a run from nothing, byte by byte. Other rounds delete a result instead. ``FOLDER/changes.jsonl``
gets a line per round. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import yaml
from kills import ROOT, Workflow, differences, results, undisturbed

from regaze.capture import render_capture

OVERLAY = ROOT / "tests/faults/changes.yaml"
ASPECTS = ("code", "configuration", "data")
WAYS = ("kept", "undone", "forced", "deleted")
_PROJECT = ("Snakefile", "config.yaml", "configs", "envs", "profiles", "rules", "src")
_PROJECT += ("workflow_scripts",)
# What every changed function of the library returns or is given, by its module.
_CODE = {
    "pairs.py": ("draw_pairs", "_before(*given, **named | {'seed': named['seed'] + 1})"),
    "normalise/warp.py": ("make_patch", "_before(*given, **named) // 2"),
    "estimators/objective.py": ("l1_loss", "_before(*given, **named) * 2"),
}
_CONFIGURATION = {
    "estimators": {"vgg": {"train": {"lr": 0.002}}, "resnet": {"train": {"lr": 0.002}}},
    "evaluation": {"same_deg": 0.1, "bootstrap": 120},
    "models": {"xunet_deca": {"sampling": {"sigma_max": 10.0}}},
}
_CAPTURE = {
    "persons": {"train-redirector": 2, "train-evaluator": 2, "val": 1, "test": 2},
    **{"head_poses": 2, "gazes": 2, "photo": 96, "focal": 190.0},
}


class Place:
    """A copy of the project with a finished run of its workflow, and runs from nothing beside it.

    Args:
        folder: new folder for all of it.
        overlays: configuration files on top of the micro configuration.
        code: modules whose change belongs to the aspect ``code``.
    """

    def __init__(
        self, folder: Path, overlays: Sequence[Path] = (OVERLAY,), code: Collection[str] = _CODE
    ):
        self.folder, self.code = Path(folder).resolve(), code
        self.run, self.project = self.folder / "run", self.folder / "project"
        self.changed: frozenset[str] = frozenset()
        self.more = [*overlays, self.folder / "changed.yaml"]
        self.project.mkdir(parents=True)
        for name in _PROJECT:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, self.project / name)
        library = self.project / "src/regaze"
        self.sources = {module: (library / module).read_text() for module in self.code}
        self.turn(())
        beginning = self.from_nothing()
        self.seconds = json.loads((beginning / "seconds.json").read_text())
        shutil.copytree(beginning, self.run)

    def turn(self, changed: Collection[str]) -> None:
        """Have these aspects changed and no others."""
        for module in self.code:
            path, text = self.project / "src/regaze" / module, self.sources[module]
            if "code" in changed:
                name, call = _CODE[module]
                text += f"\n\n_before = {name}\n\n\ndef {name}(*given, **named):\n"
                text += f"    return {call}\n"
            path.write_text(text)
        content = _CONFIGURATION if "configuration" in changed else {}
        self.more[-1].write_text(yaml.safe_dump(content))
        if ("data" in changed) != ("data" in self.changed):
            shutil.rmtree(self.run / "photos")
            self._photos(self.run, changed)
        self.changed = frozenset(changed)

    def _photos(self, folder: Path, changed: Collection[str]) -> None:
        seed = int("data" in changed)
        rendered = self.folder / f"photos-{seed}"
        if not rendered.exists():
            render_capture(rendered, seed=seed, **_CAPTURE)
        shutil.copytree(rendered, folder / "photos")
        # As copies are that `cp` makes.
        os.utime(folder / "photos")

    def from_nothing(self) -> Path:
        """Folder of a run from nothing with what is changed now, with ``seconds.json`` of jobs."""
        folder = self.folder / "-".join(["from-nothing", *sorted(self.changed)])
        times = folder / "seconds.json"
        if not times.exists():
            folder.mkdir()
            self._photos(folder, self.changed)
            times.write_text(json.dumps(undisturbed(folder, root=self.project, more=self.more)))
        return folder

    def start(self, log: str, *options: str) -> Workflow:
        """Start the workflow; its output goes to a log of this name."""
        path = self.folder / f"{log}.log"
        return Workflow(self.run, path, root=self.project, more=[*self.more, *options])

    def finish(self, log: str, *options: str) -> tuple[int, str]:
        """Run the workflow; exit status and output."""
        status = self.start(log, *options).process.wait(timeout=900)
        return status, (self.folder / f"{log}.log").read_text()

    def planned(self, log: str) -> list[str]:
        """Rules that would run; in this configuration their scripts have the same names."""
        output = self.finish(log, "--dry-run")[1]
        return [name for name in re.findall(r"^(\w+) +\d+$", output, re.M) if name in self.seconds]

    def disturb(self, log: str, script: str, kind: str, after: float, *options: str) -> bool:
        """Run, and end a job of ``script`` some seconds after its start; whether that was done."""
        run = self.start(log, *options)
        try:
            while run.process.poll() is None:
                victims = [pid for pid, name in run.jobs().items() if name == script]
                if victims:
                    time.sleep(after)
                    run.kill(kind, victims[0])
                    return run.process.wait(timeout=900) != 0
                time.sleep(0.05)
        finally:
            run.process.wait(timeout=900)
        return False


class Round:
    """One round: what was done, and what is wrong after it."""

    def __init__(self, place: Place, number: int, chance: random.Random):
        self.place, self.name, self.chance = place, f"round-{number}", chance
        self.about: dict = {"round": number}

    def go(
        self,
        way: str,
        changed: Collection[str] = (),
        script: str | None = None,
        kind: str = "job",
        share: float = 1.0,
    ) -> list[str] | None:
        """Change, disturb and run again; what is wrong, None when nothing could be disturbed.

        Args:
            way: one of ``WAYS``.
            changed: aspects that are changed then, for ``kept`` and ``undone``.
            script: whose job is ended, any by default.
            kind: ``job`` (SIGKILL) or ``fail``.
            share: of the time that such a job takes, within which it is ended.
        """
        place, before = self.place, self.place.changed
        self.about |= {"way": way, "from": sorted(before)}
        if way == "deleted":
            path = self.chance.choice(sorted(results(place.run).values()))
            path.unlink()
            self.about |= {"file": str(path.relative_to(place.run))}
        else:
            if way != "forced":
                place.turn(changed)
                self.about |= {"to": sorted(changed)}
            if script is None:
                log = f"{self.name}-plan"
                script = self.chance.choice(
                    [*place.seconds] if way == "forced" else place.planned(log)
                )
            after = self.chance.uniform(0, share * place.seconds[script])
            self.about |= {"stage": script, "kind": kind, "after_s": round(after, 2)}
            forced = ("--forcerun", script) if way == "forced" else ()
            hit = place.disturb(f"{self.name}-disturbed", script, kind, after, *forced)
            if way == "undone":
                place.turn(before)
            if not hit:
                place.finish(f"{self.name}-missed")
                return None
        return self._again()

    def _again(self) -> list[str]:
        """Run plainly; what is wrong then."""
        status, output = self.place.finish(self.name)
        wrong = [f"exit status {status}"] if status else []
        wrong += ["nothing to be done"] if "Nothing to be done" in output else []
        wrong += differences(self.place.run, self.place.from_nothing())
        after = self.place.finish(f"{self.name}-after", "--dry-run")[1]
        return wrong + ([] if "Nothing to be done" in after else ["not up to date afterwards"])


def change_often(folder: Path, rounds: int, seed: int, minutes: float = 1e9) -> dict:
    """Go so many rounds; return counts and what went wrong.

    Args:
        folder: new folder for everything.
        rounds: how many, of which some end a job.
        seed: of ways, stages, kinds and delays.
        minutes: no new round begins after so many.
    """
    place, chance, errors, done = Place(folder), random.Random(seed), [], 0
    end = time.monotonic() + 60 * minutes
    for number in range(rounds):
        if time.monotonic() > end:
            break
        # From what was changed back to the beginning: few runs from nothing to compare with.
        to = () if place.changed else (chance.choice(ASPECTS),)
        one, way = Round(place, number, chance), WAYS[number % len(WAYS)]
        wrong = one.go(way, to, kind=chance.choice(("job", "fail")))
        done += wrong is not None
        errors += [f"{one.name}: {text}" for text in wrong or ()]
        with open(place.folder / "changes.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps(one.about | {"wrong": wrong}) + "\n")
    return {"rounds": done, "errors": errors}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--rounds", type=int, default=24)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--minutes", type=float, default=1e9, help="no new round after so many")
    outcome = change_often(**vars(options.parse_args()))
    print(json.dumps(outcome, indent=1))
    raise SystemExit(bool(outcome["errors"]))


if __name__ == "__main__":
    main()
