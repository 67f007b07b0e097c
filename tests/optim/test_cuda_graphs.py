"""Recording and replaying, with CUDA's part made up: what is recorded is called again."""

from __future__ import annotations

import pytest
import torch

from nerloop.optim import cuda_graphs as graphs
from nerloop.optim.cuda_graphs import Graphs

CPU = torch.device("cpu")


class Adding:
    """Work that adds its input, half of it dropped, to a sum, and returns the input's square."""

    def __init__(self, kind):
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.sum = torch.zeros(2)
        self.graphs = kind(CPU, [self.weight])
        self.calls: list[str] = []
        self.seen: set[int] = set()

    def add(self, x, how):
        self.calls.append(how)
        self.seen.add(x.data_ptr())
        self.sum.add_(torch.nn.functional.dropout(x, 0.5))
        self.weight.grad = self.sum
        return x.square().sum()

    def run(self, *values, key="one", recorded=None):
        x = torch.tensor(values)
        again = recorded or (lambda x: self.add(x, "recorded"))
        self.weight.grad = None
        output = self.graphs.run(key, lambda: self.add(x, "work"), again, [x], lambda: [[self.sum]])
        assert self.weight.grad is self.sum
        return float(output)


def run_all(adding, **options):
    torch.manual_seed(1)
    outputs = [adding.run(float(i), 1.0, **options) for i in range(5)]
    return outputs, adding.sum.tolist(), torch.get_rng_state().tolist()


def test_what_is_replayed_is_what_is_done_without_graphs(recorded_graphs, monkeypatch):
    adding = Adding(recorded_graphs)
    found = run_all(adding)
    assert adding.calls == ["work", "work", "recorded", "recorded", "recorded", "recorded", "recorded"]
    assert adding.graphs.recordings == len(adding.graphs) == 1
    monkeypatch.setattr(graphs, "MAX_GRAPHS", 0)
    without = Adding(recorded_graphs)
    assert run_all(without) == found
    assert without.calls == ["work"] * 5
    assert found[0] == [1.0, 2.0, 5.0, 10.0, 17.0]


def test_a_graph_reads_where_it_was_recorded_to_read(recorded_graphs):
    adding = Adding(recorded_graphs)
    run_all(adding)
    adding.seen.clear()
    for value in (5.0, 6.0, 7.0):
        assert adding.run(value, 0.0) == value**2
    assert len(adding.seen) == 1


def test_each_key_has_a_graph_of_its_own_up_to_so_many(recorded_graphs, monkeypatch):
    monkeypatch.setattr(graphs, "MAX_GRAPHS", 2)
    adding = Adding(recorded_graphs)
    for _ in range(3):
        for key in ("one", "two", "three"):
            adding.run(1.0, 2.0, key=key)
    assert (adding.graphs.recordings, len(adding.graphs)) == (2, 2)
    assert adding.calls[-3:] == ["recorded", "recorded", "work"]
    assert adding.graphs.seconds > 0


def refusing(adding):
    def recorded(x):
        adding.sum.fill_(99.0)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    return recorded


def other(adding):
    return lambda x: adding.add(x * 1.1, "recorded") / 1.21


def not_a_number(adding):
    return lambda x: adding.add(x, "recorded") * float("nan")


def drawing_more(adding):
    def recorded(x):
        output = adding.add(x, "recorded")
        torch.rand(1)
        return output

    return recorded


def elsewhere(adding):
    def recorded(x):
        output = adding.add(x, "recorded")
        adding.weight.grad = torch.zeros(2)
        return output

    return recorded


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (refusing, "RuntimeError: operation not permitted when stream is capturing more"),
        (other, "away from what it replaces"),
        (not_a_number, "nan away from what it replaces"),
        (drawing_more, "a graph draws other random numbers"),
        (elsewhere, "a graph leaves its gradients in another place"),
    ],
)
def test_a_graph_that_fails_or_disagrees_ends_them_all_and_changes_nothing(recorded_graphs, make, reason, caplog):
    adding, without = Adding(recorded_graphs), Adding(recorded_graphs)
    without.graphs._is_on = False
    found = run_all(adding, recorded=make(adding))
    assert found == run_all(without)
    assert (adding.graphs.recordings, len(adding.graphs)) == (1, 0)
    assert adding.calls.count("work") == 5
    (line,) = caplog.messages
    assert line.startswith("warning: CUDA graphs don't work here, training goes on without them: ")
    assert reason in line


def test_an_error_of_the_work_itself_is_no_matter_of_graphs(recorded_graphs, caplog):
    adding = Adding(recorded_graphs)

    def failing():
        raise ValueError("of the work")

    for _ in range(2):
        with pytest.raises(ValueError, match="of the work"):
            adding.graphs.run("one", failing, failing, [], lambda: [[adding.sum]])
    assert caplog.messages == []


def test_where_there_is_no_memory_to_compare_the_work_is_done_once(recorded_graphs, caplog, monkeypatch):
    adding = Adding(recorded_graphs)
    adding.run(1.0, 1.0)

    def full(mutated):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(adding.graphs, "_state", full)
    adding.run(1.0, 1.0)
    assert adding.calls == ["work", "work"]
    assert "OutOfMemoryError: CUDA out of memory" in caplog.text


def test_without_a_device_recording_fails_and_the_work_goes_on(caplog):
    """The real recording, on a machine whose PyTorch has no CUDA."""
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    adding, without = Adding(Graphs), Adding(Graphs)
    without.graphs._is_on = False
    assert run_all(adding) == run_all(without)
    assert len(caplog.messages) == 1
