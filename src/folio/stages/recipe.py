"""What a recipe can say: the tables of its TOML file, as dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from folio.config import UserError
from folio.model.config import ModelConfig
from folio.model.lora import LoRA


@dataclass(frozen=True)
class TokenizerRecipe:
    """How text becomes numbers: a kind to train on the data, or one that exists."""

    kind: Literal["char", "byte", "bpe", "word_bpe", "wordpiece"] = "bpe"
    vocab_size: int = 2048  # of the trained kinds; char and byte know their own
    pattern: Literal["gpt2", "gpt4"] = "gpt4"  # how bpe splits text into words
    path: str | None = None  # a tokenizer.json, a run, or GPT-2's vocab and merges
    sample_megabytes: float = 64.0  # train on at most so much of the text


@dataclass(frozen=True)
class DataRecipe:
    """The text: a named corpus, or your own file, folder or glob."""

    corpus: str = "tales"  # tales, shakespeare or python
    path: str | None = None  # wins over corpus; or hf:OWNER/NAME?revision=COMMIT
    megabytes: float = 8.0  # how much of a generated corpus
    separator: str | None = None  # what stands between a text file's documents
    field: str = "text"  # of JSON lines and Parquet
    dedup: bool = True  # drop repeated documents; remembers 100 MB a million of them
    val_fraction: float = 0.1  # held out: by document, or the end of one long text
    order: Literal["epoch", "random"] = "epoch"  # of the training windows
    shards: str | None = None  # where token files go; default: inside the run


@dataclass(frozen=True)
class OptimRecipe:
    """The optimizer and its schedule."""

    kind: Literal["adamw", "muon"] = "adamw"  # muon: for the matrices inside of blocks
    lr: float = 1e-3
    weight_decay: float = 0.1  # on matrices; biases, norms and gains have none
    beta1: float = 0.9
    beta2: float = 0.95
    momentum: float = 0.95  # of muon
    rounds: int = 5  # of muon's polynomials: fewer are faster and rougher
    eps: float = 1e-8
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    warmup: int = 100
    floor: float = 0.1  # of the peak, at the end


@dataclass(frozen=True)
class TrainRecipe:
    """The loop: how much, how often, how careful."""

    steps: int = 1000
    batch: int = 16  # sequences per micro-batch and rank
    accumulate: int = 1  # micro-batches per update
    length: int | None = None  # tokens per sequence; default: the model's max_seq_len
    max_norm: float = 1.0  # gradients are clipped to it; 0: not at all
    precision: Literal["fp32", "bf16", "fp16", "bf16-weights"] = "fp32"
    compile: bool = False  # slow to begin with, faster from then on
    on_nonfinite: Literal["stop", "skip"] = "stop"
    device: str = "auto"
    checkpoint_layers: bool = False  # less memory for a third more work
    eval_every: int = 250  # over the whole held-out part; 0: never
    eval_batch: int = 32
    save_every: int = 500  # 0: only when asked to stop
    keep: int = 2  # snapshots, besides the best


@dataclass(frozen=True)
class ParallelRecipe:
    """How several processes, started by torchrun, share the work."""

    kind: Literal["ddp", "fsdp"] = "ddp"  # a whole model each, or a part of all weights
    tensor: int = 1  # neighbours that compute each layer together; needs fsdp

    def __post_init__(self) -> None:
        if self.tensor < 1:
            raise UserError(f"parallel.tensor = {self.tensor}: must be at least 1")
        if self.tensor > 1 and self.kind != "fsdp":
            raise UserError(
                f'parallel.tensor = {self.tensor}: needs parallel.kind = "fsdp"'
            )


@dataclass(frozen=True)
class SampleRecipe:
    """Samples against training steps, and one sentence whose attention is watched."""

    every: int = 250
    prompts: tuple[str, ...] = ("",)
    max_new_tokens: int = 120
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    attention: str = ""  # empty: the beginning of the held-out text


@dataclass(frozen=True)
class LogRecipe:
    """metrics.jsonl is always written; these are besides."""

    every: int = 10
    gradients: bool = False  # the norm of each layer's gradient, too
    tensorboard: bool = False
    wandb: bool = False


@dataclass(frozen=True)
class StageRecipe:
    """What the recipes of all stages have in common."""

    samples_itself: ClassVar[bool] = False  # whether it learns from what it writes

    name: str = "run"
    seed: int = 1337
    parent: str | None = None  # a run that gives weights, [model] and [tokenizer]
    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoRA | None = None  # train low-rank updates of the parent's weights
    optim: OptimRecipe = field(default_factory=OptimRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    parallel: ParallelRecipe = field(default_factory=ParallelRecipe)
    log: LogRecipe = field(default_factory=LogRecipe)

    def __post_init__(self) -> None:
        at_least_one = {
            "train.steps": self.train.steps,
            "train.batch": self.train.batch,
            "train.accumulate": self.train.accumulate,
            "train.eval_batch": self.train.eval_batch,
            "train.keep": self.train.keep,
            "log.every": self.log.every,
        }
        for name, value in at_least_one.items():
            if value < 1:
                raise UserError(f"{name} = {value}: must be at least 1")
        if self.lora is not None and self.parent is None:
            raise UserError("[lora] updates a model that has learned: set parent = RUN")
        if self.optim.lr <= 0:
            raise UserError(f"optim.lr = {self.optim.lr}: must be above 0")
        if not 1 <= self.length <= self.model.max_seq_len:
            raise UserError(
                f"train.length = {self.length}: must be from 1 to model.max_seq_len = "
                f"{self.model.max_seq_len}"
            )

    @property
    def length(self) -> int:
        """Tokens per training sequence."""
        return self.train.length or self.model.max_seq_len


@dataclass(frozen=True)
class PretrainRecipe(StageRecipe):
    """All of a pretraining run; with a parent, of one that goes on from another."""

    name: str = "pretrain"
    data: DataRecipe = field(default_factory=DataRecipe)
    sample: SampleRecipe = field(default_factory=SampleRecipe)
