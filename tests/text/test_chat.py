"""Conversations: layout, weights, and that nobody can forge a turn."""

from dataclasses import replace

import pytest

from folio.config import UserError
from folio.text import SPECIAL_TOKENS, ByteTokenizer, ChatTemplate
from folio.text.chat import ROLES


def turn(role: str, content: str) -> dict:
    return {"role": role, "content": content}


def test_layout_and_weights(tokenizer):
    talk = [
        turn("system", "Be kind."),
        turn("user", "Hello"),
        turn("assistant", "low low"),
        turn("tool", "3"),
        turn("assistant", ""),
    ]
    ids, weights = ChatTemplate().render(talk, tokenizer)
    assert len(ids) == len(weights)
    assert tokenizer.decode(ids) == (
        "<|system|>Be kind.<|end|><|user|>Hello<|end|><|assistant|>low low<|end|>"
        "<|tool|>3<|end|><|assistant|><|end|>"
    )
    learned = [i for i, weight in zip(ids, weights, strict=True) if weight]
    assert set(weights) == {0.0, 1.0}
    assert tokenizer.decode(learned) == "low low<|end|><|end|>"


def test_generation_prompt_continues_the_training_layout(tokenizer):
    question = [turn("user", "Hello")]
    prompt, weights = ChatTemplate().render(question, tokenizer, True)
    assert not any(weights)
    whole, weights = ChatTemplate().render(
        [*question, turn("assistant", "low")], tokenizer
    )
    assert whole[: len(prompt)] == prompt
    assert weights[: len(prompt)] == [0.0] * len(prompt)
    assert all(weights[len(prompt) :])


def test_each_turn_is_encoded_alone(tokenizer):
    """What stands before a turn does not change its ids."""
    alone, _ = ChatTemplate().render([turn("user", "lo")], tokenizer)
    after, _ = ChatTemplate().render(
        [turn("user", "x"), turn("assistant", "y"), turn("user", "lo")], tokenizer
    )
    assert after[-len(alone) :] == alone


def test_no_text_forges_a_turn(tokenizer, look_alikes):
    control = set(tokenizer.special_tokens.values())
    user, end = tokenizer.special_id("<|user|>"), tokenizer.special_id("<|end|>")
    assistant = tokenizer.special_id("<|assistant|>")
    for text in look_alikes:
        for role in ROLES:
            talk = [turn("user", text)] if role != "system" else [turn(role, text)]
            if role in ("assistant", "tool"):
                talk.append(turn(role, text))
            elif role == "system":
                talk.append(turn("user", text))
            ids, _ = ChatTemplate().render(talk, tokenizer)
            found = [i for i in ids if i in control]
            assert found == [
                i
                for message in talk
                for i in (tokenizer.special_id(f"<|{message['role']}|>"), end)
            ]
    # Text that only together makes a name stays apart, too.
    split = [turn("user", "<|assis"), turn("assistant", "tant|>")]
    ids, _ = ChatTemplate().render(split, tokenizer)
    assert [i for i in ids if i in control] == [user, end, assistant, end]


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        ([], "empty"),
        ([turn("assistant", "Hi")], "starts with the user"),
        ([turn("tool", "Hi")], "starts with the user"),
        ([turn("system", "x"), turn("assistant", "Hi")], r"messages\[1\].role"),
        ([turn("user", "x"), turn("system", "y")], "only the first"),
        ([turn("usr", "x")], "did you mean 'user'"),
        ([turn("user", 3)], "expected text, not int"),
        ([{"role": "user"}], "'role' and 'content'"),
        (["hello"], "'role' and 'content'"),
    ],
)
def test_impossible_conversations_are_refused(talk, message):
    with pytest.raises(UserError, match=message):
        ChatTemplate().render(talk, ByteTokenizer())


# templates of others


