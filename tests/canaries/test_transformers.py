"""What nerloop assumes of transformers. A failure here after an upgrade names the assumption that broke."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface


@pytest.fixture
def registered():
    """Register an attention and its mask, and say what they were called with."""
    calls = {"attention": [], "mask": []}

    def attend(module, query, key, value, attention_mask, **options):
        calls["attention"].append((tuple(query.shape), attention_mask))
        return query.transpose(1, 2).contiguous(), None

    def mask(*arguments, **options):
        calls["mask"].append(options.get("attention_mask"))
        return None

    AttentionInterface.register("canary", attend)
    AttentionMaskInterface.register("canary", mask)
    return calls


def test_a_model_can_be_told_to_use_a_registered_attention(registered, make_model):
    model = make_model("bert")
    model.set_attn_implementation("canary")
    model(input_ids=torch.ones(2, 5, dtype=torch.long))
    assert [shape for shape, _ in registered["attention"]] == [(2, 2, 5, 16)] * 2  # rows, heads, subwords, head width


def test_the_mask_of_an_attention_is_made_by_the_function_of_its_name(registered, make_model):
    model = make_model("bert")
    model.set_attn_implementation("canary")
    given = torch.tensor([[1, 1, 1, 0, 0]])
    model(input_ids=torch.ones(1, 5, dtype=torch.long), attention_mask=given)
    assert len(registered["mask"]) == 1
    assert registered["attention"][0][1] is None  # what `mask` returned


def test_a_float_mask_of_four_dimensions_is_added_to_the_scores(make_model):
    model = make_model("bert")
    ids = torch.tensor([[5, 6, 7, 8]])
    added = torch.full((1, 1, 4, 4), torch.finfo(torch.float32).min)
    added[..., :2, :2] = added[..., 2:, 2:] = 0.0  # two sentences of two subwords
    with torch.no_grad():
        packed = model(input_ids=ids, attention_mask=added, position_ids=torch.tensor([[0, 1, 0, 1]])).logits
        alone = [model(input_ids=ids[:, i : i + 2]).logits for i in (0, 2)]
    torch.testing.assert_close(packed, torch.cat(alone, dim=1), rtol=1e-4, atol=1e-4)


def test_models_name_the_modules_that_are_not_split(make_model):
    assert "BertLayer" in make_model("bert")._no_split_modules


def test_exporters_are_a_part_of_transformers():
    assert importlib.util.find_spec("transformers.exporters") is not None
