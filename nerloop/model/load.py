"""Load tokenizers and models from a folder or the hub; everything that can't be loaded is an error of one line."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerloop.config import ModelSettings
from nerloop.data.hub import is_path
from nerloop.errors import ModelError, shorten
from nerloop.model.head import labels_of_head, replace_head, set_labels
from nerloop.tags import OUTSIDE
from nerloop.types import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

log = logging.getLogger(__name__)

ATTENTIONS = ("eager", "sdpa")
"""Attention implementations that are safe. For other names transformers downloads and runs kernels of the hub."""

SMALLEST_VOCABULARY = 10
"""Minimum entries of a tokenizer. If its files are missing, transformers silently makes one of special tokens only."""


def load_tokenizer(settings: ModelSettings) -> Tokenizer:
    """Return the fast tokenizer of a folder or hub name. Raises ModelError if there is none."""
    from transformers import AutoTokenizer

    name = settings.name_or_path
    assert name is not None
    tokenizer = _load(AutoTokenizer.from_pretrained, settings, "tokenizer", use_fast=True)
    if not tokenizer.is_fast:
        raise ModelError(
            f"model.name_or_path {name}: its tokenizer ({type(tokenizer).__name__}) is not a fast one, which nerloop "
            "needs to know which subword belongs to which token; expected a tokenizer.json next to the model"
        )
    if len(tokenizer) < SMALLEST_VOCABULARY:
        raise ModelError(
            f"model.name_or_path {name}: found a tokenizer of {len(tokenizer)} entries, so its files are missing; "
            "expected a tokenizer.json next to the model"
        )
    if _needs_prefix_space(tokenizer):
        tokenizer = _load(AutoTokenizer.from_pretrained, settings, "tokenizer", use_fast=True, add_prefix_space=True)
    if _needs_prefix_space(tokenizer):  # some classes ignore the option and follow tokenizer.json
        _prepend_space(tokenizer)
    fast: Tokenizer = tokenizer
    return fast


def load_limited_tokenizer(settings: ModelSettings) -> Tokenizer:
    """Return the tokenizer of a model, with the model's length limit; reads no weights. Raises ModelError."""
    import torch
    from transformers import AutoModelForTokenClassification

    tokenizer = load_tokenizer(settings)
    config = _read_config(settings)

    def build(_: str, **options: Any) -> Any:
        del options["revision"]
        with torch.device("meta"):
            return AutoModelForTokenClassification.from_config(config, **options)

    finish_model(_load(build, settings, "model"), tokenizer, settings)
    return tokenizer


def load_model(settings: ModelSettings, labels: Sequence[str], tokenizer: Tokenizer) -> PreTrainedModel:
    """Return the model of a folder or hub name, with a head for these labels, in float32.

    If the model has a head already, rows whose label names match are kept. Other rows, or a missing head, are
    initialised. Raises ModelError if there is no model or it doesn't fit the tokenizer.
    """
    import torch

    config = _read_config(settings)
    own_labels = labels_of_head(config)
    if own_labels is None:
        set_labels(config, labels)
    set_dropout(config, settings.dropout)
    model = _read_weights(settings, config, torch.float32)
    if own_labels is not None and own_labels != list(labels):
        kept = replace_head(model, own_labels, labels)
        log.info("the model's head has %d of the %d labels; the other rows are initialised", len(kept), len(labels))
    finish_model(model, tokenizer, settings)
    return model


def load_saved(settings: ModelSettings, tokenizer: Tokenizer) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Return a trained model as it was saved, and its labels by id. Raises ModelError if there is none."""
    labels = saved_labels(settings)
    model = _read_weights(settings, _read_config(settings), "auto")
    finish_model(model, tokenizer, settings)
    return model, labels


def saved_labels(settings: ModelSettings) -> tuple[str, ...]:
    """Return the labels of a trained model by id, without reading its weights. Raises ModelError if it has none."""
    labels = labels_of_head(_read_config(settings))
    if labels is None or OUTSIDE not in labels:
        raise ModelError(f"{settings.name_or_path}: found no token classification head whose labels have 'O'")
    return tuple(labels)


def new_model(
    config: PreTrainedConfig, settings: ModelSettings, labels: Sequence[str], tokenizer: Tokenizer
) -> PreTrainedModel:
    """Return a model with random weights for a configuration."""
    from transformers import AutoModelForTokenClassification

    set_labels(config, labels)
    set_dropout(config, settings.dropout)
    model = AutoModelForTokenClassification.from_config(config)
    finish_model(model, tokenizer, settings)
    return model


def finish_model(model: PreTrainedModel, tokenizer: Tokenizer, settings: ModelSettings) -> None:
    """Set every dropout, and the tokenizer's length limit. Raises ModelError if tokenizer and model don't fit."""
    from torch import nn

    if settings.dropout is not None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = settings.dropout
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ModelError(
            f"model.name_or_path {settings.name_or_path}: the tokenizer has {len(tokenizer)} entries, the model's "
            f"embedding {rows} rows; expected a tokenizer that belongs to the model"
        )
    tokenizer.model_max_length = min(tokenizer.model_max_length, position_limit(model))


def position_limit(model: PreTrainedModel) -> int:
    """Return the maximum number of subwords of an input, special tokens included."""
    from torch import nn

    limits = [int(n) for n in [getattr(model.config, "max_position_embeddings", None)] if n and n > 0]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            limits.append(module.num_embeddings - module.padding_idx - 1)  # RoBERTa's positions start after padding_idx
    return min(limits, default=1_000_000)


def set_dropout(config: PreTrainedConfig, dropout: float | None) -> None:
    """Set every dropout of a configuration, also that of attention; None changes nothing."""
    if dropout is None:
        return
    for name, value in list(config.to_dict().items()):
        is_rate = isinstance(value, int | float) and not isinstance(value, bool)
        if ("dropout" in name or name.endswith("_pdrop")) and (is_rate or name == "classifier_dropout"):
            setattr(config, name, dropout)


def _needs_prefix_space(tokenizer: Tokenizer) -> bool:
    """Whether this is a byte-level tokenizer that has other subwords for a word without a space before it."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    normalizer, splitter = state.get("normalizer") or {}, state.get("pre_tokenizer") or {}
    return any(
        part.get("type") == "ByteLevel" and not part.get("add_prefix_space", True)
        for part in [splitter, *splitter.get("pretokenizers", [])]
    ) and not any(part.get("type") == "Prepend" for part in [normalizer, *normalizer.get("normalizers", [])])


