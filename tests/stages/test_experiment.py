"""Experiments: what is compared is really equal, run once, and recorded as it was."""

import json
import math
import statistics
from pathlib import Path

import pytest

from folio.config import UserError
from folio.stages import compare as compare_module
from folio.stages.assemble import fill_vocab
from folio.stages.compare import compare, run_experiment
from folio.stages.experiment import (
    Experiment,
    check_equal,
    check_tokens,
    facts_of,
    make_trials,
    read_experiment,
)
from folio.stages.findings import STUDENT, band, difference, find, thinned
from folio.training import hooks
from folio.training.run import Run
from folio.training.signals import Interrupted
from folio.viz.folder import Run as LoggedRun

ROOT = Path(__file__).resolve().parents[2]
BASE = """\
[tokenizer]
kind = "byte"

[data]
corpus = "tales"
megabytes = 0.02
val_fraction = 0.2

[model]
max_seq_len = 16
d_model = 16
n_layers = 2
n_heads = 2

[optim]
lr = 0.02
warmup = 2

[train]
steps = 6
batch = 4
device = "cpu"
eval_every = 3
save_every = 0

[sample]
every = 0

[log]
every = 2
gradients = true
"""
EXPERIMENT = """\
title = "Norms"
question = "Which?"
base = "base/tiny.toml"
seeds = [1, 2]
curves = ["val_loss", "grad_norm.*"]

[variants.layernorm.model]
norm = "layernorm"

[variants.rmsnorm.model]
norm = "rmsnorm"
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Runs go below the current folder."""
    monkeypatch.chdir(tmp_path)


def write(text=EXPERIMENT, name="norms.toml"):
    path = Path("experiments") / name
    (path.parent / "base").mkdir(parents=True, exist_ok=True)
    (path.parent / "base/tiny.toml").write_text(BASE)
    path.write_text(text)
    return path


def run(path, **options):
    """(path of the record, what was said)"""
    said: list[str] = []
    return run_experiment(path, say=said.append, **options), said


def trained(said):
    return [line.split("] ")[1] for line in said if line.startswith("[")]


def last_loss(folder):
    rows = map(json.loads, Path(folder, "metrics.jsonl").read_text().splitlines())
    return [row["val_loss"] for row in rows if "val_loss" in row][-1]


# ---- running and recording -----------------------------------------------------------


def test_every_variant_and_seed_is_run_once_and_recorded():
    path, said = run(write())
    home = Path("runs/experiments/norms")
    assert trained(said) == [
        "layernorm, seed 1",
        "rmsnorm, seed 1",
        "layernorm, seed 2",
        "rmsnorm, seed 2",
    ]
    assert path == Path("experiments/results/norms.json")
    record = json.loads(path.read_text())
    first, second = record["variants"]["layernorm"], record["variants"]["rmsnorm"]
    assert first["values"] == [last_loss(home / f"layernorm-{s}") for s in (1, 2)]
    assert second["values"] == [last_loss(home / f"rmsnorm-{s}") for s in (1, 2)]
    assert first["mean"] == pytest.approx(sum(first["values"]) / 2)
    off = abs(first["values"][0] - first["mean"])  # of two: deviation / sqrt(2)
    assert first["standard_error"] == pytest.approx(off)
    gaps = [b - a for a, b in zip(first["values"], second["values"], strict=True)]
    assert second["difference"]["mean"] == pytest.approx(sum(gaps) / 2)
    assert "difference" not in first
    assert record["tokens"] == 6 * 4 * 16
    assert record["command"] == "folio compare experiments/norms.toml"
    assert set(record["curves"]) == {"val_loss"} | {
        f"grad_norm.{part}" for part in ("embedding", "blocks.0", "blocks.1", "norm")
    }
    assert record["curves"]["val_loss"]["rmsnorm"]["x"] == [3, 6]
    assert (home / "compare.html").read_text().endswith("</html>\n")
    assert path.with_suffix(".svg").read_text().startswith("<svg xmlns=")
    assert said[-3].splitlines()[2].startswith("rmsnorm")


