import math
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from regaze.progress.costs import expected_seconds, table
from regaze.progress.plan import Job, Plan
from regaze.settings import load_settings


def chain_and_rest():
    """A chain of 2 + 10 s, and four jobs of 3 s that wait for nothing."""
    jobs = {1: Job("first", 2), 2: Job("long", 10, needs=frozenset({1}))}
    return jobs | {number: Job("short", 3) for number in range(3, 7)}


def test_a_rank_is_the_longest_chain_that_waits():
    plan = Plan(chain_and_rest(), slots=2)
    assert plan.ranks == {1: 12, 2: 10, 3: 3, 4: 3, 5: 3, 6: 3}


def test_the_most_urgent_start_first_so_that_the_longest_chain_is_all_it_takes():
    assert Plan(chain_and_rest(), slots=2).left((), {}) == 12


def test_what_runs_and_what_is_done_shorten_the_rest():
    plan = Plan(chain_and_rest(), slots=2)
    assert plan.left({1, 3, 4}, {2: 4.0, 5: 1.0}) == 4
    assert plan.left(plan.jobs, {}) == 0


def test_a_slow_machine_takes_longer_for_what_has_not_begun():
    plan = Plan({1: Job("a", 4), 2: Job("b", 4, needs=frozenset({1}))}, slots=1)
    assert plan.left((), {1: 1.0}, pace=2.0) == 9


def test_threads_share_a_job_and_hold_its_cores():
    jobs = {1: Job("wide", 8, threads=16), 2: Job("narrow", 3)}
    assert Plan(jobs, slots=2).left((), {}) == 4 + 3
    # Every job of a cluster has a place of its own.
    assert Plan(jobs, slots=5, by_threads=False).left((), {}) == 3


@given(
    st.lists(
        st.tuples(st.floats(0.1, 50), st.integers(1, 4), st.sets(st.integers(1, 8))),
        min_size=1,
        max_size=9,
    ),
    st.integers(1, 4),
)
def test_no_run_ends_before_its_longest_chain_nor_after_one_job_at_a_time(drawn, cores):
    jobs = {
        number: Job("job", seconds, threads, frozenset(one for one in needs if one < number))
        for number, (seconds, threads, needs) in enumerate(drawn, start=1)
    }
    plan = Plan(jobs, slots=cores)
    walls = [plan.wall(number) for number in jobs]
    held = sum(plan.wall(number) * min(job.threads, cores) for number, job in jobs.items())
    left = plan.left((), {})
    assert max(max(plan.ranks.values()), held / cores) <= left + 1e-9
    assert left <= sum(walls) + 1e-9


class Dag:
    """As much of Snakemake's DAG as the order of jobs goes through."""

    HIGHEST_PRIORITY = 10**6

    def __init__(self, own):
        self.jobs = [Numbered(number) for number in own]
        self._priority = dict(zip(self.jobs, own.values(), strict=True))

    def needrun_jobs(self):
        return self.jobs

    def priority(self, job):
        return self._priority[job]

    def jobid(self, job):
        return job.number


@dataclass(frozen=True)
class Numbered:
    number: int
    HIGHEST_PRIORITY: ClassVar = Dag.HIGHEST_PRIORITY


def test_priorities_follow_ranks_behind_a_rules_own_and_the_users():
    plan = Plan({1: Job("a", 5.5), 2: Job("b", 100), 3: Job("c", 1), 4: Job("d", 1)}, slots=2)
    dag = Dag({1: 0, 2: 0, 3: 100, 4: 10**6})
    plan.prioritise(dag)
    assert [dag.priority(job) for job in dag.jobs] == [6, 100, 100 * 10_000 + 1, 10**6]


@pytest.fixture(scope="module")
def config():
    with open("config.yaml", encoding="utf-8") as file:
        return yaml.safe_load(file)


def test_a_training_costs_in_proportion_to_its_images(config):
    settings = load_settings(config)
    seconds = expected_seconds("train_model", {"model": "sted"}, settings)
    twice = deepcopy(config)
    twice["models"]["sted"]["train"]["images"] *= 2
    more = load_settings(twice)
    start = table()["train_model"]["start"]
    again = expected_seconds("train_model", {"model": "sted"}, more)
    assert again - start == pytest.approx(2 * (seconds - start))


def test_every_rule_that_computes_has_a_cost(config):
    assert load_settings(config).resources.rules.keys() <= table().keys()


def test_an_unknown_rule_costs_something(config):
    assert expected_seconds("mine", {}, load_settings(config)) > 0


def test_any_number_of_places():
    assert Plan(chain_and_rest(), slots=math.inf).left((), {}) == 12


@pytest.mark.parametrize("rule", sorted(table()))
def test_every_cost_can_be_worked_out(config, rule):
    wildcards = dict(model="sted", encoder="deca", estimator="vgg", shard="000")
    wildcards = {
        "train_estimator": {"estimator": "vgg"},
        "train_identity": {},
        "train_deca": {"encoder": "deca"},
    }.get(rule, wildcards)
    assert 0 < expected_seconds(rule, wildcards, load_settings(config)) < 1000
