"""Tag text from Python: nerloop.load("runs/x/model").tag("Anna Smith flew to Paris.")."""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from nerloop.config import ModelSettings
from nerloop.data.checks import has_surrogate
from nerloop.data.readers.text import records_of
from nerloop.data.records import cut_untagged
from nerloop.data.segmentation import Rule
from nerloop.decoding.operating_points import DEFAULT, Curve
from nerloop.errors import ConfigError, DataError, shorten
from nerloop.evaluation.backends import in_precision, load_model, single_process
from nerloop.evaluation.operating import Choice, thresholds_for, with_biases
from nerloop.evaluation.predictor import Predictor, Split, build_decodings
from nerloop.model.load import load_tokenizer
from nerloop.model.saved import SavedModel
from nerloop.tags import OUTSIDE, split_tag
from nerloop.types import Example

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Entity = dict[str, Any]
"""An entity: text, type, start and end (characters, half-open), confidence (0 to 1)."""


class Tagger:
    """A saved model that tags texts and token lists of any length; `nerloop.load` returns one."""

    def __init__(self, predictor: Predictor, model: Any, saved: SavedModel) -> None:
        """Set the predictor, the model, and its description in nerloop.json."""
        self._predictor, self._model, self._saved = predictor, model, saved
        self._rule: Rule = saved.read_options.rule
        self._at_point = {DEFAULT: predictor}  # predictors by operating point; they share the model
        if hasattr(predictor.decodings[predictor.main_decoding], "bias"):
            self._at_point |= {name: with_biases(predictor, saved, name) for name in saved.calibration.points}
        self._by_choice: dict[Choice, Predictor] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names by id."""
        return tuple(self._predictor.labels)

    @property
    def types(self) -> tuple[str, ...]:
        """The types of entities that the model can find, in the order of its labels."""
        return tuple(dict.fromkeys(split_tag(label)[1] for label in self.labels if label != OUTSIDE))

    @property
    def curves(self) -> dict[str, Curve | None]:
        """By operating point: precision and recall on validation at each threshold, None for an uncalibrated model.

        The thresholds are those of `nerloop.load(...).thresholds`.
        """
        points = self._saved.calibration.points
        return {name: points[name].curves["all"] if name in points else None for name in self._at_point}

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The minimum confidences at which `curves` have values."""
        return self._saved.calibration.thresholds

    @overload
    def tag(self, what: str, **choice: Any) -> list[Entity]: ...
    @overload
    def tag(self, what: Sequence[str | Sequence[str]], **choice: Any) -> list[list[Entity]]: ...
    def tag(  # type: ignore[misc]  # mypy: `**choice` could hold other names
        self,
        what: str | Sequence[str | Sequence[str]],
        *,
        operating_point: str = DEFAULT,
        min_confidence: float | None = None,
        target_precision: float | None = None,
        target_recall: float | None = None,
        per_type: bool = False,
    ) -> list[Entity] | list[list[Entity]]:
        """Return the entities of a text, or of each of several texts or token lists, as `nerloop.predict` finds them.

        A text is cut into sentences and tokens by the rule of the training; a line break ends a sentence. In a token
        list, start and end count the characters of its tokens joined with single spaces. A list of strings is a list of
        texts; one token list is [["Anna", "lives", "here"]].

        The other arguments are as the flags of `nerloop.predict`. Raises ConfigError for what the model lacks, and
        DataError for what is no text, and for half a surrogate pair, which is no character.
        """
        choice = Choice(operating_point, min_confidence, target_precision, target_recall, per_type)
        if choice not in self._by_choice:
            self._by_choice[choice] = self._predictor_for(choice)
        predictor = self._by_choice[choice]
        texts = [what] if isinstance(what, str) else list(what) if isinstance(what, Iterable) else [what]
        for text in texts:
            is_list = isinstance(text, Iterable) and not isinstance(text, str)
            if not (all(isinstance(token, str) for token in text) if is_list else isinstance(text, str)):
                raise DataError(f"found {shorten(text)}, expected a text, or a list of texts or of token lists")
        wholes = [text if isinstance(text, str) else " ".join(text) for text in texts]
        for number, whole in enumerate(wholes):
            if has_surrogate(whole):
                raise DataError(f"text {number}: half a surrogate pair is no character")
        sentences = [list(self._examples(text, f"{number}")) for number, text in enumerate(texts)]
        found = iter(self._tag(predictor, [example for of_text in sentences for example in of_text]))
        entities: list[list[Entity]] = []
        for whole, of_text in zip(wholes, sentences, strict=True):
            entities.append([_with_text(whole, entity) for _ in of_text for entity in next(found)])
        return entities[0] if isinstance(what, str) else entities

    def parts(self, text: str | Sequence[str], name: str) -> list[list[Example]]:
        """Return the parts of a text or token list that can be tagged independently, each a list of sentences.

        A part is a sentence; with an alignment that looks at neighbouring sentences, a document. `name` tells documents
        of different texts apart. Parts without tokens are left out.
        """
        sentences = [example for example in self._examples(text, name) if example.tokens]
        if getattr(self._predictor.alignment, "needs_documents", False):
            return [list(of) for _, of in itertools.groupby(sentences, key=lambda example: example.document)]
        return [[example] for example in sentences]

    def tag_sentences(self, sentences: Sequence[Example], operating_point: str = DEFAULT) -> list[list[Entity]]:
        """Return the entities of each sentence, in characters of the text it was cut from, without "text".

        Sentences of a document are consecutive, as `parts` returns them. The operating point is one of `curves`.
        """
        return self._tag(self._at_point[operating_point], sentences)

    def _tag(self, predictor: Predictor, sentences: Sequence[Example]) -> list[list[Entity]]:
        split = Split.of(sentences, predictor.alignment, predictor.collator)
        predictions = predictor.tag(self._model, split)
        return [
            [_entity(example, span) for span in predictions[i].spans(predictor.main_decoding)]
            for i, example in enumerate(sentences)
        ]

    def _predictor_for(self, choice: Choice) -> Predictor:
        """Return the predictor at an operating point, with thresholds. Raises ConfigError."""
        calibration, name = self._saved.calibration, choice.operating_point
        if name not in self._at_point:
            calibration.point(name)  # raises, and names those that there are
            raise ConfigError(f"operating_point {name}: decoding {self._predictor.main_decoding} has none; use viterbi")
        return replace(self._at_point[name], thresholds=thresholds_for(calibration, self._saved.scheme, choice))

    def _examples(self, text: str | Sequence[str], name: str) -> Iterator[Example]:
        """Yield the sentences of a text, or the one of a token list.

        In a text, a line break ends a sentence and a blank line a document, as in a file of plain text.
        """
        if not isinstance(text, str):
            starts = [0]
            for token in text[:-1]:
                starts.append(starts[-1] + len(token) + 1)
            # Not strict: an empty token list has no tokens, but `starts` has a 0.
            offsets = tuple((start, start + len(token)) for start, token in zip(starts, text, strict=False))
            yield Example(tuple(text), (), name, name, offsets)
            return
        for record in records_of(io.StringIO(text, newline="\n"), name):
            yield from cut_untagged(record, self._rule)


