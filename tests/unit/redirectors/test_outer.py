"""Methods of other distributions are methods like the inner ones."""

import json
from functools import partial
from pathlib import Path

import h5py
import method_folders
import pytest
from typer.testing import CliRunner

from regaze.cli import app
from regaze.methods import method_folder, method_module, methods
from regaze.pairs import write_pairs
from regaze.provenance import code_version
from regaze.provenance.record import write_record
from regaze.redirectors.bench import Bench
from regaze.redirectors.checks import run_checks
from regaze.redirectors.declaration import Sampling
from regaze.redirectors.sample import sample_redirector
from regaze.settings import ConfigurationError, json_schema, load_settings
from regaze.versioning import dvc_yaml

PACKAGE = "visiting_methods"
CONFIG = {
    "datasets": {"synthetic": {"source": "synthetic"}},
    "estimators": {
        "vgg": {"arch": "vgg", "persons": "train-redirector", "size_px": 16},
        "resnet": {"arch": "resnet", "persons": "train-evaluator", "size_px": 16},
    },
    "models": {"guest": {"class": "visitor", "train": {"validate_estimator": "vgg"}}},
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder with an installed distribution of one method, ``visitor``."""
    method_folders.install(monkeypatch, tmp_path / "site", PACKAGE, ["visitor"])
    yield tmp_path / "site"
    method_folders.look_again()
    for package in (PACKAGE, "others"):
        method_folders.forget(package)


@pytest.fixture(autouse=True)
def _nobody_stays(monkeypatch):
    yield
    monkeypatch.undo()
    method_folders.look_again()


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_it_is_configured_and_planned_like_an_inner_one(site):
    settings = load_settings(CONFIG)
    own = settings.declarations["guest"]
    assert own.input("masks") is not None and own.network("estimator") == "vgg"
    assert any("visitor" in name for name in json.loads(json_schema())["$defs"])
    stage = dvc_yaml(CONFIG)
    assert "results/synthetic/masks" in stage and f"{PACKAGE}/visitor" in stage
    with pytest.raises(ConfigurationError, match="models.guest.widht: unknown key"):
        load_settings(CONFIG | {"models": {"guest": {"class": "visitor", "widht": 3}}})


def test_it_keeps_the_contract_and_is_named_in_what_it_made(site, tmp_path):
    settings = load_settings(CONFIG)
    bench = Bench("guest", settings.models, settings.estimators, tmp_path)
    assert not [one for one in run_checks(bench) if one.state == "failed"]
    folder, _ = bench.unbroken
    record = json.loads((folder / "model.json").read_text())
    assert record["class"] == "visitor" and record["versions"][PACKAGE] == "1.2"
    assert record["networks"]["estimator"]["entry"] == "vgg"
    write_pairs(tmp_path / "pairs.parquet", bench.table)
    sample_redirector(
        folder,
        faces=bench.faces,
        pairs=tmp_path / "pairs.parquet",
        sampling=Sampling().model_dump() | bench.sampling,
        samples=tmp_path / "samples.h5",
        speed=tmp_path / "speed.json",
        inputs=bench.input_files,
    )
    with h5py.File(tmp_path / "samples.h5") as file:
        assert file["pixels"].shape == (7, 16, 16, 3)
        assert file.attrs["sources_without_masks"] + file.attrs["targets_without_masks"] > 0


def test_what_it_made_is_followed_to_its_data_and_its_package(site, tmp_path, monkeypatch):
    settings = load_settings(CONFIG)
    monkeypatch.chdir(tmp_path)
    bench = Bench("guest", settings.models, settings.estimators, Path("results"))
    model = bench.trained("guest")
    judge = f"{bench.networks['estimator']}/model.safetensors"
    read = [*bench.faces, bench.split, *bench.input_files["masks"]]
    for name in read:
        write_record(f"make_{Path(name).stem}", {}, inputs=[], outputs=[name], params={}, threads=1)
    write_record("train_estimator", {}, inputs=read[:2], outputs=[judge], params={}, threads=1)
    write_record(
        "train_model",
        {"model": "guest"},
        inputs=[*read, judge],
        outputs=[f"{model}/{name}" for name in ("model.safetensors", "model.json")],
        params={"config": bench.config, "code": code_version("redirectors/visitor")},
        threads=1,
    )
    record = json.loads(Path("results/provenance/train_model/guest.json").read_text())
    assert record["versions"][PACKAGE] == "1.2"
    told = run("provenance", str(model))
    assert told.exit_code == 0, told.output
    for part in (f"{model}/model.safetensors: ok", "| train_model", judge, *read):
        assert str(part) in told.output
    assert f"code {code_version('redirectors/visitor')}" in told.output
    Path(read[2]).write_bytes(b"other")
    told = run("provenance", str(model))
    assert told.exit_code == 1 and f"wrong: {read[2]}" in told.output


def test_its_sources_are_part_of_its_version(site):
    place = site / PACKAGE / "visitor"
    assert method_folder("visitor") == place
    before, others = code_version("redirectors/visitor"), code_version("redirectors/sted")
    assert code_version("redirectors/visitor") == before != others
    (place / "redirector.py").write_text(method_folders.REDIRECTOR + "\nMORE = 1\n")
    assert code_version("redirectors/visitor") != before
    assert code_version("redirectors/sted") == others


def test_methods_are_listed_with_where_they_are_from(site):
    told = run("methods")
    assert told.exit_code == 0, told.output
    assert f"visitor\n  package: {PACKAGE}.visitor, of {PACKAGE} 1.2\n" in told.output
    assert "  reads: pictures and labels; masks (names: eyes) of source and target\n" in told.output
    assert "xunet\n  package: regaze.redirectors.xunet, of regaze\n" in told.output


def test_entries_of_a_configuration_are_listed_too(site, tmp_path):
    (tmp_path / "c.yaml").write_text(json.dumps(CONFIG))
    told = run("methods", "--config", str(tmp_path / "c.yaml"))
    assert "models.guest\n" in told.output
    assert "uses: estimator estimators.vgg (in training)" in told.output


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("settings.py", "import absent_package", "ModuleNotFoundError: No module named 'absent"),
        ("settings.py", "1 / 0", "ZeroDivisionError: division by zero"),
        ("settings.py", "x = (", "SyntaxError: '(' was never closed"),
        ("settings.py", "", "visitor.settings: expected ModelSettings, found none"),
        ("redirector.py", "", "visitor.redirector: expected build, found none"),
    ],
)
def test_what_cannot_be_used_is_told_by_name(site, file, content, message):
    (site / PACKAGE / "visitor" / file).write_text(content)
    told = run("methods")
    assert told.exit_code == 1 and "xunet\n" in told.output
    assert message in told.output and "cannot be used: method 'visitor': " in told.output
    with pytest.raises(ValueError, match="method 'visitor': "):
        method_module("visitor", file.removesuffix(".py"))
    if file == "settings.py":
        with pytest.raises(ConfigurationError, match="models.guest.method 'visitor'"):
            load_settings(CONFIG)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ('factors=("gaze", "smile")', "declares factor 'smile'; expected some of gaze, head"),
        ('inputs=(Input("depth"),)', "declares input 'depth'; expected one of codes, crops"),
        (
            'inputs=(Input("codes", {"parts": []}),)',
            "input 'codes' with options .'parts'.; expected",
        ),
        ('inputs=(Input("masks", {}),)', r"input 'masks' with options \[\]; expected .'names'."),
        ('inputs=(Input("masks", {}), Input("masks", {}))', r"\['masks', 'masks'\]; .* each once"),
        (
            'inputs=(Input("masks", {"names": []}, ("target",)),)',
            "input 'masks' of .'target'.; expected",
        ),
        ('networks=(Network("gan", "nets", "a"),)', "the gan as one of 'nets'; expected one of"),
        ('networks=(Network("a-b", "models", "a"),)', "a network as 'a-b'; expected a name"),
        ('networks=(Network("a", "models", "x"), Network("a", "models", "y"))', "roles of .* once"),
        (
            'inputs=(Input("codes", {"encoder": "x", "parts": []}),)',
            "its encoder: 'x' is not defined",
        ),
        ('networks=(Network("e4e", "models", "x", True),)', "its e4e: 'x' is not defined"),
    ],
)
def test_what_nobody_could_deliver_is_refused(site, declared, message):
    place = site / PACKAGE / "visitor/settings.py"
    text = place.read_text().replace('inputs=(Input("masks", {"names": ["eyes"]}),)', declared)
    place.write_text(text)
    with pytest.raises(ConfigurationError, match=f"models.guest: .*{message}"):
        load_settings(CONFIG)


def test_two_of_one_name_are_refused_and_inner_ones_come_first(site, tmp_path, monkeypatch):
    method_folders.install(monkeypatch, tmp_path / "more", "others", ["visitor", "sted"])
    assert methods()["sted"] == "regaze.redirectors.sted"
    with pytest.raises(ValueError, match="expected one package of this name, found .*visitor"):
        method_module("visitor", "settings")


def test_the_command_prints_a_row_per_check_and_fails_with_any(site, tmp_path, monkeypatch):
    # The command sets it.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    # All of them are run above.
    few = partial(run_checks, names=["declaration", "pictures", "guidance"])
    monkeypatch.setattr("regaze.redirectors.checks.run_checks", few)
    (tmp_path / "c.yaml").write_text(json.dumps(CONFIG))
    given = ("test-method", "guest", "--config", str(tmp_path / "c.yaml"))
    told = run(*given)
    assert told.exit_code == 0, told.output
    rows = told.output.splitlines()
    assert rows[0].split() == ["declaration", "passed"]
    assert any(row.startswith("guidance         not applicable  guidable: it") for row in rows)
    place = site / PACKAGE / "visitor/redirector.py"
    method_folders.forget(PACKAGE)
    place.write_text(place.read_text().replace("return self._made(s", "return 9 + self._made(s"))
    told = run(*given)
    assert told.exit_code == 1
    assert "pictures         failed          expected values from -1 to 1, found" in told.output
    assert "guest: failed: pictures" in told.output
    told = run("test-method", "nobody", "--config", str(tmp_path / "c.yaml"))
    assert told.exit_code == 1 and "no entry 'nobody' of models; there are: guest" in told.output
