"""Models of Hugging Face as runs, and runs as models of Hugging Face."""

import json
import random
import resource
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from folio.config import UserError
from folio.hub.chat_template import jinja_of
from folio.infer.generate import generate, generate_text
from folio.infer.sampling import Sampling
from folio.model.config import gpt2_like, llama_like
from folio.model.decoder import Decoder
from folio.model.quantize import quantize
from folio.model.scorer import Scorer
from folio.model.store import save_model
from folio.stages.exchange import export_run, import_model
from folio.stages.use import evaluate_perplexity, load_run
from folio.text import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    ChatTemplate,
    Tokenizer,
    WordPieceTokenizer,
)
from hub.test_chat_template import CHATML, GEMMA, LLAMA2, LLAMA3, talk
from text.foreign import FAMILIES

SIZES = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
GQA = SIZES | {"num_key_value_heads": 1}
GREEDY = Sampling(0)
# family -> configuration, tokenizer, roles, chat template
KINDS = {
    "llama3": (
        transformers.LlamaConfig(**GQA),
        "llama3",
        ("<|begin_of_text|>", "<|end_of_text|>"),
        LLAMA3,
    ),
    "llama2": (transformers.LlamaConfig(**SIZES), "llama2", ("<s>", "</s>"), LLAMA2),
    "mistral": (
        transformers.MistralConfig(**GQA, sliding_window=None),
        "mistral",
        ("<s>", "</s>"),
        None,
    ),
    "qwen2": (
        transformers.Qwen2Config(**GQA, tie_word_embeddings=True),
        "qwen",
        (None, "<|endoftext|>"),
        CHATML,
    ),
    "gemma": (
        transformers.GemmaConfig(**GQA, head_dim=12),
        "gemma",
        ("<s>", "</s>"),
        GEMMA,
    ),
    "gpt2": (
        transformers.GPT2Config(n_embd=24, n_layer=2, n_head=2, n_positions=64),
        "olmo",
        (None, "<|endoftext|>"),
        None,
    ),
}


def make_folder(kind: str, path, *, dtype=torch.float32, chat: bool = True):
    """A random model with its tokenizer, saved by `transformers`."""
    config, family, (bos, eos), jinja = KINDS[kind]
    tokenizer = FAMILIES[family]()
    roles = {"eos_token": eos} | ({"bos_token": bos} if bos else {})
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=jinja if chat else None, **roles
    )
    config = type(config)(**config.to_dict())
    config.vocab_size = len(fast) + 3  # padded, as many are
    for role in ("bos", "eos", "pad"):
        setattr(config, f"{role}_token_id", getattr(fast, f"{role}_token_id"))
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return model, fast


def quiet(_: str) -> None: ...


@pytest.mark.parametrize("kind", KINDS)
def test_in_and_out_again(kind, tmp_path):
    """Same greedy tokens here; out comes a folder that loads, with equal bytes."""
    theirs, fast = make_folder(kind, tmp_path / "hf")
    run = import_model(tmp_path / "hf", tmp_path / "run", say=quiet)
    model, tokenizer = load_run(run.folder)
    prompt = tokenizer.prompt_ids("def one two")
    assert prompt == fast("def one two").input_ids
    wanted = theirs.generate(
        torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=-1
    )[0, len(prompt) :]
    found = list(generate(model, prompt, 12, sampling=GREEDY))
    assert found == wanted.tolist()

    export_run(run.folder, tmp_path / "out", say=quiet)
    again, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(info.values()), info
    assert type(again) is type(theirs)
    logits = again(torch.tensor([prompt])).logits
    assert torch.equal(logits, theirs(torch.tensor([prompt])).logits)
    before = load_file(tmp_path / "hf" / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    for name in before:
        if kind == "gemma" and "norm" in name:  # stored as 1 + x here, which rounds x
            assert (before[name] - after[name]).abs().max() <= 2**-23
        else:
            assert torch.equal(before[name], after[name])

    reread = AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in ("def one two", " x", "12 45\n\n\n", "é漢字", "a  b", "</s> [INST]"):
        assert reread(text).input_ids == fast(text).input_ids
    assert reread.decode(prompt) == fast.decode(prompt)
    assert reread.eos_token == fast.eos_token
    if fast.chat_template:
        messages = talk("Hello", "Well", "so?")
        ids, _ = ChatTemplate.of(tokenizer).render(messages, tokenizer, True)
        for one in (fast, reread):
            assert ids == one.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )
    # And in once more: nothing has changed.
    second = import_model(tmp_path / "out", tmp_path / "run2", say=quiet)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        one, two = ((r.model / name).read_bytes() for r in (run, second))
        assert one == two


