"""LoRA: nothing changes at first, only updates learn, merging is exact both ways."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from folio.config import UserError
from folio.infer.generate import generate
from folio.infer.sampling import GREEDY
from folio.model.adapter import adapter_tensors, load_adapter, save_adapter
from folio.model.config import Experts, ModelConfig
from folio.model.lora import (
    LoRA,
    LoRALinear,
    add_lora,
    fold_lora,
    lora_layers,
    merge,
    target_layers,
    unmerge,
)
from folio.model.moe import balance_routers
from folio.model.store import load_model, save_model
from folio.objectives.next_token import next_token
from folio.optim.groups import decay_groups
from helpers import tiny_learner, tiny_model, tiny_stream

EVERYWHERE = LoRA(rank=3, alpha=6.0, targets=("blocks.*",))
TOKENS = torch.arange(2 * 9).view(2, 9) % 17


def learned(options: LoRA = EVERYWHERE, seed: int = 0, **changes) -> nn.Module:
    """A model whose updates are not zero any more."""
    model = tiny_model(seed, **changes)
    add_lora(model, options)
    for layer in lora_layers(model).values():
        nn.init.normal_(layer.lora_B.weight, std=0.3)
    return model.eval()


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


def base_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    return {n: t.clone() for n, t in state.items() if ".lora_" not in n}


# ---- the layer -----------------------------------------------------------------------


def test_a_layer_is_the_paper_longhand():
    torch.manual_seed(0)
    linear, x = nn.Linear(5, 4), torch.randn(3, 5)
    layer = LoRALinear(linear, LoRA(rank=2, alpha=7.0))
    nn.init.normal_(layer.lora_B.weight)
    w, b = linear.weight, linear.bias
    a_matrix, b_matrix = layer.lora_A.weight, layer.lora_B.weight  # (2, 5), (4, 2)
    for row in range(3):
        inner = [sum(a_matrix[r, i] * x[row, i] for i in range(5)) for r in range(2)]
        for o in range(4):
            wanted = b[o] + sum(w[o, i] * x[row, i] for i in range(5))
            wanted += 7.0 / 2 * sum(b_matrix[o, r] * inner[r] for r in range(2))
            assert torch.allclose(layer(x)[row, o], wanted, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"bias": True}, {"mlp": "gelu", "n_heads": 4}])
def test_at_the_start_nothing_changes_bit_for_bit(changes):
    model = tiny_model(**changes).eval()
    before, names = logits(model), list(model.state_dict())
    add_lora(model, EVERYWHERE)
    assert torch.equal(logits(model), before)
    assert [n for n in model.state_dict() if ".lora_" not in n] == names
    first = lora_layers(model)["blocks.0.attention.query"].lora_A.weight
    assert 0 < first.abs().max() <= 1 / math.sqrt(16)


def test_dropout_acts_on_the_update_alone():
    model = learned(LoRA(rank=3, targets=("query",), dropout=0.5)).train()
    torch.manual_seed(0)
    assert not torch.equal(model(TOKENS).logits, model(TOKENS).logits)
    assert torch.equal(logits(model.eval()), logits(model))
    zero = tiny_model()
    add_lora(zero, LoRA(targets=("query",), dropout=0.5))
    assert torch.equal(logits(zero.train()), logits(tiny_model()))


# ---- which layers --------------------------------------------------------------------


def test_targets_are_ends_of_names_or_patterns():
    model = tiny_model(tie_embeddings=False)

    def chosen(*targets: str) -> list[str]:
        return list(target_layers(model, targets))

    attention = [f"blocks.{i}.attention.{p}" for i in (0, 1) for p in ("query", "key")]
    assert chosen("query", "key") == attention
    assert chosen("blocks.1.attention.query") == ["blocks.1.attention.query"]
    assert chosen("blocks.*.mlp.down") == ["blocks.0.mlp.down", "blocks.1.mlp.down"]
    assert chosen("mlp.*", "down") == chosen("mlp.*")
    assert len(chosen("attention.*")) == 8
    assert len(chosen("blocks.*")) == 14
    assert chosen("head") == ["head"]


MOE = {"experts": Experts(count=4, active=2, shared=1), "mlp_pattern": "de"}


@pytest.mark.parametrize(
    ("changes", "target", "words"),
    [
        ({}, "querry", r"'querry', which names no linear layer; did you mean 'query'"),
        ({}, "quer", r"did you mean 'query'"),
        ({}, "xyz", r"known: attention\.key, .*, up"),
        ({}, "blocks.7.attention.query", "names no linear layer"),
        ({}, "head", "names head: the head is tied to the embedding"),
        ({}, "*", r"names embedding: it is a table"),
        ({"tie_embeddings": False}, "embedding", "a table, not a linear layer"),
        ({"positions": "learned"}, "positions.table", "a table, not a linear layer"),
        (MOE, "experts", r"names blocks\.1\.moe\.experts: .* stacked"),
        (MOE, "experts.up", r"names blocks\.1\.moe\.experts\.up: .* stacked"),
        (MOE, "moe.*", r"stacked|no plain"),
        (MOE, "blocks.*", r"stacked|no plain"),
        (MOE, "router.score", r"no plain linear layer"),
    ],
)
def test_what_can_have_no_update_is_named(changes, target, words):
    model = tiny_model(**changes)
    with pytest.raises(UserError, match=words) as caught:
        add_lora(model, LoRA(targets=("value", target)))
    assert "\n" not in str(caught.value)
    assert not lora_layers(model)  # and nothing was begun
    assert all(p.requires_grad for p in model.parameters())


def test_shared_experts_are_linear_layers():
    names = list(target_layers(tiny_model(**MOE), ["shared_expert.*"]))
    parts = ("gate", "up", "down")
    assert names == [f"blocks.1.moe.shared_expert.{part}" for part in parts]


def test_a_frozen_router_keeps_its_bias():
    """The bias is the base's: an adapter holds none, so it must not be nudged."""
    experts = Experts(count=4, router="sigmoid", bias_rate=0.1, balance=0.0)
    model = tiny_model(experts=experts)
    add_lora(model, LoRA(targets=("query",)))
    before = base_weights(model)
    tiny_learner(model=model).update([next(tiny_stream())], next_token)
    assert balance_routers(model)
    after = base_weights(model)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 0}, "rank = 0: must be at least 1"),
        ({"rank": -4}, "rank = -4"),
        ({"alpha": 0.0}, "alpha = 0.0: must be above 0"),
        ({"dropout": 1.0}, "dropout = 1.0"),
        ({"targets": ()}, "name some layers"),
    ],
)
def test_options_that_make_no_sense_are_named(options, words):
    with pytest.raises(UserError, match=words):
        LoRA(**options)


