"""What is true of a photo, from rotation matrices and differences of points.

Nothing of :mod:`regaze.normalise` is used: a sign or an axis that is wrong there is wrong in all
of its own functions alike, and only arithmetic done apart from them can tell.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from captures.models import CENTRES, EYE_CORNERS, SFM14, SFM14_LANDMARKS


def unit(vector):
    """The vector (3,) at length 1."""
    return np.asarray(vector, float) / np.linalg.norm(vector)


def turn(pitch, yaw, roll=0.0):
    """Rotation (3, 3) that faces a head up and to image left; all in degrees.

    A head at rest looks along -z of the camera, towards it.
    """
    p, y, r = np.radians([pitch, yaw, roll])
    nod = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    shake = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    tilt = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return shake @ nod @ tilt


def frame(forward, right):
    """Axes right, down, forward (rows of 3 x 3): ``forward`` exactly, ``right`` as nearly."""
    z = unit(forward)
    x = unit(np.asarray(right, float) - z * (z @ right))
    return np.stack([x, np.cross(z, x), z])


def up_and_left(direction, axes):
    """Degrees by which a direction points up and to image left of "straight at the camera"."""
    x, y, z = axes @ unit(direction)
    return np.degrees([np.arcsin(-y), np.arctan2(-x, -z)])


def angle_between(labels, truth):
    """Degrees between directions given by (..., 2) pitch, yaw: radians first, degrees second."""

    def vector(angles):
        pitch, yaw = np.moveaxis(np.asarray(angles, float), -1, 0)
        parts = [np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)]
        return np.stack(parts, -1)

    a, b = vector(labels), vector(np.radians(truth))
    half = np.linalg.norm(a - b, axis=-1) / 2
    return np.degrees(2 * np.arcsin(np.clip(half, 0, 1)))


@dataclass(frozen=True, eq=False)
class Shot:
    """One photo, upright, with everything that is true of it.

    ``pixels`` (H, W, 3) uint8 RGB; ``camera`` (3, 3); ``distortion`` (5,); ``rotation`` (3, 3) and
    ``translation`` (3,) mm from the axes and the origin of ``sfm14`` to the camera; ``target``
    (3,) mm; ``landmarks`` (68, 2) pixels of the rendered head as the lens shows it; ``irises``
    (2, 3) mm in the camera, image left first; ``cast`` says who and in what light.
    """

    pixels: np.ndarray
    camera: np.ndarray
    distortion: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    target: np.ndarray
    landmarks: np.ndarray
    irises: np.ndarray
    cast: object

    @property
    def size(self):
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def camera_parameters(self):
        """fx, fy, cx, cy in pixels."""
        return self.camera[[0, 1, 0, 1], [0, 1, 2, 2]]

    @property
    def rotation_vector(self):
        """The head's rotation as OpenCV's vector (3,), radians."""
        return cv2.Rodrigues(self.rotation)[0].ravel()

    @property
    def face_centre(self):
        """Where gaze starts (3,), mm in the camera."""
        return self.rotation @ CENTRES["sfm14"] + self.translation

    @property
    def gaze(self):
        """Unit direction (3,) from the face centre to the target."""
        return unit(self.target - self.face_centre)

    def head_pose(self, model="sfm14"):
        """Rotation vector and translation (6,) of a face model that has the same axes and face
        centre as the head."""
        return np.r_[self.rotation_vector, self.face_centre - self.rotation @ CENTRES[model]]

    def project(self, points, parameters=None, distortion=None):
        """Pixels (n, 2) of camera points (n, 3); by another lens if that is given."""
        camera = self.camera
        if parameters is not None:
            fx, fy, cx, cy = parameters
            camera = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        lens = self.distortion if distortion is None else np.asarray(distortion, float)
        return cv2.projectPoints(np.asarray(points, float), np.zeros(3), np.zeros(3), camera, lens)[
            0
        ][:, 0]

    def exact_landmarks(self, parameters=None, distortion=None):
        """The 68 landmarks with those of the pose model put exactly where its points are seen."""
        marks = np.array(self.landmarks, float)
        points = SFM14[:13] @ self.rotation.T + self.translation
        marks[SFM14_LANDMARKS] = self.project(points, parameters, distortion)
        return marks

    def view(self, centre=None):
        """Axes (3, 3) of the virtual camera that looks at the face centre with the head upright."""
        return frame(self.face_centre if centre is None else centre, self.rotation[:, 0])

    def labels(self, model="sfm14"):
        """Degrees (8,): gaze, head, gaze of the eye at image left, at image right; pitch, yaw.

        ``model`` matters to the last four, as eyes are in the middle of its eye corners.
        """
        axes = self.view()
        corners = EYE_CORNERS[model] @ self.rotation.T + self.head_pose(model)[3:]
        eyes = [self.target - corners[:2].mean(0), self.target - corners[2:].mean(0)]
        directions = [self.target - self.face_centre, -self.rotation[:, 2], *eyes]
        return np.concatenate([up_and_left(direction, axes) for direction in directions])

    def off_the_line_of_sight(self):
        """Degrees (2,) up and to image left from looking along the line to a level camera."""
        return up_and_left(self.gaze, frame(self.face_centre, (1, 0, 0)))

    def virtual_camera(self, size, focal, distance):
        """Matrix (3, 3) from camera points to pixels of the patch: of a camera turned towards the
        face whose focal length makes the face as large as it is at ``distance`` mm."""
        length = focal * np.linalg.norm(self.face_centre) / distance
        width, height = np.broadcast_to(size, 2)
        lens = np.array([[length, 0, width / 2], [0, length, height / 2], [0, 0, 1.0]])
        return lens @ self.view()

    def patch(self, size, focal, distance):
        """The photo as that camera sees it, (h, w, 3) uint8 RGB."""
        flat = cv2.undistort(self.pixels, self.camera, self.distortion, None, self.camera)
        warp = self.virtual_camera(size, focal, distance) @ np.linalg.inv(self.camera)
        return cv2.warpPerspective(flat, warp, tuple(int(n) for n in np.broadcast_to(size, 2)))

    def in_patch(self, points, size, focal, distance):
        """Pixels (n, 2) of the patch where camera points (n, 3) are seen."""
        seen = np.asarray(points) @ self.virtual_camera(size, focal, distance).T
        return seen[:, :2] / seen[:, 2:]

    def patch_landmarks(self, size, focal, distance):
        """The 68 landmarks in patch pixels, (68, 2)."""
        rays = cv2.undistortPoints(self.landmarks[:, None], self.camera, self.distortion)[:, 0]
        return self.in_patch(np.c_[rays, np.ones(68)], size, focal, distance)
