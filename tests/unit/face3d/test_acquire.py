"""Acquisition: the files users rely on, gaze in the eyes, faces that are not there, the command."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from heads import tiny_head
from PIL import Image
from typer.testing import CliRunner

from regaze.commands.face3d import app, weights_of
from regaze.face3d.acquire import PICTURE, acquire, encoder_crop
from regaze.face3d.acquire_settings import AcquireSettings
from regaze.face3d.crop import crop_box, landmark_bounds
from regaze.face3d.deca import Deca
from regaze.face3d.drawing import to_drawing, to_pixels, to_uint8, write_png
from regaze.face3d.gaze import eye_pose_from_labels
from regaze.face3d.obj import read_obj
from regaze.face3d.patches import crop_patches
from regaze.face3d.photo_faces import (
    NoFace,
    PhotoFace,
    faces_of_photo,
    is_row,
    landmarks_of,
    list_photos,
    stem,
)
from regaze.face3d.settings import EncoderSettings
from regaze.face3d.turntable import poses, turntable, write_gif
from regaze.faces import FacesAttributes, FacesWriter
from regaze.sources.tables import LANDMARKS

DEMO = {
    "shape.npy": (100,),
    "exp.npy": (50,),
    "tex.npy": (50,),
    "pose.npy": (6,),
    "detail.npy": (128,),
}


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    made = Deca(tiny_head(), "tiny").eval()
    with torch.no_grad():
        last = made.E_flame.layers[2]
        last.weight.mul_(0.05)
        last.bias.zero_()
        last.bias[206] = 7.5
        last.bias[209:212] = 3.0
    return made


def marks(x=100.0, y=80.0, size=60.0, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([x, y]) + size * rng.uniform(-0.5, 0.5, (68, 2))


def photo(path, seed=0, width=200, height=160):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.GaussianBlur(picture, (0, 0), 3))
    return path


def test_a_face_is_written_as_the_demos_write_it(tmp_path, encoder):
    photo(tmp_path / "a.b.png")
    np.savetxt(tmp_path / "marks.txt", marks())
    done = acquire(
        [tmp_path / "a.b.png"],
        encoder,
        tmp_path / "out",
        landmarks=tmp_path / "marks.txt",
        gaze=(0.2, -0.3),
    )
    assert [one.folders for one in done] == [("a00",)]
    folder = tmp_path / "out/a00"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *DEMO, "codes.npz", "inputs.png", "geometry_coarse.png", "out_im_coarse.png", "albedo.png",
        "normals.png", "mesh_coarse.obj", "mesh_coarse.mtl", "mesh_coarse.png",
        "mesh_coarse_normals.png", "kpt2d.txt", "kpt3d.txt", "landmarks_photo.txt",
        "landmarks_given.txt", "turntable.gif",
    }  # fmt: skip
    for name, shape in DEMO.items():
        values = np.load(folder / name)
        assert values.shape == shape and values.dtype == np.float32
    for name in ("inputs", "geometry_coarse", "out_im_coarse", "albedo", "normals"):
        assert Image.open(folder / f"{name}.png").size == (PICTURE, PICTURE)
    with np.load(folder / "codes.npz", allow_pickle=False) as stored:
        codes = {name: stored[name] for name in stored.files}
    assert codes["cam"].shape == (3,) and codes["light"].shape == (9, 3)
    assert codes["encoder"] == "deca-tiny" and len(str(codes["head_sha256"])) == 64
    assert (
        codes["transform"].shape == (3, 3)
        and codes["box_size"] == crop_box(landmark_bounds(marks())).size
    )
    np.testing.assert_allclose(codes["gaze"], [0.2, -0.3])
    # everything that the pictures were made of is there: the mesh can be made again
    rows = {n: torch.from_numpy(codes[n])[None] for n in ("shape", "exp", "pose", "eye_pose")}
    again = encoder.flame(**rows).vertices[0].numpy()
    mesh = read_obj(folder / "mesh_coarse.obj")
    np.testing.assert_allclose(mesh.vertices, again, atol=1e-6)
    assert len(mesh.counts) == len(encoder.head.f)
    assert cv2.imread(str(folder / "mesh_coarse.png")).shape == (256, 256, 3)
    assert np.loadtxt(folder / "kpt2d.txt").shape == (68, 2)
    assert np.loadtxt(folder / "kpt3d.txt").shape == (68, 4)
    # landmarks over the crop and in the photo are the same points
    flat = torch.from_numpy(np.loadtxt(folder / "kpt2d.txt"))[None]
    pixels = to_pixels(flat, codes["transform"][None], encoder.size_px)[0]
    np.testing.assert_allclose(np.loadtxt(folder / "landmarks_photo.txt"), pixels, atol=1e-3)
    eyes = eye_pose_from_labels(torch.tensor([[0.2, -0.3]]), rows["pose"][:, :3])
    np.testing.assert_allclose(rows["eye_pose"], eyes, atol=1e-5)


def test_eyes_of_the_mesh_point_with_the_gaze(tmp_path, encoder):
    photo(tmp_path / "a.png")
    np.savetxt(tmp_path / "marks.txt", marks())
    front = {}
    for name, gaze in {"up": (0.3, 0), "down": (-0.3, 0), "left": (0, 0.3), "none": None}.items():
        acquire(
            [tmp_path / "a.png"],
            encoder,
            tmp_path / name,
            landmarks=tmp_path / "marks.txt",
            gaze=gaze,
            animate=False,
        )
        mesh = read_obj(tmp_path / name / "a00/mesh_coarse.obj").vertices
        rows = encoder.head.rows_of("left_eye")
        pupil = rows[encoder.head.v_template[rows, 2].argmax()]
        front[name] = mesh[pupil] - mesh[rows].mean(0)
        assert not (tmp_path / name / "a00/turntable.gif").exists()
    assert front["up"][1] > front["none"][1] + 0.001 > front["down"][1] + 0.002
    # yaw is positive to the left of the picture, the subject's right: -x
    assert front["left"][0] < front["none"][0] - 0.001


def test_detail_is_written_where_there_is_a_network_for_it(tmp_path):
    torch.manual_seed(1)
    deca = Deca(tiny_head(), "tiny", detail=True).eval()
    photo(tmp_path / "a.png")
    np.savetxt(tmp_path / "marks.txt", marks())
    given = {"landmarks": tmp_path / "marks.txt", "animate": False}
    acquire([tmp_path / "a.png"], deca, tmp_path / "out", **given)
    folder = tmp_path / "out/a00"
    for name in ("geometry_detail.png", "out_im_detail.png", "mesh_coarse_detail.obj"):
        assert (folder / name).stat().st_size > 1000
    dense = folder / "mesh_coarse_detail.obj"
    assert len(read_obj(dense).vertices) > 20_000
    assert len(dense.read_text().split("\n", 1)[0].split()) == 7
    assert np.load(folder / "detail.npy").any()


def test_rows_of_faces_bring_their_landmarks_and_gaze(tmp_path, encoder):
    points = marks(24, 24, 28)[None].repeat(2, 0).astype(np.float32)
    points[1] = np.nan
    labels = np.full((2, 8), 0.25)
    path = tmp_path / "faces.h5"
    attributes = FacesAttributes("sted", (48, 48), 190.0, 600.0, "none", "folder")
    with FacesWriter(path, attributes) as writer:
        pixels = np.full((2, 48, 48, 3), 90, np.uint8)
        writer.add_person("00001", pixels, labels, landmarks=points)
    assert is_row(f"{path}:00001/0") and not is_row(str(path))
    places = [f"{path}:00001/0", f"{path}:00001/1"]
    done = acquire(places, encoder, tmp_path / "out", animate=False)
    assert [one.folders for one in done] == [("00001_0_00",), ()]
    assert "this row has no landmarks" in done[1].reason
    record = json.loads((tmp_path / "out/acquired.json").read_text())
    assert record["faces"][0]["source"] == "faces.h5:00001/0"
    assert record["encoder"]["encoder"] == "deca-tiny"
    with np.load(tmp_path / "out/00001_0_00/codes.npz") as stored:
        np.testing.assert_allclose(stored["gaze"], [0.25, 0.25])
    table = pq.read_table(tmp_path / "out/codes.parquet")
    assert table["detected"].to_pylist() == [True, False]
    assert table.schema.field("deca_light").type.list_size == 27
    assert table.schema.metadata[b"encoder"] == b"deca-tiny"
    with pytest.raises(NoFace, match="this row has no landmarks"):
        acquire(places[1:], encoder, tmp_path / "out")
    with pytest.raises(ValueError, match="no row 7 of person '00001'"):
        acquire([f"{path}:00001/7"], encoder, tmp_path / "out")


def test_every_face_of_a_photo_gets_a_folder(tmp_path, encoder):
    (tmp_path / "photos").mkdir()
    photo(tmp_path / "photos/b.png")
    photo(tmp_path / "photos/a.jpg")
    photo(tmp_path / "photos/.hidden.png")

    def find(picture):
        two = [marks(80, 80, 50), marks(140, 80, 40)]
        return two if picture.shape == (160, 200, 3) else []

    done = acquire([tmp_path / "photos"], encoder, tmp_path / "out", find=find, animate=False)
    assert [one.folders for one in done] == [("a00", "a01"), ("b00", "b01")]
    photo(tmp_path / "photos/c.png", width=100)
    (tmp_path / "photos/d.png").write_bytes(b"no picture")
    done = acquire([tmp_path / "photos"], encoder, tmp_path / "out", find=find, animate=False)
    assert done[2].folders == () and "no face found" in done[2].reason
    assert done[3].folders == () and "not a picture" in done[3].reason
    with pytest.raises(NoFace, match=r"c.png: no face found"):
        acquire([tmp_path / "photos/c.png"], encoder, tmp_path / "out", find=find)
    photo(tmp_path / "photos/a.png")
    with pytest.raises(ValueError, match="a.jpg and a.png would both be called a"):
        list_photos(tmp_path / "photos")
    with pytest.raises(ValueError, match="expected landmarks, or a face detector"):
        faces_of_photo(tmp_path / "photos/a.png")
    assert stem(tmp_path / "x.y.png") == "x" and stem(".x.png") == ".x"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected photos \(.*\.png.*\), found none"):
        list_photos(tmp_path / "empty")


def test_other_files_in_a_folder_of_photos_are_counted(tmp_path, caplog):
    for name in ("a.png", "B.JFIF", "c.avif", "a.npz", "d.gif", "e.gif", "f"):
        (tmp_path / name).touch()
    assert [one.name for one in list_photos(tmp_path)] == ["B.JFIF", "a.png", "c.avif"]
    assert "3 photos; other files are left out: 2 .gif, 1 without ending" in caplog.text
    for one in list_photos(tmp_path):
        one.rename(one.with_suffix(".gif"))
    with pytest.raises(ValueError, match="found none but 5 .gif, 1 without ending"):
        list_photos(tmp_path)


def test_two_photos_of_one_name_are_refused(tmp_path, encoder):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        photo(tmp_path / name / "a.png")
    with pytest.raises(ValueError, match=r"two/a\.png and .*one/a\.png: both would be a00"):
        acquire(
            [tmp_path / "one/a.png", tmp_path / "two/a.png"],
            encoder,
            tmp_path / "out",
            find=lambda picture: [marks()],
            animate=False,
        )


def test_a_face_without_extent_is_left_out_and_the_next_one_done(tmp_path, encoder):
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.png")
    np.savez(tmp_path / "a.npz", landmarks=marks(size=0))
    np.savez(tmp_path / "b.npz", landmarks=marks())
    places = [tmp_path / "a.png", tmp_path / "b.png"]
    done = acquire(places, encoder, tmp_path / "out", landmarks=tmp_path, animate=False)
    assert [one.folders for one in done] == [(), ("b00",)]
    assert done[0].reason == "a.png: the landmarks span no face"


def test_a_head_without_a_mask_of_the_face_takes_no_colours_from_the_photo(tmp_path, encoder):
    photo(tmp_path / "a.png")
    bare = Deca(replace(encoder.head, uv_face_eye_mask=None), "tiny").eval()
    bare.load_state_dict(encoder.state_dict())
    given = {"find": lambda picture: [marks()], "animate": False}
    acquire([tmp_path / "a.png"], bare, tmp_path / "bare", **given)
    acquire([tmp_path / "a.png"], encoder, tmp_path / "photo", **given)
    acquire([tmp_path / "a.png"], encoder, tmp_path / "own", extract_texture=False, **given)
    bare, own, taken = (
        cv2.imread(str(tmp_path / name / "a00/mesh_coarse.png"))
        for name in ("bare", "own", "photo")
    )
    np.testing.assert_array_equal(bare, own)
    assert not np.array_equal(taken, own)


def test_landmarks_come_from_the_users_files(tmp_path):
    two = np.stack([marks(seed=1), marks(seed=2)])
    np.savez(tmp_path / "p.npz", landmarks=two)
    found = landmarks_of(tmp_path / "p.jpg", tmp_path)
    np.testing.assert_allclose(np.stack(found), two)
    two[0, 5] = np.nan
    np.savez(tmp_path / "p.npz", landmarks=two)
    assert len(landmarks_of(tmp_path / "p.jpg", tmp_path / "p.npz")) == 1
    header = ",".join(["file_name", *LANDMARKS])
    row = ",".join(["p.jpg", *map(str, two[1].reshape(-1))])
    (tmp_path / "all.csv").write_text(f"{header}\n{row}\n")
    np.testing.assert_allclose(landmarks_of(tmp_path / "p.jpg", tmp_path / "all.csv")[0], two[1])
    with pytest.raises(NoFace, match=r"q.jpg: no landmarks in .*all.csv"):
        landmarks_of(tmp_path / "q.jpg", tmp_path / "all.csv")
    with pytest.raises(NoFace, match="q.jpg: no landmarks in .*: expected q.npz"):
        landmarks_of(tmp_path / "q.jpg", tmp_path)
    with pytest.raises(FileNotFoundError, match="no such landmarks"):
        landmarks_of(tmp_path / "q.jpg", tmp_path / "q.npz")
    np.savetxt(tmp_path / "five.txt", np.zeros((5, 2)))
    with pytest.raises(ValueError, match="expected 68 points of x, y"):
        landmarks_of(tmp_path / "p.jpg", tmp_path / "five.txt")
    np.savez(tmp_path / "bad.npz", landmarks=np.array([{}], object))
    with pytest.raises(ValueError, match="expected an .npz with landmarks"):
        landmarks_of(tmp_path / "p.jpg", tmp_path / "bad.npz")


def test_the_crop_of_a_large_photo_is_that_of_the_whole(encoder):
    picture = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    points = marks(310, 90, 120)
    crop, transform = encoder_crop(PhotoFace("a", 0, picture, points, "a.png"), encoder)
    whole = crop_patches(picture[None], points[None], encoder.size_px)
    np.testing.assert_allclose(transform, whole.transforms[0], atol=1e-9)
    np.testing.assert_allclose(crop, whole.images, atol=1e-4)
    with pytest.raises(NoFace, match="outside the picture"):
        encoder_crop(PhotoFace("a", 0, picture, points + 2000, "a.png"), encoder)


def test_points_over_the_crop_find_their_pixel_in_other_pictures():
    transform = np.array([[[0.5, 0, 3.0], [0, 0.5, -2.0], [0, 0, 1]]])
    points = torch.tensor([[[-1.0, -1.0, 0.3], [0.0, 0.5, 0.1]]])
    pixels = to_pixels(points, transform, 32)[0].numpy()
    np.testing.assert_allclose(pixels, [[-6, 4], [26, 52]], atol=1e-5)
    drawn = to_drawing(points, transform, 32, (100, 50))[0]
    np.testing.assert_allclose(drawn[1], [(26.5 / 50) - 1, (52.5 / 25) - 1, 0.1], atol=1e-5)


def test_the_turntable_turns_and_looks_and_joins(tmp_path, encoder):
    heads, labels = poses(8, 12)
    assert len(heads) == len(labels) == 20
    assert not labels[:8].any() and not heads[8:].any()
    assert np.abs(labels[8]).max() < 1e-9 and np.abs(labels).max() > 0.3
    codes = encoder.encode(torch.rand(1, 3, encoder.size_px, encoder.size_px))
    frames = turntable(encoder, codes, size=48, turning=4, looking=4)
    assert [frame.shape for frame in frames] == [(48, 96, 3)] * 8
    assert all(frame.any() for frame in frames)
    assert not np.array_equal(frames[0], frames[1])
    write_gif(tmp_path / "a.gif", frames)
    again = turntable(encoder, codes, size=48, turning=4, looking=4)
    write_gif(tmp_path / "b.gif", again)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 8 and gif.info["loop"] == 0


def test_gaze_beyond_a_right_angle_is_refused(tmp_path, encoder):
    photo(tmp_path / "a.png")
    np.savetxt(tmp_path / "marks.txt", marks())
    with pytest.raises(ValueError, match="gaze: expected pitch and yaw below a right angle"):
        acquire(
            [tmp_path / "a.png"],
            encoder,
            tmp_path / "out",
            landmarks=tmp_path / "marks.txt",
            gaze=(10, 20),
        )
    assert not (tmp_path / "out/a00").exists()
    with pytest.raises(ValueError, match=r"gaze: expected two angles below 90 .*\(0\.0, 90\.0\)"):
        AcquireSettings(gaze=(0, 90))


def test_pictures_become_png_files(tmp_path):
    grey = torch.tensor([[[0.0, 0.5], [1.0, 7.0]]])
    picture = to_uint8(grey)
    assert picture.tolist() == [[[0] * 3, [127] * 3], [[255] * 3, [255] * 3]]
    picture[0, 0] = (1, 2, 3)
    write_png(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    # PNG files end at a million pixels a row
    with pytest.raises(ValueError, match=r"b\.png: cannot be written as PNG"):
        write_png(tmp_path / "b.png", np.zeros((1, 1_000_001, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_published_weights_need_no_configuration(tmp_path, encoder, monkeypatch):
    given = {}

    def opened(head, **weights):
        given.update(weights, head=head)
        return encoder

    monkeypatch.setattr("regaze.face3d.encode.open_encoder", opened)
    photo(tmp_path / "a.png")
    np.savetxt(tmp_path / "marks.txt", marks())
    words = [
        str(tmp_path / "a.png"), "--encoder", "emoca", "--checkpoint", "run", "--head", "h.npz",
        "--out", str(tmp_path / "out"), "--landmarks", str(tmp_path / "marks.txt"),
        "--no-turntable", "--device", "cpu",
    ]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert given == {"emoca": Path("run"), "head": Path("h.npz"), "device": "cpu"}
    assert (tmp_path / "out/a00/codes.npz").is_file()


def test_the_command_names_encoders_as_the_configuration_does(tmp_path, encoder, monkeypatch):
    entries = {
        "mine": EncoderSettings(),
        "published": EncoderSettings(**{"class": "emoca", "preset": "reference", "emoca": "run"}),
    }
    assert weights_of(entries, "mine")["folder"].name == "mine"
    assert weights_of(entries, "deca")["folder"].name == "mine"
    assert weights_of(entries, "emoca") == {"emoca": "run"}
    with pytest.raises(ValueError, match="expected one of mine, published, found 'other'"):
        weights_of(entries, "other")
    monkeypatch.setattr(
        "regaze.commands.face3d._settings",
        lambda config: SimpleNamespace(encoders=entries, assets=None),
    )
    monkeypatch.setattr("regaze.face3d.encode.open_encoder", lambda head, **given: encoder)
    photo(tmp_path / "a.png")
    np.savetxt(tmp_path / "marks.txt", marks())
    words = [
        str(tmp_path / "a.png"), "--encoder", "mine", "--out", str(tmp_path / "out"),
        "--landmarks", str(tmp_path / "marks.txt"), "--gaze", "10", "-15", "--no-turntable",
    ]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "a.png: " in done.output and "a00" in done.output
    with np.load(tmp_path / "out/a00/codes.npz") as stored:
        np.testing.assert_allclose(stored["gaze"], np.radians([10, -15]))
    words[0] = str(tmp_path / "none.png")
    failed = CliRunner().invoke(app, words)
    assert failed.exit_code != 0 and "expected a photo or a folder" in str(failed.exception)
