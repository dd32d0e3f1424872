"""The training loop: the same result however often it is interrupted."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_usgseg.core.errors import Cancelled, CheckpointError
from napari_usgseg.learning.trainer import LoopSettings, run


class Line:
    """Learns y = 3 x."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.model = nn.Linear(1, 1)
        self.seen: list[float] = []

    def parameter_groups(self):
        return [{"params": list(self.model.parameters()), "lr_scale": 1.0}]

    def loss(self, step, rng: np.random.Generator):
        x = torch.tensor(rng.normal(size=(8, 1)), dtype=torch.float32)
        self.seen.append(float(x[0, 0]))
        error = (self.model(x) - 3 * x).square().mean()
        return error, {"error": float(error.detach())}


def settings(**changes) -> LoopSettings:
    return LoopSettings(**{"steps": 60, "lr": 0.1, "warmup": 5, "save_every": 10, **changes})


def test_it_learns(tmp_path):
    task = Line()
    run(task, settings(steps=300, ema=0.0), tmp_path / "line.pt")
    assert task.model.weight.item() == pytest.approx(3, abs=0.1)


def test_a_cancelled_and_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path):
    whole = Line()
    expected = run(whole, settings(), tmp_path / "whole.pt")
    parts = Line()
    with pytest.raises(Cancelled):
        run(parts, settings(), tmp_path / "p.pt", cancelled=lambda: len(parts.seen) == 25)
    again = Line()
    found = run(again, settings(), tmp_path / "p.pt", resume=True)
    assert whole.seen == parts.seen + again.seen
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_a_checkpoint_of_another_seed_is_refused(tmp_path):
    run(Line(), settings(), tmp_path / "line.pt")
    with pytest.raises(CheckpointError, match="seed"):
        run(Line(), settings(seed=1), tmp_path / "line.pt", resume=True)


def test_a_torn_checkpoint_is_refused_with_its_name(tmp_path):
    (tmp_path / "line.pt").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(CheckpointError, match=r"line\.pt"):
        run(Line(), settings(), tmp_path / "line.pt", resume=True)


def test_a_time_limit_ends_the_run_and_leaves_a_checkpoint_only_where_due(tmp_path):
    task = Line()
    run(task, settings(steps=10**9, minutes=0.01), tmp_path / "line.pt")
    assert 0 < len(task.seen) < 10**9
