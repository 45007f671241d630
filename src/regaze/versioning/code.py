"""Versions of the code that decides a job's results: what its script can reach, nothing else.

Imports alone would tell too much: a module with three trainings imports what each of them needs. So
names are followed through the sources, from those that a script uses to the functions, classes and
values that they are, to the names used in those, and so on. Nothing is imported. Comments beside a
definition count as its code; docstrings, and annotations of functions, do not.

Where a function picks by name (:func:`choices`), the names that a job's configuration picks are
followed and no others. Of a :class:`~regaze.redirectors.base.Redirector` each method counts by
itself and is reached where something of its name is called, so that the code of ``edit`` is no part
of a training.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from regaze.methods import distribution_of, method_folder, methods
from regaze.redirectors.inputs import KINDS as INPUTS
from regaze.sources import KINDS
from regaze.versioning.definitions import SELF, Module, Symbol, Unit, parsed

LIBRARY = Path(__file__).parents[1]
STORE = Path(".snakemake/regaze-code-versions.json")
"""Versions of the last planning, beside Snakemake's own records; for sources as they were then."""

# Modules that decide no result, and why.
EXEMPT = {
    "regaze.jobs": "logs and records; decides nothing of what is written",
    "regaze.outputs": "writes; a change of what is written shows in the writers",
    "regaze.locks": "keeps two workflows apart",
    "regaze.provenance": "names results; decides none",
    "regaze.provenance.record": "names results; decides none",
    "regaze.training.launch": "starts processes; what they compute is the loop's",
    "regaze.settings": "its values are parameters of the rules",
    "regaze.faults": "refuses; decides nothing",
    "regaze.views": "tells views apart and refuses; its values are parameters of the rules",
    "regaze.weights": "loads weights as they are, or refuses them",
    "regaze.assets": "verifies files by their checksums",
    "regaze.methods": "finds methods by name",
    "regaze.redirectors.declaration": "what it says are inputs and parameters of the rules",
    "regaze.sources": "finds kinds of data sets by name",
    "regaze.sources.options": "its values are parameters of the rules",
    "regaze.filetypes": "opens files as they are, or tells what they are instead",
    "regaze.resources": "asks for memory and refuses what is beyond",
}
_CONTRACT = ("regaze.redirectors.base", "Redirector")
_READ = {".py", ".j2", ".css", ".js", ".mplstyle", ".json", ".csv"}


@dataclass(frozen=True)
class Picked:
    """What a job's configuration picks of the library.

    Attributes:
        chosen: names by kind of :func:`choices`; of kinds that are not here, all.
        without: ``module`` or ``module:name`` that the job never comes to, or does not depend on.
    """

    chosen: Mapping[str, Collection[str]] = field(default_factory=dict)
    without: Collection[str] = ()

    def plain(self) -> str:
        """The same as text."""
        chosen = {kind: sorted(set(names)) for kind, names in self.chosen.items()}
        return json.dumps([chosen, sorted(set(self.without))], sort_keys=True)


