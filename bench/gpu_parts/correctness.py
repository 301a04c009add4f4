"""Right on the card: what it computes beside the CPU in fp64, and beside itself.

Errors are relative: the norm of a difference over the norm of what is wanted. A row is
`ok` if each of its errors is within the bound that stands beside it.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from folio.data.text import TextStream
from folio.data.tokens import Tokens
from folio.infer.cache import make_caches
from folio.infer.engine import Engine
from folio.infer.fast import fast_decoder
from folio.infer.generate import generate
from folio.infer.request import Request
from folio.infer.sampling import GREEDY
from folio.model.attend import PATHS, attend
from folio.model.config import Experts, Latent, ModelConfig, gpt2_like, llama_like
from folio.model.decoder import Decoder
from folio.model.mask import Mask, causal_mask
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.training.learner import Learner
from folio.training.snapshot import read_snapshot, restore, save_snapshot
from gpu_parts.card import Case, Row, Setup

SHAPE = {"vocab_size": 96, "d_model": 64, "n_layers": 2, "n_heads": 4}
WINDOW = {"window": 24, "sinks": 4, "attention_pattern": "wf"}
EXPERTS = Experts(count=4, active=2, width=32, shared=1)
CONFIGS = {
    "gpt2": gpt2_like(**SHAPE, max_seq_len=640),
    "llama, 2 heads of keys": llama_like(**SHAPE, max_seq_len=640, n_kv_heads=2),
    "window and sinks": llama_like(**SHAPE, max_seq_len=640, **WINDOW),
    "soft caps": llama_like(
        **SHAPE, max_seq_len=640, attention_softcap=5.0, logit_softcap=20.0
    ),
    "experts": llama_like(**SHAPE, max_seq_len=640, experts=EXPERTS),
    "latent": llama_like(**SHAPE, max_seq_len=640, latent=Latent(32, 16)),
}
FP32, BF16 = 1e-4, 0.03  # bounds of relative errors
# In bf16 a token may go to another expert, and then all of it is another number
BF16_EXPERTS = 0.3


def cases(setup: Setup) -> Iterator[Case]:
    """Models, paths of attention, caches, the engine, resuming, compiling."""
    for name in CONFIGS:
        yield f"beside the CPU: {name}", partial(beside_the_cpu, setup, name)
    for path in PATHS:
        yield f"attention: {path}", partial(attention_path, setup, path)
    for name in CONFIGS:
        yield f"cached: {name}", partial(cached, setup, name)
    yield "generated", partial(generated, setup)
    yield "engine", partial(engine_alone, setup)
    yield "resumed", partial(resumed, setup)
    for name in ["gpt2"] if setup.quick else ["gpt2", "window and sinks", "experts"]:
        yield f"compiled: {name}", partial(compiled, setup, name)


def length_of(setup: Setup) -> int:
    """Long enough for FlexAttention, and no multiple of its blocks."""
    return 40 if setup.quick else 600


def relative(found: Tensor, wanted: Tensor) -> float:
    found, wanted = found.detach().cpu().double(), wanted.detach().cpu().double()
    return ((found - wanted).norm() / wanted.norm().clamp(min=1e-30)).item()


def judged(bound: float, **errors: float) -> Row:
    """Errors with their bound; NaN is never within it."""
    return errors | {"bound": bound, "ok": all(e <= bound for e in errors.values())}


def make_model(config: ModelConfig) -> Decoder:
    """Weights large enough that attention looks somewhere."""
    torch.manual_seed(0)
    model = Decoder(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() >= 2:
                weight.normal_(0, weight.shape[-1] ** -0.5)
        model.embedding.weight.normal_()
    return model


def make_tokens(setup: Setup) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(96, (2, length_of(setup) + 1), generator=generator)


def gradients(model: Decoder, tokens: Tensor, forward=None) -> dict[str, Tensor]:
    """Logits, and the gradient of the mean loss by parameter."""
    forward = model if forward is None else forward
    logits = forward(tokens[:, :-1]).logits
    wanted = tokens[:, 1:].flatten()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), wanted)
    if logits.dtype == torch.float64:
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted)
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    pairs = zip(named, found, strict=True)
    return {"logits": logits} | {n: g for n, g in pairs if g is not None}


def errors(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, float]:
    """Of the logits, of all gradients together, and of the worst parameter."""
    names = [name for name in wanted if name != "logits"]
    whole = [
        torch.cat([parts[n].detach().cpu().double().flatten() for n in names])
        for parts in (found, wanted)
    ]
    floor = 1e-3 * whole[1].norm().item()  # a bias of keys has no gradient but noise
    worst = max(
        relative(found[n], wanted[n]) * size / max(size, floor)
        for n in names
        if (size := wanted[n].norm().item())
    )
    return {
        "logits": relative(found["logits"], wanted["logits"]),
        "gradients": relative(*whole),
        "worst_parameter": worst,
    }


def beside_the_cpu(setup: Setup, name: str) -> Iterator[Row]:
    """Forward and backward in fp32 and bf16 beside fp64 on the CPU."""
    model, tokens = make_model(CONFIGS[name]), make_tokens(setup)
    wanted = gradients(copy.deepcopy(model).double(), tokens)
    model.to(setup.device)
    there = tokens.to(setup.device)
    yield {"precision": "fp32"} | judged(
        FP32, **errors(gradients(model, there), wanted)
    )
    with torch.autocast(setup.device.type, torch.bfloat16):
        found = errors(gradients(model, there), wanted)
    worst = found.pop("worst_parameter")  # small ones are noise: told, not judged
    bound = BF16_EXPERTS if "experts" in name else BF16
    row = judged(bound, **found)
    yield {"precision": "bf16 autocast"} | row | {"worst_parameter": worst}


# ---- attention -----------------------------------------------------------------------


def masks(length: int, device: str | torch.device) -> dict[str, Mask]:
    """Kinds of masks that differ in what a kernel must know."""
    places = torch.arange(length, device=device)[None]
    padded = places.repeat(2, 1)
    padded[1, :5] = -1
    documents = (places // 13).expand(2, -1)
    return {
        "causal": causal_mask(length, device),
        "window": Mask(places, places, length // 3, blind=False),
        "window and sinks": Mask(places, places, length // 3, 4, blind=False),
        "padding": Mask(padded, padded),
        "documents": Mask(places, places, documents=(documents, documents)),
    }


def attention_path(setup: Setup, path: str) -> Iterator[Row]:
    """One path with each mask, soft cap and sinks, beside the reference in fp64."""
    for kind, mask in masks(length_of(setup), "cpu").items():
        for softcap in (None, 5.0):
            sinks = kind == "window and sinks"
            if softcap and (path == "fused" or not sinks):  # knows none; one will do
                continue
            torch.compiler.reset()  # FlexAttention is compiled for each rule
            inputs = attention_inputs(length_of(setup), sinks)
            options = {"softcap": softcap}
            wanted = both_ways(inputs, mask, "reference", options)
            there = masks(length_of(setup), setup.device)[kind]
            for dtype, bound in ((torch.float32, FP32), (torch.bfloat16, BF16)):
                moved = [x.to(setup.device, dtype) for x in inputs]
                # FlexAttention has no gradients on a CPU
                backward = path != "flex" or setup.cuda
                found = both_ways(moved, there, path, options, backward)
                pairs = zip(("y", "q", "k", "v", "sink_q"), found, wanted, strict=False)
                row = judged(bound, **{n: relative(a, b) for n, a, b in pairs})
                about = {"mask": kind, "softcap": softcap, "dtype": str(dtype)[6:]}
                yield about | row


def attention_inputs(length: int, sinks: bool) -> list[Tensor]:
    """q (2, 4, T, 32), k and v of half as many heads, sink_q like q; fp64."""
    generator = torch.Generator().manual_seed(2)
    heads = (4, 2, 2, 4) if sinks else (4, 2, 2)
    kind = {"generator": generator, "dtype": torch.float64}
    return [torch.randn(2, h, length, 32, **kind) for h in heads]


def both_ways(
    inputs: list[Tensor], mask: Mask, path: str, options: dict, backward: bool = True
) -> list[Tensor]:
    """The result, and its gradients for fixed weights of each number."""
    inputs = [x.detach().requires_grad_(backward) for x in inputs]
    q, k, v, *more = inputs
    y = attend(q, k, v, mask, path=path, sink_q=more[0] if more else None, **options)
    y = y.masked_fill(mask.blind_queries, 0) if mask.blind else y
    if not backward:
        return [y]
    turn = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape)
    turn = turn.to(y.device, y.dtype)
    return [y, *torch.autograd.grad(y, inputs, turn)]


# ---- decoding ------------------------------------------------------------------------


@torch.no_grad()
def cached(setup: Setup, name: str) -> Iterator[Row]:
    """Read in pieces by means of a cache, against all at once."""
    model = make_model(CONFIGS[name]).to(setup.device).eval()
    tokens = make_tokens(setup).to(setup.device)
    wanted = model(tokens).logits
    length = tokens.shape[1]
    caches = make_caches(model.config, len(tokens), length, setup.device)
    places = torch.arange(length, device=setup.device).expand(len(tokens), -1)
    cuts, found = [7, 1, 1, 13, length - 25, 1, 1, 1], []
    for piece, where in zip(tokens.split(cuts, 1), places.split(cuts, 1), strict=True):
        found.append(model(piece, where, caches).logits)
    yield judged(FP32, logits=relative(torch.cat(found, 1), wanted))


def generated(setup: Setup) -> Iterator[Row]:
    """The same greedy tokens from the CPU, the card, and the compiled decoder."""
    model = make_model(CONFIGS["llama, 2 heads of keys"]).eval()
    prompts, count = [[5, 17, 3], [60, 2, 9]], 24
    wanted = [list(generate(model, p, count, sampling=GREEDY)) for p in prompts]
    model.to(setup.device)
    there = [list(generate(model, p, count, sampling=GREEDY)) for p in prompts]
    yield {"way": "generate", "ok": there == wanted}
    for precision in ("fp32", "bf16"):
        decoder = fast_decoder(model, batch=2, capacity=64, precision=precision)
        fast = decoder.generate(prompts, count)
        texts = zip(fast, wanted, strict=True)
        same = share(a == b for x, y in texts for a, b in zip(x, y, strict=True))
        row = {"way": f"fast_decoder {precision}", "how": decoder.how, "same": same}
        yield row | {"ok": fast == wanted or precision == "bf16"}


def engine_alone(setup: Setup) -> Iterator[Row]:
    """Each request by itself, and all of them together, some of them long."""
    model = make_model(CONFIGS["llama, 2 heads of keys"]).to(setup.device).eval()
    generator = torch.Generator().manual_seed(3)
    lengths = [3, 50, 17, 1, 120, 33, 8, 64]
    prompts = [torch.randint(96, (n,), generator=generator).tolist() for n in lengths]
    options = {"max_new_tokens": 16, "sampling": GREEDY}

    def serve(some: list[list[int]]) -> list:
        engine = Engine(model, max_batch=8, chunk=32)
        handles = [engine.submit(Request(prompt, **options)) for prompt in some]
        engine.run()
        return [handle.result()[0] for handle in handles]

    together, alone = serve(prompts), [serve([prompt])[0] for prompt in prompts]
    same = share(a.ids == b.ids for a, b in zip(together, alone, strict=True))
    chances = [torch.tensor([c.logprobs for c in some]) for some in (together, alone)]
    apart = (chances[0] - chances[1]).abs().max().item()
    row = {"same_requests": same, "logprobs_apart": apart, "bound": 1e-3}
    yield row | {"ok": same == 1.0 and apart <= 1e-3}
    texts = [list(generate(model, p, 16, sampling=GREEDY)) for p in prompts]
    same = share(a.ids == text for a, text in zip(alone, texts, strict=True))
    yield {"like_generate": same, "ok": same == 1.0}


def share(equal: Iterable[bool]) -> float:
    """How many of them are true, from 0 to 1."""
    values = list(equal)
    return sum(values) / len(values)


# ---- training ------------------------------------------------------------------------


def begin_training(setup: Setup) -> tuple[Learner, TextStream]:
    config = gpt2_like(**SHAPE, max_seq_len=64, dropout=0.1)
    torch.manual_seed(0)
    model = Decoder(config).to(setup.device)
    tokens = Tokens.from_ids([i * i % 89 for i in range(4000)], vocab_size=96)
    stream = TextStream(tokens, batch=4, length=64, seed=3)
    torch.manual_seed(5)
    return Learner(model, adamw(model), precision="bf16"), stream


def steps(learner: Learner, stream: TextStream, count: int) -> None:
    for _ in range(count):
        learner.update([next(stream)], next_token)


def weights_of(learner: Learner) -> Tensor:
    return torch.cat([p.detach().flatten() for p in learner.model.parameters()])


def resumed(setup: Setup) -> Iterator[Row]:
    """20 steps at a stretch, again, and 10 and 10 with a snapshot between.

    Kernels that add in any order differ between equal runs, too: if so, resuming may
    differ by as much, and the row says that it isn't bit for bit.
    """
    runs = []
    for _ in range(2):
        learner, stream = begin_training(setup)
        steps(learner, stream, 20)
        runs.append(weights_of(learner))
    learner, stream = begin_training(setup)
    steps(learner, stream, 10)
    with tempfile.TemporaryDirectory() as folder:
        extra = {"stream": stream.state_dict()}
        path = save_snapshot(Path(folder), learner, extra)
        learner, stream = begin_training(setup)
        snapshot = read_snapshot(path)
    restore(snapshot, learner)
    stream.load_state_dict(snapshot.state["stream"])
    steps(learner, stream, 10)
    again, cut = (relative(w, runs[0]) for w in (runs[1], weights_of(learner)))
    row = {"equal_runs_apart": again, "resumed_apart": cut, "bitwise": cut == 0.0}
    yield row | {"ok": cut <= 2 * again}


def compiled(setup: Setup, name: str) -> Iterator[Row]:
    """`torch.compile` of the model, forward and backward, against eager; fp32, bf16."""
    model, tokens = make_model(CONFIGS[name]).to(setup.device), make_tokens(setup)
    tokens = tokens.to(setup.device)
    graph = torch.compile(model)
    bound = BF16_EXPERTS if "experts" in name else BF16
    automatic = torch.autocast(setup.device.type, torch.bfloat16)
    contexts = [("fp32", FP32, nullcontext()), ("bf16 autocast", bound, automatic)]
    for precision, bound, context in contexts:
        with context:
            found = gradients(model, tokens, graph)
            wanted = gradients(model, tokens)
        row = errors(found, wanted)
        worst = row.pop("worst_parameter")
        yield {"precision": precision} | judged(bound, **row) | {"worst": worst}
