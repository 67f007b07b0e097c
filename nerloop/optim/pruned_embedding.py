"""An embedding that trains only the rows of subwords that occur in the training text.

Other rows never receive a gradient. They are half of the weights of a small encoder, and three quarters of XLM-R's.
AdamW changes such a row only by weight decay, since its moments stay zero, and all such rows by the same factor. So
only this factor is kept, and the optimizer, the norm and the exchange between processes have less to handle. At the
end the table is whole again. (Abdaoui et al., Load What You Need, 2020, remove such rows from multilingual models for
good.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nerloop.collators import Collator
from nerloop.model.compat import TOLERANCE, apart_and_largest, probe_features
from nerloop.model.forward import feature_logits
from nerloop.types import Feature, Tensor, Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_USED = 0.5
"""Largest fraction of used rows for which pruning pays."""


class PrunedEmbedding(nn.Embedding):
    """nn.Embedding in two parts: a parameter with the used rows, and a buffer with the others and their common decay.

    It has no `weight`, so code that reads the table directly fails instead of reading wrong rows.
    """

    used: nn.Parameter  # (used ids, width)
    used_ids: Tensor
    rest: Tensor  # (ids, width): all rows as they were at first; those of used ids are out of date
    decayed: Tensor  # fraction of `rest` that has decayed so far
    place: Tensor  # index of each id among the used ones, or -1
    used_padding: int | None  # padding_idx among the used ones

    def split(self, used_ids: np.ndarray) -> None:
        """Split a plain table into the used rows and the rest."""
        weight = self.weight.detach()
        ids = torch.from_numpy(np.asarray(used_ids, dtype=np.int64)).to(weight.device)
        place = torch.full((self.num_embeddings,), -1, dtype=torch.int64, device=weight.device)
        place[ids] = torch.arange(len(ids), device=weight.device)
        del self.weight
        self.used = nn.Parameter(weight[ids])
        self.register_buffer("used_ids", ids)
        self.register_buffer("rest", weight)
        self.register_buffer("decayed", torch.zeros((), dtype=weight.dtype, device=weight.device))
        self.register_buffer("place", place, persistent=False)
        padding = -1 if self.padding_idx is None else int(place[self.padding_idx])
        self.used_padding = None if padding < 0 else padding

    def join(self) -> None:
        """Become a plain table again."""
        weight = self.whole_weight()
        for name in ("used", "used_ids", "rest", "decayed", "place", "used_padding"):
            delattr(self, name)
        self.__class__ = nn.Embedding  # type: ignore[assignment]
        self.weight = nn.Parameter(weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of ids, (..., width)."""
        place = self.place.index_select(0, ids.flatten()).view_as(ids)  # unlike indexing, it refuses ids below 0
        if self.training:
            return functional.embedding(place, self.used, self.used_padding)
        rows = functional.embedding(place.clamp(min=0), self.used, self.used_padding)
        # Cast last, as `whole_weight` does: then these are the rows that the saved model will have.
        rest = (self.rest[ids] * (1 - self.decayed)).to(rows.dtype)
        return torch.where((place < 0)[..., None], rest, rows)

    def decay(self, fraction: float | Tensor, is_skipped: Tensor | None = None) -> None:
        """Decay the unused rows by a fraction, unless the step was skipped, which only the device knows.

        The decayed fraction is summed up, not the remaining one: near 1 the small changes would be rounded away.
        """
        more = (1 - self.decayed) * fraction
        self.decayed.add_(more if is_skipped is None else torch.where(is_skipped > 0, 0, more))

    def whole_weight(self) -> Tensor:
        """Return all rows, (ids, width), as training the whole table would have left them."""
        weight = (self.rest * (1 - self.decayed)).to(self.used.dtype)
        weight[self.used_ids] = self.used.detach()
        return weight

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *others: Any) -> None:
        # As many rows of other ids would load without an error, so the ids are compared.
        ids = state.get(f"{prefix}used_ids")
        if ids is not None and torch.equal(ids.to(self.used_ids.device), self.used_ids):
            super()._load_from_state_dict(state, prefix, *others)
        else:
            errors: list[str] = others[-1]
            errors.append("other embeddings were trained there, by another nerloop or collator")


def prune(model: PreTrainedModel, used_ids: np.ndarray) -> bool:
    """Make a model train only these rows of its input embedding, in place; return whether it was done.

    `used_ids` must be sorted. Nothing is done if more than MOST_USED of the rows are used, if the embedding is no plain
    table, or if another module shares it. In training mode a pruned model only takes these ids; in eval mode all.
    """
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:
        return False
    plain = type(table) is nn.Embedding and table.max_norm is None and not (table.sparse or table.scale_grad_by_freq)
    if not plain or not table.weight.requires_grad or len(used_ids) > MOST_USED * table.num_embeddings:
        return False
    if used_ids[-1] >= table.num_embeddings:  # left to the plain table, which raises for such an id
        return False
    if sum(p is table.weight for module in model.modules() for p in module._parameters.values()) > 1:
        return False
    table.__class__ = PrunedEmbedding
    table.split(used_ids)
    return True


def restore(model: nn.Module) -> None:
    """Give a pruned model its plain embedding back, in place."""
    for module in pruned(model):
        module.join()


def pruned(model: nn.Module) -> list[Any]:
    """Return the pruned embeddings of a model: one or none."""
    return [module for module in model.modules() if isinstance(module, PrunedEmbedding)]


def decay_unused_rows(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Make the rows that are not trained decay with each step of an optimizer, like the trained ones."""
    modules = pruned(model)

    def after_step(stepped: Any, *_: Any) -> None:
        for module in modules:
            # Looked up each time, since accelerate replaces the groups that the optimizer was built with.
            group = next(g for g in stepped.param_groups if any(p is module.used for p in g["params"]))
            module.decay(_fraction(group["lr"], group["weight_decay"]), getattr(stepped, "found_inf", None))

    if modules:
        optimizer.register_step_post_hook(after_step)


def _fraction(lr: float | Tensor, weight_decay: float) -> float | Tensor:
    """Return the fraction that a step decays. With CUDA graphs the rate is a tensor, and the result has the same bits.

    A number is multiplied in double precision and rounded to float32 once, so the tensor has to be, too.
    """
    return (lr.double() * weight_decay).float() if isinstance(lr, torch.Tensor) else lr * weight_decay


def is_prunable(
    model: PreTrainedModel, used_ids: np.ndarray, feature: Feature, collator: Collator, tokenizer: Tokenizer
) -> bool:
    """Return whether a pruned model computes the same logits: for any ids in eval mode, and for `feature` in training.

    A model that reads its embedding's weight directly does not: a pruned embedding has none.
    """

    def logits() -> list[Tensor]:
        found = []
        for is_training, features in ((False, probe_features(tokenizer)[-2:]), (True, [feature])):
            model.train(is_training)
            torch.manual_seed(0)  # the same dropout
            found += feature_logits(model, collator(features))
        return found

    training, device = model.training, model.device
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        if not prune(model, used_ids):
            return False
        try:
            found = logits()
        except Exception:  # a model that expects another embedding may raise anything
            return False
        finally:
            restore(model)
            model.train(training)
        expected = logits()
    model.train(training)
    apart, largest = apart_and_largest(found, expected)
    return apart <= TOLERANCE * largest  # not "equal": a resumed run must get the same answer on any device
