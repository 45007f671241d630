"""Networks of every section, and files of weights, reach the methods that declare them."""

import json
from dataclasses import replace
from pathlib import Path

import method_folders
import planning
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from regaze.faults import missing_files
from regaze.methods import method_module
from regaze.pairs import write_pairs
from regaze.provenance import file_sha256, fingerprint
from regaze.redirectors.bench import Bench
from regaze.redirectors.checks import CHECKS, run_checks
from regaze.redirectors.declaration import Sampling
from regaze.redirectors.inputs import NetworkFile, given_networks
from regaze.redirectors.listing import describe_entry
from regaze.redirectors.networks import load_network, load_redirector
from regaze.redirectors.sample import sample_redirector
from regaze.redirectors.train import TrainingData, train_redirector
from regaze.settings import ConfigurationError, load_settings
from regaze.training.context import ModelFiles
from regaze.versioning import dvc_yaml

SETTINGS = """
from typing import Literal

from pydantic import Field

from regaze.redirectors.declaration import Declaration, MethodSettings, Network, StartFile
from regaze.training.settings import RedirectorTraining


class ModelSettings(MethodSettings):
    class_: Literal["NAME"] = Field(alias="class")
    size_px: int = 64
    checkpoint: str | None = None
    colours: str | None = None
    factors: list[str] = ["gaze", "head"]
    fitted: bool = True
    train: RedirectorTraining = RedirectorTraining()

    def options(self):
        return {**super().options(), "objective": {"flip": False}}

    def tiny(self):
        return self.model_copy(update={"checkpoint": None, "colours": None})

    @staticmethod
    def declare(config):
        networks = (
            Network("recogniser", "identity", "identity"),
            Network("likeness", "assets", "lpips_alexnet"),
            Network("fitting", "encoders", "deca", always=True),
        )
        named = config["colours"]
        starts = (StartFile("colours", named),) if named else ()
        networks = networks if config["fitted"] else ()
        return Declaration(factors=tuple(config["factors"]), networks=networks, starts=starts)
"""
REDIRECTOR = """
import torch
from torch import nn

from regaze.redirectors.base import Redirector
from regaze.weights import load_strictly, read_weights


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.angles, self.colours = nn.Linear(4, 3), nn.Conv2d(3, 3, 1)

    def forward(self, source, angles, shape):
        x = self.colours(source) + self.angles(angles)[..., None, None]
        return torch.tanh(x + 0.1 * shape[..., None, None])


class Method(Redirector):
    def __init__(self, config, sampling):
        super().__init__()
        self.net, self.given, self.began = Net(), {}, {}

    @property
    def network(self):
        return self.net

    def attach(self, networks):
        self.given = dict(networks)

    def begin_with(self, files):
        self.began = dict(files)
        if "colours" in files:
            load_strictly(self.net.colours, read_weights(files["colours"]), files["colours"])

    def losses(self, batch, phase, at):
        made = self._made(batch, batch, self._shape(batch["source"]))
        likeness = self.given["likeness"](made, batch["target"]).mean()
        person = self.given["recogniser"](nn.functional.interpolate(made, size=32)).mean()
        return {"loss": (made - batch["target"]).abs().mean() + 0.1 * likeness + 0.01 * person}

    def invert(self, source, *, seed):
        return {**source, "shape": self._shape(source["source"])}

    def edit(self, state, target, *, seed):
        return self._made(state, target, state["shape"])

    def _shape(self, source):
        crops = nn.functional.interpolate(source, size=32) / 2 + 0.5
        return torch.tanh(self.given["fitting"].encode(crops)["shape"][:, :3])

    def _made(self, state, target, shape):
        angles = torch.cat([target["target_gaze"], target["target_head"]], 1)
        source = state["source"].expand(len(angles), -1, -1, -1)
        return self.net(source, angles, shape.expand(len(angles), -1))


def build(config, sampling):
    return Method(config, sampling)
"""
ROLES = {"recogniser", "likeness", "fitting"}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Where the method is found."""
    folder, patch = tmp_path_factory.mktemp("networks"), pytest.MonkeyPatch()
    method_folders.write(folder / "methods", "keen", SETTINGS, REDIRECTOR)
    method_folders.beside(patch, folder / "methods")
    yield folder
    patch.undo()
    method_folders.forget("regaze.redirectors.keen")


def entry(**options):
    return method_module("keen", "settings").ModelSettings(**{"class": "keen", **options})


@pytest.fixture(scope="module")
def bench(house):
    return Bench("keen", {"keen": entry()}, {}, house / "bench")


def train(bench, folder, **changes):
    files = ModelFiles(
        *(folder / name for name in ("model.safetensors", "model.json", "curve.csv")),
        state=folder / "state",
    )
    folder.mkdir(parents=True, exist_ok=True)
    data = TrainingData(bench.faces, bench.split, bench.input_files, bench.networks)
    train_redirector("keen", {**bench.config, **changes}, data, seed=0, files=files)
    return json.loads((folder / "model.json").read_text())


IN_SHORT = ("declaration", "building", "learning", "reloading")
LONG = [name for name in CHECKS if name not in IN_SHORT]


@pytest.mark.parametrize(
    "names", [IN_SHORT, pytest.param(LONG, marks=pytest.mark.whole)], ids=["in short", "the rest"]
)
def test_the_contract_is_kept_with_networks_of_all_sections(bench, names):
    assert not [one for one in run_checks(bench, names) if one.state == "failed"]


def test_each_is_what_its_section_has(bench):
    given = {role: load_network(place) for role, place in bench.networks.items()}
    assert set(given) == ROLES
    assert type(given["recogniser"]).__name__ == "SmallRecogniser"
    assert type(given["fitting"]).__name__ == "Deca" and given["fitting"].size_px == 32
    pictures = torch.rand(2, 3, 64, 64, requires_grad=True)
    given["likeness"](pictures, torch.zeros(2, 3, 64, 64)).sum().backward()
    assert pictures.grad.abs().sum() > 0
    assert not any(p.requires_grad for one in given.values() for p in one.parameters())


def test_pictures_need_those_that_are_always_used(bench, tmp_path):
    folder, redirector = bench.unbroken
    record = json.loads((folder / "model.json").read_text())
    assert set(record["networks"]) == ROLES
    likeness = record["networks"]["likeness"]
    assert likeness["entry"] == "lpips_alexnet" and likeness["path"].endswith("lpips_alexnet.pth")
    assert likeness["fingerprint"] == fingerprint(likeness["path"])
    assert "path" not in record["networks"]["fitting"]
    found, _ = load_redirector(folder)
    assert set(found.given) == {"fitting"}
    write_pairs(tmp_path / "pairs.parquet", bench.table)
    sample_redirector(
        folder,
        faces=bench.faces,
        pairs=tmp_path / "pairs.parquet",
        sampling=Sampling().model_dump(),
        samples=tmp_path / "samples.h5",
        speed=tmp_path / "speed.json",
    )
    weights = bench.folder / "models/deca/model.safetensors"
    before = weights.read_bytes()
    try:
        state = load_file(weights)
        save_file({**state, (name := next(iter(state))): state[name] + 1}, weights)
        with pytest.raises(ValueError, match="expected the fitting that 'keen' was trained with"):
            load_redirector(folder)
    finally:
        weights.write_bytes(before)


def test_another_file_in_the_place_of_an_asset_is_refused(bench, tmp_path):
    (tmp_path / "other.pth").write_bytes(b"other")
    asked = bench.networks["likeness"]
    with pytest.raises(ValueError, match=r"assets.lpips_alexnet: .*other.pth is not alexnet"):
        load_network(replace(asked, path=str(tmp_path / "other.pth")))


def test_published_weights_may_have_a_frozen_network(house, bench, tmp_path):
    trained, _ = bench.unbroken
    torch.save(load_file(trained / "model.safetensors"), tmp_path / "theirs.pth")
    patch = pytest.MonkeyPatch()
    module = method_module("keen", "redirector")
    read = lambda self, path: torch.load(path, weights_only=True)  # noqa: E731
    patch.setattr(module.Method, "read_reference", read)
    try:
        folder = bench.folder / "models/theirs"
        record = train(bench, folder, checkpoint=str(tmp_path / "theirs.pth"))
        assert record["source"] == "published" and set(record["networks"]) == {"fitting"}
        theirs, ours = load_redirector(folder)[0].eval(), load_redirector(trained)[0].eval()
        with torch.no_grad():
            made = [one.redirect(bench.asked(), seed=0) for one in (theirs, ours)]
        assert torch.equal(*made)
    finally:
        patch.undo()


def test_a_method_begins_with_the_files_that_it_declares(bench, tmp_path):
    torch.manual_seed(5)
    colours = {"weight": torch.randn(3, 3, 1, 1), "bias": torch.randn(3)}
    save_file(colours, tmp_path / "colours.safetensors")
    named = {"colours": str(tmp_path / "colours.safetensors")}
    still = {**bench.config["train"], "lr": 1e-30}
    record = train(bench, tmp_path / "begun", **named, train=still)
    weights = load_file(tmp_path / "begun/model.safetensors")
    assert torch.equal(weights["colours.weight"], colours["weight"])
    assert record["data"]["colours"] == fingerprint(named["colours"])
    torch.save({}, tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        train(bench, tmp_path / "failed", colours=str(tmp_path / "none.safetensors"))


CONFIG = {
    "models": {
        **dict.fromkeys(
            ("xunet", "xunet_deca", "xunet_lite", "xunet_student", "regression", "sted")
            + ("redirtrans", "gazenerf", "diffusionrig_gaze")
        ),
        "guest": {"class": "keen"},
    },
    "evaluation": {"study": {"models": None}},
    "augmentation": {"redirectors": []},
    "identity": {"network": "tiny", "size_px": 32},
}
HEAD = "results/face3d/head.npz"


def planned(folder, guest=(), **more):
    (folder / "alexnet.pth").touch()
    config = {**CONFIG, "assets": {"lpips_alexnet": {"path": "alexnet.pth"}}, **more}
    config["models"] = {**CONFIG["models"], "guest": {"class": "keen", **dict(guest)}}
    return planning.plan(folder, config, ("metrics",))


def test_rules_give_them_to_the_jobs_that_need_them(house, tmp_path):
    plan = planned(tmp_path)
    training = set(plan.inputs["train_model guest"])
    recogniser, fitting = (f"results/models/{n}/model.safetensors" for n in ("identity", "deca"))
    assert {recogniser, fitting, "alexnet.pth", HEAD} <= training
    sampling = set(plan.inputs["sample_model synthetic guest"])
    assert {fitting, HEAD} <= sampling and not {recogniser, "alexnet.pth"} & sampling
    (tmp_path / "deca.tar").touch()
    published = {"deca": {"class": "deca", "preset": "reference", "checkpoint": "deca.tar"}}
    plan = planned(tmp_path, encoders=published)
    assert {"deca.tar", HEAD} <= set(plan.inputs["sample_model synthetic guest"])


def test_rules_give_files_of_weights(house, tmp_path):
    for name in ("colours.safetensors", "theirs.pth"):
        (tmp_path / name).touch()
    training = planned(tmp_path, {"colours": "colours.safetensors"}).inputs["train_model guest"]
    assert "colours.safetensors" in training
    training = planned(tmp_path, {"checkpoint": "theirs.pth"}).inputs["train_model guest"]
    fitting = "results/models/deca/model.safetensors"
    assert {"theirs.pth", fitting, HEAD} <= set(training) and "alexnet.pth" not in training


def test_a_job_knows_what_its_files_are():
    files = {"network_a": "results/models/vgg/model.safetensors", "network_b": "x/deca.tar"}
    files |= {"head_of_networks": "head.npz", "faces": ["f"]}
    found = given_networks(files, {"b": {"deca": "x/deca.tar"}})
    assert found["a"] == NetworkFile("results/models/vgg", {}, "head.npz")
    assert found["b"] == NetworkFile("x/deca.tar", {"deca": "x/deca.tar"}, "head.npz")
    assert found["b"].weights == Path("x/deca.tar")
    assert found["a"].weights == Path("results/models/vgg/model.safetensors")


BASE = {
    "assets": {"lpips_alexnet": {"path": "alexnet.pth"}},
    "datasets": {"synthetic": {"source": "synthetic"}},
    "estimators": {"resnet": {"arch": "resnet", "persons": "train-evaluator"}},
    "encoders": {"deca": {"preset": "tiny"}},
    "identity": {"network": "tiny"},
}


def guest(**options):
    return BASE | {"models": {"guest": {"class": "keen", **options}}}


def test_stages_depend_on_them(house):
    text = dvc_yaml(guest())
    assert "results/models/identity/model.json" in text and "- assets" in text
    (stage,) = (part for part in text.split("\n  train-")[1:] if part.startswith("guest:"))
    assert HEAD in stage and "results/models/deca/model.json" in stage
    # Where it lies is told by the machine's own folder, as of all assets.
    assert "alexnet" not in stage
    assert (
        "- assets"
        not in dvc_yaml(BASE | {"models": {"a": {"class": "sted"}}})
        .split("\n  train-a:")[1]
        .split("\n  evaluate-")[0]
    )


def test_what_is_not_there_is_named(house, tmp_path):
    settings = load_settings(guest(colours="nowhere.safetensors"))
    told = missing_files(settings)
    assert any(
        line.startswith("models.guest.colours: nowhere.safetensors: no such") for line in told
    )
    assert any(line.startswith("assets.lpips_alexnet: ") for line in told)
    with pytest.raises(ConfigurationError, match="guest: its recogniser: 'identity' is not"):
        load_settings(guest() | {"identity": None})


def test_they_are_listed(house):
    (uses,) = (line for line in describe_entry(entry()) if line.startswith("uses"))
    assert "likeness assets.lpips_alexnet (in training)" in uses
    assert "fitting encoders.deca (always)" in uses


def test_codes_are_evaluated_where_an_entry_edits_them(house, tmp_path):
    plan = planned(tmp_path)
    codes = {f"results/synthetic/latents/deca/part-00{number}.parquet" for number in range(2)}
    measuring = "measure_model synthetic guest"
    assert not codes & set(plan.inputs["fix_pairs synthetic"])
    assert HEAD not in plan.inputs[measuring]
    plan = planned(tmp_path, {"factors": ["gaze", "expression"]})
    assert codes <= set(plan.inputs["fix_pairs synthetic"])
    weights = "results/models/deca/model.safetensors"
    assert {HEAD, weights, "results/models/deca/model.json"} <= set(plan.inputs[measuring])
    assert {HEAD, weights} <= set(plan.inputs["measure_model synthetic copy"])
    settings = load_settings(guest(factors=["jaw"]))
    two = {"encoders": {"deca": {"preset": "tiny"}, "other": {"preset": "tiny"}}}
    two["evaluation"] = {"encoder": "other"}
    assert settings.coder == "deca"
    assert load_settings(guest(factors=["jaw"]) | two).coder == "other"
    assert settings.coded == ["jaw"] and "jaw_only" in settings.pair_counts
    assert "light_only" not in settings.pair_counts
    stages = yaml.safe_load(dvc_yaml(guest(factors=["jaw"])))["stages"]
    assert "results/synthetic/latents/deca" in stages["pairs"]["deps"]
    assert {HEAD, weights} <= set(stages["evaluate-guest"]["deps"])
    with pytest.raises(ConfigurationError, match="encoder: jaw, which an entry of models edits"):
        load_settings(guest(factors=["jaw"], fitted=False) | {"encoders": {}})


def test_checksums_are_those_of_the_users_own_files(house, tmp_path):
    (tmp_path / "a.pth").write_bytes(b"a")
    own = {"path": str(tmp_path / "a.pth"), "sha256": file_sha256(tmp_path / "a.pth")}
    settings = load_settings(guest() | {"assets": {"lpips_alexnet": own}})
    (likeness,) = (n for n in settings.declarations["guest"].networks if n.section == "assets")
    assert settings.network_weights(likeness) == own["path"]
    asked = {"asset": "lpips_alexnet", "sha256": own["sha256"]}
    assert settings.network_options(likeness) == asked


def test_requests_have_the_codes_that_an_entry_edits(house, tmp_path):
    bench = Bench("keen", {"keen": entry(factors=["gaze", "jaw"])}, {}, tmp_path)
    asked = bench.asked()
    assert asked["target_jaw"].shape == (7, 3) and asked["target_jaw"].abs().min() > 0
    assert "target_light" not in asked