def template(**between: str) -> ChatTemplate:
    """`user_assistant="..."` is what stands between those two; "" is an edge."""
    table = {tuple(name.split("_")): text for name, text in between.items()}
    return ChatTemplate(between=table, controls=("<|user|>", "<|end|>"))


MIXED = template(
    _user="<|user|>Q:\n",
    user_assistant="\nA: ",
    user_prompt="\nA: ",
    assistant_user=" .<|end|>\n<|user|>Q:\n",
    assistant_=" .<|end|>\n",
)


def test_text_of_a_template_is_read_with_the_message(tokenizer):
    """Neighboring texts are one text; a reply's end is learned, what follows isn't."""
    talk = [turn("user", "lo"), turn("assistant", "w low"), turn("user", "x")]
    ids, weights = MIXED.render(talk, tokenizer, True)
    inside = tokenizer.encode("Q:\nlo\nA: w low .")
    user, end = tokenizer.special_id("<|user|>"), tokenizer.special_id("<|end|>")
    after = tokenizer.encode("\n")
    last = tokenizer.encode("Q:\nx\nA: ")
    assert ids == [user, *inside, end, *after, user, *last]
    learned = [i for i, weight in zip(ids, weights, strict=True) if weight]
    assert learned[-1] == end
    assert tokenizer.decode(learned) in ("w low .<|end|>", " w low .<|end|>")
    assert sum(weights) == len(learned)
    assert weights[-len(last) - 2 :] == [0.0] * (len(last) + 2)
    closed, weights = MIXED.render(talk[:2], tokenizer)
    assert closed == [user, *inside, end, *after]
    assert weights[-len(after) - 1 :] == [1.0] + [0.0] * len(after)


def test_a_text_of_a_template_is_no_forged_turn():
    marked = template(_user="[INST] ", user_prompt=" [/INST]")
    tokenizer = ByteTokenizer()
    ids, _ = marked.render([turn("user", "[/INS T]")], tokenizer, True)
    assert tokenizer.decode(ids) == "[INST] [/INS T] [/INST]"
    with pytest.raises(UserError, match=r"messages\[0\]\.content has '\[/INST\]'"):
        marked.render([turn("user", "so [/INST] yes")], tokenizer, True)


def test_messages_without_a_place_are_refused():
    with pytest.raises(UserError, match=r"messages\[0\].*'system' after"):
        MIXED.render([turn("system", "x"), turn("user", "y")], ByteTokenizer())
    with pytest.raises(UserError, match=r"messages\[0\].*'the end' after 'user'"):
        MIXED.render([turn("user", "y")], ByteTokenizer())


def test_trimmed_messages():
    trimmed = replace(MIXED, trimmed=("user",))
    plain = MIXED.render([turn("user", "a b")], ByteTokenizer(), True)
    assert trimmed.render([turn("user", "\n a b\t")], ByteTokenizer(), True) == plain


def test_which_template_a_tokenizer_has():
    assert ChatTemplate.of(ByteTokenizer()) == ChatTemplate()
    with pytest.raises(UserError, match="folio generate"):
        ChatTemplate.of(ByteTokenizer(["<|endoftext|>"]))
    assert ChatTemplate.from_json(ChatTemplate().to_json()) == ChatTemplate()
    assert ChatTemplate().end_of_turn == "<|end|>"


def test_prompt_after_an_assistant_is_refused():
    talk = [turn("user", "x"), turn("assistant", "y")]
    with pytest.raises(UserError, match="just spoken"):
        ChatTemplate().render(talk, ByteTokenizer(), add_generation_prompt=True)


def test_a_tokenizer_without_roles_says_what_is_missing():
    plain = ByteTokenizer(["<|endoftext|>"])
    with pytest.raises(UserError, match="no special token"):
        ChatTemplate().render([turn("user", "x")], plain)
    ready = plain.with_special_tokens()
    assert list(ready.special_tokens) == list(SPECIAL_TOKENS)
    ChatTemplate().render([turn("user", "x")], ready)
