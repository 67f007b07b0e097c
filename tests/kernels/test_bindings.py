"""The kernels for CPUs against PyTorch in float64: values, gradients, dropout, any number of threads, no compiler."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from nerloop.kernels import bindings as kernels
from nerloop.kernels import compile as compiling
from nerloop.kernels.bindings import Attention, DropoutSpec

pytestmark = pytest.mark.usefixtures("with_kernels")
TYPES = [torch.float32, torch.bfloat16]
NOTHING = DropoutSpec(0, 0)
EPSILON = {torch.float32: 2e-6, torch.bfloat16: 6e-3}


def is_close(found, wanted, dtype):
    """Whether all is as near as the type allows, relative to the largest."""
    return float((found.double() - wanted.double()).abs().max()) <= EPSILON[dtype] * float(wanted.abs().max())


@pytest.fixture
def threads():
    """Set the number of threads, and set it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", TYPES)
def test_with_a_compiler_there_are_kernels(dtype):
    """What else the tests of kernels skip for, this one fails for."""
    assert kernels.is_supported(torch.ones(1, dtype=dtype))


@pytest.mark.parametrize("dtype", TYPES)
def test_which_tensors_there_are_kernels_for(dtype):
    x = torch.ones(3, dtype=dtype)
    assert kernels.is_supported(x, x)
    assert not kernels.is_supported(x, x.half())
    assert not kernels.is_supported(x.double())
    assert not kernels.is_supported(x.to("meta"))
    assert not kernels.is_supported(x, x.to("meta"))


def test_gelu_of_every_bf16_number_is_the_nearest_or_next_to_it():
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    every = every[every.isfinite()]
    found, slope = kernels.gelu(every)
    x = every.double().requires_grad_()
    wanted = functional.gelu(x)
    (wanted_slope,) = torch.autograd.grad(wanted.sum(), x)
    assert len(every) == 65280
    # A unit in the last place, or the 1.5e-7 that the formula for the error function is right to.
    assert bool(((found.double() - wanted).abs() <= wanted.abs() / 128 + every.double().abs() * 2e-7 + 1e-38).all())
    assert bool(((slope.double() - wanted_slope).abs() <= wanted_slope.abs() / 128 + 1e-6).all())


def test_gelu_in_float32_and_its_slope():
    x = torch.linspace(-9, 9, 10_001)
    found, slope = kernels.gelu(x)
    wide = x.double().requires_grad_()
    wanted = functional.gelu(wide)
    (wanted_slope,) = torch.autograd.grad(wanted.sum(), wide)
    assert float((found - wanted).detach().abs().max()) < 1e-6
    assert float((slope - wanted_slope).abs().max()) < 1e-6


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 2), (3, 5), (1, 7, 384), (2, 40, 33)])
def test_add_and_norm_and_its_gradients(shape, dtype):
    torch.manual_seed(0)
    x, residual, of_y = (torch.randn(shape).to(dtype) for _ in range(3))
    weight, bias = (torch.randn(shape[-1]).to(dtype) for _ in range(2))
    y, total, statistics = kernels.add_and_norm(x, residual, weight, bias, 1e-5, NOTHING)
    assert torch.equal(total, x + residual)  # rounded as PyTorch rounds, ties to even
    wide = [t.double().requires_grad_() for t in (total, weight, bias)]
    wanted = functional.layer_norm(wide[0], shape[-1:], *wide[1:], 1e-5)
    gradients = torch.autograd.grad((wanted * of_y).sum(), wide)
    found = kernels.add_and_norm_backward(of_y, total, statistics, weight, NOTHING)
    assert is_close(y, wanted.detach(), dtype)
    assert torch.equal(found[0], found[1])  # x and residual are added: their gradients are one
    scale = max(float(statistics[:, 1].max()), float(gradients[0].abs().max()))  # rounding grows with 1 / deviation
    assert float((found[0].double() - gradients[0]).abs().max()) <= EPSILON[dtype] * scale
    assert is_close(found[2], gradients[1], dtype)
    assert is_close(found[3], gradients[2], dtype)


