"""Deciders: who chooses the next recipe from the ledger.

`fixed` carries a list out; `search` asks an optimiser over a declared space; `reviewer` asks a
strong model, whose answer is checked like anybody's. A decider sees finished rounds and nothing
else: what it decided is in the ledger before it is carried out, so a killed loop never asks twice.
"""

import asyncio
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from automem.engine.protocol import Engine, GenerateRequest, Message, Sampling
from automem.errors import UsageError
from automem.loops.gate import Verdict
from automem.loops.ledger import Trial
from automem.loops.recipes import Recipe, read_recipe
from automem.seeds import derive
from automem.suggest import no_such


class Decision(msgspec.Struct, frozen=True):
    """A recipe and why."""

    recipe: Recipe
    reason: str


_BOUNDS = ("low", "high", "log")
_ASKS = 50
"""Draws from a space before it is given up."""

Check = Callable[[Recipe], None]
"""Raises UsageError for a recipe that could not be carried out."""


class Decider(Protocol):
    """Chooses. The same trials give the same decision, but for a model's."""

    name: str

    def choose(self, trials: Sequence[Trial], check: Check) -> Decision:
        """The next recipe; it has passed `check`."""
        ...


class FixedDecider:
    """The recipes of a list, one a round; the last one again when they are used up."""

    name = "fixed"

    def __init__(self, recipes: Sequence[Mapping[str, Any]]) -> None:
        if not recipes:
            raise UsageError("decider.recipes needs at least one recipe")
        self._recipes = [
            read_recipe(recipe, f"decider.recipes[{number}]")
            for number, recipe in enumerate(recipes)
        ]

    def choose(self, trials: Sequence[Trial], check: Check) -> Decision:
        """See `Decider`."""
        for recipe in self._recipes if not trials else ():
            check(recipe)  # a wrong one further down is told now, not after its predecessors
        number = min(len(trials), len(self._recipes) - 1)
        check(self._recipes[number])
        return Decision(self._recipes[number], f"recipe {number + 1} of the list")


class SearchDecider:
    """Optuna's tree-structured Parzen estimator over a declared space.

    A trial's value is the gain over the champion of its day, so values of different rounds are
    alike only as long as the champion stays; what could not be trained counts as the loss of
    everything. `first` is tried first: a search should begin with what is known to work."""

    name = "search"

    def __init__(
        self, first: Mapping[str, Any], space: Mapping[str, Any], seed: int = 0, random: int = 3
    ) -> None:
        """`space`: dotted field of a recipe (`trainings.0.learning_rate`) to a list of choices, or
        to `{low, high, log}`. `random`: rounds before the estimator is trusted."""
        self._first = dict(first)
        read_recipe(self._first, "decider.first")
        self._space = dict(space)
        self._seed = seed
        self._random = random
        self._distributions()

    def choose(self, trials: Sequence[Trial], check: Check) -> Decision:
        """See `Decider`."""
        if not trials:
            recipe = read_recipe(self._first, "decider.first")
            check(recipe)
            for name, values in self._space.items():
                for value in _ends(values):
                    check(self._with({name: value}))
            return Decision(recipe, "the first one, as declared")
        study, known = self._study(trials)
        wrong: UsageError | None = None
        for _ in range(_ASKS):
            asked = study.ask(self._distributions())
            recipe = self._with(asked.params)
            try:
                check(recipe)
            except UsageError as error:  # some values may not go together
                wrong = error
                continue
            values = ", ".join(f"{name}={value}" for name, value in asked.params.items())
            how = "drawn at random" if known < self._random else "the estimator's"
            return Decision(recipe, f"{how}, from {known} rounds: {values}")
        raise UsageError(f"decider.space: {_ASKS} draws gave no recipe that can be used ({wrong})")

    def _study(self, trials: Sequence[Trial]) -> tuple[Any, int]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=derive(self._seed, "search", len(trials)) % 2**32,
                n_startup_trials=self._random,
            )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        known = 0
        for trial in trials:
            params = self._params_of(trial.recipe)
            if params is None:
                continue
            study.add_trial(
                optuna.trial.create_trial(
                    params=params, distributions=self._distributions(), value=_value_of(trial)
                )
            )
            known += 1
        return study, known

    def _distributions(self) -> dict[str, Any]:
        from optuna import distributions

        found: dict[str, Any] = {}
        for name, values in self._space.items():
            if isinstance(values, list | tuple) and values:
                with warnings.catch_warnings():
                    # Its storage would not keep mappings and lists; ours is the ledger.
                    warnings.simplefilter("ignore", category=UserWarning)
                    found[name] = distributions.CategoricalDistribution(list(values))
                continue
            if not isinstance(values, Mapping) or not {"low", "high"} <= set(values):
                raise UsageError(
                    f"decider.space.{name} must be a list of choices or {{low, high, log}}, got "
                    f"{values!r}"
                )
            for field in values:
                if field not in _BOUNDS:
                    raise UsageError(no_such(f"field of decider.space.{name}", str(field), _BOUNDS))
            is_whole = isinstance(values["low"], int) and isinstance(values["high"], int)
            kind = distributions.IntDistribution if is_whole else distributions.FloatDistribution
            try:
                found[name] = kind(
                    values["low"], values["high"], log=bool(values.get("log", False))
                )
            except (ValueError, TypeError) as error:
                raise UsageError(f"decider.space.{name}: {error}") from None
        return found

    def _with(self, params: Mapping[str, Any]) -> Recipe:
        """The first recipe with these values in the place of its own."""
        fields = msgspec.json.decode(msgspec.json.encode(read_recipe(self._first)))
        for name, value in params.items():
            _put(fields, name, value)
        return read_recipe(fields, "a recipe of decider.space")

    def _params_of(self, recipe: Recipe) -> dict[str, Any] | None:
        """Where a recipe lies in the space; None where it lies outside."""
        from optuna.distributions import IntDistribution

        fields = msgspec.to_builtins(recipe)
        params = {}
        for name, distribution in self._distributions().items():
            try:
                value = _get(fields, name)
                internal = distribution.to_internal_repr(value)
            except (KeyError, IndexError, ValueError, TypeError):
                return None
            low, high = (
                getattr(distribution, "low", internal),
                getattr(distribution, "high", internal),
            )
            is_whole = isinstance(distribution, IntDistribution)
            if not low <= internal <= high or (is_whole and internal != int(internal)):
                return None
            params[name] = value
        return params


