"""An embedding of which only the rows that the training text has are trained, since no other row ever has a gradient.

Half of the weights of a small encoder, and three quarters of XLM-R's, are rows of subwords that most texts don't have.
AdamW does no more to such a row, whose moments stay zero, than to let its weights decay by the same factor in each step.
That factor is kept instead, and the optimizer, the norm and the processes among themselves have less to move.
(Abdaoui et al., Load What You Need, 2020, take such rows out of multilingual models for good; here they come back.)
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from nerloop.types import Tensor

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

MOST_USED = 0.5
"""Share of the rows up to which it pays to train the others by a factor."""


def narrow(model: PreTrainedModel, used_ids: np.ndarray) -> bool:
    """Let a model train no other rows of its input embedding than these, in place; return whether it is done.

    It is not where most rows are used, and where the embedding is more than a table that nothing else looks into. In
    training mode the model can then take these ids alone; else it takes all, as before.
    """
    from torch import nn

    try:
        table = model.get_input_embeddings()
    except NotImplementedError:
        return False
    plain = type(table) is nn.Embedding and table.max_norm is None and not (table.sparse or table.scale_grad_by_freq)
    if not plain or not table.weight.requires_grad or len(used_ids) > MOST_USED * table.num_embeddings:
        return False
    if sum(p is table.weight for module in model.modules() for p in module._parameters.values()) > 1:
        return False
    return _replace(model, table, _narrow_embedding()(table, used_ids))


def widen(model: nn.Module) -> None:
    """Give a model that was narrowed its plain embedding back, in place."""
    from torch import nn

    for module in narrowed(model):
        weight = module.whole_weight()
        _replace(model, module, nn.Embedding.from_pretrained(weight, freeze=False, padding_idx=module.padding_idx))


def narrowed(model: nn.Module) -> list[Any]:
    """Return the embeddings of a model that are narrow: one or none."""
    return [module for module in model.modules() if isinstance(module, _narrow_embedding())]


def let_decay(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Let the rows that are not trained decay with each step of an optimizer as those do that are."""
    for module in narrowed(model):
        group = next(g for g in optimizer.param_groups if any(p is module.used for p in g["params"]))

        def after_step(*_: Any, module: Any = module, group: dict[str, Any] = group) -> None:
            module.decay(group["lr"] * group["weight_decay"])

        optimizer.register_step_post_hook(after_step)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> bool:
    places = [(parent, name) for parent in model.modules() for name, m in parent._modules.items() if m is old]
    for parent, name in places:
        setattr(parent, name, new.train(old.training))
    return bool(places)


@cache
def _narrow_embedding() -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    class NarrowEmbedding(nn.Module):
        """nn.Embedding, its rows in two: those that are used, and the rest with the share of it that has decayed.

        The parameter is not called `weight`, so that who looks into the table by itself fails instead of misreading it.
        """

        place: Tensor
        rest: Tensor
        decayed: Tensor

        def __init__(self, table: nn.Embedding, used_ids: np.ndarray) -> None:
            super().__init__()
            weight = table.weight.detach()
            ids = torch.from_numpy(np.asarray(used_ids, dtype=np.int64)).to(weight.device)
            place = torch.full((table.num_embeddings,), -1, dtype=torch.int64, device=weight.device)
            place[ids] = torch.arange(len(ids), device=weight.device)
            self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
            self.padding_idx = table.padding_idx
            self.used = nn.Parameter(weight[ids])
            self.register_buffer("rest", weight.clone())  # all rows, for their places; what is used is out of date
            self.register_buffer("decayed", torch.zeros((), dtype=weight.dtype, device=weight.device))
            self.register_buffer("place", place, persistent=False)  # of each id among the used ones, or -1
            padding = -1 if table.padding_idx is None else int(place[table.padding_idx])
            self._used_padding = None if padding < 0 else padding

        def forward(self, ids: Tensor) -> Tensor:
            """Return the rows of ids, (..., width)."""
            place = self.place[ids]
            if self.training:
                return functional.embedding(place, self.used, padding_idx=self._used_padding)
            # The rest is cast last, as it is once it is saved with all the others.
            rest = (self.rest[ids] * (1 - self.decayed)).to(self.used.dtype)
            return torch.where((place < 0)[..., None], rest, functional.embedding(place.clamp(min=0), self.used))

        def decay(self, share: float) -> None:
            """Let a share of what is left of the rest decay. The sum of the shares is exact where their factor is not."""
            self.decayed += (1 - self.decayed) * share

        def whole_weight(self) -> Tensor:
            """Return all rows, (ids, width), as they would be had they been trained together."""
            weight = (self.rest * (1 - self.decayed)).to(self.used.dtype)
            is_used = self.place >= 0
            weight[is_used] = self.used.detach()[self.place[is_used]]
            return weight

    return NarrowEmbedding
