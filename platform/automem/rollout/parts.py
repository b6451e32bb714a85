"""What all episodes of a worker share, and how a session is put together from it.

Built once per worker, from specs alone: scaffold, engines with their tokenizers, roles, options.
`build_session` is the one place where an `AgentSession` is made for a rollout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from automem.agent.hooks import make_hooks
from automem.agent.recorder import History, Recorder
from automem.agent.roles import AgentOptions, RoleBinding, Roles
from automem.agent.scaffold import Scaffold, load_scaffold
from automem.agent.session import AgentSession
from automem.engine.protocol import Engine, Sampling
from automem.engine.render import ApproximateCounter, ChatRenderer
from automem.errors import ScaffoldError, UsageError
from automem.memory.sandbox import Quota, Sandbox
from automem.rollout.guarded_world import GuardedWorld
from automem.rollout.segments import SegmentStore
from automem.rollout.spec import EpisodeKey, RoleSpec, RolloutSpec
from automem.trace.events import SCHEMA, EpisodeStarted


@dataclass(frozen=True, slots=True)
class Parts:
    """See the module's docstring."""

    spec: RolloutSpec
    roles: Roles
    options: AgentOptions
    model: str
    """Name of the base model of the gameplay role."""
    scaffold: Scaffold | ScaffoldError
    """A scaffold that does not load is the player's failure in every episode, not the worker's."""
    store: SegmentStore | None = None
    """Where journals are copied to."""

    def loaded_scaffold(self) -> Scaffold:
        """The scaffold, or the ScaffoldError that loading it raised."""
        if isinstance(self.scaffold, ScaffoldError):
            raise self.scaffold
        return self.scaffold

    @property
    def quota(self) -> Quota:
        if isinstance(self.scaffold, ScaffoldError):
            return Quota()
        schema = self.scaffold.schema
        return Quota(schema.max_files, schema.max_file_bytes, schema.max_total_bytes)


async def build_parts(spec: RolloutSpec, engines: Mapping[str, Engine]) -> Parts:
    """Everything but the episodes. EngineError where an engine does not come up."""
    try:
        scaffold: Scaffold | ScaffoldError = load_scaffold(Path(spec.scaffold))
    except ScaffoldError as error:
        scaffold = error
    options = msgspec.convert(
        {"call_deadline_s": spec.deadlines.call_s, **spec.agent}, AgentOptions, strict=False
    )
    if isinstance(scaffold, Scaffold):
        make_hooks(scaffold.hooks, options.hooks)  # what is wrong is said once, not per episode
    capabilities = await engines[spec.gameplay.engine].capabilities()
    memory = await engines[spec.memory.engine].capabilities()
    if options.guided and not (capabilities.guided and memory.guided):
        raise UsageError(
            "agent.guided=true needs an engine that keeps to a grammar, such as engine=vllm"
        )
    return Parts(
        spec=spec,
        roles=Roles(
            memory=await _bind(spec.memory, engines),
            gameplay=await _bind(spec.gameplay, engines),
        ),
        options=options,
        model=capabilities.model,
        scaffold=scaffold,
        store=SegmentStore(spec.segments_url) if spec.segments_url else None,
    )


async def _bind(role: RoleSpec, engines: Mapping[str, Engine]) -> RoleBinding:
    engine = engines[role.engine]
    capabilities = await engine.capabilities()
    sampling = msgspec.convert(role.sampling, Sampling, strict=False)
    if not capabilities.token_ids:
        return RoleBinding(
            engine=engine,
            counter=ApproximateCounter(),
            adapter=role.adapter,
            sampling=sampling,
            context_tokens=capabilities.context_tokens,
        )
    renderer = ChatRenderer(capabilities.tokenizer)
    return RoleBinding(
        engine=engine,
        counter=renderer,
        renderer=renderer,
        adapter=role.adapter,
        sampling=sampling,
        context_tokens=capabilities.context_tokens,
    )


def episode_started(parts: Parts, key: EpisodeKey, world: GuardedWorld) -> EpisodeStarted:
    """The first record of a fresh episode: everything that decides its trace."""
    spec = parts.spec
    scaffold = parts.scaffold
    version = "broken" if isinstance(scaffold, ScaffoldError) else scaffold.version
    adapters = [role.adapter for role in (spec.memory, spec.gameplay) if role.adapter]
    policy = "+".join([parts.model, version, *adapters, *parts.options.additions])
    return EpisodeStarted(
        schema=SCHEMA,
        episode=spec.episode_id(key),
        world=spec.world.name,
        seed=key.seed,
        replicate=key.replicate,
        run_seed=spec.run_seed,
        max_steps=spec.max_steps or world.max_steps,
        policy=spec.policy or policy,
        scaffold="" if isinstance(scaffold, ScaffoldError) else scaffold.digest,
        instruction=world.instruction,
        fallback_action=world.fallback_action,
    )


def build_session(
    parts: Parts,
    started: EpisodeStarted,
    sandbox: Sandbox,
    recorder: Recorder,
    history: History | None,
) -> AgentSession:
    """The agent of one attempt at an episode. PlayerError where its scaffold is at fault."""
    return AgentSession(
        spec=started,
        scaffold=parts.loaded_scaffold(),
        roles=parts.roles,
        sandbox=sandbox,
        recorder=recorder,
        options=parts.options,
        history=history,
    )
