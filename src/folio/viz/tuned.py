"""What runs after pretraining show: which quantities, in which order, and why.

One table for all of them: a section is drawn if the log has what it shows.
"""

from __future__ import annotations

from pathlib import Path

from folio.viz.folder import Run
from folio.viz.markup import Markup, tag
from folio.viz.names import part_name
from folio.viz.numerals import compact, digits, duration
from folio.viz.page import Section, table
from folio.viz.panels import Family, Group, Panel, group_section

# ---- what is drawn -------------------------------------------------------------------


def both(measure: str) -> dict[str, str]:
    return {f"sampled_{measure}": "sampled", f"greedy_{measure}": "greedy"}


def trained_and_held_out(key: str) -> dict[str, str]:
    return {key: "training", f"val_{key}": "held out"}


ANSWERS = Group(
    "answers",
    "Answers",
    "Held-out prompts, answered again and again as training goes on. Sampled answers "
    "are drawn by their chances; greedy ones take the likeliest token every time.",
    (
        Panel(
            "Gold reward",
            both("gold"),
            "1 for a right answer, and 0.5 for the preferred style.",
        ),
        Panel("Right answers", both("accuracy"), "share of them"),
        Panel("Preferred style", both("style"), "share of answers in it"),
        Panel("To the letter", both("exact"), "share that are the expected text"),
        Panel("Right numbers", both("numeric"), "where a number was asked for"),
        Panel("Words in common", both("f1"), "F1 with the expected answer"),
        Panel("Ended by itself", both("finished"), "share of answers"),
    ),
    (
        Family(
            "Right answers, task by task",
            {"sampled": "sampled_accuracy", "greedy": "greedy_accuracy"},
            "A task that stays at 0 has nothing to reinforce.",
        ),
        Family(
            "Answers to the letter, task by task",
            {"sampled": "sampled_exact", "greedy": "greedy_exact"},
        ),
    ),
)

PREFERENCES = Group(
    "preferences",
    "Preferences",
    "Pairs of answers, one of which is preferred. Right is who gives it the higher "
    "score; guessing is right half of the time.",
    (
        Panel(
            "Right about pairs",
            trained_and_held_out("accuracy"),
            "Share of pairs; a gap between the two lines is what was learned by heart.",
        ),
        Panel("Lead of the preferred answer", trained_and_held_out("margin")),
        Panel(
            "Scores",
            {
                "chosen_score": "preferred",
                "rejected_score": "the other",
                "val_chosen_score": "preferred, held out",
                "val_rejected_score": "the other, held out",
            },
            "of training pairs and held-out ones",
        ),
    ),
    (
        Family(
            "Right about held-out pairs, kind by kind",
            {"": "val_accuracy"},
            "In what the answers differ. Style is learned soon; what is right, late.",
        ),
    ),
    needs="accuracy",
)

LIKELIHOOD = Group(
    "likelihood",
    "Likelihood",
    "Preference learning asks for a distance between two answers, not for a likely "
    "good one: the loss falls just as well while both sink.",
    (
        Panel(
            "Change of log-probability against the parent",
            {
                "chosen_change": "preferred",
                "rejected_change": "the other",
                "val_chosen_change": "preferred, held out",
                "val_rejected_change": "the other, held out",
            },
            "In nats per answer. Above 0 the model says it more often than its parent.",
        ),
        Panel(
            "Surprise at the preferred answer",
            trained_and_held_out("chosen_nll"),
            "nats per token",
        ),
        Panel(
            "Log-probability of the answers",
            {
                "chosen_logprob": "preferred",
                "rejected_logprob": "the other",
                "val_chosen_logprob": "preferred, held out",
                "val_rejected_logprob": "the other, held out",
            },
            "nats per answer",
        ),
    ),
    needs="chosen_change",
)

REWARD = Group(
    "reward",
    "Reward",
    "What the policy is paid for the answers it samples, beside what is really wanted. "
    "Where reward rises and gold doesn't, the mistakes of the reward are learned.",
    (
        Panel(
            "Reward and gold",
            {
                "reward": "reward",
                "gold": "gold",
                "reward_model": "reward model",
                "reward_verifier": "verifier",
            },
        ),
        Panel("Spread of rewards", {"reward_std": "spread"}, "standard deviation"),
        Panel(
            "Groups that teach nothing",
            {"dead_groups": "share"},
            "all answers of the group earned the same",
        ),
        Panel("Rounds of redrawing", {"redrawn": "rounds"}, "per rollout"),
    ),
    needs="reward",
)

