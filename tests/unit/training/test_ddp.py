"""Two processes: the same result as one, exact resume, one writer, visible errors, SIGTERM.

The processes are those of torchrun, or of srun, started by the launcher of the training rules.
"""

import json
import logging
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch.nn import functional as F

from regaze.training.draws import WholeBatch, whole_batch
from regaze.training.launch import Named, _watch, describe, launch
from regaze.training.loop import Interrupted

SCRIPT = Path(__file__).with_name("ddp_script.py")
TRAIN = {
    "images": 320,
    "batch": 8,
    "accumulate": 2,
    "lr": 0.01,
    "warmup_images": 16,
    "ema_halflife_images": 24,
    "log_every_images": 64,
    "state_every_images": 10**9,
    "tensorboard": False,
    "precision": "fp32",
}


# Starts as many processes as it is asked for, as SLURM would on two machines; all of them have
# imported what takes them seconds.
SRUN = f"""#!{sys.executable}
import json, os, runpy, sys
import torch._dynamo, regaze.training.loop
options = dict(part.split("=", 1) for part in sys.argv[1:] if part.startswith("--"))
_, _, module, path = [part for part in sys.argv[1:] if not part.startswith("--")]
json.dump([options, os.environ["MASTER_PORT"]], open(os.environ["TOLD"], "w"))
for rank in range(int(options["--ntasks"])):
    if not os.fork():
        place = {{"PROCID": rank, "LOCALID": 0, "NTASKS": options["--ntasks"]}}
        os.environ.update({{f"SLURM_{{name}}": str(value) for name, value in place.items()}})
        sys.argv = [module, path]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        sys.exit()
sys.exit(max(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(int(options["--ntasks"]))))
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Ranks compute on one thread, so what they are compared with does too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def job(folder, **params):
    params = {"config": {"train": TRAIN}, "state": str(folder / "state")} | params
    files = {"model": str(folder / "model.pt"), "curve": str(folder / "curve.json")}
    parts = {"input": Named(), "params": Named(params), "output": Named(files)}
    return Named(parts, log=[str(folder / "job.log")], threads=1)


def run(folder, processes=2, **params):
    main = runpy.run_path(str(SCRIPT))["main"]
    launch(main, job(folder, **params), processes)
    return torch.load(folder / "model.pt", weights_only=True)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Weights, curve and folder of a training of two processes, and what srun was told of them."""
    tool, folder = tmp_path_factory.mktemp("bin") / "srun", tmp_path_factory.mktemp("unbroken")
    tool.write_text(SRUN)
    tool.chmod(0o755)
    surroundings = {
        "PATH": f"{tool.parent}:{os.environ['PATH']}",
        "TOLD": str(tool.with_name("told.json")),
        "MASTER_ADDR": "127.0.0.1",
        "SLURM_JOB_ID": "12345",
    }
    with mock.patch.dict(os.environ, surroundings):
        weights = run(folder, None, config={"train": TRAIN | {"gpus": 0, "nodes": 2}})
    curve = json.loads((folder / "curve.json").read_text())
    return weights, curve, folder, json.loads(tool.with_name("told.json").read_text())


def single(folder, config=None):
    script = runpy.run_path(str(SCRIPT))
    return script["train"](
        script["Denoising"](),
        lambda rank, world: script["Pictures"](8, rank, world),
        script["TrainSettings"](**TRAIN),
        seed=3,
        state=folder,
        config=config or {},
    )


def test_two_processes_are_one_with_the_doubled_batch(unbroken, tmp_path):
    both, record, folder, _ = unbroken
    one, curve = single(tmp_path)
    assert both.keys() == one.keys()
    for key, value in one.items():
        assert (both[key] - value).norm() <= 1e-5 * value.norm(), key
    assert record["loss"] == pytest.approx([row["a/loss"] for row in curve], rel=1e-5)
    assert record["rank"] == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        *("curve.json", "job.log", "model.pt", "state"),
    ]
    log = (folder / "job.log").read_text()
    assert log.count("step 20/20") == 1


@pytest.mark.whole
def test_two_processes_train_the_x_unet_of_one(tmp_path):
    script = runpy.run_path(str(SCRIPT))
    changes = {"images": 160, "accumulate": 1, "lr": 1e-3, "ema_halflife_images": 0}
    both = run(tmp_path, network="xunet", config={"train": TRAIN | changes})
    one, _ = script["train"](
        script["xunet"](),
        lambda rank, world: script["Pairs"](8, rank, world),
        script["TrainSettings"](**TRAIN | changes),
        seed=3,
        state=tmp_path / "one",
        config={},
    )
    apart = torch.cat([(both[key] - value).flatten() for key, value in one.items()])
    whole = torch.cat([value.flatten() for value in one.values()])
    assert apart.norm() <= 1e-5 * whole.norm()


