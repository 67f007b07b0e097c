"""Loading, the head, dropout, parameter groups, the loss, what a model is asked at start-up."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nerloop.collators.pad import Pad
from nerloop.config import ModelSettings
from nerloop.errors import ModelError
from nerloop.model.compat import freeze_unused, probe_features
from nerloop.model.forward import logits_of
from nerloop.model.head import replace_head
from nerloop.model.load import finish_model, load_model, load_saved, load_tokenizer, new_model, position_limit
from nerloop.objectives.cross_entropy import CrossEntropy
from nerloop.optim.groups import parameter_groups
from nerloop.types import IGNORE, MicroBatch

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@pytest.fixture
def saved(make_model, wordpiece, tmp_path) -> str:
    """Return the folder of a tiny BERT with a head for LABELS, and its tokenizer."""
    folder = str(tmp_path / "saved")
    make_model("bert").save_pretrained(folder)
    wordpiece.save_pretrained(folder)
    return folder


@pytest.fixture
def encoder(make_model, wordpiece, tmp_path) -> str:
    """Return the folder of the same BERT without a head."""
    folder = str(tmp_path / "encoder")
    make_model("bert").bert.save_pretrained(folder)
    wordpiece.save_pretrained(folder)
    return folder


def settings(folder: str, **options) -> ModelSettings:
    return ModelSettings(name_or_path=folder, **options)


def load(folder: str, labels=LABELS, **options):
    return load_model(settings(folder, **options), labels, load_tokenizer(settings(folder)))


# Loading.


def token_loss(logits, labels):
    return CrossEntropy(["O"]).loss(logits, MicroBatch({}, labels, ()))


def test_a_model_without_a_head_gets_one_and_keeps_the_rest(encoder, make_model):
    model = load(encoder, ("O", "B-X"))
    assert model.classifier.weight.shape == (2, 32)
    assert (model.config.id2label, model.config.label2id) == ({0: "O", 1: "B-X"}, {"O": 0, "B-X": 1})
    assert torch.equal(
        model.bert.encoder.layer[1].output.dense.weight, make_model("bert").bert.encoder.layer[1].output.dense.weight
    )


def test_a_head_for_the_same_labels_is_kept(saved, make_model):
    assert torch.equal(load(saved).classifier.weight, make_model("bert").classifier.weight)


def test_a_head_for_other_labels_keeps_the_rows_whose_names_match(saved, make_model):
    before = make_model("bert").classifier
    model = load(saved, ("B-LOC", "O", "B-NEW", "I-PER"))
    after = model.classifier
    assert torch.equal(after.weight[[0, 1, 3]], before.weight[[3, 0, 2]])
    assert torch.equal(after.bias[[0, 1, 3]], before.bias[[3, 0, 2]])
    assert 0 < float(after.weight[2].detach().abs().max()) < 0.2  # a fresh one; those of before are larger
    assert model.config.id2label == {0: "B-LOC", 1: "O", 2: "B-NEW", 3: "I-PER"}
    assert (model.num_labels, model.config.num_labels, after.out_features) == (4, 4, 4)


def test_labels_in_another_order_give_the_same_logits_in_that_order(saved):
    ids = torch.tensor([[2, 20, 21, 3]])
    order = (4, 2, 0, 3, 1)
    ours, reordered = load(saved).eval(), load(saved, tuple(LABELS[i] for i in order)).eval()
    with torch.inference_mode():
        assert torch.allclose(reordered(input_ids=ids).logits, ours(input_ids=ids).logits[..., list(order)], atol=1e-6)


def test_a_head_without_bias_is_replaced_by_one_without(make_model):
    model = make_model("distilbert")
    model.classifier = nn.Linear(32, 5, bias=False, dtype=torch.float64)
    row = model.classifier.weight[1].clone()
    assert replace_head(model, LABELS, ("B-PER", "I-NEW", "O")) == ["B-PER", "O"]
    assert model.classifier.bias is None
    assert model.classifier.weight.dtype == torch.float64
    assert torch.equal(model.classifier.weight[0], row)


def test_a_model_whose_head_is_not_linear_can_not_be_changed(make_model):
    model = make_model("bert")
    model.classifier = nn.Identity()
    with pytest.raises(ModelError, match=r"^BertForTokenClassification: found no linear head of 5 labels to replace$"):
        replace_head(model, LABELS, ("O",))


def test_a_saved_model_comes_back_as_it_was(saved, make_model):
    model, labels = load_saved(settings(saved), load_tokenizer(settings(saved)))
    assert labels == LABELS
    theirs = make_model("bert").state_dict()
    assert model.state_dict().keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())


def test_weights_are_trained_in_float32_whatever_they_were_saved_in(make_model, wordpiece, tmp_path):
    make_model("bert").to(torch.bfloat16).save_pretrained(str(tmp_path))
    wordpiece.save_pretrained(str(tmp_path))
    assert {p.dtype for p in load(str(tmp_path)).parameters()} == {torch.float32}
    saved, _ = load_saved(settings(str(tmp_path)), wordpiece)
    assert {p.dtype for p in saved.parameters()} == {torch.bfloat16}


def test_a_model_of_random_weights(wordpiece):
    from transformers import BertConfig

    config = BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    model = new_model(config, ModelSettings(dropout=0.25), LABELS, wordpiece)
    assert model.classifier.out_features == 5
    assert model.dropout.p == 0.25


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(),
         "model.name_or_path {}: found no config.json in this folder; expected a transformers model"),
        (lambda folder: (folder / "config.json").write_text("{garbage"),
         "model.name_or_path {}: can't load the "),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "no such type"}'),
         "model.name_or_path {}: can't load the "),
        (lambda folder: (folder / "config.json").write_text("[]"),
         "model.name_or_path {}: can't load the "),
        (lambda folder: (folder / "model.safetensors").unlink(),
         "model.name_or_path {}: can't load the model: Error no file named model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"garbage"),
         "model.name_or_path {}: can't load the model: "),
        (lambda folder: [p.unlink() for p in folder.glob("tokenizer*")],
         "model.name_or_path {}: found a tokenizer of 5 entries, so its files are missing; expected"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"),
         "model.name_or_path {}: can't load the tokenizer: "),
    ],
    ids=["no config", "garbage", "no such type", "a list", "no weights", "garbage weights", "no tokenizer",
         "garbage tokenizer"],
)  # fmt: skip
def test_a_folder_that_is_no_model_is_one_line(saved, break_it, message):
    break_it(Path(saved))
    with pytest.raises(ModelError) as caught:
        load(saved)
    assert str(caught.value).startswith(message.format(saved))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def rename_weights(folder: str, change) -> None:
    from safetensors.torch import load_file, save_file

    file = Path(folder, "model.safetensors")
    weights = {change(name): w for name, w in load_file(file).items() if change(name)}
    save_file(weights, file, metadata={"format": "pt"})


def test_weights_of_something_else_are_refused(saved):
    """Transformers would start the whole encoder anew, and say so where nobody reads it."""
    rename_weights(saved, lambda name: f"other.{name}")
    with pytest.raises(ModelError) as caught:
        load(saved)
    assert str(caught.value) == (
        f"model.name_or_path {saved}: its weights are not those of a BertForTokenClassification: found "
        "'other.bert.embeddings.LayerNorm.bias' and the like, expected 'bert.embeddings.LayerNorm.bias'"
    )


@pytest.fixture
def said(caplog, monkeypatch):
    """Return a function that returns what the module has logged, whatever other tests did to the logger."""
    monkeypatch.setattr(logging.getLogger("nerloop"), "propagate", True)
    caplog.set_level("INFO", "nerloop")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "nerloop.model.load"]


def test_weights_that_are_missing_are_told(saved, said):
    rename_weights(saved, lambda name: "" if "layer.1.output" in name else name)
    load(saved)
    assert said() == [
        "warning: 4 tensors of the model are not in its files and are initialised: "
        "bert.encoder.layer.1.output.LayerNorm.bias"
    ]


@pytest.mark.parametrize("folder", ["saved", "encoder"])
def test_a_whole_model_is_loaded_without_a_warning(folder, request, said):
    load(request.getfixturevalue(folder))
    assert said() == []


def test_a_file_is_no_model(tmp_path):
    file = tmp_path / "model.bin"
    file.write_text("x")
    with pytest.raises(ModelError) as caught:
        load(str(file))
    assert str(caught.value) == f"model.name_or_path {file}: found a file, expected a transformers model's folder"


def test_a_hub_name_that_can_not_be_reached():
    with pytest.raises(ModelError) as caught:
        load("nobody/such-a-model-is-not")
    assert str(caught.value) == (
        "model.name_or_path nobody/such-a-model-is-not: can't load the tokenizer: "
        "the hub can't be reached and the model is not in its cache; offline, give a folder"
    )


def test_a_tokenizer_of_more_entries_than_the_model_has(saved, wordpiece):
    wordpiece.add_tokens([f"word{i}" for i in range(200)])
    with pytest.raises(ModelError) as caught:
        load_model(settings(saved), LABELS, wordpiece)
    assert str(caught.value) == (
        f"model.name_or_path {saved}: the tokenizer has 346 entries, the model's embedding 300 rows; "
        "expected a tokenizer that belongs to the model"
    )


def test_a_slow_tokenizer_is_refused(encoder):
    """Transformers makes a fast one of most; CANINE's has no such thing."""
    from transformers import CanineConfig, CanineTokenizer

    CanineTokenizer().save_pretrained(encoder)
    CanineConfig().save_pretrained(encoder)
    with pytest.raises(ModelError) as caught:
        load_tokenizer(settings(encoder))
    assert str(caught.value) == (
        f"model.name_or_path {encoder}: its tokenizer (CanineTokenizer) is not a fast one, which nerloop needs to know "
        "which subword belongs to which token; expected a tokenizer.json next to the model"
    )


