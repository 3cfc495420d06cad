"""A judge behind an API: any endpoint that speaks OpenAI's, or vLLM served by the job itself.

openai's client retries what passes (429, 5xx, timeouts, broken connections), later each time or as
the endpoint says. A question without an answer even so ends the job once the others have theirs;
every verdict is kept on disk, so that the next attempt asks what is left. No answer is made up.
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
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from pathlib import Path

import openai

from overtrain import PipelineError
from overtrain.hub import client as hub
from overtrain.measuring.verdicts import (
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
    own = settings["kind"] == "vllm"
    key = "none" if own else os.environ.get(settings["key"])
    if not key:
        raise PipelineError(f"judges.{name}.key: the environment has no {settings['key']}")
    server = serve(name, settings, gpus, folder) if own else nullcontext(settings["base_url"])
    with server as base_url:
        http = openai.DefaultHttpxClient(
            event_hooks={"request": [Pace(settings.get("requests_per_minute"))]},  # retries too
            trust_env=not own,  # no proxy between the job and its own server
        )
        with openai.OpenAI(
            api_key=key,
            base_url=base_url,
            timeout=settings["timeout"],
            max_retries=settings["retries"],
            http_client=http,
        ) as client:
            yield Endpoint(name, settings, client, folder)


class Pace:
    """A wait before each request, over all threads: openai retries, but knows no requests a minute.

    With one question at a time, an answer's own time comes on top.
    """

    def __init__(self, per_minute: float | None):
        self.gap = 60 / per_minute if per_minute else 0.0
        self.lock = threading.Lock()

    def __call__(self, *_: object) -> None:
        with self.lock:
            time.sleep(self.gap)


class Endpoint:
    """Asks `concurrency` questions at a time; an invalid verdict `attempts` times in all."""

    def __init__(
        self, name: str, settings: dict, client: openai.OpenAI, folder: Path | None = None
    ):
        self.name, self.settings, self.client = name, settings, client
        self.template = Template(settings["template"])
        self.identity = identity_of(settings, self.template, folder)
        self.identity["top_logprobs"] = settings["top_logprobs"]

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Verdict]]:
        """PipelineError after all others for questions without an answer; soon if all are."""
        patience = max(8, self.settings["concurrency"])
        unanswered = in_a_row = 0
        pool = ThreadPoolExecutor(self.settings["concurrency"])
        try:
            asked = {pool.submit(self.verdict, q): place for place, q in enumerate(questions)}
            for done in as_completed(asked):
                try:
                    verdict = done.result()
                except openai.APIError as error:
                    reason = short(error)
                    unanswered, in_a_row = unanswered + 1, in_a_row + 1
                    if in_a_row == patience:
                        break  # the endpoint is down: the other questions would wait for nothing
                else:
                    in_a_row = 0
                    yield asked[done], verdict
        finally:
            pool.shutdown(cancel_futures=True)
        if unanswered:
            raise PipelineError(
                f"judges.{self.name}: {unanswered} questions without an answer after "
                f"{self.settings['retries'] + 1} requests each ({reason}); the verdicts so far are "
                "kept: run again to go on"
            )

    def verdict(self, question: Question) -> Verdict:
        """The verdict on a question; openai's APIError if no answer came."""
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
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                return Verdict(None, f"refused: {short(error)}")  # this question, say too long
            except (
                openai.AuthenticationError,
                openai.PermissionDeniedError,
                openai.NotFoundError,
            ) as error:
                raise PipelineError(f"judges.{self.name}: refused ({short(error)})") from None
            verdict = read_verdict(reply.text)
            if verdict.choice is not None:
                break
        return verdict


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
        own = os.environ | hub.OFFLINE  # its files are here
        server = subprocess.Popen(command, env=own, start_new_session=True)
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
