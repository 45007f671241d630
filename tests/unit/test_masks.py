"""Masks: exact ones against the photos, those of the mesh, of a parser; files that do not fit."""

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from heads import tiny_head

from regaze.capture import render_capture
from regaze.capture.head import HeadConfig
from regaze.codes.latents import CODES, LatentsError, LatentsWriter
from regaze.face3d.deca import Deca
from regaze.face3d.drawing import to_drawing
from regaze.face3d.model import save_flame
from regaze.face3d.parsing import CLASSES, BiSeNet, load_parser, parse_faces
from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.masks import NAMES, NUMBER, MasksError, MasksReader, MasksWriter, derive
from regaze.masks.background import WithoutBackground, faces_reader
from regaze.masks.exact import write_exact
from regaze.masks.mesh import MeshMasks, crop_size_of, vertex_parts
from regaze.masks.parsed import assign_eyes, part_numbers, tidied
from regaze.masks.settings import MaskSettings
from regaze.masks.sheet import mask_sheet
from regaze.masks.stage import make_masks
from regaze.normalise.geometry import Variant, normalise
from regaze.normalise.pipeline import normalise_shard
from regaze.normalise.warp import make_patch
from regaze.provenance import file_sha256
from regaze.sources import open_source

SIZE = 48


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A capture, its faces and their exact masks."""
    root = tmp_path_factory.mktemp("masks")
    persons = {"train-redirector": 1, "val": 1}
    render_capture(
        root / "capture",
        persons=persons,
        head_poses=2,
        gazes=1,
        photo=160,
        focal=310.0,
        head=HeadConfig.tiny(),
    )
    options = {"source": "synthetic", "root": str(root / "capture")}
    source = open_source(options)
    faces = root / "faces.h5"
    normalise_shard(source, source.persons, faces, root / "rejected.parquet", frame_check="none")
    assert make_masks(faces, root / "masks.h5", "exact", source=options) == 4
    return root, source, FacesReader(faces)


def test_exact_masks_lie_where_the_patch_was_taken_from(rendered):
    root, source, faces = rendered
    masks = MasksReader(root / "masks.h5", faces)
    assert masks.valid.all() and len(masks) == 4
    found = masks.read(np.arange(4))
    with h5py.File(root / "capture/parameters.h5", "r") as truth:
        known = json.loads(truth.attrs["labels"])
        for row in range(4):
            person, photo = faces.persons[faces.person_of[row]], int(faces.row_of[row])
            labels = truth[person]["mask"][photo]
            records = source.read(person)
            geometry = normalise(
                records.camera_parameters, records.head_pose, None, Variant.named("sted")
            )
            # the label map as a picture through the photo's own way: equal where it is smooth
            picture = make_patch(
                np.repeat(labels[..., None] * 30, 3, 2),
                geometry.homography[photo],
                records.camera_parameters[photo],
                np.pad(records.distortion[photo], (0, 14 - records.distortion.shape[1])),
                (128, 128),
            )[..., 0]
            lookup = np.zeros(256, int)
            for name, label in known.items():
                lookup[label] = NUMBER[name]
            mine = found["segmentation"][row]
            low = picture // 30
            smooth = (picture % 30 == 0) & (picture <= 180)
            agree = lookup[low] == mine
            assert smooth.mean() > 0.9 and agree[smooth].mean() > 0.995
    eyes = faces.dataset("landmarks", np.arange(4))[:, 36:48].reshape(4, 2, 6, 2).mean(2)
    for side, name in ((0, "right_eye"), (1, "left_eye")):
        part = found["segmentation"] == NUMBER[name]
        for row in range(4):
            middle = np.argwhere(part[row]).mean(0)[::-1]
            assert np.abs(middle - eyes[row, side]).max() < 3
    head, eye = derive(found["segmentation"])
    np.testing.assert_array_equal(found["head"], head)
    np.testing.assert_array_equal(found["eyes"], eye)
    assert head[eye].all() and not head[found["segmentation"] == NUMBER["clothes"]].any()


def test_background_is_replaced_and_the_head_untouched(rendered, tmp_path):
    root, _, faces = rendered
    stored = faces.pixels(np.arange(4))
    masks = tmp_path / "masks.h5"
    masks.write_bytes((root / "masks.h5").read_bytes())
    last = int(faces.row_of[3])
    with h5py.File(masks, "r+") as file:
        file[faces.persons[faces.person_of[3]]]["valid"][last] = False
    without = WithoutBackground(faces.paths, [masks], (10, 200, 30))
    made = pickle.loads(pickle.dumps(without)).pixels([2, 3, 0])
    head = MasksReader(masks, faces).read([2, 3, 0], ["head"])["head"]
    for place, row in ((0, 2), (2, 0)):
        assert 0.1 < head[place].mean() < 0.9
        np.testing.assert_array_equal(made[place][head[place]], stored[row][head[place]])
        assert (made[place][~head[place]] == (10, 200, 30)).all()
    # Without a mask there is no telling the head from the background.
    np.testing.assert_array_equal(made[1], stored[3])
    assert without.unmasked == 1
    np.testing.assert_array_equal(faces_reader(faces.paths).pixels([1])[0], stored[1])


def test_masks_repeat_to_the_byte_and_can_be_seen(rendered, tmp_path):
    root, _, faces = rendered
    options = {"source": "synthetic", "root": str(root / "capture")}
    make_masks(faces.paths[0], tmp_path / "again.h5", "exact", source=options)
    assert (tmp_path / "again.h5").read_bytes() == (root / "masks.h5").read_bytes()
    masks = pickle.loads(pickle.dumps(MasksReader(root / "masks.h5", faces)))
    assert masks.read([2], ["eyes"])["eyes"].any()
    assert masks.attributes["method"] == "exact"
    assert "lips" not in json.loads(masks.attributes["told_apart"])
    mask_sheet(faces, masks, tmp_path / "sheet.png", count=4, columns=2, tile=128)
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_captures_without_label_maps_are_refused(rendered, tmp_path):
    root, _, faces = rendered
    (tmp_path / "frames").mkdir()
    with h5py.File(root / "capture/parameters.h5", "r") as truth:
        person = next(iter(truth))
        with h5py.File(tmp_path / "parameters.h5", "w") as copy:
            copy.attrs["labels"] = truth.attrs["labels"]
            copy.create_dataset(f"{person}/landmarks", data=truth[person]["landmarks"][:])
    read = open_source({"source": "synthetic", "root": str(root / "capture")}).read
    with pytest.raises(MasksError, match=f"{person}/mask: expected"):
        write_exact(faces.paths[0], tmp_path, read, tmp_path / "out.h5")
    with pytest.raises(MasksError, match="found no file"):
        write_exact(faces.paths[0], tmp_path / "frames", read, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_label_maps_that_do_not_fit_are_named(rendered, tmp_path):
    root, source, faces = rendered
    path, person = tmp_path / "parameters.h5", faces.persons[0]

    def refused(change, words):
        path.write_bytes((root / "capture/parameters.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(MasksError, match=words):
            write_exact(faces.paths[0], tmp_path, source.read, tmp_path / "out.h5")
        assert not (tmp_path / "out.h5").exists()

    for labels in ("{", '["skin"]', '{"wing": 1}', '{"skin": 256}'):
        words = rf"parameters\.h5: attribute labels: .*, found {re.escape(repr(labels))}"
        refused(lambda file, labels=labels: file.attrs.__setitem__("labels", labels), words)
    refused(lambda file: file.attrs.__delitem__("labels"), "attribute labels: .* found None")

    def shorten(file):
        maps = file[person]["mask"][:1]
        del file[person]["mask"]
        file[person]["mask"] = maps

    refused(shorten, f"{person}/mask: expected 2 maps, one per photo.*; found 1 maps")


def test_maps_of_cameras_that_hang_upside_down_are_turned(rendered, tmp_path):
    root, source, faces = rendered
    (tmp_path / "parameters.h5").write_bytes((root / "capture/parameters.h5").read_bytes())
    with h5py.File(tmp_path / "parameters.h5", "r+") as file:
        for person in faces.persons:
            # the turned photo's pixel (x, y) is the photo's (w - x, h - y)
            maps = np.roll(np.flip(file[person]["mask"][:], (1, 2)), 1, (1, 2))
            file[person]["mask"][...] = maps

    def read(person):
        records = source.read(person)
        return replace(records, turned=np.ones(len(records), bool))

    assert write_exact(faces.paths[0], tmp_path, read, tmp_path / "out.h5") == 4
    masks = MasksReader(tmp_path / "out.h5", faces).read(np.arange(4))["segmentation"]
    wanted = MasksReader(root / "masks.h5", faces).read(np.arange(4))["segmentation"]
    assert (masks == wanted).mean() > 0.999


def test_persons_without_faces_have_empty_masks(rendered, tmp_path):
    root, source, faces = rendered
    path = tmp_path / "faces.h5"
    path.write_bytes(Path(faces.paths[0]).read_bytes())
    bare, kept = faces.persons
    with h5py.File(path, "r+") as file:
        for name, values in file[bare].items():
            none = values[:0]
            del file[bare][name]
            file[bare][name] = none
    assert write_exact(path, root / "capture", source.read, tmp_path / "masks.h5") == 2
    with h5py.File(tmp_path / "masks.h5") as file:
        assert len(file[bare]["segmentation"]) == 0 and len(file[kept]["segmentation"]) == 2
    assert MasksReader(tmp_path / "masks.h5", FacesReader(path)).read([1])["head"].any()


@pytest.fixture(scope="module")
def head():
    return tiny_head()


def test_landmarks_of_the_crop_are_drawn_on_their_pixel_of_the_patch():
    crop, patch = 32, (60, 40)
    transform = np.array([[[0.8, 0, -5.0], [0, 0.8, 2.0], [0, 0, 1]]])
    index = np.array([[0.0, 0.0], [31.0, 7.0], [12.5, 3.0]])
    points = torch.tensor(2 * index / crop - 1)[None]
    there = to_drawing(points, transform, crop, patch)[0].numpy()
    wanted = (index - transform[0, :2, 2]) / 0.8
    np.testing.assert_allclose(((there + 1) * np.array(patch) - 1) / 2, wanted, atol=1e-9)


def latents_of(path, head, faces, identity=None, detected=None):
    count = len(faces)
    codes = {name: np.zeros((count, width), np.float32) for name, width in CODES.items()}
    codes["camera"][:, 0] = 7.0
    detected = np.ones(count, bool) if detected is None else detected
    from regaze.face3d.model import model_hash

    identity = {
        "encoder": "deca-tiny",
        "checkpoint_sha256": "c" * 64,
        "head_sha256": model_hash(head),
        **(identity or {}),
    }
    with LatentsWriter(path, identity) as writer:
        persons = [faces.persons[code] for code in faces.person_of]
        writer.add(persons, faces.row_of, codes, detected)
    return codes


def test_masks_of_the_mesh_are_those_of_the_rendered_head(tmp_path, head):
    """Where the crop is the whole patch, but for half a pixel, the mask is the renderer's alpha."""
    deca = Deca(head, "tiny")
    codes = {name: torch.zeros(1, width) for name, width in CODES.items()}
    cam = torch.tensor([[7.0, 0.0, 0.0]])
    given = {
        "shape": codes["shape"], "exp": codes["expression"], "pose": codes["pose"], "cam": cam,
        "tex": codes["texture"], "light": torch.zeros(1, 9, 3),
    }  # fmt: skip
    drawn = deca.render(given, image_size=SIZE)
    drawer = MeshMasks(head)
    numpy = {name: values.numpy() for name, values in codes.items()}
    numpy["camera"] = cam.numpy()
    half = np.array([[[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]])
    parts = drawer.draw(numpy, half, SIZE, (SIZE, SIZE))
    np.testing.assert_array_equal(parts[0] > 0, drawn["alpha"][0, 0].numpy() > 0)
    left, right = (np.argwhere(parts[0] == NUMBER[f"{s}_eye"])[:, 1] for s in ("left", "right"))
    assert len(left) > 3 and len(right) > 3 and left.min() > SIZE / 2 > right.max()
    assert {"lips", "neck", "left_eye"} <= set(drawer.told_apart)


def test_masks_of_the_mesh_need_latents_of_the_same_head(tmp_path, head):
    rng = np.random.default_rng(0)
    marks = (24 + rng.uniform(-12, 12, (5, 68, 2))).astype(np.float32)
    marks[3] = np.nan
    attributes = FacesAttributes("sted", (SIZE, SIZE), 190.0, 600.0, "none", "folder")
    with FacesWriter(tmp_path / "faces.h5", attributes) as writer:
        pixels = np.zeros((5, SIZE, SIZE, 3), np.uint8)
        writer.add_person("00001", pixels, np.zeros((5, 8)), landmarks=marks)
    faces = FacesReader(tmp_path / "faces.h5")
    save_flame(tmp_path / "head.npz", head)
    latents_of(tmp_path / "part.parquet", head, faces, detected=np.isfinite(marks[:, 0, 0]))
    given = {"latents": tmp_path / "part.parquet", "head": tmp_path / "head.npz"}
    assert make_masks(faces.paths[0], tmp_path / "masks.h5", "mesh", **given) == 4
    masks = MasksReader(tmp_path / "masks.h5", faces)
    np.testing.assert_array_equal(masks.valid, [True, True, True, False, True])
    found = masks.read(np.arange(5))
    np.testing.assert_array_equal(found["head"].any((1, 2)), masks.valid)
    assert masks.attributes["method_version"] == "c" * 64
    latents_of(tmp_path / "part.parquet", head, faces, detected=np.zeros(5, bool))
    assert make_masks(faces.paths[0], tmp_path / "none.h5", "mesh", **given) == 0
    none = MasksReader(tmp_path / "none.h5", faces)
    assert not none.valid.any() and not none.read(np.arange(5))["segmentation"].any()
    latents_of(tmp_path / "part.parquet", head, faces, {"head_sha256": "d" * 64})
    with pytest.raises(LatentsError, match="head_sha256: expected"):
        make_masks(faces.paths[0], tmp_path / "masks.h5", "mesh", **given)


def test_heads_without_regions_take_parts_from_their_joints(head):
    bare = vertex_parts(replace(head, regions=None, meta={}))
    full = vertex_parts(head)
    for name in ("left_eye", "right_eye"):
        np.testing.assert_array_equal(bare == NUMBER[name], full == NUMBER[name])
    assert crop_size_of("deca-small") == 64 and crop_size_of("my-own") == 224


def test_the_parser_has_the_published_keys(tmp_path):
    parser = BiSeNet()
    state = parser.state_dict()
    for name, shape in {
        "cp.resnet.layer4.0.downsample.0.weight": (512, 256, 1, 1),
        "cp.arm32.conv_atten.weight": (128, 128, 1, 1),
        "cp.conv_avg.conv.weight": (128, 512, 1, 1),
        "ffm.convblk.bn.running_mean": (256,),
        "ffm.conv1.weight": (64, 256, 1, 1),
        "conv_out.conv_out.weight": (19, 256, 1, 1),
        "conv_out16.conv.conv.weight": (64, 128, 3, 3),
    }.items():
        assert tuple(state[name].shape) == shape
    assert not any(key.startswith("cp.resnet.fc") for key in state)
    path = tmp_path / "79999_iter.pth"
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, path)
    assert not load_parser(path).training
    torch.save({**state, "other": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="79999_iter.pth: 1 keys do not fit.*unexpected other"):
        load_parser(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="pth: expected a state dict of tensors, found list"):
        load_parser(path)
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="expected a state dict"):
        load_parser(path)
    with pytest.raises(FileNotFoundError, match="no such face-parsing weights"):
        load_parser(tmp_path / "none.pth")


