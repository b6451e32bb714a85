"""Weights & Biases: config, curves, tables of progression with intervals, artifacts with lineage.

A run is one W&B run however often it is resumed: its id is kept in the run's folder. Without a key
it writes to the folder too; `wandb sync RUN/wandb/offline-run-*` sends that later (the parts of a
resumed run in their order, with `--append`). Artifacts: the run's tables and configuration, and the
adapters that it trained; an adapter that it played with is an input, by content, so that a trained
one and its later uses meet in W&B's graph (online; W&B links no inputs offline, where the summary
names them).
"""

import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from automem.tracking.base import ThreadedTracker, flat

ID_FILE = "wandb-id"
MAX_ADAPTERS = 32
"""Adapters of one run that become artifacts."""


def key_found() -> bool:
    """Whether a W&B key is at hand: the environment's, or the login's in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser().read_text()
    except OSError:
        return False
    return "api.wandb.ai" in netrc


class WandbTracker(ThreadedTracker):
    """See the module's docstring."""

    name = "wandb"

    def on_start(self) -> None:
        import wandb

        mode: Any = self.settings.get("mode") or ("online" if key_found() else "offline")
        self._mode = mode
        self._run: Any = wandb.init(
            project=self.settings.get("project") or "automem",
            entity=self.settings.get("entity"),
            mode=mode,
            tags=list(self.settings.get("tags") or []),
            group=self.settings.get("group"),
            name=self.run_dir.name,
            id=self._id(),
            resume="allow" if mode == "online" else None,
            dir=str(self.run_dir),
            config=self.config,
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, disable_git=True
            ),
        )

    def on_log(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def on_finish(self, summary: dict[str, Any]) -> None:
        values = flat(summary)
        self._run.log(dict(self._tables(summary, values)))
        self._run.summary.update(values)
        if self.settings.get("artifacts", True):
            self._log_artifacts()
        self._run.finish()

    def _id(self) -> str:
        """The run's own, for ever."""
        path = self.run_dir / ID_FILE
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            made = uuid.uuid4().hex[:12]
            self.run_dir.mkdir(parents=True, exist_ok=True)
            path.write_text(made + "\n")
            return made

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
        if seeds := summary.get("seeds"):
            names: list[str | int] = list(seeds[0])
            data = [[row.get(name) for name in names] for row in seeds]
            yield "seeds", wandb.Table(columns=names, data=data)

    def _log_artifacts(self) -> None:
        import wandb

        played = dict(self._adapters_played())
        self._run.summary.update({"adapters_played": sorted(played)})
        if self._mode == "online":  # offline there is no server that could link an input
            for name, folder in played.items():
                self._run.use_artifact(_artifact(wandb, name, "adapter", folder))
        traces = wandb.Artifact(_safe(f"traces-{self.run_dir.name}"), type="traces")
        for name in ("config.yaml", "summary.json", "results.json", "ledger.jsonl"):
            if (self.run_dir / name).is_file():
                traces.add_file(str(self.run_dir / name))
        if (self.run_dir / "tables").is_dir():
            traces.add_dir(str(self.run_dir / "tables"), name="tables")
        self._run.log_artifact(traces)
        cards = sorted(self.run_dir.glob("**/adapter.json"))[:MAX_ADAPTERS]
        for card in cards:
            fields = json.loads(card.read_bytes())
            folder = card.parent / str(fields.get("path", "adapter"))
            if folder.is_dir():
                name = str(fields.get("name") or folder.name)
                self._run.log_artifact(_artifact(wandb, name, "adapter", folder, fields))

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


def _artifact(
    wandb: Any, name: str, kind: str, folder: Path, card: Mapping[str, Any] | None = None
) -> Any:
    made = wandb.Artifact(_safe(name), type=kind, metadata=dict(card or {}))
    made.add_dir(str(folder))
    return made


def _safe(name: str) -> str:
    """W&B's names hold letters, digits and _ - . only."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:128]
