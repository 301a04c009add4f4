"""Talk with the model in the folder `model`: python app.py"""

from pathlib import Path
from threading import Thread

MODEL = Path(__file__).parent / "model"
TITLE = "Folio"
CHATS = True  # it answers; else it writes on


class Writer:
    """The model with its tokenizer, loaded once."""

    def __init__(self, folder):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.limit = self.model.config.max_position_embeddings

    def answer(self, messages, max_new_tokens, temperature):
        """The answer, longer and longer; of too long a talk the oldest turns go."""
        messages = [
            {"role": each["role"], "content": self.plain(text_of(each["content"]))}
            for each in messages
        ]
        while True:
            ids = self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )
            if len(ids) + max_new_tokens <= self.limit or len(messages) < 3:
                break
            messages = messages[2:]
        yield from self.write(ids, max_new_tokens, temperature)

    def complete(self, text, max_new_tokens, temperature):
        """`text`, and what may follow."""
        ids = self.tokenizer(self.plain(text)).input_ids
        ids = ids or [self.tokenizer.bos_token_id]
        for more in self.write(ids, max_new_tokens, temperature):
            yield text + more

    def write(self, ids, max_new_tokens, temperature):
        """The text that follows `ids` (the end of them, if they are too many)."""
        import torch
        from transformers import TextIteratorStreamer

        room = max(self.limit - max_new_tokens, 1)
        ids = torch.tensor([ids[-room:]])
        streamer = TextIteratorStreamer(
            self.tokenizer, skip_prompt=True, skip_special_tokens=True
        )
        options = {"max_new_tokens": int(max_new_tokens), "do_sample": temperature > 0}
        if temperature > 0:
            options |= {"temperature": temperature, "top_k": 0}
        options |= {"inputs": ids, "attention_mask": torch.ones_like(ids)}
        thread = Thread(
            target=self.model.generate, kwargs=options | {"streamer": streamer}
        )
        thread.start()
        text = ""
        for piece in streamer:
            text += piece
            yield text
        thread.join()

    def plain(self, text):
        """`text` without the names of control tokens: nobody can speak as another."""
        for name in self.tokenizer.get_added_vocab():
            text = text.replace(name, " ".join(name))
        return text


def text_of(content):
    """What a message says; newer versions of Gradio give its parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))


def build(writer):
    """The page."""
    import gradio

    longest = max(writer.limit // 2, 1)
    settings = [
        gradio.Slider(1, longest, min(128, longest), step=1, label="Tokens at most"),
        gradio.Slider(0, 1.5, 0.7, step=0.05, label="Temperature (0: the likeliest)"),
    ]
    if CHATS:

        def answer(message, history, max_new_tokens, temperature):
            asked = [*history, {"role": "user", "content": message}]
            yield from writer.answer(asked, max_new_tokens, temperature)

        return gradio.ChatInterface(
            answer, additional_inputs=settings, title=TITLE, api_name="chat"
        )
    text = gradio.Textbox(lines=4, label="Beginning")
    return gradio.Interface(
        writer.complete, [text, *settings], gradio.Textbox(label="Text"), title=TITLE
    )


if __name__ == "__main__":
    build(Writer(MODEL)).launch()
