"""Check an adaptation: before training it changes no logits, and `merge` returns a plain model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nerloop.contracts.checking import checking, require
from nerloop.model.adaptation import Adaptation

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_adaptation(build: Callable[[], Adaptation], model: PreTrainedModel) -> None:
    """Raise PluginError unless an adaptation keeps the logits and `merge` returns a plain model. Modifies `model`."""
    import torch

    ids = torch.arange(6, 18).view(2, 6)
    model.eval()
    with checking("adaptation", build), torch.no_grad():
        expected, names, kind = model(input_ids=ids).logits, list(model.state_dict()), type(model)
        adaptation = build()
        adapted = adaptation.apply(model)
        require(any(p.requires_grad for p in adapted.parameters()), "apply: leaves no parameter to train")
        found = adapted(input_ids=ids).logits
        require(torch.allclose(found, expected, atol=1e-5), "apply: changes the logits before any training")
        merged = adaptation.merge(adapted)
        require(type(merged) is kind, f"merge: found {type(merged).__name__}, expected {kind.__name__}")
        require(list(merged.state_dict()) == names, "merge: the weights have other names than the model's")
        found = merged(input_ids=ids).logits
        require(torch.allclose(found, expected, atol=1e-5), "merge: changes the logits")