def test_two_sets_of_updates_are_refused():
    model = learned()
    with pytest.raises(ValueError, match="has LoRA layers already"):
        add_lora(model, EVERYWHERE)
    for function in (merge, unmerge):
        with pytest.raises(ValueError, match="no LoRA layers"):
            function(tiny_model())


# ---- learning ------------------------------------------------------------------------


def test_only_updates_learn_and_the_optimizer_sees_only_them():
    model = tiny_model()
    add_lora(model, EVERYWHERE)
    before, options = base_weights(model), EVERYWHERE
    names = [name for group in decay_groups(model, 0.1) for name in group["names"]]
    assert sorted(names) == sorted(adapter_tensors(model))
    sizes = {n: (m.in_features, m.out_features) for n, m in lora_layers(model).items()}
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == sum(options.rank * (i + o) for i, o in sizes.values())
    learner, batch = tiny_learner(model=model, lr=0.05), next(tiny_stream())
    rows = [learner.update([batch], next_token) for _ in range(12)]
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.05
    after = base_weights(model)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(layer.lora_B.weight.any() for layer in lora_layers(model).values())


def test_the_gradient_is_that_of_the_low_rank_product():
    """By hand through W + s B A: dB = s dW A^T, dA = s B^T dW."""
    full, model = tiny_model(), learned()
    merge(model)
    fold_lora(model)
    full.load_state_dict(model.state_dict())
    model, batch = learned(), next(tiny_stream())
    next_token(full, batch)[0].backward()
    next_token(model, batch)[0].backward()
    grads = dict(full.named_parameters())
    for name, layer in lora_layers(model).items():
        whole = layer.scale * grads[f"{name}.weight"].grad
        a_matrix, b_matrix = layer.lora_A.weight, layer.lora_B.weight
        assert torch.allclose(b_matrix.grad, whole @ a_matrix.T, atol=1e-4)
        assert torch.allclose(a_matrix.grad, b_matrix.T @ whole, atol=1e-4)