@pytest.mark.parametrize("labels", [{0: "LABEL_0", 1: "LABEL_1"}, {0: "B-PER", 1: "I-PER"}])
def test_a_model_to_predict_with_needs_tags_for_labels(make_model, wordpiece, tmp_path, labels):
    model = make_model("bert", ("a", "b"))
    model.config.id2label = labels
    model.save_pretrained(str(tmp_path))
    with pytest.raises(ModelError, match="found no token classification head whose labels have 'O'"):
        load_saved(settings(str(tmp_path)), wordpiece)


def test_an_encoder_without_a_head_is_nothing_to_predict_with(encoder, wordpiece):
    with pytest.raises(ModelError, match="found no token classification head whose labels have 'O'"):
        load_saved(settings(encoder), wordpiece)


# The tokenizer.


def words(tokenizer, *tokens: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(list(tokens), is_split_into_words=True)["input_ids"])


def test_robertas_tokenizer_gets_a_space_before_each_word(make_byte_level, make_model, tmp_path):
    tokenizer = make_byte_level(add_prefix_space=False)
    tokenizer.save_pretrained(str(tmp_path))
    make_model("roberta").save_pretrained(str(tmp_path))
    found = load_tokenizer(settings(str(tmp_path)))
    assert words(found, "New", "New") == ["<s>", "ĠNew", "ĠNew", "</s>"]
    assert found.add_prefix_space is True


