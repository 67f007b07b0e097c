"""The precision to tag in, where the machine is not the one that trained."""

import pytest
import torch

from nerloop.distributed import precision


@pytest.mark.parametrize(
    ("saved", "has_bf16", "expected"),
    [
        ("bf16", False, "no"), ("bf16", True, "bf16"), ("fp16", True, "no"), ("no", True, "no"),
        ("float64", False, "float64"),
    ],
)  # fmt: skip
def test_a_cpu_tags_in_float32_where_it_lacks_the_precision_of_the_training(monkeypatch, saved, has_bf16, expected):
    monkeypatch.setattr(precision, "has_bf16", lambda *_: has_bf16)
    assert precision.precision_here(saved, torch.device("cpu")) == expected


def test_a_gpu_keeps_fp16():
    assert precision.precision_here("fp16", torch.device("cuda")) == "fp16"
