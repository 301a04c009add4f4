"""Every stage after pretraining: runs, measures, stops and goes on, and says no."""

import json

import pytest
import torch

from folio.config import UserError
from folio.evals.answers import Answer
from folio.model.store import is_scorer, load_model, load_scorer
from folio.stages import exam, preferences, rejection
from folio.stages.evaluate import evaluate_preference
from folio.stages.parent import load_decoder
from folio.stages.tuning import ChatsRecipe
from folio.training import hooks
from folio.training.signals import Interrupted
from folio.training.snapshot import newest_snapshot
from tuned import STAGES, make_parent, recipe_of, rows_of, run_of, silent

ALL = list(STAGES)
POLICIES = [stage for stage in ALL if stage != "reward"]
TIMES = ("seconds", "per_second")


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent")
    make_parent(folder, "teacher", seed=2)
    return make_parent(folder).folder


@pytest.mark.parametrize("stage", ALL)
def test_a_run_measures_and_leaves_a_model(stage, parent, tmp_path):
    before = {n: t.clone() for n, t in load_decoder(parent).state_dict().items()}
    run = run_of(stage, parent, tmp_path / "run")
    rows = rows_of(run)
    measured = [row for row in rows if "lr" not in row]
    assert [row["step"] for row in measured] == [0, 2, 4]  # before, too
    if stage in POLICIES:
        assert {"greedy_exact", "sampled_gold", "sampled_accuracy.sort"} <= set(
            measured[-1]
        )
        model = load_model(run.model)
    else:
        model = load_scorer(run.model)
        assert model.config.deviation != 1.0  # it was calibrated
        assert 0 <= measured[-1]["val_accuracy.style"] <= 1
    assert all(p.isfinite().all() for p in model.parameters())
    learned = model.trunk if stage == "reward" else model
    after = learned.state_dict()
    assert any(not torch.equal(before[n], after[n]) for n in before if n in after)
    parents = load_decoder(parent).state_dict()
    assert all(torch.equal(before[name], parents[name]) for name in before)
    info = run.read_info()
    assert info["status"] == "finished"
    assert info["stage"] == stage
    assert info["parent"]["path"] == str(parent)
    assert (run.folder / "report.html").is_file()


WANTED = {  # what the specification says is to be logged
    "sft": {"loss"},
    "reward": {"accuracy", "margin", "chosen_score", "rejected_score"},
    "dpo": {"accuracy", "margin", "chosen_change", "rejected_change", "chosen_nll"},
    "ppo": {
        *("reward", "reward_std", "gold", "kl_sequence", "kl_token", "beta"),
        *("entropy", "clipped_low", "clipped_high", "approx_kl", "ratio_max"),
        *("grad_norm", "length_mean", "length_max", "unfinished"),
        *("explained_variance", "value", "rollout_tokens_per_second"),
        "sampler_difference",
    },
    "grpo": {
        *("reward", "reward_std", "gold", "kl", "kl_sequence", "dead_groups"),
        *("entropy", "clipped_low", "clipped_high", "approx_kl", "ratio_max"),
        *("length_mean", "unfinished"),
    },
    "distill": {"kl"},
}


@pytest.mark.parametrize("stage", ALL)
def test_what_is_to_be_watched_is_logged(stage, parent, tmp_path):
    rows = rows_of(run_of(stage, parent, tmp_path / "run"))
    assert WANTED[stage] <= set().union(*rows)


@pytest.mark.parametrize("stage", ALL)
def test_resumed_is_as_never_stopped(stage, parent, tmp_path, monkeypatch):
    """Stopped after step 2, which for PPO is the middle of a rollout: it goes on to
    the end of that one."""
    changes = {"train": {"steps": 6, "save_every": 0, "batch": 2}}
    if stage == "ppo":
        changes["rollout"] = {"prompts": 4, "max_new_tokens": 6, "epochs": 3}
    whole = run_of(stage, parent, tmp_path / "whole", **changes)

    def stop_after_two(stop):
        def hook(learner, metrics):
            stop.requested = stop.requested or learner.step == 2

        return hook

    with monkeypatch.context() as patch:
        patch.setattr(hooks, "agree", stop_after_two)
        with pytest.raises(Interrupted):
            run_of(stage, parent, tmp_path / "parts", **changes)
    parts = run_of(stage, parent, tmp_path / "parts", resume=True, **changes)
    snapshots = [newest_snapshot(run.snapshots, silent) for run in (whole, parts)]
    names = [s.path.name for s in snapshots if s is not None]
    assert names == ["step-00000003" if stage == "ppo" else "step-00000002"]
    for one, other in zip(*map(comparable, (whole, parts)), strict=True):
        assert one == other
    loads = load_scorer if stage == "reward" else load_model
    one, other = loads(whole.model).state_dict(), loads(parts.model).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def comparable(run) -> list[dict]:
    return [
        {n: v for n, v in row.items() if not n.endswith(TIMES)} for row in rows_of(run)
    ]


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo", "ppo"])
def test_lora_trains_little_and_is_saved_alone(stage, parent, tmp_path, monkeypatch):
    def any_difference(prompt, response, finished):  # so that there is one to learn
        return float(len(response) % 3)

    monkeypatch.setitem(exam.VERIFIERS, "tales", any_difference)
    lora = {"rank": 2, "targets": ["query", "value"]}
    run = run_of(stage, parent, tmp_path / "run", lora=lora)
    assert {p.name for p in run.model.glob("adapter*")} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    tuned, base = load_decoder(run.folder), load_decoder(parent)
    tokens = torch.tensor([[5, 6, 7]])
    assert not torch.equal(tuned(tokens).logits, base(tokens).logits)
    assert torch.equal(tuned.embedding.weight, base.embedding.weight)


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@pytest.mark.parametrize("fresh", [True, False])
def test_reward_models_of_both_kinds_begin_knowing_nothing(
    kind, fresh, parent, tmp_path
):
    changes = {"kind": kind, "fresh": fresh, "train": {"steps": 1, "eval_every": 1}}
    run = run_of("reward", parent, tmp_path / "run", **changes)
    first = next(row for row in rows_of(run) if "ranking_loss" in row)
    assert first["ranking_loss"] == pytest.approx(0.693147, abs=1e-5)
    assert first["accuracy"] == 0.5
    assert is_scorer(run.model)
    assert load_scorer(run.model).config.kind == kind


