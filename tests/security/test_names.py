"""Names of persons, photos, folders and entries are text, whatever is in them."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from captures.checks import posed_faces_of
from captures.photo_folder import photo_folder, photos
from typer.testing import CliRunner

from regaze.cli import app
from regaze.face3d.obj import read_obj
from regaze.faces import FacesAttributes, FacesReader, FacesWriter, open_row
from regaze.outputs import replacing
from regaze.pairs import draw_pairs, read_pairs, write_pairs
from regaze.settings import load_settings
from regaze.sources import SourceError, open_source
from regaze.sources.records import safe_name
from regaze.sources.splits import SplitError, check_split, make_split

ROOT = Path(__file__).parents[2]
PRINTED = (
    "two words",
    'it\'s "quoted"',
    "a;touch mark",
    "$(touch mark)",
    "`touch mark`",
    "-rf",
    "--config",
    "*",
    "{dataset}",
    "%s %(x)d",
    "<img src=x onerror=alert(1)>",
    "=1+1",
    "..hidden",
    "Grüße 目 \u202eabc",
    "long" * 60,
    "&& touch mark",
    "| touch mark",
    "\\..\\x",
)
UNPRINTED = ("line\nbreak", "tab\tand\rreturn", "bell\a")


@pytest.fixture(autouse=True)
def nothing_touched(tmp_path, monkeypatch):
    """Programs in names would leave their mark in the working directory."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path("mark").exists()


def test_photos_of_hostile_names_become_faces(tmp_path):
    """Folders and photos are called anything; the tables name them, the faces keep the names."""
    shot = photos()["anna"][0][1]
    names = ("$(touch mark); 'x'", "-rf --", "目 `touch mark`")
    people = {name: [(f"{name}.jpg", shot)] for name in names}
    root = tmp_path / 'the $(touch mark) "root"; -x'
    truth, options = photo_folder(root, people)
    out = tmp_path / "out $(touch mark)"
    out.mkdir()
    reader = posed_faces_of(options, truth, out)
    assert sorted(reader.persons) == sorted(names)
    stored = reader.dataset("file_name", np.arange(len(reader)))
    assert {one.decode() for one in stored} == {f"{name}/{name}.jpg" for name in names}


def faces(path, persons, rows=6):
    rng = np.random.default_rng(3)
    attributes = FacesAttributes("sted", (16, 16), 500.0, 600.0, "ellipsoid", "synthetic")
    with FacesWriter(path, attributes) as writer:
        for person in persons:
            labels = rng.uniform(-0.3, 0.3, (rows, 8)).astype(np.float32)
            writer.add_person(
                person,
                rng.integers(0, 255, (rows, 16, 16, 3), np.uint8),
                labels,
                file_name=[f"{person}/{row}.jpg" for row in range(rows)],
            )
    return FacesReader(path)


def test_faces_pairs_and_splits_keep_hostile_names(tmp_path):
    persons = sorted((*PRINTED, *UNPRINTED))
    path = tmp_path / "a b;$(touch mark).h5"
    reader = faces(path, persons)
    assert sorted(reader.persons) == persons
    pairs = draw_pairs(reader, persons, {"gaze_and_head": 60}, seed=1, dataset="x")
    write_pairs(tmp_path / "-pairs $(touch mark).parquet", pairs)
    again = read_pairs(tmp_path / "-pairs $(touch mark).parquet")
    pd.testing.assert_frame_equal(again, pairs)
    assert set(pairs["person"]) <= set(persons) and len(set(pairs["person"])) > 15
    for person in persons:
        assert open_row(f"{path}:{person}/2")[1] == reader.global_index(person, 2)
    split = check_split({"train": persons[:10], "val": persons[10:12], "test": persons[12:]})
    (tmp_path / "split $(x).json").write_text(json.dumps(split), encoding="utf-8")
    assert check_split(json.loads((tmp_path / "split $(x).json").read_text("utf-8"))) == split


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a/../../b", "..\\x", "a\0b", ""])
def test_names_that_leave_the_data_set_are_not_safe(name):
    assert not safe_name(name)


def test_photos_outside_the_root_are_rejected(tmp_path):
    """frames.json names what it likes; only names below the root are opened."""
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    person = tmp_path / "root" / "00002"
    (person / "frames").mkdir(parents=True)
    listed = ["../../../secret.jpg", str(secret), "..\\..\\..\\secret.jpg"]
    count = len(listed)
    contents = {
        "frames": listed,
        "appleFace": {key: [1] * count for key in ("X", "Y", "W", "H", "IsValid")},
        "dotInfo": {"XCam": [0.0] * count, "YCam": [0.0] * count},
        "info": {"DeviceName": "$(touch mark)"},
    }
    for name, content in contents.items():
        (person / f"{name}.json").write_text(json.dumps(content))
    source = open_source({"source": "gazecapture", "root": str(tmp_path / "root")})
    found = source.photos("00002")
    # Without a size there is no camera; such rows are rejected by name later.
    unsafe = [not safe_name(name) for name in found.file_name]
    assert np.isnan(found.camera_parameters[unsafe]).all() and sum(unsafe) >= 2
    with pytest.raises(SourceError):
        source.photos("../root/00002")


