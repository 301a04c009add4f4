"""The embedded corpus: short tales of a simulated small world, with known answers.

Reading order: `grammar` (inflection and templates), `lexicon` (the words), `world`
(state and actions), `plots` and `brief` (what happens and why), `phrases` and
`telling` (how it is told), `questions` and `skills` (what can be asked), `wording`
and `splits` (how it is asked, and what stays unseen), `stories`, `documents` and
`instructions` (what training reads).
"""

from folio.data.tales.documents import (
    CopyProbe,
    Mix,
    copy_probes,
    document,
    documents,
)
from folio.data.tales.instructions import (
    CORE,
    LADDER,
    PREFERRED_STYLE,
    STYLES,
    TASKS,
    Instruction,
    Preference,
    demonstration,
    instruction,
    packed,
    parse_response,
    preference_pair,
    score,
)
from folio.data.tales.skills import Problem
from folio.data.tales.stories import Story, story

__all__ = [
    "CORE",
    "LADDER",
    "PREFERRED_STYLE",
    "STYLES",
    "TASKS",
    "CopyProbe",
    "Instruction",
    "Mix",
    "Preference",
    "Problem",
    "Story",
    "copy_probes",
    "demonstration",
    "document",
    "documents",
    "instruction",
    "packed",
    "parse_response",
    "preference_pair",
    "score",
    "story",
]
