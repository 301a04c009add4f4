"""What all who look at one studio share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from folio.config import UserError
from folio.infer.request import Handle
from folio.studio.models import Loaded, Models
from folio.studio.preferences import Preferences
from folio.studio.runs import Runs
from folio.studio.training import Training
from folio.training.run import Run
from folio.viz.dialog import notice
from folio.viz.markup import Markup, tag
from folio.viz.numerals import compact, plain


class Studio:
    """Runs, loaded models, a training, and the files of what people preferred."""

    def __init__(
        self,
        named: Sequence[Path] = (),
        root: Path = Path("runs"),
        *,
        device: str = "auto",
        preferences: Path = Path("preferences.jsonl"),
    ):
        if preferences.suffix != ".jsonl":
            raise UserError(f"{preferences}: name the file of preferences *.jsonl")
        self.runs = Runs(named, root)
        self.models = Models(device)
        self.training = Training(self.runs)
        self.preferences = Preferences(preferences)
        self.speaking: dict[str, Handle] = {}  # answers under way, by session

    @property
    def conversations(self) -> Path:
        """Where exported conversations go, beside the preferences."""
        return self.preferences.path.with_name("conversations.jsonl")

    def load(self, name: str | None) -> Loaded:
        """The model of a run that was found; a UserError for any other name."""
        return self.models.of(self.runs.path(name))

    def quiet(self, session: str) -> None:
        """Stop the answer that a session is waiting for, if it is."""
        if handle := self.speaking.pop(session, None):
            handle.cancel()

    def close(self) -> None:
        """Leave nothing running."""
        self.training.close()
        self.models.close()

    def about(self, name: str | None) -> Markup:
        """A run in one line, or why there is none to speak of."""
        try:
            loaded = self.load(name)
        except UserError as error:
            return notice(error, "plain")
        info, config = Run(loaded.folder).read_info(), loaded.model.config
        weights = sum(p.numel() for p in loaded.model.parameters())
        loss = (info.get("results") or {}).get("val_loss")
        facts = [
            str(info.get("stage") or "imported"),
            f"{compact(weights)} weights",
            f"{config.n_layers} layers × {config.n_heads} heads",
            f"reads {config.max_seq_len:,} tokens",
            f"vocabulary of {loaded.tokenizer.vocab_size:,}",
            f"held-out loss {plain(loss)}" if isinstance(loss, float) else None,
            "answers" if loaded.chats else "writes on",
        ]
        return tag("p", " · ".join(fact for fact in facts if fact), class_="about")
