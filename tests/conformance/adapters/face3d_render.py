"""face3d: rasterising, shading, the renderer, the crop and the dense mesh."""

from __future__ import annotations

import numpy as np
import torch
from kit import adapter, assert_close, assert_relative

from regaze.face3d.crop import (
    crop_box,
    project,
    to_image_space,
    to_photo,
    warp,
    warp_tensor,
)
from regaze.face3d.rasterize import pytorch3d, rasterize
from regaze.face3d.render import Renderer
from regaze.face3d.shading import (
    SH_CONSTANTS,
    directional_shading,
    point_shading,
    sh_shading,
    vertex_normals,
)
from regaze.face3d.uv import dense_mesh, dense_triangles
from regaze.rotations import euler_to_matrix


def _t(array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


@adapter("face3d/rasterize")
def rasterizing(manifest, golden):
    for entry in manifest["config"]["cases"]:
        name, layers = entry["name"], entry["faces_per_pixel"]
        size = entry["image_size"]
        size = size if isinstance(size, int) else tuple(size)
        verts = [_t(golden[f"{name}_verts{n}"]) for n in range(entry["meshes"])]
        faces = [_t(golden[f"{name}_faces{n}"]) for n in range(entry["meshes"])]
        backends = ["embree", "torch", "reference"] if layers == 1 else ["reference"]
        if pytorch3d.available():
            backends.append("pytorch3d")
        for backend in backends:
            _rasterize_one(entry, golden, name, size, verts, faces, backend)


def _rasterize_one(entry, golden, name, size, verts, faces, backend):
    first, parts = 0, []
    for mesh, corners in zip(verts, faces, strict=True):
        mesh.requires_grad_(True)
        mesh.grad = None
        found = rasterize(
            mesh[None],
            corners[None],
            size,
            faces_per_pixel=entry["faces_per_pixel"],
            perspective_correct=entry["perspective_correct"],
            cull_backfaces=entry.get("cull_backfaces", False),
            backend=backend,
        )
        ids = torch.where(found.pix_to_face >= 0, found.pix_to_face + first, -1)
        parts.append(found._replace(pix_to_face=ids))
        first += len(corners)
    ids, zbuf, bary, dists = (torch.cat([part[i] for part in parts]) for i in range(4))
    np.testing.assert_array_equal(ids.numpy(), golden[f"{name}_pix_to_face"], f"{name} {backend}")
    assert_close(zbuf, golden[f"{name}_zbuf"], 2e-5, 1e-5, f"{name} zbuf {backend}")
    assert_close(bary, golden[f"{name}_bary"], 2e-5, 0, f"{name} bary {backend}")
    assert_close(dists, golden[f"{name}_dists"], 2e-5, 1e-5, f"{name} dists {backend}")
    hit = ids >= 0
    ((bary * _t(golden[f"{name}_loss_weight"])).sum(-1) + zbuf)[hit].sum().backward()
    for number, mesh in enumerate(verts):
        wanted = golden[f"{name}_grad{number}"]
        assert_relative(mesh.grad, wanted, 1e-4, f"{name} grad{number} {backend}")


@adapter("face3d/shading_normals")
def shading_normals(golden):
    light = sh_shading(_t(golden["normals"]), _t(golden["sh"]))
    assert_close(light, golden["sh_shading"], 1e-5, 1e-5, "sh_shading")
    assert_close(SH_CONSTANTS, golden["constant_factor"], 1e-6, name="constant_factor")
    points, normals, lights = (_t(golden[key]) for key in ("pts", "pt_normals", "lights"))
    found = point_shading(points, normals, lights)
    assert_close(found, golden["point_shading"], 1e-5, name="point_shading")
    found = directional_shading(normals, lights)
    assert_close(found, golden["directional_shading"], 1e-5, name="directional_shading")
    found = vertex_normals(_t(golden["mesh_vertices"]), _t(golden["mesh_faces"]))
    assert_close(found, golden["vertex_normals"], 1e-5, name="vertex_normals")
    for key, wanted in golden.items():
        if key.startswith("dense_triangles_"):
            height, width = map(int, key.removeprefix("dense_triangles_").split("x"))
            np.testing.assert_array_equal(dense_triangles(height, width).numpy(), wanted, key)
    angles = torch.deg2rad(_t(golden["angles_deg"]).double())
    found = euler_to_matrix(angles.flip(-1), "ZYX")
    # The reference joins the nine entries of all items before it cuts them into matrices.
    found = found.reshape(-1, 9).T.reshape(-1, 3, 3)
    assert_close(found, golden["angle2matrix"], 1e-6, name="angle2matrix")


@adapter("face3d/camera_crop")
def camera_crop(manifest, golden):
    config = manifest["config"]
    points, cam = _t(golden["points"]), _t(golden["cam"])
    assert_close(project(points, cam), golden["projected"], 1e-6, 1e-6, "projected")
    image_points = to_image_space(points, cam)
    assert_close(image_points, golden["image_space"], 1e-6, 1e-6, "image_space")
    kinds = [("landmarks", "detector")[kind] for kind in golden["box_type"]]
    boxes = [
        crop_box(bounds, kind, config["crop_scale"])
        for bounds, kind in zip(golden["bounds_lrtb"], kinds, strict=True)
    ]
    found = np.array([(box.extent, box.size) for box in boxes])
    assert_close(found, golden["old_and_size"], 1e-4, name="old_and_size")
    assert_close(np.array([box.centre for box in boxes]), golden["center"], 1e-4, name="center")
    transforms = np.stack([box.transform(config["crop_size"]) for box in boxes])
    assert_close(transforms, golden["tform"], 1e-4, 1e-5, "tform")
    image, size = golden["image"], golden["crop64"].shape[-1]
    small = np.stack([boxes[row].transform(size) for row in (0, 3)])
    crops = torch.stack([warp(image, transform, size) for transform in small])
    assert_close(crops, golden["crop64"], 2e-5, name="crop64")
    both = _t(np.stack([image, image])).permute(0, 3, 1, 2).float() / 255
    assert_close(warp_tensor(both, _t(small), size), golden["crop64"], 2e-4, name="crop64 torch")
    height, width = map(int, golden["original_hw"])
    used = _t(transforms[: len(points)])
    back = torch.linalg.inv(used).transpose(1, 2)
    assert_close(back, golden["tform_back"], 1e-5, 1e-5, "tform_back")
    found = to_photo(image_points, used, width, height, config["crop_size"])
    assert_close(found, golden["points_in_original"], 1e-5, 1e-5, "points_in_original")


@adapter("face3d/dense_mesh")
def dense(golden):
    keys = ("vertices", "normals", "displacement", "texture")
    vertices, colours, _ = dense_mesh(*(golden[key] for key in keys), golden)
    assert_close(vertices, golden["dense_vertices"], 1e-6, name="dense_vertices")
    np.testing.assert_array_equal(colours, golden["dense_colors"], "dense_colors")


@adapter("face3d/render")
def rendering(manifest, golden):
    config = manifest["config"]
    g = {key: _t(value) for key, value in golden.items()}
    draw = Renderer(
        g["faces"], g["uvcoords"], g["uvfaces"], config["image_size"], config["uv_size"]
    )
    world, flat, albedo = g["vertices"], g["trans_vertices"], g["albedo"]
    assert_close(to_image_space(world, g["cam"]), golden["trans_vertices"], 1e-6, 1e-6, "project")
    kept = flat.clone()
    out = draw(world, flat, albedo, g["light"])
    for name, found in {
        "images": out.images,
        "albedo_images": out.albedo,
        "alpha": out.alpha,
        "pos_mask": out.front,
        "shading": out.shading,
        "grid": out.grid,
        "normal_images": out.normals,
        "vertex_normals": out.vertex_normals,
        "transformed_normals": out.projected_normals,
        "images_bg": draw(world, flat, albedo, g["light"], g["background"]).images,
        "shape_images": draw.shape_image(world, flat),
        "depth_images": draw.depth_image(flat, per_batch=True),
        "uv_position": draw.world2uv(world),
        "extracted_texture": draw.extract_texture(g["background"], flat),
    }.items():
        assert_close(found, golden[name], 2e-4, name=name)
    detail = draw.displaced_normals(
        g["uv_z"], world, out.vertex_normals, g["uv_mask"], g["fixed_displacement"]
    )
    assert_close(detail, golden["uv_detail_normals"], 2e-4, name="uv_detail_normals")
    size = golden["wide_images"].shape[2:]
    wide = draw(world, flat, albedo, g["light"], size=tuple(size))
    assert_close(wide.images, golden["wide_images"], 2e-4, name="wide_images")
    assert_close(wide.alpha, golden["wide_alpha"], 0, name="wide_alpha")
    assert torch.equal(flat, kept), "the caller's vertices were changed"