def _prepend_space(tokenizer: Tokenizer) -> None:
    """Make the tokenizer put a space before each word, before it splits the word."""
    from tokenizers import normalizers

    backend = tokenizer.backend_tokenizer
    space = normalizers.Prepend(" ")
    backend.normalizer = normalizers.Sequence([backend.normalizer, space]) if backend.normalizer else space


def _read_config(settings: ModelSettings) -> PreTrainedConfig:
    """Return the model's configuration. Unless code is trusted, an attention that needs code of the hub is dropped."""
    from transformers import AutoConfig

    config: PreTrainedConfig = _load(AutoConfig.from_pretrained, settings, "model")
    if config._attn_implementation not in (*ATTENTIONS, None) and not settings.trust_remote_code:
        log.warning(
            "warning: config.json asks for the attention %s, which may be code of the hub; using torch's own",
            shorten(config._attn_implementation),
        )
        config._attn_implementation = None
    return config


def _load(load: Any, settings: ModelSettings, what: str, **options: Any) -> Any:
    """Call one of transformers' `from_pretrained`; turn any exception into a ModelError of one line."""
    name = settings.name_or_path
    assert name is not None
    is_folder = Path(name).is_dir()
    if is_folder and not Path(name, "config.json").exists():
        raise ModelError(
            f"model.name_or_path {name}: found no config.json in this folder; expected a transformers model"
        )
    if Path(name).is_file():
        raise ModelError(f"model.name_or_path {name}: found a file, expected a transformers model's folder")
    if not is_folder and is_path(name):
        raise ModelError(f"model.name_or_path {name}: no such folder")
    # For a model of the hub that is a pickle, transformers would open a request to convert it, in the user's name.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # torch warns before it refuses the file
            return load(name, revision=settings.revision, trust_remote_code=settings.trust_remote_code, **options)
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and more
        reason = " ".join(str(error).split())[:200]
        if type(error).__name__ == "UnpicklingError":
            reason = (
                "its weights are a pickle that holds more than tensors, which may run code; expected model.safetensors"
            )
        elif "trust_remote_code=True" in str(error):
            reason = "it comes with code of its own; if you trust that, set model.trust_remote_code"
        elif not is_folder and _is_unreachable(error):
            reason = "the hub can't be reached and the model is not in its cache; offline, give a folder"
        elif not is_folder and isinstance(error, OSError):
            reason = "neither a local folder nor a readable model of the hub"
        raise ModelError(f"model.name_or_path {name}: can't load the {what}: {reason}") from error


def _read_weights(settings: ModelSettings, config: PreTrainedConfig, dtype: Any) -> PreTrainedModel:
    """Return the model with its weights. Warn if some of the encoder's are missing, ModelError if all are."""
    from transformers import AutoModelForTokenClassification

    model: PreTrainedModel
    load = AutoModelForTokenClassification.from_pretrained
    model, found = _load(
        load,
        settings,
        "model",
        config=config,
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # the head of another task may have the same name
    )
    if wrong := [key[0] for key in found["mismatched_keys"] if key[0].startswith(f"{model.base_model_prefix}.")]:
        raise ModelError(
            f"model.name_or_path {settings.name_or_path}: {wrong[0]} has another shape than config.json says"
        )
    encoder = [name for name in model.state_dict() if name.startswith(f"{model.base_model_prefix}.")]
    missing = sorted(found["missing_keys"] & set(encoder))
    if missing and len(missing) == len(encoder):
        raise ModelError(
            f"model.name_or_path {settings.name_or_path}: its weights are not those of a {type(model).__name__}: found "
            f"{shorten(min(found['unexpected_keys'], default=''))} and the like, expected {shorten(missing[0])}"
        )
    if missing:
        log.warning(
            "warning: %d tensors of the model are not in its files and are initialised: %s", len(missing), missing[0]
        )
    return model


def _is_unreachable(error: BaseException | None) -> bool:
    """Whether a failed connection caused an error of transformers."""
    while error is not None:
        text = f"{type(error).__name__}: {error}"
        if any(
            sign in text for sign in ("ConnectError", "ConnectionError", "couldn't connect", "OfflineMode", "Timeout")
        ):
            return True
        error = error.__cause__ or error.__context__
    return False
