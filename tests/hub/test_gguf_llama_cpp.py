"""llama.cpp reads our GGUF and does as Folio does: same ids, same logits, same text.

Needs llama-cpp-python (tried with 0.3.36), which is built from source where there is no
wheel: minutes of one core. By hand, for the runs of a demo:

    FOLIO_DEMO=runs/demo python -m pytest -m slow tests/hub/test_gguf_llama_cpp.py
"""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from exported import QUESTIONS, TOKENS, demo_runs, written
from folio.infer.generate import generate
from folio.infer.sampling import Sampling
from folio.model.config import ModelConfig, llama_like
from folio.model.options import RopeScaling
from folio.stages.exchange import export_run, import_model
from folio.stages.use import load_run
from folio.text import BPETokenizer
from folio.text.bpe import PATTERNS
from folio.text.sentencepiece_bpe import SentencePieceTokenizer
from folio.text.tokenizer import Tokenizer
from hub.test_gguf import MODELS, TEXT, TOKENIZER, config_of, quiet, random_model, write
from stages.test_exchange import KINDS, make_folder
from text.awkward import fuzzed, library_files
from text.foreign import FAMILIES

llama_cpp = pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.slow

SCALINGS = {
    "linear": RopeScaling("linear", 4.0),
    "ntk": RopeScaling("ntk", 4.0),
    "yarn": RopeScaling("yarn", 4.0, 16, magnitude=1.3),
    "llama3": RopeScaling("llama3", 4.0, 16),
}


def opened(path, length: int):
    """A model of llama.cpp, all of its numbers in fp32 as far as it can."""
    return llama_cpp.Llama(
        str(path),
        n_ctx=length,
        n_batch=length,
        n_threads=1,
        logits_all=True,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        verbose=False,
    )


def logits_of(path, ids: list[int]) -> np.ndarray:
    model = opened(path, len(ids))
    model.eval(ids)
    return np.array(model.scores[: len(ids)])


def check_logits(config: ModelConfig, tmp_path, dtype="float32", within=1e-4) -> None:
    """Equal up to rounding; GPT-2 and Gemma look their GELU up in fp16."""
    model = random_model(config)
    write(model, tmp_path / "a.gguf", dtype=dtype)
    ids = [(7 * i) % 290 for i in range(48)]
    with torch.no_grad():
        ours = model(torch.tensor([ids])).logits[0].numpy()
    theirs = logits_of(tmp_path / "a.gguf", ids)
    error = np.abs(ours - theirs).max() / np.abs(ours).max()
    assert error < (5e-3 if config.mlp in ("gelu_tanh", "geglu") else within)


@pytest.mark.parametrize("name", MODELS)
def test_logits(name, tmp_path):
    check_logits(config_of(name), tmp_path)


@pytest.mark.parametrize(
    ("dtype", "within"), [("float16", 5e-3), ("bfloat16", 5e-2), ("q8_0", 5e-2)]
)
def test_logits_of_rounded_weights(dtype, within, tmp_path):
    check_logits(config_of("llama", d_ff=64), tmp_path, dtype, within)


@pytest.mark.parametrize("kind", SCALINGS)
def test_logits_of_positions_that_reach_further(kind, tmp_path):
    check_logits(config_of("llama", rope_scaling=SCALINGS[kind]), tmp_path)
    if kind != "llama3":
        check_logits(config_of("qwen3", rope_scaling=SCALINGS[kind]), tmp_path)


def vocabulary_of(tokenizer: Tokenizer, tmp_path):
    """The same tokenizer in llama.cpp."""
    config = llama_like(
        vocab_size=tokenizer.vocab_size,
        max_seq_len=8,
        d_model=8,
        n_layers=1,
        n_heads=1,
    )
    path = tmp_path / "a.gguf"
    write(random_model(config), path, tokenizer=tokenizer)
    return llama_cpp.Llama(str(path), vocab_only=True, verbose=False)


def check_ids(tokenizer: Tokenizer, texts: list[str], tmp_path) -> None:
    theirs = vocabulary_of(tokenizer, tmp_path)
    wrong = [
        text
        for text in texts
        if text
        and "\0" not in text  # where a text ends for C
        and theirs.tokenize(text.encode(), add_bos=False) != tokenizer.encode(text)
    ]
    assert wrong == []


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "qwen2"])
def test_texts_are_cut_alike(pattern, tmp_path):
    texts = [path.read_text() for path in library_files(8)]
    tokenizer = BPETokenizer.train(texts, vocab_size=900, pattern=pattern)
    check_ids(tokenizer, [*texts, TEXT, *fuzzed(3000, seed=5)], tmp_path)