def test_the_parser_sees_every_picture_alone(monkeypatch):
    torch.manual_seed(0)
    parser = BiSeNet().eval()
    monkeypatch.setattr("regaze.face3d.parsing.SIDE", 64)
    pixels = torch.randint(0, 256, (2, 20, 30, 3), dtype=torch.uint8)
    both = parse_faces(parser, pixels)
    assert both.shape == (2, 20, 30) and both.max() < 19
    assert torch.equal(both[1:], parse_faces(parser, pixels[1:]))


@pytest.mark.parametrize("known", [True, False])
def test_masks_of_the_parser_are_its_classes_as_parts(tmp_path, monkeypatch, known):
    torch.manual_seed(0)
    monkeypatch.setattr("regaze.face3d.parsing.SIDE", 64)
    parser = BiSeNet().eval()
    with torch.no_grad():
        # so that eyes are among what an untrained network finds
        parser.conv_out.conv_out.weight[CLASSES.index("l_eye")] *= 4
    weights = tmp_path / "79999_iter.pth"
    torch.save(parser.state_dict(), weights)
    attributes = FacesAttributes("sted", (30, 20), 190.0, 600.0, "none", "folder")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    marks = np.full((3, 68, 2), 5.0, np.float32)
    with FacesWriter(tmp_path / "faces.h5", attributes) as writer:
        given = {"landmarks": marks} if known else {}
        writer.add_person("00001", pixels, np.zeros((3, 8)), **given)
    out = tmp_path / "masks.h5"
    # the default device is the processor where there is no GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chosen = {} if known else {"device": "cpu"}
    assert make_masks(tmp_path / "faces.h5", out, "parsing", parsing=weights, **chosen) == 3
    masks = MasksReader(out, FacesReader(tmp_path / "faces.h5"))
    found = masks.read(np.arange(3))["segmentation"]
    parts = part_numbers()[parse_faces(parser, torch.from_numpy(pixels)).numpy()]
    np.testing.assert_array_equal(found, assign_eyes(tidied(parts), marks if known else None))
    left = NUMBER["left_eye"] == found
    # the line between the eyes is column 5, or the middle where no landmarks are known
    assert left[..., 6 if known else 15 :].any() and left[..., 6:15].any() == known
    assert masks.attributes["method"] == "parsing"
    assert masks.attributes["method_version"] == file_sha256(weights)
    told = json.loads(masks.attributes["told_apart"])
    assert "lips" in told and "right_eye" in told


