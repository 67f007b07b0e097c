"""Gradients and update of a step: kernel by kernel, and recorded (CUDA's part is made up)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from nerloop.collators.pack import Pack
from nerloop.collators.pad import Pad
from nerloop.distributed.launch import make_accelerator
from nerloop.kernels import bindings as kernels
from nerloop.model import packing as attention
from nerloop.model.compat import prepare_model
from nerloop.objectives.cross_entropy import CrossEntropy
from nerloop.optim.master_weights import Weights
from nerloop.optim.optimizer import build_optimizer
from nerloop.optim.step import WARMUP_STEPS, TrainStep, fetching
from nerloop.types import Feature

# The lengths of two micro-batches a step; a training takes them in turn.
STEPS = [[[3, 17], [20, 21, 5]], [[4, 17], [19, 5]], [[2, 20], [22, 20, 4]], [[9, 9, 3], [24]]]


@pytest.fixture(autouse=True)
def no_kernels(monkeypatch):
    """On a GPU there are none of those for CPUs."""
    monkeypatch.setattr(kernels, "is_supported", lambda *_: False)


def feature(length, number):
    random = np.random.RandomState(100 * length + number)
    ids = random.randint(5, 300, length)
    return Feature(ids, random.randint(0, 5, length), np.arange(length), number, (number,), (length,))


def flat(q, k, v, layout, scaling, dropout, window=None):
    """Attend as the kernel does, by the cu_seqlens alone."""
    parts = (x.split(layout.cu_seqlens.diff().tolist()) for x in (q, k, v))
    heads = [[x.transpose(0, 1) for x in qkv] for qkv in zip(*parts, strict=True) if len(qkv[0])]
    return torch.cat([functional.scaled_dot_product_attention(*h, scale=scaling).transpose(0, 1) for h in heads])


def trained(model, collator, *, precision="bf16", kind=None, is_on=True, num_steps=12, name="adamw"):
    """Return the losses, the norms, the graphs and the weights of a training of some steps."""
    accelerator = make_accelerator(precision)
    weights = Weights.of(model, precision)
    prepared, optimizer = accelerator.prepare(weights.model, build_optimizer(weights, 0.01, precision, name))
    train_step = TrainStep(accelerator, weights, prepared, optimizer, 1.0, True, objective=CrossEntropy(["O"]))
    assert train_step.graphs is None  # there is no GPU
    if kind is not None:
        train_step.use_graphs(kind(accelerator.device, [*weights.master.parameters(), *weights.model.parameters()]))
        train_step.graphs._is_on = is_on
    prepared.train()
    losses, norms = [], []
    for step in range(num_steps):
        torch.manual_seed(step)
        micro_batches = STEPS[step % len(STEPS)]
        for i, lengths in enumerate(micro_batches):
            batch = collator([feature(n, step) for n in lengths])
            losses.append(float(train_step.backward(batch, 1 / 40, is_last=i + 1 == len(micro_batches))))
        norms.append(float(train_step.update(step, 1e-3 / (1 + step))))
    assert all(p.grad is None for p in [*weights.master.parameters(), *weights.model.parameters()])
    assert int(train_step.first_bad) == -1
    return losses, norms, train_step.graphs, {n: p.detach().clone() for n, p in weights.master.named_parameters()}


@pytest.fixture
def model(make_model):
    return make_model("bert", hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)


@pytest.fixture
def by_cu_seqlens(monkeypatch):
    monkeypatch.setattr(attention, "_has_varlen", lambda *_: True)
    monkeypatch.setattr(attention, "_varlen_attention", flat)


def prepared(collator, model):
    prepare_model(model, collator)
    return collator


def test_recorded_steps_are_those_without_graphs_to_the_bit(
    model, wordpiece, by_cu_seqlens, make_model, recorded_graphs, caplog
):
    collator = prepared(Pack(wordpiece), model)
    other = make_model("bert", hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
    attention.set_packed_attention(other)
    losses, norms, graphs, weights = trained(model, collator, kind=recorded_graphs)
    assert caplog.messages == []
    names = ("input_ids", "position_ids")
    (update,) = [key for key in graphs._graphs if key[0] == "update"]
    assert all(update[1])
    assert set(graphs._graphs) == {
        update,
        (names, 24, 4, 128, True),  # a row of 24 that holds up to 2 sentences, the first of its step
        (names, 48, 5, 128, False),
        (names, 24, 4, 128, False),
        (names, 24, 5, 128, True),
        (names, 24, 3, 128, False),
    }
    same_losses, same_norms, none, same_weights = trained(other, collator, kind=recorded_graphs, is_on=False)
    assert len(none) == 0
    assert (losses, norms) == (same_losses, same_norms)
    assert all(torch.equal(weights[name], same_weights[name]) for name in weights)
    assert len(set(losses)) == len(losses)


def test_with_and_without_graphs_a_step_is_the_same_but_for_how_the_rates_are_rounded(
    model, wordpiece, by_cu_seqlens, make_model, recorded_graphs
):
    """Graphs find them in float32 tensors; without, a CPU's stay as they are."""
    collator = prepared(Pack(wordpiece), model)
    other = make_model("bert", hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
    attention.set_packed_attention(other)
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    losses, _, _, weights = trained(model, collator, kind=recorded_graphs, num_steps=4)
    plain_losses, _, none, plain_weights = trained(other, collator, num_steps=4)
    assert none is None
    # The rates differ by 2^-25. A master weight may then cross a rounding boundary of bf16, so a bf16 weight may differ
    # in its last place, by 2^-8, and so may activations and the loss.
    assert losses == pytest.approx(plain_losses, rel=2**-6)
    # Adam divides a gradient by its size: where bf16's rounding decides the sign, an update of size lr goes the other
    # way. So in the worst case weights are apart by the sum of 2 lr over the steps, but only few are.
    rates = sum(1e-3 / (1 + step) for step in range(4))
    assert max(float((weights[n] - plain_weights[n]).abs().max()) for n in weights) <= 2 * rates
    moved = torch.cat([(weights[n] - start[n]).flatten() for n in weights])
    apart = torch.cat([(weights[n] - plain_weights[n]).flatten() for n in weights])
    assert float(apart.norm() / moved.norm()) < 2**-4


def test_a_model_that_needs_the_lengths_is_trained_without_graphs(
    model, wordpiece, make_model, recorded_graphs, caplog
):
    """The shapes of length buckets, which a CPU uses, change with each batch; a recording would keep those of one."""
    collator = prepared(Pack(wordpiece), model)
    other = make_model("bert", hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
    attention.set_packed_attention(other)
    losses, norms, graphs, weights = trained(model, collator, kind=recorded_graphs)
    assert len(graphs) == 0
    (line,) = caplog.messages
    assert "NotImplementedError: length buckets of sequences whose lengths only the device knows" in line
    same_losses, same_norms, _, same_weights = trained(other, collator, kind=recorded_graphs, is_on=False)
    assert (losses, norms) == (same_losses, same_norms)
    assert all(torch.equal(weights[name], same_weights[name]) for name in weights)


def test_of_an_optimizer_that_needs_the_norm_on_the_host_only_gradients_are_recorded(
    model, wordpiece, by_cu_seqlens, make_model, recorded_graphs, caplog
):
    collator = prepared(Pack(wordpiece), model)
    other = make_model("bert", hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
    attention.set_packed_attention(other)
    losses, norms, graphs, weights = trained(model, collator, kind=recorded_graphs, name="torch.optim.NAdam")
    assert caplog.messages == []
    assert len(graphs) == 5
    assert all(key[0] != "update" for key in graphs._graphs)
    same_losses, same_norms, none, same_weights = trained(other, collator, name="torch.optim.NAdam")
    assert none is None
    assert (losses, norms) == (same_losses, same_norms)
    assert all(torch.equal(weights[name], same_weights[name]) for name in weights)


def test_padded_rows_are_not_recorded_but_their_update_is(model, wordpiece, recorded_graphs):
    _, _, graphs, _ = trained(model, Pad(wordpiece), kind=recorded_graphs)
    assert [key[0] for key in graphs._graphs] == ["update"]


def test_an_update_is_recorded_anew_where_other_parameters_have_a_gradient(
    model, wordpiece, by_cu_seqlens, recorded_graphs, monkeypatch
):
    """A graph would move the parameters of the step that it recorded."""
    layer = model.bert.encoder.layer[1]
    forward, calls = type(layer).forward, []

    def every_other(self, hidden_states, *arguments, **options):
        if self.is_second:
            calls.append(self)
            if len(calls) % 4 in (1, 2):  # two micro-batches a step
                return hidden_states
        return forward(self, hidden_states, *arguments, **options)

    for one in model.bert.encoder.layer:
        one.is_second = one is layer
    monkeypatch.setattr(type(layer), "forward", every_other)
    _, _, graphs, _ = trained(model, Pad(wordpiece), kind=recorded_graphs)
    updates = [key[1] for key in graphs._graphs if key[0] == "update"]
    assert sorted(map(all, updates)) == [False, True]


@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_micro_batches_add_up(make_model, wordpiece, precision):
    """Also where the gradients are the model's own."""
    whole, parts = (make_model("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0) for _ in range(2))
    gradients = []
    for model, split in ((whole, [[3, 17, 20, 9]]), (parts, [[3, 17], [20], [9]])):
        accelerator = make_accelerator(precision)
        weights = Weights.of(model, precision)
        optimizer = build_optimizer(weights, 0.01, precision)
        train_step = TrainStep(accelerator, weights, weights.model, optimizer, objective=CrossEntropy(["O"]))
        for i, lengths in enumerate(split):
            batch = Pad(wordpiece)([feature(n, 0) for n in lengths])
            train_step.backward(batch, 0.5, is_last=i + 1 == len(split))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    apart = float((gradients[0] - gradients[1]).norm() / gradients[0].norm())
    assert apart < (1e-2 if precision == "bf16" else 1e-6)


def test_the_first_step_that_is_not_finite_is_told_and_changes_nothing(make_model, wordpiece):
    model = make_model("bert")
    accelerator = make_accelerator("no")
    weights = Weights.of(model, "no")
    train_step = TrainStep(
        accelerator, weights, model, build_optimizer(weights, 0.01, "no"), 1.0, objective=CrossEntropy(["O"])
    )
    batch = Pad(wordpiece)([feature(9, 0)])
    before = model.classifier.weight.detach().clone()
    for step, scale in enumerate((float("nan"), float("inf"))):
        train_step.backward(batch, scale, is_last=True)
        train_step.update(3 + step, 0.1)
    assert int(train_step.first_bad) == 3
    assert torch.equal(model.classifier.weight, before)


def test_scalars_are_fetched_as_they_are():
    values = [torch.tensor(-1), torch.tensor(0.1), torch.tensor(2.5, dtype=torch.bfloat16)]
    assert fetching(values)() == [-1.0, float(np.float32(0.1)), 2.5]


def test_a_trace_waits_for_graphs_as_far_as_the_run_goes(make_model, recorded_graphs):
    model = make_model("bert")
    accelerator = make_accelerator("bf16")
    weights = Weights.of(model, "bf16")
    train_step = TrainStep(
        accelerator, weights, model, build_optimizer(weights, 0.01, "bf16"), objective=CrossEntropy(["O"])
    )
    assert (train_step.num_warmup_steps(1000), train_step.timing) == (0, {})
    train_step.use_graphs(recorded_graphs(accelerator.device, []))
    assert [train_step.num_warmup_steps(n) for n in (1000, 60, 2)] == [WARMUP_STEPS, 60, 2]
    assert train_step.timing == {"capture_seconds": 0.0}
