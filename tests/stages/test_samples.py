"""The same prompts through several runs, side by side."""

import pytest

from folio.config import UserError
from folio.evals.answers import Answer
from folio.evals.respond import UNANSWERABLE
from folio.infer.engine import Engine
from folio.infer.sampling import GREEDY
from folio.model.store import save_model
from folio.stages.samples import (
    Written,
    as_markdown,
    as_text,
    embedded_prompts,
    own_prompts,
    show_samples,
)
from folio.stages.use import load_run
from folio.text.byte import ByteTokenizer
from folio.training.run import Run
from helpers import tiny_model


def make_run(folder, seed: int, limit: int = 256, tokenizer=None):
    tokenizer = tokenizer or ByteTokenizer()
    (folder / "model").mkdir(parents=True)
    shape = {"vocab_size": tokenizer.vocab_size, "max_seq_len": limit}
    save_model(tiny_model(seed, **shape), folder / "model")
    tokenizer.save(folder / "model")
    return folder


@pytest.fixture
def runs(tmp_path):
    return [make_run(tmp_path / name, i) for i, name in enumerate(("base", "tuned"))]


def test_each_run_answers_each_prompt_and_all_is_shown(runs):
    printed = []
    found = show_samples(
        runs, ["Who?", "What?"], max_new_tokens=8, device="cpu", say=printed.append
    )
    assert [[w.run for w in row] for row in found] == [["base", "tuned"]] * 2
    assert [row[0].prompt for row in found] == ["Who?", "What?"]
    for folder, written in zip(runs, found[1], strict=True):
        model, tokenizer = load_run(folder, "cpu")
        asked = [{"role": "user", "content": "What?"}]
        [alone] = Engine(model, tokenizer).generate(
            [asked], max_new_tokens=8, sampling=GREEDY
        )
        assert written.greedy.text == alone.text
        assert written.chat
    assert found[0][0].greedy != found[0][0].sampled
    assert len(printed) == 2
    assert printed[0].startswith("> Who?\n\nbase   greedy  ")


def test_a_seed_repeats_and_another_one_does_not(runs):
    def sampled(seed):
        found = show_samples(
            runs, ["Who?"], seed=seed, max_new_tokens=8, device="cpu", say=len
        )
        return [written.sampled for written in found[0]]

    assert sampled(1) == sampled(1) != sampled(2)


def test_without_a_chat_template_the_prompt_is_continued(runs, monkeypatch):
    [[plain]] = show_samples(
        runs[:1], ["Once"], plain=True, max_new_tokens=8, device="cpu", say=len
    )
    model, tokenizer = load_run(runs[0], "cpu")
    [alone] = Engine(model, tokenizer).generate(
        ["Once"], max_new_tokens=8, sampling=GREEDY
    )
    assert (plain.greedy.text, plain.chat) == (alone.text, False)
    [[asked]] = show_samples(
        runs[:1], ["Once"], max_new_tokens=8, device="cpu", say=len
    )
    assert asked.chat
    assert asked.greedy != plain.greedy

    def unknown(tokenizer):
        raise UserError("no chat template")

    monkeypatch.setattr("folio.text.chat.ChatTemplate.of", staticmethod(unknown))
    [[without]] = show_samples(
        runs[:1], ["Once"], max_new_tokens=8, device="cpu", say=len
    )
    assert without == plain


def test_prompts_come_from_the_recipes_or_the_world(runs):
    assert own_prompts(runs) == []
    world = embedded_prompts(0)
    assert len(world) == len(set(world)) == 6
    found = show_samples(runs[:1], max_new_tokens=1, device="cpu", say=len)
    assert [row[0].prompt for row in found] == world
    for folder, prompts in zip(runs, (["", "a", "b"], ["b", "c"]), strict=True):
        (folder / "recipe.toml").write_text(f"[sample]\nprompts = {prompts}\n")
    assert own_prompts(runs) == ["a", "b", "c"]
    found = show_samples(runs, max_new_tokens=1, device="cpu", say=len)
    assert [row[0].prompt for row in found] == ["a", "b", "c"]


def test_a_prompt_that_a_run_cannot_read_is_said_to_be_too_long(runs, tmp_path):
    small = make_run(tmp_path / "small", 2, limit=16)
    printed = []
    [[long, _]] = show_samples(
        [small, runs[0]], ["x" * 30], max_new_tokens=4, device="cpu", say=printed.append
    )
    assert long.greedy is UNANSWERABLE
    assert "small  greedy  (longer than this model can read)" in printed[0]


def test_the_page_has_what_the_models_wrote_as_blocks(runs, tmp_path):
    out = tmp_path / "samples.md"
    found = show_samples(
        runs, ["Who?"], out=out, max_new_tokens=8, device="cpu", say=len
    )
    page = out.read_text(encoding="utf-8")
    assert page == as_markdown(found, 1.0)
    assert page.count("**base**") == page.count("**tuned**") == 2
    wild = Answer("```\n# Not a heading\n    <b>", True)
    page = as_markdown([[Written("base", "a\n# b", False, wild, wild)]], 0.5)
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert headings == ["# Samples", "## Prompt"]
    assert "    ```\n    # Not a heading\n        <b>\n" in page
    assert "**base**, temperature 0.5, writing on from the text" in page


def test_answers_of_several_lines_stay_in_their_column():
    two = Answer("one\ntwo", True)
    text = as_text([Written("run", "a\nb", True, two, Answer("", True))], 1.0)
    assert text.splitlines() == [
        "> a",
        "> b",
        "",
        "run  greedy  one",
        "             two",
        "     T=1     (nothing)",
    ]


def test_no_runs_or_missing_ones_are_one_line(tmp_path):
    with pytest.raises(UserError, match="at least one run"):
        show_samples([])
    with pytest.raises(UserError, match="holds no run"):
        show_samples([tmp_path / "nowhere"], ["a"], device="cpu")


def test_who_was_only_pretrained_is_not_asked_but_writes_on(runs):
    Run(runs[0]).update_info(stage="pretrain")
    Run(runs[1]).update_info(stage="sft")
    [[base, tuned]] = show_samples(
        runs, ["Once"], max_new_tokens=8, device="cpu", say=len
    )
    assert (base.chat, tuned.chat) == (False, True)