def test_links_out_of_a_folder_of_photos_are_refused(tmp_path):
    (tmp_path / "root" / "anna").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    os.symlink(tmp_path / "secret.jpg", tmp_path / "root" / "anna" / "a.jpg")
    source = open_source({"source": "folder", "root": str(tmp_path / "root")})
    with pytest.raises(SourceError, match="link out of the data set"):
        source.photos("anna")


def test_links_out_of_an_hdf5_file_are_refused(tmp_path):
    """Released patches: external links, external storage and virtual data are not followed."""
    faces(tmp_path / "secret.h5", ["p"])
    layout = h5py.VirtualLayout((6, 8), np.float32)
    layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "p/labels", (6, 8))

    def external(group):
        group["labels"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/p/labels")

    def stored(group):
        group.create_dataset(
            "labels", (6, 8), "f4", external=[(str(tmp_path / "secret.h5"), 0, 192)]
        )

    def virtual(group):
        group.create_virtual_dataset("labels", layout)

    for number, change in enumerate((external, stored, virtual)):
        path = tmp_path / f"{number}.h5"
        faces(path, ["p"])
        with h5py.File(path, "r+") as file:
            del file["p/labels"]
            change(file["p"])
        entry = {"source": "faces_hdf5", "root": str(path), "split": {"test": 1.0}}
        with pytest.raises(SourceError, match="in the file itself"):
            open_source(entry).read_faces("p")


def test_deep_json_is_one_clear_error(tmp_path):
    deep = "[" * 100_000
    (tmp_path / "split.json").write_text(deep)
    from regaze.sources.splits import read_split

    with pytest.raises(SplitError, match=str(tmp_path)):
        read_split(tmp_path / "split.json")


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/b",
        "a b",
        "a;b",
        "$(x)",
        "`x`",
        "a\nb",
        "",
        "..",
        "a'b",
        "{x}",
        "a|b",
        ".*",
        "<b>",
    ],
)
@pytest.mark.parametrize("section", ["datasets", "models", "estimators"])
def test_entries_of_the_configuration_have_plain_names(section, name):
    """They become folders, wildcards and patterns of the workflow."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))
    entries = config[section]
    entries[name] = next(iter(entries.values()))
    with pytest.raises(Exception, match="is no name"):
        load_settings(config)


def test_yaml_tags_build_nothing(tmp_path):
    """Neither Snakemake nor the command line builds objects that a configuration names."""
    from snakemake.common.configfile import load_configfile

    text = "seed: !!python/object/apply:os.mkdir [mark]\n"
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(Exception, match="not valid JSON or YAML"):
        load_configfile(str(tmp_path / "my.yaml"))
    done = CliRunner().invoke(app, ["validate", str(ROOT / "config.yaml"), "my.yaml"])
    assert done.exit_code != 0 and not isinstance(done.exception, yaml.YAMLError)


def test_output_folders_are_only_folders(tmp_path):
    for name in (*PRINTED, *UNPRINTED):
        path = tmp_path / name / "x.txt"
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as part:
            Path(part).write_text("x")
        assert path.read_text() == "x" and os.listdir(path.parent) == ["x.txt"]


def test_files_that_a_mesh_names_are_not_opened(tmp_path):
    mesh = tmp_path / "a.obj"
    mesh.write_text("mtllib ../../../../etc/passwd\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert len(read_obj(mesh).vertices) == 3


def test_command_line_takes_hostile_file_names(tmp_path):
    path = tmp_path / "$(touch mark); x.h5"
    faces(path, ["$(touch mark)", "<b>"])
    done = CliRunner().invoke(app, ["inspect", str(path), "--sheet", "$(touch mark).png"])
    assert done.exit_code == 0, done.output
    assert Path("$(touch mark).png").is_file()


def test_splits_of_hostile_names_are_drawn(tmp_path):
    faces(tmp_path / "a.h5", PRINTED)
    entry = {"source": "faces_hdf5", "root": str(tmp_path / "a.h5"), "split": {"test": 0.5}}
    source = open_source(entry)
    assert sorted(source.persons) == sorted(PRINTED)
    split = make_split(
        tmp_path / "split.json",
        root=tmp_path,
        split={"val": 0.2, "test": 0.5},
        source=source,
        seed=0,
    )
    assert sorted(split["train"] + split["val"] + split["test"]) == sorted(PRINTED)