@pytest.mark.parametrize("splits_first", [False, True])
def test_so_does_a_tokenizer_of_bytes_whose_class_ignores_that(make_model, make_byte_level, tmp_path, splits_first):
    """ModernBERT's, for one; with a splitter before the bytes, EuroBERT's."""
    from tokenizers import Regex, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = make_byte_level(add_prefix_space=False).backend_tokenizer
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not splits_first)
    split = pre_tokenizers.Split(Regex(r" ?\w+| ?[^\s\w]+"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes]) if splits_first else to_bytes
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")
    make_model("modernbert", pad_token_id=1).save_pretrained(str(tmp_path))
    for _ in range(2):  # what is saved is right, and isn't mended twice
        tokenizer.save_pretrained(str(tmp_path))
        tokenizer = load_tokenizer(settings(str(tmp_path)))
        assert words(tokenizer, "New", "New-N", "é") == [
            "<s>", "ĠNew", "ĠNew", "-", "N", "Ġ", "Ã", "©", "</s>",
        ]  # fmt: skip
        assert tokenizer(["New", "", "New"], is_split_into_words=True).word_ids() == [None, 0, 2, None]


def test_other_tokenizers_stay_as_they_are(saved, wordpiece):
    found = load_tokenizer(settings(saved))
    assert found.backend_tokenizer.to_str() == wordpiece.backend_tokenizer.to_str()


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("bert", {"max_position_embeddings": 40}, 40),
        ("distilbert", {"max_position_embeddings": 40}, 40),
        ("roberta", {"max_position_embeddings": 40, "pad_token_id": 1}, 38),
        ("xlm-roberta", {"max_position_embeddings": 40, "pad_token_id": 1}, 38),
        ("mpnet", {"max_position_embeddings": 40, "pad_token_id": 1}, 38),
        ("deberta-v2", {"max_position_embeddings": 40, "position_biased_input": False}, 40),
        ("t5", {}, 1_000_000),
    ],
)
def test_position_limit(make_model, kind, options, expected):
    assert position_limit(make_model(kind, **options)) == expected


