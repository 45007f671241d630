"""What a method declares is planned, made and given to it, whatever its package."""

import method_folders
import planning
import pytest
from method_folders import SETTINGS

CONFIG = {
    "evaluation": {"study": {"models": ["xunet"]}},
    "augmentation": {"redirectors": ["xunet"]},
    "models": {
        **dict.fromkeys(("xunet_deca", "xunet_lite", "xunet_student", "regression", "sted")),
        **dict.fromkeys(("redirtrans", "gazenerf", "diffusionrig_gaze")),
        "xunet": {"preset": "tiny", "size_px": 64},
        "guest": {"class": "visitor", "size_px": 64},
    },
}
ALWAYS = """Declaration(
            inputs=(Input("masks", {"names": ["eyes"]}),),
            networks=(
                Network("judge", "estimators", "vgg"),
                Network("coarse", "models", "xunet", always=True),
            ),
        )"""
TARGETS = ("samples",)


@pytest.fixture
def place(tmp_path, monkeypatch):
    settings = SETTINGS.replace(
        'Declaration(inputs=(Input("masks", {"names": ["eyes"]}),))', ALWAYS
    )
    folder = tmp_path / "site"
    method_folders.install(monkeypatch, folder, "visitors", ["visitor"], settings=settings)
    yield folder / "visitors/visitor"
    monkeypatch.undo()
    method_folders.look_again()
    method_folders.forget("visitors")


def test_inputs_and_networks_are_made_before_they_are_needed(place, tmp_path):
    plan = planning.plan(tmp_path, CONFIG, TARGETS)
    training = set(plan.inputs["train_model guest"])
    sampling = set(plan.inputs["sample_model synthetic guest"])
    masks = {f"results/synthetic/masks/shard-00{number}.h5" for number in range(2)}
    assert masks <= training and masks <= sampling
    judge, coarse = (f"results/models/{name}/model.safetensors" for name in ("vgg", "xunet"))
    assert {judge, coarse} <= training
    # In training only, and always.
    assert judge not in sampling and coarse in sampling
    assert not masks & set(plan.inputs["train_model xunet"])


def test_its_sources_and_its_networks_make_it_anew(place, tmp_path):
    planning.pretend(tmp_path, CONFIG, TARGETS)
    assert not planning.plan(tmp_path, CONFIG, TARGETS).needed
    file = place / "redirector.py"
    file.write_text(file.read_text().replace("    def losses(", "    # Changed.\n    def losses("))
    plan = planning.plan(tmp_path, CONFIG, TARGETS)
    assert "train_model guest" in plan.own
    assert plan.needed <= plan.following(["train_model guest"])
