"""Every subject that the book promises has its chapter, in its place."""

import pytest

from chapters import BOOK
from folio.book import summary

PARTS = {
    "Orientation": 2,
    "Part I: Text": 3,
    "Part II: The Transformer": 7,
    "Part III: Training": 5,
    "Part IV: Modernizing": 5,
    "Part V: Scaling up": 7,
    "Part VI: Mixture of experts": 3,
    "Part VII: Instructions": 4,
    "Part VIII: Rewards": 4,
    "Part IX: Alignment": 7,
    "Part X: Deployment": 4,
    "Part XI: Looking back": 3,
}
# chapter: words of its subject that its title must hold
SUBJECTS = {
    1: "ten minutes",
    2: "CPU, Mac, CUDA",
    3: "next token",
    4: "Characters and bytes",
    5: "WordPiece",
    6: "Embeddings and positions",
    7: "Gradients from scratch",
    8: "Attention by hand",
    9: "two-page picture",
    10: "heads",
    11: "Feed-forward, residuals and LayerNorm",
    12: "decoder",
    13: "shifted labels",
    14: "Cross-entropy and perplexity",
    15: "AdamW",
    16: "Sampling",
    17: "quality against steps",
    18: "RMSNorm",
    19: "Rotary",
    20: "SwiGLU",
    21: "KV cache",
    22: "rolling buffer",
    23: "bytes to BPE",
    24: "Memory",
    25: "warm-up",
    26: "exact resume",
    27: "Watching a run",
    28: "Many devices",
    29: "Scaling laws",
    30: "Routing, gating, balance",
    31: "layer",
    32: "dense and sparse at equal FLOPs",
    33: "chat templates",
    34: "Masked labels",
    35: "Curriculum",
    36: "LoRA",
    37: "Preferences",
    38: "reward model",
    39: "Bradley–Terry and margin ranking",
    40: "reward hacking",
    41: "DPO",
    42: "GAE",
    43: "PPO objective",
    44: "PPO loop",
    45: "group as baseline",
    46: "KL in the loss",
    47: "each bought",
    48: "Hugging Face",
    49: "GGUF",
    50: "engine",
    51: "Gradio",
    52: "scale, data, compute",
    53: "real ones",
    54: "Further reading",
}
FRONT = ("About this book", "Four weeks", "The map", "Notation")
APPENDICES = ("Mathematics", "Answers", "Glossary", "Rust with candle", "guide")


@pytest.fixture(scope="module")
def entries():
    return summary.read(BOOK).entries


def test_every_subject_has_its_number(entries):
    titles = {entry.number: entry.title for entry in entries if entry.number}
    wrong = {n: words for n, words in SUBJECTS.items() if words not in titles[n]}
    assert wrong == {}
    assert sorted(titles) == list(range(1, 55))


def test_the_parts_hold_as_many_chapters_as_planned(entries):
    counts = {}
    for entry in entries:
        if entry.number:
            counts[entry.part] = counts.get(entry.part, 0) + 1
    assert counts == PARTS


@pytest.mark.parametrize("words", [*FRONT, *APPENDICES])
def test_front_matter_and_appendices_are_listed(entries, words):
    assert any(words in entry.title for entry in entries if entry.number is None)


def test_files_of_chapters_begin_with_their_numbers(entries):
    for entry in entries:
        if entry.number:
            assert entry.document.startswith(f"{entry.number:02}-")
