"""Reports and comparisons of what comes after pretraining."""

import json
import re

import pytest

from folio.viz import compare_table, main_columns, write_compare, write_report
from folio.viz.folder import read_run
from folio.viz.report import headline_numbers, summary
from viz.checker import check
from viz.tuned_runs import write_tuned_run

STAGES = ("sft", "reward", "dpo", "ppo", "grpo", "distill")


def charts(path) -> dict[str, dict]:
    """What is drawn: each chart's lines by its title."""
    drawn = {}
    figures = re.findall(r"<figure.*?</figure>", path.read_text(encoding="utf-8"), re.S)
    for figure in figures:
        title = re.search(r"<h3>(.*?)</h3>", figure)[1]
        blocks = re.findall(r'<script type="application/json">(.*?)</script>', figure)
        assert title not in drawn, f"{title} is drawn twice"
        drawn[title] = {
            line["name"]: line["y"]
            for block in blocks
            for line in json.loads(block)["lines"]
        }
    return drawn


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_sound_report(tmp_path, stage):
    run = write_tuned_run(tmp_path / stage, stage)
    path = write_report(run)
    page = check(path)
    drawn = charts(path)
    assert "Loss" in drawn
    assert "layer" not in page.text
    assert "_" not in " ".join(drawn) + " ".join(n for c in drawn.values() for n in c)
    assert not any(name.startswith("val ") for c in drawn.values() for name in c)
    assert write_report(run).read_bytes() == path.read_bytes()


def test_greedy_and_sampled_share_a_chart(tmp_path):
    drawn = charts(write_report(write_tuned_run(tmp_path / "sft", "sft")))
    gold = drawn["Gold reward"]
    assert gold["sampled"][-1] == pytest.approx(1.5 * 0.65)
    assert gold["greedy"][-1] == pytest.approx(1.5 * 0.775, rel=1e-4)
    assert drawn["Right answers, task by task"].keys() == {"sort", "who has"}
    assert "Ended by itself" not in drawn  # it always is 1


def test_a_single_evaluation_is_a_table_and_no_chart(tmp_path):
    run = write_tuned_run(tmp_path / "sft", "sft", every=1000)
    path = write_report(run)
    assert charts(path).keys() == {"Loss", "Learning rate", "Gradient norm"}
    page = check(path)
    assert "0.650" in page.text  # right answers, sampled
    assert "who has" in page.text


def test_a_hacked_reward_is_seen(tmp_path):
    path = write_report(write_tuned_run(tmp_path / "ppo", "ppo"))
    drawn = charts(path)
    reward = drawn["Reward and gold"]
    assert reward.keys() == {"reward", "gold"}
    assert reward["reward"][-1] > reward["reward"][0]
    assert reward["gold"][-1] < reward["gold"][0]
    assert "reward model: the same as reward." in check(path).text
    assert drawn["Length of answers"].keys() == {"mean", "longest", "limit"}
    assert len(drawn["Clipped tokens"]) == 2
    assert "Explained variance" in drawn
    assert "KL to the parent" in drawn


def test_what_never_changes_is_said_and_not_drawn(tmp_path):
    path = write_report(write_tuned_run(tmp_path / "ppo", "ppo"))
    drawn, page = charts(path), check(path)
    for title in ("Rounds of redrawing", "Without an end", "Price of KL"):
        assert title not in drawn
    assert "Never changed: rounds of redrawing 0." in page.text
    assert "Never changed: answers without an end 0." in page.text
    assert "price of KL 0.02000" in page.text


def test_chosen_and_rejected_share_a_chart(tmp_path):
    drawn = charts(write_report(write_tuned_run(tmp_path / "dpo", "dpo")))
    change = drawn["Change of log-probability against the parent"]
    assert list(change) == [
        "preferred",
        "the other",
        "preferred, held out",
        "the other, held out",
    ]
    assert change["preferred, held out"][-1] == -10
    assert not any("reference" in title.lower() for title in drawn)


def test_the_loss_is_not_drawn_again_by_another_name(tmp_path):
    drawn = charts(write_report(write_tuned_run(tmp_path / "dpo", "dpo")))
    assert "Preference loss" not in drawn
    other = write_tuned_run(tmp_path / "other", "dpo")
    text = (other / "metrics.jsonl").read_text()
    changed = text.replace('"preference_loss": 2.0', '"preference_loss": 2.5')
    assert changed != text
    (other / "metrics.jsonl").write_text(changed)
    assert "Preference loss" in charts(write_report(other))


