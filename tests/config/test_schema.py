"""The settings as values: defaults, what must be true of them, how they are written down."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from nerloop.config import (
    RANGES,
    SECTIONS,
    Config,
    DataSettings,
    ModelSettings,
    Plugin,
    RunSettings,
    TrainSettings,
    flatten,
    validate,
)
from nerloop.errors import ConfigError
from nerloop.objectives.crf import Crf

MODEL = ModelSettings(name_or_path="bert")
DATA = DataSettings(train="a.conll")


def message(config: Config) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(config)
    return str(caught.value)


def test_values_of_a_wrong_type_are_named():
    """Flags and YAML are parsed by type; in Python anything may be given."""
    assert message(Config(evaluator="my.Own")) == (  # type: ignore[arg-type]
        "evaluator: found 'my.Own', expected nerloop.config.Plugin('my.Own', {options})"
    )
    assert message(Config(objective=dict)) == (  # type: ignore[arg-type]
        "objective: found <class 'dict'>, expected nerloop.config.Plugin('my_module.MyPlugin', {options})"
    )
    assert message(Config(MODEL, DataSettings(train=Path("a.conll")))) == (  # type: ignore[arg-type]
        f"data.train: found {Path('a.conll')!r}, expected the name of a file (str) or a list"
    )
    settings = TrainSettings(batch_size="16")  # type: ignore[arg-type]
    assert message(Config(train=settings)) == "train.batch_size: found '16', expected a number"


def test_defaults_are_those_of_the_table():
    assert Config().to_flat() == {
        "model.name_or_path": None,
        "model.revision": None,
        "model.dropout": None,
        "model.cased_subwords": False,
        "model.trust_remote_code": False,
        "data.dataset": None,
        "data.dataset_config": None,
        "data.train": None,
        "data.validation": None,
        "data.test": None,
        "data.unlabelled": None,
        "data.format": "auto",
        "data.token_column": None,
        "data.tag_column": None,
        "data.labels": None,
        "data.tokenizer": "words",
        "data.offsets": "auto",
        "data.overlaps": "outermost",
        "data.discontinuous": "hull",
        "data.encoding": "utf-8",
        "data.on_bad_record": "stop",
        "data.token_prefix": None,
        "data.read_test": True,
        "data.cache_dir": None,
        "alignment": "all",
        "adaptation": "none",
        "collator": "pack",
        "objective": "cross_entropy",
        "decoding": "viterbi",
        "evaluator": "seqeval",
        "train.epochs": 3,
        "train.max_steps": None,
        "train.batch_size": 32,
        "train.gradient_accumulation_steps": 1,
        "train.max_subwords": None,
        "train.learning_rate": None,
        "train.head_learning_rate_factor": 1.0,
        "train.layer_decay": 1.0,
        "train.optimizer": "adamw",
        "train.weight_decay": 0.01,
        "train.warmup_ratio": 0.06,
        "train.schedule": "linear",
        "train.max_grad_norm": 1.0,
        "train.mixed_precision": "profile",
        "train.threads": None,
        "train.seed": 42,
        "train.deterministic": False,
        "train.cuda_graphs": True,
        "train.eval_every": None,
        "train.save_every": None,
        "train.early_stopping_patience": None,
        "train.best_metric": None,
        "run.dir": None,
        "run.resume": "off",
        "run.keep_checkpoints": 2,
        "run.log_every": 10,
        "run.score_pipeline": 1000,
        "run.trackers": ["tensorboard"],
        "run.record_tokens": False,
        "run.log_level": "info",
        "run.profile": 0,
    }


def test_to_dict_nests_and_writes_plugins_by_path():
    config = Config(alignment=Plugin("all", {"stride": 8}), train=TrainSettings(epochs=5))
    found = config.to_dict()
    assert found["alignment"] == {"class_path": "nerloop.alignment.all.All", "init_args": {"stride": 8}}
    assert found["train"]["epochs"] == 5
    assert list(found) == [
        "model", "data", "alignment", "adaptation", "collator", "objective", "decoding", "evaluator", "train", "run",
    ]  # fmt: skip


def test_to_flat_goes_into_the_options_of_plugins():
    config = Config(alignment=Plugin("my.own.Aligner", {"stride": 8}))
    found = {name: value for name, value in config.to_flat().items() if name.startswith("alignment")}
    assert found == {"alignment": "my.own.Aligner", "alignment.stride": 8}


def test_resolved_spells_out_the_values_that_are_used():
    real = Config(model=ModelSettings(name_or_path="m"), data=DataSettings(train="t.conll"))
    found = real.resolved(threads=4)
    assert (found.train.learning_rate, found.train.threads) == (5e-5, 4)
    assert Config().resolved(threads=4).train.learning_rate == 3e-3  # the demo
    assert found.alignment.options == {"max_length": None, "stride": None}
    set_by_hand = Config(train=TrainSettings(learning_rate=1e-4, threads=2)).resolved(threads=4)
    assert (set_by_hand.train.learning_rate, set_by_hand.train.threads) == (1e-4, 2)
    assert found.resolved(threads=8) == found


def test_flatten_keeps_an_empty_dict_as_a_value():
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": {}, "f": [1]}) == {"a.b": 1, "a.c.d": None, "e": {}, "f": [1]}


def test_config_of_nothing_is_the_demo():
    assert Config().is_demo
    assert Config().data_name == "demo"


@pytest.mark.parametrize(
    "config",
    [
        Config(model=MODEL),
        Config(data=DATA),
        Config(data=DataSettings(dataset="d")),
        Config(data=DataSettings(test="t")),
    ],
)
def test_config_with_model_or_data_is_not_the_demo(config):
    assert not config.is_demo


def test_data_name_is_the_data_set_or_the_first_training_file():
    assert Config(data=DataSettings(dataset="conll2003")).data_name == "conll2003"
    assert Config(data=DataSettings(train=["x/a.conll", "b.conll"])).data_name == "x/a.conll"


def test_files_are_lists_by_split():
    data = DataSettings(train="a", validation=["b", "c"], test=None)
    assert data.files() == {"train": ["a"], "validation": ["b", "c"]}


WRONG: Any = {"max_steps": 5}, Crf, 3  # types that mypy would refuse


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("my.yaml", "found 'my.yaml', expected a nerloop.Config; nerloop.config.parse.parse(['--config', 'my.yaml']) "
         "reads one from a file"),
        (Config(train=WRONG[0]), "train: found {'max_steps': 5}, expected a nerloop.config.TrainSettings"),
        (Config(objective=Plugin(WRONG[1])), "objective: found Plugin(<class 'nerloop.objectives.crf.Crf'>), expected "
         "its dotted path: Plugin('nerloop.objectives.crf.Crf')"),
        (Config(objective=Plugin(WRONG[2])), "objective: found Plugin(3), expected its dotted path: "
         "Plugin('my_module.MyPlugin')"),
    ],
)  # fmt: skip
def test_validate_refuses_what_only_code_can_get_wrong(config, expected):
    assert message(config) == expected


def test_validate_accepts_the_defaults():
    validate(Config())


def test_validate_accepts_files_with_a_model():
    validate(Config(model=MODEL, data=DataSettings(train="a", validation="b", test="c")))


def test_validate_accepts_a_data_set_with_a_model():
    validate(Config(model=MODEL, data=DataSettings(dataset="conll2003", dataset_config="en")))


def test_validate_refuses_files_together_with_a_data_set():
    assert message(Config(model=MODEL, data=DataSettings(dataset="d", validation="b"))) == (
        "data.dataset and data.train (or validation, test) are both set; expected one of them"
    )


def test_validate_refuses_data_without_model():
    assert message(Config(data=DATA)) == ("model.name_or_path: not set, but data is; set it to a folder or a hub name")


def test_validate_refuses_a_model_without_data():
    assert message(Config(model=MODEL)) == (
        "data: none set, but a model is; set data.train (and data.validation) or data.dataset"
    )


def test_validate_refuses_files_with_none_to_train_on():
    assert message(Config(model=MODEL, data=DataSettings(validation="b"))) == (
        "data.train: not set, but data.validation is; expected a file to train on"
    )


def test_validate_refuses_two_deciders_of_the_micro_batches():
    assert message(Config(train=TrainSettings(max_subwords=100, gradient_accumulation_steps=2))) == (
        "train.max_subwords and train.gradient_accumulation_steps are both set; each decides the micro-batches: "
        "drop one"
    )


def test_validate_refuses_to_resume_what_it_is_not_told():
    assert message(Config(run=RunSettings(resume="auto"))) == (
        "run.resume is auto, but run.dir is not set; say which run to resume with run.dir"
    )


def test_validate_accepts_auto_resume_with_a_folder():
    validate(Config(run=RunSettings(resume="auto", dir="runs/x")))


OUT_OF_RANGE = [
    ("model.dropout", -0.1, "at least 0 and at most 0.999"),
    ("model.dropout", 1.1, "at least 0 and at most 0.999"),
    ("train.epochs", 0, "at least 1 and at most 1,000,000,000"),
    ("train.max_steps", 0, "at least 1 and at most 1,000,000,000,000"),
    ("train.batch_size", 0, "at least 1 and at most 1,000,000,000"),
    ("train.gradient_accumulation_steps", 0, "at least 1 and at most 1,000,000,000"),
    ("train.max_subwords", 0, "at least 1 and at most 1,000,000,000,000"),
    ("train.learning_rate", 0.0, "more than 0 and at most 1,000"),
    ("train.learning_rate", -1e-5, "more than 0 and at most 1,000"),
    ("train.learning_rate", float("nan"), "more than 0 and at most 1,000"),
    ("train.learning_rate", float("inf"), "more than 0 and at most 1,000"),
    ("train.head_learning_rate_factor", -1.0, "at least 0 and at most 1,000,000"),
    ("train.layer_decay", 0.0, "more than 0 and at most 1"),
    ("train.layer_decay", 1.5, "more than 0 and at most 1"),
    ("train.weight_decay", -0.01, "at least 0 and at most 1,000"),
    ("train.warmup_ratio", 1.5, "at least 0 and at most 1"),
    ("train.max_grad_norm", -1.0, "at least 0 and at most 1,000,000,000"),
    ("train.threads", 0, "at least 1 and at most 1,024"),
    ("train.threads", 1025, "at least 1 and at most 1,024"),
    ("train.seed", -1, "at least 0 and at most 4,294,967,295"),
    ("train.seed", 2**32, "at least 0 and at most 4,294,967,295"),
    ("train.eval_every", 0, "at least 1 and at most 1,000,000,000,000"),
    ("train.save_every", 0, "at least 1 and at most 1,000,000,000,000"),
    ("train.early_stopping_patience", 0, "at least 1 and at most 1,000,000,000"),
    ("run.keep_checkpoints", 0, "at least 1 and at most 1,000,000"),
    ("run.log_every", 0, "at least 1 and at most 1,000,000,000,000"),
    ("run.profile", -1, "at least 0 and at most 1,000"),
    ("run.score_pipeline", -1, "at least 0 and at most 1,000,000,000,000"),
]


@pytest.mark.parametrize(("name", "value", "expected"), OUT_OF_RANGE)
def test_validate_refuses_values_out_of_range(name, value, expected):
    section, _, field = name.partition(".")
    config = Config(**{section: SECTIONS[section](**{field: value})})
    assert message(config) == f"{name}: found {value}, expected {expected}"


def test_every_range_is_tried():
    assert {name for name, *_ in OUT_OF_RANGE} == set(RANGES)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.dropout", 0.0),
        ("model.dropout", 0.999),
        ("train.warmup_ratio", 0.0),
        ("train.warmup_ratio", 1.0),
        ("train.max_grad_norm", 0.0),
        ("train.weight_decay", 0.0),
        ("train.seed", 2**32 - 1),
        ("train.epochs", 1),
    ],
)
def test_validate_accepts_the_ends_of_a_range(name, value):
    section, _, field = name.partition(".")
    validate(Config(**{section: SECTIONS[section](**{field: value})}))


def test_every_number_among_the_settings_has_a_range():
    numbers = {
        f"{section}.{field.name}"
        for section, settings in SECTIONS.items()
        for field in dataclasses.fields(settings)
        if "int" in str(field.type) or "float" in str(field.type)
    }
    assert len(numbers) > 10
    assert numbers - {"train.mixed_precision", "data.offsets"} == set(RANGES)


def test_plugin_builds_with_its_options():
    built = Plugin("nerloop.collators.pad.Pad").build("collator", _Tokenizer())
    assert type(built).__name__ == "Pad"


class _Tokenizer:
    pad_token_id = 0
    padding_side = "right"
    model_input_names = ("input_ids",)
