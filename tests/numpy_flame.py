"""FLAME's layer in NumPy, one head at a time: what the batched layer in torch is held against."""

import cv2
import numpy as np


def rotations(pose):
    """Matrices (n, 3, 3) of axis-angles (n, 3)."""
    return np.stack([cv2.Rodrigues(np.asarray(vector, float))[0] for vector in pose])


def shaped(model, shape=(), expression=()):
    """Vertices (V, 3) in m in rest pose."""
    first = model.n_shape_total
    columns = [*range(len(shape)), *range(first, first + len(expression))]
    codes = np.concatenate([shape, expression])
    return model.v_template.astype(float) + model.shapedirs[:, :, columns] @ codes


def posed(model, shape=(), expression=(), pose=None):
    """Skinned vertices (V, 3) in m for axis-angles (5, 3) of root, neck, jaw and both eyes."""
    turn = rotations(np.zeros((5, 3)) if pose is None else pose)
    rest = shaped(model, shape, expression)
    joints = model.J_regressor @ rest
    rest = rest + model.posedirs @ (turn[1:] - np.eye(3)).ravel()
    world, origin = [turn[0]], [joints[0]]
    for joint in range(1, 5):
        parent = model.kintree_table[0, joint]
        world.append(world[parent] @ turn[joint])
        origin.append(world[parent] @ (joints[joint] - joints[parent]) + origin[parent])
    moved = [(rest - joints[j]) @ world[j].T + origin[j] for j in range(5)]
    return np.einsum("vj,jvd->vd", model.weights, moved)
