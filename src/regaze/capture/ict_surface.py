"""The skin of an ICT-FaceKit conversion on the procedural head's: coordinates, rings, charts.

Lengths are millimetres in the head's frame (axes of FLAME, origin at the mean of the four eye
corners).
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from regaze.capture import landmarks as marks_of
from regaze.capture import surface, template, topology
from regaze.capture.parts import vertex_normals
from regaze.capture.template import REGIONS

CORNERS = [36, 39, 42, 45]
"""Landmarks of the four eye corners."""
RING_WIDTH = 5.5
"""Millimetres of skin per unit of ring offset about an eye."""
EAR = (116.0, -22.0)
"""Template coordinates (mm, the subject's left) that ears take."""
_INNER = {"left_socket": (5, 2), "right_socket": (5, 3), "mouth_socket": (6, 4), "gums": (6, 4),
          "teeth": (6, 4), "left_sclera": (7, 5), "right_sclera": (8, 6)}  # fmt: skip
"""Region and small chart of the parts within the skin."""


def register(rest, faces, skin: int, marks, head) -> tuple[np.ndarray, np.ndarray]:
    """Template coordinates (skin, 2) in mm of the skin's vertices, and which are ears (skin,).

    The skin is bent onto the procedural head by its 68 landmarks and a few extreme points of skull
    and neck (biharmonic splines), then every vertex takes the coordinates of the nearest point
    of that head, counting a difference in the direction of normals as distance. What lies nearest
    to an ear takes the place behind the cheek where neither hair nor beard is painted.
    """
    goal = head.v_template.astype(np.float64) * 1000
    count = len(head.plane)
    goal_marks = marks_of.gather(head, goal)
    goal = goal - goal_marks[CORNERS].mean(0)
    goal_marks = goal_marks - goal_marks[CORNERS].mean(0)
    source = np.concatenate([rest[marks], _extremes(rest[:skin])])
    target = np.concatenate([goal_marks, _extremes(goal[:count])])
    bend = RBFInterpolator(source, target, kernel="linear", smoothing=1.0, degree=1)
    bent = bend(rest[:skin])
    own = faces[(faces < skin).all(1)]
    normals = vertex_normals(bent, own)[:skin]
    ears = (head.regions == REGIONS.index("ears"))[head.f].all(1)
    inside = (head.f < count).all(1) | ears
    points, chart, facing, triangle = _samples(
        goal, head.f[inside], head.uvcoords[head.uvfaces[inside]], vertex_normals(goal, head.f)
    )
    tree = cKDTree(np.concatenate([points, 12 * facing], 1))
    _, nearest = tree.query(np.concatenate([bent, 12 * normals], 1))
    plane = np.stack(template.chart_to_plane(chart[nearest]), -1)
    ear = ears[inside][triangle[nearest]]
    plane[ear] = np.stack([np.sign(bent[ear, 0]) * EAR[0], np.full(ear.sum(), EAR[1])], -1)
    return plane, ear


def _extremes(points: np.ndarray) -> np.ndarray:
    """Farthest points of the skull in a few directions, and of the neck's lower end."""
    upper = points[points[:, 1] > 10]
    ways = np.array([[0, 1, 0], [0, 0.7, -0.7], [0, 0.1, -1], [0.8, 0.6, 0], [-0.8, 0.6, 0]])
    low = points[points[:, 1] < points[:, 1].min() + 12]
    sides = np.array([[1, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1]])
    out = [upper[np.argmax(upper @ way)] for way in ways]
    return np.array(out + [low[np.argmax(low @ way)] for way in sides])


def _samples(vertices, faces, charts, normals, steps: int = 5):
    """Points on triangles: positions, texture coordinates, unit normals, triangle."""
    i, j = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1))
    keep = i + j <= steps
    bary = np.stack([i[keep], j[keep], steps - i[keep] - j[keep]], -1) / steps
    points = np.einsum("sk,fkd->fsd", bary, vertices[faces]).reshape(-1, 3)
    chart = np.einsum("sk,fkd->fsd", bary, charts.astype(np.float64)).reshape(-1, 2)
    facing = np.einsum("sk,fkd->fsd", bary, normals[faces]).reshape(-1, 3)
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-9)
    return points, chart, facing, np.repeat(np.arange(len(faces)), len(bary))