def test_no_time_and_no_folder_of_this_machine_is_recorded(tmp_path):
    path, _ = run(write().absolute())
    text = path.read_text()
    assert "seconds" not in text
    assert '"folio compare experiments/norms.toml"' in text
    assert str(tmp_path) not in text


def test_equal_seeds_read_the_same_text_and_others_another():
    run(write())
    home = Path("runs/experiments/norms")
    prints = {
        name: Run(home / name).read_info()["data"]["fingerprint"]
        for name in ("layernorm-1", "rmsnorm-1", "layernorm-2", "rmsnorm-2")
    }
    assert prints["layernorm-1"] == prints["rmsnorm-1"]
    assert prints["layernorm-2"] == prints["rmsnorm-2"]
    assert prints["layernorm-1"] != prints["layernorm-2"]
    assert len(list(home.glob("*/shards"))) == 0
    assert len(list(home.glob("text-*"))) == 2


def test_what_is_finished_is_not_run_again_and_what_is_lost_is():
    path, _ = run(write())
    before = path.read_text()
    assert trained(run(write())[1]) == []
    assert path.read_text() == before
    for file in sorted(Path("runs/experiments/norms/rmsnorm-1").rglob("*"))[::-1]:
        file.rmdir() if file.is_dir() else file.unlink()
    assert trained(run(write())[1]) == ["rmsnorm, seed 1"]
    assert path.read_text() == before


def test_an_interrupted_run_goes_on_and_ends_the_same(monkeypatch):
    path, _ = run(write())
    expected = json.loads(path.read_text())
    path.unlink()
    original, stopped = hooks.agree, []

    def stop_once(stop):
        def hook(learner, metrics):
            if learner.step == 4 and not stopped:
                stopped.append(learner.step)
                stop.requested = True

        return hook

    monkeypatch.setattr(hooks, "agree", stop_once)
    with pytest.raises(Interrupted, match="same command"):
        run(write(), runs=Path("again"))
    assert Run(Path("again/norms/layernorm-1")).read_info()["status"] == "interrupted"
    monkeypatch.setattr(hooks, "agree", original)
    _, said = run(write(), runs=Path("again"))
    assert len(trained(said)) == 4
    assert json.loads(path.read_text()) == expected


def test_a_part_can_be_run_and_the_record_waits_for_the_rest():
    path, said = run(write(), only=["rmsnorm"], seeds=[2])
    assert path is None
    assert trained(said) == ["rmsnorm, seed 2"]
    assert "layernorm-1, rmsnorm-1, layernorm-2 not run" in said[-1]
    assert not Path("experiments/results").exists()
    path, said = run(write())
    assert len(trained(said)) == 3
    assert path.exists()


def test_quick_leaves_the_record_alone():
    path, _ = run(write(), quick=True)
    assert path == Path("runs/experiments/norms-quick/norms-quick.json")
    assert json.loads(path.read_text())["quick"] is True
    assert not Path("experiments/results").exists()


def test_a_changed_recipe_is_not_taken_for_the_old_one():
    run(write(), only=["rmsnorm"], seeds=[1])
    changed = write(EXPERIMENT + "qk_norm = true\n")
    with pytest.raises(UserError, match="rmsnorm-1 was run with another recipe"):
        run(changed)


def test_runs_that_have_read_different_texts_are_not_compared():
    path, _ = run(write())
    path.unlink()
    other = Run(Path("runs/experiments/norms/rmsnorm-2"))
    other.update_info(data=other.read_info()["data"] | {"fingerprint": "another"})
    with pytest.raises(UserError, match=r"rmsnorm-2 and .*layernorm-2 have read"):
        run(write())
    assert not path.exists()


