"""Dropout from random bits: the share and the scale."""

from __future__ import annotations

import pytest
import torch

from nerloop.kernels.dropout import dropout_mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_and_the_scale(p, dtype):
    torch.manual_seed(0)
    kept = dropout_mask(torch.empty(1000, 1001, dtype=dtype), p)
    assert kept.dtype == dtype
    assert float((kept == 0).double().mean()) == pytest.approx(p, abs=0.002)  # 4 standard deviations
    assert float(kept.max()) == pytest.approx(1 / (1 - p), rel=0.005 if dtype == torch.bfloat16 else 2e-4)
    assert kept.unique().numel() == 2


def test_each_place_of_a_word_and_each_position_is_drawn_alike():
    """Four elements come from one word of 64 bits; none of them may be favoured, nor follow another."""
    torch.manual_seed(1)
    kept = (dropout_mask(torch.empty(200_000, 4), 0.3) > 0).double()
    assert torch.allclose(kept.mean(0), torch.full((4,), 0.7, dtype=torch.float64), atol=0.005)
    assert float((torch.corrcoef(kept.T) - torch.eye(4)).abs().max()) < 0.012
