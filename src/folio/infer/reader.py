"""The engine's side of the model: what it reads goes into pages and stays there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from folio.infer.batch import Batch
from folio.infer.page_layout import Layout
from folio.infer.paged import PagedStore
from folio.model.decoder import Decoder


class Reader:
    """A model with one cache per layer, which all requests share."""

    def __init__(self, model: Decoder, store: PagedStore):
        self.model, self.store = model, store
        self.layout: Layout | None = None  # of the call under way
        self.caches = store.caches(lambda positions: self.layout, in_place=True)
        self.weights, self.version = list(model.parameters()), None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Without gradients and dropout; afterwards the model is as it was."""
        was_training = self.model.training
        if was_training:
            self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            if was_training:
                self.model.train()

    def read(self, batch: Batch) -> Tensor:
        """Read a batch; the last hidden state of each row that asks: (rows, D)."""
        device = self.store.device
        self.layout = Layout(self.store, batch.pages, batch.positions)
        tokens = torch.from_numpy(batch.tokens).to(device)
        positions = torch.from_numpy(batch.positions).to(device)
        hidden, _ = self.model.hidden(tokens, positions, self.caches)
        rows = torch.tensor(batch.asking_rows, dtype=torch.long, device=device)
        last = torch.tensor(batch.asking_columns, dtype=torch.long, device=device)
        return hidden[rows, last]

    def weights_changed(self) -> bool:
        """Whether somebody wrote into the weights since the last call."""
        version = sum(w._version for w in self.weights if not w.is_inference())
        changed, self.version = version != self.version, version
        return changed
