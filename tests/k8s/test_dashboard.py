"""The Grafana dashboard: it is read by Grafana, and asks for metrics that are really there."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.rendered_chart import CHART, ROOT, of_kind, render

from automem.tracking.prometheus import gauge_name
from automem_serving.metrics import Metrics

DASHBOARD = CHART / "dashboards" / "automem.json"


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def own_metrics() -> set[str]:
    """Every series that a replica's page has, or will have once something was counted."""
    metrics = Metrics()
    metrics.count("/v1/episodes", "POST", 200, 0.1)
    metrics.count_tokens("act", 1, 1, 1)
    metrics.count_act("v1", "new")
    page = metrics.page(1, {"current": ("v1", 1)}, 0, waiting=1, running=1).decode()
    return set(re.findall(r"^(automem_\w+)", page, re.MULTILINE))


def rays_metrics() -> str:
    """The text of Ray's own dashboards, which name what it exports."""
    spec = find_spec("ray.dashboard")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "modules" / "metrics" / "dashboards"
    return "\n".join(path.read_text() for path in folder.glob("*.py"))


def test_every_metric_of_ours_is_exported(dashboard: dict[str, Any]) -> None:
    asked = {name for text in expressions(dashboard) for name in re.findall(r"\bautomem_\w+", text)}
    assert len(asked) >= 8
    assert asked <= own_metrics()


def test_every_metric_of_ours_is_shown(dashboard: dict[str, Any]) -> None:
    shown = " ".join(expressions(dashboard))
    families = {re.sub(r"_(bucket|sum|count|created|total)$", "", name) for name in own_metrics()}
    assert {family for family in families if family not in shown} == set()


LOGGED_BY = (
    "platform/automem/commands/play.py",
    "platform/automem/loops/following.py",
    "platform/automem/loops/collection.py",
    "learners/automem_learners/train/checkpoints.py",
)
"""Where runs, loops and learners say what they log."""


def test_every_metric_of_a_run_is_one_that_runs_log(dashboard: dict[str, Any]) -> None:
    asked = {
        name for text in expressions(dashboard) for name in re.findall(r"\bray_automem_\w+", text)
    }
    sources = "\n".join((ROOT / path).read_text() for path in LOGGED_BY)
    logged = {f"ray_{gauge_name(name)}" for name in re.findall(r'"([a-z_/]+)"', sources)}
    assert len(asked) >= 8
    assert asked <= logged


def test_every_metric_of_ray_is_one_that_ray_exports(dashboard: dict[str, Any]) -> None:
    names = r"\bray_(?!automem_)\w+"
    asked = {name for text in expressions(dashboard) for name in re.findall(names, text)}
    known = rays_metrics()
    assert len(asked) >= 10
    assert {name for name in asked if name not in known} == set()


def test_its_panels_have_their_own_places(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["datasource"]["uid"] == "${datasource}"


def test_it_comes_with_the_chart_as_it_is(dashboard: dict[str, Any]) -> None:
    objects = render({"monitoring": {"enabled": True}})
    [shipped] = [
        one
        for one in of_kind(objects, "ConfigMap")
        if one["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    assert json.loads(shipped["data"]["automem.json"]) == dashboard


def test_monitors_choose_services_that_are_there() -> None:
    objects = render({"monitoring": {"enabled": True}, "service": {"enabled": True}})
    services = [
        (one["metadata"]["labels"], one["spec"]["ports"]) for one in of_kind(objects, "Service")
    ]
    for service in of_kind(objects, "RayService"):
        served = service["spec"]["serveService"]
        services.append((served["metadata"]["labels"], served["spec"]["ports"]))
    monitors = of_kind(objects, "ServiceMonitor")
    assert len(monitors) == 2
    for monitor in monitors:
        chosen = monitor["spec"]["selector"]["matchLabels"].items()
        [ports] = [ports for labels, ports in services if chosen <= labels.items()]
        [endpoint] = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in ports}
