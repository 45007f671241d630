import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from regaze.capture import load_head
from regaze.capture.writer import CaptureConfig, render_person
from regaze.commands.head import head_app
from regaze.face3d.convert import convert_flame, read_texture
from regaze.face3d.model import (
    FlameModel,
    load_flame,
    make_model,
    model_hash,
    save_flame,
)
from regaze.face3d.obj import read_obj, read_vertices


def changed(model, **changes):
    content = {f.name: getattr(model, f.name) for f in dataclasses.fields(FlameModel)}
    meta = content.pop("meta")
    return make_model({**content, **changes}, "m.npz", meta=meta)


def test_the_procedural_head_is_a_model(model):
    assert model.meta["source"] == "synthetic" and model.texture_rgb
    assert model.n_expression_total == 16
    left, right = model.rows_of("left_eye"), model.rows_of("right_eye")
    assert (model.v_template[left, 0] > 0).all() and (model.v_template[right, 0] < 0).all()
    # skin first, then the left and the right eyeball, each contiguous
    assert left.min() < right.min() and right.max() == len(model.v_template) - 1
    assert np.array_equal(left, np.arange(left.min(), right.min()))
    with pytest.raises(ValueError, match="region 'nose': the head model has skin, lids"):
        model.rows_of("nose")


def test_masks_cover_the_face_where_its_texture_is(model):
    # row 0 of a texture is v = 1: the mask at a landmark's texture coordinate is inside the face
    corners = model.uvcoords[model.uvfaces[model.static_lmk_faces_idx]]
    spots = np.einsum("lk,lkd->ld", model.static_lmk_bary_coords, corners)
    rows = np.clip(((1 - spots[:, 1]) * 256).astype(int), 0, 255)
    cols = np.clip((spots[:, 0] * 256).astype(int), 0, 255)
    assert (model.uv_face_eye_mask[rows, cols] > 0.9).all()
    nose = slice(10, 19)
    assert (model.uv_face_mask[rows[nose], cols[nose]] > 0.9).all()
    for eye in (slice(19, 25), slice(25, 31)):
        row, col = int(rows[eye].mean()), int(cols[eye].mean())
        assert model.uv_face_mask[row, col] < 0.1 and model.uv_face_eye_mask[row, col] > 0.9
    # lips are redder than the nose
    side = len(model.MU)
    lips = model.MU[rows[31:43] * side // 256, cols[31:43] * side // 256].astype(float).mean(0)
    bridge = model.MU[rows[10:14] * side // 256, cols[10:14] * side // 256].astype(float).mean(0)
    assert lips[1] / lips[0] < bridge[1] / bridge[0]


def test_save_and_load(tmp_path, model):
    save_flame(tmp_path / "a.npz", model)
    save_flame(tmp_path / "b.npz", model)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = load_flame(tmp_path / "a.npz")
    assert again.meta == json.loads(json.dumps(model.meta))
    assert model_hash(again) == model_hash(model)
    moved = changed(model, v_template=model.v_template * np.float32(1.001))
    assert model_hash(moved) != model_hash(model)


def test_the_capture_renders_a_saved_model_as_the_head_itself(tmp_path, head, model):
    save_flame(tmp_path / "m.npz", model)
    config = CaptureConfig({"val": 1}, head_poses=1, gazes=1, photo=64, focal=125.0)
    own, saved = (render_person(h, config, "40002") for h in (head, load_head(tmp_path / "m.npz")))
    assert own.jpegs == saved.jpegs and np.array_equal(own.landmarks, saved.landmarks)


def test_optional_arrays_may_be_absent(tmp_path, model):
    names = ("uvcoords", "uvfaces", "MU", "PC", "regions", "uv_face_mask", "uv_face_eye_mask")
    bare = changed(model, **dict.fromkeys(names))
    save_flame(tmp_path / "m.npz", bare)
    assert load_flame(tmp_path / "m.npz").uvcoords is None
    with pytest.raises(ValueError, match="region 'left_eye'"):
        bare.rows_of("left_eye")


def test_heads_may_lack_eyes_and_numbers_of_mediapipe(model):
    skin = dataclasses.replace(model, meta={**model.meta, "regions": ["skin"]})
    alone = changed(skin, regions=np.zeros_like(model.regions))
    assert len(alone.rows_of("skin")) == len(model.v_template)
    points = {
        "mediapipe_lmk_faces_idx": np.arange(5), "mediapipe_lmk_bary_coords": np.full((5, 3), 1 / 3)
    }  # fmt: skip
    assert changed(model, **points).mediapipe_landmark_indices is None
    with pytest.raises(ValueError, match=r"mediapipe_landmark_indices: .* 0\.\.477, found"):
        changed(model, **points, mediapipe_landmark_indices=np.arange(475, 480))


def bad(array, value, where=(0, 0)):
    out = array.copy()
    out[where] = value
    return out


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("v_template", lambda a: bad(a, np.nan), "finite"),
        ("v_template", lambda a: a * 1000, "head in metres"),
        ("v_template", lambda a: a[:, :2], r"expected shape \(\d+, 3\)"),
        ("f", lambda a: bad(a, 10**6), "rows in"),
        ("f", lambda a: a.astype(float), "expected integers"),
        ("shapedirs", lambda a: a[1:], "shape"),
        ("shapedirs", lambda a: a[:, :, :12], "n_shape_total: expected a count"),
        ("posedirs", lambda a: a[:, :, :9], "36"),
        ("J_regressor", lambda a: a * 1.1, "sum to one"),
        ("weights", lambda a: bad(a, -1), "sum to one"),
        ("weights", lambda a: np.roll(a, 1, 1), "one-hot"),
        ("weights", lambda a: bad(bad(a, 1.5), -0.5, (0, 1)) * (np.arange(5) < 2), "sum to one"),
        ("kintree_table", lambda a: bad(a, 4, (0, 1)), "parents before children"),
        ("kintree_table", lambda a: bad(a, 2, (1, 1)), "joints 0..4"),
        ("static_lmk_faces_idx", lambda a: a[1:], r"\(51,\)"),
        ("dynamic_lmk_faces_idx", lambda a: bad(a, -1), "rows in"),
        ("full_lmk_bary_coords", lambda a: a * 2, "sum to one"),
        ("uvcoords", lambda a: a * 3, "0.001..1.001"),
        ("uvfaces", lambda a: None, "no uvfaces"),
        ("uv_face_mask", lambda a: a * 255, "0..1"),
        ("uv_face_mask", lambda a: a[:128], r"\(256, 256\)"),
        ("fixed_displacement", lambda a: a + 1, "0.05"),
        ("MU", lambda a: a[:, :5], "shape"),
        ("PC", lambda a: None, "no PC"),
        ("regions", lambda a: a + 9, "number of names"),
        ("plane", lambda a: a[:-1], "plane_xy: expected shape"),
        ("ring", lambda a: None, "no ring"),
        ("posedirs", lambda a: None, "lacks posedirs"),
        ("v_template", lambda a: np.array(["x"]), "expected numbers"),
    ],
)
def test_wrong_arrays_are_named(model, name, change, words):
    with pytest.raises(ValueError, match=words) as error:
        changed(model, **{name: change(getattr(model, name))})
    assert str(error.value).startswith("m.npz: ")


