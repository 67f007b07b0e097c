"""Plugins that change a model between loading and training: which weights are trained, and which are added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from nerloop.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from torch import nn


class Adaptation(Protocol):
    """An adaptation is built as `cls(**options)`."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Return the model to train, from the model that was loaded (it may be the same, changed in place).

        Parameters whose `requires_grad` is false are not trained; the optimizer never sees them.
        """
        ...

    def merge(self, model: nn.Module) -> nn.Module:
        """Return a plain transformers model with the trained weights, to be saved (it may be the same)."""
        ...


class Full:
    """Train every weight: full fine-tuning."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Return the model as it is."""
        return model

    def merge(self, model: nn.Module) -> nn.Module:
        """Return the model as it is."""
        return model


class Freeze(Full):
    """Train the upper layers and the head alone; the embeddings and the first layers keep their weights."""

    def __init__(self, *, num_layers: int = 1) -> None:
        """Take how many layers to freeze, counted from the embeddings.

        Args:
            num_layers: layers of the encoder that are not trained; 0: the embeddings alone
        """
        if not isinstance(num_layers, int) or num_layers < 0:
            raise ConfigError(f"adaptation.num_layers: found {num_layers}, expected 0 or more")
        self.num_layers = num_layers

    def apply(self, model: nn.Module) -> nn.Module:
        """Freeze the embeddings and the first layers. Raises ModelError where the model has too few layers."""
        encoder: nn.Module = getattr(model, "base_model", model)
        path, layers = layers_of(encoder)
        if self.num_layers > len(layers):
            raise ModelError(f"adaptation.num_layers: found {self.num_layers}, but the model has {len(layers)} layers")
        is_before = True  # the encoder's modules are registered in the order of the forward: embeddings come first
        for name, parameter in encoder.named_parameters():
            is_before = is_before and not name.startswith(f"{path}.")
            number = name.removeprefix(f"{path}.").partition(".")[0]
            if is_before or (name.startswith(f"{path}.") and int(number) < self.num_layers):
                parameter.requires_grad_(False)
        return model


def layers_of(encoder: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the name of an encoder's list of layers, and the list: its longest one. Raises ModelError without one."""
    from torch import nn

    lists = [(name, module) for name, module in encoder.named_modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ModelError(f"{type(encoder).__name__}: found no list of layers to freeze")
    return max(lists, key=lambda pair: len(pair[1]))
