"""An embedding of which only the rows that the training text has are trained, since no other row ever has a gradient.

Half of the weights of a small encoder, and three quarters of XLM-R's, are rows of subwords that most texts don't have.
AdamW does no more to such a row, whose moments stay zero, than to let it decay by the same factor as all others in each
step. That factor is kept instead, and the optimizer, the norm and the processes among themselves have less to move.
(Abdaoui et al., Load What You Need, 2020, take such rows out of multilingual models for good; here they come back.)
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from nerloop.collators import Collator
from nerloop.model.compat import TOLERANCE, apart_and_largest, probe_features
from nerloop.model.forward import feature_logits
from nerloop.types import Feature, Tensor, Tokenizer

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

MOST_USED = 0.5
"""Share of the rows up to which it pays to train the others by a factor."""


def prune(model: PreTrainedModel, used_ids: np.ndarray) -> bool:
    """Let a model train no other rows of its input embedding than these, in place; return whether it is done.

    It is not where most rows are used, and where the embedding is not a plain table of its own. In training mode the
    model can then take these ids alone, which are to be in order; else it takes all, as before.
    """
    from torch import nn

    try:
        table = model.get_input_embeddings()
    except NotImplementedError:
        return False
    plain = type(table) is nn.Embedding and table.max_norm is None and not (table.sparse or table.scale_grad_by_freq)
    if not plain or not table.weight.requires_grad or len(used_ids) > MOST_USED * table.num_embeddings:
        return False
    if used_ids[-1] >= table.num_embeddings:  # whoever made such an id is told by the plain table
        return False
    if sum(p is table.weight for module in model.modules() for p in module._parameters.values()) > 1:
        return False
    table.__class__ = _pruned_embedding()
    table.split(used_ids)
    return True


def restore(model: nn.Module) -> None:
    """Give a model that was narrowed its plain embedding back, in place."""
    for module in pruned(model):
        module.join()


def pruned(model: nn.Module) -> list[Any]:
    """Return the embeddings of a model that are narrow: one or none."""
    return [module for module in model.modules() if isinstance(module, _pruned_embedding())]


def let_decay(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Let the rows that are not trained decay with each step of an optimizer as those do that are."""
    modules = pruned(model)

    def after_step(stepped: Any, *_: Any) -> None:
        for module in modules:
            # Looked up each time: accelerate puts other groups in the place of those that the optimizer was made with.
            group = next(g for g in stepped.param_groups if any(p is module.used for p in g["params"]))
            module.decay(group["lr"] * group["weight_decay"], getattr(stepped, "found_inf", None))

    if modules:
        optimizer.register_step_post_hook(after_step)


@cache
def _pruned_embedding() -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    class PrunedEmbedding(nn.Embedding):
        """nn.Embedding, its rows in two: those that are used, and the rest with the share of it that has decayed.

        There is no `weight`, so that who looks into the table by itself fails instead of misreading it.
        """

        used: nn.Parameter  # (used ids, width)
        used_ids: Tensor
        rest: Tensor  # (ids, width): all rows as they were, for their places; what is used is out of date
        decayed: Tensor
        place: Tensor  # of each id among the used ones, or -1
        used_padding: int | None

        def split(self, used_ids: np.ndarray) -> None:
            """Take the rows apart that a plain table has in one."""
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
            place = self.place.index_select(0, ids.flatten()).view_as(ids)  # which takes no id below 0 for one
            if self.training:
                return functional.embedding(place, self.used, self.used_padding)
            rows = functional.embedding(place.clamp(min=0), self.used, self.used_padding)
            # The rest is cast last, as it is once it is saved with all the others.
            rest = (self.rest[ids] * (1 - self.decayed)).to(rows.dtype)
            return torch.where((place < 0)[..., None], rest, rows)

        def decay(self, share: float, is_skipped: Tensor | None = None) -> None:
            """Let a share of what is left of the rest decay, unless the step was skipped, which the device alone knows.

            What has gone is summed up, not what is left: near 1 the small shares would be rounded away.
            """
            more = (1 - self.decayed) * share
            self.decayed.add_(more if is_skipped is None else torch.where(is_skipped > 0, 0, more))

        def whole_weight(self) -> Tensor:
            """Return all rows, (ids, width), as they would be had they been trained together."""
            weight = (self.rest * (1 - self.decayed)).to(self.used.dtype)
            weight[self.used_ids] = self.used.detach()
            return weight

        def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *others: Any) -> None:
            # Rows of other ids would fit where they are as many.
            ids = state.get(f"{prefix}used_ids")
            if ids is not None and torch.equal(ids.to(self.used_ids.device), self.used_ids):
                super()._load_from_state_dict(state, prefix, *others)
            else:
                errors: list[str] = others[-1]
                errors.append("other embeddings were trained there, by another nerloop or collator")

    return PrunedEmbedding


def is_prunable(
    model: PreTrainedModel, used_ids: np.ndarray, feature: Feature, collator: Collator, tokenizer: Tokenizer
) -> bool:
    """Whether a model can be narrowed and computes what it did: of any ids, and in training.

    `feature` is one to train on. A model that looks into its embedding's weight by itself, which is then not there,
    can't.
    """
    import torch

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
        except Exception:  # whatever a model raises whose embedding is not what it expects
            return False
        finally:
            restore(model)
            model.train(training)
        expected = logits()
    model.train(training)
    apart, largest = apart_and_largest(found, expected)
    return apart <= TOLERANCE * largest  # not "equal": a resumed run must come to the same answer on any device
