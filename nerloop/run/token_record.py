"""Record the loss and margin of each token in each epoch of a training, and the most probable other label.

The records are `tokens/epoch-<n>.safetensors` in the run's folder, which numpy and torch read without pickle.
`nerloop.evaluate --suspects --run` uses them to find wrong labels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nerloop.distributed.collectives import gather
from nerloop.errors import DataError, shorten
from nerloop.run import atomic
from nerloop.run.folder import TOKENS
from nerloop.types import IGNORE, MicroBatch, Tensor

KINDS = {"loss": np.float16, "margin": np.float16, "rival": np.int16}


@dataclass(frozen=True, eq=False)
class TokenRecord:
    """The values of one epoch for the tokens of the training split, in the order of its sentences; each is (tokens,).

    The values come from the forward that trained on the token, so dropout is on. A token of several subwords has the
    values of the subword that decides it.
    """

    labels: Sequence[str]  # the label names by id
    loss: np.ndarray  # float16: minus the log-probability of the token's label; NaN for a token that was not trained on
    margin: np.ndarray  # float16: its log-probability minus the highest one of another label
    rival: np.ndarray  # int16: the id of that other label, -1 for a token that was not trained on

    @staticmethod
    def empty(labels: Sequence[str], num_tokens: int) -> TokenRecord:
        """Return a record without values."""
        nothing = np.full(num_tokens, np.nan, dtype=np.float16)
        return TokenRecord(labels, nothing, nothing.copy(), np.full(num_tokens, -1, dtype=np.int16))

    @staticmethod
    def read(path: Path, num_tokens: int | None = None) -> TokenRecord:
        """Return the record that `write` wrote. Raises DataError for another kind of file, or one of other tokens."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "np") as file:
                labels = json.loads((file.metadata() or {})["labels"])
                values = {name: file.get_tensor(name) for name in KINDS}
            if any(v.dtype != KINDS[n] or v.shape != values["loss"].shape or v.ndim != 1 for n, v in values.items()):
                raise ValueError("arrays of another type or length")
            if values["rival"].max(initial=-1) >= len(labels) or not all(isinstance(label, str) for label in labels):
                raise ValueError("labels without a name")
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{path}: not a record of tokens that nerloop wrote: {shorten(error, 120)}") from error
        if num_tokens not in (None, len(values["loss"])):
            raise DataError(
                f"{path}: found {len(values['loss'])} tokens, expected the {num_tokens} of the training split: "
                "have its files changed?"
            )
        return TokenRecord(labels, **values)

    def write(self, path: Path) -> None:
        """Write the record atomically."""
        from safetensors.numpy import save

        path.parent.mkdir(exist_ok=True)
        values = {name: getattr(self, name) for name in KINDS}
        with atomic.replacing(path) as beside:
            beside.write_bytes(save(values, {"labels": json.dumps(list(self.labels))}))

    def update(self, tokens: np.ndarray, loss: np.ndarray, margin: np.ndarray, rival: np.ndarray) -> None:
        """Set the values of some tokens."""
        self.loss[tokens], self.margin[tokens], self.rival[tokens] = loss, margin, rival


def read_records(run: Path, num_tokens: int) -> list[TokenRecord]:
    """Return the records of a run, by epoch. Raises DataError if there is none."""
    found = {int(m[1]): p for p in (run / TOKENS).glob("*") if (m := re.fullmatch(r"epoch-(\d+)\.safetensors", p.name))}
    if not found:
        raise DataError(f"{run}: has no record of its tokens, expected a run trained with --run.record_tokens true")
    return [TokenRecord.read(found[epoch], num_tokens) for epoch in sorted(found)]


class TokenRecorder:
    """Collects the values of one epoch on the device, without synchronising, until `write` saves them.

    Each token is trained on once per epoch, and a resumed run repeats exactly the steps after its checkpoint. So the
    resumed run completes any record that is at least as new as the checkpoint, whichever tokens the record has.
    """

    def __init__(self, accelerator: Any, labels: Sequence[str], lengths: np.ndarray) -> None:
        """Set the label names by id, and the number of tokens of each sentence that has labels."""
        self._accelerator, self._labels = accelerator, labels
        self._starts = np.concatenate([[0], np.cumsum(lengths)])  # by sentence: the number of its first token
        self._epoch = -1
        self._path = Path()

    def begin(self, epoch: int, run: Path) -> None:
        """Set the epoch of the next step; the record of another epoch is written first. Call it on all processes."""
        import torch

        if epoch == self._epoch:
            return
        if self._epoch >= 0:
            self.write()
        self._epoch, self._path = epoch, run / TOKENS / f"epoch-{epoch + 1}.safetensors"
        device, number = self._accelerator.device, int(self._starts[-1])
        self._loss = torch.full((number,), torch.nan, device=device, dtype=torch.float16)
        self._margin = torch.full_like(self._loss, torch.nan)
        self._rival = torch.full((number,), -1, device=device, dtype=torch.int16)

    def record(self, logits: Tensor, batch: MicroBatch) -> None:
        """Keep the values of the tokens that a micro-batch decides. `logits` are (rows, width, labels)."""
        import torch

        cells = torch.from_numpy(self._cells_of(batch))
        if logits.device.type == "cuda":
            cells = cells.pin_memory()
        cell, token, label = cells.to(logits.device, non_blocking=True)
        scores = logits.detach().flatten(0, 1).index_select(0, cell)
        scores = (scores.float() if scores.dtype.itemsize < 4 else scores).log_softmax(-1)
        own = scores.gather(1, label[:, None])
        best, rival = scores.scatter(1, label[:, None], -torch.inf).max(-1)
        self._loss[token] = -own[:, 0].to(self._loss.dtype)
        self._margin[token] = (own[:, 0] - best).to(self._margin.dtype)
        self._rival[token] = rival.to(self._rival.dtype)

    def write(self) -> None:
        """Write the values that all processes have recorded in the epoch. Call it on all processes."""
        loss = self._loss.cpu().numpy()
        tokens = np.flatnonzero(~np.isnan(loss))
        values = (loss, self._margin.cpu().numpy(), self._rival.cpu().numpy())
        parts = gather(self._accelerator, (tokens, *(value[tokens] for value in values)))
        if self._accelerator.is_main_process:
            number = len(loss)
            is_begun = self._path.exists()  # the run that this one resumes wrote a part of the epoch
            whole = TokenRecord.read(self._path, number) if is_begun else TokenRecord.empty(self._labels, number)
            for part in parts:
                whole.update(*part)
            whole.write(self._path)

    def _cells_of(self, batch: MicroBatch) -> np.ndarray:
        """Return the cells that decide a labelled token, the numbers of these tokens, and their labels: (3, tokens)."""
        width = batch.labels.shape[1]
        found = [np.zeros((3, 0), dtype=np.int64)]
        for (row, start, _), feature in zip(batch.places, batch.features, strict=True):
            within = np.flatnonzero((feature.tokens >= 0) & (feature.labels != IGNORE))
            if not len(within):  # unlabelled sentences, which follow those of the split
                continue
            # The tokens of a feature's sentences are numbered through; each sentence's are moved to where it lies in
            # the split.
            firsts = self._starts[list(feature.examples)] - np.cumsum((0, *feature.num_tokens[:-1]))
            tokens = feature.tokens[within]
            tokens = tokens + np.repeat(firsts, feature.num_tokens)[tokens]
            found.append(np.stack([row * width + start + within, tokens, feature.labels[within]]))
        return np.concatenate(found, axis=1)
