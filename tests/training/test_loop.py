"""The loop: the same bits whether stopped or not, refusals, divergence, schedules."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from radarbook.errors import InputError
from radarbook.locks import hold
from radarbook.profiles import get_profile
from radarbook.training import checkpoints
from radarbook.training.checkpoints import load_autoencoder, load_tensors
from radarbook.training.data import ResidentSamples
from radarbook.training.loop import (
    CHECKPOINT,
    DivergedError,
    Settings,
    make_fabric,
    rate_at,
    read_history,
    run,
)
from radarbook.training.tasks import WEIGHTS, train_autoencoder, train_encoder, train_renderer
from tests.training.toys import toy_samples

ROOT = Path(__file__).parents[2]
PROFILE = get_profile(
    "smoke",
    {"encoder_epochs": 4, "renderer_epochs": 4, "autoencoder_epochs": 4, "pixels": 32}
    | {f"{k}_batch": 8 for k in ("encoder", "renderer", "autoencoder")},
)
TRAIN, HELD_OUT = toy_samples(20, 32, 0), toy_samples(8, 32, 1)


def encoder(folder, **options):
    return train_encoder(
        options.pop("train", TRAIN),
        HELD_OUT,
        options.pop("profile", PROFILE),
        options.pop("inputs", "both"),
        folder,
        options.pop("seed", 0),
        device="cpu",
        **options,
    )


def same_bits(a, b):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]


# -- resuming -----------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["fast", "paper"])
@pytest.mark.parametrize("kind", ["encoder", "renderer", "autoencoder"])
def test_train_2n_is_train_n_save_load_train_n(tmp_path, kind, recipe):
    """Bit for bit on the CPU: weights, optimizer, schedule, order of samples, augmentation."""
    profile = get_profile("smoke", PROFILE.model_dump() | {"recipe": recipe})
    first, _ = encoder(tmp_path / "e", stop_after=1)
    drawing, _ = train_renderer(
        TRAIN, HELD_OUT, PROFILE, tmp_path / "r", device="cpu", stop_after=1
    )

    def train(folder, **options):
        if kind == "encoder":
            return encoder(folder, profile=profile, **options)
        if kind == "renderer":
            return train_renderer(TRAIN, HELD_OUT, profile, folder, device="cpu", **options)
        return train_autoencoder(
            TRAIN, HELD_OUT, profile, first, drawing, folder, device="cpu", **options
        )

    whole, history = train(tmp_path / "whole")
    _, stopped = train(tmp_path / "parts", stop_after=2)
    assert not stopped.finished
    assert len(stopped.rows) == 2
    again, resumed = train(tmp_path / "parts")
    assert resumed.finished
    same_bits(whole, again)
    assert without_seconds(history) == without_seconds(resumed)
    ours, _ = load_tensors(tmp_path / "whole" / CHECKPOINT)
    theirs, _ = load_tensors(tmp_path / "parts" / CHECKPOINT)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_dropout_too_goes_on_where_it_was(tmp_path):
    """Dropout draws from the global generator, whatever anyone else does with it in between."""

    class Task:
        name, samples = "dropout", 8

        def loss(self, model, indices, generator):
            return {"loss": model(TRAIN.parameters.shape[indices]).square().mean()}

        def validate(self, model):
            return 0.0

    def train(folder, **options):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 50), torch.nn.Dropout(0.5))
        torch.rand(options.get("stop_after") or 5)
        settings = Settings(2, 8, 1e-2, "constant", "adam", clip=None)
        run(model, Task(), settings, folder, {}, fabric=make_fabric("cpu"), **options)
        return load_tensors(Path(folder) / CHECKPOINT)[0]

    whole = train(tmp_path / "whole")
    train(tmp_path / "parts", stop_after=1)
    parts = train(tmp_path / "parts")
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from tests.training.test_loop import encoder
encoder(sys.argv[1], checkpoint_seconds=0.0)
"""


