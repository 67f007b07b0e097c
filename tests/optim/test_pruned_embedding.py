"""An embedding that trains the rows alone that occur is, but for the time it takes, the plain one."""

from __future__ import annotations

import copy
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from nerloop.collators.pad import Pad
from nerloop.distributed.launch import make_accelerator
from nerloop.errors import CheckpointError
from nerloop.optim.master_weights import Weights
from nerloop.optim.optimizer import build_optimizer, clip
from nerloop.optim.pruned_embedding import decay_unused_rows, is_prunable, prune, pruned, restore
from nerloop.run import atomic, checkpoint
from nerloop.training import setup as training_setup
from nerloop.types import Feature

USED = np.array([0, 1, 2, 3, 4, 11, 12, 40, 299])  # of 300; 0 is BERT's padding
UNUSED = np.setdiff1d(np.arange(300), USED)
TABLE = "bert.embeddings.word_embeddings.weight"
EVERY_ID = torch.arange(300)[None]


class NoScaler:
    scaler = None


@pytest.fixture
def model(make_model):
    """Return a narrow model, in eval mode."""
    model = make_model("bert")
    assert prune(model, USED)
    return model


def losses(model, num_steps: int, *, seed: int = 0):
    """Yield the losses of steps, with their gradients, on used ids: padding among them, and seen, which gets none."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        ids = torch.from_numpy(USED)[torch.randint(0, len(USED), (4, 9), generator=generator)]
        labels = torch.randint(0, 5, (4, 9), generator=generator)
        loss = nn.functional.cross_entropy(model(input_ids=ids).logits.flatten(0, 1), labels.flatten())
        loss.backward()
        yield float(loss.detach())


def trained(model, num_steps: int = 40) -> list[tuple[float, float]]:
    """Train as the loop does, learning rate by learning rate; return losses and gradient norms."""
    _, optimizer = make_accelerator("float64").prepare(model, build_optimizer(Weights(model, model), 0.1, "float64"))
    model.train()
    found = []
    for step, loss in enumerate(losses(model, num_steps)):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / num_steps)
        found.append((loss, float(clip(NoScaler(), optimizer, list(model.parameters()), 0.5))))
        optimizer.step()
        optimizer.zero_grad()
    return found


def test_it_is_trained_as_the_plain_one(make_model):
    plain = make_model("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).double()
    before = plain.state_dict()[TABLE].clone()
    model = copy.deepcopy(plain)
    assert prune(model, USED)
    expected, found = trained(plain), trained(model)
    assert found == [pytest.approx(pair, rel=1e-11) for pair in expected]
    assert max(norm for _, norm in expected) > 0.5  # clipped
    restore(model)
    ours, theirs = model.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) <= 1e-12
    factors = ours[TABLE][UNUSED] / before[UNUSED]
    assert float(factors.min()) == pytest.approx(np.prod([1 - 0.002 * (1 - step / 40) for step in range(40)]))
    assert float(factors.max()) == pytest.approx(float(factors.min()))
    assert float((ours[TABLE][USED[1:]] - before[USED[1:]]).abs().min(dim=1).values.max()) > 1e-3


def test_ids_that_training_has_not_are_taken_in_evaluation(model):
    plain = copy.deepcopy(model)
    restore(plain)
    with torch.no_grad():
        expected = plain(input_ids=EVERY_ID).logits
        assert torch.equal(model(input_ids=EVERY_ID).logits, expected)
        pruned(model)[0].decay(0.5)
        pruned(model)[0].used[5:] += 1  # what was there of them before is out of date
        found = model(input_ids=EVERY_ID).logits
        assert float((found - expected).abs().min()) > 1e-4
        restore(model)
        assert torch.equal(model(input_ids=EVERY_ID).logits, found)


def test_an_id_that_training_has_not_is_no_other_one_in_training(model):
    model.train()
    for id_ in (13, -1):
        with pytest.raises(IndexError):
            model(input_ids=torch.tensor([[2, id_]]))


@pytest.mark.parametrize("overflows", [False, True])
def test_a_skipped_update_decays_nothing(model, overflows):
    optimizer = build_optimizer(Weights(model, model), 0.1, "no")
    optimizer.param_groups[0]["lr"] = 0.5
    model.train()
    next(losses(model, 1))
    if overflows:
        model.classifier.bias.grad[0] = float("nan")
    clip(NoScaler(), optimizer, list(model.parameters()), 1.0)
    optimizer.step()
    assert float(pruned(model)[0].decayed) == pytest.approx(0.0 if overflows else 0.05)


@pytest.mark.parametrize("overflows", [False, True])
def test_an_update_that_the_scaler_skips_decays_nothing(model, overflows):
    optimizer = build_optimizer(Weights(model, model), 0.1, "fp16")
    optimizer.param_groups[0]["lr"] = 0.5
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))
    model.train()
    next(losses(model, 1))
    if overflows:
        model.classifier.bias.grad[0] = float("inf")
    scaler.step(optimizer)
    assert float(pruned(model)[0].decayed) == pytest.approx(0.0 if overflows else 0.05)


def test_the_bf16_model_decays_with_its_master_and_once(model):
    weights = Weights.of(model, "bf16")
    optimizer = build_optimizer(weights, 0.1, "bf16")
    optimizer.param_groups[0]["lr"] = 0.5
    for _ in losses(weights.model.train(), 2):
        weights.accumulate_from_compute()
        optimizer.step()
        optimizer.zero_grad()
        weights.sync_to_compute()
    ours, masters = pruned(weights.model)[0], pruned(model)[0]
    assert float(ours.decayed) == float(masters.decayed) == pytest.approx(1 - 0.95**2)
    assert ours.rest.data_ptr() == masters.rest.data_ptr()
    expected = masters.whole_weight().bfloat16()
    assert torch.equal(ours.eval()(EVERY_ID)[0], expected)
    assert torch.equal(model.eval().bert.embeddings.word_embeddings(EVERY_ID)[0].bfloat16(), expected)


def test_a_rate_in_a_tensor_decays_by_the_same_bits(make_model):
    """CUDA graphs read the rate from a tensor."""
    by_kind = []
    for kind in (float, torch.tensor):
        model = make_model("bert")
        assert prune(model, np.arange(5, 60))
        optimizer = torch.optim.AdamW([{"params": [pruned(model)[0].used], "weight_decay": 0.01}], fused=True)
        decay_unused_rows(model, optimizer)
        for step in range(200):
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.param_groups[0]["lr"] = kind(float(np.float32(1e-3 / (step + 3))))
            optimizer.step()
        by_kind.append(pruned(model)[0].decayed)
    assert 0 < float(by_kind[0]) == float(by_kind[1])


def test_a_checkpoint_brings_all_of_it_back(model, make_model, tmp_path):
    optimizer = build_optimizer(Weights(model, model), 0.1, "no")
    optimizer.param_groups[0]["lr"] = 0.5
    model.train()
    next(losses(model, 1))
    optimizer.step()
    checkpoint.save_checkpoint(tmp_path / "step-1", model, optimizer, {})
    other = make_model("bert")
    with torch.no_grad():
        other.bert.embeddings.word_embeddings.weight.zero_()
    prune(other, USED)
    weights = Weights.of(other, "bf16")
    checkpoint.load_checkpoint(tmp_path / "step-1", other, build_optimizer(weights, 0.1, "bf16"))
    weights.sync_to_compute()
    assert float(pruned(weights.model)[0].decayed) == pytest.approx(0.05)
    for loaded in (other, weights.model):
        assert torch.equal(pruned(loaded)[0].whole_weight(), pruned(model)[0].whole_weight().to(loaded.dtype))


@pytest.mark.parametrize(
    ("saved", "loaded", "reason"),
    [
        (None, USED, "other embeddings were trained there, by another nerloop or collator"),
        (USED + np.isin(USED, 40), USED, "other embeddings were trained there, by another nerloop or collator"),
        (USED, None, "Unexpected key"),
    ],
    ids=["plain", "as many others", "narrow in plain"],
)
def test_a_checkpoint_of_other_rows_is_refused_in_one_line(make_model, tmp_path, saved, loaded, reason):
    models = []
    for used_ids in (saved, loaded):
        models.append(make_model("bert"))
        assert used_ids is None or prune(models[-1], used_ids)
    atomic.write_folder(tmp_path / "best-1", lambda f: checkpoint.save_weights(models[0], f))
    with pytest.raises(CheckpointError, match=f"does not fit this model: .*{reason}") as error:
        checkpoint.load_weights(models[1], tmp_path / "best-1")
    assert "\n" not in str(error.value)


# Where it is left alone.


def test_where_most_rows_are_used_nothing_changes(make_model):
    model = make_model("bert")
    assert not prune(model, np.arange(151))
    assert (pruned(model), len(model.state_dict()[TABLE])) == ([], 300)
    assert prune(model, np.arange(150))


def frozen(model) -> None:
    model.get_input_embeddings().weight.requires_grad_(False)


def bounded(model) -> None:
    model.get_input_embeddings().max_norm = 1.0


def tied(model) -> None:
    model.out = nn.Linear(32, 300, bias=False)
    model.out.weight = model.get_input_embeddings().weight


def of_another_class(model) -> None:
    model.get_input_embeddings().__class__ = type("Scaled", (nn.Embedding,), {})


def small(model) -> None:
    model.set_input_embeddings(nn.Embedding(290, 32))


def without(model) -> None:
    def raises() -> None:
        raise NotImplementedError

    model.get_input_embeddings = raises


@pytest.mark.parametrize("change", [frozen, bounded, tied, of_another_class, small, without])
def test_an_embedding_that_is_more_or_less_than_a_trained_table_is_left_alone(make_model, change):
    model = make_model("bert")
    change(model)
    assert not prune(model, USED)
    assert pruned(model) == []


FEATURE = Feature(USED[2:6], np.zeros(4, np.int64), np.zeros(4, np.int64), 0, (0,), (4,))


def test_a_model_that_computes_the_same_can_be_narrowed_and_is_as_it_was(make_model, wordpiece):
    for kind in ("bert", "roberta", "distilbert", "electra", "deberta-v2"):
        model = make_model(kind, pad_token_id=1).train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        state = torch.random.get_rng_state()
        assert is_prunable(model, USED, FEATURE, Pad(wordpiece), wordpiece), kind
        assert torch.equal(torch.random.get_rng_state(), state)
        assert (model.training, pruned(model)) == (True, [])
        assert list(model.state_dict()) == list(before)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("training", [False, True])
def test_a_model_that_looks_into_its_embedding_is_not_narrowed(make_model, wordpiece, training):
    model = make_model("bert").train()

    def looks(module, *_) -> None:
        if module.training == training:
            assert module.get_input_embeddings().weight.norm() > 0

    model.register_forward_pre_hook(looks)
    assert not is_prunable(model, USED, FEATURE, Pad(wordpiece), wordpiece)
    assert (pruned(model), len(model.state_dict()[TABLE]), model.training) == ([], 300, True)


def test_a_model_that_computes_something_else_is_not_narrowed(make_model, wordpiece):
    model = make_model("bert")
    model.register_forward_hook(lambda module, _, output: output.logits.add_(len(pruned(module))))
    assert not is_prunable(model, USED, FEATURE, Pad(wordpiece), wordpiece)
    assert pruned(model) == []


def test_a_model_that_takes_more_ids_than_it_is_given_is_not_narrowed(make_model, wordpiece):
    model = make_model("bert")
    model.register_forward_hook(lambda module, *_: module.get_input_embeddings()(torch.tensor([13])) and None)
    assert not is_prunable(model, USED, FEATURE, Pad(wordpiece), wordpiece)


# In a training.


class Features(list):
    """Features of the ids 9 and 10, as far as narrowing looks at them."""

    used_ids = np.array([9, 10])
    atoms = SimpleNamespace(lengths=np.array([2]))


FEATURES = Features([Feature(np.array([9, 10]), np.zeros(2, np.int64), np.zeros(2, np.int64), 0, (0,), (2,))])


def test_what_collators_fill_in_is_used_too_and_it_is_said_once(make_model, wordpiece, caplog):
    wordpiece.pad_token = None
    assert sorted(wordpiece.all_special_ids) == [1, 2, 3, 4]
    model = make_model("bert")
    training_setup.prune_embedding(model, FEATURES, Pad(wordpiece), wordpiece, make_accelerator("no"))
    assert pruned(model)[0].used_ids.tolist() == [0, 1, 2, 3, 4, 9, 10]
    assert [(r.levelno, r.getMessage()) for r in caplog.records if "embeddings" in r.getMessage()] == [
        (logging.INFO, "the training text uses 7 of the model's 300 subwords: only their embeddings are trained; the "
                       "others get no gradient and only decay")
    ]  # fmt: skip


def test_the_main_process_decides_for_all(make_model, wordpiece, monkeypatch):
    found = []
    for decided in (True, False):
        model = make_model("bert")
        monkeypatch.setattr(
            training_setup.collectives, "broadcast_from_main", lambda _, decide, decided=decided: decided
        )
        training_setup.prune_embedding(model, FEATURES, Pad(wordpiece), wordpiece, make_accelerator("no"))
        found.append(len(pruned(model)))
    assert found == [1, 0]