def test_the_longest_input_by_the_position_limit_is_what_the_model_can_take(make_model):
    for kind in ("bert", "roberta", "mpnet", "electra"):
        model = make_model(kind, max_position_embeddings=40, pad_token_id=1)
        limit = position_limit(model)
        model(input_ids=torch.full((1, limit), 7))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, limit + 1), 7))


def test_the_tokenizer_learns_the_models_limit(make_model, wordpiece):
    wordpiece.model_max_length = 10**30
    finish_model(make_model("roberta", max_position_embeddings=40, pad_token_id=1), wordpiece, ModelSettings())
    assert wordpiece.model_max_length == 38
    finish_model(make_model("bert"), wordpiece, ModelSettings())
    assert wordpiece.model_max_length == 38  # the tokenizer's own, where it is the lower one


# Dropout.

KINDS = ("albert", "bert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta", "t5")


def logits(model) -> torch.Tensor:
    torch.manual_seed(1)
    return model(input_ids=torch.arange(5, 45)[None]).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["as it comes", "eager"])
def test_without_dropout_training_is_deterministic(make_model, wordpiece, tmp_path, kind, attention):
    make_model(kind, pad_token_id=1).save_pretrained(str(tmp_path))
    model = load_model(settings(str(tmp_path), dropout=0.0), LABELS, wordpiece)
    if attention == "eager":
        model.set_attn_implementation("eager")
    with torch.no_grad():
        model.eval()
        expected = logits(model)
        model.train()
        assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_reaches_attention(make_model, wordpiece, tmp_path, kind):
    """With all other dropouts taken out, the setting still changes what comes out."""
    make_model(kind, pad_token_id=1).save_pretrained(str(tmp_path))
    model = load_model(settings(str(tmp_path), dropout=0.5), LABELS, wordpiece)
    shares = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert set(shares) <= {0.5}
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and "attn" not in name and "attention" not in name.rpartition(".")[0]:
            module.p = 0.0
    with torch.no_grad():
        model.eval()
        expected = logits(model)
        model.train()
        assert not torch.equal(logits(model), expected)


def test_without_the_setting_the_model_keeps_its_own_dropout(make_model, wordpiece, tmp_path):
    make_model("bert", hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.2).save_pretrained(str(tmp_path))
    model = load_model(settings(str(tmp_path)), LABELS, wordpiece)
    assert (model.config.hidden_dropout_prob, model.config.attention_probs_dropout_prob) == (0.3, 0.2)
    assert (model.dropout.p, model.bert.encoder.layer[0].attention.self.dropout.p) == (0.3, 0.2)


# Parameter groups.


