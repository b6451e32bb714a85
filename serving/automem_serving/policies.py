"""Which policy answers: names to versions, versions to the parts of a session.

Each replica keeps its own view of the aliases. Promise: an alias moves in that view only after the
replica has loaded the version's adapter, so no request waits for a switch; what was resolved once
stays as it is, so requests under way and episodes finish on the version that they began with. A
version that cannot be served here (another base model, a broken adapter) leaves the alias where it
was, and `problems` says why.
"""

import asyncio
import dataclasses
import logging
from pathlib import Path
from typing import Any

import msgspec

from automem.engine.protocol import Engine
from automem.errors import AutoMemError, EngineRequestError, UsageError
from automem.registry import (
    ALIASES,
    CANARY,
    CURRENT,
    AliasMove,
    PolicyVersion,
    Registry,
    takes_canary,
)
from automem.rollout.parts import Parts, build_parts
from automem.rollout.spec import Deadlines, RoleSpec, RolloutSpec, WorldSpec
from automem_serving.problems import ApiError, not_found
from automem_serving.settings import ServedSpec

_ENGINE = "base"
_log = logging.getLogger("automem.serving")


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What a model name of the completions API stands for."""

    adapter: str | None
    version: str
    """Name that the answer carries: of the version, the adapter or the base model."""


class Policies:
    """See the module's docstring."""

    def __init__(self, spec: ServedSpec, registry: Registry, engine: Engine) -> None:
        self.engine = engine
        self.registry = registry
        self.model = ""
        """Name of the base model; known once started."""
        self.active: dict[str, AliasMove] = {}
        """Where this replica has the aliases."""
        self.problems: dict[str, str] = {}
        """Per alias: why it is not where the registry has it."""
        self._spec = spec
        self._parts: dict[tuple[str, str, str], Parts] = {}
        self._versions: dict[str, PolicyVersion] = {}
        self._loaded: set[str] = set()
        """Adapters that the engine has."""

    async def start(self) -> None:
        """Wait for the engine; take the aliases over; where the registry is empty, publish the
        base with the default scaffold. UsageError where `current` cannot be served."""
        self.model = (await self.engine.capabilities()).model
        if CURRENT not in self.registry.aliases():
            await asyncio.to_thread(self._publish_first)
        await self.refresh()
        if CURRENT not in self.active:
            raise UsageError(
                f"no policy can be served: {self.problems.get(CURRENT, 'none is set')}"
            )

    async def refresh(self) -> None:
        """Follow the registry: load first, then switch."""
        aliases = await asyncio.to_thread(self.registry.aliases)
        self._versions = await asyncio.to_thread(self.registry.versions)
        for alias in (alias for alias in ALIASES if alias not in aliases):
            self.active.pop(alias, None)
            self.problems.pop(alias, None)
        for alias, move in aliases.items():
            if self.active.get(alias) == move:
                continue
            try:
                await self.load(self.version(move.version))
            except AutoMemError as error:
                self.problems[alias] = str(error)
            else:
                self.active[alias] = move
                self.problems.pop(alias, None)

    async def watch(self) -> None:
        """Follow the registry for ever."""
        while True:
            await asyncio.sleep(self._spec.settings.poll_s)
            try:
                await self.refresh()
            except (AutoMemError, OSError) as error:
                self.problems["registry"] = str(error)
            else:
                self.problems.pop("registry", None)

    async def load(self, version: PolicyVersion) -> PolicyVersion:
        """`version`, once this replica's engine can answer with it. UsageError where it cannot."""
        if version.model != self.model:
            raise UsageError(
                f"policy {version.name} is of the base model {version.model!r}; this server has "
                f"{self.model!r}"
            )
        if version.adapter and version.adapter not in self._loaded:
            path = str(self.registry.path(version.adapter_folder).resolve())
            await self._load_adapter(version, path)
            self._loaded.add(version.adapter)
        return version

    async def _load_adapter(self, version: PolicyVersion, path: str) -> None:
        try:
            await self.engine.load_adapter(version.adapter, path)
        except EngineRequestError as error:
            _log.error("policy %s: %s", version.name, error)  # it names folders of this machine
            raise UsageError(
                f"the adapter of policy {version.name} does not fit this server's engine; its log "
                "says why"
            ) from error

    def version(self, name: str) -> PolicyVersion:
        """A published version; UsageError where there is none."""
        if name not in self._versions:
            self._versions = self.registry.versions()
        return self._versions[name] if name in self._versions else self.registry.version(name)

    def resolve(self, name: str, key: str) -> PolicyVersion:
        """The version that `name` (a version or an alias) means for the work called `key`: of
        what goes to `current`, `canary` takes its share. 404 where there is none."""
        canary = self.active.get(CANARY)
        if name == CURRENT and canary is not None and takes_canary(canary.share, key):
            name = CANARY
        if name in self.active:
            return self.version(self.active[name].version)
        try:
            return self.version(name)
        except UsageError:
            raise not_found(f"policy: {name}") from None

    async def target(self, name: str, key: str) -> Target:
        """What the completions API answers with for a model's name, loaded. 404 as `resolve`."""
        if name == self.model:
            return Target(None, self.model)
        by_adapter = [v for v in self._versions.values() if name and v.adapter == name]
        version = by_adapter[0] if by_adapter else self.resolve(name, key)
        await self.load(version)
        return Target(version.adapter or None, name if by_adapter else version.name)

    def names(self) -> list[str]:
        """Every name that `target` knows: base model, aliases, versions, adapters."""
        servable = [v for v in self._versions.values() if v.model == self.model]
        adapters = {v.adapter: None for v in servable if v.adapter}
        return [self.model, *sorted(self.active), *(v.name for v in servable), *adapters]

    async def parts(self, version: PolicyVersion, scaffold_folder: str, tenant: str) -> Parts:
        """What sessions of this version, scaffold and tenant share; a cache salt of their own.
        Tenants share the scaffold, and with it the process that renders it."""
        key = (version.name, version.adapter, scaffold_folder)
        if key not in self._parts:
            await self.load(version)
            self._parts[key] = await build_parts(
                self._rollout(version, scaffold_folder), {_ENGINE: self.engine}
            )
        built, salt = self._parts[key], f"{tenant}/{version.name}"
        return dataclasses.replace(
            built, options=msgspec.structs.replace(built.options, cache_salt=salt)
        )

    def keep_scaffold(self, name: str) -> tuple[str, str]:
        """A registered scaffold's (`name@digest`, folder in the registry); 422 for others."""
        if name in self._spec.scaffolds:
            return self.registry.keep_scaffold(Path(self._spec.scaffolds[name]))
        registered = self.registry.scaffolds()
        if name not in registered:
            known = ", ".join(sorted({*self._spec.scaffolds, *registered})) or "none"
            raise ApiError(
                422, "unknown_scaffold", f"no scaffold of that name is registered: {known}"
            )
        return registered[name].scaffold, registered[name].folder

    def _publish_first(self) -> None:
        """The untouched base with the first registered scaffold, as `current`."""
        [folder, *_] = self._spec.scaffolds.values()
        version = self.registry.publish(self.model, Path(folder), note="the base, as first served")
        try:
            self.registry.promote(version.name, expected_revision=0, by="automem serve")
        except UsageError:  # another replica was first
            return

    def _rollout(self, version: PolicyVersion, scaffold_folder: str) -> RolloutSpec:
        """The same agent, spelled as a rollout spells it."""
        sampling: dict[str, Any] = self._spec.sampling
        agent = self._spec.agent
        if version.gate:
            agent = {**agent, "gate": str(self.registry.path(version.gate_folder).resolve())}
        return RolloutSpec(
            world=WorldSpec(name="served", target={}),
            engines={},
            memory=RoleSpec(_ENGINE, adapter=version.adapter or None, sampling=sampling),
            gameplay=RoleSpec(_ENGINE, sampling=sampling),
            scaffold=str(self.registry.path(scaffold_folder)),
            episodes=(),
            agent=agent,
            policy=version.name,
            deadlines=Deadlines(call_s=self._spec.settings.call_s),
        )
