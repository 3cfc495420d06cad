"""A local server that speaks OpenAI's chat completions, well or badly, as a test asks for.

Run as a script it is a server of its own process: `python judge_server.py PORT`, with /health, for
tests of a judge that the job serves itself.
"""

from __future__ import annotations

import json
import random
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OUTPUTS = re.compile(r'"output": """(.*?)"""', re.S)
NONSENSE = (
    json.dumps({"choices": [{"message": {"content": "Both are fine."}}]}),
    json.dumps({"choices": [{"message": {"content": ""}}]}),
    json.dumps({"choices": [{"message": {"content": None}}]}),
    json.dumps({"choices": [{"message": {"content": "m or M"}}]}),
    json.dumps({"choices": []}),
    json.dumps({"choices": None}),
    json.dumps({"error": "overloaded"}),
    json.dumps(["m"]),
    "<html>M</html>",
    "",
)


def longer(content: str) -> str:
    """A judge that likes the longer output."""
    first, second = OUTPUTS.findall(content)
    return "m" if len(first) > len(second) else "M"


def with_logprobs(best: str, **logprobs: float) -> str:
    top = [{"token": token, "logprob": value} for token, value in logprobs.items()]
    choice = {"message": {"content": best}, "logprobs": {"content": [{"top_logprobs": top}]}}
    return json.dumps({"choices": [choice]})


class Server(ThreadingHTTPServer):
    """opinion: the user's message -> m or M; seconds: of a stall; trouble: shares of bad replies.

    `answered` counts the questions that got a verdict, `requests` everything that was asked.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, opinion: Callable[[str], str], seconds: float, **trouble: float):
        super().__init__(("127.0.0.1", port), Handler)
        self.opinion, self.seconds, self.trouble = opinion, seconds, trouble
        self.random = random.Random(0)
        self.deck: list[str] = []
        self.lock = threading.Lock()
        self.requests: list[dict] = []
        self.answered: Counter[str] = Counter()
        self.keys: set[str] = set()
        self.kinds: Counter[str] = Counter()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def draw(self) -> str:
        """The kind of the next reply: of every 20 in a row, each has its share."""
        if not self.deck:
            kinds = [kind for kind, share in self.trouble.items() for _ in range(round(20 * share))]
            self.deck = kinds + ["answer"] * (20 - len(kinds))
            self.random.shuffle(self.deck)
        return self.deck.pop()

    def handle_error(self, *_: object) -> None:
        pass  # a client that gave up


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send(200 if self.path == "/health" else 404, "")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = body["messages"][-1]["content"]
        server = self.server
        with server.lock:
            server.requests.append(body)
            server.keys.add(self.headers.get("Authorization", ""))
            kind = server.draw()
            nonsense = server.random.choice(NONSENSE)
            server.kinds[kind] += 1
            if kind == "answer":
                server.answered[content] += 1
        if kind == "error":
            self.send(500, "{}", {"retry-after-ms": "5"})
        elif kind == "limit":
            self.send(429, "{}", {"Retry-After": "0.02"})
        elif kind == "unauthorised":
            self.send(401, json.dumps({"error": {"message": self.headers["Authorization"]}}))
        elif kind == "refused":
            self.send(400, json.dumps({"error": {"message": "too long"}}))
        elif kind == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        elif kind == "cut":
            self.send(200, '{"choices": [', {"Content-Length": "4000"})
            self.close_connection = True
        elif kind == "stall":
            time.sleep(server.seconds)
            self.close_connection = True
        elif kind == "nonsense":
            self.send(200, nonsense)
        else:
            answer = server.opinion(content)
            reply = {"choices": [{"message": {"content": answer}}]}
            self.send(200, answer if answer.startswith("{") else json.dumps(reply))

    def send(self, status: int, content: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        length = {"Content-Length": str(len(content.encode()))}
        for key, value in (length | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content.encode())


@contextmanager
def serve(
    opinion: Callable[[str], str] = longer, seconds: float = 1.0, **trouble: float
) -> Iterator[Server]:
    server = Server(0, opinion, seconds, **trouble)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    Server(int(sys.argv[1]), longer, 0.0).serve_forever()