def load(
    folder: str | Path,
    *,
    device: str | torch.device | None = None,
    mixed_precision: str | None = None,
    plugins: Mapping[str, str | None] | None = None,
) -> Tagger:
    """Return the tagger of a model that nerloop saved or exported, such as "runs/x/model".

    Global settings are left unchanged. An export to ONNX or OpenVINO needs no torch.

    Args:
        folder: the model's folder
        device: where to compute (none: a GPU if there is one, else the CPU; an export: the CPU)
        mixed_precision: "no", "bf16", or "auto", which is bf16 where the hardware has it (none: as trained)
        plugins: plugins by kind to use instead of the model's; needed for a model that tags with your own code, which
            the folder of a model must not choose

    Raises:
        ModelError: the folder holds no such model, or the device can't be used
        ConfigError: the hardware does not support the precision
        PluginError: the model needs code that is not nerloop's, and `plugins` doesn't name it
    """
    saved = in_precision(SavedModel.read(folder, plugins), mixed_precision, device)
    accelerator, precision = single_process(saved, device)
    predictor, model = load_predictor(str(folder), saved, accelerator, precision)
    return Tagger(predictor, model, saved)


def load_predictor(folder: str, saved: SavedModel, accelerator: Any, precision: str) -> tuple[Predictor, Any]:
    """Return predictor and model of a saved or exported model. Raises ModelError."""
    tokenizer = load_tokenizer(ModelSettings(name_or_path=folder))
    model, labels, collator, backend = load_model(folder, saved, tokenizer, accelerator, precision)
    alignment = saved.plugins["alignment"].build("alignment", tokenizer, labels)
    decodings = build_decodings(saved.plugins["decoding"], labels, saved.scheme)
    predictor = Predictor(
        labels,
        alignment,
        collator,
        decodings,
        accelerator,
        temperature=saved.calibration.temperature,
        backend=backend,
    )
    predictor.learn(saved.learned)
    if ignored := predictor.describe_unused(saved.learned):
        log.warning("warning: %s", ignored)
    return predictor, model


def _with_text(whole: str, entity: Entity) -> Entity:
    return {"text": whole[entity["start"] : entity["end"]], **entity}


def _entity(example: Example, span: Mapping[str, Any]) -> Entity:
    """Return a span of tokens as an entity in characters, without "text"."""
    start, end = example.offsets[span["start"]][0], example.offsets[span["end"] - 1][1]
    return {"type": span["type"], "start": start, "end": end, "confidence": span["confidence"]}
