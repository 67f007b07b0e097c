"""The plan: who computes what, and that nothing but seed, epoch and sentence counts decides the steps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.batching.plan import BatchUnits, Plan, Step, balance, dropout_seed, evaluation_batches, shuffle_into_steps
from nerloop.types import IGNORE, Feature


def atoms(*features: list[int], sentences: list[int] | None = None) -> BatchUnits:
    """Return atoms from the lengths of the features of each; half of the subwords are labelled, rounded down."""
    lengths = [n for atom in features for n in atom]
    return BatchUnits(
        sentences=np.array(sentences or [1] * len(features), dtype=np.int64),
        offsets=np.cumsum([0, *map(len, features)]),
        lengths=np.array(lengths, dtype=np.int64),
        labelled=np.array(lengths, dtype=np.int64) // 2,
    )


def some_atoms(num_atoms: int, seed: int = 0) -> BatchUnits:
    """Return atoms of one or two features, 3 to 40 subwords each."""
    random = np.random.RandomState(seed)
    return atoms(*[random.randint(3, 41, size=1 + (i % 5 == 0)).tolist() for i in range(num_atoms)])


def padded(lengths: Sequence[int]) -> int:
    return len(lengths) * max(lengths)


# Committed once and for all: checkpoints hold the number of a step and nothing else about the order.
SHUFFLED_42_0 = [[1, 8, 5, 3], [7, 9, 4, 0], [6, 2]]
SHUFFLED_42_1 = [[9, 5, 8, 7], [6, 4, 0, 3], [1, 2]]
PLANNED = [
    Step(epoch=0, num_sentences=4, num_labelled=7, num_subwords=16, micro_batches=(((5, 4),), ((1, 0),))),
    Step(epoch=0, num_sentences=2, num_labelled=6, num_subwords=13, micro_batches=(((3,),), ((2,),))),
]
UNEVEN_ENDS = [0, 4, 8, 12, 15, 18]
DROPOUT_SEEDS = [5732826375231505755, 8008285204471158970, 7829184764001561178]

LAYOUTS: list[dict[str, Any]] = [
    {"num_processes": p, **layout}
    for p in (1, 2, 3, 8)
    for layout in (
        {},
        {"gradient_accumulation_steps": 2},
        {"gradient_accumulation_steps": 50},
        {"max_subwords": 64},
        {"max_subwords": 1},
        {"max_subwords": 10**9, "cost": padded},
    )
]


def feature(*, length: int, labelled: int, atom: int, examples: tuple[int, ...]) -> Feature:
    labels = np.full(length, IGNORE)
    labels[:labelled] = 0
    return Feature(np.zeros(length, dtype=np.int64), labels, np.full(length, -1), atom, examples, (1,) * len(examples))


def test_shuffle_into_steps_literal():
    # Of NumPy's frozen RandomState: should this ever change, no checkpoint can be resumed.
    steps = shuffle_into_steps(np.ones(10, dtype=np.int64), 4, 42, 0)
    assert [step.tolist() for step in steps] == SHUFFLED_42_0
    steps = shuffle_into_steps(np.ones(10, dtype=np.int64), 4, 42, 1)
    assert [step.tolist() for step in steps] == SHUFFLED_42_1


def test_shuffle_into_steps_takes_atoms_until_the_batch_is_full():
    sentences = np.array([1, 3, 2, 2, 1, 5])
    steps = shuffle_into_steps(sentences, 4, 0, 0)
    held = [[int(sentences[a]) for a in step] for step in steps]
    assert sorted(a for step in steps for a in step.tolist()) == [0, 1, 2, 3, 4, 5]
    assert all(sum(h) >= 4 and sum(h[:-1]) < 4 for h in held[:-1])


def test_shuffle_into_steps_of_nothing_is_nothing():
    assert list(shuffle_into_steps(np.array([], dtype=np.int64), 4, 0, 0)) == []


def test_shuffle_into_steps_differs_by_seed_and_epoch():
    orders = {
        (seed, epoch): tuple(shuffle_into_steps(np.ones(20, dtype=np.int64), 20, seed, epoch)[0].tolist())
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9


def test_plan_literal():
    plan = Plan(atoms([5], [3], [4], [9], [2], [6]), batch_size=4, seed=7, num_processes=2)
    assert [plan[0], plan[1]] == PLANNED


def test_plan_steps_are_the_same_under_every_layout():
    data = some_atoms(23)
    plain = Plan(data, batch_size=5, seed=3)
    expected = [(plain[n].features, plain[n].num_labelled, plain[n].num_subwords, plain[n].epoch) for n in range(10)]
    assert len(LAYOUTS) == 24
    for layout in LAYOUTS:
        plan = Plan(data, batch_size=5, seed=3, **layout)
        found = [(plan[n].features, plan[n].num_labelled, plan[n].num_subwords, plan[n].epoch) for n in range(10)]
        assert found == expected, layout


def test_plan_steps_do_not_depend_on_lengths():
    one = Plan(atoms(*[[5]] * 11), batch_size=4, seed=3)
    other = Plan(atoms(*[[n] for n in range(1, 12)]), batch_size=4, seed=3)
    assert [one[n].features for n in range(6)] == [other[n].features for n in range(6)]


def test_plan_gives_the_same_step_in_any_order_of_asking():
    data = some_atoms(23)
    plan = Plan(data, batch_size=5, seed=3, num_processes=2)
    there = [plan[n] for n in range(12)]
    assert [plan[n] for n in reversed(range(12))] == there[::-1]
    assert [Plan(data, batch_size=5, seed=3, num_processes=2)[n] for n in (11, 0, 6)] == [there[11], there[0], there[6]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_plan_takes_every_feature_once_an_epoch(layout):
    data = some_atoms(23)
    plan = Plan(data, batch_size=5, seed=3, **layout)
    for epoch in range(3):
        steps = range(plan.num_steps(epoch), plan.num_steps(epoch + 1))
        taken = [i for n in steps for process in plan[n].micro_batches for m in process for i in m]
        assert sorted(taken) == list(range(len(data.lengths)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_plan_gives_every_process_as_many_micro_batches(layout):
    plan = Plan(some_atoms(23), batch_size=5, seed=3, **layout)
    for n in range(5):
        micro_batches = plan[n].micro_batches
        assert len(micro_batches) == layout["num_processes"]
        assert len({len(process) for process in micro_batches}) == 1


def test_plan_accumulation_divides_the_batch():
    plan = Plan(atoms(*[[4]] * 8), batch_size=8, seed=0, num_processes=2, gradient_accumulation_steps=2)
    assert [[len(m) for m in process] for process in plan[0].micro_batches] == [[2, 2], [2, 2]]


def test_plan_last_batch_of_an_epoch_is_short():
    plan = Plan(atoms(*[[4]] * 7), batch_size=3, seed=0)
    assert [plan[n].num_sentences for n in range(6)] == [3, 3, 1, 3, 3, 1]


def test_plan_does_not_accumulate_more_than_there_is():
    plan = Plan(atoms(*[[4]] * 7), batch_size=3, seed=0, gradient_accumulation_steps=4)
    assert [[len(m) for m in plan[n].micro_batches[0]] for n in range(3)] == [[1, 1, 1], [1, 1, 1], [1]]


def test_plan_with_fewer_features_than_processes_has_empty_micro_batches():
    plan = Plan(atoms([4], [6]), batch_size=2, seed=0, num_processes=3)
    assert plan[0].micro_batches == (((1,),), ((0,),), ((),))


def test_plan_with_one_feature_and_accumulation_keeps_to_one_micro_batch():
    plan = Plan(atoms([4]), batch_size=2, seed=0, num_processes=2, gradient_accumulation_steps=4)
    assert plan[0].micro_batches == (((0,),), ((),))


@pytest.mark.parametrize("cost", [sum, padded])
@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_plan_keeps_the_budget_of_subwords(cost, num_processes):
    data = some_atoms(60)
    plan = Plan(data, batch_size=20, seed=0, num_processes=num_processes, max_subwords=80, cost=cost)
    micro_batches = [m for n in range(plan.num_steps(2)) for process in plan[n].micro_batches for m in process if m]
    assert len(micro_batches) > 20
    assert max(cost([int(data.lengths[i]) for i in m]) for m in micro_batches) <= 80


def test_plan_budget_takes_no_more_micro_batches_than_it_needs():
    plan = Plan(atoms(*[[10]] * 8), batch_size=8, seed=0, max_subwords=40)
    assert [len(m) for m in plan[0].micro_batches[0]] == [4, 4]


def test_plan_gives_a_feature_beyond_the_budget_a_micro_batch_of_its_own():
    plan = Plan(atoms([100], [5], [5]), batch_size=3, seed=0, max_subwords=20)
    assert sorted(plan[0].micro_batches[0]) == [(0,), (1,), (2,)]


def test_plan_balances_processes_by_subwords():
    data = some_atoms(320)
    plan = Plan(data, batch_size=64, seed=0, num_processes=4)
    for n in range(5):
        loads = [sum(int(data.lengths[i]) for m in process for i in m) for process in plan[n].micro_batches]
        assert max(loads) / min(loads) < 1.05


def test_plan_counts_sentences_labels_and_subwords_of_the_batch():
    step = Plan(atoms([10, 7], [5], [4], sentences=[3, 1, 2]), batch_size=6, seed=0, num_processes=2)[0]
    assert (step.num_sentences, step.num_labelled, step.num_subwords) == (6, 5 + 3 + 2 + 2, 26)
    assert step.features == [0, 1, 2, 3]


def test_plan_never_parts_an_atom_over_steps():
    data = atoms(*[[4] * (1 + i % 4) for i in range(30)], sentences=[1 + i % 3 for i in range(30)])
    plan = Plan(data, batch_size=7, seed=5, num_processes=2, max_subwords=8)
    step_of = {i: n for n in range(plan.num_steps(1)) for i in plan[n].features}
    assert len(step_of) == len(data.lengths)
    for first, stop in itertools.pairwise(data.offsets):
        assert len({step_of[i] for i in range(first, stop)}) == 1


def test_plan_goes_on_beyond_the_epochs_that_were_asked_for():
    plan = Plan(atoms(*[[4]] * 10), batch_size=4, seed=0)
    assert plan.num_steps(3) == 9
    assert (plan[100].epoch, plan[100].num_sentences) == (33, 4)
    assert plan.num_steps(40) == 120


def test_plan_epochs_with_uneven_atoms_have_steps_of_their_own_count():
    data = atoms(*[[4]] * 9, sentences=[1, 5, 1, 5, 1, 5, 1, 5, 1])
    plan = Plan(data, batch_size=6, seed=1)
    ends = [plan.num_steps(epochs) for epochs in range(6)]
    assert ends == UNEVEN_ENDS
    assert [plan.epoch_of(end) for end in ends] == [0, 1, 2, 3, 4, 5]
    assert [plan.epoch_of(end - 1) for end in ends[1:]] == [0, 1, 2, 3, 4]


def test_plan_epoch_at_counts_what_is_done():
    plan = Plan(atoms(*[[4]] * 12), batch_size=4, seed=0)
    assert [plan.epoch_at(n) for n in range(8)] == [0.0, 0.3333, 0.6667, 1.0, 1.3333, 1.6667, 2.0, 2.3333]


def test_atoms_of_features():
    found = BatchUnits.of(
        [
            feature(length=7, labelled=3, atom=0, examples=(0,)),
            feature(length=6, labelled=2, atom=0, examples=(0,)),
            feature(length=5, labelled=0, atom=1, examples=(1, 2, 3)),
        ]
    )
    assert found.sentences.tolist() == [1, 3]
    assert found.offsets.tolist() == [0, 2, 3]
    assert found.lengths.tolist() == [7, 6, 5]
    assert found.labelled.tolist() == [3, 2, 0]
    assert found.features_of([1, 0]) == [2, 0, 1]


def test_atoms_of_nothing():
    found = BatchUnits.of([])
    assert (found.sentences.tolist(), found.offsets.tolist(), found.lengths.tolist()) == ([], [0], [])


def test_balance_puts_the_longest_first_into_the_lightest_bin():
    assert balance([5, 3, 3, 1], 2) == [[0, 3], [1, 2]]
    assert balance([1, 2, 3, 4, 5, 6], 3) == [[0, 5], [1, 4], [2, 3]]


def test_balance_of_equal_lengths_deals_them_out():
    assert balance([4, 4, 4, 4, 4], 2) == [[0, 2, 4], [1, 3]]


def test_balance_leaves_bins_empty_where_there_is_too_little():
    assert balance([4], 3) == [[0], [], []]
    assert balance([], 2) == [[], []]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=7), st.integers(1, 3))
def test_balance_keeps_grahams_bound(lengths, num_bins):
    loads = [sum(lengths[i] for i in b) for b in balance(lengths, num_bins)]
    best = min(
        max(sum(n for n, b in zip(lengths, bins) if b == chosen) for chosen in range(num_bins))
        for bins in itertools.product(range(num_bins), repeat=len(lengths))
    )
    assert sum(loads) == sum(lengths)
    assert max(loads) <= best * (4 / 3 - 1 / (3 * num_bins)) + 1e-9


def test_dropout_seed_literal():
    assert [dropout_seed(42, 0, 0), dropout_seed(42, 0, 1), dropout_seed(42, 1, 0)] == DROPOUT_SEEDS


def test_dropout_seed_differs_by_seed_step_and_process():
    seeds = [dropout_seed(seed, step, process) for seed in (0, 1, 42) for step in range(50) for process in range(8)]
    assert len(set(seeds)) == 1200
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_evaluation_batches_literal():
    data = atoms([3], [9], [5, 4], [2], [6])
    assert list(evaluation_batches(data, 10, sum)) == [[[1]], [[5]], [[2, 3]], [[0, 4]]]


def test_evaluation_batches_do_not_cross_borders():
    data = atoms([3], [9], [5, 4], [2], [6])
    groups = evaluation_batches(data, 100, sum, [2, 4, 4, 5])
    assert list(groups) == [[[1, 0]], [[2, 3, 4]], [[5]]]
    assert groups.up_to == [1, 2, 2, 3]


def test_evaluation_batches_hold_whole_atoms_once():
    data = some_atoms(57)
    groups = evaluation_batches(data, 100, padded)
    taken = [i for group in groups for forward in group for i in forward]
    assert sorted(taken) == list(range(len(data.lengths)))
    group_of = {i: g for g, group in enumerate(groups) for forward in group for i in forward}
    for first, stop in itertools.pairwise(data.offsets):
        assert len({group_of[i] for i in range(first, stop)}) == 1


@pytest.mark.parametrize("cost", [sum, padded])
def test_evaluation_batches_keep_the_budget(cost):
    data = some_atoms(57)
    forwards = [f for group in evaluation_batches(data, 64, cost) for f in group]
    assert len(forwards) > 10
    assert max(cost([int(data.lengths[i]) for i in forward]) for forward in forwards) <= 64


def test_evaluation_batches_give_a_feature_beyond_the_budget_a_forward_of_its_own():
    assert list(evaluation_batches(atoms([50, 60, 5], [3]), 20, sum)) == [[[0], [1], [2]], [[3]]]


def test_evaluation_batches_begin_with_the_longest():
    data = some_atoms(57)
    (first, *_), *_ = evaluation_batches(data, 50, sum)
    assert max(int(data.lengths[i]) for i in first) == int(data.lengths.max())


def test_evaluation_batches_of_nothing_are_none():
    assert list(evaluation_batches(BatchUnits.of([]), 100, sum)) == []