DISTANCE = Group(
    "distance",
    "Distance",
    "What reward is bought with: how far the policy has moved from the model it began "
    "as (KL), and how much choice it has left (entropy).",
    (
        Panel("KL to the parent", {"kl_sequence": "per answer"}, "In nats per answer."),
        Panel(
            "KL per token",
            {"kl_token": "of the rollout", "kl": "in the loss"},
            "In nats.",
        ),
        Panel("Price of KL", {"beta": "price"}, "reward per nat"),
        Panel(
            "Entropy",
            {"entropy": "entropy"},
            "nats per token; at 0 nothing new is tried",
        ),
    ),
    needs="kl_sequence",
)

STEPS = Group(
    "updates",
    "Updates",
    "Each rollout is learned from once or more, while the policy moves away from the "
    "one that sampled it. Clipping stops tokens that have moved far enough.",
    (
        Panel(
            "Clipped tokens",
            {
                "clipped_low": "below: already less likely",
                "clipped_high": "above: already likelier",
            },
            "Share of tokens without a gradient. Above 0.2, steps are too large.",
        ),
        Panel("Largest ratio", {"ratio_max": "ratio"}, "new chance to old, any token"),
        Panel("Mean ratio", {"ratio": "ratio"}, "new chance to old"),
        Panel("KL of an update", {"approx_kl": "KL"}, "old policy to new, nats"),
        Panel("Updates per rollout", {"updates": "updates"}),
        Panel("Share of rows in use", {"filled": "share"}),
        Panel(
            "Sampler and training",
            {"sampler_difference": "difference"},
            "largest difference of log-probabilities; rounding only",
        ),
    ),
    needs="approx_kl",
)

CRITIC = Group(
    "critic",
    "Critic",
    "The second model, which expects how well an answer will end; what is learned is "
    "by how much it was wrong.",
    (
        Panel(
            "Explained variance",
            {"explained_variance": "explained"},
            "1: it knows how answers end. 0: no better than always saying the mean.",
        ),
        Panel("Expected return", {"value": "expected"}, "mean over tokens"),
        Panel("Spread of returns", {"return_std": "spread"}, "standard deviation"),
        Panel("Loss of the critic", {"value_loss": "loss"}),
        Panel("Clipped values", {"value_clipped": "share"}, "share of tokens"),
    ),
    needs="explained_variance",
)

LENGTHS = Group(
    "lengths",
    "Lengths",
    "Tokens of sampled answers. Rewards are easily gamed by length, and an answer that "
    "meets the limit has no end.",
    (
        Panel(
            "Length of answers",
            {
                "length_mean": "mean",
                "length_max": "longest",
                "max_new_tokens": "limit",
            },
            "In tokens.",
        ),
        Panel("Without an end", {"unfinished": "share"}, "share that met the limit"),
    ),
    needs="length_mean",
)

SPEED = Group(
    "speed",
    "Speed",
    "Sampling takes a good part of the time: it writes one token after another.",
    (
        Panel(
            "Tokens per second",
            {
                "rollout_tokens_per_second": "sampling",
                "tokens_per_second": "learning, all in all",
            },
        ),
        Panel("Time of a rollout", {"rollout_seconds": "seconds"}, "seconds"),
    ),
    needs="rollout_seconds",
)

BEFORE = (
    ANSWERS, REWARD, PREFERENCES, LIKELIHOOD, DISTANCE, STEPS, CRITIC, LENGTHS
)  # fmt: skip
AFTER = (SPEED,)  # behind loss and learning rate


def tuned_sections(run: Run, groups: tuple[Group, ...]) -> list[Section]:
    """A section for each group of which anything was logged."""
    return [
        group_section(run, group, answers_table(run) if group is ANSWERS else None)
        for group in groups
        if group.keys(run)
    ]


def claimed_keys(run: Run) -> set[str]:
    """What those sections show, so that nothing is drawn twice."""
    return {key for group in (*BEFORE, *AFTER) for key in group.keys(run)}


# ---- the newest answers --------------------------------------------------------------


def answers_table(run: Run) -> Markup:
    """What the weights that are kept answer: all prompts, and task by task."""
    found, rows = run.results(), []
    for panel in ANSWERS.panels:
        keys = list(panel.lines)
        cells = [found.get(key) for key in keys]
        if cells != [None, None]:
            rows.append([panel.title.lower(), *map(_share, cells)])
        for task in _tasks(found, keys[0]):
            name = tag("span", part_name(task), class_="member")
            rows.append([name, *(_share(found.get(f"{key}.{task}")) for key in keys)])
    return table(["in numbers", "sampled", "greedy"], rows)


def _tasks(found: dict, key: str) -> list[str]:
    prefix = f"{key}."
    return sorted(k.removeprefix(prefix) for k in found if k.startswith(prefix))


