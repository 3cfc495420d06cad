"""A judge behind an API: any endpoint that speaks OpenAI's, or vLLM served by the job itself.

The client retries what passes (429, 5xx, timeouts, broken connections), later each time or when the
endpoint says. A question that gets no answer even so waits while others do; once nobody is answered
any more the job ends, with every verdict that it has kept on disk. No answer is ever made up.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from overtrain import PipelineError
from overtrain.measuring.judges import (
    IDENTIFIERS,
    Question,
    Template,
    Verdict,
    identity_of,
    likelier,
)


@contextmanager
def open_endpoint(
    name: str, settings: dict, gpus: int = 0, folder: Path | None = None
) -> Iterator[Endpoint]:
    """A judge of kind `openai` or `vllm`; that of kind `vllm` is served until the block ends."""
    if settings["kind"] == "vllm":
        with (
            serve(name, settings, gpus, folder) as base_url,
            Endpoint(name, settings, base_url, "none", folder) as judge,
        ):
            yield judge
        return
    key = os.environ.get(settings["key"])
    if not key:
        raise PipelineError(f"judges.{name}.key: the environment has no {settings['key']}")
    with Endpoint(name, settings, settings["base_url"], key) as judge:
        yield judge


class Pace:
    """At most so many requests a minute, evenly spaced, over all threads."""

    def __init__(self, per_minute: float | None):
        self.gap = 60 / per_minute if per_minute else 0.0
        self.next = 0.0
        self.lock = threading.Lock()

    def __call__(self, *_: object) -> None:
        with self.lock:
            now = time.monotonic()
            self.next = max(now, self.next) + self.gap
            delay = self.next - self.gap - now
        time.sleep(max(0.0, delay))


class Endpoint:
    """Asks `concurrency` questions at a time; an invalid verdict `attempts` times in all."""

    def __init__(
        self, name: str, settings: dict, base_url: str, key: str, folder: Path | None = None
    ):
        import openai

        self.name, self.settings = name, settings
        self.template = Template(settings["template"])
        self.identity = identity_of(settings, self.template, folder)
        self.identity["top_logprobs"] = settings["top_logprobs"]
        pace = Pace(settings.get("requests_per_minute"))
        self.client = openai.OpenAI(
            api_key=key,
            base_url=base_url,
            timeout=settings["timeout"],
            max_retries=settings["retries"],
            http_client=openai.DefaultHttpxClient(
                event_hooks={"request": [pace]},  # retries are requests too
                trust_env=settings["kind"] != "vllm",  # no proxy between the job and its own server
            ),
        )

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Verdict]]:
        """PipelineError if the endpoint is down: many questions in a row, or all, get no answer."""
        waiting = list(range(len(questions)))
        concurrency = self.settings["concurrency"]
        patience = max(8, concurrency)
        with ThreadPoolExecutor(concurrency) as pool:
            while waiting:
                unanswered, failures = [], 0
                places = iter(waiting)
                running = {}
                while True:
                    if failures < patience:
                        for place in islice(places, concurrency - len(running)):
                            running[pool.submit(self.verdict, questions[place])] = place
                    if not running:
                        break
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        place = running.pop(done)
                        verdict, problem = done.result()
                        if verdict is None:
                            unanswered.append(place)
                            reason = problem
                            failures += 1
                        else:
                            failures = 0
                            yield place, verdict
                unanswered += places
                if len(unanswered) == len(waiting) or failures >= patience:
                    raise PipelineError(
                        f"judges.{self.name}: {len(unanswered)} questions without an answer after "
                        f"{self.settings['retries'] + 1} requests each ({reason}); the verdicts so "
                        "far are kept: run again to go on"
                    )
                waiting = unanswered

    def verdict(self, question: Question) -> tuple[Verdict | None, str]:
        """The verdict on a question, or None and the reason why no answer came."""
        import openai

        asked = {
            "model": self.settings["model"],
            "messages": self.template.messages(question),
            "max_tokens": 1,
            "temperature": 0.0,
        }
        if self.settings["top_logprobs"]:
            asked |= {"logprobs": True, "top_logprobs": self.settings["top_logprobs"]}
        for _ in range(self.settings["attempts"]):  # at least one
            try:
                reply = self.client.chat.completions.with_raw_response.create(**asked)
                verdict = read_verdict(reply.text)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                return Verdict(None, f"refused: {short(error)}"), ""  # this question, say too long
            except (openai.APIStatusError, openai.APIConnectionError) as error:
                if getattr(error, "status_code", None) in (401, 403, 404):
                    raise PipelineError(f"judges.{self.name}: refused ({short(error)})") from None
                return None, short(error)
            if verdict.choice is not None:
                break
        return verdict, ""


def short(error: Exception) -> str:
    """An error in a line, without what an endpoint says in its body: it may repeat the key."""
    return f"{getattr(error, 'status_code', '')} {type(error).__name__}".strip()


def read_verdict(body: str) -> Verdict:
    """The verdict in an answer's body, whose text must be an identifier: the likelier of the two.

    An answer in other words is none, however likely it makes one of the identifiers.
    """
    try:
        choice = json.loads(body)["choices"][0]
        text = choice["message"]["content"]
        tokens = ((choice.get("logprobs") or {}).get("content") or [{}])[0].get("top_logprobs")
        logprobs = {t["token"]: float(t["logprob"]) for t in tokens or []}
    except (ValueError, LookupError, TypeError, AttributeError):
        return Verdict(None, body[:200])
    if not isinstance(text, str):
        return Verdict(None, body[:200])
    said = IDENTIFIERS.get(text.strip())
    if said is None or not logprobs:
        return Verdict(said, text[:200])
    m, big_m = (logprobs.get(identifier, float("-inf")) for identifier in IDENTIFIERS)
    if m == big_m == float("-inf"):
        return Verdict(None, text[:200])
    return Verdict(likelier(m, big_m), json.dumps({"m": m, "M": big_m}))


# --- a server of the job's own --------------------------------------------------------------------

# Ends a group of processes once its standard input does: when the job ends, however that happens.
# The kernel would end one process with its parent, and leave vLLM's own on the GPUs.
GUARD = ("sh", "-c", 'read -r _; kill -KILL "-$0"')


@contextmanager
def serve(name: str, settings: dict, gpus: int, folder: Path | None = None) -> Iterator[str]:
    """Run `vllm serve` over `gpus` GPUs until the block ends; its address once it answers.

    folder: the model's files, where they are not where its name says.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = settings["model"]
    command = ["vllm", "serve", str(folder or model), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--served-model-name", model]
    command += ["--tensor-parallel-size", str(max(1, gpus))]
    command += ["--max-model-len", str(settings["max_model_len"])]
    # A job that is told to stop (a time limit, preemption) leaves its blocks, and ends the server.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: told to stop"))
    try:
        server = subprocess.Popen(command, start_new_session=True)
    except FileNotFoundError:
        raise PipelineError(
            f"judges.{name}.kind is vllm, and there is no command vllm here: install it, or choose "
            "another judge in evaluations.alpaca.judge"
        ) from None
    guard = subprocess.Popen(
        [*GUARD, str(server.pid)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, name, settings["startup_minutes"] * 60)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        stop(server)
        guard.kill()
        guard.communicate()
        signal.signal(signal.SIGTERM, before)


def wait_for(address: str, server: subprocess.Popen, name: str, seconds: float) -> None:
    """Return once `address` answers; PipelineError if the server ends or takes too long."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if server.poll() is not None:
            raise PipelineError(
                f"judges.{name}: vllm ended with status {server.returncode} before it answered; "
                "its own lines above say why"
            )
        try:
            with opener.open(address, timeout=5):
                return
        except OSError:  # refused, reset, timed out, or not ready yet
            time.sleep(0.2)
    raise PipelineError(f"judges.{name}: vllm did not answer within {seconds / 60:g} minutes")


def stop(server: subprocess.Popen) -> None:
    """End a server and the processes it started: politely, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(timeout=30)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
