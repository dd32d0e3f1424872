"""The trainer: the same result however often it is interrupted, and only the same run resumed."""

import ast
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_usgseg.core.errors import Cancelled, CheckpointError
from napari_usgseg.learning.trainer import (
    LOG_FILE,
    REQUEST_FILE,
    VALIDATION,
    Task,
    TrainerSettings,
    begin,
    finish,
    is_done,
    is_same,
    train,
)

REPOSITORY = Path(__file__).parents[2]


class Line(Task):
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


def settings(**changes) -> TrainerSettings:
    given = {"steps": 60, "lr": 0.1, "warmup": 5, "save_every": 10, "ema": 0.999, **changes}
    return TrainerSettings(**given)


def test_it_learns(tmp_path):
    task = Line()
    train(task, settings(steps=300, ema=0.0), tmp_path)
    assert task.model.weight.item() == pytest.approx(3, abs=0.1)


def test_a_cancelled_and_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path):
    whole = Line()
    expected = train(whole, settings(), tmp_path / "whole").weights
    parts = Line()
    with pytest.raises(Cancelled):
        train(parts, settings(), tmp_path / "parts", cancelled=lambda: len(parts.seen) == 25)
    again = Line()
    found = train(again, settings(), tmp_path / "parts", resume=True).weights
    assert whole.seen == parts.seen + again.seen
    assert found.keys() == expected.keys() == {"weight", "bias"}
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_a_checkpoint_of_another_seed_is_refused(tmp_path):
    train(Line(), settings(), tmp_path)
    with pytest.raises(CheckpointError, match="seed"):
        train(Line(), settings(seed=1), tmp_path, resume=True)


def test_a_torn_checkpoint_is_refused_with_its_name(tmp_path):
    (tmp_path / "training.pt").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(CheckpointError, match=r"training\.pt"):
        train(Line(), settings(), tmp_path, resume=True)


def test_a_time_limit_ends_the_run(tmp_path):
    task = Line()
    train(task, settings(steps=10**9, minutes=0.01), tmp_path)
    assert 0 < len(task.seen) < 10**9


class Point(Task):
    """A point on a line; the loss is its squared distance from its place."""

    def __init__(self) -> None:
        self.model = nn.ParameterDict({"place": torch.zeros(1)})

    @property
    def place(self):
        return self.model["place"]

    def loss(self, step, rng):
        return (self.place - rng.uniform(0.9, 1.1)).square().sum(), {}


def validated(tmp_path, score, settings, **options):
    kept = []
    trained = train(
        Point(),
        settings,
        tmp_path,
        check=lambda step: {VALIDATION: score(step)},
        keep=lambda kind, step, score: kept.append((kind, step)),
        **options,
    )
    return trained, kept


def test_it_stops_when_validation_has_not_risen_for_the_patience(tmp_path):
    settings = TrainerSettings(1000, 0.01, check_every=1, patience=20)
    trained, kept = validated(tmp_path, lambda step: min(step, 7) / 10, settings)
    assert trained.step == 27
    assert trained.best == pytest.approx(0.7)
    assert kept[-1] == ("last", 27) or kept[-2] == ("best", 27)
    trained, kept = validated(tmp_path, lambda step: 0.9 if step == 3 else 0.1, settings)
    assert (trained.step, trained.best_step) == (23, 3)
    assert [step for kind, step in kept if kind == "best"][-1] == 3


def test_without_images_to_stop_by_the_last_step_is_the_best(tmp_path):
    settings = TrainerSettings(5, 0.01, check_every=2)
    trained, kept = validated(tmp_path, lambda step: math.nan, settings)
    assert (trained.step, trained.best_step) == (5, 5)
    assert kept[-2:] == [("best", 5), ("last", 5)]
    assert math.isinf(trained.best)


def test_accumulated_parts_are_one_step_along_their_mean(tmp_path):
    settings = TrainerSettings(1, 0.1, accumulate=4, warmup=1, clip_norm=1e9)
    task = Point()
    gradients = []
    task.place.register_post_accumulate_grad_hook(lambda p: gradients.append(float(p.grad)))
    train(task, settings, tmp_path)
    assert len(gradients) == 4
    wanted = [-2 * np.random.default_rng([0, 0, part, 0]).uniform(0.9, 1.1) for part in range(4)]
    assert gradients[-1] == pytest.approx(np.mean(wanted), rel=1e-4)
    assert float(task.place) == pytest.approx(0.1, rel=0.01)  # AdamW's first step is the rate