def _share(value: float | None) -> Markup | None:
    return None if value is None else tag("span", f"{value:.3f}", class_="number")


# ---- the head of a report ------------------------------------------------------------

STAGES = ("grpo", "ppo", "dpo", "distill", "ranking")  # tables only one recipe has
TITLES = {
    "sft": "Fine-tuning",
    "ranking": "Reward model",
    "dpo": "DPO",
    "ppo": "PPO",
    "grpo": "GRPO",
    "distill": "Distillation",
}
DOES = {
    "sft": "fine-tuned on conversations",
    "ranking": "trained to prefer the better of two answers, on pairs",
    "dpo": "taught by preferences, on pairs",
    "ppo": "taught by rewards with PPO, on prompts",
    "grpo": "taught by rewards with GRPO, on prompts",
    "distill": "distilled from another model, on conversations",
}
LOSSES = {
    "sft": "Loss is the surprise at the assistant's next token, in nats; lower is "
    "better.",
    "ranking": "Loss is the surprise, in nats, at which of two answers is preferred; "
    "guessing would score 0.69.",
    "dpo": "Loss is low where the preferred answers have become likelier than the "
    "others, compared with the parent.",
    "ppo": "The loss of a policy hovers and says little: look at its rewards.",
    "grpo": "The loss of a policy hovers around 0 and says little: look at its "
    "rewards.",
    "distill": "Loss is how far the model's distribution is from its teacher's, in "
    "nats per token.",
}


def stage_of(run: Run) -> str | None:
    """Which stage after pretraining a run is of; None for pretraining.

    >>> stage_of(Run(Path(), [], {"name": "mine", "answers": {}, "grpo": {}}))
    'grpo'
    """
    if "answers" not in run.recipe:
        return None
    return next((stage for stage in STAGES if stage in run.recipe), "sft")


def tuned_summary(run: Run, stage: str) -> str:
    """The run in a sentence, up to what it ran on."""
    results, size = run.results(), run.get("parameters", "total")
    data, parent = run.get("data", "name"), run.get("parent", "path")
    text = f"{compact(size)} parameters" if size else "A model"
    text += f", {DOES[stage]}"
    text += f" of {Path(data).name}" if data else ""
    text += f", beginning with the run {Path(parent).name}" if parent else ""
    text += f": {results['step']:,} steps"
    for unit in ("tokens", "pairs"):
        text += f", {compact(results[unit])} {unit}" if results.get(unit) else ""
    return text


def tuned_numbers(run: Run, stage: str) -> list[tuple[str, str, str]]:
    """Name, value and remark of the numbers on top."""
    found = run.results()
    numbers = []

    def add(name: str, key: str, remark: str) -> None:
        if (value := found.get(key)) is not None:
            numbers.append((name, digits(value, 3), remark))

    def beside(key: str, else_: str) -> str:
        greedy = found.get(key)
        return else_ if greedy is None else f"{digits(greedy, 3)} if greedy"

    add("gold, sampled", "sampled_gold", beside("greedy_gold", "held-out prompts"))
    measure = "accuracy" if "sampled_accuracy" in found else "exact"
    key, other = f"sampled_{measure}", f"greedy_{measure}"
    add("right answers", key, beside(other, "of held-out prompts"))
    if stage in ("ranking", "dpo"):
        add("right about pairs", "val_accuracy", "held out; ½ is guessing")
    if stage == "ranking":
        numbers += _weakest(found)
    if stage == "dpo":
        add("preferred answers", "val_chosen_change", "nats against the parent")
    if stage in ("ppo", "grpo"):
        add("reward", "reward", "of the newest rollouts")
        add("KL to the parent", "kl_sequence", "nats per answer")
    elif stage != "dpo":
        unit = "nats per pair" if stage == "ranking" else "nats per token"
        best = found.get("best_step")
        at = "" if best is None else f", step {best:,}"
        add("validation loss", "val_loss", unit + at)
    for unit in ("tokens", "pairs"):
        if count := found.get(unit):
            rate = f"{compact(count / found['seconds'])} per second"
            numbers.append((unit, compact(count), rate))
    if seconds := found.get("seconds"):
        numbers.append(("time", duration(seconds), f"{found['step']:,} steps"))
    return numbers


def _weakest(found: dict) -> list[tuple[str, str, str]]:
    """The kind of pairs that a reward model is worst at."""
    prefix = "val_accuracy."
    kinds = {k.removeprefix(prefix): v for k, v in found.items() if prefix in k}
    if len(kinds) < 2:
        return []
    name = min(kinds, key=kinds.get)
    return [("weakest kind", digits(kinds[name], 3), f"pairs that differ in {name}")]
