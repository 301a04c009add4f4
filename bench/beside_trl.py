"""A step of SFT, of DPO and of GRPO beside TRL's: same weights, rows and settings.

First, that both do the same. SFT and DPO: the losses of 20 steps, side by side. GRPO:
loss and gradient of one rollout that TRL sampled, for three ways to weigh its tokens;
then each samples its own, and the mean reward must rise on both sides.

Then, how long a step takes: TRL's within its own `train()`, from the end of one step to
the end of the next, so without start-up; ours is a batch of the stream and an update.
TRL is spared what we don't do, gradient checkpointing, its default, and logging; both
know the reference's log-probs of DPO beforehand. Seconds are those of the processor, on
one thread, so that other programs don't count; wall time is in the rows. All go in fp32
and once more in half the bits: ours by a twin in bf16 of fp32 weights, which samples,
too; TRL by its default, autocast to bf16.

The value is the smallest of three ratios, one a stage: the faster of TRL's two
precisions beside the faster of ours. --quick: SFT and DPO, few steps.
The file isn't called trl.py because `import trl` would find it instead of TRL.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
)
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from decode import our_model
from folio.data import tales
from folio.data.batch import Batch
from folio.data.chats import ChatStream
from folio.data.embedded import tales_conversations, tales_pairs, tales_prompts
from folio.data.pairs import PairStream
from folio.data.prompts import PromptStream
from folio.data.records import Messages, Prompt
from folio.model.decoder import Decoder
from folio.objectives.dpo import DPO
from folio.objectives.grpo import GRPO, response_weights
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.rl.baseline import GroupBaseline
from folio.rl.rollout import Response, as_rows
from folio.rl.stream import RolloutOptions, Rollouts
from folio.text.bpe import BPETokenizer
from folio.text.chat import ChatTemplate
from folio.text.tokenizer import END_OF_TURN
from folio.training.learner import Learner
from folio.training.twin import Twin
from record import median, parse_arguments, record

GOAL = 3.0
SAME, SAME_HALF = 1e-4, 3e-2  # what rounding may make of a loss
VOCABULARY, LENGTH = 512, 192
ROWS, PAIRS = 16, 16  # in a step of SFT, in one of DPO
PROMPTS, GROUP, NEW = 8, 8, 32  # in one of GRPO: answers to each, tokens of each
LR, WEIGHT_DECAY, BETAS, MAX_NORM = 1e-3, 0.1, (0.9, 0.95), 1.0
DPO_BETA = 0.1
GRPO_BETA, CLIP_LOW, CLIP_HIGH = 0.04, 0.2, 0.28
AGGREGATIONS = {"grpo": "sequence", "dapo": "token", "dr_grpo": "constant"}  # by TRL's


class Step(NamedTuple):
    """What a step found, its loss or mean reward, and the seconds it took."""

    found: float
    cpu_s: float
    wall_s: float


Run = Callable[[int], list[Step]]  # so many steps further


class Sides(NamedTuple):
    """Both contestants at one stage, from the same weights."""

    folio: Run
    trl: Run


# ---- what both are given -------------------------------------------------------------


class World:
    """The weights, as TRL and as we read them, and a tokenizer for both."""

    def __init__(self, folder: Path):
        self.folder = folder
        texts = tales.documents(0, count=500)
        self.tokenizer = BPETokenizer.train(texts, VOCABULARY)
        self.tokenizer.save(folder / "tokenizer.json")
        self.their_tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"),
            eos_token=END_OF_TURN,
            pad_token="<|pad|>",
        )
        random_model(self.their_tokenizer).save_pretrained(folder / "model")
        self.half = False  # whether stages are to compute in bf16

    def theirs(self) -> LlamaForCausalLM:
        return LlamaForCausalLM.from_pretrained(self.folder / "model")

    def ours(self) -> Decoder:
        return our_model(self.theirs())

    def prompt_text(self, messages: Messages) -> str:
        """What comes before the answer, control tokens by their names."""
        return ChatTemplate().text(messages, add_generation_prompt=True)

    def settings(self, rows: int) -> dict[str, Any]:
        """Of all of TRL's trainers: our settings, and nothing that we don't do."""
        return {
            "output_dir": str(self.folder / "trainer"),
            "per_device_train_batch_size": rows,
            "learning_rate": LR,
            "lr_scheduler_type": "constant",
            "optim": "adamw_torch_fused",
            "weight_decay": WEIGHT_DECAY,
            "adam_beta1": BETAS[0],
            "adam_beta2": BETAS[1],
            "max_grad_norm": MAX_NORM,
            "gradient_checkpointing": False,
            "bf16": self.half,
            "use_cpu": True,
            "dataloader_pin_memory": False,
            "logging_strategy": "no",
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }


def random_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """0.87 M weights in Llama's shape."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


