"""What trackers have written, read back from their own files."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HEADER_BYTES, BLOCK_BYTES, FRAME_BYTES = 7, 32_768, 7
"""Of a `.wandb` file: LevelDB's log format behind a header of its own."""
WHOLE, LAST = 1, 4
"""Frames that end a record."""


def offline_parts(run_dir: Path) -> list[Path]:
    """The `.wandb` files of an offline run, oldest first."""
    return sorted((run_dir / "wandb").glob("offline-run-*/run-*.wandb"), key=_begun)


def _begun(path: Path) -> tuple[str, int]:
    """Its second, and its number among those of that second."""
    stamp, rest = path.parent.name.removeprefix("offline-run-").split("-", 1)
    return stamp, int(rest.partition("-")[2] or 0)


def history(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of an offline run's curves, over all its parts."""
    rows = []
    for path in offline_parts(run_dir):
        for record in records(path):
            if record.HasField("history"):
                items = record.history.item
                row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
                rows.append(row)
    return rows


def curve(run_dir: Path, name: str, axis: str) -> list[tuple[float, float]]:
    """(place on its axis, value) as W&B draws it."""
    return [(row[axis], row[name]) for row in history(run_dir) if name in row]


def axes(run_dir: Path) -> dict[str, str]:
    """Metric to the metric that it is drawn over."""
    found = {}
    for path in offline_parts(run_dir):
        for record in records(path):
            if record.HasField("metric") and record.metric.step_metric:
                found[record.metric.name] = record.metric.step_metric
    return found


def artifacts(run_dir: Path) -> dict[str, Any]:
    """Artifacts of an offline run by name."""
    found = {}
    for path in offline_parts(run_dir):
        for record in records(path):
            if record.HasField("artifact"):
                found[record.artifact.name] = record.artifact
            elif record.request.HasField("log_artifact"):
                artifact = record.request.log_artifact.artifact
                found[artifact.name] = artifact
    return found


def table(run_dir: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a table of the run's last part."""
    [path] = offline_parts(run_dir)[-1].parent.rglob(f"{name}_*.table.json")
    content = json.loads(path.read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def records(path: Path) -> Iterator[Any]:
    """The whole records of a `.wandb` file."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, begun = path.read_bytes(), HEADER_BYTES, b""
    while at + FRAME_BYTES <= len(data):
        left = BLOCK_BYTES - at % BLOCK_BYTES
        if left < FRAME_BYTES:  # the end of a block is filled up
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        begun += data[at + FRAME_BYTES : at + FRAME_BYTES + length]
        at += FRAME_BYTES + length
        if kind in (WHOLE, LAST):
            yield Record.FromString(begun)
            begun = b""


def eventually(what: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """W&B's own process writes a moment later than its `finish` returns."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard would draw of a folder."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.*")):
        data = path.read_bytes()
        while data:  # a record: length (8 bytes), its checksum (4), the event, a checksum (4)
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            data = data[12 + length + 4 :]
            found += [
                (event.step, value.simple_value)
                for value in event.summary.value
                if value.tag == tag
            ]
    return sorted(found)
