"""States of SLURM that the executor does not end for, and limits of partitions."""

import asyncio
import logging

import pytest

from regaze.slurm import (
    Answers,
    Partition,
    Request,
    beyond,
    parse_minutes,
    parse_partitions,
    partitions,
)

SACCT, SQUEUE = "sacct -X --name run", "squeue --states=all --name run"


def asked(*rounds, command=SQUEUE, caplog=None):
    """Answers to rounds of questions; of each is given what `sacct` and what `squeue` say."""
    given = {}

    async def ask(question, logger):
        states = given[question.split()[0]]
        return (None, None) if states is None else (dict(states), 0.5)

    answers = Answers(ask, lambda run: f"squeue --states=all --name {run}", logging.getLogger("t"))
    found = []
    for sacct, squeue in rounds:
        given |= {"sacct": sacct, "squeue": squeue}
        found.append(asyncio.run(answers(command, None))[0])
    return found


def test_no_answer_keeps_every_job_and_is_told(caplog):
    assert asked((None, None), (None, {"1": "RUNNING"})) == [{}, {"1": "RUNNING"}]
    assert caplog.messages == ["SLURM does not answer; it will be asked again."]
    assert asked((None, None), command=SACCT) == [{}]


def test_without_a_database_the_controller_is_asked():
    assert asked((None, {"1": "COMPLETED"}), command=SACCT) == [{"1": "COMPLETED"}]


@pytest.mark.parametrize("command", [SACCT, SQUEUE])
def test_a_preempted_job_has_failed_and_is_told_once(command, caplog):
    states = {"1": "PREEMPTED", "2": "RUNNING"}
    assert (
        asked((states, states), (states, states), command=command)
        == [{"1": "CANCELLED", "2": "RUNNING"}] * 2
    )
    assert caplog.messages == ["SLURM preempted job 1, which counts as failed."]


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL", "BOOT_FAIL"])
def test_a_job_that_the_controller_has_queued_again_is_waited_for(state):
    assert asked(({"1": state}, {"1": "PENDING"}), command=SACCT) == [{"1": "PENDING"}]
    # The controller may have forgotten it, or be silent.
    ended = "CANCELLED" if state == "PREEMPTED" else state
    for silent in ({}, None):
        assert asked(({"1": state}, silent), command=SACCT) == [{"1": ended}]


def test_words_after_a_state_are_left_out():
    assert asked(({"1": "CANCELLED by 1000"}, {}), command=SACCT) == [{"1": "CANCELLED"}]


def test_a_job_that_the_controller_has_forgotten_has_failed(caplog):
    first = {"1": "RUNNING", "2": "COMPLETED", "3_[2-4]": "PENDING"}
    # What had ended may go, silence says nothing.
    rounds = ((None, first), (None, None), (None, {"4": "PENDING"}), (None, {"4": "RUNNING"}))
    found = asked(*rounds)
    assert found[2:] == [{"4": "PENDING", "1": "FAILED"}, {"4": "RUNNING"}]
    assert any(line.startswith("SLURM no longer knows job 1") for line in caplog.messages)
    # The database may lack a job for a while, and knows jobs of other clusters.
    assert asked(({"1": "RUNNING"}, {}), ({}, {}), (None, {}), command=SACCT)[1:] == [{}, {}]
    # Without one it is as with `squeue`.
    assert asked((None, {"1": "RUNNING"}), (None, {}), command=SACCT)[1] == {"1": "FAILED"}


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [
        ("infinite", None),
        ("10:00", 10),
        ("1:30:00", 90),
        ("2-12:00:00", 3600),
        ("30", 0),
        ("UNLIMITED", None),
    ],
)
def test_time_limits_are_read(limit, minutes):
    assert parse_minutes(limit) == minutes


def test_partitions_are_their_largest_nodes():
    text = "cpu*|up|1:00:00|16000|4\ncpu*|up|1:00:00|8000|64\nfat|drain|infinite|515000+|128+\n"
    assert parse_partitions(text) == {
        "cpu": Partition("up", 16000, 64, 60, default=True),
        "fat": Partition("drain", 515000, 128, None),
    }
    with pytest.raises(ValueError, match="not enough values"):
        parse_partitions("sinfo: error")


def test_no_sinfo_is_no_partitions(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert partitions() is None
    (line,) = beyond([], None)
    assert "resources.max_runtime and resources.max_mem_mb" in line


def test_what_partitions_do_not_allow_is_named_once():
    known = {
        "cpu": Partition("up", 16000, 4, 10, default=True),
        "gpu": Partition("down", 64000, 32, None),
    }

    def request(attempt=1, partition=None, mem_mb=100, minutes=5, cpus=1):
        return Request("train_model", attempt, partition, mem_mb, minutes, cpus)

    assert beyond([request(), request(minutes=10, mem_mb=16000, cpus=4)], known) == []
    assert beyond([request(minutes=None, mem_mb=None)], known) == []
    many = [request(attempt, minutes=8 * attempt) for attempt in (1, 2, 3)]
    (line,) = beyond(many, known)
    assert line.startswith("attempt 2 of train_model asks for 16 minutes, more than the 10 of")
    assert line.endswith("set resources.max_runtime: 10")
    (line,) = beyond([request(mem_mb=20000)], known)
    assert "20000 MB" in line and line.endswith("set resources.max_mem_mb: 16000")
    (line,) = beyond([request(cpus=5)], known)
    assert "5 CPUs" in line and line.endswith("lower its threads")
    # One that is down; of several the largest counts, and one that does not exist.
    (line,) = beyond([request(partition="cpu,gpu", minutes=900, cpus=32)], known)
    assert line.startswith("partition gpu is down")
    (line,) = beyond([request(partition="gpus")], known)
    assert line == "no partition 'gpus' (of train_model); sinfo knows cpu, gpu"
