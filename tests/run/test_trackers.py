"""run.trackers: the same names everywhere, one run of a tracker for a resumed training, and errors that end nothing."""

import dataclasses
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from nerloop.errors import ConfigError
from nerloop.run import trackers
from nerloop.run.trackers import Trackers, check_trackers
from nerloop.run.tracking import scalars

STEP = {"epoch": 0.5, "loss": 2.0, "lr": 0.1, "timing": {"samples_per_second": 8.0}}
EVALUATION = {"epoch": 1.0, "split": "validation", "f1": 0.5, "tokens": 9, "per_type": {"PER": {"f1": 0.25}}}


def test_the_names_of_metrics():
    assert scalars(STEP) == {"train/loss": 2.0, "train/lr": 0.1, "train_speed/samples_per_second": 8.0}
    assert scalars(EVALUATION) == {"validation/f1": 0.5, "validation_f1_per_type/PER": 0.25}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wandbb", "run.trackers: found 'wandbb' (did you mean 'wandb'?), expected tensorboard, aim, clearml"),
        ("dvclive", "run.trackers: dvclive is not installed; pip install dvclive"),
    ],
)
def test_trackers_that_can_not_be_used_are_refused(name, message):
    with pytest.raises(ConfigError) as error:
        check_trackers(["tensorboard", name])
    assert str(error.value).startswith(message)


class Service:
    """A tracker that keeps what it gets, or fails from some call on."""

    requires_logging_directory = False

    def __init__(self, *, run: str | None = None) -> None:
        self.run, self.calls, self.fails = run, [], ""

    def start(self) -> None:
        self.tracker = SimpleNamespace(id=self.run or "run-7")

    def store_init_configuration(self, values: dict) -> None:
        self.calls.append(("settings", values))

    def log(self, values: dict, *, step: int) -> None:
        if self.fails:
            raise OSError(self.fails)
        self.calls.append((step, values))

    def finish(self) -> None:
        if self.fails:
            raise OSError(self.fails)
        self.calls.append("finished")


@pytest.fixture
def services(monkeypatch) -> list[Service]:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    made: list[Service] = []

    def make(**options):
        made.append(Service(**options))
        return made[-1]

    make.requires_logging_directory = False
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", make)
    monkeypatch.setitem(trackers.RESUMABLE, "wandb", (lambda kept, folder: {"run": kept}, lambda run: run.id))
    return made


def test_a_resumed_run_continues_the_same_run_and_sends_no_step_twice(services, tmp_path: Path):
    first = Trackers(["tensorboard", "wandb"], tmp_path, {"train.epochs": 3})
    for step in (10, 20):
        first.log(step, {"train/loss": 1.0, "validation_f1_per_type/A&B": 0.5})
    first.close()
    resumed = Trackers(["tensorboard", "wandb"], tmp_path, {"train.epochs": 3})  # from the checkpoint of step 10
    for step in (20, 30):
        resumed.log(step, {"train/loss": 1.0})
    resumed.log(30, {"test_best/f1": 0.5})
    values = {"train/loss": 1.0, "validation_f1_per_type/A_B": 0.5}
    assert services[0].calls == [("settings", {"train.epochs": 3}), (10, values), (20, values), "finished"]
    assert services[1].run == "run-7"
    assert services[1].calls == [(30, {"train/loss": 1.0}), (30, {"test_best/f1": 0.5})]


def test_what_a_killed_run_had_not_sent_of_its_last_step_is_sent_later(services, tmp_path: Path):
    Trackers(["wandb"], tmp_path, {}).log(10, {"train/loss": 1.0})
    resumed = Trackers(["wandb"], tmp_path, {})
    resumed.log(10, {"train/loss": 1.0})
    resumed.log(10, {"validation/f1": 0.5})
    assert services[1].calls == [(10, {"validation/f1": 0.5})]


def test_a_tracker_that_fails_at_last_for_the_third_time_ends_nothing(services, tmp_path: Path):
    sent = Trackers(["wandb"], tmp_path, {})
    services[0].fails = "gone"
    sent.log(1, {"train/loss": 1.0})
    sent.log(2, {"train/loss": 1.0})
    sent.close()
    assert json.loads((tmp_path / trackers.FILE).read_text())["wandb"]["id"] == "run-7"


