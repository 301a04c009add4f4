"""A stub of an OpenAI-compatible server, which remembers what it was asked."""

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Stub:
    """`answer(prompt)` gives a text, or (status, body, headers) instead of one."""

    answer: object
    url: str = ""
    asked: list[dict] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)
    busy: int = 0
    most_busy: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextlib.contextmanager
def stub_server(answer, pause: float = 0.0):
    """A `Stub` on a port of its own, as long as the block lasts."""
    stub = Stub(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with stub.lock:
                stub.asked.append(body | {"path": self.path})
                stub.headers.append(dict(self.headers))
                stub.busy += 1
                stub.most_busy = max(stub.most_busy, stub.busy)
            time.sleep(pause)
            said = stub.answer(body["messages"][-1]["content"])
            with stub.lock:
                stub.busy -= 1
            status, content, more = said if isinstance(said, tuple) else (200, said, {})
            if isinstance(content, str) and status == 200:
                message = {"role": "assistant", "content": content}
                content = {"choices": [{"index": 0, "message": message}]}
            raw = (
                content if isinstance(content, bytes) else json.dumps(content).encode()
            )
            with contextlib.suppress(BrokenPipeError):
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

        def do_GET(self) -> None:
            with stub.lock:
                stub.headers.append(dict(self.headers))
            self.send_error(405)

        def log_message(self, *args) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
