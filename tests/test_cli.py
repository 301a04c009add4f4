"""Bad input: one line on standard error, exit status 2, nothing half-written."""

import json
import os
import shutil
import signal
import sys
import time

import pytest

from folio.training.snapshot import snapshot_paths
from helpers import (
    files_below,
    rows,
    run_cli,
    start_folio,
    tale,
    wait_for,
    what_a_run_left,
    write_recipe,
)
from tuned import make_parent

QUICK = ["--train.steps", 4, "--train.accumulate", 1]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty working folder with a recipe and its text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    write_recipe(tmp_path)
    return tmp_path


def one_line(result: tuple[int, str, str]) -> str:
    """The message of a command that must have failed as a user's mistake does."""
    status, _, err = result
    assert status == 2
    assert err.startswith("folio: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err.removeprefix("folio: ").removesuffix("\n")


def refused(capsys, home, *arguments) -> str:
    """The message of a command that must fail and leave every file as it was."""
    before = files_below(home)
    message = one_line(run_cli(capsys, *arguments))
    assert files_below(home) == before
    return message


# ---- recipes and flags ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--train.stesp", 3], ["unknown key 'train.stesp'", "did you mean 'steps'?"]),
        (["--trian.steps", 3], ["unknown key 'trian'", "did you mean 'train'?"]),
        (["--train.steps", "many"], ["train.steps = 'many': expected int"]),
        (["--train.steps", 0], ["train.steps = 0: must be at least 1"]),
        (["--train.steps"], ["--train.steps needs a value"]),
        (["--optim.lr", "nan"], ["optim.lr = nan"]),
        (["--optim.schedule", "cosin"], ["optim.schedule = 'cosin'", "cosine"]),
        (["--model.n_heads", 3], ["d_model = 16", "not divisible by n_heads = 3"]),
        (["--train.length", 99], ["train.length = 99", "max_seq_len = 16"]),
        (["--data.val_fraction", 0], ["val_fraction = 0"]),
        (["--data.path", "none.txt"], ["none.txt"]),
        (["--data.path", "shakespear"], ["shakespear", "did you mean 'shakespeare'?"]),
        (["--tokenizer.path", "none.json"], ["none.json"]),
        (["--train.device", "tpu"], ["device 'tpu' is not available"]),
        (["--model.vocab_size", 3], ["vocab_size = 3", "the tokenizer has"]),
    ],
)
def test_a_wrong_flag(capsys, home, flags, words):
    message = refused(capsys, home, "pretrain", "tiny.toml", "--run", "r", *flags)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[train\nsteps = 3", "not valid TOML"),
        ("[train]\nstpes = 3", "unknown key 'train.stpes'; did you mean 'steps'?"),
        ("[model]\nd_model = 10\nn_heads = 4", "not divisible by n_heads = 4"),
        ("seed = 'x'", "seed = 'x': expected int"),
    ],
)
def test_a_wrong_recipe(capsys, home, content, words):
    (home / "wrong.toml").write_text(content)
    for verb in ("pretrain", "show", "tokenizer"):
        assert words in refused(capsys, home, verb, "wrong.toml")


def test_a_missing_recipe(capsys, home):
    assert "no such recipe: none.toml" in refused(capsys, home, "pretrain", "none.toml")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["pretrian"],
        ["pretrain"],
        ["generate"],
        ["generate", "run", "text", "--temperature", "hot"],
        ["eval", "run", "--no-such-flag", "3"],
        ["compare"],
    ],
)
def test_a_wrong_command(capsys, home, arguments):
    refused(capsys, home, *arguments)


# ---- texts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["text.txt: empty"]),
        (b"good until here \xff and on", ["text.txt", "invalid UTF-8 at byte 16"]),
        ("the ☃".encode()[:-1] * 9, ["invalid UTF-8 at byte 4"]),
        (b"short", ["a context of 16 needs at least 17"]),
        (tale(1).encode() * 2, ["needs at least"]),
    ],
)
def test_a_wrong_text(capsys, home, content, words):
    (home / "text.txt").write_bytes(content)
    flags = ["--data.path", "text.txt", "--model.max_seq_len", 16]
    if "needs" in words[-1] and len(content) > 9:
        flags[-1] = 999
    message = refused(capsys, home, "pretrain", "tiny.toml", "--run", "r", *flags)
    for word in words:
        assert word in message


def test_after_a_failed_start_the_same_folder_can_be_used(capsys, home):
    """The mistake mended, the same command works: no half of a run is in its way."""
    (home / "text.txt").write_bytes(b"short")
    command = ["pretrain", "tiny.toml", "--run", "r", "--data.path", "text.txt", *QUICK]
    for _ in range(2):
        refused(capsys, home, *command)
    (home / "text.txt").write_text(tale())
    status, out, _ = run_cli(capsys, *command)
    assert status == 0
    assert "learning a char tokenizer" in out