def test_a_stopped_run_resumes_to_the_same_bytes(unbroken, tmp_path):
    # 4 calls of losses per step: stopped in the seventh.
    with pytest.raises(Interrupted, match="state of the last step is saved"):
        run(tmp_path, act="sigterm", at=26, launcher=os.getpid())
    state = torch.load(tmp_path / "state/state.pt", weights_only=True)
    assert 6 <= state["step"] < 20
    assert not (tmp_path / "model.pt").exists()
    assert "rank 1 regaze: stopped at step" in (tmp_path / "job.log").read_text()
    kept = (tmp_path / "state/state.pt").read_bytes()
    words = rf"state\.pt: .* at step {state['step']} of 20 with 2 processes, found 1,"
    with pytest.raises(ValueError, match=words):
        single(tmp_path / "state", {"train": TRAIN})
    assert (tmp_path / "state/state.pt").read_bytes() == kept
    # The way of stopping is no part of the configuration's identity. Processes of torchrun train
    # what those of srun do.
    again = run(tmp_path)
    assert f"resuming at step {state['step']} of 20" in (tmp_path / "job.log").read_text()
    for key, value in unbroken[0].items():
        assert torch.equal(again[key], value), key


@pytest.mark.whole
def test_the_state_of_one_process_is_refused_by_two(tmp_path):
    single(tmp_path / "one", {"train": TRAIN})
    state = torch.load(tmp_path / "one/state.pt", weights_only=True)
    (tmp_path / "state").mkdir()
    torch.save(state | {"step": 7}, tmp_path / "state/state.pt")
    with pytest.raises(RuntimeError, match=r"state\.pt: .* with 1 process, found 2,"):
        run(tmp_path)


def test_a_failing_process_ends_the_other_and_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="rank 1: the second process has had enough"):
        run(tmp_path, act="fail", at=10)
    assert not (tmp_path / "model.pt").exists()
    log = (tmp_path / "job.log").read_text()
    assert "Traceback" in log and "ValueError: the second process has had enough" in log


@pytest.mark.whole
def test_processes_started_by_others_take_part(unbroken, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import runpy, json, sys; from regaze.training.launch import launch, Named;"
        "job = json.loads(sys.argv[1]);"
        "job = Named({k: Named(v) if isinstance(v, dict) else v for k, v in job.items()});"
        f"launch(runpy.run_path({str(SCRIPT)!r})['main'], job)"
    )
    running = []
    for rank in ("0", "1"):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", code, json.dumps(describe(job(tmp_path)))]
        running.append(subprocess.Popen(command, env=os.environ | place | where))
    assert [one.wait(60) for one in running] == [0, 0]
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    for key, value in unbroken[0].items():
        assert torch.equal(weights[key], value), key


def test_processes_of_two_machines_are_started_by_srun(unbroken):
    _, _, folder, (told, port) = unbroken
    assert (told["--nodes"], told["--ntasks"], told["--ntasks-per-node"]) == ("2", "2", "1")
    assert told["--kill-on-bad-exit"] == "1" and port == "20345"
    assert "rank 0 regaze" in (folder / "job.log").read_text()


def test_machines_are_refused_where_they_cannot_be(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    asked = job(tmp_path, config={"train": TRAIN | {"gpus": 0, "nodes": 2}})
    with pytest.raises(ValueError, match="train.nodes: 2 machines need a SLURM job.*found none"):
        launch(print, asked)


def test_launch_in_this_process_and_its_refusals(tmp_path, monkeypatch):
    calls = []
    asked = job(tmp_path)
    asked.params["config"] = {"train": TRAIN | {"gpus": 1}}
    launch(calls.append, asked)
    assert calls == [asked]
    asked.params["config"] = {"train": TRAIN | {"gpus": 1000}}
    with pytest.raises(ValueError, match="train.gpus: expected 1000 GPUs, found"):
        launch(calls.append, asked)
    with pytest.raises(ValueError, match="train.batch: 8 cannot be shared by 3"):
        launch(calls.append, asked, 3)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match="RANK is set, LOCAL_RANK.*is not"):
        launch(calls.append, asked, 2)
    asked.params["config"] = {1: 2}
    with pytest.raises(TypeError, match="params.config: expected text as keys, found 1"):
        describe(asked)
    asked.params["config"] = {"train": {"lr": {0.1}}}
    with pytest.raises(TypeError, match="params.config.train.lr: expected plain values, found set"):
        describe(asked)