def choices() -> dict[str, tuple[Symbol, dict[str, tuple[Symbol, ...]]]]:
    """Places that pick something by name: ``(place, {name: what it picks})`` by what is picked.."""
    nets = {"irse50": "irse", "iresnet50": "iresnet", "mobilefacenet": "mobilefacenet"}
    nets |= {"small": "small", "tiny": "small"}
    found = {
        "methods": (
            "regaze.redirectors.base:build_redirector",
            {name: f"{package}.redirector:build" for name, package in methods().items()},
        ),
        "inputs": (
            "regaze.redirectors.inputs:reader_of",
            {kind: one.reader for kind, one in INPUTS.items()},
        ),
        "networks": (
            "regaze.redirectors.networks:load_network",
            {
                "estimators": "regaze.estimators.store:load_estimator",
                "models": "regaze.redirectors.networks:load_redirector",
                "encoders": "regaze.face3d.encode:open_encoder",
                "identity": "regaze.identity.store:load_recogniser",
                "assets": "regaze.perceptual:load_asset",
            },
        ),
        # Pictures on the way of a training decide weights where an estimator reads them.
        "validation": (
            "regaze.redirectors.train:train_redirector",
            {"pictures": "regaze.redirectors.validation:Redirections"},
        ),
        "sources": (
            "regaze.sources:open_source",
            {kind: f"regaze.sources.{kind}:open_source" for kind in KINDS},
        ),
        "detectors": (
            "regaze.landmarks.detectors:open_detector",
            {
                "mediapipe": "regaze.landmarks.mesh:MeshDetector",
                "face_alignment": "regaze.landmarks.face_alignment:Detector",
            },
        ),
        "estimators": (
            "regaze.estimators.build",
            {arch: f"regaze.estimators.{arch}" for arch in ("vgg", "resnet")},
        ),
        "recognisers": (
            "regaze.identity.store:build_recogniser",
            {name: f"regaze.identity.{module}" for name, module in nets.items()},
        ),
        # Factors that are read from codes are seldom evaluated.
        "coded labels": ("regaze.pairs:coded_labels", {"latents": "regaze.codes.latents"}),
        "coded readings": (
            "regaze.metrics.measure:open_coder",
            {"encoder": "regaze.metrics.coded:CodeReader"},
        ),
        "masks": (
            "regaze.masks.stage:make_masks",
            {
                "mesh": "regaze.masks.mesh:write_mesh",
                "parsing": "regaze.masks.parsed:write_parsed",
                "released": "regaze.masks.released:write_released",
                "exact": "regaze.masks.exact:write_exact regaze.sources:open_source",
            },
        ),
    }
    return {
        kind: (_symbol(place), {n: tuple(map(_symbol, s.split())) for n, s in names.items()})
        for kind, (place, names) in found.items()
    }


def _symbol(path: str) -> Symbol:
    module, _, name = path.partition(":")
    return module, name