def test_a_folder_of_the_user_s_keeps_what_it_held(capsys, home):
    (home / "r").mkdir()
    (home / "r/notes.txt").write_text("mine")
    (home / "text.txt").write_bytes(b"short")
    refused(capsys, home, "pretrain", "tiny.toml", "--run", "r", "--data.path=text.txt")
    assert os.listdir(home / "r") == ["notes.txt"]


def test_a_run_that_is_a_file(capsys, home):
    message = refused(capsys, home, "pretrain", "tiny.toml", "--run", "tale.txt")
    assert "tale.txt: can't be used" in message


# ---- runs ----------------------------------------------------------------------------


@pytest.fixture
def run(capsys, home):
    """A finished run of four steps."""
    status, _, err = run_cli(capsys, "pretrain", "tiny.toml", "--run", "run", *QUICK)
    assert status == 0, err
    return home / "run"


def test_a_run_that_exists(capsys, home, run):
    message = refused(capsys, home, "pretrain", "tiny.toml", "--run", "run", *QUICK)
    assert "run already holds a run; add --resume" in message


def test_a_run_of_another_recipe(capsys, home, run):
    """Named is what differs; what may differ is not written down beside it."""
    flags = ["--optim.lr", 0.5, "--log.every", 2, "--model.dropout", 0.1]
    message = refused(
        capsys,
        home,
        "pretrain",
        "tiny.toml",
        "--run",
        "run",
        "--resume",
        *QUICK,
        *flags,
    )
    assert "belongs to another recipe: model.dropout was 0.2 and is now 0.1" in message


def test_an_allowed_change_is_said_and_recorded(capsys, home, run):
    flags = [*QUICK, "--train.steps", 6, "--log.every", 2]
    status, out, _ = run_cli(
        capsys, "pretrain", "tiny.toml", "--run", "run", "--resume", *flags
    )
    assert status == 0
    changes = [
        "resumed with a change: log.every was 3 and is now 2",
        "resumed with a change: train.steps was 4 and is now 6",
    ]
    assert json.loads((run / "run.json").read_text())["notes"] == changes
    assert [line for line in out.splitlines() if "change" in line] == changes
    assert "steps = 6" in (run / "recipe.toml").read_text()


def test_a_damaged_snapshot_is_named_and_the_one_before_used(capsys, home, run):
    expected = what_a_run_left(run)
    before, newest = snapshot_paths(run / "snapshots")
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (newest / "model.safetensors").write_bytes(data)
    status, out, _ = run_cli(
        capsys, "pretrain", "tiny.toml", "--run", "run", "--resume", *QUICK
    )
    assert status == 0
    assert f"snapshot run/snapshots/{newest.name} is damaged: model.safetensors" in out
    assert f"going on from {before.name}" in out
    left = what_a_run_left(run)
    assert left["metrics"] == expected["metrics"]
    assert left["model"] == expected["model"]


def test_all_snapshots_damaged(capsys, home, run):
    for path in snapshot_paths(run / "snapshots"):
        (path / "rng.safetensors").write_bytes(b"")
    log = rows(run / "metrics.jsonl")
    result = run_cli(
        capsys, "pretrain", "tiny.toml", "--run", "run", "--resume", *QUICK
    )
    assert "rng.safetensors does not match its checksum, and no other" in one_line(
        result
    )
    assert rows(run / "metrics.jsonl") == log


def test_a_folder_that_is_no_run(capsys, home):
    (home / "empty").mkdir()
    for folder in ("empty", "none"):
        for verb in ("generate", "eval", "report"):
            assert folder in refused(capsys, home, verb, folder)


def test_wrong_ways_of_sampling(capsys, home, run):
    for flags in (["--top-p", 2], ["--temperature", -1], ["--top-k", 0]):
        refused(capsys, home, "generate", "run", "The hen", *flags)
    assert "☺" in refused(capsys, home, "generate", "run", "☺ is no letter of the tale")


def test_generate_and_eval_of_a_good_run(capsys, home, run):
    before = files_below(home)
    status, out, _ = run_cli(capsys, "generate", "run", "On", "--max-new-tokens", 5)
    assert status == 0
    assert out.startswith("On")
    status, out, _ = run_cli(capsys, "eval", "run")
    assert status == 0
    assert "val_loss" in out
    assert files_below(home) == before


def test_a_tokenizer_that_is_not_the_shards_own(capsys, home, run):
    (home / "other.txt").write_text("abcdefghij" * 50)
    other = ["--data.path", "other.txt", "--run", "other", *QUICK]
    status, _, err = run_cli(capsys, "pretrain", "tiny.toml", *other)
    assert status == 0, err
    shutil.copy(home / "other/model/tokenizer.json", run / "model/tokenizer.json")
    assert "another tokenizer" in refused(capsys, home, "eval", "run")


def test_a_text_that_has_changed_can_t_be_resumed(capsys, home, run):
    (home / "tale.txt").write_text(tale(50))
    result = run_cli(
        capsys, "pretrain", "tiny.toml", "--run", "run", "--resume", *QUICK
    )
    message = one_line(result)
    assert "can't resume the data" in message
    assert len(snapshot_paths(run / "snapshots")) == 2


# ---- processes -----------------------------------------------------------------------