def test_what_a_run_says_of_where_it_is_from(tmp_path, capsys):
    make_folder("qwen2", tmp_path / "hf", dtype=torch.bfloat16)
    run = import_model(tmp_path / "hf", tmp_path / "run")
    info = run.read_info()
    assert info["source"]["family"] == "qwen2"
    assert info["source"]["dtype"] == "bfloat16"
    assert len(info["source"]["sha256"]["model.safetensors"]) == 64
    assert "tokenizer.json" in info["source"]["sha256"]
    assert str(tmp_path) not in run.info.read_text()
    assert "bfloat16" in capsys.readouterr().out
    assert (
        load_file(run.model / "model.safetensors")["norm.gain"].dtype == torch.float32
    )
    # What came in as bf16 goes out as bf16, bit for bit, or as asked.
    export_run(run.folder, tmp_path / "out", say=quiet)
    before = load_file(tmp_path / "hf" / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    export_run(run.folder, tmp_path / "wide", dtype="float32", say=quiet)
    assert json.loads((tmp_path / "wide/config.json").read_text())["dtype"] == "float32"
    half = import_model(tmp_path / "hf", tmp_path / "half", dtype="bfloat16", say=quiet)
    tensors = load_file(half.model / "model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16}


def test_shards_in_and_out(tmp_path):
    theirs, _ = make_folder("llama2", tmp_path / "hf")
    theirs.save_pretrained(tmp_path / "hf", max_shard_size="50KB")
    (tmp_path / "hf" / "model.safetensors").unlink(missing_ok=True)
    assert len(list((tmp_path / "hf").glob("model-*"))) > 2
    run = import_model(tmp_path / "hf", tmp_path / "run", say=quiet)
    export_run(run.folder, tmp_path / "out", shard=50_000, say=quiet)
    shards = list((tmp_path / "out").glob("model-*"))
    assert len(shards) > 2
    again, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(info.values())
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_using_an_imported_run(tmp_path, capsys):
    make_folder("llama2", tmp_path / "hf")
    run = import_model(tmp_path / "hf", tmp_path / "run", say=quiet)
    model, tokenizer = load_run(run.folder)
    ids = list(generate(model, tokenizer.prompt_ids("Once"), 8, sampling=GREEDY))
    text = "".join(generate_text(model, tokenizer, "Once", 8, sampling=GREEDY))
    decoder = tokenizer.stream_decoder(continued=True)
    assert text == "".join(map(decoder.push, ids)) + decoder.flush()
    assert list(generate_text(model, tokenizer, "", 3, sampling=GREEDY))  # from <s> on
    (tmp_path / "text.txt").write_text("one two three " * 30)
    evaluate_perplexity(run.folder, str(tmp_path / "text.txt"), device="cpu")
    assert "bits_per_byte" in capsys.readouterr().out
    with pytest.raises(UserError, match="give one with --path"):
        evaluate_perplexity(run.folder, device="cpu")


# our own models


def make_run(folder, config, tokenizer):
    torch.manual_seed(1)
    model = Decoder(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_model(model, folder / "model")
    tokenizer.save(folder / "model")
    return model.eval()


@pytest.mark.parametrize("like", [gpt2_like, llama_like])
@pytest.mark.parametrize("kind", ["bpe", "byte", "char"])
def test_our_models_load_there(like, kind, tmp_path):
    text = "be it so, one two three 123 - and so on\n" * 4
    tokenizer = {
        "bpe": lambda: BPETokenizer.train([text], vocab_size=290),
        "byte": ByteTokenizer,
        "char": lambda: CharTokenizer.train([text]),
    }[kind]()
    config = like(
        vocab_size=tokenizer.vocab_size,
        max_seq_len=48,
        d_model=24,
        n_layers=2,
        n_heads=2,
    )
    model = make_run(tmp_path / "run", config, tokenizer)
    export_run(tmp_path / "run", tmp_path / "out", say=quiet)
    theirs, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(info.values()), info
    fast = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer.encode("one two")
    assert fast("one two").input_ids == ids
    assert fast.decode(ids) == "one two"
    logits = theirs(torch.tensor([ids])).logits
    assert torch.allclose(logits, model(torch.tensor([ids])).logits, atol=1e-4)
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    end, turn = tokenizer.end_of_text, tokenizer.special_id("<|end|>")
    assert settings["eos_token_id"] == [end, turn]
    assert theirs.generation_config.eos_token_id == [end, turn]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "from_pretrained" in card
    assert str(tmp_path) not in card
    assert fast.chat_template == jinja_of(ChatTemplate())
    run = import_model(tmp_path / "out", tmp_path / "back", say=quiet)
    assert Tokenizer.load(run.model).fingerprint == tokenizer.fingerprint


def test_what_can_not_be_exported(tmp_path):
    text = "one two three, one two " * 9
    tokenizer = WordPieceTokenizer.train([text], vocab_size=330)
    small = {"vocab_size": 330, "max_seq_len": 8, "d_model": 8, "n_layers": 1}
    make_run(tmp_path / "a", llama_like(**small, n_heads=1), tokenizer)
    with pytest.raises(UserError, match="'wordpiece' can't be written"):
        export_run(tmp_path / "a", tmp_path / "out", say=quiet)
    config = llama_like(**small, n_heads=1, mlp="relu2")
    make_run(tmp_path / "b", config, ByteTokenizer())
    with pytest.raises(UserError, match="mlp = 'relu2'"):
        export_run(tmp_path / "b", tmp_path / "out", say=quiet)
    make_run(tmp_path / "c", llama_like(**small, n_heads=1), ByteTokenizer())
    with pytest.raises(UserError, match="format = 'hg'"):
        export_run(tmp_path / "c", tmp_path / "out", format="hg", say=quiet)
    with pytest.raises(UserError, match="did you mean 'float16'"):
        export_run(tmp_path / "c", tmp_path / "out", dtype="floot16", say=quiet)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(UserError, match="is not empty"):
        export_run(tmp_path / "c", tmp_path / "out", say=quiet)
    (tmp_path / "out" / "mine").unlink()
    export_run(tmp_path / "c", tmp_path / "out", say=quiet)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantized_run_is_not_exported(bits, tmp_path):
    shape = {"max_seq_len": 8, "d_model": 32, "d_ff": 64, "n_layers": 1}
    config = llama_like(vocab_size=263, n_heads=2, **shape)
    small = quantize(Decoder(config), bits)
    save_model(small, tmp_path / "a" / "model")
    ByteTokenizer().save(tmp_path / "a" / "model")
    with pytest.raises(UserError, match=f"a is quantized to {bits} bits; export the"):
        export_run(tmp_path / "a", tmp_path / "out", say=quiet)
    assert not (tmp_path / "out").exists()


def test_a_gguf_is_a_file_as_named_or_one_in_a_folder(tmp_path):
    text = "be it so, one two three 123 - and so on\n" * 4
    tokenizer = BPETokenizer.train([text], vocab_size=290)
    config = llama_like(
        vocab_size=290, max_seq_len=48, d_model=32, d_ff=64, n_layers=1, n_heads=2
    )
    make_run(tmp_path / "a", config, tokenizer)
    out, said = tmp_path / "out", []

    def export(target, dtype=None):
        options = {"format": "gguf", "dtype": dtype, "say": said.append}
        return export_run(tmp_path / "a", target, **options)

    assert export(out / "b.gguf") == out / "b.gguf"
    assert export(out / "c", "q8_0") == out / "c" / "a-q8_0.gguf"
    assert said == [
        f"{out}/b.gguf: llama, float32",
        f"{out}/c/a-q8_0.gguf: llama, q8_0",
    ]
    files = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert files == ["b.gguf", "c/a-q8_0.gguf"]
    with pytest.raises(UserError, match=r"b\.gguf is there already"):
        export(out / "b.gguf")
    with pytest.raises(UserError, match=r"a-q8_0\.gguf is there already"):
        export(out / "c", "q8_0")


@pytest.mark.parametrize("format", ["hf", "gguf", "space"])
def test_a_reward_model_is_not_exported(format, tmp_path):
    config = llama_like(vocab_size=263, max_seq_len=8, d_model=8, n_layers=1, n_heads=1)
    save_model(Scorer(Decoder(config)), tmp_path / "a" / "model")
    ByteTokenizer().save(tmp_path / "a" / "model")
    with pytest.raises(UserError, match="a is a reward model, which gives scores"):
        export_run(tmp_path / "a", tmp_path / "out", format=format, say=quiet)
    assert not (tmp_path / "out").exists()


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    config = llama_like(vocab_size=263, max_seq_len=8, d_model=8, n_layers=1, n_heads=1)
    make_run(tmp_path / "a", config, ByteTokenizer())

    def full(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("folio.hub.written.save_file", full)
    with pytest.raises(UserError, match=r"model\.safetensors: disk full"):
        export_run(tmp_path / "a", tmp_path / "out", say=quiet)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


# bad folders


def edit(path, **changes) -> None:
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(values))


HUGE = 10**12


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ("tokenizer_config.json", {"auto_map": {"A": ["e.T", None]}}, "auto_map"),
        ("config.json", {"model_type": "mamba"}, "model_type = 'mamba'"),
        ("config.json", {"hidden_size": HUGE}, "parameters"),
        ("config.json", {"num_hidden_layers": HUGE}, "layers"),
        ("config.json", {"num_hidden_layers": 9000}, "belong together|layers"),
        ("config.json", {"vocab_size": HUGE}, "parameters|belong together"),
        ("config.json", {"vocab_size": 2**31}, "belong together"),
        ("config.json", {"intermediate_size": HUGE}, "parameters|belong together"),
        ("config.json", {"num_attention_heads": HUGE}, "."),
        ("config.json", {"num_attention_heads": -1}, "."),
        ("config.json", {"num_attention_heads": 0}, "."),
        ("config.json", {"hidden_size": 10**400}, "."),
        ("config.json", {"num_hidden_layers": 3}, "belong together|missing"),
        ("config.json", {"num_hidden_layers": 1}, "unexpected|belong together"),
        ("config.json", {"intermediate_size": 40}, "belong together|asks for"),
        ("tokenizer_config.json", {"add_eos_token": True}, "add_eos_token"),
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}, "normalizer"),
    ],
)
def test_folders_that_are_refused(file, changes, message, tmp_path):
    make_folder("llama2", tmp_path / "hf", chat=False)
    edit(tmp_path / "hf" / file, **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=message) as caught:
        import_model(tmp_path / "hf", tmp_path / "run", say=quiet)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000  # KiB
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_too_large_for_its_model(tmp_path):
    make_folder("llama2", tmp_path / "hf", chat=False)
    data = json.loads((tmp_path / "hf" / "tokenizer.json").read_text())
    size = len(data["model"]["vocab"])
    data["model"]["vocab"] |= {f"▁{i}x": size + i for i in range(5)}
    (tmp_path / "hf" / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match="they don't belong together"):
        import_model(tmp_path / "hf", tmp_path / "run", say=quiet)


