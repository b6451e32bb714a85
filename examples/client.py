"""A client of `automem serve`, with the official `openai` package and plain httpx.

    automem serve                                    # in another terminal
    python examples/client.py [--url http://127.0.0.1:8700] [--token automem_...]

First, completions as with any OpenAI-compatible server; then the agent: this program keeps the
world (a game of Concentration), the server the agent and its memory. Needs `openai` and `httpx`.
"""

import argparse
import time
from typing import Any

import httpx
import openai

from automem_envs.concentration import ConcentrationWorld


def complete(url: str, token: str) -> None:
    """Every model name, one answer, one streamed answer."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=token or "unused")
    print("models:   ", ", ".join(model.id for model in client.models.list()))
    messages: Any = [{"role": "user", "content": "Where is card 05?"}]
    answer = client.chat.completions.create(model="current", messages=messages, max_tokens=16)
    print("answer:   ", repr(answer.choices[0].message.content), "by", answer.model)
    stream = client.chat.completions.create(
        model="current", messages=messages, max_tokens=16, stream=True
    )
    print("streamed: ", end="", flush=True)
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


def play(url: str, token: str, cards: int, steps: int) -> None:
    """An episode: observations go there, actions come back, memory stays there."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    world = ConcentrationWorld(cards=cards)
    observation, info = world.reset(seed=7)
    outcome: dict[str, Any] = {"progression": info["progression"]}
    with httpx.Client(base_url=f"{url}/v1", headers=headers, timeout=300) as client:
        episode = create(client)
        for step in range(steps):
            answer = act(client, episode, step, observation, outcome)
            if answer["done"]:
                break
            notes = [op["arguments"] for op in answer["operations"] if op["op"] == "APPEND"]
            print(f"{step:>3}  {answer['action']:<12}", notes or "")
            observation, reward, terminated, truncated, info = world.step(answer["action"])
            outcome = {
                "progression": info["progression"],
                "reward": reward,
                "terminated": terminated,
                "truncated": truncated,
            }
        view = {"command": "view", "path": "/memories"}
        shown = client.post(f"/episodes/{episode}/tools/memory", json=view)
        if shown.status_code == 409:  # the game is over: its memory can still be read
            print(client.get(f"/episodes/{episode}/memory").json())
        else:
            print(shown.raise_for_status().json()["content"])
        client.delete(f"/episodes/{episode}").raise_for_status()
    print(f"pairs found: {outcome['progression']:.0%}")


def create(client: httpx.Client) -> str:
    """A new episode's id."""
    answer = client.post("/episodes", json={"world": "concentration"})
    return str(answer.raise_for_status().json()["id"])


def act(
    client: httpx.Client, episode: str, step: int, observation: str, outcome: dict[str, Any]
) -> dict[str, Any]:
    """One act. With a key it happens once, however often it has to be sent."""
    body = {"observation": observation, "outcome": outcome, "step": step}
    headers = {"Idempotency-Key": f"act-{step}", "x-session-id": episode}
    for attempt in range(10):
        if attempt:
            time.sleep(min(0.1 * 2**attempt, 10.0))
        try:
            answer = client.post(f"/episodes/{episode}/act", json=body, headers=headers)
        except httpx.TransportError:
            continue
        if not is_passing(answer):
            return dict(answer.raise_for_status().json())
    raise SystemExit(f"act {step} got no answer: is the server up?")


def is_passing(answer: httpx.Response) -> bool:
    """Whether to send the same again: the service is away for a moment. The API's own 404 is JSON;
    another is a restarted Ray proxy's, which knows no routes yet."""
    if answer.status_code == 404:
        return not answer.headers["content-type"].startswith("application/json")
    return answer.status_code in (408, 500, 502, 503, 504)


def main() -> None:
    """Complete, then play."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8700", help="of `automem serve`")
    parser.add_argument("--token", default="", help="where the server asks for one")
    parser.add_argument("--cards", type=int, default=12, help="of the game; even")
    parser.add_argument("--steps", type=int, default=10, help="acts at most")
    options = parser.parse_args()
    complete(options.url, options.token)
    play(options.url, options.token, options.cards, options.steps)


if __name__ == "__main__":
    main()