def test_layers_computed_again_give_the_same_gradient():
    grads = []
    for again in (False, True):
        model = learned(LoRA(targets=("blocks.*",), dropout=0.3), dropout=0.2).train()
        model.checkpoint_layers = again
        torch.manual_seed(1)
        next_token(model, next(tiny_stream()))[0].backward()
        grads.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    assert any(g.any() for g in grads[0])


def test_samples_while_it_learns_are_of_the_updated_model():
    model, ids = learned(), [1, 2, 3]
    for _ in range(12):  # the naive way
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert list(generate(model, [1, 2, 3], 12, sampling=GREEDY)) == ids[3:]
    merge(model)
    assert list(generate(model, [1, 2, 3], 12, sampling=GREEDY)) == ids[3:]


# ---- merging -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_merged_equals_unmerged_and_back_bit_for_bit(seed):
    model = learned(seed=seed)
    before, base = logits(model), base_weights(model)
    for _ in range(2):  # merging twice is merging once
        merge(model)
    merged = logits(model)
    assert torch.allclose(merged, before, atol=1e-4)
    assert not torch.equal(base_weights(model)["blocks.0.mlp.up.weight"], before)
    unmerge(model)
    assert torch.equal(logits(model), before)
    after = base_weights(model)
    assert after.keys() == base.keys()
    assert all(torch.equal(after[name], base[name]) for name in base)


def test_subtracting_would_not_have_been_exact():
    """The test above checked: what it rules out does go wrong."""
    layer = lora_layers(learned())["blocks.0.mlp.up"]
    merged = layer.merged_weight()
    update = merged - layer.weight
    assert not torch.equal(merged - update, layer.weight)


def test_merged_in_double_is_the_same_to_many_digits():
    model = learned().double()
    before = logits(model)
    merge(model)
    assert (logits(model) - before).abs().max() < 1e-12


def test_half_precision_is_merged_in_fp32():
    model = learned().bfloat16()
    layer = lora_layers(model)["blocks.0.attention.query"]
    parts = (layer.weight, layer.lora_A.weight, layer.lora_B.weight)
    w, a_matrix, b_matrix = (part.detach().double() for part in parts)
    exact = w + layer.scale * b_matrix @ a_matrix
    assert layer.merged_weight().dtype == torch.bfloat16
    assert torch.equal(layer.merged_weight(), exact.float().bfloat16())


def test_folding_leaves_a_plain_decoder():
    for already in (False, True):
        model = learned()
        before = logits(model)
        if already:
            merge(model)
        fold_lora(model)
        assert torch.allclose(logits(model), before, atol=1e-4)
        assert model.state_dict().keys() == tiny_model().state_dict().keys()
        assert all(p.requires_grad for p in model.parameters())
        assert all(type(m) is not LoRALinear for m in model.modules())


# ---- files ---------------------------------------------------------------------------


def test_the_file_is_small_and_in_peft_layout(tmp_path):
    model = learned(LoRA(rank=2, targets=("query",)))
    save_adapter(model, tmp_path, base="a/base")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    name = "base_model.model.blocks.1.attention.query"
    assert tensors[f"{name}.lora_A.weight"].shape == (2, 16)
    assert tensors[f"{name}.lora_B.weight"].shape == (16, 2)
    assert len(tensors) == 4
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert (config["r"], config["lora_alpha"]) == (2, 16.0)
    assert config["base_model_name_or_path"] == "a/base"


