"""OpenCV's pinhole camera with lens distortion, for many cameras at once.

The model (radial, rational, tangential, thin-prism and tilted-sensor terms) is the one that
OpenCV documents for its calib3d module; coefficients in its order
k1, k2, p1, p2[, k3[, k4, k5, k6[, s1, s2, s3, s4[, tau_x, tau_y]]]].
"""

from __future__ import annotations

import numpy as np

COEFFICIENT_COUNTS = (4, 5, 8, 12, 14)


def intrinsic_matrix(camera: np.ndarray) -> np.ndarray:
    """Return (..., 3, 3) float64 matrices of (..., 4) fx, fy, cx, cy in pixels."""
    camera = np.asarray(camera, np.float64)
    matrix = np.zeros((*camera.shape[:-1], 3, 3))
    matrix[..., 0, 0] = camera[..., 0]
    matrix[..., 1, 1] = camera[..., 1]
    matrix[..., 0, 2] = camera[..., 2]
    matrix[..., 1, 2] = camera[..., 3]
    matrix[..., 2, 2] = 1.0
    return matrix


def pad_distortion(coefficients: np.ndarray) -> np.ndarray:
    """Return (..., k) coefficients as (..., 14) float64, zeros appended.

    Raises:
        ValueError: when k is not 4, 5, 8, 12 or 14.
    """
    coefficients = np.asarray(coefficients, np.float64)
    count = coefficients.shape[-1] if coefficients.ndim else 0
    if count not in COEFFICIENT_COUNTS:
        raise ValueError(
            f"distortion_parameters: expected {COEFFICIENT_COUNTS} coefficients, found {count}"
        )
    padded = np.zeros((*coefficients.shape[:-1], 14))
    padded[..., :count] = coefficients
    return padded


def _tilt_matrices(tau_x: np.ndarray, tau_y: np.ndarray) -> np.ndarray:
    """Return (..., 3, 3): the projection onto a sensor tilted by tau_x, then tau_y (rad)."""
    cx, sx, cy, sy = np.cos(tau_x), np.sin(tau_x), np.cos(tau_y), np.sin(tau_y)
    zero, one = np.zeros_like(cx), np.ones_like(cx)
    about_x = np.stack([one, zero, zero, zero, cx, sx, zero, -sx, cx], -1)
    about_y = np.stack([cy, zero, -sy, zero, one, zero, sy, zero, cy], -1)
    turned = about_y.reshape(*cx.shape, 3, 3) @ about_x.reshape(*cx.shape, 3, 3)
    depth = turned[..., 2, 2]
    flatten = np.stack(
        [depth, zero, -turned[..., 0, 2], zero, depth, -turned[..., 1, 2], zero, zero, one], -1
    )
    return flatten.reshape(*cx.shape, 3, 3) @ turned


def distort(x: np.ndarray, y: np.ndarray, coefficients: np.ndarray) -> tuple:
    """Return where ideal image points fall through the lens, in the dtype of ``x``.

    ``x``, ``y`` are normalised coordinates (X/Z, Y/Z) of any shape S + T; ``coefficients`` is
    (*S, 14) from :func:`pad_distortion`, S may be ().
    """
    dtype = x.dtype
    shape = coefficients.shape[:-1] + (1,) * (x.ndim - (coefficients.ndim - 1))
    used = (coefficients.reshape(-1, 14) != 0.0).any(axis=0).tolist()

    def term(index: int) -> np.ndarray:
        return coefficients[..., index].reshape(shape).astype(dtype)

    r2 = x * x + y * y
    if used[4]:
        radial = term(4) * r2
        radial += term(1)
        radial *= r2
    else:
        radial = term(1) * r2
    radial += term(0)
    radial *= r2
    radial += dtype.type(1)
    if any(used[5:8]):
        radial /= ((term(7) * r2 + term(6)) * r2 + term(5)) * r2 + dtype.type(1)
    # The tangential terms of x and y share 2 p1 y + 2 p2 x, which joins the radial factor.
    if any(used[2:4]):
        radial += dtype.type(2) * term(2) * y
        radial += dtype.type(2) * term(3) * x
        out_x, out_y = x * radial, y * radial
        out_x += term(3) * r2
        out_y += term(2) * r2
    else:
        out_x, out_y = x * radial, y * radial
    if any(used[8:12]):
        out_x = out_x + (term(9) * r2 + term(8)) * r2
        out_y = out_y + (term(11) * r2 + term(10)) * r2
    if any(used[12:14]):
        tilt = _tilt_matrices(coefficients[..., 12], coefficients[..., 13]).astype(dtype)
        tilt = tilt.reshape(shape + (3, 3))
        depth = tilt[..., 2, 0] * out_x + tilt[..., 2, 1] * out_y + tilt[..., 2, 2]
        out_x, out_y = (
            (tilt[..., 0, 0] * out_x + tilt[..., 0, 1] * out_y + tilt[..., 0, 2]) / depth,
            (tilt[..., 1, 0] * out_x + tilt[..., 1, 1] * out_y + tilt[..., 1, 2]) / depth,
        )
    return out_x, out_y


def project(points: np.ndarray, camera: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Return pixels (N, M, 2) of camera-frame points (N, M, 3) mm; NaN for depth <= 0.

    ``camera`` is (N, 4), ``coefficients`` (N, 14).
    """
    depth = np.where(points[..., 2] > 0.0, points[..., 2], np.nan)
    x, y = distort(points[..., 0] / depth, points[..., 1] / depth, coefficients)
    camera = np.asarray(camera, np.float64)[:, None, :]
    return np.stack([x * camera[..., 0] + camera[..., 2], y * camera[..., 1] + camera[..., 3]], -1)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def undistort_points(
    pixels: np.ndarray, camera: np.ndarray, coefficients: np.ndarray, steps: int = 8
) -> np.ndarray:
    """Return the ideal normalised coordinates (N, M, 2) of distorted pixels (N, M, 2).

    Newton's method with a numerical Jacobian, ``steps`` steps from the distorted position. Where
    coefficients have no measure the result is not finite, without a warning.
    """
    camera = np.asarray(camera, np.float64)[:, None, :]
    seen_x = (pixels[..., 0] - camera[..., 2]) / camera[..., 0]
    seen_y = (pixels[..., 1] - camera[..., 3]) / camera[..., 1]
    x, y = seen_x.copy(), seen_y.copy()
    if not coefficients.any():
        return np.stack([x, y], -1)
    delta = 1e-6
    for _ in range(steps):
        at_x, at_y = distort(x, y, coefficients)
        right_x, right_y = distort(x + delta, y, coefficients)
        below_x, below_y = distort(x, y + delta, coefficients)
        xx, yx = (right_x - at_x) / delta, (right_y - at_y) / delta
        xy, yy = (below_x - at_x) / delta, (below_y - at_y) / delta
        miss_x, miss_y = at_x - seen_x, at_y - seen_y
        determinant = xx * yy - xy * yx
        x = x - (yy * miss_x - xy * miss_y) / determinant
        y = y - (xx * miss_y - yx * miss_x) / determinant
    return np.stack([x, y], -1)
