"""Stories that several tests read."""

import pytest

from folio.data.tales import story
from folio.data.tales.splits import generator


@pytest.fixture(scope="session")
def long_stories():
    return [story(generator("tests", i), "train", "full") for i in range(1200)]


@pytest.fixture(scope="session")
def brief_stories():
    return [story(generator("brief", i), "train", "small") for i in range(600)]


@pytest.fixture(scope="session")
def stories(long_stories, brief_stories):
    return long_stories + brief_stories
