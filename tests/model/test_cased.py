"""An uncased encoder that sees case: what changes for it, and what does not."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import nerloop
from nerloop.config import ModelSettings
from nerloop.errors import ModelError
from nerloop.model.cased import add_cased_subwords, can_be_cased, lower_cases
from nerloop.model.load import load_saved, load_tokenizer
from nerloop.train import train

FILLERS = [f"zq{i}" for i in range(150)]  # which no text has, so that the embedding is pruned
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", "anna", "3d", "you", "##tube", "ß", "in", ".",
         *"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
         "σασ", "##σ", "ες", "ι", *FILLERS]  # fmt: skip


def uncased(**options):
    from transformers import BertTokenizerFast

    return BertTokenizerFast(vocab={w: i for i, w in enumerate(WORDS)}, do_lower_case=True, **options)


def embedding(model):
    return model.get_input_embeddings().weight


@pytest.fixture
def cased(make_model):
    model, tokenizer = make_model(vocab_size=len(WORDS) + 7), uncased(model_max_length=99)
    return model, add_cased_subwords(model, tokenizer)


def test_words_are_split_as_before_and_keep_their_case(cased):
    _, tokenizer = cased
    before = uncased()
    for text in ("Anna", "ANNA", "anna", "You", "YOUTUBE", "Youtube", "Zoé Ábc", "3D", "in."):
        pieces, old = tokenizer.tokenize(text), before.tokenize(text)
        assert [piece.lower() for piece in pieces] == old
    assert tokenizer.tokenize("ANNA YouTube Zoé") == ["ANNA", "You", "##Tube", "Z", "##o", "##e"]
    assert lower_cases(before)
    assert not lower_cases(tokenizer)
    assert tokenizer.model_max_length == 99


def test_a_variant_is_its_lower_case_subword_and_a_direction_of_its_kind(cased):
    model, tokenizer = cased
    ids, rows = tokenizer.get_vocab(), embedding(model).detach()
    front = [rows[ids[a]] - rows[ids[b]] for a, b in (("Anna", "anna"), ("A", "a"), ("##Tube", "##tube"))]
    whole = [rows[ids[a]] - rows[ids[b]] for a, b in (("ANNA", "anna"), ("3D", "3d"), ("##TUBE", "##tube"))]
    for same in (front, whole):
        assert all(torch.allclose(same[0], other, atol=1e-6) for other in same)
    length = rows[: len(WORDS)].norm(dim=1).mean()
    assert front[0].norm() == pytest.approx(length.item(), rel=1e-5)
    assert torch.cosine_similarity(front[0], whole[0], dim=0) < 0.9
    assert len(rows) == len(tokenizer) == model.config.vocab_size
    assert {"ß", "SS", "[UNUSED1]", "[PAD]"} & ids.keys() == {"ß", "[PAD]"}


def test_lower_case_text_has_the_same_ids_and_logits(make_model):
    text = "anna in youtube ."
    model, before = make_model(vocab_size=len(WORDS)), uncased()
    inputs = before(text, return_tensors="pt")
    expected = model(**inputs).logits
    tokenizer = add_cased_subwords(model, before)
    assert tokenizer(text)["input_ids"] == inputs["input_ids"][0].tolist()
    assert torch.equal(model(**tokenizer(text, return_tensors="pt")).logits, expected)


def test_all_processes_get_the_same_rows(make_model):
    rows = []
    for seed in (1, 2):
        model = make_model(vocab_size=len(WORDS))
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        add_cased_subwords(model, uncased())
        assert torch.equal(torch.get_rng_state(), state)  # no random number is taken from the training
        rows.append(embedding(model))
    assert torch.equal(*rows)


def test_accents_that_were_kept_are_kept(make_model):
    model = make_model(vocab_size=len(WORDS))
    assert add_cased_subwords(model, uncased(strip_accents=False)).tokenize("é") == ["[UNK]"]
    assert add_cased_subwords(make_model(vocab_size=len(WORDS)), uncased()).tokenize("É") == ["E"]


def test_added_tokens_keep_their_ids(make_model):
    tokenizer = uncased()
    tokenizer.add_special_tokens({"additional_special_tokens": ["[E1]"]})
    tokenizer.add_tokens(["covid", "EU"])
    model = make_model(vocab_size=len(WORDS) + 20)
    before, ids = embedding(model).detach().clone(), tokenizer.get_vocab()
    cased = add_cased_subwords(model, tokenizer)
    now = cased.get_vocab()
    assert {name: now[name] for name in ids} == ids
    assert len(set(now.values())) == len(now) == len(embedding(model))
    assert torch.equal(embedding(model)[: len(ids)], before[: len(ids)])
    assert cased.tokenize("EU [E1] covid Anna") == ["EU", "[E1]", "covid", "Anna"]


def test_ids_may_have_gaps(make_model):
    state = json.loads(uncased().backend_tokenizer.to_str())
    state["model"]["vocab"]["late"] = len(WORDS) + 5
    tokenizer = uncased()
    tokenizer.backend_tokenizer.model = type(tokenizer.backend_tokenizer.model)(
        state["model"]["vocab"], unk_token="[UNK]"
    )
    cased = add_cased_subwords(make_model(vocab_size=len(WORDS) + 9), tokenizer)
    now = cased.get_vocab()
    assert now["late"] == len(WORDS) + 5 < now["Late"]
    assert len(set(now.values())) == len(now)
    with pytest.raises(ModelError, match=r"^model.cased_subwords: found a token with id \d+, but \d+ embeddings$"):
        add_cased_subwords(make_model(vocab_size=len(WORDS)), tokenizer)


@pytest.mark.parametrize("strip_accents", [None, False])
def test_no_word_that_was_known_is_unknown_now(make_model, strip_accents):
    before = uncased(strip_accents=strip_accents)
    tokenizer = add_cased_subwords(make_model(vocab_size=len(WORDS)), uncased(strip_accents=strip_accents))
    letters = [c for c in map(chr, range(sys.maxunicode + 1)) if c != c.lower()]
    known = [word for c in letters for word in (c, f"a{c}") if "[UNK]" not in before.tokenize(word)]
    assert len(known) > 52
    assert [word for word in known if "[UNK]" in tokenizer.tokenize(word)] == []
    assert tokenizer.tokenize("ΣΑΣΣ ẞ") == ["ΣΑΣ", "##Σ", "ẞ"]


@pytest.mark.parametrize("kind", ["DistilBertTokenizerFast", "ElectraTokenizerFast", "MPNetTokenizerFast"])
def test_other_tokenizers_of_this_kind(make_model, kind):
    import transformers

    vocabulary = {w: i for i, w in enumerate([*WORDS, "<s>", "</s>", "<pad>", "<mask>"])}
    tokenizer = getattr(transformers, kind)(vocab=vocabulary, do_lower_case=True)
    cased = add_cased_subwords(make_model(vocab_size=len(tokenizer)), tokenizer)
    assert (tokenizer.tokenize("Anna ANNA"), cased.tokenize("Anna ANNA")) == (["anna", "anna"], ["Anna", "ANNA"])


def test_saved_and_loaded_it_is_the_same(cased, tmp_path):
    model, tokenizer = cased
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    settings = ModelSettings(name_or_path=str(tmp_path))
    again = load_tokenizer(settings)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert torch.equal(embedding(load_saved(settings, again)[0]), embedding(model))


def test_another_way_to_lower_case_is_refused(make_model, byte_level):
    from tokenizers import normalizers

    byte_level.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert lower_cases(byte_level)
    assert not can_be_cased(byte_level)
    with pytest.raises(
        ModelError, match=r"^model.cased_subwords: found a tokenizer \(\w+\) that lower-cases in its own"
    ):
        add_cased_subwords(make_model(), byte_level)


# In a training


@pytest.fixture
def uncased_config(config, tmp_path):
    """Return a training whose encoder lower-cases its text."""
    from transformers import BertConfig, BertModel

    folder = str(tmp_path / "uncased")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(**sizes, max_position_embeddings=64, vocab_size=len(WORDS))).save_pretrained(folder)
    uncased().save_pretrained(folder)
    model = ModelSettings(name_or_path=folder, cased_subwords=True)
    return replace(config, model=model, run=replace(config.run, log_level="info"))


def test_a_training_finds_more_and_its_model_works_elsewhere(uncased_config, tmp_path):
    from transformers import pipeline

    f1 = {}
    for is_on in (False, True):
        run = replace(uncased_config.run, dir=str(tmp_path / f"run-{is_on}"), score_pipeline=0)
        model = replace(uncased_config.model, cased_subwords=is_on)
        longer = replace(uncased_config.train, epochs=12)
        f1[is_on] = train(replace(uncased_config, model=model, run=run, train=longer))["test"]["best"]["viterbi"]["f1"]
    assert f1[True] > f1[False] + 0.1
    folder = str(tmp_path / "run-True" / "model")
    text = "Anna lives in Berlin ."
    found = pipeline("token-classification", model=folder, ignore_labels=[])(text)
    assert [part["word"] for part in found if part["word"][0].isupper()] == ["Anna", "B"]
    assert "".join(text[part["start"] : part["end"]] for part in found) == text.replace(" ", "")
    entities = nerloop.load(folder).tag(text)
    assert entities
    assert [text[e["start"] : e["end"]] for e in entities] == [e["text"] for e in entities]


def test_the_rows_of_capitals_that_the_text_lacks_are_as_at_the_start(uncased_config, capfd):
    train(replace(uncased_config, train=replace(uncased_config.train, weight_decay=0.0)))
    assert "only their embeddings are trained" in capfd.readouterr().err
    settings = ModelSettings(name_or_path=str(Path(str(uncased_config.run.dir)) / "model"))
    tokenizer = load_tokenizer(settings)
    ids, rows = tokenizer.get_vocab(), embedding(load_saved(settings, tokenizer)[0])
    direction = rows[ids["Zq7"]] - rows[ids["zq7"]]
    assert torch.allclose(rows[ids["Zq11"]] - rows[ids["zq11"]], direction, atol=1e-6)
    assert direction.norm() > 0.1


def test_a_killed_training_ends_the_same(uncased_config, tmp_path, interrupted):
    from safetensors.torch import load_file

    def config_of(name, **changes):
        train = replace(uncased_config.train, save_every=4)
        return replace(
            uncased_config, train=train, run=replace(uncased_config.run, dir=str(tmp_path / name), **changes)
        )

    train(config_of("whole"))
    interrupted(config_of("killed"), at_step=9)
    train(config_of("killed", resume="auto"))
    whole, again = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


HINT = "hint: this encoder lower-cases its text; --model.cased_subwords true lets it see capitals"


def test_the_log_tells_who_could_use_it(uncased_config, capfd):
    off = replace(uncased_config, model=replace(uncased_config.model, cased_subwords=False))
    train(replace(off, train=replace(off.train, max_steps=1)))
    assert HINT in capfd.readouterr().err


def test_a_cased_encoder_stays_as_it_is(config, capfd):
    on = replace(config, model=replace(config.model, cased_subwords=True), run=replace(config.run, log_level="info"))
    train(replace(on, train=replace(on.train, max_steps=1)))
    saved = load_tokenizer(ModelSettings(name_or_path=str(Path(str(config.run.dir)) / "model")))
    assert len(saved) == len(load_tokenizer(config.model))
    log = capfd.readouterr().err
    assert "model.cased_subwords: this encoder sees capitals already, so nothing is added" in log
    assert HINT not in log