def test_saved_and_loaded_is_the_same_model(tmp_path):
    model = learned()
    save_model(model, tmp_path)  # as a run does
    assert not (tmp_path / "model.safetensors").exists()
    other = tiny_model(0).eval()
    load_adapter(other, tmp_path)
    assert torch.equal(logits(other), logits(model))
    assert lora_layers(other)["blocks.0.mlp.up"].options.alpha == EVERYWHERE.alpha
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        load_model(tmp_path)


def test_a_merged_model_saves_the_same_adapter(tmp_path):
    model = learned()
    save_adapter(model, tmp_path / "one")
    merge(model)
    save_adapter(model, tmp_path / "other")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (
            tmp_path / "other" / name
        ).read_bytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "IA3"}, "not a LoRA adapter"),
        ({"use_rslora": True}, "use_rslora = True is not supported"),
        ({"use_dora": True}, "use_dora = True"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"modules_to_save": ["head"]}, "modules_to_save"),
        ({"rank_pattern": {"query": 4}}, "rank_pattern"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
        ({"something_new": 3}, "something_new = 3 is not supported"),
        ({"r": "many"}, "r = 'many': expected a number"),
        ({"r": 0}, "rank = 0: must be at least 1"),
        ({"r": 5}, r"lora_A\.weight has shape \(3, 16\), not \(5, 16\)"),
    ],
)
def test_adapters_of_another_kind_are_refused(tmp_path, changes, words):
    save_adapter(learned(), tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=words):
        load_adapter(tiny_model(), tmp_path)


def test_files_that_do_not_fit_are_named(tmp_path):
    model = learned()
    save_adapter(model, tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    with pytest.raises(UserError, match=r"blocks\.1.*names no linear layer"):
        load_adapter(tiny_model(n_layers=1), tmp_path)
    with pytest.raises(UserError, match="has shape"):
        load_adapter(tiny_model(d_model=32), tmp_path)
    tensors = load_file(path)
    name = "base_model.model.blocks.0.mlp.up.lora_B.weight"
    save_file({n: t for n, t in tensors.items() if n != name}, path)
    with pytest.raises(UserError, match=r"blocks\.0\.mlp\.up\.lora_B.weight is miss"):
        load_adapter(tiny_model(), tmp_path)
    save_file({name.removeprefix("base_model."): tensors[name]}, path)
    with pytest.raises(UserError, match=r"does not begin with 'base_model\.model\.'"):
        load_adapter(tiny_model(), tmp_path)
    path.write_bytes(b"rot")
    with pytest.raises(UserError, match="is damaged"):
        load_adapter(tiny_model(), tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="holds no adapter"):
        load_adapter(tiny_model(), tmp_path)


class Logits(nn.Module):
    """The modules of a decoder under their own names; gives the logits alone."""

    def __init__(self, model):
        super().__init__()
        self.embedding, self.blocks = model.embedding, model.blocks
        self.whole = [model]  # in a list: not a part of its own

    def forward(self, tokens):
        return self.whole[0](tokens).logits


def test_peft_reads_our_file_and_we_read_its(tmp_path):
    """PEFT on our very modules: the same numbers from the same files, both ways."""
    peft = pytest.importorskip("peft")
    ours = learned()
    save_adapter(ours, tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(Logits(tiny_model()), tmp_path / "ours")
    with torch.no_grad():
        assert torch.allclose(theirs(TOKENS), logits(ours), atol=1e-5)

    options = peft.LoraConfig(r=4, lora_alpha=5, target_modules=["key", "down"])
    made = peft.get_peft_model(Logits(tiny_model()), options)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    made.save_pretrained(tmp_path / "theirs")
    model = tiny_model().eval()
    load_adapter(model, tmp_path / "theirs")
    with torch.no_grad():
        assert torch.allclose(made(TOKENS), logits(model), atol=1e-5)
    assert len(lora_layers(model)) == 4


def test_the_configuration_is_untouched():
    model = learned()
    assert model.config == tiny_model().config
    assert isinstance(model.config, ModelConfig)
