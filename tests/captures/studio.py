"""Photographs of rendered heads: who, with which camera, in which pose, looking at what.

:class:`Camera` and :class:`~regaze.capture.renderer.View` of the package render; the poses are
made here, so that they are known apart from the package's own drawing of series.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from heads import tiny_head

from captures.models import CENTRES
from captures.truth import Shot, up_and_left
from regaze.capture import scene, surface
from regaze.capture.actor import Actor
from regaze.capture.renderer import SUB, View
from regaze.capture.subject import draw_look


@dataclass(frozen=True)
class Cast:
    """A person by number, and the turn (3, 3) from the camera in which the light was set up."""

    person: int
    turned: tuple = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    def after(self, turn):
        """The same person and light seen by a camera turned by ``turn`` (3, 3)."""
        return replace(self, turned=tuple(map(tuple, turn @ np.array(self.turned))))


@dataclass(frozen=True)
class Pose:
    """Duck of :class:`regaze.capture.scene.Series` with one head pose that is simply stated."""

    turn: np.ndarray
    shift: np.ndarray
    rotation: np.ndarray
    heads: np.ndarray
    centre: np.ndarray

    def head_rotation(self, head):
        """Rotation (3, 3) from the face model to the camera."""
        return self.turn

    def translation(self, head):
        """Translation (3,), mm."""
        return self.shift


@cache
def _model():
    return tiny_head()


@cache
def _actor(person):
    return Actor(_model(), draw_look(7, person, _model().meta))


@cache
def _light(person):
    rng = np.random.default_rng([7, person])
    return scene.expose(scene.draw_light(rng), _actor(person).look.skin)


@cache
def _background(person, width, height):
    return scene.draw_background(np.random.default_rng([7, person, 1]), width, height)


@cache
def _grid(size, parameters, distortion):
    return scene.Camera(*size, np.array(parameters), np.array(distortion)).ray_grid(SUB)


def photograph(cast, size, parameters, distortion, rotation, centre, target):
    """Take one :class:`Shot`.

    Args:
        cast: a :class:`Cast`.
        size: width, height in pixels.
        parameters: fx, fy, cx, cy in pixels; distortion: k1, k2, p1, p2, k3.
        rotation: (3, 3) from the head to the camera; centre: (3,) mm, where the face centre is.
        target: (3,) mm, what is looked at.
    """
    parameters = tuple(float(value) for value in parameters)
    distortion = tuple(float(value) for value in distortion)
    rotation, centre, target = (np.asarray(part, float) for part in (rotation, centre, target))
    fx, fy, cx, cy = parameters
    camera = scene.Camera(*size, np.array(parameters), np.array(distortion))
    shot = Shot(
        pixels=np.zeros((size[1], size[0], 3), np.uint8),
        camera=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]),
        distortion=np.array(distortion),
        rotation=rotation,
        translation=centre - rotation @ CENTRES["sfm14"],
        target=target,
        landmarks=np.zeros((68, 2)),
        irises=np.zeros((2, 3)),
        cast=cast,
    )
    axes = shot.view()
    heads = np.radians([up_and_left(-rotation[:, 2], axes)])
    pose = Pose(rotation, shot.translation, axes[None], heads, centre[None])
    actor, light, turned = _actor(cast.person), _light(cast.person), np.array(cast.turned)
    light = replace(light, key=turned @ light.key, fill=turned @ light.fill)
    background = _background(cast.person, *size)
    grid = _grid(tuple(size), parameters, distortion)
    view = View(actor, camera, grid, light, background, pose, 0)
    spot = view.to_head @ (target - shot.translation)
    eyes = actor.eyes(np.stack([spot, spot]))
    frame = view.finish(eyes)
    # the actor counts eyes from the subject's left, which is at the right of the image
    irises = view.camera_points(eyes.centres + surface.RADIUS * eyes.axes)[::-1]
    marks = shot.project(view.camera_points(actor.landmarks(eyes)))
    return replace(shot, pixels=frame.pixels, landmarks=marks, irises=irises)


@cache
def ideal_patch(shot, size, focal, distance):
    """What the normalised patch should show: the head rendered by the virtual camera itself.

    No photo is warped for it. Returns (h, w, 3) uint8 RGB; the background is another one.
    """
    axes = shot.view()
    width, height = (int(n) for n in np.broadcast_to(size, 2))
    length = focal * np.linalg.norm(shot.face_centre) / distance
    return photograph(
        shot.cast.after(axes),
        (width, height),
        (length, length, width / 2, height / 2),
        np.zeros(5),
        axes @ shot.rotation,
        axes @ shot.face_centre,
        axes @ shot.target,
    ).pixels