def test_classes_of_the_parser_become_parts_and_eyes_take_their_side():
    numbers = part_numbers()
    assert [
        NAMES[numbers[CLASSES.index(n)]] for n in ("eye_g", "u_lip", "neck_l", "background")
    ] == [
        "glasses",
        "lips",
        "neck",
        "background",
    ]
    parts = np.zeros((2, 4, 10), np.uint8)
    parts[:, 1, [2, 7]] = NUMBER["left_eye"]
    parts[:, 2, 5] = NUMBER["right_eye"]
    marks = np.full((2, 68, 2), np.nan)
    marks[1] = 6.0
    out = assign_eyes(parts, marks)
    assert out[0, 1, 2] == NUMBER["right_eye"] and out[0, 1, 7] == NUMBER["left_eye"]
    assert out[0, 2, 5] == NUMBER["left_eye"] and out[1, 2, 5] == NUMBER["right_eye"]
    assert (out > 0).sum() == (parts > 0).sum()


def test_files_that_do_not_fit_the_faces_are_refused(rendered, tmp_path):
    root, _, faces = rendered
    full = (root / "masks.h5").read_bytes()
    path = tmp_path / "masks.h5"
    person = faces.persons[0]
    for change, words in (
        (lambda f: f.__delitem__(person), f"person {person}: expected masks, found none"),
        (lambda f: f[person].__delitem__("eyes"), f"{person}/eyes: expected .* found none"),
        (lambda f: f.attrs.__setitem__("names", "[]"), "names: expected"),
        (lambda f: f.create_group("nobody"), "nobody/segmentation: expected"),
    ):
        path.write_bytes(full)
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(MasksError, match=words):
            MasksReader(path, faces)
    path.write_bytes(full)
    with pytest.raises(MasksError, match=f"person {person} is already in"):
        MasksReader([root / "masks.h5", path], faces)
    with pytest.raises(FileNotFoundError, match=r"none\.h5: no such masks file"):
        MasksReader(tmp_path / "none.h5", faces)
    path.write_bytes(full[:100])
    with pytest.raises(MasksError, match="expected an HDF5 file of masks"):
        MasksReader(path, faces)


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    given = {"method": "exact", "version": "x", "told_apart": NAMES, "patch_size": (3, 2)}
    with pytest.raises(KeyError), MasksWriter(tmp_path / "masks.h5", **given) as writer:
        writer.start_person("00001", 1)
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_the_way_is_chosen_by_the_data_and_the_settings():
    auto = MaskSettings()
    assert auto.method_for("synthetic") == "exact" and auto.method_for("folder") == "mesh"
    assert MaskSettings(method="mesh").method_for("synthetic") == "mesh"
    with pytest.raises(ValueError, match="needs the weights of a face parser"):
        MaskSettings(method="parsing")