def test_a_process_whose_job_needs_no_group_takes_part_all_the_same(tmp_path, monkeypatch):
    place = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    for name, value in (place | {"MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)
    calls, factory = [], logging.getLogRecordFactory()
    try:
        launch(calls.append, job(tmp_path))
        named = logging.getLogRecordFactory()("regaze", logging.INFO, "", 0, "", (), None)
        silent = not logging.getLogger("regaze").isEnabledFor(logging.INFO)
    finally:
        logging.setLogRecordFactory(factory)
        logging.disable(logging.NOTSET)
    (told,) = calls
    assert told.params.config == {"train": TRAIN} and told.log == []
    assert named.name == "rank 1 regaze" and silent


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_processes_end_with_the_one_that_watches_them_whatever_its_thread(tmp_path):
    tell = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n))"
    command = [sys.executable, "-c", f"{tell}; print(n.value)"]
    log, handler = tmp_path / "job.log", signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=_watch, args=(command, 1, str(log)))
    thread.start()
    thread.join()
    assert log.read_text() == f"{int(signal.SIGTERM)}\n"
    assert signal.getsignal(signal.SIGTERM) is handler


def test_processes_are_ended_when_their_log_cannot_be_written(tmp_path, monkeypatch):
    running = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            running.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(FileNotFoundError, match="absent/job.log"):
        _watch([sys.executable, "-c", "import signal; signal.pause()"], 1, "absent/job.log")
    assert running[0].returncode == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is handler


DRAWS = {
    "rand": lambda n: torch.rand(n, 3),
    "size": lambda n: torch.randn(size=(n, 2, 2)),
    "list": lambda n: torch.randn([n]),
    "randint": lambda n: torch.randint(0, 9, (n, 3)),
    "high": lambda n: torch.randint(9, size=(n,)),
    "like": lambda n: torch.randn_like(torch.ones(n, 3)),
    "other like": lambda n: torch.rand_like(torch.ones(3))[1].expand(n),
    "filled": lambda n: torch.ones(n, 3).bernoulli_(0.5),
    "dropout": lambda n: F.dropout(torch.ones(n, 50), 0.3),
    "channels last": lambda n: F.dropout(torch.ones(n, 5, 5, 3).permute(0, 3, 1, 2), 0.3),
    "none": lambda n: torch.rand(()).expand(n),
    "other": lambda n: torch.rand(3)[1].expand(n),
    "stratified": lambda n: torch.randperm(whole_batch(n)[0])[whole_batch(n)[1]],
}


@pytest.mark.parametrize("name", DRAWS)
def test_parts_of_a_draw_are_the_whole_draw(name):
    torch.manual_seed(5)
    whole = DRAWS[name](12)
    parts = []
    for rank in range(3):
        torch.manual_seed(5)
        with WholeBatch(rank, 3, 4):
            parts.append(DRAWS[name](4))
    assert torch.equal(torch.cat(parts), whole)
    assert whole_batch(4) == (4, slice(0, 4))


def test_a_draw_for_concatenated_batches():
    torch.manual_seed(5)
    first, second = F.dropout(torch.ones(16, 50), 0.3).chunk(2)
    for rank in range(2):
        torch.manual_seed(5)
        with WholeBatch(rank, 2, 4):
            made = F.dropout(torch.ones(8, 50), 0.3)
        mine = slice(4 * rank, 4 * rank + 4)
        assert torch.equal(made, torch.cat([first[mine], second[mine]]))


def test_draws_that_cannot_be_shared_are_refused():
    with WholeBatch(0, 2, 4):
        with pytest.raises(ValueError, match="bernoulli: its draws cannot be shared"):
            torch.bernoulli(torch.full((4,), 0.5))
        with pytest.raises(ValueError, match="bernoulli_: tensors of parameters cannot be shared"):
            torch.empty(4).bernoulli_(torch.full((4,), 0.5))
        with pytest.raises(ValueError, match="dropout2d"):
            F.dropout2d(torch.ones(1, 2, 3, 3))
        assert torch.equal(F.dropout(torch.ones(3), 0.5, training=False), torch.ones(3))