def test_whole_words(tmp_path):
    texts = [path.read_text() for path in library_files(4)]
    known = BPETokenizer.train(texts, vocab_size=900)
    tokenizer = BPETokenizer(known.merges, "gpt4", whole_words=True)
    check_ids(tokenizer, [*texts, *fuzzed(500, seed=6)], tmp_path)


def test_our_patterns_are_all_thought_of():
    assert PATTERNS.keys() == {"gpt2", "gpt4", "qwen2", "mistral"}


@pytest.mark.parametrize("family", ["llama2", "gemma"])
def test_sentencepiece(family, tmp_path):
    """Also with a control token before the text, as these models want it."""
    tokenizer = Tokenizer.parse(json.loads(FAMILIES[family]().to_str()), family)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    roles = {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = tokenizer.with_extras(replace(tokenizer.extras, roles=roles))
    texts = ["one two", " x", "12 45\n\n\n", "é漢字", "a  b", "[INST] one", TEXT]
    check_ids(tokenizer, [*texts, *fuzzed(300, seed=7)], tmp_path)
    theirs = vocabulary_of(tokenizer, tmp_path)
    assert theirs.tokenize(b"one two") == tokenizer.prompt_ids("one two")
    assert tokenizer.prompt_ids("one")[0] == tokenizer.special_id("<s>")


def test_control_tokens_and_the_end(tmp_path):
    theirs = vocabulary_of(TOKENIZER, tmp_path)
    special = TOKENIZER.special_tokens
    for name, index in special.items():
        assert theirs.tokenize(name.encode(), add_bos=False, special=True) == [index]
        assert index not in theirs.tokenize(name.encode(), add_bos=False)
    assert theirs.token_eos() == TOKENIZER.end_of_text
    ends = llama_cpp.llama_vocab_is_eog
    vocabulary = llama_cpp.llama_model_get_vocab(theirs.model)
    assert ends(vocabulary, special["<|end|>"])
    assert ends(vocabulary, special["<|endoftext|>"])
    assert not ends(vocabulary, special["<|user|>"])


# ---- the demo's models ---------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return demo_runs(tmp_path_factory.mktemp("demo"))


@pytest.mark.parametrize("name", ["pretrain", "sft", "dpo", "ppo", "grpo"])
def test_every_model_of_a_demo_writes_the_same(name, runs, tmp_path):
    path = export_run(runs[name], tmp_path / "a.gguf", format="gguf")
    length = load_run(runs[name], "cpu")[0].config.max_seq_len
    for text, ids, ours in written(runs[name], name):
        theirs = opened(path, length)
        special = name != "pretrain"
        assert theirs.tokenize(text.encode(), add_bos=True, special=special) == ids
        found = islice(theirs.generate(ids, temp=0.0, repeat_penalty=1.0), TOKENS)
        assert list(found) == ours


def test_chat_by_the_template_in_the_file(runs, tmp_path):
    """Nothing but the file is given: it renders, stops and says what Folio says."""
    path = export_run(runs["sft"], tmp_path / "a.gguf", format="gguf")
    _, tokenizer = load_run(runs["sft"], "cpu")
    theirs = opened(path, 128)
    end = tokenizer.special_id("<|end|>")
    for question, (_, _, ours) in zip(
        QUESTIONS, written(runs["sft"], "sft"), strict=True
    ):
        assert end in ours
        answer = theirs.create_chat_completion(
            [{"role": "user", "content": question}],
            max_tokens=TOKENS,
            temperature=0.0,
            repeat_penalty=1.0,
        )
        said = answer["choices"][0]["message"]["content"]
        assert said == tokenizer.decode(ours[: ours.index(end)])
        assert answer["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("kind", KINDS)
def test_imported_models(kind, tmp_path):
    """From Hugging Face's folder to llama.cpp: the same prompt, the same text."""
    make_folder(kind, tmp_path / "hf")
    run = import_model(tmp_path / "hf", tmp_path / "run", say=quiet).folder
    path = export_run(run, tmp_path / "a.gguf", format="gguf", say=quiet)
    model, tokenizer = load_run(run, "cpu")
    ids = tokenizer.prompt_ids("def one two")
    theirs = opened(path, 64)
    assert theirs.tokenize(b"def one two") == ids
    assert theirs.token_eos() == tokenizer.end_of_text
    ours = list(generate(model, ids, 12, sampling=Sampling(0)))
    found = islice(theirs.generate(ids, temp=0.0, repeat_penalty=1.0), 12)
    assert list(found) == ours
