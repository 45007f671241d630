"""Atlases of test persons are drawn by a job per method, and the report waits for them."""

import runpy
from types import SimpleNamespace

import planning
from running import ROOT

TARGETS = ("report",)
CONFIG = {
    "models": dict.fromkeys(("xunet", "xunet_lite", "xunet_student", "redirtrans", "regression")),
    "evaluation": {"study": {"models": None}, "atlas": 3},
    "augmentation": {"redirectors": []},
}


def test_the_report_waits_for_an_atlas_of_each_method_that_can(tmp_path):
    plan = planning.plan(tmp_path, CONFIG, TARGETS)
    page = "results/report/atlas/sted.html"
    assert plan.outputs["draw_atlas sted"] == [page]
    assert page in plan.inputs["write_report"]
    # What reads codes has none.
    assert [name for name in plan.outputs if name.startswith("draw_atlas")] == ["draw_atlas sted"]
    read = {*plan.inputs["draw_atlas sted"]}
    assert {f"results/models/{name}/model.safetensors" for name in ("sted", "resnet")} <= read
    assert {f"results/synthetic/faces/shard-00{number}.h5" for number in range(2)} <= read
    assert "results/synthetic/pairs.parquet" in read


def test_what_draws_them_again(tmp_path):
    planning.pretend(tmp_path, CONFIG, TARGETS)
    assert not planning.plan(tmp_path, CONFIG, TARGETS).needed
    fewer = {**CONFIG, "evaluation": {**CONFIG["evaluation"], "atlas": 1}}
    assert planning.plan(tmp_path, fewer, TARGETS).own == {"draw_atlas sted", "write_report"}


def test_the_script_hands_on_what_the_rule_has(monkeypatch):
    script = runpy.run_path(str(ROOT / "workflow_scripts/draw_atlas.py"))
    given = {}
    names = script["main"].__globals__
    monkeypatch.setitem(names, "start", lambda job: None)
    monkeypatch.setitem(
        names, "write_atlas", lambda out, folder, **more: given.update(more, out=out, of=folder)
    )
    files = {
        "model": "results/models/sted/model.json",
        "estimator": "results/models/resnet/model.json",
        "faces": ["a.h5", "b.h5"],
        "pairs": "pairs.parquet",
    }

    class Files(SimpleNamespace):
        def get(self, name, other=None):
            return getattr(self, name, other)

    job = SimpleNamespace(
        input=Files(**files),
        output=SimpleNamespace(page="sted.html"),
        params=SimpleNamespace(sampling={"seed": 0}, persons=3),
    )
    script["main"](job)
    assert (given["out"], str(given["of"])) == ("sted.html", "results/models/sted")
    assert str(given["estimator"]) == "results/models/resnet"
    assert (given["faces"], given["persons"]) == (["a.h5", "b.h5"], 3)
