"""The settings: dataclasses that hold them, and the checks on their values. `nerloop.config.parse` reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal

from nerloop import plugins
from nerloop.errors import ConfigError, shorten

DEMO = "demo"
LEARNING_RATE = 5e-5
"""The learning rate where none is set."""
DEMO_LEARNING_RATE = 3e-3
"""The learning rate of the demo, whose encoder starts from random weights."""


@dataclass(frozen=True)
class ModelSettings:
    """The encoder to start from."""

    name_or_path: str | None = None
    """folder or hub name (none, and no data: the embedded demo)"""
    revision: str | None = None
    """branch, tag or commit of a hub model"""
    dropout: float | None = None
    """every dropout of the model, attention's too (none: the model's own)"""
    cased_subwords: bool = False
    """let an uncased encoder see capitals (see nerloop/model/README.md); changes nothing for a cased one"""
    trust_remote_code: bool = False
    """run code that comes with a hub model (a warning says so)"""


@dataclass(frozen=True)
class DataSettings:
    """The annotated sentences."""

    dataset: str | None = None
    """hub name or folder that save_to_disk wrote; not together with files"""
    dataset_config: str | None = None
    """configuration of a hub data set"""
    train: str | list[str] | None = None
    """file or files, or a folder of brat's"""
    validation: str | list[str] | None = None
    """file or files"""
    test: str | list[str] | None = None
    """file or files"""
    unlabelled: str | list[str] | None = None
    """file or files of further text to train on, in any format; tags are ignored. For an objective with a teacher"""
    format: str = "auto"
    """of the files: auto (by suffix and content), or a name in nerloop/data/README.md"""
    token_column: str | None = None
    """index (from 0) or name of the column with tokens (none: first, or a usual name)"""
    tag_column: str | None = None
    """index (-1: last) or name of the column with tags (none: last, or a usual name)"""
    labels: list[str] | None = None
    """tag names of integer tags, in order"""
    tokenizer: str = "words"
    """of texts with character spans: words, whitespace (a sentence a line), or a dotted path to a function of yours"""
    offsets: Literal["auto", "codepoints", "utf16"] = "auto"
    """unit of character spans; auto: decided from the records"""
    overlaps: Literal["outermost", "innermost", "error"] = "outermost"
    """which one of nested or overlapping character spans is kept"""
    discontinuous: Literal["hull", "skip"] = "hull"
    """what to do with a brat span of several pieces"""
    encoding: str = "utf-8"
    """of the files, such as latin-1"""
    token_prefix: str | None = None
    """prefix to remove from every token, such as en:"""
    on_bad_record: Literal["stop", "skip"] = "stop"
    """what a sentence or record that can't be read does: end the reading, or get left out and listed"""
    read_test: bool = True
    """false: the test split is neither read nor scored; for choosing settings"""
    cache_dir: str | None = None
    """folder that caches data read and tokenised (none: $NERLOOP_CACHE, else nerloop in the user's cache folder)"""

    def files(self) -> dict[str, list[str]]:
        """Return the files of each split that has some."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: [f] if isinstance(f, str) else list(f) for split, f in named.items() if f}


@dataclass(frozen=True)
class TrainSettings:
    """The training."""

    epochs: int = 3
    """passes over the training split"""
    max_steps: int | None = None
    """optimizer steps; wins over epochs"""
    batch_size: int = 32
    """sentences per step, over all processes"""
    gradient_accumulation_steps: int = 1
    """micro-batches per process and step: divides the batch, never multiplies it"""
    max_subwords: int | None = None
    """instead of gradient_accumulation_steps: as many micro-batches as keep each within this many subwords"""
    learning_rate: float | None = None
    """peak learning rate (none: 5e-5, the demo 3e-3)"""
    head_learning_rate_factor: float = 1.0
    """learning rate of the head, relative to train.learning_rate"""
    layer_decay: float = 1.0
    """learning rate of each layer of the encoder, relative to the layer above it (1: the same)"""
    optimizer: str = "adamw"
    """adamw, or a dotted path to a torch.optim.Optimizer whose options have defaults, such as torch.optim.NAdam"""
    weight_decay: float = 0.01
    """of all parameters but norms and biases"""
    warmup_ratio: float = 0.06
    """share of the steps over which the learning rate rises"""
    schedule: Literal["linear", "constant"] = "linear"
    """learning rate after warmup: linear to zero, or constant"""
    max_grad_norm: float = 1.0
    """norm that the gradient is clipped to (0: not at all)"""
    mixed_precision: Literal["profile", "auto", "no", "bf16", "fp16", "float64"] = "profile"
    """profile: as accelerate was launched; auto: bf16 where the hardware has it; float64 is for tests"""
    threads: int | None = None
    """CPU threads of each process (none: OMP_NUM_THREADS if it is set, else the cores shared by the local processes)"""
    seed: int = 42
    """of head, shuffling and dropout"""
    deterministic: bool = False
    """bit-identical reruns, at some cost on GPUs"""
    cuda_graphs: bool = True
    """on one GPU in bf16: record steps as CUDA graphs and replay them; faster for small steps, changes no number"""
    eval_every: int | None = None
    """steps between evaluations (none: each epoch)"""
    save_every: int | None = None
    """steps between checkpoints (none: each epoch)"""
    early_stopping_patience: int | None = None
    """evaluations without improvement before training stops (none: never)"""
    best_metric: str | None = None
    """metric of the validation split that decides which model is best (none: the evaluator's main one)"""


@dataclass(frozen=True)
class RunSettings:
    """Where the run is kept, and what is logged."""

    dir: str | None = None
    """folder of the run (none: runs/<time>-<model>-<data>)"""
    resume: str = "off"
    """off, auto (the last whole checkpoint in run.dir), or a checkpoint's folder"""
    keep_checkpoints: int = 2
    """how many checkpoints to keep"""
    log_every: int = 10
    """steps between logged metrics"""
    score_pipeline: int = 1000
    """validation sentences that transformers' `pipeline` is scored on at the end (0: none)"""
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """where metrics go besides metrics.jsonl: tensorboard, mlflow, wandb, trackio, or another one of accelerate"""
    record_tokens: bool = False
    """write loss and margin of each training token in each epoch, from which evaluate --suspects finds wrong labels"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """of the messages in the terminal"""
    profile: int = 0
    """steps to trace, for ui.perfetto.dev or chrome://tracing, into run.dir/profile (0: none). With CUDA graphs
    the trace begins after 200 steps, or at the end of a shorter run"""


@dataclass(frozen=True)
class Plugin:
    """A plugin's name or dotted path, and its options: Plugin("first", {"stride": 64})."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def build(self, kind: str, *context: Any) -> Any:
        """Return the plugin, built from what nerloop hands to its kind and the options."""
        return plugins.build(kind, self.name, *context, **self.options)


@dataclass(frozen=True)
class Config:
    """All settings of a run; `Config()` is the demo."""

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    alignment: Plugin = Plugin("all")
    adaptation: Plugin = Plugin("none")
    collator: Plugin = Plugin("pack")
    objective: Plugin = Plugin("cross_entropy")
    decoding: Plugin = Plugin("viterbi")
    evaluator: Plugin = Plugin("seqeval")
    train: TrainSettings = field(default_factory=TrainSettings)
    run: RunSettings = field(default_factory=RunSettings)

    @property
    def is_demo(self) -> bool:
        """Whether this is the embedded demo: neither model nor data."""
        return self.model.name_or_path is None and self.data.dataset is None and not self.data.files()

    @property
    def learning_rate(self) -> float:
        """The peak learning rate: the one that is set, else the default one."""
        return self.train.learning_rate or (DEMO_LEARNING_RATE if self.is_demo else LEARNING_RATE)

    @property
    def data_name(self) -> str:
        """A short name of the data, for folders and titles."""
        files = self.data.files().get("train", [])
        return self.data.dataset or (files[0] if files else DEMO)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, in the form that `--config` takes."""
        values = dataclasses.asdict(self)
        for kind in plugins.BUILT_IN:
            plugin: Plugin = getattr(self, kind)
            values[kind] = {"class_path": plugins.path_of(kind, plugin.name), "init_args": dict(plugin.options)}
        return values

    def resolved(self, *, threads: int | None = None) -> Config:
        """Return the values that are used: no option of a plugin, learning rate, main metric or threads left out.

        `threads` is the number that this process computes on. Raises PluginError.
        """
        spelled_out: dict[str, Any] = {}
        for kind in plugins.BUILT_IN:
            plugin: Plugin = getattr(self, kind)
            options = {**plugins.defaults_of(plugins.find(kind, plugin.name)), **plugin.options}
            spelled_out[kind] = Plugin(plugin.name, options)
        train = dataclasses.replace(
            self.train,
            learning_rate=self.learning_rate,
            threads=self.train.threads or threads,
            best_metric=self.train.best_metric or plugins.main_metric_of(self.evaluator.name),
        )
        return dataclasses.replace(self, train=train, **spelled_out)

    def to_flat(self) -> dict[str, Any]:
        """Return the values by the names that flags have: {"train.epochs": 3, "alignment": "all", ...}."""
        return flat_settings(self.to_dict())


SECTIONS: dict[str, type] = {
    "model": ModelSettings,
    "data": DataSettings,
    "train": TrainSettings,
    "run": RunSettings,
}

# setting: (smallest, largest, whether the smallest itself is allowed)
RANGES: dict[str, tuple[float, float, bool]] = {
    "model.dropout": (0, 0.999, True),
    "train.epochs": (1, 1e9, True),
    "train.max_steps": (1, 1e12, True),
    "train.batch_size": (1, 1e9, True),
    "train.gradient_accumulation_steps": (1, 1e9, True),
    "train.max_subwords": (1, 1e12, True),
    "train.learning_rate": (0, 1e3, False),
    "train.head_learning_rate_factor": (0, 1e6, True),
    "train.layer_decay": (0, 1, False),
    "train.weight_decay": (0, 1e3, True),
    "train.warmup_ratio": (0, 1, True),
    "train.max_grad_norm": (0, 1e9, True),
    "train.threads": (1, 1024, True),
    "train.seed": (0, 2**32 - 1, True),  # what NumPy takes
    "train.eval_every": (1, 1e12, True),
    "train.save_every": (1, 1e12, True),
    "train.early_stopping_patience": (1, 1e9, True),
    "run.keep_checkpoints": (1, 1e6, True),
    "run.log_every": (1, 1e12, True),
    "run.profile": (0, 1000, True),
    "run.score_pipeline": (0, 1e12, True),
}


def validate(config: Config) -> None:
    """Raise ConfigError, naming setting and value, where the settings can't be used together or at all."""
    _check_types(config)
    flat = config.to_flat()
    for name, (low, high, low_allowed) in RANGES.items():
        value = flat[name]
        is_number = isinstance(value, Real | None)  # NumPy's numbers are Real, too
        if not is_number:
            raise ConfigError(f"{name}: found {shorten(value)}, expected a number")
        # Written so that NaN, which compares false with everything, is refused.
        if value is not None and not ((low < value or (low_allowed and low == value)) and value <= high):
            least = "at least" if low_allowed else "more than"
            raise ConfigError(f"{name}: found {shorten(value)}, expected {least} {low:g} and at most {high:,.15g}")
    files = config.data.files()
    has_data = bool(files) or config.data.dataset is not None
    if files and config.data.dataset is not None:
        raise ConfigError("data.dataset and data.train (or validation, test) are both set; expected one of them")
    if has_data and config.model.name_or_path is None:
        raise ConfigError("model.name_or_path: not set, but data is; set it to a folder or a hub name")
    if not has_data and config.model.name_or_path is not None:
        raise ConfigError("data: none set, but a model is; set data.train (and data.validation) or data.dataset")
    if files and "train" not in files:
        raise ConfigError(f"data.train: not set, but data.{next(iter(files))} is; expected a file to train on")
    labels = config.data.labels or []
    if len(set(labels)) < len(labels):
        raise ConfigError(
            f"data.labels: found {max(labels, key=labels.count)!r} more than once, expected each name once"
        )
    if config.data.dataset_config is not None and config.data.dataset is None:
        raise ConfigError("data.dataset_config: set, but data.dataset is not; expected both, or neither")
    if config.data.cache_dir == "":
        raise ConfigError("data.cache_dir: found '', expected the name of a folder")
    if config.run.dir == "":
        raise ConfigError("run.dir: found '', expected the name of a folder")
    if config.train.max_subwords is not None and config.train.gradient_accumulation_steps != 1:
        raise ConfigError(
            "train.max_subwords and train.gradient_accumulation_steps are both set; each decides the micro-batches: "
            "drop one"
        )
    if config.run.resume == "auto" and config.run.dir is None:
        raise ConfigError("run.resume is auto, but run.dir is not set; say which run to resume with run.dir")


def _check_types(config: Config) -> None:
    """Raise ConfigError for settings of another type, which only code can set, not a flag or YAML."""
    if not isinstance(config, Config):
        raise ConfigError(
            f"found {shorten(config)}, expected a nerloop.Config; "
            "nerloop.config.parse.parse(['--config', 'my.yaml']) reads one from a file"
        )
    for name, section in SECTIONS.items():
        if not isinstance(found := getattr(config, name), section):
            raise ConfigError(f"{name}: found {shorten(found)}, expected a nerloop.config.{section.__name__}")
    for kind in plugins.BUILT_IN:
        found = getattr(config, kind)
        if not isinstance(found, Plugin):
            name = found if isinstance(found, str) else "my_module.MyPlugin"
            raise ConfigError(f"{kind}: found {shorten(found)}, expected nerloop.config.Plugin({name!r}, {{options}})")
        given: Any = found.name
        if not isinstance(given, str):
            path = f"{given.__module__}.{given.__qualname__}" if isinstance(given, type) else "my_module.MyPlugin"
            raise ConfigError(f"{kind}: found Plugin({shorten(given)}), expected its dotted path: Plugin({path!r})")
    for split in ("train", "validation", "test", "unlabelled"):
        files = getattr(config.data, split)
        if not isinstance(files, str | Iterable | None):  # a Path, for one
            raise ConfigError(f"data.{split}: found {shorten(files)}, expected the name of a file (str) or a list")


def flat_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings, as `Config.to_dict` gives them, by the names that flags have.

    {"alignment": {"class_path": "nerloop.alignment.all.All", "init_args": {"stride": 8}}, "train": {"epochs": 3}}
    -> {"alignment": "all", "alignment.stride": 8, "train.epochs": 3}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in plugins.BUILT_IN:
            flat[name] = plugins.name_of(name, value["class_path"])
            flat |= flatten(value["init_args"], f"{name}.")
        else:
            flat |= flatten({name: value})
    return flat


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted name: {"a": {"b": 1}} -> {"a.b": 1}; an empty dict stays a value."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
