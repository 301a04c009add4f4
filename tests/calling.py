"""Requests to a server of the tests, with exactly the bytes that a test wants."""

import http.client
import json
import socket
import time

CHAT, TEXT, VECTOR = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"


def call(server, method, path, body=None, **headers):
    """(status, headers, bytes) of a request with exactly these headers."""
    line = http.client.HTTPConnection(server.host, server.port, timeout=20)
    try:
        line.request(method, path, body, headers)
        answer = line.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        line.close()


def head_of(path: str) -> str:
    """The beginning of a request with a body."""
    kind = "Content-Type: application/json"
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{kind}\r\n"


def send(line: socket.socket, path: str, body) -> None:
    """A whole request."""
    data = json.dumps(body).encode()
    line.sendall(f"{head_of(path)}Content-Length: {len(data)}\r\n\r\n".encode() + data)


def post(server, path, body) -> socket.socket:
    """A connection with a request on it."""
    line = server.connect()
    send(line, path, body)
    return line


def answer_on(line: socket.socket):
    """(status, bytes, headers) of the next answer on a connection."""
    answer = http.client.HTTPResponse(line)
    answer.begin()
    return answer.status, answer.read(), dict(answer.getheaders())


def ended(line: socket.socket, most: float = 5.0) -> float:
    """Seconds until the other side has hung up."""
    start = time.monotonic()
    line.settimeout(most)
    try:
        while line.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - start


def is_error(values, status: int = 400) -> bool:
    """As OpenAI's API words it, in one line; not ours where the status is a 4xx."""
    error = values["error"]
    assert set(values) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].isprintable()
    return (error["type"] == "server_error") == (status >= 500)
