"""A folder for a Space of Hugging Face: the run's model, and an app that lets it talk.

The folder needs no Folio: the model is exported for `transformers`, so what the app
needs can be installed from the package index.
"""

from __future__ import annotations

import json
from pathlib import Path

from folio.files import write_atomically
from folio.hub import space_app
from folio.hub.tokenizer import template_of
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run

MODEL = "model"
GRADIO = "6.31.0"
REQUIREMENTS = ("torch==2.13.0", "transformers==5.23.0", "jinja2==3.1.6")


def write_space(run: Run, tokenizer: Tokenizer, folder: Path) -> Path:
    """Write all but the model into `folder`; returns where the model belongs.

    A run that was pretrained only, or that has no chat template, gets an app that
    writes on instead of one that answers.
    """
    stage = run.read_info().get("stage")
    chats = template_of(tokenizer) is not None and stage != "pretrain"
    name = run.folder.resolve().name
    app = Path(space_app.__file__).read_text(encoding="utf-8")
    app = app.replace("CHATS = True", f"CHATS = {chats}")
    app = app.replace('TITLE = "Folio"', f"TITLE = {json.dumps(name)}")
    write_atomically(folder / "app.py", app)
    write_atomically(folder / "requirements.txt", requirements())
    write_atomically(folder / "README.md", readme(name))
    (folder / MODEL).mkdir()
    return folder / MODEL


def requirements() -> str:
    """What the app imports, at the versions it was tried with; torch without CUDA."""
    index = "--extra-index-url https://download.pytorch.org/whl/cpu"
    return "\n".join([index, *REQUIREMENTS, f"gradio=={GRADIO}"]) + "\n"


def readme(name: str) -> str:
    """The settings of the Space, as YAML, and how to start it elsewhere."""
    return f"""---
title: {json.dumps(name)}
emoji: 📖
colorFrom: blue
colorTo: gray
sdk: gradio
sdk_version: {GRADIO}
app_file: app.py
---
# {name}

A model made with Folio. `{MODEL}/README.md` says what it is and how it was made.

Upload this folder as a Gradio Space, or start it here:

```
pip install -r requirements.txt
python app.py
```
"""
