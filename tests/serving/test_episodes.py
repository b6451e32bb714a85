"""Episodes over HTTP: the agent of the rollouts, driven by a caller."""

from support.served_policy import Server, Table, play


async def test_a_game_is_played_over_http_to_its_end(server: Server) -> None:
    episode = await server.create(world="concentration")
    table, answers = Table(), []
    await play(server, episode["id"], table, answers.append)
    assert table.outcome["progression"] == 1.0
    assert answers[-1]["done"] is True
    assert (answers[-1]["action"], answers[-1]["stop"]) == (None, "solved")
    written = [op for answer in answers for op in answer["operations"] if op["op"] == "APPEND"]
    assert written[0]["routine"] == "log"
    assert written[0]["arguments"]["file"] == "cards.txt"
    assert written[0]["result"] == "ok"
    assert answers[1]["usage"]["calls"] >= 2
    state = (await server.client.get(f"/v1/episodes/{episode['id']}")).json()
    assert (state["done"], state["stop"], state["progression"]) == (True, "solved", 1.0)
