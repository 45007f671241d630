"""One call of ``regaze redirect``: from the command's options to files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from regaze.face3d.photo_faces import is_row, list_photos
from regaze.landmarks.base import LandmarkDetector
from regaze.outputs import write_json
from regaze.redirect.adjust import BEYOND, told_beyond
from regaze.redirect.angles import Request, checked, read_table, sweep
from regaze.redirect.animate import check_kind, shrunk, write_animation
from regaze.redirect.grid import draw_sheet, grid, mean_errors, write_table
from regaze.redirect.known import detector_of, published_of
from regaze.redirect.looks import SOURCES, Looks
from regaze.redirect.models import model_folder, open_estimator, preferred, sampling_of
from regaze.redirect.one_eye import EYES
from regaze.redirect.paste import MODES
from regaze.redirect.place import Lens, Place, photo_place, row_place
from regaze.redirect.run import Inverted, Redirection, Result, write_png
from regaze.redirect.video_job import VideoJob, film_of
from regaze.redirect.wplus import code_kind, write_code
from regaze.redirectors.base import CodeEditor
from regaze.video.reading import is_camera, is_video
from regaze.weights import read_record


class Job:
    """What the command was asked for, checked before anything heavy is done.

    The arguments are the command's options; ``settings`` is the checked configuration or None.

    Raises:
        ValueError: options that do not go together, or angles and paths that cannot be used.
    """

    def __init__(self, places: Sequence[str], *, settings=None, **options):
        self.options, self.settings = options, settings
        self.looks = Looks()
        self.relative = options["relative"]
        if options["paste"] not in MODES:
            raise ValueError(
                f"paste: expected one of {', '.join(MODES)}, found {options['paste']!r}"
            )
        if options["beyond"] not in BEYOND:
            raise ValueError(
                f"beyond: expected one of {', '.join(BEYOND)}, found {options['beyond']!r}"
            )
        if options["read_gaze"] not in SOURCES:
            raise ValueError(
                f"read-gaze: expected one of {', '.join(SOURCES)}, found {options['read_gaze']!r}"
            )
        if options["save_code"] is not None:
            code_kind(f"x.{options['save_code']}")
        if options["eyes"] not in EYES:
            raise ValueError(f"eyes: expected one of {', '.join(EYES)}, found {options['eyes']!r}")
        if options["look_at_camera"]:
            options["gaze"] = self._into_the_camera()
        checked("source-gaze", options["source_gaze"])
        self.lens = Lens(
            options["focal"], options["intrinsics"], _coefficients(options["distortion"])
        )
        self.sweep, self.grid = options["sweep"] is not None, options["grid"]
        self.work = self._work(list(places))
        self.out = options["out"] or Path("redirected.gif" if self.sweep else "redirected")
        if self.sweep and options["save_code"] is not None:
            raise ValueError("save-code: a sweep is one file; expected angles, a table or a grid")
        if self.sweep:
            check_kind(self.out)
            if len(self.work) != 1:
                raise ValueError(f"sweep: expected one photo or row, found {len(self.work)}")
        if options["code"] is not None:
            code_kind(options["code"])
            if len(self.work) != 1:
                raise ValueError(f"code: expected one photo or row, found {len(self.work)}")
        self.videos = VideoJob(self.work, self.out, self.lens, options)

    def _into_the_camera(self) -> tuple[float, float]:
        """The gaze, once nothing else says where to look: normalised, the camera lies at 0 0."""
        o = self.options
        others = {"--gaze": o["gaze"], "--table": o["table"], "--sweep": o["sweep"],
                  "--relative": o["relative"] or None}  # fmt: skip
        if found := [name for name, value in others.items() if value is not None]:
            raise ValueError(f"look-at-camera: expected no {', '.join(found)} beside it")
        return 0.0, 0.0

    def _work(self, places: list[str]) -> list[tuple[str, list[Request]]]:
        """Places, each with the directions that are asked for."""
        o = self.options
        ways = [name for name in ("table", "sweep", "grid") if o[name] not in (None, False)]
        if len(ways) > 1:
            raise ValueError(f"expected a table, a sweep or a grid, found {' and '.join(ways)}")
        if o["table"] is not None:
            if o["gaze"] is not None or o["head"] is not None:
                raise ValueError("expected angles on the command line or in a table, found both")
            return self._tabled(places)
        if self.sweep:
            centre = o["gaze"] or (0.0, 0.0)
            wanted = sweep(
                o["sweep"], o["frames"], o["reach"], centre, o["head"], relative=self.relative
            )
        elif self.grid:
            if o["gaze"] is not None or o["head"] is not None:
                raise ValueError("expected angles or the angles of --grid, found both")
            wanted = grid(self.relative)
        elif o["gaze"] is None and o["head"] is None:
            raise ValueError(
                "expected where to redirect to: --gaze PITCH YAW, --look-at-camera, --head PITCH "
                "YAW, --table, --sweep or --grid; found none"
            )
        else:
            wanted = [Request(o["gaze"], o["head"], self.relative)]
        if not places:
            raise ValueError("expected photos or rows FACES.h5:person/index, found none")
        return [(place, wanted) for place in self._listed(places)]

    def _listed(self, places: Sequence[str]) -> list[str]:
        found: list[str] = []
        for place in places:
            one = is_row(place) or is_video(place) or is_camera(place)
            found += [place] if one else [str(photo) for photo in list_photos(place)]
        return found

    def _tabled(self, places: list[str]) -> list[tuple[str, list[Request]]]:
        """The places of a table; names are relative to it unless places are given."""
        table = self.options["table"]
        given = {place if is_row(place) else Path(place).name: place for place in
                 self._listed(places)}  # fmt: skip
        work: dict[str, list[Request]] = {}
        for name, request in read_table(table, self.relative):
            if given:
                if name not in given:
                    continue
                place = given[name]
            else:
                place = name if is_row(name) else str(table.parent / name)
            work.setdefault(place, []).append(request)
        if not work:
            raise ValueError(f"{table}: expected lines for {', '.join(given)}, found none")
        return list(work.items())

    def run(self) -> Iterator[str]:
        """Do it; yields a line per picture written.

        Raises:
            ValueError, OSError: see the functions used; the message names the photo.
        """
        o = self.options
        folder = model_folder(o["models"], o["model"] or self._preferred())
        view = read_record(folder / "model.json").get("view")
        estimator = open_estimator(o["models"], o["estimator"], view)
        sampling = sampling_of(folder, self.settings, o["steps"], o["seed"])
        adjust = {name: o[name] for name in ("align", "match_colours", "beyond", "read_gaze")}
        published = published_of(self.settings)
        engine = Redirection(folder, sampling, estimator, o["device"], published, **adjust)
        self._check_model(engine)
        photos = any(not is_row(place) for place, _ in self.work)
        detector = None
        if photos and o["landmarks"] is None:
            detector = detector_of(self.settings, o["device"])
        records, left_out, names = [], [], set()
        for place, requests in self.work:
            if film_of(place):
                require_new(place, self.videos.file_of(place).name, names)
            try:
                if film_of(place):
                    about, line = self.videos.redirect(place, engine, detector, requests[0])
                    records.append(about)
                    yield line
                    yield from _beyond(place, about["results"])
                    continue
                face = self._face(place, engine, detector)
                known = engine.invert(
                    face, o["source_gaze"], o["code"], shown=not self.sweep, keep=True
                )
                results, about = engine.redirect(
                    face,
                    requests,
                    mode=o["paste"],
                    eyes=o["eyes"],
                    finish=shrunk if self.sweep else _measured_only if self.grid else None,
                    inverted=known,
                )
            except ValueError as error:
                if is_row(place) or len(self.work) == 1:
                    raise
                left_out.append({"source": Path(place).name, "reason": str(error)})
                yield f"left out: {error}"
                continue
            about["paste"] = o["paste"] if face.photo is not None else None
            if self.sweep:
                shown = [one.patch if one.pasted is None else one.pasted for one in results]
                write_animation(self.out, shown)
                about["results"] = [one.facts for one in results]
                yield f"{place}: {self.out}"
            else:
                require_new(place, face.name, names)
                about |= self._write_inversion(face, known, engine)
                if self.grid:
                    about |= self._write_grid(face, known, results)
                    yield f"{place}: {self.out / about['grid'][0]} {_grid_told(results)}"
                else:
                    about["results"] = self._write(face, results)
                    for fact in about["results"]:
                        yield f"{place}: {self.out / fact['files'][-1]} {_short(fact, about)}"
            yield from _beyond(place, about["results"])
            records.append(about)
        if not records:
            raise ValueError(
                f"none of {len(left_out)} photos could be redirected; the first: "
                f"{left_out[0]['reason']}"
            )
        single = self.sweep or self.videos.single
        target = self.out.with_suffix(".json") if single else self.out / "redirect.json"
        write_json(target, {**engine.describe(), "faces": records, "left_out": left_out})
        yield f"what was done: {target}"

    def _preferred(self) -> str:
        photos = not any(is_row(place) for place, _ in self.work)
        heads = any(one.head is not None for _, requests in self.work for one in requests)
        return preferred(self.options["models"], photos=photos, heads=heads)

    def _check_model(self, engine: Redirection) -> None:
        """Refuse what the model cannot do, before any photo is read."""
        name, factors = engine.record["name"], engine.declaration.factors
        lacking = [one for one in ("gaze", "head") if one not in factors]
        if self.grid and lacking:
            raise ValueError(
                f"grid: expected a model that edits gaze and head, but {name!r} does not edit "
                f"{' nor '.join(lacking)}"
            )
        if self.options["save_code"] is not None and not isinstance(engine.redirector, CodeEditor):
            raise ValueError(
                f"save-code: model {name!r} edits no codes of a generator, so that there is none"
            )

    def _write(self, face: Place, results: Sequence[Result]) -> list[dict]:
        digits = len(str(len(results) - 1))
        pasted = [one.pasted for one in results if one.pasted is not None]
        moved = self.looks.moved(face, pasted) if len(pasted) == len(results) else []
        facts = []
        for number, one in enumerate(results):
            name = face.name if len(results) == 1 else f"{face.name}_{number:0{digits}d}"
            files = [f"{name}.patch.png"]
            write_png(self.out / files[0], one.patch)
            if one.pasted is not None:
                files.append(f"{name}.png")
                write_png(self.out / files[1], one.pasted)
            told = {"irises_moved_deg": moved[number]} if moved else {}
            facts.append({**one.facts, **told, "files": files})
        return facts

    def _write_inversion(self, face: Place, known: Inverted, engine: Redirection) -> dict:
        """Beside a photo: what the generator makes of it, and its code where that is asked for."""
        facts, kind = {}, self.options["save_code"]
        if known.picture is not None:
            facts["inversion"] = f"{face.name}.inversion.png"
            beside = cv2.resize(
                face.patch, known.picture.shape[1::-1], interpolation=cv2.INTER_AREA
            )
            write_png(self.out / facts["inversion"], np.concatenate([beside, known.picture], 1))
        if kind is not None:
            facts["code"] = f"{face.name}.code.{kind}"
            write_code(self.out / facts["code"], known.code, engine.code_fingerprint)
        return facts

    def _write_grid(self, face: Place, known: Inverted, results: Sequence[Result]) -> dict:
        files = [f"{face.name}.grid.png", f"{face.name}.grid.csv"]
        draw_sheet(self.out / files[0], results, face.patch, known.picture)
        write_table(self.out / files[1], results)
        return {"grid": files, "results": [one.facts for one in results]}

    def _face(self, place: str, engine: Redirection, detector: LandmarkDetector | None) -> Place:
        o = self.options
        seen = {"size_px": engine.size_px, "trained_on": engine.view, "lens": self.lens}
        if is_row(place):
            return row_place(place, photo_root=o["photo_root"], **seen)
        return photo_place(
            place,
            **seen,
            adjust=engine.adjust,
            read_in=engine.read_in,
            landmarks=o["landmarks"],
            find=detector and detector.all_faces,
            face=o["face"],
        )


def _measured_only(photo: np.ndarray) -> None:
    """What becomes of a pasted photo that nobody asked for."""


def _grid_told(results: Sequence[Result]) -> str:
    """The mean errors of a grid in a few words."""
    errors = mean_errors(results)
    off = ", ".join(f"{name} {error:.1f}" for name, error in errors.items())
    return f"({len(results)} pictures{f', off by {off} degrees' if off else ''})"


def _coefficients(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(one) for one in text.split(",")]
    except ValueError:
        raise ValueError(f"distortion: expected k1,k2,p1,p2[,k3...], found {text!r}") from None


def require_new(place: str, name: str, names: set[str]) -> None:
    """Note a name of files; ValueError where another photo has it."""
    if name in names:
        raise ValueError(f"{place}: {name}: expected photos of different names, found two")
    names.add(name)


def _beyond(place: str, results: Sequence[dict]) -> Iterator[str]:
    """The first direction beyond the trained range, and how many others there are."""
    lines = list(dict.fromkeys(line for fact in results for line in told_beyond(fact)))
    if lines:
        others = f" (and {len(lines) - 1} more like it)" if lines[1:] else ""
        yield f"{place}: {lines[0]}{others}"


def _short(fact: dict, about: dict) -> str:
    """Angles of a result in a few words."""
    gaze, source = np.asarray(fact["target_gaze_deg"]), np.asarray(about["source_gaze_deg"])
    text = (
        f"(gaze {source[0]:.1f} {source[1]:.1f} {about['source_gaze_from']} -> "
        f"{gaze[0]:.1f} {gaze[1]:.1f}"
    )
    measured = fact.get("measured_photo", fact.get("measured_patch"))
    if measured:
        pitch, yaw = ("-" if one is None else f"{one:.1f}" for one in measured["gaze_deg"])
        text += f", measured {pitch} {yaw}"
    return text + ")"
