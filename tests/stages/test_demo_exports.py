"""What the demo makes, exported: `transformers` writes the same as Folio does.

By hand, for the runs of a real demo:

    FOLIO_DEMO=runs/demo python -m pytest -m slow tests/stages/test_demo_exports.py
"""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from exported import TOKENS, demo_runs, written
from folio.model.decoder import Decoder
from folio.model.store import save_model
from folio.stages.demo import demo_recipe
from folio.stages.exchange import export_run
from folio.text import BPETokenizer

TEXT = "One morning, Mara had a red kite. How many letters has “tiger”? Sort them!\n"


def check_same_text(run, name, tmp_path, prompts: int = 9) -> None:
    """Equal ids of the prompts, and equal ids after them."""
    export_run(run, tmp_path / "out", say=lambda line: None)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    for text, ids, ours in written(run, name)[:prompts]:
        assert tokenizer(text, add_special_tokens=False).input_ids == ids
        prompt = torch.tensor([ids])
        found = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=TOKENS,
            do_sample=False,
            eos_token_id=-1,
        )
        assert len(ours) == TOKENS
        assert found[0, len(ids) :].tolist() == ours


@pytest.mark.parametrize("name", ["pretrain", "sft"])
def test_a_model_of_the_demo_with_random_weights(name, tmp_path):
    """Of its shape and kind of tokenizer, in no time."""
    tokenizer = BPETokenizer.train([TEXT * 3], vocab_size=320)
    config = demo_recipe(smoke=True, seed=1).model
    torch.manual_seed(3)
    model = Decoder(type(config)(**(vars(config) | {"vocab_size": 320})))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_model(model, tmp_path / "run" / "model")
    tokenizer.save(tmp_path / "run" / "model")
    check_same_text(tmp_path / "run", name, tmp_path, prompts=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return demo_runs(tmp_path_factory.mktemp("demo"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrain", "sft", "dpo", "ppo", "grpo"])
def test_every_model_of_a_demo(name, runs, tmp_path):
    check_same_text(runs[name], name, tmp_path)
