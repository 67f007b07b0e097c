"""Check an objective: it is a sum over features and ignores subwords without a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nerloop.contracts.checking import checking, require
from nerloop.errors import shorten
from nerloop.objectives import Objective
from nerloop.types import IGNORE, Feature, MicroBatch, Place


def check_objective(build: Callable[..., Objective], labels: Sequence[str]) -> None:
    """Raise PluginError unless an objective is a sum over features with a finite gradient, and 0 without labels."""
    import torch

    generator = torch.Generator().manual_seed(0)
    random = np.random.RandomState(0)
    lengths = (5, 1, 9, 3)
    with checking("objective", build):
        objective = build(tuple(labels))
        ids = [np.where(random.rand(n) < 0.6, random.randint(0, len(labels), n), IGNORE) for n in lengths]
        ids[0][0], ids[1][0] = 0, IGNORE  # a feature with a label for sure, and one without any
        scores = [torch.randn(n, len(labels), generator=generator) for n in lengths]
        targets = _targets(ids, len(labels), random) if getattr(objective, "teachers", None) else [None] * len(ids)
        packed = _loss(objective, *_lay_out(scores, ids, targets, is_packed=True))
        padded = _loss(objective, *_lay_out(scores, ids, targets, is_packed=False))
        alone = [
            _loss(objective, *_lay_out([s], [i], [t], is_packed=True))
            for s, i, t in zip(scores, ids, targets, strict=True)
        ]
        require(packed > 0, f"loss: found {packed} for random logits, expected more than 0")
        for name, found in (("padded", padded), ("one by one", sum(alone))):
            require(abs(found - packed) <= 1e-4 * packed, f"loss: {packed} packed, but {found} {name}; expected a sum")
        require(alone[1] == 0, f"loss: found {alone[1]} for a feature without labels, expected 0")
        logits, batch = _lay_out(scores, ids, targets, is_packed=True)
        before = logits.detach().clone()
        objective.loss(logits.requires_grad_(), batch).backward()  # type: ignore[no-untyped-call]
        gradient = logits.grad
        require(torch.equal(logits.detach(), before), "loss: changes the logits that it is given")
        require(gradient is not None and bool(gradient.isfinite().all()), "loss: its gradient is not finite")
        assert gradient is not None
        is_idle = batch.labels == IGNORE
        if batch.targets is not None:
            is_idle &= ~batch.targets.any(-1)
        require(not gradient[is_idle].any(), "loss: depends on subwords without a label")
        half, batch = _lay_out([s.bfloat16() for s in scores], ids, targets, is_packed=True)
        loss = objective.loss(half, batch)
        require(loss.dtype.itemsize >= 4, f"loss: found {loss.dtype} for logits in bf16, expected float32 or better")
        if isinstance(objective, torch.nn.Module):
            # A process may get a micro-batch without labels, and the exchange of gradients waits for every parameter.
            for what, of_feature in ("", ids[0]), (" where no subword has a label", np.full(5, IGNORE)):
                objective.zero_grad()
                logits, batch = _lay_out(scores[:1], [of_feature], [None], is_packed=True)
                objective.loss(logits.requires_grad_(), batch).backward()  # type: ignore[no-untyped-call]
                idle = [name for name, p in objective.named_parameters() if p.requires_grad and p.grad is None]
                require(not idle, f"loss: its parameter {', '.join(idle)} gets no gradient{what}")
        _check_weight(objective, ids)
        for name, value in getattr(objective, "learned", dict)().items():
            array = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)
            is_array = np.issubdtype(array.dtype, np.floating) and bool(np.isfinite(array).all())
            require(is_array, f"learned: {name} is {shorten(value)}, expected an array of finite numbers")


def _loss(objective: Objective, logits: Any, batch: MicroBatch) -> float:
    loss = objective.loss(logits, batch)
    require(loss.dim() == 0, f"loss: found shape {tuple(loss.shape)}, expected a scalar")
    return float(loss.detach())


def _targets(ids: Sequence[np.ndarray], num_labels: int, random: np.random.RandomState) -> list[np.ndarray | None]:
    """Return probabilities for features: the first has some on all its subwords, the second none, the others both."""
    targets: list[np.ndarray | None] = []
    for number, of_feature in enumerate(ids):
        has_target = (random.rand(len(of_feature)) < 0.6) & (number != 1) | (number == 0)
        rows = random.dirichlet(np.ones(num_labels), size=len(of_feature)) * has_target[:, None]
        targets.append(rows.astype(np.float32))
    return targets


def _lay_out(
    scores: Sequence[Any], ids: Sequence[np.ndarray], targets: Sequence[np.ndarray | None], *, is_packed: bool
) -> tuple[Any, MicroBatch]:
    """Return logits and micro-batch of some features, in one row or one a row, with an unused cell at the end."""
    import torch

    longest, total = max(map(len, ids)) + 1, sum(map(len, ids)) + 1
    shape = (1, total) if is_packed else (len(ids), longest)
    logits = torch.full((*shape, scores[0].shape[1]), 7.0, dtype=scores[0].dtype)
    labels = torch.full(shape, IGNORE)
    of_teachers = None if targets[0] is None else torch.zeros(logits.shape)
    places, start = [], 0
    for row, (s, i, t) in enumerate(zip(scores, ids, targets, strict=True)):
        place = Place(0, start, len(i)) if is_packed else Place(row, 0, len(i))
        logits[place.row, place.start : place.start + place.length] = s
        labels[place.row, place.start : place.start + place.length] = torch.from_numpy(i)
        if of_teachers is not None and t is not None:
            of_teachers[place.row, place.start : place.start + place.length] = torch.from_numpy(t)
        places.append(place)
        start += len(i)
    features = [_feature(i) for i in ids]
    return logits, MicroBatch({}, labels, places, features=features, targets=of_teachers)


def _feature(labels: np.ndarray) -> Feature:
    """Return a sentence with these labels, of which every other labelled subword decides a token."""
    decides = np.flatnonzero(labels != IGNORE)[::2]
    tokens = np.full(len(labels), -1)
    tokens[decides] = np.arange(len(decides))
    return Feature(np.zeros(len(labels), dtype=np.int64), labels, tokens, 0, (0,), (len(decides),))


def _check_weight(objective: Objective, ids: Sequence[np.ndarray]) -> None:
    weigh = getattr(objective, "weight", None)
    if weigh is None:
        return
    parts, whole = [weigh(i) for i in ids], weigh(np.concatenate(ids))
    require(
        all(isinstance(w, int | float) and w >= 0 for w in parts), f"weight: found {shorten(parts)}, expected 0 or more"
    )
    require(abs(sum(parts) - whole) <= 1e-6 * whole, f"weight: {shorten(parts)} don't add up to {whole}, that of all")
    nothing = weigh(np.full(3, IGNORE))
    require(nothing == 0, f"weight: found {nothing} for a feature without labels, expected 0")