def test_files_that_are_no_models(tmp_path, model):
    with pytest.raises(ValueError, match=r"none.npz: no such head model.*regaze head convert"):
        load_flame(tmp_path / "none.npz")
    path = tmp_path / "m.npz"
    path.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(ValueError, match="not a head model"):
        load_flame(path)
    np.savez(path, v_template=np.zeros((4, 3)))
    with pytest.raises(ValueError, match="lacks f, shapedirs"):
        load_flame(path)
    np.savez(path, v_template=np.array([{}], object))
    with pytest.raises(ValueError, match="not a head model"):
        load_flame(path)
    np.save(tmp_path / "m.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"m\.npy: not a head model .*: found an \.npy"):
        load_flame(tmp_path / "m.npy")


# --- a user's files, written in FLAME's layout from the procedural head


@pytest.fixture(scope="module")
def files(tmp_path_factory, head):
    folder = tmp_path_factory.mktemp("flame")
    vertices, rng = len(head.v_template), np.random.default_rng(0)
    kintree = head.kintree_table.copy()
    kintree[0, 0] = 4294967295
    directions = rng.normal(0, 1e-3, (vertices, 3, 20))
    content = {
        "f": head.f.astype(np.uint32), "v_template": head.v_template.astype(float),
        "shapedirs": directions, "posedirs": head.posedirs.astype(float),
        "J_regressor": head.J_regressor, "kintree_table": kintree, "weights": head.weights,
        "J": np.zeros((5, 3)), "bs_style": "lbs", "bs_type": "lrotmin",
    }  # fmt: skip
    (folder / "generic_model.pkl").write_bytes(pickle.dumps(content, 2))
    marks = {n: getattr(head, n) for n in vars(head) if "_lmk_" in n}
    marks["dynamic_lmk_faces_idx"] = torch.tensor(marks["dynamic_lmk_faces_idx"])
    marks["dynamic_lmk_bary_coords"] = torch.tensor(marks["dynamic_lmk_bary_coords"])
    np.save(folder / "landmark_embedding.npy", np.array(marks, object), allow_pickle=True)
    lines = [f"v {x} {y + 1.5} {z}" for x, y, z in head.v_template]
    lines += [f"vt {u} {v}" for u, v in head.uvcoords]
    order = rng.permutation(len(head.f))
    for face, uv in zip(head.f[order], head.uvfaces[order], strict=True):
        a, b = np.roll(face, 1) + 1, np.roll(uv, 1) + 1
        lines.append("f " + " ".join(f"{i}/{j}" for i, j in zip(a, b, strict=True)))
    (folder / "head_template.obj").write_text("\n".join(lines) + "\n")
    np.savez(
        folder / "texture.npz",
        mean=np.arange(8 * 8 * 3.0).reshape(8, 8, 3), tex_dir=rng.normal(size=(8, 8, 3, 6)),
        specMU=np.zeros(2),
    )  # fmt: skip
    mask = np.zeros((256, 256, 4), np.uint8)
    mask[:100, :, 0], mask[..., 3] = 255, 255
    Image.fromarray(mask).save(folder / "uv_face_mask.png")
    np.save(folder / "fixed.npy", np.full((256, 256), 1e-3))
    np.savez(
        folder / "mediapipe.npz",
        lmk_face_idx=np.arange(105), lmk_b_coords=np.full((105, 3), 1 / 3),
        landmark_indices=np.arange(105),
    )  # fmt: skip
    return folder


def test_conversion_of_a_users_files(tmp_path, files, head):
    out = tmp_path / "flame.npz"
    model = convert_flame(
        files / "generic_model.pkl", files / "landmark_embedding.npy", out,
        template_obj=files / "head_template.obj", texture_npz=files / "texture.npz",
        face_mask=files / "uv_face_mask.png", displacement_npy=files / "fixed.npy",
        mediapipe_npz=files / "mediapipe.npz", n_shape_total=12, n_texture=4,
    )  # fmt: skip
    again = load_flame(out)
    assert model_hash(again) == model_hash(model) and again.meta == model.meta
    assert again.kintree_table[0].tolist() == [-1, 0, 1, 1, 1] and not again.texture_rgb
    assert np.array_equal(again.f, head.f)
    # the template's triangles come in another order and turn
    assert np.allclose(again.uvcoords[again.uvfaces], head.uvcoords[head.uvfaces], atol=1e-6)
    assert again.MU.shape == (8, 8, 3) and np.allclose(again.MU[0, 0], [0, 1 / 255, 2 / 255])
    assert again.PC.shape == (8, 8, 3, 4)
    assert again.uv_face_mask[0, 0] == 1 and again.uv_face_mask[200, 0] == 0
    assert len(again.mediapipe_lmk_faces_idx) == 105
    assert len(again.meta["inputs"]["model"]["sha256"]) == 64
    assert again.meta["inputs"]["texture"]["name"] == "texture.npz"
    template = tmp_path / "same.obj"
    lines = [f"v {x} {y} {z}" for x, y, z in head.v_template]
    lines += [f"vt {u} {v}" for u, v in head.uvcoords]
    for face, uv in zip(head.f + 1, head.uvfaces + 1, strict=True):
        lines.append("f " + " ".join(f"{i}/{j}" for i, j in zip(face, uv, strict=True)))
    template.write_text("\n".join(lines) + "\n")
    words = [
        str(files / "generic_model.pkl"), str(files / "landmark_embedding.npy"), str(out),
        "--shapes", "12", "--template", str(template),
    ]  # fmt: skip
    done = CliRunner().invoke(head_app, ["convert", *words])
    assert done.exit_code == 0 and "source flame, sha256" in done.output
    # a template in the model's own order gives its charts as they are
    assert np.array_equal(load_flame(out).uvfaces, head.uvfaces)
    assert done.output.split("sha256 ")[1][:64] == model_hash(load_flame(out))
    bare = convert_flame(
        files / "generic_model.pkl", files / "landmark_embedding.npy", out, n_shape_total=12
    )
    assert bare.uvcoords is None and bare.regions is None and load_flame(out).MU is None


def test_large_textures_keep_every_second_row(tmp_path):
    mean = np.zeros((512, 512, 3), np.float32)
    mean[::2, ::2] = 0.5
    np.savez(tmp_path / "t.npz", MU=mean, PC=np.ones((512, 512, 3, 2), np.float32))
    found, _ = read_texture(tmp_path / "t.npz", 1)
    assert found.shape == (256, 256, 3) and (found == 0.5).all()
    with pytest.raises(ValueError, match="3 directions asked for, the file has 2"):
        read_texture(tmp_path / "t.npz", 3)
    np.savez(tmp_path / "t.npz", other=mean)
    with pytest.raises(ValueError, match="expected MU and PC, or mean and tex_dir; found other"):
        read_texture(tmp_path / "t.npz", 1)


def test_conversion_names_what_is_wrong(tmp_path, files):
    first, second = files / "generic_model.pkl", files / "landmark_embedding.npy"
    with pytest.raises(ValueError, match="landmarks: no such file"):
        convert_flame(first, tmp_path / "none.npy", tmp_path / "o.npz")
    with pytest.raises(ValueError, match="n_shape_total"):
        convert_flame(first, second, tmp_path / "o.npz")
    partial = tmp_path / "p.pkl"
    partial.write_bytes(pickle.dumps({"f": np.zeros((2, 3))}, 2))
    with pytest.raises(ValueError, match="lacks the arrays v_template"):
        convert_flame(partial, second, tmp_path / "o.npz")
    obj = tmp_path / "t.obj"
    text = (files / "head_template.obj").read_text().splitlines()
    obj.write_text("\n".join(text[:-1]) + "\n")
    with pytest.raises(ValueError, match="lacks 1 of the model's"):
        convert_flame(first, second, tmp_path / "o.npz", template_obj=obj, n_shape_total=12)
    assert not (tmp_path / "o.npz").exists()


@pytest.mark.parametrize(
    "kind, content, words",
    [
        ("template_obj", "v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\n", "triangles with texture"),
        ("template_obj", "v 0 0 0\nvt 0 0\nf 1/1 1/1 1/1 1/1\n", "triangles with texture"),
        ("texture_npz", "no zip", "not an .npz without pickles"),
        ("texture_npz", "", "an empty file, not an .npz without pickles"),
        ("texture_npz", "PK\x03\x04 cut off", "a zip archive that is cut off or damaged, not an"),
        ("texture_npz", {"MU": np.zeros((4, 4, 3)), "PC": np.array([{}], object)},
         "not an .npz without pickles"),
        ("texture_npz", {"MU": np.float32(1), "PC": np.zeros((4, 4, 3, 2))},
         r"expected \(R, R, 3\) and \(R, R, 3, K\), found \(\) and \(4, 4, 3, 2\)"),
        ("texture_npz", np.zeros(3), "expected an .npz, found an .npy"),
        ("texture_npz", {"MU": np.zeros((4, 3, 3)), "PC": np.zeros((4, 3, 3, 2))},
         r"expected \(R, R, 3\) and \(R, R, 3, K\), found \(4, 3, 3\) and \(4, 3, 3, 2\)"),
        ("displacement_npy", "no array", "not an .npy without pickles"),
        ("displacement_npy", "", "an empty file, not an .npy without pickles"),
        ("displacement_npy", {"a": np.zeros(3)}, "expected an .npy, found an .npz"),
        ("mediapipe_npz", {"lmk_face_idx": np.zeros(3)}, "lacks lmk_b_coords, landmark_indices"),
    ],
)  # fmt: skip
def test_files_beside_the_model_are_named(tmp_path, files, kind, content, words):
    path = tmp_path / "given"
    if isinstance(content, str):
        path.write_text(content)
    else:
        with open(path, "wb") as stream:
            np.savez(stream, **content) if isinstance(content, dict) else np.save(stream, content)
    first, second = files / "generic_model.pkl", files / "landmark_embedding.npy"
    with pytest.raises(ValueError, match=f"given: {words}|given: expected {words}"):
        convert_flame(first, second, tmp_path / "o.npz", n_shape_total=12, **{kind: path})
    assert not (tmp_path / "o.npz").exists()


def test_obj_files(tmp_path):
    path = tmp_path / "m.obj"
    path.write_text(
        "# c\nmtllib a.mtl\nv 0 0 0 1 1 1\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 1 0\n"
        "vn 0 0 1\nf 1/1/1 2/2/1 3/1 4/2\nf 1 2 3\n"
    )
    mesh = read_obj(path)
    rows, uvs, polygon = mesh.triangles()
    assert rows.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]
    assert uvs.tolist() == [[0, 1, 0], [0, 0, 1], [-1, -1, -1]] and polygon.tolist() == [0, 0, 1]
    assert read_vertices(path).shape == (4, 3)
    for text, word in (
        ("v 0 0\nf 1 2 3\n", "'v' lacks its 3 numbers"),
        ("v 0 0 nan\nf 1 1 1\n", "NaN"),
        ("v 0 0 0\nf 1 2 3\n", "name vertex 3"),
        ("v 0 0 0\nf -1 1 1\n", "below 1"),
        ("v 0 0 0\nf 1/5 1/1 1/1\n", "texture coordinate 5"),
        ("v 0 0 0\nf 1 1\n", "line 2: a polygon of 2 corners"),
        ("v 0 0 0\nf a b c\n", "line 2: a corner"),
        ("v 0 0 0\n", "no vertices or no polygons"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=word):
            read_obj(path)
    path.write_text("f 1 1 1\n")
    with pytest.raises(ValueError, match=r"m\.obj: no vertices"):
        read_vertices(path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_vertices(tmp_path / "none.obj")
