"""One call of ``regaze fit``: from the command's options to files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from regaze.face3d.photo_faces import is_row, list_photos
from regaze.outputs import write_json
from regaze.redirect.angles import checked
from regaze.redirect.fit import Asked, FaceFit, Taken, is_fit, masked, state_of
from regaze.redirect.fits import Told
from regaze.redirect.known import detector_of, published_of
from regaze.redirect.models import model_folder, open_estimator, sampling_of
from regaze.redirect.place import Lens, Place, photo_place, row_place
from regaze.redirect.run import Redirection
from regaze.redirectors.base import Fitting
from regaze.weights import read_record

STEPS = 100
"""Steps of a fit, where the model's sampling says no more."""

Bar = Callable[[str, int], AbstractContextManager[Told]]
"""A progress bar of what is fitted, in so many steps."""


class FitJob:
    """What the command was asked for, checked before anything heavy is done.

    The arguments are the command's options; ``settings`` is the checked configuration or None,
    ``bar`` shows the progress of a fit.

    Raises:
        ValueError: options that do not go together, or angles and paths that cannot be used.
    """

    def __init__(self, photo: str, *, settings=None, bar: Bar | None = None, **options):
        self.options, self.settings, self._bar = options, settings, bar
        self.photo = _one(photo)
        self.other = None if options["morph"] is None else _one(options["morph"])
        taken = [Taken.of(text) for text in options["take"]]
        self.asked = Asked(
            *(options[name] for name in ("gaze", "head", "camera")), taken, options["relative"]
        )
        for one in taken:
            if not is_fit(one.place):
                _one(one.place)
        checked("reach", options["reach"])
        checked("source-gaze", options["source_gaze"])
        self.lens = Lens(options["focal"], options["intrinsics"])

    def run(self) -> Iterator[str]:
        """Do it; yields a line per thing that was done.

        Raises:
            ValueError, OSError: see the functions used; the message names the photo.
        """
        o, out = self.options, Path(self.options["out"])
        engine = self._engine()
        fitted = self._fit(engine, self.photo, o["mask"], o["codes"])
        files = fitted.write(out, o["reach"])
        steps, where = engine.sampling["steps"], fitted.known.made_from["fit"]
        yield (
            f"{self.photo}: {out / files[0]} ({where}, {steps} steps, "
            f"{fitted.psnr:.1f} dB inside the mask)"
        )
        about = fitted.facts()
        others = {}
        if self.other is not None:
            others[self.other] = self._fit(engine, self.other)
            files += fitted.animate(out, "morph", fitted.morph(others[self.other]))
            about["morph"] = others[self.other].facts()
        if self.asked.anything:
            states = [self._state(engine, one.place, others) for one in self.asked.taken]
            files.append(fitted.show(out, fitted.edited(self.asked, states)))
            about["asked"] = {
                **{name: getattr(self.asked, name) for name in ("gaze", "head", "camera")},
                "relative": self.asked.relative,
                "taken": [vars(one) for one in self.asked.taken],
            }
            yield f"{self.photo}: {out / files[-1]}"
        record = out / f"{fitted.place.name}.fit.json"
        write_json(record, {**engine.describe(), **about, "files": files})
        yield f"what was done: {record}"

    def _engine(self) -> Redirection:
        o = self.options
        folder = model_folder(o["models"], o["model"])
        view = read_record(folder / "model.json").get("view")
        sampling = sampling_of(folder, self.settings)
        if "steps" in sampling:
            steps = o["steps"]
            sampling["steps"] = max(sampling["steps"], STEPS) if steps is None else steps
        estimator = None
        if o["source_gaze"] is None:
            estimator = open_estimator(o["models"], o["estimator"], view)
        published = published_of(self.settings)
        engine = Redirection(folder, sampling, estimator, o["device"], published)
        if not isinstance(engine.redirector, Fitting):
            raise ValueError(
                f"model: expected one that fits faces (class gazenerf), but {o['model']!r} is of "
                f"class {engine.record['config']['class']}"
            )
        return engine

    def _fit(
        self,
        engine: Redirection,
        photo: str,
        mask: Path | None = None,
        start: Path | None = None,
    ) -> FaceFit:
        steps = engine.sampling["steps"] + engine.sampling.get("fine_tune", 0)
        bar = self._bar and partial(self._bar, steps=steps)
        place = self._place(engine, photo)
        place = place if mask is None else masked(place, mask, photo)
        return FaceFit(engine, place, self.options["source_gaze"], bar, start)

    def _state(self, engine: Redirection, place: str, fits: dict[str, FaceFit]) -> dict:
        """The state of a photo or row, or of a file of a fit; each photo is fitted once."""
        if is_fit(place):
            return state_of(Path(place), engine)
        one = _one(place)
        if one not in fits:
            fits[one] = self._fit(engine, one)
        return fits[one].known.state

    def _place(self, engine: Redirection, photo: str) -> Place:
        o = self.options
        seen = {"size_px": engine.size_px, "trained_on": engine.view, "lens": self.lens}
        if is_row(photo):
            return row_place(photo, **seen)
        find = None
        if o["landmarks"] is None:
            find = detector_of(self.settings, o["device"]).all_faces
        return photo_place(
            photo,
            **seen,
            adjust=engine.adjust,
            read_in=engine.read_in,
            landmarks=o["landmarks"],
            find=find,
            face=o["face"],
        )


def _one(place: str) -> str:
    """A row, or the path of one photo.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is a folder.
    """
    if is_row(place):
        return place
    if Path(place).is_dir():
        raise ValueError(f"{place}: expected one photo, found a folder")
    (found,) = list_photos(place)
    return str(found)
