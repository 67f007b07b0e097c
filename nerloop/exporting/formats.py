"""Write the graph of a model: ONNX by transformers' exporter, and from ONNX the other formats."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerloop.errors import ConfigError, ModelError
from nerloop.model.runtimes import ONNX_FILE, OPENVINO_FILE, import_openvino


@dataclass(frozen=True)
class Format:
    """One value of `--to`."""

    backend: str  # its name in nerloop.json
    packages: tuple[str, ...]  # that have to be installed
    write: Callable[[Path, Path], None]  # from the ONNX file, into the folder of the export
    is_exact: bool  # whether its logits equal the original's except for rounding


def check_installed(name: str) -> None:
    """Raise ConfigError for an unknown format, or if a package that it needs is missing."""
    if name not in FORMATS:
        raise ConfigError(
            f"--to {name}: found no converter that is exact at any length with torch 2.13 (nerloop/exporting/README.md "
            f"has what was tried), expected {', '.join(FORMATS)}"
        )
    missing = [package for package in FORMATS[name].packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(f'nerloop.export --to {name} needs {", ".join(missing)}: pip install "nerloop[export]"')


def write_onnx(model: Any, file: Path) -> None:
    """Write a model in evaluation mode as ONNX, for any number of rows and any width. Raises ModelError.

    Weights go to a separate file next to it, because an ONNX file can't exceed 2 GB.
    """
    import torch
    from torch.export import Dim
    from transformers.exporters import OnnxConfig, OnnxExporter

    # Two rows of different lengths, because the exporter would treat sizes of 0 and 1 as constants.
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 7:] = 0
    inputs = {"input_ids": torch.full((2, 12), 3), "attention_mask": mask}
    dynamic = {name: {0: Dim.AUTO, 1: Dim.AUTO} for name in inputs}
    try:
        with _quiet("torch.onnx"):
            program = OnnxExporter().export(model, inputs, OnnxConfig(dynamic=True, dynamic_shapes=dynamic)).program
            OnnxExporter.save_program(program, file)
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        raise ModelError(f"{type(model).__name__} can't be exported to ONNX: {_describe(error)}") from error
    if fixed := [one.name for one in program.graph.inputs if any(isinstance(size, int) for size in one.shape)]:
        raise ModelError(f"{type(model).__name__} can't be exported to ONNX: it fixes the size of {', '.join(fixed)}")


def _copy(onnx_file: Path, folder: Path) -> None:
    for file in (onnx_file, _weights_of(onnx_file)):
        shutil.copy(file, folder / file.name)


def _to_int8(onnx_file: Path, folder: Path) -> None:
    """Quantize the weights of the matrix products; activations are quantized dynamically, without calibration."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet(None):  # onnxruntime logs advice by the root logger
        quantize_dynamic(onnx_file, folder / ONNX_FILE, weight_type=QuantType.QInt8, per_channel=True)


def _to_openvino(onnx_file: Path, folder: Path) -> None:
    openvino = import_openvino()
    model = openvino.convert_model(onnx_file)
    openvino.save_model(model, folder / OPENVINO_FILE, compress_to_fp16=False)  # fp16 would change the logits


def _weights_of(onnx_file: Path) -> Path:
    """Return the file next to an ONNX file to which the exporter writes the weights."""
    return onnx_file.with_name(f"{onnx_file.name}.data")


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


@contextlib.contextmanager
def _quiet(name: str | None) -> Iterator[None]:
    """Discard warnings, printed text, and log lines below an error of the logger `name` (None: the root)."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


_TRACING = ("onnx", "onnxscript", "onnxruntime")
FORMATS: Mapping[str, Format] = {
    "onnx": Format("onnx", _TRACING, _copy, is_exact=True),
    "onnx-int8": Format("onnx-int8", _TRACING, _to_int8, is_exact=False),
    "openvino": Format("openvino", (*_TRACING, "openvino"), _to_openvino, is_exact=True),
}
