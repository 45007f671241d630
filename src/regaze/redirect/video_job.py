"""What ``regaze redirect`` does with videos and cameras."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from regaze.landmarks.base import LandmarkDetector
from regaze.redirect.angles import Request
from regaze.redirect.effect import Ramp
from regaze.redirect.in_frames import InFrames
from regaze.redirect.live import Live, redirect_live
from regaze.redirect.place import Lens
from regaze.redirect.run import Redirection
from regaze.redirect.video import Told, redirect_video
from regaze.video.reading import Camera, Film, is_camera, is_video
from regaze.video.writing import KINDS


def film_of(place: str) -> bool:
    """Whether a place is a video or a camera."""
    return is_video(place) or is_camera(place)


class VideoJob:
    """The videos of a command.

    Args:
        work: places, each with the directions that are asked for.
        out: file of one video, by its ending, or folder.
        lens: the camera.
        options: the command's.

    Attributes:
        single: whether ``out`` is the file of the one video.

    Raises:
        ValueError: options that do not go together with videos, or need them.
    """

    def __init__(
        self,
        work: Sequence[tuple[str, Sequence[Request]]],
        out: Path,
        lens: Lens,
        options: Mapping,
    ):
        self.out, self.lens, self.options = out, lens, options
        films = [(place, requests) for place, requests in work if film_of(place)]
        for place, requests in films:
            self._check(place, requests)
        self.ramp = Ramp(options["full_below"], options["none_beyond"])
        for name in ("live", "all_faces"):
            if options[name] and len(films) < len(work):
                raise ValueError(f"{name.replace('_', '-')}: expected videos alone, found photos")
        self.single = bool(films) and options["sweep"] is None and out.suffix.lower() in KINDS
        if self.single and len(work) > 1:
            raise ValueError(f"out: expected a folder for {len(work)} places, found the file {out}")
        if self.single and out.exists() and is_video(work[0][0]) and out.samefile(work[0][0]):
            raise ValueError(f"out: expected another file than the video itself, found {out}")

    def _check(self, place: str, requests: Sequence[Request]) -> None:
        o = self.options
        if o["grid"] or o["code"] or o["save_code"]:
            raise ValueError(f"{place}: a video has neither a grid nor a code; expected photos")
        if o["sweep"] is not None or len(requests) > 1 or o["landmarks"]:
            raise ValueError(
                f"{place}: a video is redirected to one direction by landmarks that are looked "
                "for in each frame; expected no sweep, one line of a table, no --landmarks"
            )
        if is_camera(place) and not o["live"]:
            raise ValueError(f"{place}: a camera shows what happens now; expected --live with it")

    def file_of(self, place: str) -> Path:
        """The file that a video is written to."""
        if self.single:
            return self.out
        name = f"camera{place}" if is_camera(place) else Path(place).stem
        return self.out / f"{name}.mp4"

    def redirect(
        self, place: str, engine: Redirection, detector: LandmarkDetector, request: Request
    ) -> tuple[dict, str]:
        """Redirect a video; what was done, and a line that tells.

        Raises:
            ValueError: see :func:`regaze.redirect.video.redirect_video`.
        """
        o, file, begin = self.options, self.file_of(place), time.monotonic()
        asked = InFrames(
            *(engine, request, self.ramp, self.lens, o["source_gaze"], o["paste"], o["eyes"])
        )
        which = {"face": o["face"], "everybody": o["all_faces"]}
        with _progress() as told:
            if o["live"]:
                source = Camera(place) if is_camera(place) else Film(place)
                live = Live(asked, detector, **which, path=place)
                about = redirect_live(source, file, live, told)
            else:
                about = redirect_video(place, file, asked, detector, **which, told=told)
        rate = about["frames"] / max(time.monotonic() - begin, 1e-9)
        line = f"{place}: {file} ({about['redirected']} of {about['frames']} frames redirected"
        line += "".join(f", {n}: {why}" for why, n in about["unchanged"].items())
        return {**about, "file": file.name}, f"{line}; {rate:.1f} frames per second)"


@contextmanager
def _progress() -> Iterator[Told]:
    """A bar with frames per second on the terminal, if there is one."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} {task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    tasks: dict[str, tuple] = {}

    def told(what: str, done: int, of: int) -> None:
        now = time.monotonic()
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=of or None, rate=""), now
        task, begin = tasks[what]
        rate = done / (now - begin) if now > begin else 0.0
        bar.update(task, completed=done, rate=f"frames, {rate:.1f} per second")

    with bar:
        yield told
