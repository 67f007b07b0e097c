"""Attention without padding: the layout of the stacks, and the same values and gradients as sentence by sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nerloop import attention
from nerloop.attention import Layout, attend, laid_out
from nerloop.collators.pack import Pack
from nerloop.model import logits_of
from nerloop.types import Feature

LENGTHS = [3, 40, 1, 38, 17, 12, 16, 64]


def test_sentences_of_about_one_length_share_a_stack():
    layout = Layout.of(LENGTHS)
    assert [(s.num_sentences, s.length) for s in layout.stacks] == [(1, 64), (2, 40), (2, 17), (3, 12)]
    assert [(s.start, s.stop) for s in layout.stacks] == [(0, 64), (64, 144), (144, 178), (178, 214)]


def test_every_subword_has_one_cell_and_finds_back():
    layout = Layout.of(LENGTHS)
    assert len(layout.cells) == sum(LENGTHS)
    assert len(set(layout.cells.tolist())) == sum(LENGTHS)
    assert layout.subwords[layout.cells].tolist() == list(range(sum(LENGTHS)))


def test_padding_is_masked_and_nothing_else():
    layout = Layout.of([3, 2, 3])
    (stack,) = layout.stacks
    assert (stack.mask[:, 0, 0] == 0).int().tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 0]]
    assert layout.subwords.tolist() == [0, 1, 2, 5, 6, 7, 3, 4, 3]
    assert Layout.of([3, 3]).stacks[0].mask is None


class Module(torch.nn.Module):
    pass


def attended(lengths, dropout=0.0, window=None, training=False, kv_heads=2):
    """Return query, key, value with gradients on, and the output in a layout of these lengths."""
    torch.manual_seed(0)
    total = sum(lengths)
    query, key, value = (
        torch.randn(1, heads, total, 4, dtype=torch.float64, requires_grad=True) for heads in (2, kv_heads, kv_heads)
    )
    with laid_out(Layout.of(lengths)):
        output, _ = attend(
            Module().train(training), query, key, value, None, scaling=0.5, dropout=dropout, sliding_window=window
        )
    return (query, key, value), output


def expected(tensors, lengths, window=None):
    """Return the output computed sentence by sentence, (1, subwords, heads, width)."""
    parts, start = [], 0
    for n in lengths:
        q, k, v = (x[:, :, start : start + n] for x in tensors)
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        scores = 0.5 * q @ k.transpose(-1, -2)
        at = torch.arange(n)
        if window is not None:
            scores = scores.masked_fill((at[:, None] - at).abs() >= window, -torch.inf)
        parts.append((scores.softmax(-1) @ v).transpose(1, 2))
        start += n
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize(("window", "kv_heads"), [(None, 2), (None, 1), (5, 2), (1, 2), (20, 2)])
def test_values_and_gradients_are_those_of_each_sentence_alone(window, kv_heads):
    tensors, output = attended(LENGTHS, window=window, kv_heads=kv_heads)
    weights = torch.randn_like(output)
    found = torch.autograd.grad((output * weights).sum(), tensors)
    alone = expected(tensors, LENGTHS, window)
    wanted = torch.autograd.grad((alone * weights).sum(), tensors)
    assert output.shape == (1, sum(LENGTHS), 2, 4)
    assert float((output - alone).detach().abs().max()) < 1e-14
    assert all(float((a - b).abs().max()) < 1e-13 for a, b in zip(found, wanted, strict=True))


def test_dropout_is_of_training_alone_and_keeps_the_expectation():
    lengths = [30, 31, 7]
    assert torch.equal(attended(lengths, dropout=0.5)[1], attended(lengths)[1])
    tensors, _ = attended(lengths)
    with laid_out(Layout.of(lengths)):
        outputs = [attend(Module().train(), *tensors, None, scaling=0.5, dropout=0.3)[0] for _ in range(800)]
    assert not torch.equal(outputs[0], outputs[1])
    mean = torch.stack(outputs).mean(0)
    assert float((mean - expected(tensors, lengths)).detach().abs().max()) < 0.15


def test_what_it_can_not_do_it_refuses():
    query = torch.zeros(1, 1, 3, 2)
    for option in ({"position_bias": query}, {"softcap": 1.0}, {"is_causal": True}):
        with pytest.raises(NotImplementedError, match="soft cap"), laid_out(Layout.of([3])):
            attend(Module(), query, query, query, None, **option)


def features(*lengths: int) -> list[Feature]:
    return [Feature(np.arange(5, 5 + n), np.zeros(n, np.int64), np.arange(n), 0, (0,), (n,)) for n in lengths]


def test_a_model_whose_attention_is_another_one_is_not_trusted(make_model, wordpiece):
    model, batch = make_model("bert"), Pack(wordpiece)(features(3, 4))
    with pytest.raises(NotImplementedError, match="is not the one that is registered as nerloop_unpadded"):
        logits_of(model, batch)
    attention.use(model)
    assert logits_of(model, batch).shape == (1, 7, 5)


def test_without_a_layout_a_model_attends_as_ever(make_model):
    model = make_model("bert")
    inputs = {"input_ids": torch.tensor([[7, 8, 9], [7, 8, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
    before = model(**inputs).logits
    attention.use(model)
    assert torch.equal(model(**inputs).logits, before)


def test_a_saved_model_says_nothing_of_it(make_model, tmp_path):
    model = make_model("bert")
    attention.use(model)
    model.save_pretrained(str(tmp_path))
    assert attention.NAME not in (tmp_path / "config.json").read_text()


# The kernel for all sentences at once is CUDA's; that the trial can tell right from wrong shows anywhere.


@pytest.fixture(autouse=True)
def _forget_trials():
    attention.can_attend_flat.cache_clear()
    yield
    attention.can_attend_flat.cache_clear()


def flat(q, k, v, layout, scaling, dropout, *, borders=None):
    parts = [x.split(borders or layout.borders.diff().tolist()) for x in (q, k, v)]
    attended = [
        torch.nn.functional.scaled_dot_product_attention(*(x.transpose(0, 1) for x in qkv), scale=scaling)
        for qkv in zip(*parts, strict=True)
    ]
    return torch.cat([x.transpose(0, 1) for x in attended])


def test_a_cpu_has_no_kernel_for_all_sentences_at_once():
    assert attention.can_attend_flat(torch.device("cpu"), torch.bfloat16, 8) is False


def test_a_kernel_that_attends_within_sentences_is_used(monkeypatch):
    monkeypatch.setattr(attention, "_attend_flat", flat)
    assert attention.can_attend_flat(torch.device("cpu"), torch.bfloat16, 8) is True


def test_a_kernel_that_attends_across_sentences_is_not(monkeypatch):
    monkeypatch.setattr(attention, "_attend_flat", lambda *a: flat(*a, borders=[60]))
    assert attention.can_attend_flat(torch.device("cpu"), torch.bfloat16, 8) is False


def test_a_kernel_without_a_gradient_is_not(monkeypatch):
    monkeypatch.setattr(attention, "_attend_flat", lambda *a: flat(*a).detach())
    assert attention.can_attend_flat(torch.device("cpu"), torch.bfloat16, 8) is False


def test_borders_are_where_sentences_start_and_the_last_ends():
    layout = Layout.of([3, 2, 3])
    assert (layout.borders.tolist(), layout.longest) == ([0, 3, 5, 8], 3)