def test_several_figures_of_one_step_are_all_sent(services, tmp_path: Path):
    sent = Trackers(["wandb"], tmp_path, {})
    sent.log(10, {"train/loss": 1.0})
    sent.log(10, {"validation/f1": 0.5})
    assert services[0].calls[1:] == [(10, {"train/loss": 1.0}), (10, {"validation/f1": 0.5})]


def test_a_tracker_that_fails_is_warned_of_and_dropped_after_three_failures(services, tmp_path: Path, caplog):
    sent = Trackers(["wandb"], tmp_path, {})
    services[0].fails = "no route\nto host"
    for step in range(1, 6):
        sent.log(step, {"train/loss": 1.0})
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "warning: run.trackers: wandb failed: OSError: no route to host"
    assert lines[2].endswith("; it gets no more metrics of this run")
    assert len(lines) == 3
    sent.close()
    assert services[0].calls == [("settings", {})]


def test_a_tracker_that_does_not_start_is_warned_of(monkeypatch, tmp_path: Path, caplog):
    def refuse(kept, folder):
        raise ValueError("not logged in")

    monkeypatch.setitem(trackers.RESUMABLE, "wandb", (refuse, str))
    sent = Trackers(["wandb"], tmp_path, {})
    sent.log(1, {"train/loss": 1.0})
    assert [r.getMessage() for r in caplog.records] == [
        "warning: run.trackers: wandb failed: ValueError: not logged in; it gets no more metrics of this run"
    ]


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("name", ["mlflow", "trackio", "wandb"])
def test_a_resumed_training_is_one_run_in_a_tracker(name, config, monkeypatch, tmp_path: Path):
    pytest.importorskip(name)
    import nerloop
    from nerloop.errors import Interrupted
    from nerloop.training.training import Training

    for variable, value in {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "WANDB_MODE": "offline", "WANDB_SILENT": "true",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)
    config = dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, max_steps=6, eval_every=2, save_every=2),
        run=dataclasses.replace(config.run, log_every=1, trackers=["tensorboard", name], resume="auto"),
    )
    seed = Training.dropout_seed

    def stop_at_4(training, step):
        if step == 4:
            monkeypatch.setattr(Training, "dropout_seed", seed)
            raise Interrupted("test")
        return seed(training, step)

    monkeypatch.setattr(Training, "dropout_seed", stop_at_4)
    with pytest.raises(Interrupted):
        nerloop.train(config)
    folder = Path(config.run.dir)
    begun = json.loads((folder / trackers.FILE).read_text())[name]["id"]
    results = nerloop.train(config)
    kept = json.loads((folder / trackers.FILE).read_text())[name]
    assert (kept["id"], kept["step"]) == (begun, 6)
    # On a busy machine wandb's service may write the last figures after the run has ended.
    for _ in range(60):
        losses = losses_in(name, begun, tmp_path)
        if len(losses) == 6:
            break
        time.sleep(0.5)
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    expected = {line["step"]: line["loss"] for line in logged if "loss" in line}
    assert losses == pytest.approx(expected)
    assert len(losses) == results["steps"] == 6


def losses_in(name: str, run: str, folder: Path) -> dict[int, float]:
    """Return "train/loss" by step, as the tracker itself reads its run back."""
    if name == "mlflow":
        import mlflow

        history = mlflow.MlflowClient().get_metric_history(run, "train/loss")
        assert len(history) == 6
        return {metric.step: metric.value for metric in history}
    if name == "trackio":
        from trackio.sqlite_storage import SQLiteStorage

        lines = SQLiteStorage.get_logs("nerloop", run)
        return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
    from wandb.proto import wandb_internal_pb2

    found = {}
    for file in sorted(folder.glob(f"**/*{run}.wandb")):
        for data in records_of(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            if "train/loss" in items:
                found[int(items["_step"])] = float(items["train/loss"])
    return found


def records_of(content: bytes, *, block: int = 32768) -> Iterator[bytes]:
    """Yield the records of a file in LevelDB's log format, which begins with 7 bytes of wandb's own."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        if block - at % block < 7:  # too short for a header: filled with zeros
            at += block - at % block
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield parts
            parts = b""
