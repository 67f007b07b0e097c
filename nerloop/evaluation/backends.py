"""Load a saved model with its backend, torch or the runtime of an export, and compute the scores of micro-batches.

torch is imported inside the functions, because an exported model must work without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from nerloop.collators import Collator
from nerloop.collators.pad import PadArrays
from nerloop.config import ModelSettings
from nerloop.distributed.collectives import SingleProcess
from nerloop.distributed.precision import has_bf16, precision_here
from nerloop.distributed.threads import num_threads
from nerloop.errors import ConfigError, ModelError
from nerloop.model.load import load_saved, saved_labels
from nerloop.model.runtimes import RUNTIMES, Logits, open_exported
from nerloop.model.saved import SavedModel
from nerloop.types import MicroBatch, Tokenizer

Backend = Callable[[Any, MicroBatch, Any], list[np.ndarray]]
"""Takes a model, a micro-batch of the predictor's collator and the accelerator. Returns the log-probabilities of each
feature, (subwords, labels) each."""


class Loaded(NamedTuple):
    """A model that is ready to tag, and the objects that it needs for that."""

    model: Any
    labels: tuple[str, ...]
    collator: Collator
    backend: Backend


def in_precision(saved: SavedModel, asked: str | None, device: Any = None) -> SavedModel:
    """Return the saved model with the precision to tag in.

    Args:
        saved: the model
        asked: "no", "bf16", or "auto", which is bf16 where the hardware has it (None: as trained)
        device: where to compute (None: a GPU if there is one, else the CPU)

    Raises:
        ConfigError: the hardware does not support the precision, or the model is an export, whose precision is fixed
    """
    if asked is None:
        return saved
    if asked not in ("auto", "no", "bf16"):
        raise ConfigError(f"mixed_precision: found {asked!r}, expected auto, no or bf16")
    if saved.is_exported:
        raise ConfigError(f"--mixed_precision: found {asked}, but an export computes as it was exported; drop the flag")
    use_bf16 = asked != "no" and has_bf16(device)
    if asked == "bf16" and not use_bf16:
        raise ConfigError("--mixed_precision: found bf16, which this hardware does not support; expected auto or no")
    return replace(saved, precision="bf16" if use_bf16 else "no")


def accelerator_of(saved: SavedModel) -> tuple[Any, str]:
    """Return the accelerator of this launch, and the precision to tag in. An export in one process needs no torch."""
    if saved.is_exported and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return SingleProcess(None, "no"), "no"
    import torch

    from nerloop.distributed.launch import make_accelerator
    from nerloop.run import malloc

    precision = precision_here(saved.precision, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    accelerator = make_accelerator(precision)
    if accelerator.device.type == "cpu":
        malloc.keep_freed_memory()
    return accelerator, precision


def single_process(saved: SavedModel, device: Any) -> tuple[SingleProcess, str]:
    """Return a substitute for the accelerator in a single process, and the precision. Changes no global state."""
    if saved.is_exported:
        if str(device or "cpu") != "cpu":
            raise ModelError(f"device {device}: an exported model computes on the CPU; expected cpu")
        return SingleProcess(None, "no"), "no"
    import torch

    from nerloop.kernels import bindings

    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(f"device {device}: can't be used ({reason}); expected one such as cpu or cuda") from error
    precision = precision_here(saved.precision, chosen)
    bindings.start(with_bf16=precision == "bf16")
    return SingleProcess(chosen, precision), precision


def load_model(folder: str, saved: SavedModel, tokenizer: Tokenizer, accelerator: Any, precision: str) -> Loaded:
    """Return a saved model, on the accelerator's device or in the runtime of its export. Raises ModelError."""
    load = _load_exported if saved.is_exported else _load_torch
    return load(ModelSettings(name_or_path=folder), saved, tokenizer, accelerator, precision)


def _load_exported(settings: ModelSettings, saved: SavedModel, tokenizer: Tokenizer, _: Any, __: str) -> Loaded:
    assert settings.name_or_path is not None
    labels = saved_labels(settings)
    model = open_exported(settings.name_or_path, saved.backend, threads=num_threads())
    return Loaded(model, labels, PadArrays(tokenizer, RUNTIMES[saved.backend].max_subwords), run_exported)


def _load_torch(
    settings: ModelSettings, saved: SavedModel, tokenizer: Tokenizer, accelerator: Any, precision: str
) -> Loaded:
    """Return a model of transformers; on a CPU with nerloop's fused kernels."""
    from nerloop.kernels.modules import replace_with_fused
    from nerloop.model.compat import choose_collator, prepare_collator
    from nerloop.optim.master_weights import cast_parameters

    model, labels = load_saved(settings, tokenizer)
    model = (model.double() if precision == "float64" else model).to(accelerator.device)
    collator, _ = choose_collator(saved.plugins["collator"].build("collator", tokenizer), model, tokenizer)
    if accelerator.device.type == "cpu":
        replace_with_fused(model)
    if precision == "bf16":
        cast_parameters(model)
        prepare_collator(collator, model)
    return Loaded(model, labels, collator, run_torch)


def run_torch(model: Any, batch: MicroBatch, accelerator: Any) -> list[np.ndarray]:
    """Return the log-probabilities of each feature, computed by a torch model in evaluation mode."""
    import torch

    from nerloop.model.forward import feature_logits

    model = accelerator.unwrap_model(model)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), accelerator.autocast():
            logits = feature_logits(model, batch)
    finally:
        model.train(was_training)
    joined = torch.cat(logits)  # so that all features take a single transfer from the device
    joined = joined if joined.dtype.itemsize >= 4 else joined.float()  # NumPy has no bf16; fp16 is too coarse
    flat = joined.log_softmax(dim=-1).cpu().numpy()
    return np.split(flat, np.cumsum([len(one) for one in logits])[:-1])


def run_exported(model: Logits, batch: MicroBatch, _: Any) -> list[np.ndarray]:
    """Return the log-probabilities of each feature, computed by the runtime of an exported model."""
    arrays: Any = batch.inputs  # NumPy arrays, from the collator PadArrays
    logits = model(arrays)
    shifted = logits - logits.max(axis=-1, keepdims=True)  # exp can't overflow then
    scores = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return [scores[row, start : start + length] for row, start, length in batch.places]
