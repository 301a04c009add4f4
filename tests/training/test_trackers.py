"""TensorBoard and wandb show what the run's folder holds, and nothing else."""

import base64
import builtins
import json
import sys

import numpy as np
import pytest

from folio.config import UserError
from folio.stages.pretrain import pretrain
from folio.training.log import read_rows
from folio.training.run import Run
from folio.training.trackers import TensorBoard, Wandb, attention_grid
from helpers import tiny_recipe


def quiet(_: str) -> None: ...


@pytest.fixture
def nothing_installed(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name.startswith(("wandb", "torch.utils.tensorboard", "tensorboard")):
            raise ImportError(name)
        return real(name, *rest, **more)

    for name in list(sys.modules):
        if name.startswith(("wandb", "torch.utils.tensorboard")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)


def test_a_missing_tracker_names_its_extra(tmp_path, nothing_installed):
    for make in (
        lambda: TensorBoard(tmp_path / "tb", {}),
        lambda: Wandb(Run(tmp_path), "run", {}),
    ):
        with pytest.raises(UserError, match=r"pip install 'folio-llm\[track\]'$"):
            make()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb"])
def test_a_missing_tracker_leaves_no_run(tmp_path, nothing_installed, tracker):
    recipe = tiny_recipe(tmp_path, log={tracker: True})
    with pytest.raises(UserError, match=r"folio-llm\[track\]"):
        pretrain(recipe, tmp_path / "run", say=quiet)
    assert not (tmp_path / "run").exists()


def test_attention_is_laid_out_by_layer_and_head():
    weights = np.arange(2 * 3 * 2 * 2, dtype=np.uint8).reshape(2, 3, 2, 2)
    entry = {
        "shape": [2, 3, 2, 2],
        "weights": base64.b64encode(weights.tobytes()).decode(),
    }
    grid = attention_grid(entry)
    assert grid.shape == (2 * 3, 3 * 3)
    for layer in range(2):
        for head in range(3):
            tile = grid[3 * layer : 3 * layer + 2, 3 * head : 3 * head + 2]
            assert np.array_equal(tile, weights[layer, head])


# ---- wandb, by a stand-in: the package is too large for every machine ----------------


class Wandb_:
    """As much of wandb as is called."""

    def __init__(self):
        self.options, self.logged, self.finished = {}, [], False

    def init(self, **options):
        self.options = options
        return self

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished = True

    def Table(self, columns, data):
        return {"columns": columns, "data": data}

    def Image(self, pixels):
        return pixels


def test_wandb_gets_everything_of_a_run(tmp_path, monkeypatch):
    fake = Wandb_()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    recipe = tiny_recipe(tmp_path, log={"wandb": True})
    run = pretrain(recipe, tmp_path / "run", say=quiet)
    assert fake.options["project"] == "folio"
    assert fake.options["dir"] == str(run.folder)
    assert fake.options["config"]["optim"]["warmup"] == 4
    assert fake.finished
    logged = [(step, v) for step, v in fake.logged if "seconds" in v]
    assert [{"step": step, **v} for step, v in logged] == read_rows(run.metrics)
    tables = [(step, v["samples"]) for step, v in fake.logged if "samples" in v]
    rows = [row for _, table in tables for row in table["data"]]
    samples = read_rows(run.samples)
    assert rows == [[row[k] for k in ("step", "prompt", "text")] for row in samples]
    figure = json.loads((run.figures / "attention.json").read_text())
    pictures = {step: v["attention"] for step, v in fake.logged if "attention" in v}
    assert list(pictures) == [entry["step"] for entry in figure["steps"]]
    assert np.array_equal(pictures[8], attention_grid(figure["steps"][2]))


def test_a_run_that_goes_on_is_the_same_one_at_wandb(tmp_path, monkeypatch):
    fake, ids = Wandb_(), []
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for began in ("monday", "monday", "tuesday"):
        run = Run(tmp_path)
        run.update_info(started=began)
        Wandb(run, "run", {})
        ids.append(fake.options["id"])
    assert ids[0] == ids[1] != ids[2]
    assert fake.options["resume"] == "allow"


# ---- TensorBoard: its files, read back -----------------------------------------------


def events(folder):
    """What TensorBoard reads in a folder."""
    reading = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    everything = dict.fromkeys(("scalars", "tensors", "images"), 0)
    found = reading.EventAccumulator(str(folder), size_guidance=everything)
    found.Reload()
    return found


def test_event_files_hold_everything_of_a_run(tmp_path):
    pytest.importorskip("tensorboard")
    recipe = tiny_recipe(tmp_path, log={"tensorboard": True})
    run = pretrain(recipe, tmp_path / "run", say=quiet)
    found = events(run.folder / "tensorboard")
    rows = read_rows(run.metrics)
    for name in ("loss", "lr", "val_loss"):
        shown = [(event.step, event.value) for event in found.Scalars(name)]
        logged = [(row["step"], row[name]) for row in rows if name in row]
        assert [step for step, _ in shown] == [step for step, _ in logged]
        for (_, one), (_, other) in zip(shown, logged, strict=True):
            assert one == pytest.approx(other, rel=1e-6)
    texts = found.Tensors("samples/1/text_summary")
    samples = read_rows(run.samples)
    assert [event.step for event in texts] == [row["step"] for row in samples]
    shown = texts[-1].tensor_proto.string_val[0].decode()
    assert [line[4:] for line in shown.split("\n")] == samples[-1]["text"].splitlines()
    figure = json.loads((run.figures / "attention.json").read_text())
    pictures = found.Images("attention")
    assert [event.step for event in pictures] == [e["step"] for e in figure["steps"]]
    size = attention_grid(figure["steps"][0]).shape
    assert (pictures[0].height, pictures[0].width) == size
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    start = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = HParamsPluginData.FromString(start).session_start_info.hparams
    assert values["optim.warmup"].number_value == 4
    assert values["tokenizer.kind"].string_value == "char"


def test_what_is_relived_is_shown_once(tmp_path):
    pytest.importorskip("tensorboard")
    for after, steps in ((0, (1, 2, 3, 4)), (2, (3, 4, 5))):
        board = TensorBoard(tmp_path, {}, after=after)
        for step in steps:
            board.write({"step": step, "loss": float(step + 10 * after)})
        board.close()
    shown = [(e.step, e.value) for e in events(tmp_path).Scalars("loss")]
    assert shown == [(1, 1), (2, 2), (3, 23), (4, 24), (5, 25)]