@pytest.mark.parametrize("decay", ["cosine", "step"])
def test_the_rate_rises_then_falls(tmp_path, decay):
    rates = []
    settings = TrainerSettings(60, 1.0, warmup=5, decay=decay)
    train(Point(), settings, tmp_path, progress=lambda s, n, figures: rates.append(figures))
    values = [figures["lr"] for figures in rates]
    assert values[0] < values[3] < values[4] <= 1.0
    assert max(values) > 0.95
    assert values[-1] <= 0.11
    top = values.index(max(values)) + 1
    assert values == sorted(values[:top]) + sorted(values[top:], reverse=True)


def test_a_loss_that_is_not_a_number_changes_nothing(tmp_path):
    class Broken(Point):
        def loss(self, step, rng):
            return self.place.sum() * math.nan, {}

    task = Broken()
    train(task, TrainerSettings(2, 0.1), tmp_path)
    assert float(task.place) == 0.0


TWO = """
import sys
from pathlib import Path

import accelerate
import numpy as np
import torch
from napari_usgseg.learning.trainer import (
    Task, TrainerSettings, make_accelerator, mean_of_all, train
)
from tests.support.forks import in_two_processes

class Point(Task):
    def __init__(self):
        self.model = torch.nn.ParameterDict({"place": torch.zeros(1)})

    def loss(self, step, rng):
        return (self.model["place"] - rng.uniform(0.9, 1.1)).square().sum(), {}

def work():
    task = Point()
    accelerator = make_accelerator("no", 1, on_cpu=True)
    folder, place = Path(sys.argv[1]), accelerator.process_index
    rows = np.array([[1.0], [1.0]] if place else [[0.4]])
    outcome = train(
        task, TrainerSettings(3, 0.1, warmup=1, check_every=1, clip_norm=1e9), folder,
        accelerator=accelerator,
        check=lambda step: {"validation": float(mean_of_all(accelerator, rows)[0])},
        keep=lambda kind, step, score: (folder / f"{kind}-{place}").write_text(str(score)),
    )
    values = [float(task.model["place"]), task.model["place"].grad is None, outcome.best]
    (folder / f"end-{place}").write_text(repr(values))

sys.exit(in_two_processes(work))
"""


def test_two_processes_learn_one_network_and_agree_on_its_score(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    names = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    paths = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        check=True,
        env=os.environ | names | {"PYTHONPATH": paths},
        timeout=300,
    )
    one, other = ((tmp_path / f"end-{place}").read_text() for place in (0, 1))
    assert one == other
    assert ast.literal_eval(one)[2] == pytest.approx(0.8)
    assert float((tmp_path / "best-0").read_text()) == pytest.approx(0.8)
    assert not (tmp_path / "best-1").exists()


values = st.none() | st.integers() | st.text() | st.lists(st.integers()).map(tuple)
requests = st.dictionaries(st.text(min_size=1).filter(lambda key: key != "done"), values)


@given(request=requests)
def test_the_same_request_is_known_again(request):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        assert not is_same(out, request)
        begin(out, request, resume=True)
        assert is_same(out, request)


def test_another_request_is_refused_and_says_in_what_it_differs(tmp_path):
    begin(tmp_path, {"seed": 1, "images": ["a"], "steps": 10}, resume=True)
    with pytest.raises(CheckpointError, match=r"differs in images, seed\).*use another --out"):
        is_same(tmp_path, {"seed": 2, "images": ["a", "b"], "steps": 10})


def test_a_training_that_ended_is_still_the_same_one(tmp_path):
    assert not is_done(tmp_path)
    begin(tmp_path, {"seed": 1}, resume=True)
    assert not is_done(tmp_path)
    finish(tmp_path, {"seed": 1})
    assert is_done(tmp_path)
    assert is_same(tmp_path, {"seed": 1})


def test_a_request_of_an_older_version_is_another_one(tmp_path):
    begin(tmp_path, {"seed": 1, "gone": True}, resume=True)
    with pytest.raises(CheckpointError, match="differs in gone, new"):
        is_same(tmp_path, {"seed": 1, "new": False})


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / REQUEST_FILE).write_text(content)
    with pytest.raises(CheckpointError, match=rf"{REQUEST_FILE} cannot be read"):
        is_same(tmp_path, {"seed": 1})


def test_a_new_run_drops_the_state_and_log_of_the_one_before_and_a_resumed_one_keeps_them(tmp_path):
    for name in ("training.pt", LOG_FILE):
        (tmp_path / name).write_bytes(b"earlier")
    begin(tmp_path, {"seed": 1}, resume=True)
    assert (tmp_path / "training.pt").exists()
    assert (tmp_path / LOG_FILE).exists()
    begin(tmp_path, {"seed": 1}, resume=False)
    assert not (tmp_path / "training.pt").exists()
    assert not (tmp_path / LOG_FILE).exists()