def eye_rings(rest, faces, skin: int, marks) -> np.ndarray:
    """Ring offsets (skin,) about the eyes, 9 elsewhere.

    The lid margin is the shortest way along edges through an eye's six landmarks. It gets the
    innermost offset of ``surface.RINGS``, its outer neighbours 0, skin beyond the distance from
    them; what lies within the margin lines the lids.
    """
    own = faces[(faces < skin).all(1)]
    edges = np.concatenate([own[:, [0, 1]], own[:, [1, 2]], own[:, [2, 0]]])
    edges = np.unique(np.sort(edges, 1), axis=0)
    length = np.linalg.norm(rest[edges[:, 0]] - rest[edges[:, 1]], axis=1) + 1e-6
    graph = coo_matrix((length, (edges[:, 0], edges[:, 1])), (skin, skin)).tocsr()
    ring = np.full(skin, 9.0)
    for first in (36, 42):
        loop = _loop(graph, marks[first : first + 6])
        keep = np.ones(skin, bool)
        keep[loop] = False
        open_edges = edges[keep[edges].all(1)]
        links = coo_matrix((np.ones(len(open_edges)), open_edges.T), (skin, skin))
        _, group = connected_components(links, directed=False)
        outside = keep & (group == group[marks[30]])
        touching = edges[~keep[edges].all(1)]
        beside = np.unique(touching)
        near = np.linalg.norm(rest[:skin] - rest[loop].mean(0), axis=1) < 45
        edge = beside[outside[beside]]
        distance, _ = cKDTree(rest[edge]).query(rest[:skin])
        offset = np.maximum(distance / RING_WIDTH, 0.02)
        mine = outside & near & (offset < surface.RINGS[-1])
        ring[mine] = np.minimum(ring[mine], offset[mine])
        # vertices used by no triangle of the skin are groups of their own
        lining = keep & ~outside & near & np.isin(np.arange(skin), own)
        ring[lining] = surface.RINGS[0] + 0.005
        ring[edge] = 0.0
        ring[loop] = surface.RINGS[0]
    return ring


def _loop(graph, corners: np.ndarray) -> np.ndarray:
    """Rows on the shortest closed way through vertices, in both directions of every edge."""
    _, before = dijkstra(graph, directed=False, indices=corners, return_predecessors=True)
    out = []
    for index, goal in enumerate(np.roll(corners, -1)):
        row = goal
        while row != corners[index]:
            if row < 0:
                raise ValueError("landmarks of an eye lie on separate pieces of skin")
            out.append(row)
            row = before[index, row]
    return np.unique(out)


def label(plane, ear, ring, skin: int, part, count: int) -> np.ndarray:
    """Region (V,) of every vertex, values of ``regaze.capture.template.REGIONS``."""
    out = np.zeros(count, np.uint8)
    u, v = plane.T
    values = out[:skin]
    values[v < -118] = 3
    values[template.on_lips(u, *surface.base(u, v)[:, :2].T)] = 2
    values[ear] = 4
    values[ring < 1.2] = 1
    for name, (value, _) in _INNER.items():
        if name in part:
            out[part[name]] = value
    return out


def charts(rest, faces, plane, skin: int, part, balls) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates (T, 2) and triangles (F, 3) in the procedural head's chart.

    Skin takes the chart of its template coordinates; a triangle across the back seam gets its own
    corners beyond the seam. Eyeballs, sockets and mouth are discs about +z in small charts.
    """
    out = np.zeros((len(rest), 2))
    out[:skin] = template.plane_to_chart(plane[:, 0], plane[:, 1])
    for name, (_, box) in _INNER.items():
        if name not in part or not len(part[name]):
            continue
        points = rest[part[name]]
        if name.endswith("sclera"):
            centre = balls[name.split("_")[0]][0]
        else:
            centre = (points.min(0) + points.max(0)) / 2
        ray = points - centre
        ray /= np.maximum(np.linalg.norm(ray, axis=1, keepdims=True), 1e-9)
        out[part[name]] = template.small_chart(box, topology.disc_chart(ray))
    uvfaces = faces.copy()
    seam = np.zeros(len(faces), bool)
    own = (faces < skin).all(1)
    corner = out[faces[own], 0]
    seam[own] = np.ptp(corner, axis=1) > 0.5
    # beyond the seam, the low side of such a triangle is the high side's edge
    rows = faces[seam]
    low_side = out[rows, 0] < 0.5
    wanted = np.unique(rows[low_side])
    copies = np.full(len(rest), -1)
    copies[wanted] = len(out) + np.arange(len(wanted))
    beyond = out[wanted].copy()
    beyond[:, 0] = 1.0
    uvfaces[seam] = np.where(low_side, copies[rows], rows)
    return np.clip(np.concatenate([out, beyond]), 0, 1), uvfaces
