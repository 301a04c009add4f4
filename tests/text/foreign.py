"""Tokenizers as Hugging Face's families have them, trained small by `tokenizers`.

Each has exactly the normalizer, pre-tokenizer, post-processor and decoder of its
family; only the vocabulary is ours.
"""

from functools import cache

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, processors
from tokenizers import pre_tokenizers as pre
from tokenizers.trainers import BpeTrainer

from text.awkward import ATOMS, library_files

_LEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = _LEAD + r"\p{N}" + _REST
LLAMA3 = _LEAD + r"\p{N}{1,3}" + _REST
NEMO = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def texts() -> list[str]:
    return [p.read_text(encoding="utf-8") for p in library_files(25)]


def split_by(pattern: str) -> pre.PreTokenizer:
    cut = pre.Split(Regex(pattern), behavior="isolated", invert=False)
    return pre.Sequence([cut, pre.ByteLevel(add_prefix_space=False, use_regex=False)])


def special(*names: str, **flags: bool) -> list[AddedToken]:
    flags = {"special": True, "normalized": False} | flags
    return [AddedToken(name, **flags) for name in names]


def begins_with(name: str, index: int) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{name}:0 $A:0",
        pair=f"{name}:0 $A:0 {name}:1 $B:1",
        special_tokens=[(name, index)],
    )


@cache
def trained(pattern: str, size: int) -> str:
    """Vocabulary and merges of byte-level BPE, as JSON."""
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer = split_by(pattern)
    alphabet = pre.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, show_progress=False
    )
    theirs.train_from_iterator(texts(), trainer)
    return theirs.to_str()


def byte_level(pattern: str, **options) -> tokenizers.Tokenizer:
    theirs = tokenizers.Tokenizer.from_str(trained(pattern, 900))
    model = theirs.model
    for name, value in options.items():
        setattr(model, name, value)
    theirs.model = model
    theirs.decoder = decoders.ByteLevel()
    return theirs


def qwen() -> tokenizers.Tokenizer:
    theirs = byte_level(QWEN2)
    theirs.normalizer = normalizers.NFC()
    theirs.post_processor = processors.ByteLevel(trim_offsets=False)
    theirs.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    theirs.add_tokens(special("<think>", "</think>", special=False))
    return theirs


def nemo() -> tokenizers.Tokenizer:
    theirs = byte_level(NEMO, ignore_merges=True)
    theirs.add_special_tokens(special("<unk>", "<s>", "</s>", "[INST]", "[/INST]"))
    theirs.post_processor = begins_with("<s>", theirs.token_to_id("<s>"))
    return theirs


def llama3() -> tokenizers.Tokenizer:
    """With every way to make a token as a merge, as files made from tiktoken's have."""
    base = tokenizers.Tokenizer.from_str(trained(LLAMA3, 900))
    ranks = base.get_vocab()
    merges = []
    for token in sorted(ranks, key=ranks.get):
        cuts = [(token[:i], token[i:]) for i in range(1, len(token))]
        cuts = [(a, b) for a, b in cuts if a in ranks and b in ranks]
        merges += sorted(cuts, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    # A word that no merge makes, and a part that comes after what it makes.
    ranks |= {"Ġzebra": len(ranks), "Ġreturx": len(ranks) + 1}
    model = models.BPE(ranks, merges, ignore_merges=True)
    theirs = tokenizers.Tokenizer(model)
    theirs.pre_tokenizer = split_by(LLAMA3)
    theirs.decoder = decoders.ByteLevel()
    names = ("begin_of_text", "end_of_text", "start_header_id", "end_header_id")
    theirs.add_special_tokens(special(*(f"<|{n}|>" for n in (*names, "eot_id"))))
    begin = begins_with("<|begin_of_text|>", theirs.token_to_id("<|begin_of_text|>"))
    theirs.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), begin]
    )
    return theirs


def olmo() -> tokenizers.Tokenizer:
    """GPT-NeoX's kind: GPT-2's split, NFC, white space as tokens of their own."""
    theirs = tokenizers.Tokenizer.from_str(trained(QWEN2, 700))
    theirs.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
    theirs.decoder = decoders.ByteLevel()
    theirs.normalizer = normalizers.NFC()
    theirs.add_special_tokens(special("<|endoftext|>", "<|padding|>"))
    runs = [" " * n for n in (4, 3, 2)]
    theirs.add_tokens(special(*runs, special=False, normalized=True))
    theirs.add_tokens(special("|||IP|||", special=False))
    return theirs


@cache
def characters() -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Pieces and merges of BPE over characters with "▁" for a space."""
    import json

    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.normalizer = normalizers.Replace(" ", "▁")
    theirs.pre_tokenizer = pre.Split(Regex("▁*[^▁]*"), "isolated")
    trainer = BpeTrainer(vocab_size=700, show_progress=False, limit_alphabet=90)
    theirs.train_from_iterator([*texts(), "▁".join(ATOMS)], trainer)
    model = json.loads(theirs.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    return tuple(pieces), tuple(tuple(pair) for pair in model["merges"])


def sentencepiece(more: tuple[str, ...] = ()) -> tokenizers.Tokenizer:
    pieces, merges = characters()
    byte_names = [f"<0x{byte:02X}>" for byte in range(256)]
    names = ["<unk>", "<s>", "</s>", *more, *byte_names, *pieces]
    vocab = {name: i for i, name in enumerate(dict.fromkeys(names))}
    model = models.BPE(
        vocab, list(merges), unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    theirs = tokenizers.Tokenizer(model)
    theirs.add_special_tokens(special("<unk>", "<s>", "</s>"))
    theirs.post_processor = begins_with("<s>", 1)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    theirs.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    return theirs


def llama2() -> tokenizers.Tokenizer:
    theirs = sentencepiece()
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    theirs.normalizer = normalizers.Sequence(steps)
    return theirs


def metaspace(scheme: str) -> tokenizers.Tokenizer:
    theirs = sentencepiece(("[INST]", "[/INST]"))
    theirs.pre_tokenizer = pre.Metaspace("▁", prepend_scheme=scheme, split=False)
    theirs.add_special_tokens(special("[INST]", "[/INST]"))
    if scheme == "never":
        theirs.decoder = gemma().decoder
    return theirs


def mistral() -> tokenizers.Tokenizer:
    return metaspace("first")


def always() -> tokenizers.Tokenizer:
    return metaspace("always")


def gemma() -> tokenizers.Tokenizer:
    theirs = sentencepiece(("<start_of_turn>", "<end_of_turn>", "\n\n", "\n\n\n", "▁▁"))
    theirs.normalizer = normalizers.Replace(" ", "▁")
    theirs.pre_tokenizer = pre.Split(" ", behavior="merged_with_previous")
    theirs.add_special_tokens(special("<start_of_turn>", "<end_of_turn>"))
    theirs.add_tokens(special("\n\n", "\n\n\n", "▁▁", special=False))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    theirs.decoder = decoders.Sequence(steps)
    return theirs


FAMILIES = {
    "qwen": qwen,
    "llama3": llama3,
    "nemo": nemo,
    "olmo": olmo,
    "llama2": llama2,
    "mistral": mistral,
    "always": always,
    "gemma": gemma,
}
