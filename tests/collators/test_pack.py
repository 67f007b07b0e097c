"""Features end to end: the layout, and that no logits change, asked of many kinds of encoders."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nerloop.collators.pack import Pack, added_mask, block_mask
from nerloop.collators.pad import Pad
from nerloop.errors import ConfigError, ModelError
from nerloop.model.compat import choose_collator, disagreement, probe_features
from nerloop.model.forward import feature_logits
from nerloop.model.load import position_limit
from nerloop.types import IGNORE, Feature, Place

LOW = float(np.finfo(np.float32).min)


def feature(*ids: int) -> Feature:
    """Return a feature of some ids, labelled with their last digits."""
    return Feature(np.array(ids), np.array(ids) % 10, np.full(len(ids), -1), 0, (0,), (len(ids),))


def places(tokenizer, lengths: list[int], width: int) -> list[Place]:
    return list(
        Pack(tokenizer, layout="added_mask", width=width)([feature(*range(10, 10 + n)) for n in lengths]).places
    )


def test_the_layout(byte_level):
    batch = Pack(byte_level, layout="added_mask", width=4)([feature(11), feature(21, 22), feature(31, 32, 33, 34)])
    assert batch.inputs["input_ids"].tolist() == [[31, 32, 33, 34], [21, 22, 11, 1]]  # <pad> is 1
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]]
    assert batch.labels.tolist() == [[1, 2, 3, 4], [1, 2, 1, IGNORE]]
    assert batch.places == [Place(1, 2, 1), Place(1, 0, 2), Place(0, 0, 4)]
    assert batch.inputs["attention_mask"].tolist() == [
        [[[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]],
        [[[0, 0, LOW, LOW], [0, 0, LOW, LOW], [LOW, LOW, 0, LOW], [LOW, LOW, LOW, 0]]],
    ]
    assert sorted(batch.inputs) == ["attention_mask", "input_ids", "position_ids"]


def test_positions_may_start_elsewhere(byte_level):
    batch = Pack(byte_level, layout="added_mask", width=4, position_offset=2)(
        [feature(11), feature(21, 22), feature(31, 32, 33, 34)]
    )
    assert batch.inputs["position_ids"].tolist() == [[2, 3, 4, 5], [2, 3, 2, 2]]


def test_the_unused_end_of_a_row_is_one_block(wordpiece):
    batch = Pack(wordpiece, layout="added_mask", width=5)([feature(11, 12, 13, 14, 15), feature(21, 22)])
    assert (batch.inputs["attention_mask"][1, 0] == 0).int().tolist() == [
        [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1],
    ]  # fmt: skip


def test_the_width_is_that_of_the_fullest_row(wordpiece):
    batch = Pack(wordpiece, layout="added_mask", width=100)([feature(11, 12), feature(21)])
    assert batch.labels.shape == (1, 3)


@pytest.mark.parametrize(
    ("lengths", "width", "expected"),
    [
        ([5], 5, [(0, 0, 5)]),
        ([5, 5], 9, [(0, 0, 5), (1, 0, 5)]),
        ([5, 5], 10, [(0, 0, 5), (0, 5, 5)]),
        ([1, 2, 3, 4], 5, [(0, 4, 1), (1, 3, 2), (1, 0, 3), (0, 0, 4)]),
        ([4, 1, 1], 5, [(0, 0, 4), (1, 0, 1), (1, 1, 1)]),
        ([3, 3, 2, 2, 2], 6, [(0, 0, 3), (1, 0, 3), (2, 0, 2), (2, 2, 2), (0, 3, 2)]),  # in two rows they do not go
        ([2, 7, 2, 2], 4, [(1, 0, 2), (0, 0, 7), (1, 2, 2), (1, 4, 2)]),  # one is longer than the width
        ([1, 1, 1], 1, [(0, 0, 1), (1, 0, 1), (2, 0, 1)]),
    ],
)
def test_features_go_longest_first_into_the_emptiest_row(wordpiece, lengths, width, expected):
    assert places(wordpiece, lengths, width) == expected


def test_a_row_holds_no_more_cells_than_the_model_has_positions(wordpiece):
    wordpiece.model_max_length = 6
    assert places(wordpiece, [3, 3, 3], 256) == [(0, 0, 3), (1, 0, 3), (0, 3, 3)]


def test_rows_are_no_wider_than_asked_for_and_well_filled(wordpiece):
    random = np.random.RandomState(0)
    for _ in range(50):
        lengths = [int(n) for n in random.randint(1, 60, size=random.randint(1, 80))]
        found = places(wordpiece, lengths, 64)
        ends: dict[int, int] = {}
        for place in found:
            ends[place.row] = max(ends.get(place.row, 0), place.start + place.length)
        assert [p.length for p in found] == lengths
        assert max(ends.values()) <= 64
        assert len(ends) <= 1 + 1.5 * sum(lengths) / 64


def test_the_cells_are_the_sum_of_the_lengths(wordpiece):
    pack = Pack(wordpiece)
    assert [pack.num_cells(lengths) for lengths in ([7], [3, 5, 1])] == [7, 9]


def test_a_width_that_can_not_be(wordpiece):
    with pytest.raises(ConfigError, match=r"^collator.width: found 0, expected 1 or more$"):
        Pack(wordpiece, layout="added_mask", width=0)


def test_no_row_of_the_mask_shuts_out_everything(wordpiece):
    mask = Pack(wordpiece, layout="added_mask", width=64)(probe_features(wordpiece)).inputs["attention_mask"]
    assert mask.shape == (2, 1, 512, 512)
    assert (mask == 0).any(dim=-1).all()
    assert mask.unique().tolist() == [LOW, 0]


def test_the_masks_of_two_blocks():
    expected = [[[1, 1, 0], [1, 1, 0], [0, 0, 1]]]
    assert block_mask(torch.tensor([[7, 7, -1]])).int().tolist() == expected
    assert (added_mask(torch.tensor([[7, 7, -1]])) == 0).int().tolist() == [expected]


def test_the_mask_goes_to_the_models_precision_and_the_ids_do_not(wordpiece):
    batch = Pack(wordpiece, layout="added_mask")([feature(11, 12), feature(21)]).to(torch.device("cpu"), torch.float64)
    assert {name: t.dtype for name, t in batch.inputs.items()} == {
        "input_ids": torch.int64, "position_ids": torch.int64, "attention_mask": torch.float64,
    }  # fmt: skip
    assert torch.isfinite(batch.inputs["attention_mask"]).all()


def test_truth_values_for_a_mask_where_a_model_wants_them(wordpiece):
    batch = Pack(wordpiece, layout="block_mask", width=3)([feature(11, 12), feature(21)])
    assert batch.inputs["attention_mask"].tolist() == [[[True, True, False], [True, True, False], [False, False, True]]]


def test_without_padding_between_them_there_is_one_row_and_no_mask(byte_level):
    batch = Pack(byte_level, position_offset=2)([feature(11), feature(21, 22), feature(31, 32, 33, 34)])
    assert batch.is_unpadded
    assert {name: values.tolist() for name, values in batch.inputs.items()} == {
        "input_ids": [[11, 21, 22, 31, 32, 33, 34, byte_level.pad_token_id]],  # of widths there are few
        "position_ids": [[2, 2, 3, 2, 3, 4, 5, 2]],
    }
    assert batch.labels.tolist() == [[1, 1, 2, 1, 2, 3, 4, -100]]
    assert batch.places == [Place(0, 0, 1), Place(0, 1, 2), Place(0, 3, 4)]


def test_a_bf16_model_gets_rows_of_whole_blocks(wordpiece, make_model):
    widths = []
    for dtype in (torch.float32, torch.bfloat16):
        pack, model = Pack(wordpiece), make_model().to(dtype)
        pack.prepare(model)
        widths.append([pack([feature(*range(10, 10 + n))]).labels.shape[1] for n in (3, 33, 100, 600, 1100)])
    assert widths == [[8, 40, 104, 608, 1152], [32, 64, 128, 608, 1152]]


def test_a_layout_that_there_is_not(wordpiece):
    with pytest.raises(ConfigError, match=r"found 'unpaded' \(did you mean 'unpadded'\?\), expected one of unpadded"):
        Pack(wordpiece, layout="unpaded")


def test_what_else_there_is_to_try(byte_level):
    pack = Pack(byte_level, width=32)
    assert [(p.width, p.layout, p.position_offset) for p in pack.alternatives()] == [
        (32, "unpadded", 2), (32, "added_mask", None), (32, "added_mask", 2),
        (32, "block_mask", None), (32, "block_mask", 2),
    ]  # fmt: skip
    rows = Pack(byte_level, layout="added_mask", position_offset=0)
    assert [(p.layout, p.position_offset) for p in rows.alternatives()] == [("block_mask", 0)]
    assert Pack(byte_level, layout="block_mask", position_offset=0).alternatives() == []


# Which encoders it leaves alone. Positions start at 0, or behind the padding id where they take after RoBERTa.

PACK = {
    "albert": None, "deberta": None, "deberta-v2": None, "modernbert": None,
    "bert": None, "big_bird": None, "distilbert": None, "electra": None, "ernie": None, "esmc": None,
    "eurobert": None, "gte": None, "jina_embeddings_v3": None, "megatron-bert": None, "nomic_bert": None,
    "rembert": None, "roformer": None, "squeezebert": None, "t5": None,
    "camembert": 2, "data2vec-text": 2, "luke": 2, "mpnet": 2, "roberta": 2, "roberta-prelayernorm": 2,
    "xlm-roberta": 2, "xlm-roberta-xl": 2,
}  # fmt: skip
PAD = {
    "convbert": "its logits differ by",
    "fnet": "its logits differ by",
    "funnel": "it raised RuntimeError: einsum()",
    "gpt2": "its logits differ by",
    "longformer": "it raised",
    "mobilebert": "its logits differ by",
    "mra": "its logits differ by",
    "yoso": "it ",
}
OPTIONS = {
    "big_bird": {"attention_type": "original_full"},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "funnel": {"block_sizes": [1, 1]},
    "longformer": {"max_position_embeddings": 514},
    "nystromformer": {"segment_means_seq_len": 512},
}


@pytest.fixture
def build(make_model, wordpiece, byte_level):
    """Return a function that makes a model of some kind and the tokenizer for it."""

    def make(kind: str):
        tokenizer = byte_level if PACK.get(kind) or kind == "longformer" else wordpiece
        options = {"pad_token_id": tokenizer.pad_token_id, **OPTIONS.get(kind, {})}
        if tokenizer is byte_level:
            options["max_position_embeddings"] = 514
        model = make_model(kind, **options)
        tokenizer.model_max_length = min(512, position_limit(model))
        return model, tokenizer

    return make


@pytest.mark.parametrize("kind", sorted(PACK))
def test_packed_logits_are_those_of_each_sentence_alone(kind, build):
    model, tokenizer = build(kind)
    collator, reason = choose_collator(Pack(tokenizer), model, tokenizer)
    assert (type(collator), collator.position_offset, reason) == (Pack, PACK[kind], "")
    features = probe_features(tokenizer)
    assert [len(f) for f in features[3:]] == [14, 9, 4, 3] or kind == "t5"
    with torch.inference_mode():
        alone = [one for f in features for one in feature_logits(model, Pad(tokenizer)([f]))]
        packed = feature_logits(model, collator(features))
        padded = feature_logits(model, Pad(tokenizer)(features))
    largest = max(float(logits.abs().max()) for logits in alone)
    assert largest > 0.5
    for a, b, c in zip(alone, packed, padded, strict=True):
        assert float((a - b).abs().max()) <= 1e-5 * largest
        assert float((a - c).abs().max()) <= 1e-5 * largest


@pytest.mark.parametrize("kind", sorted(PAD))
def test_encoders_that_see_beyond_the_mask_are_padded_and_the_reason_told(kind, build):
    model, tokenizer = build(kind)
    collator, reason = choose_collator(Pack(tokenizer), model, tokenizer)
    assert type(collator) is Pad
    assert reason.startswith(PAD[kind])
    assert "\n" not in reason


def test_an_encoder_that_takes_neither_packed_nor_padded_rows_is_refused(build):
    model, tokenizer = build("nystromformer")
    with pytest.raises(ModelError, match=r"^NystromformerForTokenClassification can be fed neither packed nor padded"):
        choose_collator(Pack(tokenizer), model, tokenizer)


def test_attention_to_near_neighbours_alone_shows_in_sentences_that_exceed_it(make_model, wordpiece):
    model = make_model("openai_privacy_filter", sliding_window=200, pad_token_id=0, eos_token_id=0)
    collator, reason = choose_collator(Pack(wordpiece), model, wordpiece)
    assert type(collator) is Pad
    assert reason.startswith("its logits differ by")


def test_positions_that_the_model_has_not_are_never_asked_of_it(make_model, wordpiece):
    """On a GPU an index out of range ends the process."""
    model = make_model("bert")
    pack = Pack(wordpiece, position_offset=1)
    assert disagreement(model, pack, probe_features(wordpiece), wordpiece) == (
        "it would need 513 positions (the model has 512)"
    )


def test_a_wrong_start_of_the_positions_is_found_out(make_model, byte_level):
    model = make_model("roberta", pad_token_id=1, max_position_embeddings=514)
    features = probe_features(byte_level)
    problems = [disagreement(model, Pack(byte_level, position_offset=n), features, byte_level) for n in (0, 1, 2)]
    assert [problem.partition(" by")[0] for problem in problems] == ["its logits differ", "its logits differ", ""]


def test_asking_leaves_the_model_as_it_was(make_model, wordpiece):
    model = make_model("bert").train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert choose_collator(Pack(wordpiece), model, wordpiece)[1] == ""
    assert model.training
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in model.named_parameters())


def test_logits_that_are_not_numbers_are_no_agreement(make_model, wordpiece):
    model = make_model("bert")
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    collator, reason = choose_collator(Pack(wordpiece), model, wordpiece)
    nan = "its logits differ by nan (the largest is nan)"
    assert (type(collator), reason) == (Pad, f"{nan}; padded, {nan}: its scores depend on the batch")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_bf16_has_no_nan_and_is_near(make_model, wordpiece, attention):
    model = make_model("bert", attn_implementation=attention)
    features = probe_features(wordpiece)
    with torch.inference_mode():
        expected = feature_logits(model, Pack(wordpiece, layout="added_mask")(features))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = feature_logits(model, Pack(wordpiece, layout="added_mask")(features))
    for a, b in zip(expected, found, strict=True):
        assert b.dtype == torch.bfloat16
        assert torch.isfinite(b).all()
        assert float((a - b).abs().max()) < 0.15 * float(a.abs().max())


def test_a_gradient_in_bf16_is_finite(make_model, wordpiece):
    model = make_model("bert").train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = feature_logits(model, Pack(wordpiece, layout="added_mask")(probe_features(wordpiece)))
    torch.cat(logits).float().square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) > 30
    assert all(torch.isfinite(g).all() for g in gradients)


def test_one_feature_does_not_feel_what_another_holds(make_model, wordpiece):
    model, pack = make_model("bert"), Pack(wordpiece, layout="added_mask")
    ours, other, same = feature(20, 21, 22), feature(31, 32), feature(41, 42)
    with torch.inference_mode():
        first = feature_logits(model, pack([ours, other]))[0]
        second = feature_logits(model, pack([ours, same]))[0]
    assert torch.equal(first, second)