def test_what_is_added_is_dropped_alike_in_value_and_gradient():
    torch.manual_seed(0)
    x, residual, of_y = torch.rand(50, 64) + 1, torch.zeros(50, 64), torch.randn(50, 64)
    weight, bias = torch.ones(64), torch.zeros(64)
    spec = DropoutSpec.of(0.25)
    _, total, statistics = kernels.add_and_norm(x, residual, weight, bias, 1e-5, spec)
    is_kept = total != 0
    assert float(is_kept.double().mean()) == pytest.approx(0.75, abs=0.03)
    assert torch.allclose(total[is_kept], x[is_kept] / 0.75)
    of_x, of_residual, _, _ = kernels.add_and_norm_backward(of_y, total, statistics, weight, spec)
    assert torch.equal(of_x != 0, is_kept)
    assert torch.allclose(of_x[is_kept], of_residual[is_kept] / 0.75)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_and_the_scale_of_the_rest(p, dtype):
    torch.manual_seed(0)
    y = kernels.dropout(torch.ones(1000, 1001, dtype=dtype), DropoutSpec.of(p))
    assert y.dtype == dtype
    assert float((y == 0).double().mean()) == pytest.approx(p, abs=0.002)  # 4 standard deviations
    assert float(y.max()) == pytest.approx(1 / (1 - p), rel=0.005 if dtype == torch.bfloat16 else 1e-6)
    assert y.unique().numel() == 2


def test_draws_do_not_follow_each_other_along_rows_or_columns_or_seeds():
    def drawn(seed, shape=(500, 400)):
        kept = (kernels.dropout(torch.ones(shape), DropoutSpec(round(0.3 * 2**32), seed)) > 0).double()
        return kept - kept.mean()

    def correlation(a, b):
        return float((a * b).mean() / (a.std() * b.std()))

    one = drawn(12345)
    pairs = [(one[:, 1:], one[:, :-1]), (one[1:], one[:-1]), (one, drawn(12346)), (one, drawn(12345 + 2**32))]
    pairs += [(one[:, 16:], one[:, :-16]), (one[1:, 1:], one[:-1, :-1])]
    assert max(abs(correlation(a, b)) for a, b in pairs) < 0.011  # 5 standard deviations
    assert torch.allclose(one.mean(0), torch.zeros(400, dtype=torch.float64), atol=0.1)
    assert torch.allclose(one.mean(1), torch.zeros(500, dtype=torch.float64), atol=0.1)


def test_pytorchs_generator_decides_what_is_dropped():
    seeds = []
    for number in (3, 3, 4):
        torch.manual_seed(number)
        seeds.append(DropoutSpec.of(0.1).seed)
    assert seeds[0] == seeds[1] != seeds[2]
    state = torch.get_rng_state()
    assert DropoutSpec.of(0.0) == (0, 0)
    assert torch.equal(torch.get_rng_state(), state)


def heads_of(lengths, width, dtype, heads=3, extra=0, seed=0):
    """Return query, key, value and a gradient of the output, (heads, subwords, width), subwords one after the other."""
    torch.manual_seed(seed)
    shape = (sum(lengths) + extra, heads, width)
    return [torch.randn(shape).to(dtype).transpose(0, 1) for _ in range(4)]


def task_of(lengths, scaling=0.3, window=None, spec=NOTHING):
    cu_seqlens = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32)
    return Attention(cu_seqlens, len(lengths), sum(lengths), max(lengths), scaling, window, spec)