def test_a_killed_run_ends_in_the_same_bits(tmp_path):
    """SIGKILL as soon as a checkpoint is there; the next run finishes as if nothing was."""
    torch.set_num_threads(1)
    whole, _ = encoder(tmp_path / "whole")
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], cwd=ROOT)
    while not (folder / CHECKPOINT).exists():
        assert process.poll() is None, "ended before its first checkpoint"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again, history = encoder(folder)
    assert history.finished
    same_bits(whole, again)


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path, monkeypatch):
    whole, folder = encoder(tmp_path / "whole", checkpoint_seconds=0.0), tmp_path / "full"
    saved, kept = checkpoints.save_file, 0

    def fills_up(*arguments):
        nonlocal kept
        kept += 1
        if kept == 3:
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        saved(*arguments)

    monkeypatch.setattr(checkpoints, "save_file", fills_up)
    says = r"No space left on device; the same command goes on from the last whole checkpoint"
    with pytest.raises(InputError, match=rf"{folder}/checkpoint.safetensors: cannot write: {says}"):
        encoder(folder, checkpoint_seconds=0.0)
    left = sorted(p.name for p in folder.iterdir() if p.name != ".lock")
    assert left == ["checkpoint.safetensors", "history.csv"]
    same_bits(encoder(folder)[0], whole[0])
    # Full from the beginning.
    kept = 2
    with pytest.raises(InputError, match="goes on from the beginning when there is space"):
        encoder(tmp_path / "first", checkpoint_seconds=0.0)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, history = encoder(tmp_path)
    written = (tmp_path / CHECKPOINT).stat().st_mtime_ns
    second, again = encoder(tmp_path)
    same_bits(first, second)
    assert again.rows == history.rows
    assert (tmp_path / CHECKPOINT).stat().st_mtime_ns == written
    assert read_history(tmp_path / "history.csv").rows == history.rows


def test_the_laptop_networks_train(tmp_path):
    """One epoch of the ResNet-18 encoder, its decoder and the autoencoder through the loop."""
    sizes = {"encoder": "resnet18", "decoder": "resnet18"}
    epochs = {f"{kind}_epochs": 1 for kind in ("encoder", "renderer", "autoencoder")}
    profile = get_profile("smoke", PROFILE.model_dump() | sizes | epochs)
    first, _ = encoder(tmp_path / "e", profile=profile)
    drawing, _ = train_renderer(TRAIN, HELD_OUT, profile, tmp_path / "r", device="cpu")
    _, history = train_autoencoder(
        TRAIN, HELD_OUT, profile, first, drawing, tmp_path / "a", device="cpu"
    )
    assert history.finished
    assert load_autoencoder(tmp_path / "a" / WEIGHTS).encoder.size == "resnet18"


def test_another_seed_trains_another_network(tmp_path):
    a, _ = encoder(tmp_path / "a")
    b, _ = encoder(tmp_path / "b", seed=1)
    assert not torch.equal(a.network.head.weight, b.network.head.weight)


