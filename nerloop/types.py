"""The nouns that every module shares: span, example, feature, micro-batch. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch
    import transformers

    Tensor = torch.Tensor
    Tokenizer = transformers.PreTrainedTokenizerFast
else:
    Tensor = Tokenizer = Any  # torch takes seconds to import, and the command line has to answer --help fast

IGNORE = -100
"""The label of a subword that is not trained on; torch's own default for `ignore_index`."""


class Span(NamedTuple):
    """An entity: tokens `start` to `end` (half-open) of one sentence, and its type."""

    start: int
    end: int
    type: str


@dataclass(frozen=True, slots=True)
class Example:
    """A sentence: its tokens and, where the source has them, one tag a token (`tags` is empty where it has none).

    `location` says where it came from, such as "train.conll:152", for messages. Consecutive examples with the same
    `document` belong to one; it is empty where documents are not known. Where the source has a text, `offsets` says
    where each token lies in it, in code points, half-open.

    There, a gold span may lie where no span of tokens does ("York" in the token "York-based"). It is among `missed`, in
    code points of the text, since no prediction can find it; the span of tokens that the tags hold in its stead for
    training is among `widened` and is not gold.
    """

    tokens: tuple[str, ...]
    tags: tuple[str, ...] = ()
    location: str = ""
    document: str = ""
    offsets: tuple[tuple[int, int], ...] = ()
    missed: tuple[Span, ...] = ()
    widened: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """One model input: a sentence, one window of a long sentence, or several sentences.

    Features with the same `atom` hold the same examples between them and are never parted by the end of a
    step. Within an atom the tokens of its examples are numbered through, first example first; `tokens` says for
    every subword which of these tokens it decides, -1 for none. Each token is decided at most once in an atom (never,
    if it has no subwords).
    """

    input_ids: np.ndarray  # (subwords,) int64, special tokens included
    labels: np.ndarray  # (subwords,) int64, IGNORE where the subword is not trained on
    tokens: np.ndarray  # (subwords,) int64, -1 where the subword decides no token
    atom: int
    examples: tuple[int, ...]  # indices into the split
    num_tokens: tuple[int, ...]  # tokens of each of `examples`

    def __len__(self) -> int:
        return len(self.input_ids)


class Place(NamedTuple):
    """Where a feature lies in a micro-batch: `length` cells of row `row` from column `start`."""

    row: int
    start: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """One forward on one process: the tensors of some features, and where each feature lies in them."""

    inputs: Mapping[str, Tensor]  # keyword arguments of the model; floating point ones are masks
    labels: Tensor  # (rows, width) int64, IGNORE where not trained on
    places: Sequence[Place]  # one a feature, in the order given to the collator
    is_unpadded: bool = False  # one row without padding, for the model to attend in as `nerloop.model.packing` does

    def to(self, device: torch.device, dtype: torch.dtype) -> MicroBatch:
        """Return it on a device, its floating point tensors (masks) as `dtype`.

        From pinned memory a GPU fetches it while the process goes on.
        """
        if device.type == "cuda":
            pinned = {name: tensor.pin_memory() for name, tensor in self.inputs.items()}
            return replace(self, inputs=pinned, labels=self.labels.pin_memory())._to(device, dtype)
        return self._to(device, dtype)

    def _to(self, device: torch.device, dtype: torch.dtype) -> MicroBatch:
        inputs = {
            name: tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype, non_blocking=True)
            for name, tensor in self.inputs.items()
        }
        labels = self.labels.to(device, non_blocking=True)
        return MicroBatch(inputs, labels, self.places, self.is_unpadded)