def test_the_load_of_experts_is_recorded():
    experts = """
[recipe.model.experts]
count = 4
active = 2
width = 8
"""
    text = EXPERIMENT.replace("grad_norm.*", "busiest_expert.*")
    path, _ = run(write(text + experts))
    load = json.loads(path.read_text())["loads"]["rmsnorm"]
    assert load["layers"] == ["blocks.0", "blocks.1"]
    assert load["steps"] == [1, 2, 3, 4, 5, 6]
    assert all(math.isclose(sum(s), 1, abs_tol=0.01) for e in load["shares"] for s in e)
    assert (
        "load of the experts" in Path("runs/experiments/norms/compare.html").read_text()
    )
    report = Path("runs/experiments/norms/rmsnorm-1/report.html").read_text()
    assert "load of the experts" in report


# ---- what must be equal --------------------------------------------------------------


def test_unequal_parameters_are_refused_before_anything_is_trained():
    path = write(EXPERIMENT + "d_ff = 64\n")
    with pytest.raises(
        UserError, match="equal = 'parameters', but rmsnorm has 12,480 and"
    ):
        run(path)
    assert not list(Path("runs/experiments/norms").glob("*-1/metrics.jsonl"))
    allowed = write('equal = "nothing"\n' + path.read_text())
    assert run(allowed, only=["rmsnorm"], seeds=[1])[0] is None


def test_equal_means_within_two_percent():
    def check(equal, **counts):
        experiment = Experiment("t", "q", equal=equal, variants={"a": {}, "b": {}})
        check_equal(experiment, counts)

    one = {"parameters": 1000, "active_parameters": 500}
    check("parameters", a=one, b=one | {"parameters": 1020})
    with pytest.raises(UserError, match="b has 1,021 and a 1,000"):
        check("parameters", a=one, b=one | {"parameters": 1021})
    check("active parameters", a=one, b=one | {"parameters": 4000})
    with pytest.raises(UserError, match="active parameters"):
        check("active parameters", a=one, b=one | {"active_parameters": 489})


def test_facts_are_those_of_the_model():
    path = write(EXPERIMENT + "n_kv_heads = 1\nwindow = 4\nsinks = 1\n")
    trials = make_trials(read_experiment(path), Path("home"), quick=False)
    wide, narrow = (
        facts_of(fill_vocab(trial.recipe.model, 256)) for trial in trials[:2]
    )
    assert wide["cache_bytes_per_token"] == 2 * 16 * 2 * 4  # k and v, D, L, fp32
    assert narrow["cache_bytes_per_token"] == 2 * 8 * 2 * 4 * 5 / 16
    assert wide["parameters"] - narrow["parameters"] == 2 * 2 * 16 * 8


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.toml")), ids=str)
def test_our_own_experiments_compare_equals(path):
    experiment = read_experiment(path)
    trials = make_trials(experiment, Path("home"), quick=False)
    assert len(trials) == 3 * len(experiment.variants)
    check_tokens(trials)
    assert {t.recipe.data.corpus for t in trials} == {"tales"}
    size = trials[0].recipe.tokenizer.vocab_size
    facts = {t.variant: facts_of(fill_vocab(t.recipe.model, size)) for t in trials}
    assert experiment.equal != "nothing"
    check_equal(experiment, facts)


# ---- mistakes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Norms"\n', "", "title is missing"),
        ("[variants.layernorm.model]\n", "[other]\n", "unknown key 'other'"),
        ('[variants.layernorm.model]\nnorm = "layernorm"\n', "", "needs two"),
        ("seeds = [1, 2]", "seeds = [1, 1]", "each once"),
        ("seeds = [1, 2]", "seeds = []", "each once"),
        ("variants.rmsnorm", "variants.RMSNorm", "small letters"),
        ("variants.rmsnorm.model", "variants.rmsnorm.data", "the same for all"),
        ("[variants.rmsnorm.model]", "[variants]", "expected a table"),
        ('norm = "rmsnorm"', 'norm = "batch"', "variant 'rmsnorm': model.norm"),
        ("base/tiny.toml", "base/huge.toml", "no such recipe"),
        (
            'norm = "rmsnorm"',
            "[variants.rmsnorm.train]\nbatch = 5",
            "numbers of tokens",
        ),
    ],
)
def test_mistakes_are_named(old, new, message):
    assert old in EXPERIMENT
    with pytest.raises(UserError, match=message) as error:
        run(write(EXPERIMENT.replace(old, new)), quick=True)
    assert "\n" not in str(error.value)


