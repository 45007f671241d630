"""The whole measurement on a small data set with known answers."""

import hashlib
import json

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from regaze import perceptual
from regaze.estimators.build import build_estimator
from regaze.faces import FacesAttributes, FacesWriter
from regaze.identity.store import build_recogniser
from regaze.images import reduce_patches, to_uint8
from regaze.masks import MasksWriter
from regaze.metrics import measure
from regaze.metrics.frechet import Moments, frechet_distance
from regaze.metrics.induced import SCHEMA
from regaze.metrics.measure import measure_samples, write_per_pair
from regaze.metrics.similarity import PSNR_LIMIT_DB
from regaze.outputs import write_json
from regaze.pairs import write_pairs
from regaze.provenance import file_sha256

ROWS = 3
SHA256_OF_WEIGHTS = hashlib.sha256(b"weights").hexdigest()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two persons with three frames each, five pairs, an untrained estimator at 32 pixels."""
    root = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    attributes = FacesAttributes("sted", (64, 64), 250.0, 600.0, "none", "test")
    faces, labels = {}, {}
    with FacesWriter(root / "faces.h5", attributes) as writer:
        for person in ("a", "b"):
            faces[person] = rng.integers(0, 256, (ROWS, 64, 64, 3), np.uint8)
            labels[person] = rng.uniform(-0.3, 0.3, (ROWS, 8)).astype(np.float32)
            writer.add_person(
                person,
                faces[person],
                labels[person],
                file_name=[f"{i}.jpg" for i in range(ROWS)],
                source_index=np.arange(ROWS),
                rotation=np.tile(np.eye(3), (ROWS, 1, 1)),
                gaze_origin=np.zeros((ROWS, 3)),
                landmarks=np.full((ROWS, 68, 2), np.nan),
            )
    plan = [
        ("a", 0, 1, "gaze_and_head"),
        ("a", 1, 2, "gaze_and_head"),
        ("b", 0, 2, "gaze_and_head"),
    ]
    plan += [("b", 1, 0, "gaze_only"), ("a", 2, -1, "sweep")]
    rows = [
        {
            "pair": number,
            "person": person,
            "source_index": source,
            "target_index": target,
            "source_gaze": labels[person][source, :2],
            "target_gaze": labels[person][target, :2],
            "source_head": labels[person][source, 2:4],
            "target_head": labels[person][target, 2:4],
            "kind": kind,
        }
        for number, (person, source, target, kind) in enumerate(plan)
    ]
    write_pairs(root / "pairs.parquet", pd.DataFrame(rows))
    torch.manual_seed(0)
    network = build_estimator("resnet", "tiny")
    (root / "judge").mkdir()
    save_file(network.state_dict(), root / "judge" / "model.safetensors")
    record = {"name": "judge", "kind": "estimator", "config": network.config()}
    (root / "judge" / "model.json").write_text(json.dumps(record))
    truth = [to_uint8(reduce_patches(faces[p][[t]], 32))[0] for p, _, t, _ in plan]
    write_samples(root / "truth.h5", truth, range(len(plan)))
    return root, np.stack(truth)


def write_samples(path, pixels, pairs):
    with h5py.File(path, "w") as file:
        file["pixels"], file["pair"] = np.stack(pixels), np.array(list(pairs), np.int64)
        file.attrs.update({"model": path.stem, "evaluations_per_image": 0, "sampler": "none"})


def measured(root, samples="truth.h5", **options):
    return measure_samples(
        root / samples, root / "pairs.parquet", [root / "faces.h5"], root / "judge", **options
    )


def test_truth_is_its_own_best(world):
    metrics, table = measured(world[0])
    free = metrics["kinds"]["gaze_and_head"]
    assert free["psnr"]["mean"] > 50 and free["ssim"]["mean"] > 0.999
    assert free["frechet_estimator"]["mean"] < 1e-4
    size = free["frechet_estimator"]["dimensions"]
    assert f"of 3 pictures in {size} dimensions" in free["frechet_estimator"]["warning"]
    assert free["pairs"] == free["psnr"]["n"] == 3 and free["persons"] == 2
    assert table["psnr"].max() <= PSNR_LIMIT_DB
    assert free["gaze_error_deg"]["estimator"] == metrics["estimator"]["fingerprint"]
    assert free["gaze_error_deg"]["preprocess"] == "none"
    low, high = free["gaze_error_deg"]["interval"]
    assert low <= free["gaze_error_deg"]["mean"] <= high


def test_what_does_not_exist_is_null_with_a_reason(world):
    metrics, table = measured(world[0])
    sweep, one, none = (metrics["kinds"][kind] for kind in ("sweep", "gaze_only", "head_only"))
    for name in ("psnr", "ssim", "eye_psnr", "frechet_estimator"):
        assert sweep[name]["mean"] is None and "true image" in sweep[name]["reason"]
    turned = table.loc[table["kind"] == "sweep", "gaze_error_deg"]
    assert sweep["gaze_error_deg"]["mean"] == pytest.approx(turned.mean(), rel=1e-4)
    assert turned.between(0.01, 180).all()
    assert one["psnr"]["interval"] is None and "one person" in one["psnr"]["interval_reason"]
    assert none["psnr"]["reason"] == "no pairs of this kind were sampled"
    assert none["lpips"]["reason"] == one["fid"]["reason"] == "no weights configured"
    assert table["psnr"].isna().tolist() == [False] * 4 + [True]


def test_errors_and_angles_are_those_of_the_labels(world):
    from regaze.angles import angular_error
    from regaze.pairs import read_pairs

    _, table = measured(world[0])
    pairs = read_pairs(world[0] / "pairs.parquet")
    source, target = (np.stack(pairs[f"{side}_gaze"]) for side in ("source", "target"))
    assert np.allclose(table["angle_deg"], angular_error(source, target), atol=1e-3)
    read = table[["read_gaze_pitch", "read_gaze_yaw"]].to_numpy()
    assert np.allclose(table["gaze_error_deg"], angular_error(read, target), atol=1e-3)


def test_order_and_subset_of_samples_change_nothing(world):
    root, truth = world
    _, whole = measured(root)
    write_samples(root / "shuffled.h5", truth[[3, 1, 0]], [3, 1, 0])
    metrics, table = measured(root, "shuffled.h5")
    assert table["pair"].tolist() == [0, 1, 3]
    same = whole.iloc[[0, 1, 3]].reset_index(drop=True)
    pd.testing.assert_frame_equal(table, same, rtol=1e-4)
    assert metrics["kinds"]["gaze_and_head"]["pairs"] == 2
    _, only = measured(root, kinds=["gaze_only"])
    assert only["pair"].tolist() == [3]


def test_larger_pictures_are_compared_at_the_estimators_size(world):
    root, truth = world
    _, small = measured(root)
    write_samples(root / "large.h5", truth.repeat(2, 1).repeat(2, 2), range(len(truth)))
    metrics, large = measured(root, "large.h5")
    pd.testing.assert_frame_equal(large, small, rtol=1e-4)
    assert metrics["pixels"]["size"] == [32, 32] and metrics["pixels"]["sampled"] == [64, 64]


def test_written_files_are_reproducible_and_finite(world, tmp_path):
    for name in ("one", "two"):
        metrics, table = measured(world[0])
        write_json(tmp_path / f"{name}.json", metrics)
        write_per_pair(tmp_path / f"{name}.parquet", table)
    for suffix in ("json", "parquet"):
        one, two = (tmp_path / f"{name}.{suffix}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    json.loads((tmp_path / "one.json").read_text(), parse_constant=pytest.fail)
    back = pd.read_parquet(tmp_path / "one.parquet")
    assert len(back) == 5 and back["gaze_error_deg"].dtype == np.float32


def test_bad_samples_are_refused(world, tmp_path):
    root, truth = world
    cases = {
        "unknown": (truth[:1], [77], "pair: 77 is not in"),
        "twice": (truth[:2], [1, 1], "found 1 twice"),
        "float": (truth[:1].astype(np.float32), [0], "uint8"),
        "small": (truth[:1, :16, :16], [0], "size: expected 16x16 or a smaller size"),
    }
    for name, (pixels, pairs, words) in cases.items():
        write_samples(root / f"{name}.h5", pixels, pairs)
        with pytest.raises(ValueError, match=words):
            measured(root, f"{name}.h5")
    (root / "cut.h5").write_bytes((root / "truth.h5").read_bytes()[:500])
    with pytest.raises(ValueError, match="cut.h5: not a readable HDF5 file"):
        measured(root, "cut.h5")
    with h5py.File(root / "bare.h5", "w") as file:
        file["pixels"] = truth[:1]
    with pytest.raises(
        ValueError, match=r"bare.h5: expected a data set 'pair', found \['pixels'\]"
    ):
        measured(root, "bare.h5")
    with pytest.raises(FileNotFoundError, match="samples file"):
        measured(root, "absent.h5")


def test_released_faces_need_no_landmarks_and_get_no_eye_boxes(world, tmp_path):
    root, _ = world
    attributes = FacesAttributes("eth-xgaze", (64, 64), 274.3, 600.0, "none", "eth_xgaze_hdf5")
    with h5py.File(root / "faces.h5") as file, FacesWriter(tmp_path / "f.h5", attributes) as out:
        for person in file:
            out.add_person(person, file[person]["pixels"][:], file[person]["labels"][:])
    metrics, table = measure_samples(
        root / "truth.h5", root / "pairs.parquet", [tmp_path / "f.h5"], root / "judge"
    )
    found = metrics["kinds"]["gaze_and_head"]["eye_psnr"]
    assert found["mean"] is None and "eth-xgaze" in found["reason"]
    assert table["eye_psnr"].isna().all() and table["psnr"].notna().any()
    assert metrics["pixels"]["eye_boxes"] is None
    assert "no true image" in metrics["kinds"]["sweep"]["psnr"]["reason"]


def test_targets_lose_their_background_where_masks_are_given(world, tmp_path):
    root, truth = world
    parts = np.zeros((ROWS, 64, 64), np.uint8)
    parts[:, 16:48, 16:48] = 1  # skin
    masks = tmp_path / "masks.h5"
    with MasksWriter(
        masks, method="exact", version="test", told_apart=["skin"], patch_size=(64, 64)
    ) as writer:
        for person in ("a", "b"):
            writer.start_person(person, ROWS)
            writer.add(parts)
    plain = truth.copy()
    outside = np.ones((32, 32), bool)
    outside[8:24, 8:24] = False
    plain[:, outside] = (0, 0, 0)
    write_samples(root / "plain.h5", plain, range(len(plain)))
    metrics, table = measured(root, "plain.h5", masks=[masks])
    assert metrics["background"] == {"colour": [0, 0, 0], "rows_kept": 0}
    # Only the rounding of the samples is left; with the background it would be a few dB.
    assert table["psnr"].min() > 50
    _, table = measured(root, "plain.h5")
    assert table["psnr"].max() < 20


def test_truth_has_the_estimators_error_and_copy_the_mean_angle(world):
    """Floors and ceilings, computed here from labels and estimator alone."""
    from regaze.angles import angular_error
    from regaze.estimators.base import estimate
    from regaze.estimators.store import load_estimator
    from regaze.pairs import read_pairs

    root, truth = world
    network = load_estimator(root / "judge")
    pairs = read_pairs(root / "pairs.parquet").iloc[:4]
    with h5py.File(root / "faces.h5") as file:
        rows = zip(pairs["person"], pairs["source_index"], strict=True)
        source = np.stack([file[f"{person}/pixels"][row] for person, row in rows])
    copied = to_uint8(reduce_patches(source, 32))
    write_samples(root / "copy.h5", copied, range(4))
    for name, pictures in (("truth", truth[:4]), ("copy", copied)):
        metrics, table = measured(root, f"{name}.h5")
        read = estimate(network, reduce_patches(np.stack(pictures))).double().numpy()
        for part, columns in (("gaze", slice(0, 2)), ("head", slice(2, 4))):
            wanted = angular_error(read[:, columns], np.stack(pairs[f"target_{part}"]))
            assert np.allclose(table[f"{part}_error_deg"][:4], wanted, atol=1e-3)
            mean = metrics["kinds"]["gaze_and_head"][f"{part}_error_deg"]["mean"]
            assert np.isclose(mean, wanted[:3].mean(), atol=1e-3)
    # With a perfect reading, copy's error is the angle that was asked for.
    _, table = measured(root, "copy.h5")
    asked = angular_error(np.stack(pairs["source_gaze"]), np.stack(pairs["target_gaze"]))
    assert np.allclose(table["angle_deg"], asked, atol=1e-3)
    _, table = measured(root)
    assert table["gaze_vs_truth_deg"][:4].max() < 0.5 and np.isnan(table["gaze_vs_truth_deg"][4])


def test_chunks_change_no_metric(world, tmp_path, monkeypatch):
    recogniser(tmp_path)
    whole, table = measured(world[0], identity=tmp_path)
    monkeypatch.setattr(measure, "_CHUNK", 2)
    parts, other = measured(world[0], identity=tmp_path)
    pd.testing.assert_frame_equal(table, other, rtol=1e-5, atol=1e-4)
    for kind, section in whole["kinds"].items():
        for name, value in section.items():
            if isinstance(value, dict) and value["mean"] is not None:
                found = parts["kinds"][kind][name]["mean"]
                assert np.isclose(found, value["mean"], rtol=1e-4, atol=1e-5), (kind, name)


def recogniser(folder):
    torch.manual_seed(1)
    network = build_recogniser("tiny", 32)
    save_file(network.state_dict(), folder / "model.safetensors")
    quality = {"auc": 0.9, "eer": 0.1}
    record = {"kind": "identity", "config": {"network": "tiny", "size_px": 32}}
    (folder / "model.json").write_text(json.dumps({**record, "verification": quality}))


def test_identity_is_one_for_the_truth_and_tells_its_network(world, tmp_path):
    recogniser(tmp_path)
    metrics, table = measured(world[0], identity=tmp_path)
    entry = metrics["kinds"]["gaze_and_head"]["identity_similarity"]
    assert entry["mean"] > 0.999 and entry["network"] == "tiny" and entry["eer"] == 0.1
    assert "32 px" in entry["preprocess"]
    assert table["identity_similarity_source"].notna().all()
    assert table["identity_similarity"].isna().tolist() == [False] * 4 + [True]
    none = measured(world[0])[0]["kinds"]["gaze_and_head"]["identity_similarity"]
    assert none["mean"] is None and none["reason"] == "no identity network configured"


def test_lpips_and_fid_are_null_by_name_until_their_files_are_there(world, tmp_path):
    absent = {
        name: {"path": f"assets/{name}.pth", "sha256": None}
        for name in ("lpips_alexnet", "lpips_vgg16", "inception")
    }
    free = measured(world[0], assets=absent)[0]["kinds"]["gaze_and_head"]
    for metric, asset in (("lpips", "lpips_alexnet"), ("fid", "inception")):
        assert free[metric]["mean"] is None and f"assets.{asset}" in free[metric]["reason"]
    torch.manual_seed(0)
    path = tmp_path / "own.pth"
    torch.save(torchvision.models.alexnet(num_classes=1).state_dict(), path)
    own = {**absent, "lpips_alexnet": {"path": str(path), "sha256": file_sha256(path)}}
    # Three poolings of AlexNet leave nothing of 32 px, so larger samples stand in.
    root = world[0]
    with h5py.File(root / "faces.h5") as file:
        plan = [("a", 1), ("a", 2), ("b", 2)]
        large = [file[f"{person}/pixels"][row] for person, row in plan]
    write_samples(root / "large.h5", large, range(3))
    metrics, table = measured(root, "large.h5", assets=own)
    entry = metrics["kinds"]["gaze_and_head"]["lpips"]
    assert entry["mean"] == 0 and entry["asset"] == "lpips_alexnet" and entry["n"] == 3
    assert metrics["sted_protocol"]["gaze_and_head"]["lpips"]["mean_of_samples"] == 0
    write_samples(root / "large-copy.h5", np.stack(large)[::-1], range(3))
    assert measured(root, "large-copy.h5", assets=own)[1]["lpips"].iloc[0] > 0
    with pytest.raises(ValueError, match="lpips_alexnet"):
        measured(
            root, "large.h5", assets={"lpips_alexnet": {"path": str(path), "sha256": "0" * 64}}
        )


def test_fid_is_zero_for_the_truth(world, tmp_path, monkeypatch):
    # A network of the real layout takes seconds; what is tested here is which pictures it is shown.
    class Colours(torch.nn.Module):
        def embed(self, images):
            return images.mean((2, 3))

    monkeypatch.setattr(perceptual, "INCEPTION_FEATURES", 3)
    monkeypatch.setattr(perceptual, "load_inception", lambda path: Colours())
    monkeypatch.setattr(
        perceptual, "inception_features", lambda net, images: net.embed(images).double().numpy()
    )
    (tmp_path / "fid.pth").write_bytes(b"weights")
    assets = {"inception": {"path": str(tmp_path / "fid.pth"), "sha256": SHA256_OF_WEIGHTS}}
    root, truth = world
    entry = measured(root, assets=assets)[0]["kinds"]["gaze_and_head"]["fid"]
    # Samples are whole grey levels, what they are compared with is not.
    assert entry["mean"] == pytest.approx(0, abs=1e-4)
    assert entry["asset"] == "inception" and "299 px" in entry["resized"]
    write_samples(root / "dark.h5", truth // 2, range(len(truth)))
    found = measured(root, "dark.h5", assets=assets)[0]["kinds"]
    ours, wanted = (
        (2.0 * pixels[:3].astype(float) / 255 - 1).mean((1, 2)) for pixels in (truth // 2, truth)
    )
    # With three pictures and three features the closed form is the one of the sums.
    sums = [Moments(3), Moments(3)]
    for one, values in zip(sums, (ours, wanted), strict=True):
        one.add(values)
    assert found["gaze_and_head"]["fid"]["mean"] == pytest.approx(frechet_distance(*sums), rel=0.01)
    assert found["sweep"]["fid"]["mean"] is None and "warning" not in found["sweep"]["fid"]
    assert "of 3 pictures in 3 dimensions is too large" in found["gaze_and_head"]["fid"]["warning"]


def test_no_pairs_of_any_kind_asked_for_give_an_empty_table(world, tmp_path):
    metrics, table = measured(world[0], kinds=["head_only"])
    assert len(table) == 0 and "psnr" in table.columns
    assert metrics["kinds"]["head_only"]["psnr"]["reason"] == "no pairs of this kind were sampled"


def test_pictures_that_are_not_square_have_no_eye_boxes(world):
    root, truth = world
    write_samples(root / "wide.h5", truth[:1, :16], [0])
    metrics, _ = measured(root, "wide.h5", kinds=["head_only"])
    assert metrics["pixels"]["size"] == [32, 16] and metrics["pixels"]["eye_boxes"] is None


def test_attributes_without_a_value_are_null(world):
    root, truth = world
    write_samples(root / "noted.h5", truth[:1], [0])
    with h5py.File(root / "noted.h5", "a") as file:
        file.attrs.update({"note": h5py.Empty("f"), "weights": np.array([1, 2])})
    told = measured(root, "noted.h5", kinds=["head_only"])[0]["samples"]
    assert told["note"] is None and told["weights"] == [1, 2] and told["model"] == "noted"


def test_induced_errors_come_from_the_readings(world, tmp_path):
    rows = [
        (sample, person, 0, "angles", factor, gaze, head)
        for sample, person in ((0, "a"), (1, "b"))
        for factor, gaze, head in (("gaze", 9.0, 1.0 + sample), ("head", 0.5, 8.0))
    ]
    columns = [list(column) for column in zip(*rows, strict=True)]
    table = pa.table(columns, schema=SCHEMA)
    fingerprint = measured(world[0])[0]["estimator"]["fingerprint"]
    for name, judge in (("right", fingerprint), ("other", "0123456789abcdef")):
        told = json.dumps({"estimator": judge, "limit_deg": 18.0})
        pq.write_table(table.replace_schema_metadata({"perturbed": told}), tmp_path / name)
    section = measured(world[0], perturbed=tmp_path / "right")[0]["kinds"]["perturbed"]
    assert section["gaze_to_head_deg"]["mean"] == 1.5 and section["pairs"] == 2
    assert section["head_to_gaze_deg"]["mean"] == 0.5 and section["persons"] == 2
    assert section["others_to_gaze_deg"]["mean"] is None
    with pytest.raises(ValueError, match="read by estimator 0123456789abcdef"):
        measured(world[0], perturbed=tmp_path / "other")
    nothing = measured(world[0])[0]["kinds"]["perturbed"]["gaze_to_head_deg"]
    assert nothing["mean"] is None and "pseudo-model" in nothing["reason"]


def test_listed_pairs_are_measured_apart(world, tmp_path):
    """Of GazeNeRF's pairs there is a section of its own, and faces are looked for in pictures."""
    root, truth = world
    pairs = pd.read_parquet(root / "pairs.parquet")
    pairs.loc[pairs["kind"] == "gaze_and_head", "kind"] = "gazenerf_paper"
    write_pairs(tmp_path / "pairs.parquet", pairs)
    dark = np.where(np.arange(len(truth))[:, None, None, None] == 1, 0, truth).astype(np.uint8)
    write_samples(tmp_path / "dark.h5", dark, range(len(truth)))
    files = tmp_path / "dark.h5", tmp_path / "pairs.parquet", [root / "faces.h5"], root / "judge"
    metrics, _ = measure_samples(*files, find=lambda picture: [1] if picture.any() else [])
    paper = metrics["kinds"]["gazenerf_paper"]
    assert paper["pairs"] == 3 and paper["paper_not_detected"]["count"] == 1
    assert paper["paper_gaze_deg"]["mean"] < 1e-3 and paper["paper_gaze_deg"]["n"] == 2
    assert paper["paper_psnr"]["n"] == 3 and "gaze_error_deg" not in paper
    assert metrics["protocols"]["gazenerf_paper"]["camera"] == "virtual"
    assert "gazenerf_paper" not in metrics["by_angle"]
    assert "gazenerf_paper" not in measured(root)[0]["kinds"]
    assert metrics["sweeps"]["step_error_deg"]["reason"] == "no sweep has two pictures"
    assert metrics["sweeps"]["head_error_per_gaze"]["n"] == 1
