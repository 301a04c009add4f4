"""The stand-alone chapter for an mdBook: its outline, its length, its listings, run."""

from __future__ import annotations

import re
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "edu" / "src"
CHAPTER = (SOURCES / "llm-from-scratch.md").read_text(encoding="utf-8")
LISTINGS = re.findall(r"^```python\n(.*?)^```$", CHAPTER, re.M | re.S)
PROSE = re.sub(r"^```.*?^```$", "", CHAPTER, flags=re.M | re.S)
STEPS = "STEPS, BATCH, RATE = 1000,"
GUARD = """\
import socket

def refuse(*_):
    raise OSError("the chapter asked for the network")

socket.socket.connect = socket.getaddrinfo = refuse
"""

OUTLINE = """\
# A large language model from scratch
## Part 1: What is a language model?
### 1. Predicting the next token
### 2. Tokenization: BPE, bytes, characters
### 3. Exercise: a character tokenizer
## Part 2: The Transformer
### 4. Embeddings and positions
### 5. Self-attention: queries, keys, values
### 6. Many heads
### 7. Feed-forward, residuals, layer norm
### 8. Exercise: one head with no framework
## Part 3: Assembling the model
### 9. Stacking blocks into a decoder-only model
### 10. The framework: tensors and automatic differentiation
### 11. Exercise: define a small GPT
## Part 4: Training
### 12. Cross-entropy
### 13. The loop: forward, loss, backward, step
### 14. Exercise: train on a small text
### 15. Exercise: sample, quality against steps
## Part 5: Reflection
### 16. What limits this model: scale, data, compute
### 17. The real ones: GPT-2, LLaMA, Mistral
### 18. Further reading
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess:
    (folder / "program.py").write_text(GUARD + program, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True
    )


def shortened(steps: int) -> str:
    """The whole program, trained for fewer steps."""
    program = "\n\n".join(LISTINGS)
    assert program.count(STEPS) == 1
    return program.replace(STEPS, f"STEPS, BATCH, RATE = {steps},")


def test_the_outline_is_the_one_that_was_asked_for():
    headings = re.findall(r"^#+ .*$", PROSE, re.M)
    assert headings == OUTLINE.splitlines()
    exercises = [heading for heading in headings if "Exercise" in heading]
    assert len(exercises) == 5


def test_the_prose_has_the_length_of_a_chapter():
    words = [word for word in PROSE.split() if re.search(r"\w", word)]
    assert 1750 <= len(words) <= 1950


def test_the_table_of_contents_lists_the_chapter_under_machine_learning():
    summary = (SOURCES / "SUMMARY.md").read_text(encoding="utf-8")
    part = summary.split("# Machine Learning\n")[1].split("\n# ")[0]
    assert re.findall(r"- \[[^\]]+\]\(([^)]+)\)", part) == ["llm-from-scratch.md"]


def test_no_link_is_dead():
    links = re.findall(r"\]\(([^)]+)\)", PROSE)
    assert len(links) > 4
    for link in links:
        if not link.startswith("https://"):
            assert (SOURCES / link).is_file(), link
    assert sorted(links) == sorted(set(links))


def test_markdown_is_plain_and_loads_nothing():
    assert "![" not in PROSE
    assert not re.search(r"<[a-zA-Z/!]", PROSE), "HTML isn't portable"
    assert not re.search(r"\$\$|\\\(|\{[a-z]+\}`", PROSE), "nor is mathematics"
    fences = re.findall(r"^```(.*)$", CHAPTER, re.M)
    assert set(fences[::2]) <= {"python", "text"}
    assert set(fences[1::2]) == {""}


def test_the_chapter_stands_alone():
    imports = set(re.findall(r"^(?:import|from) (\w+)", "\n".join(LISTINGS), re.M))
    assert imports == {"math", "pathlib", "random", "re", "time", "torch"}
    assert not re.search(r"\bfolio\b", CHAPTER, re.IGNORECASE)
    assert "You don't need a supercomputer" in PROSE


def test_listings_fit_a_page_and_pass_the_linter(tmp_path):
    for listing in LISTINGS:
        assert max(map(len, listing.splitlines())) <= 88
    pytest.importorskip("ruff")
    program = tmp_path / "program.py"
    program.write_text("\n\n".join(LISTINGS), encoding="utf-8")
    ignored = "B905,E402,I001,RUF,SIM"  # as a chapter imports where it needs to
    command = [sys.executable, "-m", "ruff", "check", "--ignore", ignored]
    found = subprocess.run([*command, str(program)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_the_listings_run_from_top_to_bottom(tmp_path):
    done = run(shortened(20), tmp_path)
    assert done.returncode == 0, done.stderr
    losses = [float(x) for x in re.findall(r"held-out loss ([\d.]+)", done.stdout)]
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.5
    assert len(re.findall(r"of 20 tales right", done.stdout)) == 6


def test_results_of_short_listings_are_those_in_the_text(tmp_path):
    done = run("\n\n".join(LISTINGS[:2]), tmp_path)
    last = done.stdout.strip().splitlines()[-3:]
    results = [literal_eval(line) for line in last]
    assert results == [[10.0, 0.0], [1.96, 8.04], [5.72, 4.28]]
    assert "(5.72, 4.28)" in CHAPTER


@pytest.mark.slow
def test_the_table_holds_what_the_listings_print(tmp_path):
    done = run("\n\n".join(LISTINGS), tmp_path)
    losses = dict(re.findall(r"step +(\d+): held-out loss ([\d.]+)", done.stdout))
    results = re.findall(r"step +(\d+): +(\d+)% real words, +(\d+) of", done.stdout)
    shares = {step: (int(words), int(right)) for step, words, right in results}
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| (\d+)% \| (\d+) of 20 \|", PROSE, re.M)
    assert len(rows) == 5
    for step, loss, words, right in rows:
        assert abs(float(losses[step]) - float(loss)) < 0.05
        assert abs(shares[step][0] - int(words)) <= 10
        assert abs(shares[step][1] - int(right)) <= 5


def test_it_learns_from_a_text_of_ones_own(tmp_path):
    own = "To be, or not to be, that is the question:\n" * 40
    (tmp_path / "input.txt").write_text(own, encoding="utf-8")
    done = run(shortened(20), tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{len(own)} characters" in done.stdout


def test_a_request_would_be_noticed(tmp_path):
    done = run("import urllib.request as u; u.urlopen('http://x.invalid')", tmp_path)
    assert "asked for the network" in done.stderr
