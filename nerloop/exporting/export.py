"""Export a saved model: write the graph, the files that nerloop needs to tag with it, and the comparison."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nerloop.config import ModelSettings
from nerloop.data import ReadOptions
from nerloop.data.options import SETTINGS
from nerloop.distributed.collectives import SingleProcess
from nerloop.errors import ConfigError, ModelError
from nerloop.evaluation.source import Source
from nerloop.evaluation.tagger import load_predictor
from nerloop.evaluators import Evaluator
from nerloop.exporting.check import Comparison, Tagging, compare, generated_sentences
from nerloop.exporting.formats import FORMATS, Format, check_installed, write_onnx
from nerloop.model.load import load_saved, load_tokenizer
from nerloop.model.runtimes import ONNX_FILE
from nerloop.model.saved import SavedModel
from nerloop.run.atomic import replacing
from nerloop.run.environment import version_of
from nerloop.run.output import write_errors
from nerloop.types import Example

log = logging.getLogger(__name__)

FILE = "export.json"
"""The comparison and the versions, written into the folder of the export."""


def export(
    folder: str,
    to: str,
    out: str,
    *,
    check: Sequence[str] = (),
    max_loss: float = 0.01,
    plugins: Mapping[str, str | None] | None = None,
) -> Comparison:
    """Write a saved model in another format into the new folder `out`; return its comparison with the original.

    Args:
        folder: a model that nerloop saved
        to: a key of FORMATS
        out: the folder to make
        check: files to compare both on (none: generated sentences)
        max_loss: how much worse the main metric may be, as a fraction: 0.01 is a point of F1
        plugins: as in `nerloop.load`

    Raises:
        NerloopError: the input can't be used; the model can't be exported; the export differs too much. Then `out` is
            not made.
    """
    check_installed(to)
    if Path(out).exists() and (not Path(out).is_dir() or any(Path(out).iterdir())):
        raise ConfigError(f"{out}: exists already, expected the name of a new folder")
    original = SavedModel.read(folder, plugins)
    if original.is_exported:
        raise ModelError(f"--model {folder}: is an export to {original.backend}, expected the trained model")
    examples = read_examples(check, original.read_options) if check else generated_sentences()
    evaluator = original.build_evaluator()
    original = replace(original, precision="no")  # the export has the float32 weights
    with write_errors(out), replacing(Path(out)) as beside:
        beside.mkdir(parents=True)
        _write(folder, original, FORMATS[to], beside)
        comparison = _compare(folder, original, FORMATS[to], beside, examples, evaluator)
        comparison.check(is_exact=FORMATS[to].is_exact, max_loss=max_loss)
        versions = {name: version_of(name) for name in ("nerloop", "torch", "transformers", *FORMATS[to].packages)}
        found = {
            "format": to,
            "model": folder,
            "versions": versions,
            "checked_on": list(check) or "generated sentences",
            "comparison": comparison.to_dict(),
        }
        (beside / FILE).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return comparison


def _write(folder: str, original: SavedModel, chosen: Format, beside: Path) -> None:
    """Write the graph, the configuration (with the labels), the tokenizer, nerloop.json and the model card."""
    settings = ModelSettings(name_or_path=folder)
    tokenizer = load_tokenizer(settings)
    model, _ = load_saved(settings, tokenizer)  # also sets the tokenizer's limit, which is saved with it
    with tempfile.TemporaryDirectory(prefix="nerloop-") as temporary:
        log.info("exporting %s", type(model).__name__)
        onnx_file = Path(temporary, ONNX_FILE)
        write_onnx(model.float().eval(), onnx_file)
        try:
            chosen.write(onnx_file, beside)
        except OSError:  # such as a full disk; `write_errors` reports it
            raise
        except Exception as error:  # each converter has its own exceptions
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ModelError(f"{type(model).__name__} can't be written for {chosen.backend}: {reason}") from error
    model.config.save_pretrained(str(beside))
    tokenizer.save_pretrained(str(beside))
    replace(original, backend=chosen.backend).write(beside)
    if (card := Path(folder, "README.md")).is_file():
        shutil.copy(card, beside)


def _compare(
    folder: str,
    original: SavedModel,
    chosen: Format,
    beside: Path,
    examples: Sequence[Example],
    evaluator: Evaluator,
) -> Comparison:
    """Return the comparison of the export in `beside` with the model in `folder`, each as nerloop reads it."""
    one_process = SingleProcess.on_cpu()
    tagging = Tagging(*load_predictor(folder, original, one_process, "no"))
    saved = replace(original, backend=chosen.backend)
    exported = Tagging(*load_predictor(str(beside), saved, SingleProcess(None, "no"), "no"))
    return compare(tagging, exported, examples, evaluator)


def read_examples(files: Sequence[str], saved: ReadOptions) -> list[Example]:
    """Return the sentences of the files, read as the training files were. Raises DataError, or ConfigError for none."""
    kept: dict[str, Any] = {s.name: getattr(saved, s.name) for s in SETTINGS if not s.metadata["is_of_files"]}
    with Source.of(files, ReadOptions(**kept, for_prediction=True), is_reader=True) as source:
        source.look_through()
        examples = list(source.read())
    if not examples:
        raise ConfigError(f"--check {files[0]}: found no sentences")
    return examples
