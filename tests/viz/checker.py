"""Pages read as a browser would: well formed, and asking nobody for anything."""

import re
from html.parser import HTMLParser

EMPTY = {"meta", "link", "input", "br", "hr", "img", "col"}
LOADS = {
    "src",
    "href",
    "srcset",
    "action",
    "data",
    "poster",
    "xlink:href",
    "background",
}
EVIL = '</script><script>alert("x")</script><img src=https://evil.example/x onerror=y>'


class Checker(HTMLParser):
    """Follows opening and closing tags and collects what could load or run."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open, self.loads, self.scripts, self.handlers = [], [], [], []
        self.ids, self.words, self.policy = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self._note(tag, dict(attributes))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self._note(tag, dict(attributes))

    def _note(self, tag, attributes):
        self.loads += [v for k, v in attributes.items() if k in LOADS]
        self.handlers += [k for k in attributes if k.startswith("on")]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag == "script":
            self.scripts.append(attributes.get("type"))
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        assert tag not in ("iframe", "object", "embed", "base", "link", "img")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


def check(path) -> Checker:
    """The page is well formed, loads nothing and runs nothing but its own script."""
    text = path.read_text(encoding="utf-8")
    checker = Checker(text)
    assert all(address.startswith("#") for address in checker.loads)
    assert {address[1:] for address in checker.loads} <= set(checker.ids)
    assert len(checker.ids) == len(set(checker.ids))
    assert checker.handlers == []
    assert checker.scripts.count(None) == 1
    assert set(checker.scripts) <= {None, "application/json"}
    assert checker.policy.startswith("default-src 'none'")
    assert not re.search(r"url\(|@import", text)
    return checker
