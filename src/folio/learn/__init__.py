"""Exercises: write a piece of the package yourself, and see it judged and trained."""
