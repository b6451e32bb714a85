"""LOG and PLAN: the turns of one step, from prompt to operations to a committed action.

The exact hand-over: PLAN consults with the memory role until its turn shows a commit, holds no
operation, or the limit is reached; the text is cut after its last whole operation, the fixed
hand-over message follows, and the gameplay role answers. It may still read, and must commit;
when it will not, the world's fallback action is committed and marked as such.
"""

import time
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from automem.agent.conversation import Conversation
from automem.agent.gating.decision import Depth
from automem.agent.guidance import Guidance
from automem.agent.hooks import NOTHING_HOOKED, Hooked, HookError, Hooks
from automem.agent.memories.recall import Recall
from automem.agent.memories.room import Recalled, recalled
from automem.agent.notices import facts_of
from automem.agent.prompts import Prompts
from automem.agent.record import SessionRecord
from automem.agent.recorder import LastStep
from automem.agent.results import cap_tokens
from automem.agent.roles import AgentOptions, Roles
from automem.agent.scaffold import Scaffold
from automem.agent.talk import Talk
from automem.agent.turns import (
    ParsedTurn,
    completion_of,
    cut_calls,
    deferred,
    read_turn,
    refuse,
)
from automem.engine.protocol import Completion, GenerateRequest, Message
from automem.errors import PlayerError
from automem.memory.dialects.base import Commit, Dialect, Item, Malformed
from automem.memory.execute import Executor, ResultLimits
from automem.memory.ops import Op, OpResult, OpStatus
from automem.memory.sandbox import Sandbox
from automem.seeds import derive
from automem.trace.events import (
    CommitSource,
    Committed,
    EpisodeStarted,
    Failed,
    OpDone,
    Role,
    Routine,
    Turn,
)

Answered = list[tuple[Item, OpResult]]


class Moment(msgspec.Struct, frozen=True):
    """What a routine is about: the present, and the steps just before it."""

    step: int
    observation: str
    changed: bool
    recent: tuple[LastStep, ...]


