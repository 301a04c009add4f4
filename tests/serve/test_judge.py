"""Our own server as the judge: whatever a random model says, it is heard."""

from folio.evals.chat_api import ChatApi
from folio.evals.judge import Case, judge_pairs
from serving import running, served


def test_a_served_run_can_be_the_judge():
    case = Case(({"role": "user", "content": "Who has it?"},), "Mara.", "Nobody.")
    with running(served(max_seq_len=2048)) as server:
        api = ChatApi(f"{server.url}/v1", "tiny", max_tokens=8, wait=0.05)
        [judged] = judge_pairs(api, [case])
    assert judged.outcome == "unreadable"
    assert all(isinstance(text, str) for text in judged.texts)
