"""The parts of `bench/gpu.py`, each a module with a function `cases`."""
