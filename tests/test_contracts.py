"""The contracts pass what is built in and what is sound elsewhere, and say what is wrong with the rest."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from nerloop.alignment.all import All
from nerloop.alignment.document import Document
from nerloop.alignment.first import First
from nerloop.collators.pack import Pack
from nerloop.collators.pad import Pad
from nerloop.contracts import NASTY, check_alignment, check_collator, check_decoding, check_evaluator, nasty_examples
from nerloop.decoding.argmax import Argmax
from nerloop.decoding.viterbi import Viterbi
from nerloop.errors import PluginError
from nerloop.evaluators.seqeval import Seqeval
from nerloop.plugins import BUILT_IN, find
from nerloop.tags import Scheme
from nerloop.types import IGNORE, MicroBatch, Place

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def built_in(kind: str) -> list[type]:
    return [find(kind, name) for name in BUILT_IN[kind]]


@pytest.mark.parametrize(
    ("kind", "check", "built"),
    [
        ("evaluator", check_evaluator, Seqeval()),
        (
            "collator",
            lambda built: check_collator(built, SimpleNamespace(model_max_length=8)),
            Pad(SimpleNamespace(pad_token_id=0)),
        ),
        ("decoding", check_decoding, Argmax(LABELS, Scheme.IOB2)),
    ],
)
def test_a_plugin_that_is_built_already_is_told(kind, check, built):
    with pytest.raises(PluginError) as caught:
        check(built)
    name = type(built).__name__
    assert str(caught.value) == f"{kind} {name}: found an object, expected the class, or a function that builds it"


def test_every_built_in_plugin_has_a_contract_here():
    assert {kind: len(names) for kind, names in BUILT_IN.items()} == {
        "alignment": 3, "adaptation": 2, "collator": 2, "objective": 3, "decoding": 2, "evaluator": 1,
    }  # fmt: skip


@pytest.mark.parametrize("plugin", built_in("alignment"))
@pytest.mark.parametrize("tokenizer", ["wordpiece", "byte_level"])
def test_built_in_alignments_pass(plugin, tokenizer, request):
    tokenizer = request.getfixturevalue(tokenizer)
    tokenizer.model_max_length = 24
    check_alignment(plugin, tokenizer, LABELS)
    assert tokenizer.model_max_length == 24


@pytest.mark.parametrize("labels", [("O",), ("O", "I-X"), ("I-X", "O", "S-X", "E-X", "B-X", "B-A-B")])
def test_alignments_pass_with_any_labels_and_options(wordpiece, labels):
    wordpiece.model_max_length = 12
    check_alignment(lambda t, x: First(t, x, max_length=9, stride=0), wordpiece, labels)
    check_alignment(lambda t, x: All(t, x, max_length=3, stride=0), wordpiece, labels)
    check_alignment(lambda t, x: Document(t, x, label_subwords="first", max_length=9, stride=0), wordpiece, labels)


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (lambda own, f, p: [rows[:-1] for rows in own.spread(f, p)], "spread: found probabilities "),
        (lambda own, f, p: [rows * 0 for rows in own.spread(f, p)], "spread: tags that are certain don't give"),
        (lambda own, f, p: First.spread(own.__self__, f, p), "spread: tags that are certain don't give"),
        (lambda own, f, p: [rows + (rows.sum(1, keepdims=True) == 0) for rows in own.spread(f, p)],
         "spread: a subword without a label has probabilities"),
        (lambda own, f, p: [rows.round() for rows in own.spread(f, p)], "spread: probabilities of a subword don't add"),
    ],
)  # fmt: skip
def test_alignments_that_spread_probabilities_wrongly_are_rejected(wordpiece, broken, problem):
    class Broken(All):
        def spread(self, features, probabilities):
            return broken(super(), features, probabilities)

    wordpiece.model_max_length = 24
    with pytest.raises(PluginError, match=f"^alignment .*Broken: {problem}"):
        check_alignment(Broken, wordpiece, LABELS)


def test_a_tokenizer_that_knows_no_limit_gets_one_of_512(wordpiece):
    wordpiece.model_max_length = 10**30
    check_alignment(First, wordpiece, LABELS)
    assert wordpiece.model_max_length == 10**30


@pytest.mark.parametrize("plugin", built_in("collator"))
@pytest.mark.parametrize("tokenizer", ["wordpiece", "byte_level"])
def test_built_in_collators_pass(plugin, tokenizer, request, make_model):
    tokenizer = request.getfixturevalue(tokenizer)
    tokenizer.model_max_length = 60
    check_collator(plugin, tokenizer)
    check_collator(plugin, tokenizer, make_model("bert", max_position_embeddings=60))
    check_collator(plugin, tokenizer, make_model("electra", max_position_embeddings=60))


@pytest.mark.parametrize("plugin", built_in("decoding"))
def test_built_in_decodings_pass(plugin):
    check_decoding(plugin)


@pytest.mark.parametrize("plugin", built_in("evaluator"))
def test_built_in_evaluators_pass(plugin):
    check_evaluator(plugin)


def test_nasty_sentences_are_what_they_are_said_to_be(wordpiece):
    examples = nasty_examples(24, LABELS)
    assert [len(e.tokens) for e in examples[:2]] == [0, 1]
    assert {"\u200e", "", "\ufffd", "\u200b", "שלום"} < set(NASTY)
    assert max(len(e.tokens) for e in examples) == 72
    assert all(len(e.tokens) == len(e.tags) for e in examples)
    ids = wordpiece([["a.b-" * 24]], is_split_into_words=True, add_special_tokens=False)["input_ids"][0]
    assert len(ids) == 96  # one token, four windows
    without = wordpiece([list(NASTY)], is_split_into_words=True, add_special_tokens=False)
    assert sorted(set(range(len(NASTY))) - set(without.word_ids(0))) == [0, 1, 2, 3, 4]


# Outside plugins that are sound: each does what the built-in ones don't.


class LastSubword:
    """The last subword of a token decides; what exceeds a window is cut into pieces side by side."""

    def __init__(self, tokenizer, labels):
        self.tokenizer, self.ids = tokenizer, {label: i for i, label in enumerate(labels)}

    def split(self, examples):
        from nerloop.types import Feature

        features = []
        for i, example in enumerate(examples):
            encoded = self.tokenizer(list(example.tokens), is_split_into_words=True, verbose=False)
            words = [-1 if w is None else w for w in encoded.word_ids()]
            last = [w if w >= 0 and [*words, -1][at + 1] != w else -1 for at, w in enumerate(words)]
            labels = [self.ids[example.tags[w]] if w >= 0 and example.tags else IGNORE for w in last]
            for start in range(0, len(words), self.tokenizer.model_max_length):
                cut = slice(start, start + self.tokenizer.model_max_length)
                arrays = [np.array(a[cut], dtype=np.int64) for a in (encoded["input_ids"], labels, last)]
                features.append(Feature(*arrays, i, (i,), (len(example.tokens),)))
        return features

    def join(self, features, scores):
        from nerloop.alignment.windows import join_scores

        return join_scores(features, scores)


class Pairs(First):
    """Two short sentences are one atom, in one feature."""

    def split(self, examples):
        found = []
        for at in range(0, len(examples), 2):
            pair = examples[at : at + 2]
            alone = super().split(pair)
            sizes = tuple(len(e.tokens) for e in pair)
            starts = np.cumsum([0, *sizes[:-1]])
            both = tuple(range(at, at + len(pair)))
            for f in alone:
                tokens = np.where(f.tokens >= 0, f.tokens + starts[f.examples[0]], -1)
                found.append(replace(f, tokens=tokens, atom=at, examples=both, num_tokens=sizes))
        return found


class LeftPad(Pad):
    """The padding comes first."""

    def __call__(self, features):
        import torch

        batch = super().__call__(features)
        width = batch.labels.shape[1]
        shifts = [width - p.length for p in batch.places]
        inputs = {n: torch.stack([r.roll(s) for r, s in zip(t, shifts)]) for n, t in batch.inputs.items()}
        labels = torch.stack([r.roll(s) for r, s in zip(batch.labels, shifts)])
        positions = torch.stack([(torch.arange(width) - s).clamp(min=0) for s in shifts])
        places = [Place(p.row, s, p.length) for p, s in zip(batch.places, shifts)]
        return MicroBatch({**inputs, "position_ids": positions}, labels, places)


class SpanF1:
    """Only F1, of all spans together."""

    main_metric = "f1"
    greater_is_better = True

    def count(self, gold, predicted):
        counts = Seqeval().count(gold, predicted)
        kinds = ("gold", "predicted", "correct")
        return Counter({("all", kind): sum(n for key, n in counts.items() if key[0] == kind) for kind in kinds})

    def metrics(self, counts):
        total = counts["all", "gold"] + counts["all", "predicted"]
        return {"f1": 2 * counts["all", "correct"] / total if total else 0.0}


@pytest.mark.parametrize("plugin", [LastSubword, Pairs])
def test_sound_alignments_from_outside_pass(plugin, wordpiece):
    wordpiece.model_max_length = 24
    check_alignment(plugin, wordpiece, LABELS)


def test_a_sound_collator_from_outside_passes(wordpiece, make_model):
    wordpiece.model_max_length = 60
    check_collator(LeftPad, wordpiece, make_model("bert"))


def test_a_sound_evaluator_from_outside_passes():
    check_evaluator(SpanF1)


def test_a_sound_decoding_from_outside_passes():
    class Noisy(Viterbi):
        def decode(self, scores):
            return [ids.astype(np.int32) for ids in super().decode(scores)]

    check_decoding(Noisy)


# Broken plugins.


def edited(**changes):
    """Return an alignment that makes every feature with some fields changed by functions of the feature."""

    class Edited(First):
        def split(self, examples):
            return [replace(f, **{name: edit(f) for name, edit in changes.items()}) for f in super().split(examples)]

    return Edited


def truncating(tokenizer, labels):
    class Truncating(First):
        def split(self, examples):
            features = super().split(examples)
            return [f for i, f in enumerate(features) if i == 0 or features[i - 1].atom != f.atom]

    return Truncating(tokenizer, labels)


class Forgetful(First):
    """It drops sentences of no tokens."""

    def split(self, examples):
        return [f for f in super().split(examples) if sum(f.num_tokens)]


class Interleaved(First):
    def split(self, examples):
        features = super().split(examples)
        return features[::2] + features[1::2]


class Twice(First):
    def split(self, examples):
        return [g for f in super().split(examples) for g in (f, f)]


class Sticky(First):
    """What it makes of a sentence depends on how many there are."""

    def split(self, examples):
        if len(examples) > 1:
            return super().split(examples)
        return [replace(f, input_ids=np.flip(f.input_ids).copy()) for f in super().split(examples)]


class InOrderOnly(First):
    def join(self, features, scores):
        joined = super().join(features, scores)
        return dict(list(joined.items())[: features[0].examples[0] or None]) if features else joined


class Averaging(First):
    def join(self, features, scores):
        return {i: rows - 0.5 for i, rows in super().join(features, scores).items()}


class Guessing(First):
    """Tokens that nothing decides are O for certain."""

    def join(self, features, scores):
        joined = super().join(features, scores)
        for rows in joined.values():
            rows[(rows == 0).all(axis=1), 1:] = -100.0
        return joined


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (truncating, r"alignment truncating: split: token 13 of \['\\u200e', .* has subwords, but none decides it"),
        (Forgetful, "alignment Forgetful: split: not every example is in exactly one atom"),
        (Interleaved, "alignment Interleaved: split: the features of an atom are not consecutive"),
        (Twice, r"alignment Twice: split: token 0 of \['John'\] is decided more than once"),
        (Sticky, r"alignment Sticky: split: .* alone has other features than among others"),
        (InOrderOnly, r"alignment InOrderOnly: join: found \d+ examples, expected all \d+"),
        (Averaging, r"alignment Averaging: join: token 0 of \['John'\] does not have the scores of the subword that"),
        (Guessing, r"alignment Guessing: join: token 0 of \['\\u200e'\] has unequal scores, but no subword decides it"),
        (edited(labels=lambda f: f.labels + 0.0), "input_ids, labels and tokens are not int64 arrays"),
        (edited(labels=lambda f: f.labels[1:]), "input_ids, labels and tokens are not int64 arrays"),
        (edited(labels=lambda f: np.where(f.tokens >= 0, 7, IGNORE)), r"found labels \{7\}, expected 0 to 4, or -100"),
        (edited(labels=lambda f: np.where(f.tokens >= 0, 0, IGNORE)), "found label 'O' on a token whose tag is 'B-"),
        (edited(labels=lambda f: np.full(len(f), IGNORE)), "no subword has a label, though there are tags"),
        (edited(tokens=lambda f: np.where(f.tokens >= 0, f.tokens + 9, -1)), "decides token 9 of an atom of 1"),
        (edited(tokens=lambda f: np.full(len(f), -1)), r"token 0 of \['John'\] has subwords, but none decides it"),
        (edited(num_tokens=lambda f: (99,)), "features of an atom differ in examples, or num_tokens is wrong"),
        (edited(input_ids=lambda f: f.input_ids[:0], labels=lambda f: f.labels[:0], tokens=lambda f: f.tokens[:0]),
         "found a feature of 0 subwords, expected 1 to 24"),
    ],
)  # fmt: skip
def test_broken_alignments_are_rejected(plugin, message, wordpiece):
    wordpiece.model_max_length = 24
    with pytest.raises(PluginError, match=message):
        check_alignment(plugin, wordpiece, LABELS)


def test_an_alignment_that_exceeds_the_limit_is_rejected(wordpiece):
    class Unlimited(First):
        def __init__(self, tokenizer, labels):
            super().__init__(tokenizer, labels)
            self._room = 10_000

    wordpiece.model_max_length = 24
    with pytest.raises(PluginError, match="found a feature of 34 subwords, expected 1 to 24"):
        check_alignment(Unlimited, wordpiece, LABELS)


def test_an_alignment_that_labels_sentences_without_tags_is_rejected(wordpiece):
    class Labelling(First):
        def _label(self, tags, token_of, is_first):
            return super()._label(tags or ["O"] * (1 + token_of.max(initial=0)), token_of, is_first)

    with pytest.raises(PluginError, match="found labels on a sentence that has no tags"):
        check_alignment(Labelling, wordpiece, LABELS)


def test_what_a_plugin_raises_is_one_line_that_names_it_and_where(wordpiece):
    class Raising(First):
        def split(self, examples):
            raise KeyError("no\nsuch")

    with pytest.raises(PluginError) as caught:
        check_alignment(Raising, wordpiece, LABELS)
    assert re.fullmatch(r"alignment .*Raising: KeyError: 'no\\nsuch' \(test_contracts.py:\d+\)", str(caught.value))
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_callable_that_is_no_function_is_named_by_its_class(wordpiece):
    with pytest.raises(PluginError, match=r"^alignment partial: ConfigError: alignment.max_length: found 2, expected"):
        check_alignment(partial(First, max_length=2), wordpiece, LABELS)


def laid_out(change):
    """Return a collator whose micro-batches are changed by a function of (inputs, labels, places)."""

    class Changed(Pad):
        def __call__(self, features):
            batch = super().__call__(features)
            return MicroBatch(*change(dict(batch.inputs), batch.labels.clone(), list(batch.places)))

    return Changed


def _shared(inputs, labels, places):
    return inputs, labels, [Place(0, 0, p.length) if p.length == places[0].length else p for p in places]


def _ids_zero(inputs, labels, places):
    return {**inputs, "input_ids": inputs["input_ids"] * 0}, labels, places


def _labels_zero(inputs, labels, places):
    return inputs, labels.clamp(min=-99), places


def _padding_labelled(inputs, labels, places):
    for row, _, length in places:
        labels[row, length:] = 0
    return inputs, labels, places


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (laid_out(lambda i, x, p: (i, x, p[:-1])), "found 0 places for 1 features"),
        (laid_out(lambda i, x, p: (i, x, [Place(r, s + 1, n) for r, s, n in p])),
         r"row 0, cells 1 to 2: not the place of 1 subwords in a batch \(1, 1\)"),
        (laid_out(lambda i, x, p: (i, x, [Place(r, s, n - 1) for r, s, n in p])), "row 0, cells 0 to 0: not the place"),
        (laid_out(lambda i, x, p: (i, x, [Place(r - 1, s, n) for r, s, n in p])), "row -1, cells 0 to 1: not the"),
        (laid_out(_ids_zero), "row 0, cells 0 to 1: the input_ids are not the feature's"),
        (laid_out(_labels_zero), "row 0, cells 0 to \\d+: the labels are not the feature's"),
        (laid_out(_padding_labelled), "found labels where no feature lies, expected -100"),
        (laid_out(lambda i, x, p: (i, x.int(), p)), r"labels are torch.int32 \(1, 1\), expected int64, \(rows,"),
        (laid_out(lambda i, x, p: (i, x[:, :, None], p)), r"labels are torch.int64 \(1, 1, 1\), expected int64"),
        (laid_out(lambda i, x, p: ({"ids": i["input_ids"]}, x, p)), r"found inputs \['ids'\], expected input_ids"),
    ],
)  # fmt: skip
def test_broken_layouts_are_rejected(plugin, message, wordpiece):
    with pytest.raises(PluginError, match=f"^collator laid_out.<locals>.Changed: {message}"):
        check_collator(plugin, wordpiece)


def test_features_that_share_cells_are_rejected(wordpiece):
    class Thrifty(Pad):
        """It lays equal features out once."""

        def __call__(self, features):
            batch, laid = super().__call__(features), {}
            keys = [(f.input_ids.tobytes(), f.labels.tobytes()) for f in features]
            places = [laid.setdefault(key, place) for key, place in zip(keys, batch.places, strict=True)]
            return MicroBatch(batch.inputs, batch.labels, places)

    with pytest.raises(PluginError, match="Thrifty: two features share a cell"):
        check_collator(Thrifty, wordpiece)


@pytest.mark.parametrize(
    ("num_cells", "message"),
    [
        (lambda lengths: len(lengths), r"num_cells: found 1 for \[512\], expected at least 512, their sum"),
        (lambda lengths: 10_000 - len(lengths), r"found 9998 for \[3, 3\], expected at least 9999, that of the first"),
        (lambda lengths: None, "TypeError: '<' not supported|TypeError: '>=' not supported"),
    ],
)  # fmt: skip
def test_wrong_costs_are_rejected(num_cells, message, wordpiece):
    class Costly(Pad):
        def num_cells(self, lengths):
            return num_cells(lengths)

    with pytest.raises(PluginError, match=message):
        check_collator(Costly, wordpiece)


def test_a_collator_whose_features_see_each_other_is_rejected_by_the_model(wordpiece, make_model):
    import torch

    class Leaky(Pack):
        def __init__(self, tokenizer):
            super().__init__(tokenizer, layout="added_mask")

        def __call__(self, features):
            batch = super().__call__(features)
            mask = torch.zeros_like(batch.inputs["attention_mask"])
            return MicroBatch({**batch.inputs, "attention_mask": mask}, batch.labels, batch.places)

        def alternatives(self):
            return []

    check_collator(Leaky, wordpiece)
    with pytest.raises(PluginError, match="Leaky: can't be used with BertForTokenClassification: its logits differ by"):
        check_collator(Leaky, wordpiece, make_model("bert"))


def decoding(change):
    class Changed(Argmax):
        def decode(self, scores):
            return change(super().decode(scores), scores)

    return Changed


def _impatient(found, scores):
    """It decodes a sentence otherwise when there are others."""
    return [ids * 0 for ids in found] if len(scores) > 100 else found


def _random(found, scores, random=np.random.RandomState(0)):  # noqa: B008 (one stream for all calls)
    return [random.randint(0, 2, len(ids)) if s.shape[1] > 1 else ids for ids, s in zip(found, scores)]


def _overwriting(found, scores):
    for s in scores:
        s[:] = 0.0
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found, scores: found[1:], "decode: found 308 sentences, expected 309"),
        (lambda found, scores: [ids for ids in found if len(ids)], "decode: found 307 sentences, expected 309"),
        (lambda found, scores: [ids[1:] for ids in found], r"decode: found int64 \(3,\), expected integers \(4,\)"),
        (lambda found, scores: [ids * 1.0 for ids in found], r"decode: found float64 \(4,\), expected integers \(4,\)"),
        (lambda found, scores: [ids + 1 for ids in found], r"decode: found \[1, 1, 1, 1\], expected 0 to 0"),
        (lambda found, scores: [ids - 1 for ids in found], r"decode: found \[-1, -1, -1, -1\], expected 0 to 0"),
        (lambda found, scores: [list(ids) for ids in found], "AttributeError: 'list' object has no attribute 'dtype'"),
        (lambda found, scores: [ids * 0 for ids in found],
         "decode: found O O O O, expected I-PER I-PER O I-PER, which is certain and legal in IOB1"),
        (_impatient, "decode: a sentence alone gets other labels than among others"),
        (_random, "decode: the same scores give other labels a second time"),
        (_overwriting, "decode: changes the scores that it is given"),
    ],
)  # fmt: skip
def test_broken_decodings_are_rejected(change, message):
    with pytest.raises(PluginError, match=f"^decoding decoding.<locals>.Changed: {message}"):
        check_decoding(decoding(change))


def test_a_decoding_that_forbids_what_is_legal_is_rejected():
    class Strict(Viterbi):
        """It takes every data set for IOB2."""

        def __init__(self, labels, scheme):
            from nerloop.tags import Scheme

            super().__init__(labels, Scheme.IOB2)

    with pytest.raises(
        PluginError, match="found O O O O, expected I-PER I-PER O I-PER, which is certain and legal in IOB1"
    ):
        check_decoding(Strict)


def evaluator(count=None, metrics=None):
    class Changed(Seqeval):
        def count(self, gold, predicted):
            found = super().count(gold, predicted)
            return count(found, gold, predicted) if count else found

        def metrics(self, counts):
            found = super().metrics(counts)
            return metrics(found, counts) if metrics else found

    return Changed


def _calls_counted(found, gold, predicted):
    return found + Counter({("calls",): 1})


def _first_sentence(found, gold, predicted):
    return Counter({("first",): len(gold[0]) if gold else 0})


def _sorting(found, gold, predicted):
    for tags in gold:
        tags.sort()
    return found


def _clearing(found, counts):
    counts.clear()
    return found


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"count": _calls_counted}, "count: 0 and 7 sentences don't add up to all 7"),
        ({"count": _first_sentence}, "count: 1 and 6 sentences don't add up to all 7"),
        ({"count": lambda c, g, p: Counter({("f1",): 0.5})}, r"count: found \('f1',\): 0.5, expected whole numbers"),
        ({"count": lambda c, g, p: Counter({"tokens": 3})}, "count: found the key 'tokens', expected tuples"),
        ({"count": lambda c, g, p: 1 / 0}, r"ZeroDivisionError: division by zero \(test_contracts.py:\d+\)"),
        ({"count": _sorting}, "count: (changes the tags that it is given|.*don't add up)"),
        ({"metrics": lambda m, c: {"f1": m["f1"], "by": m["gold_spans"] / c.total()}}, "ZeroDivisionError: div"),
        ({"metrics": lambda m, c: {"f1": np.float32(m["f1"])}}, "metrics: not plain numbers: Object of type float32"),
        ({"metrics": lambda m, c: {"f1": float("nan")}}, "metrics: not plain numbers: Out of range float values"),
        ({"metrics": lambda m, c: {"F1": m["f1"]}}, r"metrics: found None as f1 \(main_metric\), expected a number"),
        ({"metrics": lambda m, c: {"f1": 100 * m["f1"]}}, "metrics: found 100.0 as f1 of predicting the gold tags,"),
        ({"metrics": lambda m, c: {"f1": 1.0}}, "metrics: found 1.0 as f1 of predicting nothing, expected 0.0"),
        ({"metrics": _clearing}, "metrics: changes the counts that it is given"),
    ],
)  # fmt: skip
def test_broken_evaluators_are_rejected(parts, message):
    with pytest.raises(PluginError, match=f"^evaluator evaluator.<locals>.Changed: {message}"):
        check_evaluator(evaluator(**parts))


def test_an_evaluator_that_minds_the_order_is_rejected():
    class Ordered(Seqeval):
        """Its counts add up at every cut, but it has an eye on which sentence comes first."""

        def count(self, gold, predicted):
            found = super().count(gold, predicted)
            return found + Counter({("last first",): int(len(gold) == 7 and len(gold[0]) == 12)})

    with pytest.raises(PluginError, match="Ordered: count: depends on the order of the sentences"):
        check_evaluator(Ordered)