class ReviewerDecider:
    """A strong model reads the ledger and answers with a recipe, which is checked; a wrong one goes
    back to it with what is wrong. Where it gives none, the best recipe so far is tried again."""

    name = "reviewer"

    def __init__(
        self,
        engine: Engine,
        first: Mapping[str, Any],
        attempts: int = 3,
        max_tokens: int = 2000,
        deadline_s: float = 300.0,
    ) -> None:
        """`first`: the recipe of the first round, and the example that the model is shown."""
        self._engine = engine
        self._first = read_recipe(first, "decider.first")
        self._attempts = attempts
        self._sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
        self._deadline_s = deadline_s

    def choose(self, trials: Sequence[Trial], check: Check) -> Decision:
        """See `Decider`; EngineError where the model cannot be reached."""
        if not trials:
            check(self._first)
            return Decision(self._first, "the first one, as declared")
        return asyncio.run(self._ask(trials, check))

    async def _ask(self, trials: Sequence[Trial], check: Check) -> Decision:
        messages = [
            Message("system", _INSTRUCTION + _schema_text()),
            Message("user", _told(trials)),
        ]
        for attempt in range(self._attempts):
            completion = await self._engine.generate(
                GenerateRequest(
                    id=f"decide/{len(trials)}/{attempt}",
                    messages=tuple(messages),
                    sampling=self._sampling,
                    seed=derive("decide", len(trials), attempt),
                    deadline_s=self._deadline_s,
                )
            )
            try:
                decision = _read_decision(completion.text)
                check(decision.recipe)
            except UsageError as error:
                messages += [
                    Message("assistant", completion.text),
                    Message("user", f"That cannot be carried out: {error}\nAnswer again."),
                ]
                continue
            return decision
        best = max(trials, key=_value_of)
        return Decision(
            best.recipe,
            f"the reviewer gave no recipe in {self._attempts} answers: round {best.round}'s again",
        )


_OBJECT = re.compile(r"\{.*\}", re.DOTALL)
_INSTRUCTION = """\
You choose how a memory specialist is trained next. An agent plays long games and sees only the
present; its memory role keeps files. In each round its turns are selected from episodes and a LoRA
adapter is trained on them; a gate decides by fresh games whether it replaces the champion.
You are shown every finished round: recipe, turns selected, verdict and gain. Choose the next one's.
Answer with one JSON object and nothing else: {"reason": "one sentence", "recipe": {...}}
The recipe's schema:
"""


def _schema_text() -> str:
    return json.dumps(msgspec.json.schema(Recipe), indent=1)


def _told(trials: Sequence[Trial]) -> str:
    return "\n".join(
        json.dumps(
            {
                "round": trial.round,
                "recipe": msgspec.to_builtins(trial.recipe),
                "turns": trial.turns,
                "verdict": trial.closed.verdict or "nothing was trained",
                "accepted": trial.closed.verdict == Verdict.ACCEPTED,
                "gain": trial.closed.gain,
                "reason": trial.closed.reason,
            }
        )
        for trial in trials
    )


def _read_decision(text: str) -> Decision:
    found = _OBJECT.search(text)
    try:
        answer = msgspec.json.decode(found[0]) if found else None
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"the answer is no JSON ({error})") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("recipe"), dict):
        raise UsageError('the answer must be {"reason": "...", "recipe": {...}}')
    return Decision(read_recipe(answer["recipe"]), str(answer.get("reason", "")))


def _value_of(trial: Trial) -> float:
    """The gain; what could not be trained is worth the loss of everything."""
    return trial.closed.gain if trial.closed.gain is not None else -1.0


def _ends(values: Any) -> list[Any]:
    """Every choice, or both bounds: what they allow, all between them does."""
    return [values["low"], values["high"]] if isinstance(values, Mapping) else list(values)


def _get(fields: Any, name: str) -> Any:
    for part in name.split("."):
        fields = fields[int(part)] if isinstance(fields, list | tuple) else fields[part]
    return fields


def _put(fields: Any, name: str, value: Any) -> None:
    """Set a dotted field; what a training leaves to its defaults is made on the way."""
    *path, last = name.split(".")
    inside: Any = fields
    for number, part in enumerate([*path, last], 1):
        is_last = number > len(path)
        if isinstance(inside, list) and part.isdecimal() and int(part) < len(inside):
            key: Any = int(part)
        elif isinstance(inside, dict):
            key = part
            inside.setdefault(key, {})
        else:
            raise UsageError(
                f"decider.space.{name}: the recipe has no {'.'.join([*path, last][:number])}"
            )
        if is_last:
            inside[key] = value
        inside = inside[key]