def attended_alone(q, k, v, lengths, scaling=0.3, window=None, factors=None):
    """Return the output computed sentence by sentence, (heads, subwords, width)."""
    parts, start = [], 0
    for number, n in enumerate(lengths):
        a, b, c = (x[:, start : start + n] for x in (q, k, v))
        scores = scaling * a @ b.transpose(1, 2)
        at = torch.arange(n)
        if window is not None:
            scores = scores.masked_fill((at[:, None] - at).abs() >= window, -torch.inf)
        shares = scores.softmax(-1)
        parts.append((shares if factors is None else shares * factors[number]) @ c)
        start += n
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("lengths", "width", "window"),
    [([3, 40, 1, 17], 32, None), ([130, 64, 65], 64, None), ([5, 70, 2], 8, None), ([9], 24, None), ([70, 20], 16, 9),
     ([4, 8], 16, 1), ([3, 90], 16, 1000)],
)  # fmt: skip
def test_attention_and_its_gradients_are_those_of_each_sentence_alone(lengths, width, window, dtype):
    *heads, of_output = heads_of(lengths, width, dtype)
    task = task_of(lengths, window=window)
    output, statistics = task.forward(*heads, with_gradient=True)
    wide = [x.double().requires_grad_() for x in heads]
    wanted = attended_alone(*wide, lengths, window=window)
    gradients = torch.autograd.grad((wanted * of_output).sum(), wide)
    assert output.shape == of_output.shape
    assert is_close(output, wanted.detach(), dtype)
    for found, gradient in zip(task.backward(*heads, statistics, of_output), gradients, strict=True):
        assert is_close(found, gradient, dtype)


def test_attention_drops_shares_and_the_gradient_knows_which():
    lengths, p = [40, 24, 70], 0.3
    q, k, _, _ = heads_of(lengths, 80, torch.float32)
    task = task_of(lengths, spec=DropoutSpec.of(p))
    # With unit vectors for values the output is the shares themselves, those that are dropped being 0.
    ones = torch.cat([torch.eye(80)[:n] for n in lengths])[None].repeat(3, 1, 1)
    output, _ = task.forward(q, k, ones, with_gradient=True)
    factors, start = [], 0
    for n in lengths:
        factors.append((output[:, start : start + n, :n] != 0).double() / (1 - p))
        start += n
    is_dropped = torch.cat([f.flatten() for f in factors]) == 0
    assert float(is_dropped.double().mean()) == pytest.approx(p, abs=0.01)
    *heads, of_output = heads_of(lengths, 32, torch.float32, seed=1)
    q, k = q[..., :32], k[..., :32]
    output, statistics = task.forward(q, k, heads[2], with_gradient=True)
    wide = [x.double().requires_grad_() for x in (q, k, heads[2])]
    wanted = attended_alone(*wide, lengths, factors=factors)
    gradients = torch.autograd.grad((wanted * of_output).sum(), wide)
    assert is_close(output, wanted.detach(), torch.float32)
    for found, gradient in zip(task.backward(q, k, heads[2], statistics, of_output), gradients, strict=True):
        assert is_close(found, gradient, torch.float32)


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_scores_far_from_zero_do_not_overflow_or_vanish(shift):
    lengths = [5, 30]
    q, k, v, of_output = heads_of(lengths, 16, torch.float32)
    q, k = q.clone(), k.clone()
    q[..., 0], k[..., 0] = 1.0, shift
    task = task_of(lengths, scaling=1.0)
    output, statistics = task.forward(q, k, v, with_gradient=True)
    wide = [x.double() for x in (q, k, v)]
    assert float((output - attended_alone(*wide, lengths, scaling=1.0)).abs().max()) < 0.01  # scores are right to 1e-3
    assert all(bool(g.isfinite().all()) for g in task.backward(q, k, v, statistics, of_output))


def test_behind_the_last_sentence_output_and_gradients_are_zero():
    lengths = [3, 9]
    q, k, v, of_output = heads_of(lengths, 16, torch.float32, extra=5)
    task = task_of(lengths)
    output, statistics = task.forward(q, k, v, with_gradient=True)
    found = [output, *task.backward(q, k, v, statistics, of_output)]
    assert all(x.shape == (3, 17, 16) for x in found)
    assert all(not x[:, 12:].any() and x[:, :12].all() for x in found)


