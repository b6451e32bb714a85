"""Weights & Biases: config, curves, tables of progression with intervals, artifacts with lineage.

A run is one W&B run however often it is resumed: its id is in the run's folder before anything is
logged, and goes with the folder to other machines. Curves have axes of their own (`step`,
`seed-0/step`), for W&B's own counter only rises and would drop the loops after the first.
Without a key all is written to the folder, a part for each time that the run was gone on with, and
`sync_command` says how to send them. Artifacts: the tables and ledgers, the turns that adapters
were trained from, and the adapters, each saying from which turns and what the gate measured; an
adapter that the run played with is an input, by content, so that a trained one and its later uses
meet in W&B's graph (online; W&B links no inputs offline, where the summary names them).
"""

import json
import os
import re
import shlex
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from automem.tracking.base import ThreadedTracker, flat
from automem.tracking.origin import origin_of, selection_of

ID_FILE = "wandb-id"
MAX_ADAPTERS = 32
"""Adapters of one run that become artifacts."""
RECORDS = (
    "config.yaml",
    "summary.json",
    "results*.json",
    "seeds.jsonl",
    "**/ledger.jsonl",
    "**/lineage.jsonl",
)
"""What a run or a loop says of itself, beside its traces' tables."""
ROWS = {"arms": "arm", "nodes": "node"}
"""Parts of a loop's summary that are tables: name to fields; and what the name is of."""


