"""Attention without padding: the layout of the stacks, and the same values and gradients as sentence by sentence."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from nerloop.batching.shapes import round_up_size
from nerloop.collators.pack import Pack
from nerloop.model import packing as attention
from nerloop.model.compat import choose_collator
from nerloop.model.cu_seqlens import PackedLayout, rounded_cu_seqlens
from nerloop.model.forward import logits_of
from nerloop.model.packing import attention_forward, packed_attention
from nerloop.types import Feature

LENGTHS = [3, 40, 1, 38, 17, 12, 16, 64]


def test_sentences_share_a_stack_while_little_is_computed_in_vain():
    layout = PackedLayout.of(LENGTHS)
    assert [(s.num_sequences, s.length) for s in layout.buckets] == [(2, 64), (4, 40), (2, 8)]
    assert [(s.start, s.num_cells) for s in layout.buckets] == [(0, 128), (128, 160), (288, 16)]


@pytest.mark.parametrize(
    ("sizes", "per_octave", "least", "expected"),
    [
        ([1, 2, 3, 4, 5, 7, 8, 9, 11, 17, 33], 4, 1, [1, 2, 3, 4, 5, 7, 8, 10, 12, 20, 40]),
        ([1, 8, 9, 64, 65, 128, 129], 8, 8, [8, 8, 16, 64, 72, 128, 144]),
        ([100, 129, 257, 1000], 16, 8, [104, 136, 272, 1024]),
    ],
)
def test_there_are_round_up_size(sizes, per_octave, least, expected):
    assert [round_up_size(n, per_octave, least) for n in sizes] == expected


def test_every_subword_has_one_cell_and_finds_back():
    layout = PackedLayout.of(LENGTHS, sum(LENGTHS) + 5)
    assert sorted(layout.subwords[layout.subwords >= 0].tolist()) == list(range(sum(LENGTHS)))
    index = layout.gather_index(3)
    real = index.to_row[: index.num_real]
    assert index.to_buckets[real].tolist() == list(range(3 * sum(LENGTHS)))
    assert len(index.to_row) == 3 * (sum(LENGTHS) + 5)
    assert sorted([*real.tolist(), *index.padding.tolist()]) == list(range(3 * len(layout.subwords)))


def test_heads_lie_one_after_the_other_in_a_stack():
    index = PackedLayout.of([2, 1]).gather_index(2)
    filled = index.to_buckets.view(2, 2, 8)  # sentence, head, place
    assert filled[0, :, :2].tolist() == [[0, 2], [1, 3]]
    assert filled[1, :, :1].tolist() == [[4], [5]]


def test_padding_is_masked_and_nothing_else():
    layout = PackedLayout.of([3, 2, 3, 1, 1])
    (stack,) = layout.buckets
    seen = (stack.mask[:, 0, 0] == 0).int()
    assert seen[:, :4].tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert int(seen[:, 4:].sum()) == 0
    assert layout.subwords.view(5, 8)[:, :3].tolist() == [[0, 1, 2], [5, 6, 7], [3, 4, -1], [8, -1, -1], [9, -1, -1]]
    assert PackedLayout.of([8, 8]).buckets[0].mask is None


def test_a_row_of_no_sentence_sees_all_of_itself():
    (stack,) = PackedLayout.of([2] * 9).buckets
    assert (stack.num_sequences, stack.length) == (10, 8)
    assert (stack.mask[9] == 0).all()


class Module(torch.nn.Module):
    pass


def attended(lengths, dropout=0.0, window=None, training=False, kv_heads=2):
    """Return query, key, value with gradients on, and the output in a layout of these lengths."""
    torch.manual_seed(0)
    total = sum(lengths)
    query, key, value = (
        torch.randn(1, heads, total, 4, dtype=torch.float64, requires_grad=True) for heads in (2, kv_heads, kv_heads)
    )
    with packed_attention(PackedLayout.of(lengths)):
        output, _ = attention_forward(
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


def test_a_tail_changes_no_sentence_and_gets_no_gradient():
    torch.manual_seed(0)
    lengths, width = [3, 17, 1], 24
    tensors = [torch.randn(1, 2, width, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    with packed_attention(PackedLayout.of(lengths, width)):
        output, _ = attention_forward(Module().train(False), *tensors, None, scaling=0.5)
    assert float((output[:, :21] - expected(tensors, lengths)).detach().abs().max()) < 1e-14
    # However its output is made use of: it is of no sentence.
    gradients = torch.autograd.grad((output * torch.randn_like(output)).sum(), tensors)
    assert [float(g[:, :, 21:].abs().max()) for g in gradients] == [0.0] * 3


@pytest.mark.parametrize("window", [None, 5])
def test_with_dropout_the_gradient_is_that_of_the_output(window, monkeypatch):
    """What is kept is drawn anew with each call; here it is the same, and the function is one that can be checked."""
    masks = {}

    def keep(x, p):
        generator = torch.Generator().manual_seed(x.numel())
        drawn = torch.rand(x.shape, generator=generator) >= p
        return masks.setdefault(x.shape, drawn.to(x.dtype) / (1 - p))

    monkeypatch.setattr(attention, "dropout_mask", keep)
    lengths, module = [3, 9, 1, 4], Module().train()
    torch.manual_seed(0)
    tensors = [torch.randn(1, 2, sum(lengths), 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def output(*tensors):
        with packed_attention(PackedLayout.of(lengths)):
            return attention_forward(module, *tensors, None, scaling=0.7, dropout=0.25, sliding_window=window)[0]

    assert torch.autograd.gradcheck(output, tensors)


def test_dropout_is_of_training_alone_and_keeps_the_expectation():
    lengths = [30, 31, 7]
    assert torch.equal(attended(lengths, dropout=0.5)[1], attended(lengths)[1])
    tensors, _ = attended(lengths)
    with packed_attention(PackedLayout.of(lengths)):
        outputs = [attention_forward(Module().train(), *tensors, None, scaling=0.5, dropout=0.3)[0] for _ in range(800)]
    assert not torch.equal(outputs[0], outputs[1])
    mean = torch.stack(outputs).mean(0)
    assert float((mean - expected(tensors, lengths)).detach().abs().max()) < 0.15


def test_what_it_can_not_do_it_refuses():
    query = torch.zeros(1, 1, 3, 2)
    for option in ({"position_bias": query}, {"softcap": 1.0}, {"is_causal": True}):
        with pytest.raises(NotImplementedError, match="soft cap"), packed_attention(PackedLayout.of([3])):
            attention_forward(Module(), query, query, query, None, **option)


def test_two_threads_attend_each_within_its_own_layout():
    torch.manual_seed(0)
    query = torch.randn(1, 2, 12, 4, dtype=torch.float64)
    both_are_inside, found = threading.Barrier(2, timeout=60), {}

    def run(name, lengths):
        with packed_attention(PackedLayout.of(lengths)):
            both_are_inside.wait()
            found[name] = attention_forward(Module().eval(), query, query, query, None, scaling=0.5)[0]
            both_are_inside.wait()

    layouts = {"a": [3, 9], "b": [7, 4, 1]}
    threads = [threading.Thread(target=run, args=item) for item in layouts.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, lengths in layouts.items():
        assert float((found[name] - expected([query] * 3, lengths)).abs().max()) < 1e-14


def test_preparing_for_block_masks_twice_adds_no_second_hook(make_model):
    model = make_model("deberta-v2")
    for _ in range(2):
        attention.keep_block_masks_from_embeddings(model)
    hooks = [len(m._forward_pre_hooks) for m in model.modules() if type(m).__name__.endswith("Embeddings")]
    assert hooks == [1]


def features(*lengths: int) -> list[Feature]:
    return [Feature(np.arange(5, 5 + n), np.zeros(n, np.int64), np.arange(n), 0, (0,), (n,)) for n in lengths]


def test_a_model_whose_attention_is_another_one_is_not_trusted(make_model, wordpiece):
    model, batch = make_model("bert"), Pack(wordpiece)(features(3, 4))
    with pytest.raises(NotImplementedError, match="is not the one that is registered as nerloop_unpadded"):
        logits_of(model, batch)
    attention.set_packed_attention(model)
    assert logits_of(model, batch).shape == (1, 8, 5)


def test_a_model_that_runs_layers_again_in_the_backward_is_packed_by_a_mask(make_model, wordpiece):
    model = make_model("bert", gradient_checkpointing=True)
    collator, _ = choose_collator(Pack(wordpiece), model, wordpiece)
    assert collator.layout == "added_mask"
    batch = collator(features(3, 4))
    logits_of(model.train(), batch).sum().backward()


def test_without_a_layout_a_model_attends_as_ever(make_model):
    model = make_model("bert")
    inputs = {"input_ids": torch.tensor([[7, 8, 9], [7, 8, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
    before = model(**inputs).logits
    attention.set_packed_attention(model)
    assert torch.equal(model(**inputs).logits, before)


def test_a_saved_model_says_nothing_of_it(make_model, tmp_path):
    model = make_model("bert")
    attention.set_packed_attention(model)
    model.save_pretrained(str(tmp_path))
    assert attention.NAME not in (tmp_path / "config.json").read_text()


# The kernel for all sentences at once is CUDA's; that the trial can tell right from wrong shows anywhere.


@pytest.fixture(autouse=True)
def _forget_trials():
    attention.can_use_varlen.cache_clear()
    yield
    attention.can_use_varlen.cache_clear()


def flat(q, k, v, layout, scaling, dropout, window=None, *, cu_seqlens=None):
    parts = [x.split(cu_seqlens or layout.cu_seqlens.diff().tolist()) for x in (q, k, v)]
    attended = []
    for qkv in zip(*parts, strict=True):
        at = torch.arange(len(qkv[0]))
        is_seen = (at[:, None] - at).abs() < (window or len(at) + 1)
        heads = (x.transpose(0, 1) for x in qkv)
        attended.append(torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=is_seen, scale=scaling))
    return torch.cat([x.transpose(0, 1) for x in attended])


def test_a_cpu_has_no_kernel_for_all_sentences_at_once():
    assert attention.can_use_varlen(torch.device("cpu"), torch.bfloat16, 8) is False


def test_a_kernel_that_attends_within_sentences_is_used(monkeypatch):
    monkeypatch.setattr(attention, "_varlen_attention", flat)
    assert attention.can_use_varlen(torch.device("cpu"), torch.bfloat16, 8) is True


def test_a_kernel_that_attends_across_sentences_is_not(monkeypatch):
    monkeypatch.setattr(attention, "_varlen_attention", lambda *a: flat(*a, cu_seqlens=[70]))
    assert attention.can_use_varlen(torch.device("cpu"), torch.bfloat16, 8) is False


def test_the_trial_of_a_kernel_draws_nothing_from_the_run(monkeypatch):
    def drawing(*arguments):
        torch.rand(3)
        return flat(*arguments)

    monkeypatch.setattr(attention, "_varlen_attention", drawing)
    before = torch.random.get_rng_state()
    assert attention.can_use_varlen(torch.device("cpu"), torch.bfloat16, 8) is True
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_kernel_without_a_gradient_is_not(monkeypatch):
    monkeypatch.setattr(attention, "_varlen_attention", lambda *a: flat(*a).detach())
    assert attention.can_use_varlen(torch.device("cpu"), torch.bfloat16, 8) is False


def test_a_kernel_that_sees_further_than_a_window_is_used_without_one(monkeypatch):
    monkeypatch.setattr(attention, "_varlen_attention", lambda *a: flat(*a[:6]))
    assert attention.can_use_varlen(torch.device("cpu"), torch.bfloat16, 8, is_windowed=True) is False
    assert attention.can_use_varlen(torch.device("cpu"), torch.bfloat16, 8) is True
    monkeypatch.setattr(attention, "_varlen_attention", flat)
    attention.can_use_varlen.cache_clear()
    assert attention.can_use_varlen(torch.device("cpu"), torch.bfloat16, 8, is_windowed=True) is True


@pytest.mark.parametrize("is_windowed", [False, True])
def test_the_trial_of_a_kernel_can_be_made_by_an_evaluation(monkeypatch, is_windowed):
    monkeypatch.setattr(attention, "_varlen_attention", flat)
    with torch.inference_mode():
        assert attention.can_use_varlen(torch.device("cpu"), torch.bfloat16, 8, is_windowed=is_windowed) is True


@pytest.mark.parametrize(
    ("lengths", "width", "cu_seqlens", "longest"),
    [
        ([3, 2], 5, [0, 3, 5, 5], 128),
        ([3, 2], 8, [0, 3, 5, 8], 128),
        ([5] * 8, 48, [0, 5, 10, 15, 20, 25, 30, 35, 40, 48, 48], 128),
        ([5] * 9, 48, [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 48], 128),
        ([129], 136, [0, 129, 136], 256),
        ([1], 200, [0, 1, 200], 256),
        ([300, 7], 384, [0, 300, 307, 384], 512),
    ],
)
def test_there_are_few_numbers_of_borders_and_few_bounds_of_lengths(lengths, width, cu_seqlens, longest):
    found, bound = rounded_cu_seqlens(lengths, width)
    assert (found.tolist(), bound, found.dtype) == (cu_seqlens, longest, torch.int32)


def test_sentences_of_no_subword_change_no_output():
    lengths, width = [3, 17, 1, 4, 9, 2, 5, 8], 56
    torch.manual_seed(0)
    q, k, v = torch.randn(3, width, 2, 4, dtype=torch.float64)
    plain = PackedLayout.of(lengths, width)
    few = PackedLayout(plain.lengths, width, *rounded_cu_seqlens(lengths, width))
    assert (len(plain.cu_seqlens), len(few.cu_seqlens)) == (10, 11)
    assert torch.equal(flat(q, k, v, few, 0.5, 0.0), flat(q, k, v, plain, 0.5, 0.0))


def test_without_lengths_there_are_no_stacks():
    layout = PackedLayout(np.zeros(0, np.int64), 8, torch.tensor([0, 3, 8], dtype=torch.int32), 128)
    with pytest.raises(NotImplementedError, match="lengths"):
        _ = layout.buckets


def test_borders_are_where_sentences_start_and_the_last_ends():
    layout = PackedLayout.of([3, 2, 3])
    assert (layout.cu_seqlens.tolist(), layout.max_seqlen) == ([0, 3, 5, 8], 3)