def test_dpo_begins_at_ln_2(parent, tmp_path):
    run = run_of("dpo", parent, tmp_path / "run")
    first = next(row for row in rows_of(run) if "margin" in row)
    assert first["preference_loss"] == pytest.approx(0.693147, abs=1e-5)
    assert first["chosen_change"] == pytest.approx(0.0, abs=1e-4)


def test_pairs_are_made_of_the_parents_own_answers(parent, tmp_path, monkeypatch):
    def respond(prompts, sampling, n):  # right, wrong, and one that never ended
        told = ([Answer(p.answer, True), Answer("no", True)] for p in prompts)
        return [[*two, Answer(two[0].text, False)] for two in told]

    monkeypatch.setattr(preferences, "respond_with", lambda *args, **kw: respond)
    data = {"sampled": 5, "examples": 4, "val_examples": 4, "tasks": ["sort"]}
    run = run_of("dpo", parent, tmp_path / "run", data=data)
    lines = (run.folder / "pairs.jsonl").read_text().splitlines()
    pairs = [json.loads(line) for line in lines]
    assert [pair["rejected"] for pair in pairs] == ["no"] * 5
    assert all(pair["margin"] == 1 for pair in pairs)
    assert run.read_info()["data"]["train_pairs"] == 4 + 5


def test_a_model_learns_from_its_own_best_answers(parent, tmp_path, monkeypatch):
    """Judged by a reward model or by the truth; here by which answer is the longest."""
    monkeypatch.setattr(
        rejection, "tales_score", lambda prompt, text, finished: len(text)
    )
    told = [Answer("a" * n, n != 5) for n in (2, 5, 4, 1)]
    monkeypatch.setattr(
        rejection,
        "respond_with",
        lambda *args, **kw: lambda prompts, sampling, n: [told] * len(prompts),
    )
    data = {"rejection": 5, "samples": 4, "val_examples": 4, "tasks": ["sort"]}
    run = run_of("sft", parent, tmp_path / "run", data=data)
    lines = (run.folder / "conversations.jsonl").read_text().splitlines()
    talks = [json.loads(line)["messages"] for line in lines]
    assert [talk[-1]["content"] for talk in talks] == ["aaaa"] * 5
    assert run.read_info()["data"]["train_conversations"] == 5
    said = "nobody knows what answers"
    with pytest.raises(UserError, match=said):
        rejection.worth_of(ChatsRecipe(path="x.jsonl", rejection=1), None, "cpu", print)


def test_a_reward_model_is_a_reward_and_a_critics_beginning(parent, tmp_path):
    rm = run_of("reward", parent, tmp_path / "rm")
    before = load_scorer(rm.model).state_dict()
    run = run_of(
        "ppo",
        parent,
        tmp_path / "run",
        reward={"model": str(rm.folder), "verifier": "tales", "verifier_weight": 0.5},
        critic={"start": str(rm.folder)},
    )
    row = next(row for row in rows_of(run) if "reward_model" in row)
    mixed = row["reward_model"] + 0.5 * row["reward_verifier"]
    assert row["reward"] == pytest.approx(mixed, abs=1e-5)
    after = load_scorer(rm.model).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
def test_a_policy_may_speak_and_learn_in_half_the_bits(stage, parent, tmp_path):
    train = {"precision": "bf16-weights"}
    run = run_of(stage, parent, tmp_path / "run", train=train)
    first = next(row for row in rows_of(run) if "kl_sequence" in row)
    # The reference is rounded as the policy is. What GRPO learns from but once has the
    # sampler's log-probs, whose products have other shapes.
    assert abs(first["kl_sequence"]) <= (0.0 if stage == "ppo" else 5e-3)
    weights = load_decoder(run.folder).state_dict()
    assert {x.dtype for x in weights.values() if x.is_floating_point()} == {
        torch.float32
    }


