"""One call of ``regaze edit``: what of a face is taken from another one, or from numbers."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from regaze.codes import code_columns
from regaze.face3d.photo_faces import is_row
from regaze.factors import CODED
from regaze.outputs import replacing, write_json
from regaze.redirect.angles import Request, checked
from regaze.redirect.animate import shrunk
from regaze.redirect.edit_sweeps import check_sweep, requests_between, write_sweep
from regaze.redirect.job import Job, require_new
from regaze.redirect.known import detector_of, published_of
from regaze.redirect.models import model_folder, models_in, open_estimator, sampling_of
from regaze.redirect.place import Lens
from regaze.redirect.run import Inverted, Redirection, Result, write_png
from regaze.redirectors.declaration import declared_by
from regaze.video.reading import is_video
from regaze.weights import read_record

MODES = {
    "exp": ("expression", "jaw"),
    "pose": ("head",),
    "light": ("light",),
    "gaze": ("gaze",),
}
"""What a mode takes from another face: factors, some joined by ``+``."""

TABLE = "edits.csv"
_COLUMNS = (
    *("file", "source", "like", "mode", "model", "fingerprint", "seed"),
    *("gaze_pitch", "gaze_yaw", "head_pitch", "head_yaw"),
)


@dataclass(frozen=True)
class Edit:
    """One edit of a source.

    Attributes:
        mode: in names of files and the table.
        like: the face that it takes from, None of numbers.
        named: what that face is called in names of files.
        request: the directions and codes that it asks for.
    """

    mode: str
    like: str | None = None
    named: str = ""
    request: Request = field(default_factory=Request)


def factors_of_mode(mode: str) -> tuple[str, ...]:
    """Factors that a mode takes, such as ``exp+light``.

    Raises:
        ValueError: an unknown word, or one twice.
    """
    words = mode.split("+")
    if not set(words) <= MODES.keys() or len(set(words)) < len(words):
        raise ValueError(
            f"modes: expected different ones of {', '.join(MODES)}, joined by +, found {mode!r}"
        )
    return tuple(factor for word in words for factor in MODES[word])


def code_of(known: Inverted, parts: Sequence[str], factor: str) -> np.ndarray:
    """Numbers (n,) of a factor in the code of a face."""
    one = CODED[factor]
    column = code_columns(parts)[one.code]
    return one.part(known.source["source_code"][:, column].cpu().numpy())[0]


def taken(known: Inverted, head: np.ndarray, parts: Sequence[str], factors) -> Request:
    """The request that gives a source these factors of another face.

    Args:
        known: that face.
        head: (2,) its head's direction in radians.
        parts: of codes that the model reads.
        factors: names.
    """
    directions = {"gaze": known.gaze, "head": head}
    found = {
        name: tuple(np.degrees(value).tolist())
        for name, value in directions.items()
        if name in factors
    }
    codes = {name: code_of(known, parts, name) for name in factors if name in CODED}
    return Request(**found, codes=codes)


class Edits(Job):
    """What the command was asked for, checked before anything heavy is done.

    Args:
        places: photos, folders, or rows of faces files.
        like: the same, faces to take from.
        modes: what to take, with commas between; of each like and each mode a picture is made.
        targets: CSV of further such pictures, see :func:`read_targets`, None without.
        numbers: first numbers of codes by factor, in place of the source's.
        settings: the checked configuration or None.
        options: the command's others.

    Raises:
        ValueError: options that do not go together.
    """

    def __init__(
        self,
        places: Sequence[str],
        *,
        like: Sequence[str],
        modes: str,
        numbers: Mapping[str, Sequence[float]],
        targets: Path | None = None,
        settings=None,
        **options,
    ):
        self.options, self.settings = options, settings
        self.lens = Lens(options["focal"])
        words = [mode.strip() for mode in modes.split(",")]
        self.numbers = {name: value for name, value in numbers.items() if value}
        for name in ("gaze", "head"):
            checked(name, options[name])
        check_sweep(options["sweep"], options["frames"])
        self.taken = [(place, mode) for place in self._pictures(like) for mode in words]
        if targets is not None:
            self.taken += read_targets(targets)
        self.factors = {name for _, mode in self.taken for name in factors_of_mode(mode)}
        self.factors |= self.numbers.keys()
        self.factors |= {name for name in ("gaze", "head") if options[name] is not None}
        if not self.factors:
            raise ValueError(
                "expected what to edit: --like PHOTO, --targets, --gaze, --head, --expression, "
                "--jaw or --light; found none"
            )
        self.work = [(place, []) for place in self._pictures(places)]
        if not self.work:
            raise ValueError("expected photos or rows FACES.h5:person/index, found none")
        self.out = options["out"] or Path("edited")

    def _pictures(self, places: Sequence[str]) -> list[str]:
        found = self._listed(places)
        if videos := [place for place in found if is_video(place)]:
            raise ValueError(f"{videos[0]}: expected photos, found a video")
        return found

    def run(self) -> Iterator[str]:
        """Do it; yields a line per picture written.

        Raises:
            ValueError, OSError: a face that is taken from cannot be read, no source can be, or the
                model does not edit what is asked for.
        """
        o = self.options
        folder = model_folder(o["models"], o["model"] or self._able())
        view = read_record(folder / "model.json").get("view")
        estimator = open_estimator(o["models"], None, view)
        sampling = sampling_of(folder, self.settings, o["steps"], o["seed"])
        published = published_of(self.settings)
        engine = Redirection(folder, sampling, estimator, o["device"], published)
        self._check_model(engine)
        places = (*(one for one, _ in self.taken), *(one for one, _ in self.work))
        photos = any(not is_row(one) for one in places)
        detector = None
        if photos and o["landmarks"] is None:
            detector = detector_of(self.settings, o["device"])
        edits = list(self._edits(engine, detector))
        rows, records, left_out, names = [], [], [], set()
        for place, _ in self.work:
            try:
                face = self._face(place, engine, detector)
                known = engine.invert(face, None, shown=False)
                asked = [self._asked(edit.request, face, known, engine) for edit in edits]
                results, about = engine.redirect(
                    face,
                    [one for some in asked for one in some],
                    mode=o["paste"],
                    finish=shrunk if o["sweep"] else None,
                    inverted=known,
                )
            except ValueError as error:
                if len(self.work) == 1:
                    raise
                left_out.append({"source": Path(place).name, "reason": str(error)})
                yield f"left out: {error}"
                continue
            about["results"] = []
            done = iter(results)
            for edit, some in zip(edits, asked, strict=True):
                name = "_".join(filter(None, (face.name, edit.named, edit.mode)))
                require_new(place, name, names)
                own = [next(done) for _ in some]
                files, facts = self._write_edit(name, some, own)
                rows.append(_row(files[-1], place, edit, engine, facts))
                told = {"like": edit.like, "mode": edit.mode, "files": files}
                about["results"].append({**facts, **told})
                yield f"{place}: {self.out / files[-1]} ({edit.mode})"
            records.append(about)
        if not records:
            raise ValueError(
                f"none of {len(left_out)} photos could be edited; the first: "
                f"{left_out[0]['reason']}"
            )
        _write_table(self.out / TABLE, rows)
        told = {**engine.describe(), "faces": records, "left_out": left_out}
        write_json(self.out / "edits.json", told)
        yield f"what was made: {self.out / TABLE}"

    def _asked(self, wanted: Request, face, known: Inverted, engine: Redirection) -> list[Request]:
        """What is made for an edit: one picture, or the frames of a sweep."""
        wanted = self._completed(wanted, known, engine)
        if self.options["sweep"] is None:
            return [wanted]
        gaze, head = (tuple(np.degrees(one).tolist()) for one in (known.gaze, face.head))
        codes = {name: code_of(known, self._parts(engine), name) for name in wanted.codes}
        return requests_between(Request(gaze, head, codes=codes), wanted, self.options["frames"])

    def _write_edit(
        self, name: str, asked: Sequence[Request], results: Sequence[Result]
    ) -> tuple[list[str], dict]:
        """Files of an edit, and what is known of it: of a sweep's farthest frame."""
        if (kind := self.options["sweep"]) is not None:
            facts = results[len(results) // 2].facts
            return write_sweep(self.out, name, kind, asked, results), facts
        files, one = [f"{name}.patch.png"], results[0]
        write_png(self.out / files[0], one.patch)
        if one.pasted is not None:
            files.append(f"{name}.png")
            write_png(self.out / files[1], one.pasted)
        return files, one.facts

    def _able(self) -> str:
        """The first trained model that edits all that is asked for."""
        known = models_in(self.options["models"], "redirector")
        for name, record in known.items():
            if "albums" not in record and self.factors <= set(
                declared_by(record["config"]).factors
            ):
                return name
        raise ValueError(
            f"model: none in {self.options['models']} edits {', '.join(sorted(self.factors))}; "
            f"there are: {', '.join(known) or 'none'}"
        )

    def _check_model(self, engine: Redirection) -> None:
        lacking = sorted(self.factors - set(engine.declaration.factors))
        if lacking:
            raise ValueError(
                f"model: {engine.record['name']!r} edits {', '.join(engine.declaration.factors)}; "
                f"expected one that edits {', '.join(lacking)}"
            )
        if self.factors & CODED.keys() and engine.declaration.input("codes") is None:
            raise ValueError(f"model: {engine.record['name']!r} reads no 3-D codes of photos")

    def _edits(self, engine: Redirection, detector) -> Iterator[Edit]:
        """All that is made of each source; faces to take from are read once."""
        numbers = Request(self.options["gaze"], self.options["head"], codes=self._given())
        alone = [name for name in ("gaze", "head") if self.options[name] is not None]
        if not self.taken:
            yield Edit("+".join([*alone, *self.numbers]), request=numbers)
            return
        parts = self._parts(engine)
        faces: dict[str, tuple] = {}
        for place, mode in self.taken:
            if place not in faces:
                face = self._face(place, engine, detector)
                faces[place] = face, engine.invert(face, None, shown=False)
            face, known = faces[place]
            found = taken(known, face.head, parts, factors_of_mode(mode))
            yield Edit(mode, place, face.name, _over(found, numbers))

    def _given(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(value, np.float32) for name, value in self.numbers.items()}

    @staticmethod
    def _parts(engine: Redirection) -> Sequence[str]:
        codes = engine.declaration.input("codes")
        return () if codes is None else codes.options["parts"]

    def _completed(self, request: Request, known: Inverted, engine: Redirection) -> Request:
        """A request whose codes have all of their numbers: the source's where none are given."""
        codes = {}
        for name, value in request.codes.items():
            own = code_of(known, self._parts(engine), name).copy()
            if len(value) > len(own):
                raise ValueError(f"{name}: expected at most {len(own)} numbers, found {len(value)}")
            own[: len(value)] = value
            codes[name] = own
        return Request(request.gaze, request.head, codes=codes)


def read_targets(path: Path) -> list[tuple[str, str]]:
    """Faces to take from and modes of a CSV file with the columns ``like`` and ``mode``.

    Photos are found beside the file where they are not where they are named.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing or unknown, a mode is no mode, or a photo is not there; the
            message says in which line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: targets: no such file")
    with open(path, newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        if set(rows.fieldnames or ()) != {"like", "mode"}:
            found = ", ".join(rows.fieldnames or ()) or "none"
            raise ValueError(f"{path}: expected the columns like and mode, found {found}")
        found = []
        for number, row in enumerate(rows, 2):
            place, mode = (row["like"] or "").strip(), (row["mode"] or "").strip()
            try:
                factors_of_mode(mode)
            except ValueError as error:
                raise ValueError(f"{path}: line {number}: {error}") from None
            if not is_row(place) and not Path(place).is_file():
                beside = path.parent / place
                if not place or not beside.is_file():
                    raise ValueError(
                        f"{path}: line {number}: like: expected a photo or a row "
                        f"FACES.h5:person/index, found no such file: {place!r}"
                    )
                place = str(beside)
            found.append((place, mode))
    if not found:
        raise ValueError(f"{path}: expected a line per edit, found none")
    return found


def _over(request: Request, numbers: Request) -> Request:
    """A request with given numbers on top."""
    codes = {**request.codes, **numbers.codes}
    return Request(numbers.gaze or request.gaze, numbers.head or request.head, codes=codes)


def _row(file: str, place: str, edit: Edit, engine: Redirection, facts: Mapping) -> dict[str, Any]:
    angles = [*facts["target_gaze_deg"], *facts["target_head_deg"]]
    told = (
        *(file, place, edit.like or "", edit.mode, engine.record["name"], engine.fingerprint),
        engine.sampling.get("seed", 0),
        *(f"{angle:.3f}" for angle in angles),
    )
    return dict(zip(_COLUMNS, told, strict=True))


def _write_table(path: Path, rows: Sequence[Mapping]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, open(part, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