def test_a_run_is_not_overwritten(tmp_path):
    make_folder("gpt2", tmp_path / "hf")
    import_model(tmp_path / "hf", tmp_path / "run", say=quiet)
    with pytest.raises(UserError, match="already holds a run"):
        import_model(tmp_path / "hf", tmp_path / "run", say=quiet)
    with pytest.raises(UserError, match="did you mean 'float32'"):
        import_model(tmp_path / "hf", tmp_path / "other", dtype="float23", say=quiet)
    with pytest.raises(UserError, match="not a folder"):
        import_model(tmp_path / "none", tmp_path / "other", say=quiet)


def test_a_model_without_a_chat_template_says_so(tmp_path, capsys):
    make_folder("mistral", tmp_path / "hf")
    (tmp_path / "hf" / "chat_template.jinja").write_text("{{ 'a' * 10**9 }}")
    run = import_model(tmp_path / "hf", tmp_path / "run")
    assert "no chat with this model" in capsys.readouterr().out
    _, tokenizer = load_run(run.folder)
    with pytest.raises(UserError, match="folio generate"):
        ChatTemplate.of(tokenizer)
    export_run(run.folder, tmp_path / "out", say=quiet)
    assert not (tmp_path / "out" / "chat_template.jinja").exists()


def mutate_json(value, rng: random.Random) -> None:
    """Change, drop or exchange something somewhere, often something absurd."""
    where, path = value, []
    while isinstance(where, (dict, list)) and where:
        key = rng.choice(list(where) if isinstance(where, dict) else range(len(where)))
        path.append((where, key))
        where = where[key]
    parent, key = path[-1] if rng.random() < 0.7 else path[rng.randrange(len(path))]
    odd = [
        None,
        -1,
        0,
        3,
        10**12,
        10**18,
        10**400,
        1e308,
        "x",
        "../x",
        "<s>",
        [],
        {},
        True,
    ]
    if rng.random() < 0.3:
        del parent[key]
    else:
        parent[key] = rng.choice(odd)