def test_kinds_of_pairs_share_a_chart(tmp_path):
    drawn = charts(write_report(write_tuned_run(tmp_path / "reward", "reward")))
    kinds = drawn["Right about held-out pairs, kind by kind"]
    assert kinds.keys() == {"content", "style"}
    assert "Gold reward" not in drawn


def test_families_are_layers_only_if_they_are(tmp_path):
    run = write_tuned_run(tmp_path / "sft", "sft")
    with open(run / "metrics.jsonl", "a") as log:
        for step, value in ((41, 1.0), (42, 2.0)):
            row = {"step": step, "val_loss.near_miss": value, "val_loss.far": 1.0}
            log.write(json.dumps(row | {"grad_norm.blocks.0": value}) + "\n")
    drawn = charts(write_report(run))
    assert drawn["Held-out loss, part by part"].keys() == {"near miss", "far"}
    assert drawn["Gradient norm, layer by layer"].keys() == {"layer 1"}


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("sft", ["gold, sampled", "right answers", "validation loss", "tokens"]),
        ("reward", ["right about pairs", "weakest kind", "validation loss", "pairs"]),
        ("dpo", ["gold, sampled", "right answers", "right about pairs"]),
        ("grpo", ["gold, sampled", "right answers", "reward", "KL to the parent"]),
    ],
)
def test_the_head_fits_the_stage(tmp_path, stage, names):
    run = read_run(write_tuned_run(tmp_path / stage, stage))
    numbers = headline_numbers(run)
    assert [name for name, _, _ in numbers][: len(names)] == names
    assert len(numbers) <= 6
    text = summary(run)
    assert "beginning with the run base" in text
    assert ("pairs" in text) == (stage in ("reward", "dpo"))
    assert "/somewhere" not in text


def test_the_numbers_on_top_are_the_newest(tmp_path):
    run = write_tuned_run(tmp_path / "grpo", "grpo")
    info = json.loads((run / "run.json").read_text())
    del info["results"]  # as while it is under way
    (run / "run.json").write_text(json.dumps(info))
    shown = {name: value for name, value, _ in headline_numbers(read_run(run))}
    assert shown["gold, sampled"] == "0.975"
    assert shown["reward"] == "4.00"
    assert shown["KL to the parent"] == "2.00"
    weakest = headline_numbers(read_run(write_tuned_run(tmp_path / "r", "reward")))[1]
    assert weakest[1:] == ("0.600", "pairs that differ in content")


# The comparison


def test_runs_are_compared_by_their_answers(tmp_path):
    runs = [
        write_tuned_run(tmp_path / "short", "grpo", steps=20),
        write_tuned_run(tmp_path / "long", "sft", steps=40),
    ]
    out = write_compare(runs, tmp_path / "c.html")
    page = check(out)
    assert "long reaches the highest gold of sampled answers, 0.9750" in page.text
    assert "short stays 0.30 below it" in page.text
    drawn = charts(out)
    assert drawn["Gold of sampled answers"].keys() == {"short", "long"}
    assert "Training loss" not in drawn  # those of two stages
    assert "Reward" not in drawn  # only one has it
    rows = compare_table(runs)
    assert rows[1]["sampled_gold"] == pytest.approx(0.975)
    assert main_columns(rows)[:2] == ["sampled_gold", "greedy_gold"]
    assert "val_bits_per_byte" not in main_columns(rows)


def test_any_runs_can_be_compared(tmp_path, make_run):
    runs = [write_tuned_run(tmp_path / stage, stage) for stage in STAGES]
    page = check(write_compare([*runs, make_run()], tmp_path / "all.html"))
    assert "reaches the" not in page.text  # they have nothing in common
    page = check(write_compare(runs[1:3], tmp_path / "pairs.html"))
    assert "accuracy on held-out pairs" in page.text
    check(write_compare(runs[4:5], tmp_path / "one.html"))


def test_seeds_of_a_tuned_run_are_one_group(tmp_path):
    runs = [write_tuned_run(tmp_path / f"g-{n}", "grpo", seed=n) for n in (1, 2)]
    page = check(write_compare(runs, tmp_path / "seeds.html"))
    assert "g (2 seeds)" in page.text
    assert compare_table(runs)[2]["sampled_gold"] == pytest.approx(0.975)
