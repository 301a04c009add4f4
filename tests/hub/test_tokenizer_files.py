"""Which of a folder's files say what about its tokenizer."""

import json

import pytest
from transformers import PreTrainedTokenizerFast

from folio.config import UserError
from folio.hub.folder import ModelFolder
from folio.hub.tokenizer import (
    read_jinja,
    read_tokenizer,
    roles_of,
    token_ids,
    write_tokenizer,
)
from folio.text import BPETokenizer, ByteTokenizer, ChatTemplate
from folio.text.byte_level import show_bytes
from hub.test_chat_template import CHATML, MISTRAL
from text.foreign import FAMILIES


def save(family: str, path, **settings) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(tokenizer_object=FAMILIES[family](), **settings)
    fast.save_pretrained(path)
    return fast


def read(path, ids=None):
    said = []
    tokenizer = read_tokenizer(ModelFolder(path), ids or {}, said.append)
    return tokenizer, said


def edit(path, **changes) -> None:
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


def test_roles_by_every_file(tmp_path):
    save("mistral", tmp_path, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer, said = read(tmp_path)
    assert tokenizer.extras.roles == roles
    assert tokenizer.end_of_text == tokenizer.special_id("</s>") == 2
    assert said == ["no chat with this model: the folder has no chat template"]
    # As a table with flags, in the older file, and by ids in the model's own files
    settings = tmp_path / "tokenizer_config.json"
    edit(settings, eos_token={"content": "</s>", "lstrip": False}, bos_token=...)
    assert read(tmp_path)[0].extras.roles == {
        k: roles[k] for k in roles if k != "bos_token"
    }
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": "<s>"}')
    assert read(tmp_path)[0].extras.roles == roles
    edit(settings, eos_token=...)
    with pytest.raises(UserError, match="no file names the eos_token"):
        read(tmp_path)
    assert read(tmp_path, {"eos_token_id": 2})[0].extras.roles == roles
    assert read(tmp_path, {"eos_token_id": [2, 1]})[0].extras.roles == roles
    edit(settings, eos_token="strange")
    with pytest.raises(UserError, match="not among the added tokens"):
        read(tmp_path, {"eos_token_id": 2})


@pytest.mark.parametrize(
    "changes", [{"auto_map": {"A": "evil.T"}}, {"add_eos_token": True}]
)
def test_what_one_of_ours_is_said_to_need_is_refused_too(tmp_path, changes):
    write_tokenizer(ByteTokenizer(), tmp_path, 64)
    assert read(tmp_path)[0].name == "byte"
    edit(tmp_path / "tokenizer_config.json", **changes)
    with pytest.raises(UserError, match=next(iter(changes))):
        read(tmp_path)


def test_what_a_prompt_begins_with(tmp_path):
    save("llama2", tmp_path, bos_token="<s>", eos_token="</s>")
    settings = tmp_path / "tokenizer_config.json"
    assert read(tmp_path)[0].start_ids == [1]
    edit(settings, add_bos_token=False)
    assert read(tmp_path)[0].start_ids == []
    edit(tmp_path / "tokenizer.json", post_processor=None)
    edit(settings, add_bos_token=True)
    assert read(tmp_path)[0].prompt_ids("a")[0] == 1
    edit(settings, add_eos_token=True)
    with pytest.raises(UserError, match="add_eos_token"):
        read(tmp_path)


def test_files_of_gpt2_alone(tmp_path):
    ours = BPETokenizer.train(["one two three"] * 9, vocab_size=270, pattern="gpt2")
    vocab = {show_bytes(ours.token_bytes(i)): i for i in range(ours.vocab_size - 7)}
    vocab["<|endoftext|>"] = len(vocab)
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        read(tmp_path)
    lines = [" ".join(map(show_bytes, pair)) for pair in ours.merges]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *lines, ""]))
    tokenizer, _ = read(tmp_path, {"eos_token_id": len(vocab) - 1})
    assert tokenizer.encode("one two") == ours.encode("one two")
    assert tokenizer.end_of_text == len(vocab) - 1
    (tmp_path / "vocab.json").write_text("[]")
    with pytest.raises(UserError, match="expected a JSON object"):
        read(tmp_path)
    (tmp_path / "vocab.json").unlink()
    (tmp_path / "vocab.json").symlink_to("/etc/hostname")
    with pytest.raises(UserError, match="outside of the folder"):
        read(tmp_path)


def test_where_the_chat_template_stands(tmp_path):
    save("qwen", tmp_path, eos_token="<|im_end|>", chat_template=CHATML)
    assert read_jinja(ModelFolder(tmp_path)) == CHATML
    jinja = tmp_path / "chat_template.jinja"
    jinja.unlink(missing_ok=True)
    settings = tmp_path / "tokenizer_config.json"
    tools = {"name": "tools", "template": "x"}
    several = [tools, {"name": "default", "template": CHATML}]
    for value in (CHATML, several):
        edit(settings, chat_template=value)
        assert read_jinja(ModelFolder(tmp_path)) == CHATML
    for value in (3, [], [3], [tools]):
        edit(settings, chat_template=value)
        assert read_jinja(ModelFolder(tmp_path)) is None
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": CHATML}))
    tokenizer, said = read(tmp_path)
    assert said == []
    assert ChatTemplate.of(tokenizer).end_of_turn == "<|im_end|>"
    assert tokenizer.extras.jinja == CHATML


def test_ids_for_generation(tmp_path):
    save(
        "qwen",
        tmp_path,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML,
    )
    tokenizer, _ = read(tmp_path)
    end, turn = (tokenizer.special_id(t) for t in ("<|endoftext|>", "<|im_end|>"))
    assert token_ids(tokenizer) == {"eos_token_id": [end, turn], "pad_token_id": end}
    save("mistral", tmp_path, bos_token="<s>", eos_token="</s>", chat_template=MISTRAL)
    (tmp_path / "special_tokens_map.json").unlink(missing_ok=True)
    tokenizer, _ = read(tmp_path)
    assert token_ids(tokenizer) == {"bos_token_id": 1, "eos_token_id": 2}
    own = BPETokenizer.train(["abab"], vocab_size=265)
    assert roles_of(own)["bos_token"] == "<|endoftext|>"
    assert token_ids(own)["eos_token_id"] == [
        own.end_of_text,
        own.special_id("<|end|>"),
    ]


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_damaged_files_are_named(tmp_path, name):
    save("mistral", tmp_path, bos_token="<s>", eos_token="</s>")
    for text in ("{", "[]", '{"a": 1, "a": 2}', '{"added_tokens": [{"id": 0}]}'):
        (tmp_path / name).write_text(text)
        if name == "tokenizer_config.json" and "added" in text:
            continue
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            read(tmp_path)