def key_found() -> bool:
    """Whether a W&B key is at hand: the environment's, or the login's in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser().read_text()
    except OSError:
        return False
    return "api.wandb.ai" in netrc


def sync_command(run_dir: Path, shown: Path) -> str | None:
    """Sends all parts of an offline run, in their order; None where there are none. `shown`: the
    folder as the person calls it.

    `wandb sync` takes WANDB_RESUME as it takes all settings: with it the rows of a later part are
    numbered on from those before, without it they are numbered from 0 again."""
    if not any(run_dir.glob("wandb/offline-run-*")):
        return None
    return f"WANDB_RESUME=allow wandb sync {shlex.quote(str(shown))}/wandb/offline-run-*"


class WandbTracker(ThreadedTracker):
    """See the module's docstring."""

    name = "wandb"

    def __init__(
        self, settings: Mapping[str, Any], run_dir: Path, config: Mapping[str, Any]
    ) -> None:
        self._id = _id_of(run_dir)  # not in the thread: the run may be stored before that begins
        self._axes: set[str] = set()
        super().__init__(settings, run_dir, config)

    def on_start(self) -> None:
        import wandb

        mode: Any = self.settings.get("mode") or ("online" if key_found() else "offline")
        self._mode = mode
        if "weave" not in sys.modules:  # else it advertises itself, `silent` or not
            os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
        self._run: Any = wandb.init(
            project=self.settings.get("project") or "automem",
            entity=self.settings.get("entity"),
            mode=mode,
            tags=list(self.settings.get("tags") or []),
            group=self.settings.get("group"),
            name=self.run_dir.name,
            id=self._id,
            resume="allow" if mode == "online" else None,
            dir=str(self.run_dir),
            config=self.config,
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, disable_git=True
            ),
        )

    def on_log(self, values: dict[str, float], step: int, part: str) -> None:
        prefix = f"{part}/" if part else ""
        axis = f"{prefix}step"
        named = {f"{prefix}{name}": value for name, value in values.items()}
        for name in named.keys() - self._axes:
            self._axes.add(name)
            self._run.define_metric(name, step_metric=axis)
        self._run.log({**named, axis: step})

    def on_finish(self, summary: dict[str, Any]) -> None:
        if summary:
            values = flat(summary)
            self._run.log(dict(self._tables(summary, values)))
            self._run.summary.update(values)
            if self.settings.get("artifacts", True):
                self._log_artifacts()
        self._run.finish()

    def _tables(
        self, summary: Mapping[str, Any], values: Mapping[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        import wandb

        rows = [[name, str(value)] for name, value in values.items()]
        yield "summary", wandb.Table(columns=["metric", "value"], data=rows)
        figures = {"progression": summary.get("progression"), **(summary.get("metrics") or {})}
        known = [
            [name, each["mean"], *(each.get("ci95") or (None, None)), each.get("n")]
            for name, each in figures.items()
            if isinstance(each, Mapping) and each.get("mean") is not None
        ]
        if known:
            columns: list[str | int] = ["metric", "mean", "low95", "high95", "n"]
            yield "metrics", wandb.Table(columns=columns, data=known)
        found = {"seeds": summary.get("seeds") or [], "by_seed": summary.get("by_seed") or []}
        for part, of in ROWS.items():
            named = summary.get(part) or {}
            found[part] = [{of: name, **fields} for name, fields in named.items()]
        for title, each in found.items():
            if each:
                names: list[str | int] = list(each[0])
                data = [[row.get(name) for name in names] for row in each]
                yield title, wandb.Table(columns=names, data=data)

    def _log_artifacts(self) -> None:
        import wandb

        played = dict(self._adapters_played())
        self._run.summary.update({"adapters_played": sorted(played)})
        if self._mode == "online":  # offline there is no server that could link an input
            for name, folder in played.items():
                self._run.use_artifact(_artifact(wandb, name, "adapter", folder))
        self._run.log_artifact(self._traces(wandb))
        for card in sorted(self.run_dir.glob("**/adapter.json"))[:MAX_ADAPTERS]:
            self._log_adapter(wandb, card)

    def _traces(self, wandb: Any) -> Any:
        """Records and tables, where they are in the folder: a loop has many rollouts."""
        traces = wandb.Artifact(_safe(f"traces-{self.run_dir.name}"), type="traces")
        records = {path for pattern in RECORDS for path in self.run_dir.glob(pattern)}
        for path in sorted(records):
            traces.add_file(str(path), name=str(path.relative_to(self.run_dir)))
        for folder in sorted(self.run_dir.glob("**/tables/")):
            # What a finished episode left never changes: no copy is made to send it.
            _add(traces, folder, self.run_dir, policy="immutable")
        return traces

    def _log_adapter(self, wandb: Any, card: Path) -> None:
        """An adapter that the run trained, and before it the turns that it was trained from."""
        fields = json.loads(card.read_bytes())
        folder = card.parent / str(fields.get("path", "adapter"))
        if not folder.is_dir():
            return
        name = str(fields.get("name") or folder.name)
        known = dict(fields)
        if origin := origin_of(card.parent):
            known["origin"] = origin.plain()
        if selection := selection_of(card.parent):
            data = f"turns-{_safe(str(fields.get('dataset') or name))}"
            known["trained_from"] = data
            self._run.log_artifact(_artifact(wandb, data, "dataset", selection))
        self._run.log_artifact(_artifact(wandb, name, "adapter", folder, known))

    def _adapters_played(self) -> Iterator[tuple[str, Path]]:
        """Adapters that the run's engines had, as far as their folders are here."""
        try:
            run = json.loads((self.run_dir / "run.json").read_bytes())
        except FileNotFoundError:
            return
        for engine in run["spec"]["engines"].values():
            for name, folder in engine.get("adapters", {}).items():
                if Path(folder).is_dir():
                    yield name, Path(folder)


def _id_of(run_dir: Path) -> str:
    """The run's own, for ever."""
    path = run_dir / ID_FILE
    known = path.read_text().strip() if path.is_file() else ""
    if known:
        return known
    made = uuid.uuid4().hex[:12]
    with suppress(OSError):  # a folder that cannot be written to is for the run to tell of
        run_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(made + "\n")
    return made


def _artifact(
    wandb: Any, name: str, kind: str, folder: Path, card: Mapping[str, Any] | None = None
) -> Any:
    made = wandb.Artifact(_safe(name), type=kind, metadata=dict(card or {}))
    _add(made, folder, folder)
    return made


def _add(artifact: Any, folder: Path, root: Path, policy: str = "mutable") -> None:
    """All files of a folder, named from `root`; `add_dir` would print a line for each folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            artifact.add_file(str(path), name=str(path.relative_to(root)), policy=policy)


def _safe(name: str) -> str:
    """W&B's names hold letters, digits and _ - . only."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:128]