def test_what_no_run_has_logged_is_named():
    rows = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "val_loss": 1.0}]
    runs = {name: [LoggedRun(Path(name), rows)] for name in ("a", "b")}
    assert find("loss", ["*loss"], runs)["variants"]["a"]["values"] == [2.0]
    with pytest.raises(UserError, match="a: its log has no 'accuracy'"):
        find("accuracy", ["loss"], runs)
    with pytest.raises(UserError, match="curves: no run has logged 'speed'"):
        find("loss", ["loss", "speed"], runs)


def test_unknown_parts_are_named():
    with pytest.raises(UserError, match="no variant 'rmsnrom'; did you mean 'rmsnorm'"):
        run(write(), only=["rmsnrom"])
    with pytest.raises(UserError, match="no seed 7"):
        run(write(), seeds=[7])


def test_the_verb_tells_experiments_from_runs(monkeypatch):
    called = []
    monkeypatch.setattr(
        compare_module, "compare_runs", lambda runs, out: called.append((runs, out))
    )
    monkeypatch.setattr(
        compare_module, "run_experiment", lambda path, **options: called.append(options)
    )
    out, runs = Path("out.html"), [Path("runs/a"), Path("runs/b")]
    compare(runs, out)
    assert called.pop() == (runs, out)
    compare([Path("a.toml"), Path("b.toml")], out, only=["x"], quick=True)
    assert called == [{"only": ["x"], "seeds": (), "quick": True}] * 2
    with pytest.raises(UserError, match="not both"):
        compare([Path("a.toml"), Path("runs/b")], out)
    with pytest.raises(UserError, match="experiment's file"):
        compare(runs, out, quick=True)


# ---- the numbers ---------------------------------------------------------------------


def test_students_quantiles():
    """The area under the density between -t and t is 0.95, by Simpson's rule."""
    for degrees, t in enumerate(STUDENT, 1):
        scale = math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2)
        scale /= math.sqrt(math.pi * degrees)
        n = 2000
        density = [
            scale * (1 + (t * i / n) ** 2 / degrees) ** (-(degrees + 1) / 2)
            for i in range(n + 1)
        ]
        area = density[0] + density[-1]
        area += 4 * sum(density[1::2]) + 2 * sum(density[2:-1:2])
        assert 2 * area * t / n / 3 == pytest.approx(0.95, abs=3e-5)


def test_what_the_text_contributes_cancels():
    """Pairs that differ by 0.01 are told apart, however far their texts are apart."""
    ours, theirs = [1.01, 2.0102, 3.0098], [1.0, 2.0, 3.0]
    found = difference(ours, theirs)
    assert found["verdict"] == "higher"
    gaps = [0.01, 0.0102, 0.0098]
    error = statistics.stdev(gaps) / math.sqrt(3)
    assert found["within"] == pytest.approx(4.303 * error, rel=1e-3)
    assert difference(theirs, ours)["verdict"] == "lower"
    assert difference([1.01, 1.98, 3.0], theirs)["verdict"] == "not told apart"
    assert difference([2.0], [1.0])["verdict"] == "one seed only"


def test_long_curves_are_thinned_by_means():
    x, y = list(range(1, 1001)), [float(i) for i in range(1, 1001)]
    places, means = thinned(x, y)
    assert len(places) == len(means) <= 60
    assert places[-1] == 1000
    assert means[0] == statistics.fmean(y[: places[0]])
    assert thinned(x[:60], y[:60]) == (x[:60], y[:60])


def test_a_band_skips_what_is_not_finite():
    columns = [([1, 2, 3], [1.0, math.nan, 3.0]), ([1, 2, 3], [3.0, 2.0, 4.0])]
    found = band(columns)
    assert found == {"x": [1, 3], "mean": [2.0, 3.5], "low": [1, 3], "high": [3, 4]}