# ---- a step of each ------------------------------------------------------------------


def our_learner(model: Decoder, half: bool = False) -> Learner:
    optimizer = adamw(model, LR, weight_decay=WEIGHT_DECAY, betas=BETAS)
    precision = "bf16-weights" if half else "fp32"
    return Learner(model, optimizer, max_norm=MAX_NORM, precision=precision)


def our_run(step: Callable[[], float]) -> Run:
    """Steps one after another; `step` returns what it found."""

    def run(count: int) -> list[Step]:
        steps = []
        for _ in range(count):
            start = clocks()
            steps.append(Step(step(), *since(start)))
        return steps

    return run


def their_run(trainer: Trainer, found: list[float]) -> Run:
    """Steps of TRL's own loop, each of which leaves its number in `found`."""
    stopwatch = Stopwatch()
    trainer.add_callback(stopwatch)
    trainer.remove_callback(PrinterCallback)

    def run(count: int) -> list[Step]:
        found.clear()
        stopwatch.begin()
        trainer.args.max_steps = count
        trainer.train()
        pairs = zip(found, stopwatch.taken, strict=True)
        return [Step(value, *seconds) for value, seconds in pairs]

    return run


class Stopwatch(TrainerCallback):
    """Seconds from the end of one step to the end of the next.

    The first one begins when its rows are there: they are fetched at start-up.
    """

    def begin(self) -> None:
        self.start: tuple[float, float] | None = None
        self.taken: list[tuple[float, float]] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.start = self.start or clocks()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.taken.append(since(self.start))
        self.start = clocks()


def clocks() -> tuple[float, float]:
    """(processor, wall): a moment."""
    return time.process_time(), time.perf_counter()


def since(start: tuple[float, float]) -> tuple[float, float]:
    return tuple(now - then for now, then in zip(clocks(), start, strict=True))


def losses_of(trainer: Trainer) -> list[float]:
    """The loss of each step from now on, whole: TRL's log has four digits of it."""
    losses: list[float] = []
    training_step = trainer.training_step

    def remembering(*arguments: Any, **named: Any) -> Tensor:
        loss = training_step(*arguments, **named)
        losses.append(loss.item())
        return loss

    trainer.training_step = remembering
    return losses


# ---- SFT and DPO ---------------------------------------------------------------------


def sft_sides(world: World, steps: int) -> Sides:
    """Answers to single questions; the loss is of the answers alone."""
    source = tales_conversations(turns=1)
    talks = [source.make(i) for i in range(steps * ROWS)]
    stream = ChatStream(talks, world.tokenizer, batch=ROWS, length=LENGTH, packed=False)
    learner = our_learner(world.ours(), world.half)

    def step() -> float:
        return learner.update([next(stream)], next_token)["loss"]

    rows = []
    for card in stream.source.order.cards(np.arange(len(talks))):
        *asked, answer = talks[card].messages
        prompt = world.prompt_text(asked)
        rows.append({"prompt": prompt, "completion": answer["content"] + END_OF_TURN})
    trainer = SFTTrainer(
        world.theirs(),
        SFTConfig(**world.settings(ROWS), train_sampling_strategy="sequential"),
        train_dataset=Dataset.from_list(rows),
        processing_class=world.their_tokenizer,
    )
    return Sides(our_run(step), their_run(trainer, losses_of(trainer)))


