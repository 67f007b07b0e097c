"""Choose the precision of a launch, as far as the hardware supports it."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from nerloop.config import Config
from nerloop.errors import ConfigError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def has_accelerator() -> bool:
    """Return whether torch sees a device other than the CPU."""
    import torch

    return bool(torch.accelerator.is_available())


def resolve_precision(setting: str) -> str:
    """Return "no", "bf16", "fp16" or "float64" for `train.mixed_precision`. Raises ConfigError."""
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no") if setting == "profile" else setting
    if precision == "auto":
        return "bf16" if has_bf16() else "no"
    if precision not in ("no", "bf16", "fp16", "float64"):
        raise ConfigError(f"train.mixed_precision: the profile asks for {precision!r}, expected no, bf16 or fp16")
    if precision == "fp16" and not has_accelerator():
        raise ConfigError("train.mixed_precision: found fp16, which needs a GPU; use bf16 or no on a CPU")
    return precision


def has_bf16(device: torch.device | str | None = None) -> bool:
    """Return whether a device multiplies bf16 matrices: GPUs from Ampere on, CPUs with AVX512-BF16 or AMX.

    None: the GPU if there is one, else the CPU.
    """
    import torch

    if torch.cuda.is_available() and (device is None or torch.device(device).type == "cuda"):
        return torch.cuda.get_device_capability() >= (8, 0)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def precision_here(saved: str, device: torch.device) -> str:
    """Return the precision for tagging with a model trained in `saved`: "no" (float32) if the device lacks it."""
    if saved == "fp16" and device.type == "cpu":
        return "no"
    return "no" if saved == "bf16" and not has_bf16(device) else saved


def hint_at_bf16(config: Config, precision: str) -> None:
    """Log a hint that the hardware has bf16, where the profile's "no" may only be accelerate's default."""
    if config.train.mixed_precision == "profile" and precision == "no" and has_bf16():
        log.info("hint: this machine multiplies bf16 in hardware; --train.mixed_precision auto uses it")