# -- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"inputs": "depth"}, "architecture.inputs: expected depth, found both"),
        (
            {"train": toy_samples(20, 32, 0, fingerprint="other")},
            "dataset.fingerprint: expected other, found toy",
        ),
        ({"train": toy_samples(24, 32, 0)}, "dataset.samples: expected 24, found 20"),
        ({"seed": 1}, "settings.seed: expected 1, found 0"),
        (
            {"profile": get_profile("smoke", PROFILE.model_dump() | {"encoder": "resnet18"})},
            "architecture.size: expected resnet18, found small",
        ),
        (
            {"profile": get_profile("smoke", PROFILE.model_dump() | {"encoder_epochs": 5})},
            "settings.epochs: expected 5, found 4",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_with_the_difference(
    tmp_path_factory, options, difference
):
    folder = tmp_path_factory.getbasetemp() / "refused"
    encoder(folder, stop_after=1) if not folder.exists() else None
    with pytest.raises(InputError, match=f"another training: {difference}$"):
        encoder(folder, **options)


def test_an_autoencoder_from_another_encoder_is_refused(tmp_path):
    a, _ = encoder(tmp_path / "a", stop_after=1)
    b, _ = encoder(tmp_path / "b", seed=1, stop_after=1)
    drawing, _ = train_renderer(
        TRAIN, HELD_OUT, PROFILE, tmp_path / "r", device="cpu", stop_after=1
    )

    def train(first):
        return train_autoencoder(
            TRAIN, HELD_OUT, PROFILE, first, drawing, tmp_path / "ae", device="cpu", stop_after=1
        )

    train(a)
    with pytest.raises(InputError, match=r"begun from\.encoder: expected"):
        train(b)


def test_too_few_samples_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected at least 2 training samples"):
        encoder(tmp_path, train=toy_samples(1, 32, 0))


# -- divergence ---------------------------------------------------------------------------------


def test_nan_stops_with_the_batch_that_made_it(tmp_path):
    """Sample 13 is NaN: the error names its batch, and the checkpoint is from before."""
    amplitude = TRAIN.image.amplitude_db.clone()
    amplitude[13] = float("nan")
    image = type(TRAIN.image)(**(vars(TRAIN.image) | {"amplitude_db": amplitude}))
    broken = ResidentSamples(TRAIN.parameters, image, "toy")
    with pytest.raises(DivergedError) as caught:
        encoder(tmp_path, train=broken)
    message = str(caught.value)
    assert message.startswith("encoder/both: loss is nan in epoch 1, batch ")
    named = json.loads(message[message.index("[") : message.index("]") + 1])
    assert 13 in named
    assert len(named) <= 8
    assert not (tmp_path / CHECKPOINT).exists()
    assert re.search(r"at learning rate [0-9.e-]+: training diverged; the last checkpoint", message)
    assert "\n" not in message


class Spoiled(torch.nn.Module):
    """Becomes NaN in its second epoch, in a place that no loss sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("statistics", torch.zeros(1))


class SpoiledTask:
    name, samples = "spoiled", 4
    validations = 0

    def __init__(self, where: str) -> None:
        self.where = where

    def loss(self, model, indices, generator):
        return {"loss": model.weight.square().sum()}

    def validate(self, model):
        self.validations += 1
        if self.validations == 2 and self.where == "weights":
            model.statistics.fill_(float("nan"))
        return float("inf") if self.validations == 2 and self.where == "validation" else 1.0


@pytest.mark.parametrize(
    ("where", "words"),
    [("validation", "validation error is not"), ("weights", "weights statistics are not")],
)
def test_what_only_the_validation_sees_stops_the_training_too(tmp_path, where, words):
    settings = Settings(epochs=2, batch=2, rate=1e-3)
    fabric = make_fabric("cpu", "32-true")

    def train(**stops):
        task = SpoiledTask(where)
        return run(
            Spoiled(), task, settings, tmp_path, {}, fabric=fabric, checkpoint_seconds=0, **stops
        )

    with pytest.raises(DivergedError, match=f"{words} finite after epoch 2, at learning rate"):
        train()
    # The checkpoint is the first epoch's, not finished, and is gone on from.
    tensors, header = load_tensors(tmp_path / CHECKPOINT)
    assert not header["finished"]
    assert len(header["rows"]) == 1
    assert checkpoints.not_finite(tensors) == []
    assert train().finished


def test_a_checkpoint_of_a_diverged_training_is_not_taken(tmp_path):
    """As versions before this one wrote it: finished, its weights NaN."""
    encoder(tmp_path, stop_after=1)
    path = tmp_path / CHECKPOINT
    tensors, header = load_tensors(path)
    name = next(n for n, v in tensors.items() if n.startswith("best.") and v.is_floating_point())
    tensors[name] = torch.full_like(tensors[name], float("nan"))
    checkpoints.save_tensors(path, tensors, header | {"finished": True})
    with pytest.raises(InputError, match=rf"{re.escape(name)}: expected finite numbers.*diverged"):
        encoder(tmp_path)
    assert not (tmp_path / WEIGHTS).exists()


@pytest.mark.parametrize("cut", ["a tensor", "the optimizer", "the rows"])
def test_a_damaged_checkpoint_is_one_line(tmp_path, cut):
    encoder(tmp_path, stop_after=1)
    path = tmp_path / CHECKPOINT
    tensors, header = load_tensors(path)
    if cut == "a tensor":
        del tensors[next(n for n in tensors if n.startswith("model."))]
    del header[{"the optimizer": "optimizer", "the rows": "rows"}.get(cut, "finished")]
    checkpoints.save_tensors(path, tensors, header)
    with pytest.raises(InputError, match="expected a whole checkpoint of this version") as error:
        encoder(tmp_path)
    assert "\n" not in str(error.value)


def test_two_trainings_in_one_folder_are_one_too_many(tmp_path):
    with hold(tmp_path), pytest.raises(InputError, match="another run is writing here"):
        encoder(tmp_path, stop_after=1)


# -- schedules ----------------------------------------------------------------------------------


def test_the_papers_rate():
    """0.01 falling linearly to 0.001 over the first 150 of 200 epochs."""
    settings = Settings(200, 50, 0.01, "linear")
    rates = [rate_at(settings, epoch, 200) for epoch in range(200)]
    assert rates[0] == 0.01
    assert rates[75] == pytest.approx(0.0055)
    assert rates[150] == pytest.approx(0.001)
    assert rates[199] == pytest.approx(0.001)


def test_one_cycle_rises_and_ends_at_nothing():
    rates = [rate_at(Settings(1, 1, 1e-3), step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) == 20
    assert rates[-1] < 1e-5
    assert rates[0] < 1e-4


def test_patience_ends_a_run_that_does_not_get_better(tmp_path):
    class Task:
        name, samples = "stuck", 4

        def loss(self, model, indices, generator):
            return {"loss": model(torch.ones(len(indices), 1)).square().mean()}

        def validate(self, model):
            return abs(float(model.bias) - 1)

    model = torch.nn.Linear(1, 1)
    with torch.no_grad():
        model.bias.fill_(1.0)
        model.weight.fill_(1.0)
    history = run(
        model,
        Task(),
        Settings(50, 4, 1e-2, "constant", patience=3),
        tmp_path,
        {},
        fabric=make_fabric("cpu"),
    )
    assert history.finished
    assert history.best["epoch"] == 1
    assert len(history.rows) == 4


# -- several processes --------------------------------------------------------------------------

DISTRIBUTED = """
import sys, torch
torch.set_num_threads(1)
from tests.training.test_loop import encoder
network, history = encoder(sys.argv[1], **eval(sys.argv[2]))
"""


def test_two_processes_share_a_batch(tmp_path):
    """torchrun with two CPU processes: trains, one history is written, stops and goes on, and
    every process ends with the same network (the second one's is what the gradient average
    keeps equal, so finishing without a mismatch error is not enough: weights are compared)."""
    script = tmp_path / "train.py"
    script.write_text(
        DISTRIBUTED
        + "import os\n"
        + "torch.save(network.state_dict(), sys.argv[1] + '/rank' + os.environ['RANK'] + '.pt')\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for options in ("{'stop_after': 2}", "{}"):
        subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
             str(script), str(tmp_path / "run"), options],
            cwd=tmp_path, env=environment, check=True, timeout=1200,
        )  # fmt: skip
    history = read_history(tmp_path / "run" / "history.csv")
    assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4]
    assert history.rows[-1]["loss"] < history.rows[0]["loss"]
    ranks = [torch.load(tmp_path / "run" / f"rank{r}.pt", weights_only=True) for r in range(2)]
    for name, value in ranks[0].items():
        assert torch.equal(value, ranks[1][name]), name