def dpo_sides(world: World, steps: int) -> Sides:
    """Preferences, with the reference's log-probs worked out beforehand."""
    source = tales_pairs()
    pairs = [source.make(i) for i in range(steps * PAIRS)]
    stream = PairStream(pairs, world.tokenizer, batch=PAIRS, length=LENGTH)
    learner = our_learner(world.ours(), world.half)
    stream.with_reference(learner.model)
    objective = DPO(DPO_BETA)

    def step() -> float:
        return learner.update([next(stream)], objective)["loss"]

    rows = []
    for card in stream.order.cards(np.arange(len(stream.kept))):
        pair, _ = stream.kept[card]
        row = {"prompt": world.prompt_text(pair.prompt)}
        row["chosen"] = pair.chosen + END_OF_TURN
        row["rejected"] = pair.rejected + END_OF_TURN
        rows.append(row)
    trainer = DPOTrainer(
        world.theirs(),
        args=DPOConfig(
            **world.settings(PAIRS),
            train_sampling_strategy="sequential",
            beta=DPO_BETA,
            loss_type="sigmoid",
            precompute_ref_log_probs=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=world.their_tokenizer,
    )
    return Sides(our_run(step), their_run(trainer, losses_of(trainer)))


def same_losses(
    stage: str, sides: Sides, steps: int, most: float = SAME
) -> dict[str, Any]:
    """Both curves; those of the same maths differ at first by rounding alone."""
    ours, theirs = ([step.found for step in run(steps)] for run in sides)
    apart = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    print(f"{stage} losses: {ours[0]:.5f} to {ours[-1]:.5f}, TRL's {theirs[-1]:.5f}")
    print(f"{stage} differences: {apart[0]:.1e} at first, {max(apart):.1e} at most")
    if not apart[0] < most:
        raise SystemExit(f"{stage}: first losses {ours[0]} and {theirs[0]}")
    if stage.startswith("dpo") and not abs(ours[0] - math.log(2)) < most:
        raise SystemExit(f"dpo: the first loss is {ours[0]}, not ln 2")
    row = {"stage": stage, "first_difference": apart[0], "max_difference": max(apart)}
    return row | {"folio_losses": ours, "trl_losses": theirs}


# ---- GRPO ----------------------------------------------------------------------------


def vowels(text: str) -> float:
    """The reward: the share of vowels, which any policy can raise at once."""
    return sum(character in "aeiou" for character in text) / max(len(text), 1)


def some_prompts() -> list[Prompt]:
    source = tales_prompts()
    return [source.make(i) for i in range(PROMPTS)]


def grpo_sides(world: World) -> Sides:
    """The same prompts at every step; each side learns from what it says itself."""
    learner = our_learner(world.ours(), world.half)
    reference = world.ours()

    def reward(_prompts: Any, texts: Sequence[str], _finished: Any) -> Tensor:
        return torch.tensor([vowels(text) for text in texts])

    rollouts = Rollouts(
        learner.computing,
        PromptStream(
            some_prompts(), world.tokenizer, batch=PROMPTS, length=LENGTH - NEW
        ),
        reward,
        GroupBaseline("group", "token"),
        RolloutOptions(group=GROUP),
        max_new_tokens=NEW,
        reference=Twin(reference).model if world.half else reference,
        refresh=learner.refresh,
    )
    objective = GRPO(CLIP_LOW, CLIP_HIGH, GRPO_BETA)

    def step() -> float:
        rollouts.after_update(learner.update([next(rollouts)], objective))
        return rollouts.metrics["reward"]

    rewards: list[float] = []
    trainer = grpo_trainer(world, rewards)
    return Sides(our_run(step), their_run(trainer, rewards))


def grpo_trainer(world: World, rewards: list[float]) -> GRPOTrainer:
    """TRL's; the mean reward of each rollout goes to `rewards`."""

    def reward(completions: Sequence[str], **_: Any) -> list[float]:
        found = [vowels(text) for text in completions]
        rewards.append(sum(found) / len(found))
        return found

    rows = [{"prompt": world.prompt_text(p.messages)} for p in some_prompts()]
    return GRPOTrainer(
        world.theirs(),
        reward,
        args=GRPOConfig(
            **world.settings(PROMPTS * GROUP),
            num_generations=GROUP,
            steps_per_generation=1,
            max_completion_length=NEW,
            shuffle_dataset=False,
            temperature=1.0,
            loss_type="dapo",
            scale_rewards="group",
            beta=GRPO_BETA,
            epsilon=CLIP_LOW,
            epsilon_high=CLIP_HIGH,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=world.their_tokenizer,
    )


def same_rollout(world: World) -> list[dict[str, Any]]:
    """Loss and gradient of a rollout of TRL's, with TRL's advantages, on both sides."""
    rewards: list[float] = []
    trainer, model = grpo_trainer(world, rewards), world.ours()
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    prompts = [world.prompt_text(p.messages) for p in some_prompts()]
    asked = [{"prompt": prompt} for prompt in prompts for _ in range(GROUP)]
    found = trainer._generate_and_score_completions(asked)
    rows = []
    for loss_type, aggregation in AGGREGATIONS.items():
        trainer.loss_type = loss_type
        their_loss = trainer.compute_loss(trainer.model, found)
        batch = as_batch(found, model, aggregation)
        loss, _ = GRPO(CLIP_LOW, CLIP_HIGH, GRPO_BETA)(model, batch)
        loss = loss / batch.denominator
        row = {
            "stage": "grpo, same rollout",
            "loss_type": loss_type,
            "aggregation": aggregation,
            "folio_loss": loss.item(),
            "trl_loss": their_loss.item(),
            "folio_norm": gradient_norm(model, loss),
            "trl_norm": gradient_norm(trainer.model, their_loss),
        }
        print(row)
        apart = abs(row["folio_loss"] - row["trl_loss"])
        norms_apart = abs(row["folio_norm"] / row["trl_norm"] - 1)
        if not (apart < SAME and norms_apart < SAME):
            raise SystemExit(f"{loss_type}: losses or gradients differ")
        rows.append(row)
    return rows


def as_batch(found: dict[str, Tensor], model: Decoder, aggregation: str) -> Batch:
    """TRL's rollout, filled up on both sides, as rows of ours."""

    def rows_of(name: str) -> list[list[int]]:
        ids, masks = found[f"{name}_ids"], found[f"{name}_mask"]
        return [row[mask.bool()].tolist() for row, mask in zip(ids, masks, strict=True)]

    said = [
        Response(None, prompt, ids, [0.0] * len(ids), "", True, 0.0, {})
        for prompt, ids in zip(rows_of("prompt"), rows_of("completion"), strict=True)
    ]
    inputs, targets, mask, _ = as_rows(said, pad=0)
    weights, denominator = response_weights(mask, aggregation, longest=NEW)
    with torch.no_grad():
        old = model(inputs, targets=targets, where=mask != 0).logprobs
    return Batch(
        denominator,
        inputs=inputs,
        targets=targets,
        weights=weights,
        old_logprobs=old,
        reference_logprobs=old,
        advantages=found["advantages"][:, None] * mask,
    )


def gradient_norm(model: nn.Module, loss: Tensor) -> float:
    loss.backward()
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters()])
    model.zero_grad()
    return norm.item()


