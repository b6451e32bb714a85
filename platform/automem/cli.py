"""The command line: finds the command, runs it, and turns errors into one clear message.

Promise: starting costs no heavy import (a command loads its own parts); a person's mistake is one
message without a traceback. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 episodes are pending
(`automem resume`), 130 stopped with Ctrl-C. Other packages add commands through the entry-point
group `automem.commands`: a function from the arguments after the command's name to an exit code.
"""

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from automem.checkout import prefer_checkout
from automem.errors import AutoMemError, UsageError
from automem.suggest import no_such

FAILED, USAGE, PENDING, INTERRUPTED = 1, 2, 3, 130

Command = Callable[[list[str]], int]


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: where its function is, and what it does in one line."""

    target: str
    """`module:function`."""
    summary: str


COMMANDS = {
    "tour": Entry("automem.tour:main", "the whole thing in a few minutes: games, memory, a report"),
    "rollout": Entry("automem.commands.rollout:main", "play episodes; -m sweeps over values"),
    "resume": Entry("automem.commands.resume:main", "finish a run that was stopped or killed"),
    "proficiency": Entry(
        "automem.commands.proficiency:main", "train memory specialists, judge them, one table"
    ),
    "run": Entry("automem.commands.run:main", "both loops, then one table with the rival memories"),
    "submit": Entry("automem.commands.submit:main", "run a command as a job on a Ray cluster"),
    "jobs": Entry("automem.commands.jobs:main", "submitted jobs: list, follow, stop, fetch"),
    "evolve": Entry("automem.commands.evolve:main", "let a reviewer improve the scaffold, gated"),
    "lineage": Entry("automem.commands.evolve:lineage", "the scaffold's versions: tree and diffs"),
    "finalize": Entry("automem.commands.evolve:finalize", "the champion on the final seeds, once"),
    "report": Entry("automem.commands.inspect:report", "write a run's report.html again"),
    "compare": Entry("automem.commands.compare:main", "runs or a sweep side by side: table, page"),
    "show": Entry("automem.commands.inspect:show", "one episode, step by step, with its memory"),
    "query": Entry("automem.commands.inspect:query", "SQL over a run's traces"),
    "failures": Entry("automem.commands.failures:main", "clusters of failures, and how scattered"),
    "audit": Entry("automem.commands.audit:main", "is what memory deleted forgotten? facts, asked"),
    "forget": Entry("automem.commands.forget:main", "take a fact out of everything a run stored"),
    "gc": Entry("automem.commands.gc:main", "remove what old runs need no more"),
    "export": Entry("automem.commands.export:main", "an adapter or merged model with its card"),
    "doctor": Entry("automem.doctor:main", "what works on this machine and what to do"),
    "completion": Entry("automem.commands.completion:main", "tab completion: bash, zsh or fish"),
}

USAGE_TEXT = """\
AutoMem: language models learn memory as a skill.

usage: automem COMMAND [arguments]        automem COMMAND --help shows examples

{commands}
examples:
  automem tour
  automem rollout env=crafter engine=scripted rollout.workers=2
  automem rollout -m env=crafter,concentration engine=scripted
  automem show RUN EPISODE --step 19
  automem query RUN "select episode, progression from episodes"

--version prints the version; RUN is the folder that a rollout names at its end.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    prefer_checkout(arguments)
    if not arguments or arguments[0] in ("help", "-h", "--help"):
        topic = next((word for word in arguments[1:] if not word.startswith("-")), None)
        if topic is None:
            print(usage())
            return 0
        arguments = [topic, "--help"]
    if arguments[0] in ("version", "--version", "-V"):
        print(f"automem {importlib.metadata.version('automem')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    try:
        return load(name)(rest)
    except UsageError as error:
        say_error(str(error))
        return USAGE
    except AutoMemError as error:
        say_error(str(error))
        return FAILED
    except KeyboardInterrupt:
        say_error("stopped")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `automem show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:  # a full disk, a file where a folder is needed: the system says it
        say_error(f"{error.filename or 'the system refused'}: {error.strerror or error}")
        return FAILED


def load(name: str) -> Command:
    """The function of a command; UsageError where there is none of that name."""
    if name in COMMANDS:
        module, _, function = COMMANDS[name].target.partition(":")
        return getattr(importlib.import_module(module), function)
    more = extra_commands()
    if name in more:
        return more[name].load()
    raise UsageError(no_such("command", name, [*COMMANDS, *more]))


def extra_commands() -> dict[str, importlib.metadata.EntryPoint]:
    """Commands that installed packages add."""
    points = importlib.metadata.entry_points(group="automem.commands")
    return {point.name: point for point in points if point.name not in COMMANDS}


def usage() -> str:
    """What `automem --help` prints."""
    lines = [f"  {name:<12}{entry.summary}" for name, entry in COMMANDS.items()]
    for name, point in sorted(extra_commands().items()):
        package = point.value.partition(".")[0]
        lines.append(f"  {name:<12}from {package}; see automem {name} --help")
    return USAGE_TEXT.format(commands="\n".join(lines) + "\n").rstrip()


def say_error(message: str) -> None:
    """One message on the error stream, red on a terminal."""
    is_coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    before, after = ("\033[1;31m", "\033[0m") if is_coloured else ("", "")
    print(f"{before}automem: {message}{after}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
