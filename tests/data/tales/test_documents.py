"""Documents: reproducible anywhere, never on two sides of a split, and probes."""

import hashlib
import itertools
import os
import re
import subprocess
import sys

import pytest

from folio.config import UserError
from folio.data.tales import Mix, copy_probes, document, documents, story
from folio.data.tales.documents import repeated_words, split_skill
from folio.data.tales.lexicon import BOYS, GIRLS, KINDS
from folio.data.tales.skills import SKILLS
from folio.data.tales.splits import SPLITS, generator, split_of
from folio.data.tales.wording import WORDINGS, wordings

# ------------------------------------------------------------------ reproducibility


def fingerprint(texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


PROGRAM = """
from folio.data.tales import documents, instruction
import hashlib
texts = list(documents(3, split="validation", count=40))
texts += [instruction(3, "train", i).prompt for i in range(40)]
print(hashlib.sha256("\\0".join(texts).encode()).hexdigest())
"""


def test_the_same_in_every_process():
    """Hash randomization, which `hash()` and sets depend on, changes nothing."""
    printed = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


def test_a_document_does_not_depend_on_its_neighbors():
    stream = list(documents(5, count=20))
    assert stream == [document(5, "train", i) for i in range(20)]
    assert document(5, "train", 13) == stream[13]
    assert list(itertools.islice(documents(5), 20)) == stream


def test_seed_and_split_matter():
    first = fingerprint(documents(1, count=10))
    assert first != fingerprint(documents(2, count=10))
    assert first != fingerprint(documents(1, split="validation", count=10))


# ---------------------------------------------------------------------------- splits


def test_splits_share_no_premise_and_no_operands():
    premises, operands = {}, {}
    for split in SPLITS:
        tales = [story(generator("split", split, i), split) for i in range(250)]
        tales += [story(generator("b", split, i), split, "small") for i in range(250)]
        premises[split] = {tale.premise for tale in tales}
        assert all(split_of(*premise) == split for premise in premises[split])
        rng = generator("skills", split)
        operands[split] = {
            (task, *split_skill(task, rng, split).values.values())
            for task in SKILLS
            for _ in range(60)
        }
    for one, two in itertools.combinations(SPLITS, 2):
        assert not premises[one] & premises[two]
        assert not operands[one] & operands[two]


def test_splits_share_no_document():
    seen = {split: set(documents(1, split=split, count=400)) for split in SPLITS}
    for one, two in itertools.combinations(SPLITS, 2):
        assert not seen[one] & seen[two]


def test_shares_of_the_splits():
    splits = [split_of("fact", i) for i in range(4000)]
    assert 0.78 < splits.count("train") / 4000 < 0.82
    assert 0.08 < splits.count("test") / 4000 < 0.12


def pattern_of(wording):
    """A regular expression for a wording with anything in its slots."""
    parts = [re.escape(part) for part in re.split(r"\{\w+\}", wording)]
    return re.compile(".+".join(parts) + " ")


def test_no_document_shows_a_held_out_wording():
    """Read back from the text: each question line fits a seen wording."""
    seen = [pattern_of(w) for t in WORDINGS for w in set(wordings(t))]
    held = [pattern_of(w) for t in WORDINGS for w in set(wordings(t, True))]
    lines = [
        line.removeprefix("Question: ")
        for text in documents(8, count=60, mix=Mix(skills=0.5, small=0.5))
        for line in text.split("\n")
        if re.search(r"[?.] (Answer|The answer is|[A-Z0-9])", line)
        and ("?" in line or "Answer" in line)
    ]
    lines = [line for line in lines if any(p.match(line) for p in seen)]
    assert len(lines) > 100
    for line in lines:
        fits_held = [p for p in held if p.match(line)]
        # a wording with a longer tail may hide in a slot: the seen one must be exact
        if fits_held:
            longest = max(len(p.pattern) for p in fits_held)
            assert any(
                p.match(line) and len(p.pattern) >= longest - 12 for p in seen
            ), line


def test_wordings_seen_and_held_out_are_disjoint():
    for task in WORDINGS:
        seen, held = set(wordings(task)), set(wordings(task, held_out=True))
        assert not seen & held
        assert len(seen) >= 50, task
        assert held, task
        for wording in seen | held:
            assert wording[0].isupper() or wording[0] == "{"
            assert wording[-1] in ".?"
            assert "  " not in wording
            assert " ." not in wording
            assert " ?" not in wording


def test_a_wrong_split_is_a_users_mistake():
    with pytest.raises(UserError, match="split = 'tain'; did you mean 'train'"):
        next(documents(1, split="tain"))


# ------------------------------------------------------------------------ the corpus


def test_half_of_the_stories_ask_questions():
    texts = list(documents(2, count=600, mix=Mix(skills=0.0, small=0.0)))
    asking = [text for text in texts if "\n" in text]
    assert 0.4 < len(asking) / len(texts) < 0.6
    lines = [text.count("\n") for text in asking]
    assert min(lines) >= 2
    assert max(lines) == 6


def test_mix_is_kept():
    only_skills = list(documents(2, count=50, mix=Mix(skills=1.0, small=0.0)))
    assert all(4 <= text.count("\n") + 1 <= 8 for text in only_skills)
    small = list(documents(2, count=50, mix=Mix(skills=0.0, small=1.0)))
    names = {n for text in small for n in GIRLS + BOYS if re.search(rf"\b{n}\b", text)}
    assert len(names) == 14


def test_a_wrong_mix_is_a_users_mistake():
    with pytest.raises(UserError, match=r"mix\.small = 1\.5"):
        Mix(small=1.5)
    with pytest.raises(UserError, match="may not exceed 1"):
        Mix(skills=0.6, small=0.6)


def test_documents_are_plain_text():
    for text in documents(4, count=300):
        assert text.isascii()
        assert text == text.strip()
        assert "  " not in text
        assert not re.search(r"[{}\[\]|*_<>]", text)


def test_document_lengths():
    counts = [len(text.split()) for text in documents(4, count=800)]
    assert 95 < sum(counts) / len(counts) < 150
    assert max(counts) < 350


# ------------------------------------------------------------------------ copy probe


def test_probes_end_right_before_a_word_seen_before():
    probes = copy_probes(1, 60)
    assert [p.kind for p in probes].count("name") == 30
    assert [p.kind for p in probes].count("object") == 30
    for probe in probes:
        assert not probe.prefix.endswith(" ")
        assert re.search(rf"\b{probe.answer}\b", probe.prefix)
        known = GIRLS + BOYS if probe.kind == "name" else tuple(KINDS)
        assert probe.answer in known


def test_probes_continue_their_story():
    tale = story(generator("probe", 1, "validation", 0), "validation")
    places = repeated_words(tale)
    assert places
    for probe in places:
        assert tale.text.startswith(f"{probe.prefix} {probe.answer}")


def test_probes_are_reproducible_and_refuse_nothing_to_do():
    assert copy_probes(3, 7) == copy_probes(3, 7)
    assert len(copy_probes(3, 7)) == 7
    with pytest.raises(UserError, match="count = 0"):
        copy_probes(3, 0)