# ---- speed ---------------------------------------------------------------------------


def alternate(sides: Sides, rounds: int, steps: int) -> dict[str, list[Step]]:
    """The steps of both, made turn by turn, every second round the other way."""
    taken: dict[str, list[Step]] = {"folio": [], "trl": []}
    for number in range(rounds):
        names = list(taken) if number % 2 == 0 else list(reversed(taken))
        for name in names:
            taken[name] += getattr(sides, name)(steps)
    return taken


def speed(stage: str, taken: dict[str, list[Step]]) -> dict[str, Any]:
    """Seconds per step of both, and how many of ours TRL's step takes."""
    row: dict[str, Any] = {"stage": stage, "goal": GOAL}
    for name, done in taken.items():
        row[f"{name}_cpu_s"] = median([step.cpu_s for step in done])
        row[f"{name}_wall_s"] = median([step.wall_s for step in done])
        row[f"{name}_all_cpu_s"] = [round(step.cpu_s, 5) for step in done]
    row["ratio"] = row["trl_cpu_s"] / row["folio_cpu_s"]
    row["wall_ratio"] = row["trl_wall_s"] / row["folio_wall_s"]
    ours, theirs = 1e3 * row["folio_cpu_s"], 1e3 * row["trl_cpu_s"]
    print(
        f"{stage}: {ours:.1f} ms, TRL {theirs:.1f} ms: {row['ratio']:.2f}x", flush=True
    )
    return row


def best_ratios(rows: list[dict[str, Any]]) -> list[float]:
    """For each stage, TRL's faster precision beside ours.

    >>> sft = {"stage": "sft", "ratio": 2.0, "folio_cpu_s": 2.0, "trl_cpu_s": 4.0}
    >>> half = {"stage": "sft, bf16", "ratio": 5, "folio_cpu_s": 1.0, "trl_cpu_s": 5.0}
    >>> best_ratios([sft, half])
    [4.0]
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if "ratio" in row:
            found.setdefault(row["stage"].partition(",")[0], []).append(row)
    return [
        min(row["trl_cpu_s"] for row in those) / min(r["folio_cpu_s"] for r in those)
        for those in found.values()
    ]


def rising_rewards(taken: dict[str, list[Step]]) -> dict[str, Any]:
    """Mean rewards of both, each of which learns from its own samples."""
    row: dict[str, Any] = {"stage": "grpo"}
    for name, done in taken.items():
        rewards = row[f"{name}_rewards"] = [step.found for step in done]
        first, last = fmean(rewards[:3]), fmean(rewards[-3:])
        print(f"grpo: mean reward of {name} from {first:.3f} to {last:.3f}", flush=True)
        if not last > first:
            raise SystemExit(f"grpo: the mean reward of {name} did not rise: {rewards}")
    return row


def main() -> None:
    arguments = parse_arguments(__doc__)
    steps, rounds = (4, 2) if arguments.quick else (20, 5)
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for stage, sides_of in (("sft", sft_sides), ("dpo", dpo_sides)):
            for world.half in (False, True):
                name = f"{stage}, bf16" if world.half else stage
                sides = sides_of(world, steps)
                most = SAME_HALF if world.half else SAME
                rows.append(same_losses(name, sides, steps, most))
                rows.append(speed(name, alternate(sides, rounds, steps=3)))
        world.half = False
        if not arguments.quick:
            rows += same_rollout(world)
            for world.half in (False, True):
                name = "grpo, bf16" if world.half else "grpo"
                taken = alternate(grpo_sides(world), rounds, steps=2)
                rows += [rising_rewards(taken), speed(name, taken)]
    record("beside_trl", min(best_ratios(rows)), GOAL, rows)


if __name__ == "__main__":
    main()