class RoutineRunner:
    """Runs the routines of one session; counts the turns of the step under way."""

    def __init__(
        self,
        spec: EpisodeStarted,
        scaffold: Scaffold,
        roles: Roles,
        dialect: Dialect,
        prompts: Prompts,
        record: SessionRecord,
        sandbox: Sandbox,
        options: AgentOptions,
        hooks: Hooks | None = None,
        recall: Recall | None = None,
    ) -> None:
        self._spec = spec
        self._schema = scaffold.schema
        self._roles = roles
        self._dialect = dialect
        self._prompts = prompts
        self._record = record
        self._sandbox = sandbox
        self._options = options
        self._hooks = hooks
        self._recall = recall
        self._guidance = Guidance(scaffold.schema, options.guided)
        self._files = {file.name: file for file in self._schema.files}
        self._executor = Executor(
            sandbox,
            ResultLimits(chars=self._schema.result_tokens * 8, lines=self._schema.result_lines),
            scaffold.separators,
        )
        self._step = -1
        self._turn = 0

    async def log(self, moment: Moment, depth: Depth) -> Answered:
        """Record what the last action did; errors that no turn has shown to the model yet."""
        talk = await self._open(Routine.LOG, moment, carried=[])
        unseen: Answered = []
        for _ in range(depth.turns(self._schema.log.max_turns)):
            if self._overflows(talk, Role.MEMORY):
                break
            parsed, completion, answered = await self._take_turn(talk, Role.MEMORY, moment.step)
            unseen = [pair for pair in answered if pair[1].status is OpStatus.ERROR]
            if parsed.is_done or parsed.is_idle:
                break
            talk.follow(completion, parsed.kept, self._messages(answered))
        return unseen

    async def plan(self, moment: Moment, carried: Answered, depth: Depth) -> Committed:
        """Consult memory, hand over, commit one game action.

        `carried` are errors of the LOG just before that the model has not been shown."""
        talk = await self._open(Routine.PLAN, moment, carried)
        if self._options.protocol == "one_role":
            return await self._commit(talk, moment.step, Role.MEMORY, self._schema.plan.max_turns)
        if self._options.has_memory and self._recall is None:
            await self._consult(talk, moment.step, depth.turns(self._schema.plan.max_turns))
        talk.say(await self._prompts.hand_over(forced=False))
        return await self._commit(talk, moment.step, Role.GAMEPLAY, self._schema.commit_turns)

    async def _consult(self, talk: Talk, step: int, turns: int) -> None:
        """The memory role reads until it shows a commit, gives no operation, or runs out."""
        for _ in range(turns):
            if self._overflows(talk, Role.MEMORY):
                return
            parsed, completion, answered = await self._take_turn(talk, Role.MEMORY, step)
            if parsed.is_idle:
                return
            talk.follow(completion, parsed.kept, self._messages(answered))
            if parsed.commit is not None or parsed.is_done:
                return

    async def _commit(self, talk: Talk, step: int, role: Role, turns: int) -> Committed:
        """`role` answers until it commits; the last turn accepts nothing else."""
        for remaining in range(turns - 1, -1, -1):
            is_forced = remaining == 0 and turns > 1
            if self._overflows(talk, role):
                talk.reopen()
                is_forced = True
            if is_forced:
                talk.say(await self._prompts.hand_over(forced=True))
            parsed, completion, answered = await self._take_turn(
                talk, role, step, is_forced, is_last=remaining == 0
            )
            if parsed.commit is not None and isinstance(parsed.commit.value, Commit):
                source = CommitSource.FORCED if is_forced else CommitSource.MODEL
                reasoning = completion.text[: parsed.commit.start].strip()
                return self._committed(step, parsed.commit.value.action, source, reasoning)
            if is_forced:
                break
            replies = self._messages(answered)
            talk.follow(completion, parsed.kept, replies)
        return self._committed(step, self._spec.fallback_action, CommitSource.FALLBACK, "")

    def _committed(self, step: int, action: str, source: CommitSource, reasoning: str) -> Committed:
        return Committed(
            step=step,
            action=action,
            source=source,
            reasoning=self._record.recorder.text(reasoning),
            time=time.time(),
        )

    async def _open(self, routine: Routine, moment: Moment, carried: Answered) -> Talk:
        """A routine's conversation; in a replay with the very prompt that the journal holds."""
        if moment.step != self._step:
            self._step, self._turn = moment.step, 0
        recorded = self._record.next_if(Turn)
        if recorded is not None:
            messages = [Message(role=role, content=text) for role, text in recorded.prompt]
            conversation = self._conversation(routine, messages)
        else:
            conversation = await self._opened(routine, moment)
        talk = Talk(routine, conversation, is_recalled=recorded is not None)
        for message in self._messages(carried):
            talk.say(message.content)
        return talk

    async def _opened(self, routine: Routine, moment: Moment) -> Conversation:
        """The conversation that the scaffold, and a rival memory, open the routine with."""
        hooked = await self._hooked(routine, moment)

        async def open_with(found: Recalled) -> Conversation:
            messages = await self._prompts.open(
                routine,
                self._sandbox,
                moment.observation,
                moment.changed,
                moment.recent,
                hooked,
                found.files,
            )
            return self._conversation(routine, [*messages, *found.messages])

        if self._recall is None:
            return await open_with(Recalled())
        is_plan = routine is Routine.PLAN
        roles = [self._roles.gameplay, self._roles.memory] if is_plan else [self._roles.memory]
        follow_up = await self._prompts.hand_over(forced=True) if is_plan else ""
        found = await recalled(self._recall, self._dialect, roles, open_with, follow_up)
        return await open_with(found)

    def _conversation(self, routine: Routine, messages: Sequence[Message]) -> Conversation:
        schema = self._schema.log if routine is Routine.LOG else self._schema.plan
        ops = schema.ops if self._options.has_memory else ()
        tools = self._dialect.tool_schemas(ops, routine is Routine.PLAN)
        roles = self._roles
        # A script or a chat engine may keep memory for an engine that takes tokens.
        renderer = roles.memory.renderer or (
            roles.gameplay.renderer if routine is Routine.PLAN else None
        )
        return Conversation(messages, renderer, tools)

    async def _hooked(self, routine: Routine, moment: Moment) -> Hooked:
        """What the scaffold's hooks say; where they fail, their notices are lost and no more."""
        if self._hooks is None or self._hooks.is_given_up:
            return NOTHING_HOOKED
        files = self._sandbox.listing() if self._options.has_memory else []
        try:
            return await self._hooks.ask(
                routine, facts_of(moment.recent, moment.observation, files)
            )
        except HookError as error:
            # Not the player's failure: that would end the episode.
            failed = Failed(moment.step, "hook", str(error), is_infrastructure=True)
            self._record.recorder.append(msgspec.structs.replace(failed, time=time.time()))
            return NOTHING_HOOKED

    def _overflows(self, talk: Talk, role: Role) -> bool:
        """Whether the prompt leaves no room for an answer; a first prompt must fit."""
        binding = self._roles.binding(role)
        if not binding.context_tokens:
            return False
        used = talk.conversation.count(binding.counter)
        room = binding.context_tokens - used
        if room >= min(binding.sampling.max_tokens, 16):
            return False
        if talk.turns == 0 and not talk.is_reopened:
            raise PlayerError(
                f"the prompt of {talk.routine} has {used} tokens; the model's window is "
                f"{binding.context_tokens}. Show fewer lines or shorten the scaffold's templates"
            )
        return True

    async def _take_turn(
        self,
        talk: Talk,
        role: Role,
        step: int,
        is_forced: bool = False,
        is_last: bool = False,
    ) -> tuple[ParsedTurn, Completion, Answered]:
        """One model call, recorded, and its operations carried out."""
        recorded = self._record.recall(Turn)
        seconds = 0.0
        if recorded is not None:
            completion = completion_of(recorded)
        else:
            seconds = time.perf_counter()
            completion = await self._generate(talk, role, step, is_forced)
            seconds = time.perf_counter() - seconds
        parsed = whole = read_turn(completion, self._dialect, talk.routine)
        if self._schema.defer_commit and not (is_forced or is_last):
            parsed = deferred(whole)
        if recorded is None:
            turn = self._turn_event(talk, role, step, completion, parsed, is_forced, seconds)
            self._record.recorder.append(turn)
        talk.note_turn(self._turn)
        if whole.commit is not None:
            completion = cut_calls(completion, whole.commit)
        answered = self._carry_out(talk, parsed, step, role, is_forced)
        self._turn += 1
        return parsed, completion, answered

    async def _generate(self, talk: Talk, role: Role, step: int, must_commit: bool) -> Completion:
        binding = self._roles.binding(role)
        spec = self._spec
        ids = talk.conversation.ids if binding.renderer is not None else None
        sampling = binding.sampling
        if binding.context_tokens and ids is not None:
            room = max(1, binding.context_tokens - len(ids))
            if room < sampling.max_tokens:
                sampling = msgspec.structs.replace(sampling, max_tokens=room)
        return await binding.engine.generate(
            GenerateRequest(
                id=f"{spec.episode}/{step}/{self._turn}",
                messages=tuple(talk.conversation.messages),
                prompt_ids=tuple(ids) if ids is not None else None,
                sampling=sampling,
                seed=derive(spec.run_seed, spec.episode, step, self._turn),
                adapter=binding.adapter,
                cache_salt=self._options.cache_salt,
                deadline_s=self._options.call_deadline_s,
                tools=talk.conversation.tools,
                grammar=self._guidance.grammar(talk.routine, must_commit),
            )
        )

    def _turn_event(
        self,
        talk: Talk,
        role: Role,
        step: int,
        completion: Completion,
        parsed: ParsedTurn,
        is_forced: bool,
        seconds: float,
    ) -> Turn:
        text = self._record.recorder.text
        shared, new = talk.new_messages()
        ids = talk.conversation.ids if self._roles.binding(role).renderer is not None else None
        commits = role is Role.GAMEPLAY or self._options.protocol == "one_role"
        kept = parsed.commit.end if parsed.commit is not None and commits else parsed.kept
        return Turn(
            step=step,
            turn=self._turn,
            routine=talk.routine,
            role=role,
            prompt=[(message.role, text(message.content)) for message in new],
            base_turn=talk.last_turn,
            shared=shared,
            completion=text(completion.text),
            kept=kept if kept < len(completion.text) else -1,
            adapter=self._roles.binding(role).adapter or "",
            token_ids=None if completion.token_ids is None else list(completion.token_ids),
            prompt_ids="" if ids is None else _ids_digest(ids),
            logprobs=None if completion.logprobs is None else list(completion.logprobs),
            finish_reason=completion.finish_reason,
            prompt_tokens=completion.prompt_tokens,
            cached_tokens=completion.cached_tokens,
            completion_tokens=completion.completion_tokens,
            malformed=[
                item.value.message for item in parsed.actions if isinstance(item.value, Malformed)
            ],
            forced=is_forced,
            seconds=seconds,
            tool_calls=[
                {"id": call.id, "name": call.name, "arguments": call.arguments}
                for call in completion.tool_calls
            ],
        )

    def _carry_out(
        self, talk: Talk, parsed: ParsedTurn, step: int, role: Role, is_forced: bool
    ) -> Answered:
        """Answer every item in text order; operations are recorded, then applied."""
        schema = self._schema.log if talk.routine is Routine.LOG else self._schema.plan
        allowed = schema.ops if self._options.has_memory else ()
        limits = schema.op_limits
        if role is Role.GAMEPLAY and talk.routine is Routine.PLAN and is_forced:
            return []
        binding = self._roles.binding(role)
        answered: Answered = []
        for index, item in enumerate(parsed.actions):
            refusal = refuse(item, index, allowed, self._schema.ops_per_turn)
            if not isinstance(item.value, Op):
                if refusal is not None:
                    answered.append((item, refusal))
                continue
            refusal = refusal or talk.refuse(item.value, limits, self._files)
            recorded = self._record.recall(OpDone)
            if recorded is not None:
                answered.append((item, recorded.result))
                continue
            result, edit = (refusal, None) if refusal else self._executor.plan(item.value)
            result = cap_tokens(result, self._schema.result_tokens, binding.counter)
            self._record.record_op(
                OpDone(
                    step=step,
                    turn=self._turn,
                    index=index,
                    op=item.value,
                    result=result,
                    edit=edit,
                )
            )
            answered.append((item, result))
        return answered

    def _messages(self, answered: Answered) -> list[Message]:
        return (
            [
                Message(role=reply.role, content=reply.content, tool_call_id=reply.tool_call_id)
                for reply in self._dialect.answer(answered)
            ]
            if answered
            else []
        )


def _ids_digest(ids: Sequence[int]) -> str:
    return blake2b(b"".join(i.to_bytes(4, "little") for i in ids), digest_size=8).hexdigest()
