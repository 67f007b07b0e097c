"""Open exported models: a runtime that takes arrays and returns logits. No torch is needed here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nerloop.errors import ModelError

Logits = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""An exported model: takes input_ids and attention_mask, (rows, width) int64; returns logits, (rows, width, labels)."""

ONNX_FILE, OPENVINO_FILE = "model.onnx", "openvino_model.xml"


def open_exported(folder: str | Path, backend: str, *, threads: int) -> Logits:
    """Return the exported model in a folder, on the CPU. Raises ModelError if it can't be opened."""
    file, package, start, _ = RUNTIMES[backend]
    path = Path(folder, file)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected a model that nerloop.export wrote")
    try:
        return start(str(path), threads)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ModelError(f"{folder}: this export needs {package}: pip install {package}") from error
    except Exception as error:  # each runtime has its own exceptions for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: {package} can't open it: {type(error).__name__}: {reason}") from error


def _start_onnx(path: str, threads: int) -> Logits:
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # only builds for Windows have any
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # the default counts the cores of the machine, not of the process
    options.log_severity_level = 3  # only errors, which are also raised
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def logits(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        found: np.ndarray = session.run(["logits"], {name: inputs[name] for name in names})[0]
        return found

    return logits


def import_openvino() -> Any:
    """Import and return OpenVINO, and keep it from reporting each import and conversion to Intel.

    OpenVINO reports through the package openvino_telemetry, and does not if importing that fails. Raises
    ModuleNotFoundError without OpenVINO.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: importing it fails
    import openvino

    return openvino


def _start_openvino(path: str, threads: int) -> Logits:
    openvino = import_openvino()
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # the default is bf16 if the CPU supports it
    }
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    names = [port.get_any_name() for port in compiled.inputs]
    request = compiled.create_infer_request()

    def logits(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        found: np.ndarray = request.infer({name: inputs[name] for name in names})[0]
        return found.copy()  # the next call overwrites this memory

    return logits


class Runtime(NamedTuple):
    """How to open and run one kind of export."""

    file: str  # in its folder
    package: str  # that opens it
    start: Callable[[str, int], Logits]  # takes the path and the number of threads
    max_subwords: int  # cells per forward, which holds at least one feature: 1 means one feature per forward


# Rows of 1,024 subwords stay in the CPU's cache. int8: a single row, since activations are quantized with one scale
# for the whole micro-batch, and a sentence's scores must not depend on the sentences beside it.
RUNTIMES: Mapping[str, Runtime] = {
    "onnx": Runtime(ONNX_FILE, "onnxruntime", _start_onnx, 1024),
    "onnx-int8": Runtime(ONNX_FILE, "onnxruntime", _start_onnx, 1),
    "openvino": Runtime(OPENVINO_FILE, "openvino", _start_openvino, 1024),
}
"""The runtimes by backend, as nerloop.json names it."""