def check_mutants(tmp_path, number: int, seed: int) -> int:
    """Import mutants: equal weights, or one line. Returns how many were refused."""
    make_folder("gpt2", tmp_path / "good")
    good = load_file(
        import_model(tmp_path / "good", tmp_path / "run", say=quiet).model
        / "model.safetensors"
    )
    rng = random.Random(seed)
    names = ["config.json", "generation_config.json", "tokenizer.json"]
    names += ["tokenizer_config.json", "model.safetensors"]
    refusals = 0
    for _ in range(number):
        shutil.rmtree(tmp_path / "run")
        shutil.rmtree(tmp_path / "bad", ignore_errors=True)
        shutil.copytree(tmp_path / "good", tmp_path / "bad")
        path = tmp_path / "bad" / rng.choice(names)
        if path.suffix == ".json" and rng.random() < 0.8:
            values = json.loads(path.read_text())
            for _ in range(rng.choice((1, 1, 3))):
                mutate_json(values, rng)
            path.write_text(json.dumps(values))
        else:
            data = bytearray(path.read_bytes())
            head = min(len(data), 3000)
            for _ in range(rng.choice((1, 1, 3))):
                place = rng.randrange(head)
                data[place : place + rng.randrange(4)] = rng.randbytes(rng.randrange(3))
            path.write_bytes(data)
        try:
            run = import_model(tmp_path / "bad", tmp_path / "run", say=quiet)
        except UserError as error:
            refusals += "\n" not in str(error)
            (tmp_path / "run").mkdir()
            continue
        found = load_file(run.model / "model.safetensors")
        if path.name == "model.safetensors":
            assert {n: t.shape for n, t in found.items()} == {
                n: t.shape for n, t in good.items()
            }
        else:
            assert found.keys() == good.keys()
            assert all(torch.equal(found[name], good[name]) for name in good)
        number -= 1
    assert refusals == number
    return refusals


def test_mutants_of_a_folder_come_in_equal_or_not_at_all(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert check_mutants(tmp_path, 40, seed=1) > 15
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000  # KiB


@pytest.mark.slow
def test_thousands_of_mutants(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert check_mutants(tmp_path, 1500, seed=2) > 500
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000


def test_exchanged_weights_are_found(tmp_path):
    """A tensor of the right name and another shape, or of integers, is refused."""
    make_folder("gpt2", tmp_path / "hf")
    file = tmp_path / "hf" / "model.safetensors"
    tensors = load_file(file)
    name = next(n for n in tensors if n.endswith("c_fc.weight"))
    for changed in (tensors[name].T.contiguous(), tensors[name].to(torch.int32)):
        save_file(tensors | {name: changed}, file)
        with pytest.raises(UserError, match=r"c_fc\.weight"):
            import_model(tmp_path / "hf", tmp_path / "run", say=quiet)
