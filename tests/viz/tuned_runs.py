"""Run folders of the stages after pretraining: made up, with what those really log."""

import json
from pathlib import Path

TASKS = ("sort", "who_has")
TABLES = {
    "sft": "",
    "reward": "[ranking]\nloss = 'bradley_terry'\n",
    "dpo": "[dpo]\nbeta = 0.1\n",
    "ppo": "[ppo]\nclip = 0.2\n[critic]\nkl = 0.02\n",
    "grpo": "[grpo]\nbeta = 0.0\n",
    "distill": "[distill]\ntemperature = 1.0\n",
}


def held_out_answers(step: int) -> dict[str, float]:
    """Sampled answers get better by a hundredth a step, greedy ones are ahead."""
    row = {}
    for mode, ahead in (("greedy", 0.125), ("sampled", 0.0)):
        right = 0.25 + step / 100 + ahead
        row |= {f"{mode}_gold": 1.5 * right, f"{mode}_accuracy": right}
        row |= {f"{mode}_style": right / 2, f"{mode}_finished": 1.0}
        row |= {f"{mode}_accuracy.{task}": right / 4 for task in TASKS}
    return row


def rollout(step: int) -> dict[str, float]:
    """A reward model that is more and more wrong about what is really wanted."""
    score = step / 10
    return {
        "reward": score,
        "reward_model": score,
        "gold": 1.0 - step / 100,
        "reward_std": 1.0 / (step + 1),
        "redrawn": 0.0,
        "unfinished": 0.0,
        "length_mean": 10.0 + step,
        "length_max": 20.0 + step,
        "max_new_tokens": 40.0,
        "kl_sequence": step / 20,
        "kl_token": step / 200,
        "entropy": 1.0 / (step + 1),
        "clipped_low": 0.0,
        "clipped_high": step / 1000,
        "approx_kl": step / 1e4,
        "rollout_seconds": 0.5 + step / 100,
        "rollout_tokens_per_second": 2000.0 + step,
    }


def training(stage: str, step: int) -> dict[str, float]:
    if stage in ("reward", "dpo"):
        row = {"accuracy": 0.5 + step / 100, "margin": step / 10}
        row |= {"preference_loss": 2.0 / step}  # the loss itself
        if stage == "dpo":
            row |= {"chosen_change": -step / 5, "rejected_change": -step / 2}
        return row
    if stage in ("ppo", "grpo"):
        critic = {"explained_variance": step / 40, "value": step / 9, "beta": 0.02}
        groups = {"dead_groups": step / 50}
        return rollout(step) | (critic if stage == "ppo" else groups)
    return {}


def held_out(stage: str, step: int) -> dict[str, float]:
    row = {} if stage == "reward" else held_out_answers(step)
    if stage in ("reward", "dpo"):
        row |= {"val_accuracy": 0.5 + step / 200, "val_margin": step / 30}
        row |= {"val_loss": 0.75 - step / 100}
        if stage == "reward":
            row |= {"val_accuracy.content": 0.5 + step / 400}
            row |= {"val_accuracy.style": 0.5 + step / 90}
        else:
            row |= {"val_chosen_change": -step / 4, "val_rejected_change": -step / 3}
    if stage in ("sft", "distill"):
        row["val_loss"] = 1.0 - step / 100
    return row


def write_tuned_run(
    path: Path, stage: str, *, steps: int = 40, every: int = 8, seed: int = 1
) -> Path:
    """`every`: steps between two evaluations; there is one at the last step."""
    path.mkdir(parents=True)
    unit = "pairs" if stage in ("reward", "dpo") else "tokens"
    rows = []
    for step in range(1, steps + 1):
        clock = {"step": step, "seconds": step * 0.5, unit: step * 64.0}
        logged = {"loss": 2.0 / step, "lr": 1e-3 / step, "grad_norm": 1.0 + 1 / step}
        rows.append(clock | logged | training(stage, step))
        if step % every == 0 or step == steps:
            rows.append(clock | held_out(stage, step))
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (path / "metrics.jsonl").write_text(lines, encoding="utf-8")
    recipe = f"name = 'mine'\nseed = {seed}\n[answers]\nprompts = 200\n{TABLES[stage]}"
    (path / "recipe.toml").write_text(recipe, encoding="utf-8")
    info = {
        "status": "finished",
        "parent": {"path": "/somewhere/base", "fingerprint": "ea9a"},
        "parameters": {"total": 529_056},
        "data": {"name": "tales"},
        "step": steps,
        "results": held_out(stage, steps)
        | {"best_step": None, "seconds": steps * 0.5, unit: steps * 64.0},
    }
    (path / "run.json").write_text(json.dumps(info), encoding="utf-8")
    return path
