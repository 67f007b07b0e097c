"""What nerloop assumes of torch. A failure here after an upgrade names the assumption that broke."""

from __future__ import annotations

from typing import Any

import pytest
import torch


def arguments_of(operation) -> list[str]:
    return [argument.name for argument in operation.default._schema.arguments]


def test_flash_attention_takes_boundaries_of_packed_sequences():
    assert arguments_of(torch.ops.aten._flash_attention_forward)[:10] == [
        "query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p", "is_causal",
        "return_debug_mask",
    ]  # fmt: skip
    assert arguments_of(torch.ops.aten._flash_attention_backward)[:14] == [
        "grad_out", "query", "key", "value", "out", "logsumexp", "cum_seq_q", "cum_seq_k", "max_q", "max_k",
        "dropout_p", "is_causal", "rng_state", "unused",
    ]  # fmt: skip


def test_foreach_copy_casts():
    target, source = [torch.zeros(2, dtype=torch.bfloat16)], [torch.tensor([1.5, 2.0])]
    torch._foreach_copy_(target, source)
    assert target[0].tolist() == [1.5, 2.0]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="a torch without oneDNN")
def test_onednn_multiplies_by_a_weight_that_it_has_packed():
    x, weight, bias = torch.rand(3, 4), torch.rand(5, 4), torch.rand(5)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    product = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    torch.testing.assert_close(product, torch.nn.functional.linear(x, weight, bias))


@pytest.mark.parametrize(("found_inf", "expected"), [(1.0, 1.0), (0.0, 0.9)])
def test_fused_adamw_scales_gradients_and_skips_what_is_not_finite(found_inf, expected):
    weight = torch.nn.Parameter(torch.ones(3))
    adamw: Any = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0, fused=True)
    adamw.grad_scale, adamw.found_inf = torch.tensor(4.0), torch.tensor(found_inf)
    weight.grad = torch.full((3,), 8.0)
    adamw.step()
    torch.testing.assert_close(weight.detach(), torch.full((3,), expected))
    if not found_inf:
        torch.testing.assert_close(adamw.state[weight]["exp_avg"], torch.full((3,), 0.2))  # 0.1 * 8 / 4


def test_the_total_norm_is_that_of_all_tensors_together():
    assert float(torch.nn.utils.get_total_norm([torch.tensor([3.0]), torch.tensor([4.0])])) == 5.0


def test_torch_undoes_the_threads_of_the_environment():
    """`set_threads` relies on it: OpenMP and MKL follow torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert torch.get_num_threads() == before + 1
        assert f"omp_get_max_threads() : {before + 1}" in torch.__config__.parallel_info()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["DistBackendError", "DistNetworkError", "DistStoreError"])
def test_errors_of_lost_peers_are_runtime_errors_of_their_own(name):
    assert issubclass(getattr(torch.distributed, name), RuntimeError)