def test_a_critic_may_share_the_policys_trunk(parent, tmp_path):
    run = run_of("ppo", parent, tmp_path / "run", critic={"shared": True})
    snapshot = newest_snapshot(run.snapshots, silent)
    assert "value_head.weight" in snapshot.model
    assert not any(name.startswith("critic.") for name in snapshot.model)


# ---- files, as people have them ------------------------------------------------------


def write(path, records) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return str(path)


def test_sft_on_a_file_of_instructions(parent, tmp_path):
    records = [
        {"instruction": f"Say {i}.", "input": "", "output": f"{i}"} for i in range(60)
    ]
    path = write(tmp_path / "talk.jsonl", records)
    run = run_of("sft", parent, tmp_path / "run", embedded=False, data={"path": path})
    measured = [row for row in rows_of(run) if "val_loss" in row]
    assert "greedy_exact" in measured[-1]
    data = run.read_info()["data"]
    assert data["train_conversations"] + data["val_conversations"] < 60  # a test part


def test_grpo_on_sums_with_marked_answers(parent, tmp_path):
    records = [
        {"question": f"{i} + 1?", "answer": f"It is\n#### {i + 1}"} for i in range(60)
    ]
    path = write(tmp_path / "sums.jsonl", records)
    run = run_of(
        "grpo",
        parent,
        tmp_path / "run",
        embedded=False,
        data={"path": path},
        reward={"verifier": "number"},
        rollout={"prompts": 2, "group": 2, "max_new_tokens": 6},
    )
    assert "greedy_accuracy" in rows_of(run)[-1]


# ---- what cannot be ------------------------------------------------------------------

BAD = [
    ("sft", {"data": {"path": "talk.csv"}}, "known endings"),
    ("sft", {"data": {"curriculum": 0.5}}, "can't be sorted"),
    ("sft", {"data": {"tasks": ["sorting"]}}, "did you mean 'sort'"),
    ("sft", {"data": {"split": [0.9, 0.0, 0.1]}}, "data.split"),
    ("reward", {"lora": {"rank": 2}}, "trained whole"),
    ("reward", {"train": {"eval_every": 0}}, "calibrated when it is measured"),
    ("dpo", {"data": {"examples": 0}}, "data.examples = 0"),
    ("ppo", {"reward": {"verifier": "none"}}, "reward.model"),
    ("ppo", {"reward": {"model": "PARENT"}}, "only a reward model has scores"),
    ("ppo", {"model": {"dropout": 0.1}}, "dropout"),
    ("grpo", {"rollout": {"temperature": 0.0}}, "temperature"),
    ("grpo", {"rollout": {"max_new_tokens": 150}}, "max_seq_len"),
    ("grpo", {"grpo": {"kl": "k1"}}, "kl"),
    ("distill", {"top": 10_000}, "top = 10000"),
]


@pytest.mark.parametrize(("stage", "changes", "said"), BAD)
def test_what_cannot_be_is_one_clear_line(stage, changes, said, parent, tmp_path):
    text = json.dumps(changes).replace("PARENT", str(parent))
    with pytest.raises(UserError) as caught:
        run_of(stage, parent, tmp_path / "run", **json.loads(text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    left = tmp_path / "run"
    assert not left.is_dir() or {p.name for p in left.iterdir()} <= {".lock"}


def test_a_parent_is_needed_and_must_know_turns(parent, tmp_path):
    from folio.config import build
    from folio.stages.tuning import SFTRecipe
    from folio.text.tokenizer import Tokenizer

    with pytest.raises(UserError, match="parent: sft begins with a run"):
        build(SFTRecipe, {})
    with pytest.raises(UserError, match="no such run"):
        recipe_of("sft", tmp_path / "nowhere")
    assert Tokenizer.load(parent / "model").special_tokens


def test_a_reward_model_that_gives_nan_stops_the_run(parent, tmp_path, monkeypatch):
    def broken(prompt, response, finished):
        return float("nan")

    monkeypatch.setitem(exam.VERIFIERS, "tales", broken)
    with pytest.raises(UserError, match=r"verifier broken on the prompt .* nan"):
        run_of("grpo", parent, tmp_path / "run")


def test_a_run_is_not_judged_by_what_it_has_learned(parent, tmp_path):
    """Of its own file only the test part counts; of another all of it."""
    records = [
        {"prompt": f"Say {i}.", "chosen": f"{i}", "rejected": "no"} for i in range(80)
    ]
    path = write(tmp_path / "pairs.jsonl", records)
    run = run_of(
        "reward", parent, tmp_path / "run", embedded=False, data={"path": path}
    )
    learned = run.read_info()["data"]
    said = []
    found = evaluate_preference(run.folder, path, say=said.append)
    judged = found.pairs.accuracy["all"].count
    assert judged == 80 - learned["train_pairs"] - learned["val_pairs"] > 0
    assert "only its test part counts" in said[0]
    assert "length fitted" in found.pairs.baselines  # to what the run has learned from
    other = write(tmp_path / "others.jsonl", records)
    again = evaluate_preference(run.folder, other, say=silent)
    assert again.pairs.accuracy["all"].count == 80
