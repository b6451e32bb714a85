"""Clients that act and complete without a pause while somebody kills what serves them, and what
each of their calls came to: answered, or one of few failures after which a retry is right."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
from support.drivers import wait_until

PATIENCE_S = 150.0
DONE, CUT, AWAY, PROXY = "done", "cut off", "503 of ours", "of Ray's proxy"


class Load:
    """`with Load(url, ...) as load:` they run inside. Each call is made again until it is answered;
    `seen` counts what its attempts came to, by the phase that began while they were under way."""

    def __init__(self, url: str, acting: int, completing: int) -> None:
        self.seen: dict[str, Counter[str]] = {}
        self.phase = "undisturbed"
        self.in_flight = 0
        self.episodes: list[str] = []
        self.acts: list[int] = [0] * acting
        """Acts answered, by episode."""
        self._url = url
        self._answers = [0] * (acting + completing)
        self._acting = acting
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._pool = ThreadPoolExecutor(acting + completing)
        self._clients: list[Future[None]] = []

    def __enter__(self) -> "Load":
        with httpx.Client(base_url=self._url, timeout=60) as client:
            for number in range(self._acting):
                key = {"Idempotency-Key": f"made-for-load-{number}"}
                made = self._insist(
                    lambda key=key: client.post("/v1/episodes", json={"task": "t"}, headers=key)
                )
                self.episodes.append(made.json()["id"])
        for number in range(len(self._answers)):
            what = self._act if number < self._acting else self._complete
            self._clients.append(self._pool.submit(what, number))
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._pool.shutdown()
        for client in self._clients:
            client.result()

    def during(self, phase: str, disturb: Callable[[], None]) -> Counter[str]:
        """Disturb them while they call; what those calls came to, once everybody was answered."""
        wait_until(lambda: self.in_flight == len(self._answers), "all to call", PATIENCE_S)
        self.phase = phase
        disturb()
        before = list(self._answers)
        wait_until(lambda: self._all_went_on(before), f"answers after {phase}", PATIENCE_S)
        self.phase = "undisturbed"
        with self._lock:
            return Counter(self.seen[phase])

    def _all_went_on(self, before: list[int]) -> bool:
        for client in self._clients:
            if client.done():
                client.result()
        return all(now > then for now, then in zip(self._answers, before, strict=True))

    def _act(self, number: int) -> None:
        path = f"/v1/episodes/{self.episodes[number]}/act"
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._is_over.is_set():
                step = self.acts[number]
                body = {"observation": f"observation {step}", "step": step}
                headers = {"Idempotency-Key": f"key-{step}"}

                def call(body: dict = body, headers: dict = headers) -> httpx.Response:
                    return client.post(path, json=body, headers=headers)

                answer = self._insist(call)
                assert answer.json()["step"] == step
                if step % 3 == 0:
                    assert self._insist(call).content == answer.content
                self.acts[number] += 1
                self._answers[number] += 1

    def _complete(self, number: int) -> None:
        messages = [{"role": "user", "content": f"hello from {number}"}]
        body = {"model": "current", "messages": messages, "max_tokens": 12}
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._is_over.is_set():
                answer = self._insist(lambda: client.post("/v1/chat/completions", json=body))
                assert answer.json()["usage"]["completion_tokens"] > 0
                self._answers[number] += 1

    def _insist(self, call: Callable[[], httpx.Response]) -> httpx.Response:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            began = self.phase
            with self._lock:
                self.in_flight += 1
            try:
                answer = call()
                what = _what(answer)
            except httpx.TransportError:
                what = CUT
            with self._lock:
                self.in_flight -= 1
                phase = began if self.phase == "undisturbed" else self.phase
                self.seen.setdefault(phase, Counter())[what] += 1
            if what == DONE:
                return answer
            assert time.monotonic() < deadline, what
            time.sleep(0.1)


def _what(answer: httpx.Response) -> str:
    if answer.status_code in (200, 201):
        return DONE
    is_ours = answer.headers.get("content-type", "").startswith("application/json")
    if is_ours and answer.status_code == 503:
        return AWAY
    if not is_ours and answer.status_code in (404, 500, 502, 503, 504):
        return PROXY
    return f"{answer.status_code}: {answer.text[:200]}"
