"""A small GPT program, whole: what the exercises' pieces add up to.

Text to ids, attention, the model, its training, samples. Each file is what an exercise
asks for, made of pieces that other exercises ask for; `folio learn train` runs it.
"""
