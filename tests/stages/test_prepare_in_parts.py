"""`folio prepare`: parts of a recipe's token files, which training then finds."""

import json

import pytest

from folio.config import UserError
from folio.stages.prepare import prepare_in_parts, prepare_tokens
from folio.text.byte import ByteTokenizer
from folio.training.run import Run
from helpers import tiny_recipe


@pytest.fixture
def recipe(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(3):
        lines = [json.dumps({"text": f"{number}.{i} hens " * 9}) for i in range(40)]
        (folder / f"{number}.jsonl").write_text("\n".join(lines))
    ByteTokenizer().save(tmp_path / "tokenizer.json")
    data = {"path": str(folder), "shards": str(tmp_path / "shards")}
    tokenizer = {"path": str(tmp_path / "tokenizer.json")}
    return tiny_recipe(tmp_path, data=data, tokenizer=tokenizer)


def test_parts_here_or_elsewhere_are_what_training_finds(recipe, tmp_path):
    said = []
    prepare_in_parts(recipe, parts=3, part=1, say=said.append)
    prepare_in_parts(recipe, parts=3, say=said.append)
    words = [line.split(" in ")[0] for line in said]
    done = ["wrote part 1", "wrote part 0", "found part 1", "wrote part 2"]
    assert words[:4] == [f"{part} of 3" for part in done]
    assert words[4].endswith("tokens")
    prepare_in_parts(recipe, parts=3, merge=True, say=said.append)
    assert said[-1] == said[4]
    tokenizer, run = ByteTokenizer(), Run(tmp_path / "run")
    prepare_tokens(recipe, tokenizer, run, said.append)
    assert said[-1] == f"found token files in {tmp_path / 'shards'}"


def test_what_all_parts_must_share(recipe, tmp_path):
    with pytest.raises(UserError, match=r"data\.shards: name the folder"):
        prepare_in_parts(tiny_recipe(tmp_path), parts=2)
    alone = tiny_recipe(tmp_path, data={"shards": str(tmp_path / "shards")})
    with pytest.raises(UserError, match=r"tokenizer\.path: name .* `folio tokenizer`"):
        prepare_in_parts(alone, parts=2)
    with pytest.raises(UserError, match="part = 1: parts are joined when"):
        prepare_in_parts(recipe, parts=3, part=1, merge=True)
