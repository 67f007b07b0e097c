"""The data types that all modules share: Span, Example, Feature, MicroBatch. Imports no other module of nerloop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

if TYPE_CHECKING:
    import numpy as np
    import torch
    import transformers

    Tensor = torch.Tensor
    Tokenizer = transformers.PreTrainedTokenizerFast
else:
    Tensor = Tokenizer = Any  # importing torch takes seconds, and --help must be fast

T_co = TypeVar("T_co", covariant=True)

IGNORE = -100
"""The label of a subword that is not trained on: torch's default for `ignore_index`."""


class Span(NamedTuple):
    """An entity: tokens `start` to `end` (half-open) of one sentence, and its type."""

    start: int
    end: int
    type: str


@dataclass(frozen=True, slots=True)
class Example:
    """A sentence: its tokens and, if the source has them, one tag a token (otherwise `tags` is empty).

    `location` is its place in the source, such as "train.conll:152", for messages. Consecutive examples with the same
    `document` belong together; it is empty if documents are not known. If the source is a text, `offsets` are the start
    and end of each token in it, in code points, half-open. `source` serves to write predictions back to the record: its
    format, its text, and what the format needs (see `TextRecord`). The first sentence of each record has it.

    In a text, a gold span may start or end inside a token, as "York" in the token "York-based". Tags can't express it,
    and no prediction can match it. Then `missed` holds the gold span, in code points of the text. `tags` hold the span
    of whole tokens around it, for training; that span is in `widened` and does not count as gold.
    """

    tokens: tuple[str, ...]
    tags: tuple[str, ...] = ()
    location: str = ""
    document: str = ""
    offsets: tuple[tuple[int, int], ...] = ()
    missed: tuple[Span, ...] = ()
    widened: tuple[Span, ...] = ()
    source: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """One model input: a sentence, one window of a long sentence, or several sentences.

    Features with the same `atom` belong to the same examples, and a step never separates them. The tokens of an atom's
    examples are numbered consecutively: with examples of 3 and 2 tokens, token 3 is the first of the second example.
    `tokens` is, for each subword, the token that it decides, or -1. Within an atom each token is decided once, or never
    if it has no subwords.
    """

    input_ids: np.ndarray  # (subwords,) int64, special tokens included
    labels: np.ndarray  # (subwords,) int64, IGNORE where the subword is not trained on
    tokens: np.ndarray  # (subwords,) int64, -1 where the subword decides no token
    atom: int
    examples: tuple[int, ...]  # indices into the examples of the split
    num_tokens: tuple[int, ...]  # tokens of each of `examples`
    targets: np.ndarray | None = None  # (subwords, labels) probabilities to be learned, zeros where there are none

    def __len__(self) -> int:
        return len(self.input_ids)


class Place(NamedTuple):
    """The cells of a feature in a micro-batch: `length` cells of row `row`, from column `start`."""

    row: int
    start: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """The tensors of one forward on one process, and the place of each feature in them."""

    inputs: Mapping[str, Tensor]  # keyword arguments of the model; those of a floating point type are masks
    labels: Tensor  # (rows, width) int64, IGNORE where not trained on
    places: Sequence[Place]  # one a feature, in the order given to the collator
    is_unpadded: bool = False  # one row of several features, attended to separately; see nerloop.model.packing
    features: Sequence[Feature] = ()  # in training: what lies at `places`; their arrays stay on the CPU
    targets: Tensor | None = None  # (rows, width, labels) float32: the targets of the features, if they have any

    def to(self, device: torch.device, dtype: torch.dtype) -> MicroBatch:
        """Return the micro-batch on a device, with its floating point tensors (masks) as `dtype`.

        For a GPU the tensors are first copied to pinned memory, so that the transfer runs while the process continues.
        """
        if device.type == "cuda":
            pinned = {name: tensor.pin_memory() for name, tensor in self.inputs.items()}
            targets = None if self.targets is None else self.targets.pin_memory()
            return replace(self, inputs=pinned, labels=self.labels.pin_memory(), targets=targets)._to(device, dtype)
        return self._to(device, dtype)

    def _to(self, device: torch.device, dtype: torch.dtype) -> MicroBatch:
        inputs = {
            name: tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype, non_blocking=True)
            for name, tensor in self.inputs.items()
        }
        labels = self.labels.to(device, non_blocking=True)
        targets = None if self.targets is None else self.targets.to(device, non_blocking=True)
        return replace(self, inputs=inputs, labels=labels, targets=targets)


class LazySequence(Sequence[T_co]):
    """A sequence whose items are made on access: a subclass has `__len__` and `item`. A slice is a list of items."""

    @abstractmethod
    def item(self, i: int) -> T_co:
        """Return the item of an index from 0 to the length minus 1."""

    def items(self, indices: range) -> list[T_co]:
        """Return the items of some indices."""
        return [self.item(i) for i in indices]

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> list[T_co]: ...
    def __getitem__(self, index: int | slice) -> T_co | list[T_co]:
        # The range counts negative indices from the end, cuts slices, and raises IndexError.
        found = range(len(self))[index]
        return self.item(found) if isinstance(found, int) else self.items(found)