def test_two_trainings_on_one_folder(capsys, home):
    """The second is refused; when the first is killed, a third may go on."""
    flags = ["--run", "run", "--train.steps", 100_000, "--train.save_every", 5]
    first = start_folio("pretrain", "tiny.toml", *flags)
    try:
        wait_for(lambda: snapshot_paths(home / "run/snapshots"))
        message = one_line(run_cli(capsys, "pretrain", "tiny.toml", *flags, "--resume"))
        assert f"run is in use by process {first.pid} on" in message
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
    flags[3] = 6
    flags += ["--optim.schedule", "constant"]
    message = one_line(run_cli(capsys, "pretrain", "tiny.toml", *flags, "--resume"))
    assert "belongs to another recipe" in message  # so the lock was free


def test_ctrl_c_while_preparing_is_one_line(home):
    (home / "tale.txt").write_text(tale(400_000))
    process = start_folio("pretrain", "tiny.toml", "--run", "run")
    wait_for(lambda: (home / "run/recipe.toml").exists())
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines() == ["folio: interrupted"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("limit", [40_000, 9_000, 600])
def test_a_disk_that_is_full(capsys, home, limit):
    """Stands in for it: for a while, no file may grow beyond `limit` bytes."""
    import resource

    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, usual[1]))
    try:
        result = run_cli(capsys, "pretrain", "tiny.toml", "--run", "run", *QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    status, _, err = result
    assert status == 2
    last = err.splitlines()[-1]
    assert last.startswith("folio: ")
    assert "File too large" in last
    left = files_below(home)
    assert not [name for name in left if ".tmp-" in name]
    if limit == 40_000:  # a snapshot's file is the first that doesn't fit
        assert "could not save run/snapshots/step-00000001" in last
        assert not snapshot_paths(home / "run/snapshots")
    if limit == 600:  # not even the token files fit
        assert not [name for name in left if name.startswith("run")]
    command = ["pretrain", "tiny.toml", "--run", "run", "--resume", *QUICK]
    assert run_cli(capsys, *command)[0] == 0  # with space again


# ---- stages after pretraining --------------------------------------------------------


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return make_parent(tmp_path_factory.mktemp("parent")).folder


@pytest.fixture
def tuned(parent, tmp_path, monkeypatch):
    """A folder with a parent, and an empty recipe for whatever comes after it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(parent, "parent")
    (tmp_path / "recipe.toml").write_text("[train]\nsteps = 2\nbatch = 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sft", "recipe.toml"], "parent: sft begins with a run that has learned"),
        (["sft", "recipe.toml", "--parent", "nowhere"], "no such run"),
        (["dpo", "recipe.toml", "--parent", "parent"], "data.examples = 0"),
        (
            ["grpo", "recipe.toml", "--parent", "parent", "--grpo.bta", "1"],
            "did you mean 'beta'",
        ),
        (["ppo", "recipe.toml", "--parent", "parent", "--reward.model", "x"], "x"),
        (["distill", "recipe.toml", "--parent", "parent"], "teacher: name the run"),
        (["eval", "parent", "sanity"], "only a reward model has scores"),
        (["eval", "parent", "answer"], "did you mean 'answers'"),
        (["eval", "parent", "--best-of", "2"], "perplexity` has no use for it"),
        (
            ["eval", "parent", "choices", "--url", "x"],
            "--url: `folio eval",
        ),
        (["eval", "parent", "judge"], "needs --model"),
        (["eval", "parent", "harness"], "needs --tasks"),
        (["samples", "nowhere"], "nowhere"),
    ],
)
def test_stages_say_in_a_line_what_they_need(capsys, tuned, arguments, words):
    assert words in one_line(run_cli(capsys, *arguments))
    assert not (tuned / "runs").exists() or not files_below(tuned / "runs")


def test_a_stage_runs_by_its_verb_and_is_evaluated(capsys, tuned):
    flags = ["--parent", "parent", "--run", "sft", "--data.tasks", '["sort"]']
    flags += ["--data.val_examples", 2, "--answers.prompts", 0, "--train.device", "cpu"]
    status, out, err = run_cli(capsys, "sft", "recipe.toml", *flags)
    assert status == 0, err
    assert "sft" in out
    few = ["--count", 3, "--samples", 1, "--max-new-tokens", 4, "--tasks", "sort"]
    status, out, err = run_cli(capsys, "eval", "sft", "answers", *few)
    assert status == 0, err
    assert "seen wordings" in out
    assert json.loads((tuned / "sft/answers.json").read_text())["parts"]
    status, out, _ = run_cli(capsys, "samples", "parent", "sft", "--prompt", "Sort 2 1")
    assert status == 0
    assert out.count("sft") >= 1


def test_show_explains_any_stages_recipe(capsys, tuned):
    arguments = ["show", "recipe.toml", "--stage", "grpo", "--parent", "parent"]
    status, out, err = run_cli(capsys, *arguments)
    assert status == 0, err
    assert "[rollout]" in out
    assert "# answers to each" in out
    assert "# a run that gives weights" in out  # inherited fields are explained, too
