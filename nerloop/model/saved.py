"""Read and write nerloop.json, the file in a saved model's folder that says how nerloop tags with the model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nerloop.config import Config, Plugin
from nerloop.data.options import ReadOptions
from nerloop.data.segmentation import SAVED_AS, SAVED_BEFORE
from nerloop.decoding.operating_points import Calibration
from nerloop.errors import DataError, ModelError, PluginError
from nerloop.evaluators import Evaluator
from nerloop.plugins import BUILT_IN
from nerloop.tags import Scheme

FILE = "nerloop.json"
LIST_OF_NUMBERS = re.compile(r"\[[\d\s.,e+-]+\]")
"""A list of numbers in indented JSON, which `write` puts on one line."""
TAGGING = ("alignment", "collator", "decoding")
"""The plugins that tagging needs."""
KINDS = (*TAGGING, "evaluator")
"""The plugins that tagging and scoring need; the others are about training."""

BACKENDS = ("torch", "onnx", "onnx-int8", "openvino")
"""What can compute with a saved model: torch, or the runtime of an export (`nerloop.export`)."""


@dataclass(frozen=True)
class SavedModel:
    """The plugins, the scheme and the precision that a model was trained with, and how its training files were read."""

    plugins: Mapping[str, Plugin]  # by kind; `build_evaluator` builds the evaluator
    scheme: Scheme
    precision: str  # "no", "bf16", "fp16" or "float64"
    read_options: ReadOptions  # its tokenizer is the rule that cuts texts into tokens
    learned: Mapping[str, np.ndarray] = field(default_factory=dict)  # of the objective, for decoding
    calibration: Calibration = field(default_factory=Calibration)  # older models have none
    backend: str = BACKENDS[0]
    refusal: str = ""  # why the evaluator must not be built, if it must not

    @property
    def is_exported(self) -> bool:
        """Whether a runtime other than torch computes with the model."""
        return self.backend != BACKENDS[0]

    def build_evaluator(self) -> Evaluator:
        """Return the evaluator, which only scoring needs. Raises PluginError for other code that nobody has named."""
        if self.refusal:
            raise PluginError(self.refusal)
        evaluator: Evaluator = self.plugins["evaluator"].build("evaluator")
        return evaluator

    @staticmethod
    def of(
        config: Config,
        scheme: Scheme,
        precision: str,
        learned: Mapping[str, np.ndarray],
        calibration: Calibration = Calibration(),  # noqa: B008 (frozen)
    ) -> SavedModel:
        """Return the description of the model that a training has made."""
        chosen: dict[str, Plugin] = {kind: getattr(config, kind) for kind in KINDS}
        return SavedModel(chosen, scheme, precision, ReadOptions.of(config.data), learned, calibration)

    def write(self, folder: Path) -> None:
        """Write nerloop.json into the folder of a model."""
        rule = SAVED_AS.get(self.read_options.tokenizer, self.read_options.tokenizer)
        values: dict[str, Any] = {
            **{kind: asdict(plugin) for kind, plugin in self.plugins.items()},
            "scheme": self.scheme,
            "mixed_precision": self.precision,
            "tokenizer": rule,  # where models had it before they had "data"
            "data": self.read_options.to_dict() | {"tokenizer": rule},
        }
        if self.learned:
            values["learned"] = {name: array.tolist() for name, array in self.learned.items()}
        if self.is_exported:
            values["backend"] = self.backend
        if self.calibration.points:
            values["calibration"] = self.calibration.to_dict()
        text = LIST_OF_NUMBERS.sub(lambda found: re.sub(r"\s+", " ", found[0]), json.dumps(values, indent=1))
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def read(folder: str | Path, chosen: Mapping[str, str | None] | None = None) -> SavedModel:
        """Return what nerloop.json says in the folder of a model.

        `chosen` names plugins by kind (and the "tokenizer" rule) to be used instead of the model's. Code that is not
        nerloop's runs only where `chosen` names it: the folder of a model must not choose code. Raises ModelError where
        the folder holds no model of nerloop, PluginError where it asks for other code to tag with. Where it asks for
        another evaluator, only `build_evaluator` raises.
        """
        path, chosen = Path(folder, FILE), chosen or {}
        saved = SavedModel.read_unchecked(folder)
        plugins, calibration, refusal = dict(saved.plugins), saved.calibration, ""
        if chosen.get("decoding") not in (None, plugins["decoding"].name):
            calibration = Calibration()  # it was fitted for the probabilities and the spans of the other one
        for kind, plugin in plugins.items():
            asked = chosen.get(kind)
            if asked is not None and asked != plugin.name:
                plugins[kind] = Plugin(asked)
            elif asked is None and plugin.name not in BUILT_IN[kind]:
                refusal = (
                    f"{path}: {kind} is {plugin.name!r}, which is not nerloop's code; "
                    f"if you trust it, say --{kind} {plugin.name} (nerloop.load: plugins={{{kind!r}: {plugin.name!r}}})"
                )
                if kind in TAGGING:
                    raise PluginError(refusal)
        options, asked_rule = saved.read_options, chosen.get("tokenizer")
        if asked_rule is None and not options.has_built_in_tokenizer:
            rule = options.tokenizer
            raise PluginError(
                f"{path}: tokenizer is {rule!r}, which is not nerloop's code; "
                f"if you trust it, say --tokenizer {rule} (nerloop.load: plugins={{'tokenizer': {rule!r}}})"
            )
        options = replace(options, tokenizer=asked_rule or options.tokenizer)
        return replace(saved, plugins=plugins, calibration=calibration, read_options=options, refusal=refusal)

    @staticmethod
    def read_unchecked(folder: str | Path) -> SavedModel:
        """Return what nerloop.json says, without a look at whose code it names: build nothing from it.

        Raises ModelError where the folder holds no model of nerloop.
        """
        path = Path(folder, FILE)
        if not Path(folder).is_dir():
            found = "found a file, expected the folder of a model" if Path(folder).exists() else "no such folder"
            raise ModelError(f"model {folder}: {found}")
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            plugins = {kind: Plugin(str(values[kind]["name"]), dict(values[kind]["options"])) for kind in KINDS}
            scheme = Scheme(values["scheme"])
            read = ReadOptions.from_dict(values.get("data", {}))  # older models have none, or only a tokenizer
            rule = str(values.get("tokenizer", read.tokenizer))
            learned = {str(n): np.array(v, dtype=np.float64) for n, v in dict(values.get("learned", {})).items()}
            calibration = Calibration.from_dict(values["calibration"]) if "calibration" in values else Calibration()
            precision = values["mixed_precision"]
            if precision not in ("no", "bf16", "fp16", "float64"):
                raise ValueError(f"mixed_precision {precision!r}")
            backend = values.get("backend", BACKENDS[0])
            if backend not in BACKENDS:
                raise ValueError(f"backend {backend!r}")
        except OSError as error:
            inside = Path(folder, "model")
            instead = f", such as {inside}" if Path(inside, FILE).exists() else " that nerloop saved"
            raise ModelError(f"{path}: can't be read; expected a model folder{instead}") from error
        except DataError as error:
            raise ModelError(f"{path}: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{path}: not what nerloop writes: {error!r}") from error
        read = replace(read, tokenizer=SAVED_BEFORE.get(rule, rule))
        return SavedModel(plugins, scheme, precision, read, learned, calibration, backend)


def code_flags(config: Config) -> dict[str, str]:
    """Return the flags that `nerloop.predict` needs for a model trained with these settings.

    They name the plugins that are the user's own code, which a model's folder alone must not make run:
    {"--evaluator": "my_evaluator.Partial"}
    """
    plugins = {f"--{kind}": getattr(config, kind).name for kind in KINDS}
    found = {flag: name for flag, name in plugins.items() if name not in BUILT_IN[flag.removeprefix("--")]}
    read_options = ReadOptions.of(config.data)
    return found if read_options.has_built_in_tokenizer else found | {"--tokenizer": read_options.tokenizer}