class Sources:
    """The sources of the library, and of methods from outside, as they are now.

    Args:
        library: folder of the package ``regaze``.
        store: file of versions known from before, None for none; they count while no source has
            changed.
    """

    def __init__(self, library: Path = LIBRARY, store: Path | None = None):
        self.choices, self._store = choices(), store
        # Packages by name; of methods elsewhere their own, which the longest name finds.
        self.roots = {"regaze": library}
        for name, package in methods().items():
            if distribution_of(name) or not (library / "redirectors" / name).is_dir():
                self.roots |= _outer(name, package)
        self._modules: dict[str, Module | None] = {}
        self._torch: dict[str, bool] = {}
        digest = hashlib.sha256()
        for name, root in sorted(self.roots.items()):
            for path in _files(root):
                digest.update(f"{name}/{path.relative_to(root).as_posix()}".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        self.digest = digest.hexdigest()
        self._known: dict[str, str] = {}
        try:
            content = json.loads(store.read_text(encoding="utf-8")) if store else {}
            if content.get("sources") == self.digest:
                self._known = dict(content["versions"])
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            pass

    def version(self, script: Path, picked: Picked) -> str:
        """12 hex digits over a script and all that it can reach; see :func:`reached_version`."""
        script_sha = hashlib.sha256(script.read_bytes()).hexdigest()
        key = f"{script.name} {script_sha} {picked.plain()}"
        if key not in self._known:
            digest = hashlib.sha256(script_sha.encode())
            for part in self._parts(script, picked):
                digest.update(hashlib.sha256(part).digest())
            self._known[key] = digest.hexdigest()[:12]
            self._keep()
        return self._known[key]

    def _keep(self) -> None:
        if self._store is None or not self._store.parent.is_dir():
            return
        part = self._store.with_name(f"{self._store.name}.{os.getpid()}")
        try:
            part.write_text(
                json.dumps({"sources": self.digest, "versions": self._known}), encoding="utf-8"
            )
            part.replace(self._store)
        except OSError:
            part.unlink(missing_ok=True)

    def _parts(self, script: Path, picked: Picked) -> Iterator[bytes]:
        found = self.reached(script, picked)
        for name, units in sorted(found.items()):
            yield name.encode()
            yield from sorted(unit.text for unit in units)
            for path in self._beside(name, units):
                yield path.name.encode()
                yield path.read_bytes()

    def files(self, script: Path, picked: Picked) -> set[Path]:
        """Files of which a script reaches something."""
        found = set()
        for name, units in self.reached(script, picked).items():
            found.add(self._module(name).path)
            found.update(self._beside(name, units))
        return found

    def _beside(self, name: str, units: list[Unit]) -> list[Path]:
        """Templates and styles that a module names beside asking where it lies."""
        asking = [unit.text for unit in units if ("__file__", None) in unit.names]
        folder = self._module(name).path.parent
        beside = (path for path in (_files(folder) if asking else []) if path.suffix != ".py")
        tops = ((path, path.relative_to(folder).parts[0].encode()) for path in beside)
        return [path for path, top in tops if any(top in text for text in asking)]

    def reached(self, script: Path, picked: Picked) -> dict[str, list[Unit]]:
        """What a script reaches: definitions by the name of their module."""
        return _Walk(self, picked).of(script)

    def _module(self, name: str) -> Module | None:
        if name not in self._modules:
            places = (n for n in self.roots if f"{name}.".startswith(f"{n}."))
            place = max(places, key=len, default=None)
            self._modules[name] = None
            if place is not None:
                path = self.roots[place].joinpath(*name[len(place) :].split(".")[1:])
                files = (path, path / "__init__.py", path.with_name(f"{path.name}.py"))
                there = next((file for file in files if file.is_file()), None)
                self._modules[name] = there and parsed(there, name)
        return self._modules[name]

    def _sees_torch(self, about: Module) -> bool:
        """Whether a module, or one that it imports, imports torch; scripts are taken to."""
        if not about.name:
            return True
        if about.name not in self._torch:
            origins: set[str] = set()
            todo = [about]
            while todo:
                new = todo.pop().origins - origins - EXEMPT.keys()
                origins |= new
                todo += filter(None, map(self._module, new))
            self._torch[about.name] = any(one.partition(".")[0] == "torch" for one in origins)
        return self._torch[about.name]


class _Walk:
    """Follows names from one script on."""

    def __init__(self, sources: Sources, picked: Picked):
        self.module, self.sees_torch = sources._module, sources._sees_torch
        self.found: dict[str, list[Unit]] = {}
        self.seen: set[Symbol] = set()
        self.attributes: set[str] = set()
        # Of classes whose methods count by themselves, those that nothing has called yet.
        self.waiting: dict[str, list[tuple[Module, Unit]]] = {}
        self.todo: list[tuple[Module, Unit]] = []
        self.picked: dict[Symbol, list[Symbol]] = {}
        self.cut: dict[Symbol, set[Symbol]] = {}
        self.without = set(map(_symbol, picked.without))
        chosen = picked.chosen
        known = {*sources.choices, *(n for _, names in sources.choices.values() for n in names)}
        if unknown := {*chosen, *(n for names in chosen.values() for n in names)} - known:
            raise ValueError(f"reached_version: nothing is called {', '.join(sorted(unknown))}")
        for kind, (place, names) in sources.choices.items():
            wanted = chosen.get(kind, names)
            picks = [symbol for name in wanted for symbol in names[name]]
            self.picked.setdefault(place, []).extend(s for s in picks if s[1])
            left = {symbol for symbols in names.values() for symbol in symbols} - set(picks)
            self.cut.setdefault(place, set()).update(left)

    def of(self, script: Path) -> dict[str, list[Unit]]:
        about = parsed(script, "")
        self.todo += [(about, unit) for unit in about.top]
        self.todo += [(about, unit) for units in about.units.values() for unit in units]
        while self.todo:
            here, unit = self.todo.pop()
            # What never comes to torch handles files, and calls no redirector.
            attributes = unit.attributes if self.sees_torch(here) else set()
            for name in attributes - self.attributes:
                for one in self.waiting.pop(name, []):
                    self._take(*one)
            self.attributes |= attributes
            left = {s for n in (unit.symbol, "") for s in self.cut.get((here.name, n), ())}
            for name, attribute in unit.names:
                for target in self._targets(here, name, attribute):
                    if target not in left and (target[0], "") not in left:
                        self._follow(*target)
        return self.found

    def _targets(self, here: Module, name: str, attribute: str | None) -> Iterator[Symbol]:
        """What a name of a module may be."""
        for origin, symbol in here.imports.get(name, ()):
            inner = f"{origin}.{symbol}"
            if symbol == SELF:
                yield origin, attribute or ""
            elif symbol and self.module(inner) is not None:
                yield inner, attribute or ""
            else:
                yield origin, symbol
        if here.name and name in here.units:
            yield here.name, name
        elif name not in here.imports:
            yield from ((star, name) for star in here.stars)

    def _follow(self, name: str, symbol: str) -> None:
        """Reach a symbol of a module; all of the module where it is empty."""
        about = self.module(name)
        left_out = (name, symbol) in self.seen or self.without & {(name, symbol), (name, "")}
        if about is None or left_out:
            return
        self.seen.add((name, symbol))
        for target in self.picked.get((name, symbol), ()):
            self._follow(*target)
        if symbol in about.imports:
            for target in self._targets(about, symbol, None):
                self._follow(*target)
        if name in EXEMPT or name.endswith(".settings"):
            return
        if not symbol:
            for inner in about.units:
                self._follow(name, inner)
        elif symbol in about.units:
            for unit in about.units[symbol]:
                self._reach(about, unit)
        elif symbol not in about.imports:
            self._follow(f"{name}.{symbol}", "")
            for star in about.stars:
                self._follow(star, symbol)

    def _reach(self, about: Module, unit: Unit) -> None:
        if unit.split is None or not self._meets_contract(about.name, unit.symbol):
            return self._take(about, unit)
        core, members = unit.split
        self._take(about, core)
        for name, units in members.items():
            for member in units:
                if name in self.attributes:
                    self._take(about, member)
                else:
                    self.waiting.setdefault(name, []).append((about, member))

    def _meets_contract(self, module: str, symbol: str) -> bool:
        about = self.module(module)
        if (module, symbol) == _CONTRACT or about is None:
            return about is not None
        bases = [base for unit in about.units.get(symbol, ()) for base in unit.bases]
        return any(
            self._meets_contract(*target)
            for name in bases or ([] if symbol in about.units else [symbol])
            for target in self._targets(about, name, None)
            if target != (module, symbol)
        )

    def _take(self, about: Module, unit: Unit) -> None:
        if about.name not in self.found:
            # A module's other statements run when it is imported.
            self.found[about.name] = [*about.top]
            self.todo += [(about, other) for other in about.top]
        self.found[about.name].append(unit)
        self.todo.append((about, unit))


def _outer(name: str, package: str) -> dict[str, Path]:
    """A method's package elsewhere, and the package that it lies in."""
    try:
        folder = method_folder(name)
    except ValueError:
        # Configurations that name it are refused, with the reason.
        return {}
    top, *inner = package.split(".")
    found = {package: folder}
    return found if top == "regaze" else {top: [folder, *folder.parents][len(inner)], **found}


def _files(root: Path) -> list[Path]:
    """Sources below a folder, and what they read beside them."""
    found = (path for path in root.rglob("*") if path.suffix in _READ and path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts)


@cache
def _sources() -> Sources:
    return Sources(store=STORE)


@cache
def _version(script: Path, picked: str) -> str:
    chosen, without = json.loads(picked)
    return _sources().version(script, Picked(chosen, without))


def reached_version(script: str | Path, picked: Picked | None = None) -> str:
    """Return 12 hex digits over a workflow script and all of the library that it can reach.

    Used as a rule parameter, so that a change of the library re-runs what it affects and nothing
    else. Sources are read once per process.

    Args:
        script: path of the script.
        picked: what the job's configuration picks; None: everything.

    Raises:
        ValueError: a name that is none of the choices.
    """
    return _version(Path(script), (picked or Picked()).plain())