def test_heads_may_lie_in_any_order_in_memory():
    lengths = [3, 20]
    *heads, of_output = heads_of(lengths, 16, torch.float32)
    packed = [x.contiguous() for x in heads]  # head by head
    task = task_of(lengths)
    output, statistics = task.forward(*heads, with_gradient=True)
    assert heads[0].stride() != packed[0].stride()
    assert torch.equal(task.forward(*packed, with_gradient=False)[0], output)
    expected = task.backward(*heads, statistics, of_output)
    spread = of_output.transpose(1, 2).contiguous().transpose(1, 2)
    assert spread.stride(2) != 1
    for found, wanted in zip(task.backward(*packed, statistics, spread), expected, strict=True):
        assert torch.equal(found, wanted)


def test_the_number_of_threads_changes_nothing_but_sums_over_rows(threads):
    lengths = [3, 40, 1, 38, 17]
    q, k, v, of_output = heads_of(lengths, 32, torch.float32)
    x, of_y = torch.randn(2, 99, 64)
    weight, bias = torch.randn(2, 64)
    spec = DropoutSpec.of(0.2)
    found = []
    for number in (1, 2, 3):
        threads(number)
        task = task_of(lengths, spec=spec)
        output, of_scores = task.forward(q, k, v, with_gradient=True)
        y, total, statistics = kernels.add_and_norm(x, of_y, weight, bias, 1e-5, spec)
        of_x, of_residual, of_weight, of_bias = kernels.add_and_norm_backward(of_y, total, statistics, weight, spec)
        alike = [output, *task.backward(q, k, v, of_scores, of_output), y, total, of_x, of_residual]
        alike += [kernels.dropout(x, spec), *kernels.gelu(x)]
        found.append((alike, of_weight, of_bias))
    for alike, of_weight, of_bias in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(alike, found[0][0], strict=True))
        assert torch.allclose(of_weight, found[0][1], rtol=1e-5, atol=1e-4)
        assert torch.allclose(of_bias, found[0][2], rtol=1e-5, atol=1e-4)


def test_a_sentence_gets_the_same_bytes_in_any_company():
    *heads, _ = heads_of([30, 12, 50], 32, torch.bfloat16)
    together, _ = task_of([30, 12, 50]).forward(*heads, with_gradient=False)
    alone, _ = task_of([12]).forward(*[x[:, 30:42] for x in heads], with_gradient=False)
    assert torch.equal(together[:, 30:42], alone)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_so(bad, dtype):
    """Or a step that diverges would not be found out."""
    x = torch.ones(4, 16, dtype=dtype)
    x[1, 3] = bad
    ones = torch.ones(16, dtype=dtype)
    y, _, _ = kernels.add_and_norm(x, torch.zeros_like(x), ones, ones, 1e-5, NOTHING)
    assert y[1].isnan().all()
    assert y[[0, 2, 3]].isfinite().all()
    assert not kernels.gelu(x)[0][1, 3].isfinite()
    assert not kernels.dropout(x, NOTHING)[1, 3].isfinite()
    for number in range(3):
        heads = heads_of([4, 6], 16, dtype)[:3]
        heads[number][1, 2, 3] = bad
        output, _ = task_of([4, 6]).forward(*heads, with_gradient=False)
        wanted = attended_alone(*[x.double() for x in heads], [4, 6])
        assert torch.equal(output.isfinite(), wanted.isfinite())
        assert output[1, 4:].isfinite().all()
        assert bad == torch.inf or not output[1, 2].isfinite().all()


@pytest.fixture
def uncompiled(monkeypatch):
    """No kernels have been asked for yet."""
    for remembered in (compiling.library, compiling.compilation, compiling._compiler):
        remembered.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    for remembered in (compiling.library, compiling.compilation, compiling._compiler):
        remembered.cache_clear()


def test_they_can_be_switched_off(uncompiled):
    uncompiled.setenv("NERLOOP_KERNELS", "off")
    compiling.start(with_bf16=True)
    assert not kernels.is_supported(torch.ones(1))