class OddNorm(nn.Module):
    """A norm that no list of names knows."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 3)
        self.ln_f = OddNorm()
        self.final = nn.LayerNorm(3)
        nn.init.ones_(self.final.bias)
        self.layernorm_like = nn.Linear(3, 3, bias=False)
        self.scale = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.tied = nn.Linear(3, 3, bias=False)
        self.tied.weight = self.mix.weight


def names_of(model: nn.Module, group: dict) -> list[str]:
    names = {id(p): name for name, p in model.named_parameters()}
    return [names[id(p)] for p in group["params"]]


def test_norms_are_known_by_their_type_and_biases_by_their_name():
    model = Odd()
    decayed, free = parameter_groups(model, 0.01)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    assert sorted(names_of(model, decayed)) == ["layernorm_like.weight", "mix.weight", "scale"]
    assert sorted(names_of(model, free)) == ["final.bias", "final.weight", "ln_f.gain", "mix.bias"]


@pytest.mark.parametrize("kind", [*KINDS, "nomic_bert", "convbert", "mobilebert", "xlm-roberta"])
def test_every_trained_parameter_is_in_one_group_once(make_model, kind):
    model = make_model(kind, pad_token_id=1)
    groups = parameter_groups(model, 0.01)
    found = [id(p) for group in groups for p in group["params"]]
    free = {id(p) for p in groups[1]["params"]}
    assert len(found) == len(set(found))
    assert set(found) == {id(p) for p in model.parameters() if p.requires_grad}
    assert all(p.dim() == 1 or name.endswith(".bias") for name, p in model.named_parameters() if id(p) in free)
    matrices = [p for p in groups[0]["params"] if p.dim() > 1]
    assert len(matrices) >= 8


def test_the_groups_of_bert(make_model):
    model = make_model("bert")
    decayed, free = (names_of(model, group) for group in parameter_groups(model, 0.01))
    assert "bert.embeddings.LayerNorm.weight" in free
    assert "bert.encoder.layer.1.output.LayerNorm.bias" in free
    assert "bert.encoder.layer.0.attention.self.query.bias" in free
    assert "bert.embeddings.word_embeddings.weight" in decayed
    assert "classifier.weight" in decayed
    assert (len(decayed), len(free)) == (16, 23)


def test_a_group_decays_its_parameters_exactly_once():
    model = Odd()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.5), lr=0.1, fused=True)
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    optimizer.step()
    factors = {name: float((p.detach() / before[name]).flatten()[0]) for name, p in model.named_parameters()}
    assert {n: round(f, 6) for n, f in factors.items()} == {
        "mix.weight": 0.95, "mix.bias": 1.0, "ln_f.gain": 1.0, "final.weight": 1.0, "final.bias": 1.0,
        "layernorm_like.weight": 0.95, "scale": 0.95, "frozen": 1.0,
    }  # fmt: skip


# The loss.


def test_the_loss_is_the_sum_over_labelled_subwords():
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0], [5.0, 1.0]]])
    labels = torch.tensor([[0, 1, IGNORE]])
    assert float(token_loss(logits, labels)) == pytest.approx(math.log(2) + math.log(4), abs=1e-6)
    assert float(token_loss(logits, torch.full((1, 3), IGNORE))) == 0.0


def test_the_loss_of_parts_adds_up():
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 4, 3, dtype=torch.float64), torch.randint(0, 3, (6, 4))
    labels[torch.rand(6, 4) < 0.4] = IGNORE
    whole = token_loss(logits, labels)
    parts = sum(token_loss(logits[i : i + 2], labels[i : i + 2]) for i in range(0, 6, 2))
    assert float(whole - parts) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float32, torch.float32),
     (torch.float64, torch.float64)],
)  # fmt: skip
def test_the_loss_is_in_float32_or_better(given, expected):
    assert token_loss(torch.zeros(1, 2, 3, dtype=given), torch.zeros(1, 2, dtype=torch.long)).dtype == expected


# What a model is asked at start-up.


def test_probe_features_fit_and_differ_in_length(wordpiece, byte_level):
    assert [len(f) for f in probe_features(wordpiece)] == [512, 77, 77, 14, 9, 4, 3]
    wordpiece.model_max_length = 20
    assert [len(f) for f in probe_features(wordpiece)] == [20, 20, 20, 14, 9, 4, 3]
    for tokenizer, special in ((wordpiece, range(5)), (byte_level, range(5))):
        for feature in probe_features(tokenizer):
            assert (feature.labels == IGNORE).all()
            assert not np.isin(feature.input_ids[1:-1], special).any()
            assert feature.input_ids.max() < len(tokenizer)


def test_what_gets_no_gradient_is_frozen(make_model, wordpiece):
    model = make_model("bert").train()
    model.extra = nn.Linear(3, 3)
    assert freeze_unused(model, Pad(wordpiece), wordpiece) == ["extra.weight", "extra.bias"]
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["extra.weight", "extra.bias"]
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert freeze_unused(model, Pad(wordpiece), wordpiece) == []


def test_a_model_that_uses_all_it_has_is_left_alone(make_model, wordpiece):
    for kind in ("bert", "roberta", "distilbert", "electra"):
        assert freeze_unused(make_model(kind, pad_token_id=1), Pad(wordpiece), wordpiece) == []


def test_frozen_parameters_are_in_no_group(make_model, wordpiece):
    model = make_model("bert")
    model.extra = nn.Linear(3, 3)
    freeze_unused(model, Pad(wordpiece), wordpiece)
    assert sum(len(group["params"]) for group in parameter_groups(model, 0.01)) == 39


def test_logits_have_a_score_for_each_label(make_model, wordpiece):
    batch = Pad(wordpiece)(probe_features(wordpiece)[3:])
    assert logits_of(make_model("bert"), batch).shape == (4, 14, 5)


def test_the_saved_configuration_names_the_labels(saved):
    assert json.loads(Path(saved, "config.json").read_text())["id2label"] == {str(i): x for i, x in enumerate(LABELS)}
