"""The same ideas with nothing but NumPy, so that the reader sees: nothing is hidden.

`attention` is one head in plain Python; `autograd` finds gradients; `gpt` is a language
model that learns with them. Nothing here imports the rest of Folio, and tests hold all
three to it: the same gradients as PyTorch's, the same numbers as `Decoder`'s.
"""