def test_they_can_be_compiled_for_another_architecture(uncompiled):
    uncompiled.setenv("NERLOOP_KERNELS", "x86-64-v3")
    assert compiling._architecture() == ("-march=x86-64-v3",)
    uncompiled.setenv("NERLOOP_KERNELS", "no-such-architecture")
    assert not kernels.is_supported(torch.ones(1))


def test_the_compiler_starts_without_torch():
    """It works while torch is imported, which takes as long as compiling."""
    code = (
        "import sys; from nerloop.kernels import compile; compile.start(with_bf16=True); print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert found.stdout == "False\n"


def test_where_there_is_no_memory_attention_raises():
    q, k, v, _ = heads_of([3], 16, torch.float32)
    task = task_of([3])._replace(max_seqlen=1 << 45)
    with pytest.raises(RuntimeError, match="attention_forward can't allocate its workspace"):
        task.forward(q, k, v, with_gradient=False)
    output, statistics = task_of([3]).forward(q, k, v, with_gradient=True)
    with pytest.raises(RuntimeError, match="attention_backward can't allocate its workspace"):
        task.backward(q, k, v, statistics, output)


def test_without_a_compiler_there_are_none_and_nothing_is_said(uncompiled, caplog):
    uncompiled.setenv("CC", "no-such-compiler-anywhere")
    with caplog.at_level(logging.DEBUG):
        assert not kernels.is_supported(torch.ones(1))
    assert caplog.messages == []


def test_they_can_be_switched_off_later(uncompiled):
    uncompiled.setattr(kernels, "_switch", kernels._Switch())
    assert kernels.is_supported(torch.ones(1))
    kernels.switch_off()
    assert not kernels.is_supported(torch.ones(1))


@pytest.mark.parametrize("odd", [" ", "'", "/"])
def test_an_odd_name_of_a_compiler_is_none(uncompiled, odd):
    uncompiled.setenv("CC", odd)
    assert not kernels.is_supported(torch.ones(1))


def test_without_a_folder_to_work_in_there_are_none(uncompiled, tmp_path, caplog):
    uncompiled.setattr("tempfile.tempdir", str(tmp_path / "no such folder"))
    with caplog.at_level(logging.INFO, logger="nerloop"):
        assert not kernels.is_supported(torch.ones(1))
    assert len(caplog.messages) == 1


def test_a_file_that_can_be_compiled_but_not_linked_is_reported(uncompiled, tmp_path, caplog):
    source = tmp_path / "kernels.c"
    source.write_text("int main(void) { return 0; }")
    uncompiled.setattr(compiling, "SOURCE", source)
    uncompiled.setattr(compiling, "FLAGS", ("-c", "-fno-pic"))
    real = "int there; int *gone(void) { return &there; }"
    source.write_text(real)
    with caplog.at_level(logging.INFO, logger="nerloop"):
        assert not kernels.is_supported(torch.ones(1))
    (line,) = caplog.messages
    assert "error" in line or "failed" in line


def test_a_compiler_that_fails_is_reported_in_one_line(uncompiled, caplog):
    uncompiled.setenv("CC", "cc --no-such-option")
    with caplog.at_level(logging.INFO, logger="nerloop"):
        assert not kernels.is_supported(torch.ones(1))
        assert not kernels.is_supported(torch.ones(1))
    (line,) = caplog.messages
    assert "no-such-option" in line
    assert "\n" not in line


def test_nothing_stays_on_the_disk(uncompiled, tmp_path):
    uncompiled.setattr("tempfile.tempdir", str(tmp_path))
    compiling.start(with_bf16=False)
    assert len(os.listdir(tmp_path)) == 1  # at work
    compiling.start(with_bf16=True)
    assert len(os.listdir(tmp_path)) == 2
    assert kernels.is_supported(torch.ones(1))
    assert kernels.is_supported(torch.ones(1, dtype=torch.bfloat16))
    assert os.listdir(tmp_path) == []
