"""`automem completion`: scripts for the shells, and the candidates that they ask for.

Promise: candidates come from the same tree as the configuration, the line's own choices of groups
and its `--config-dir` included; a line that does not compose gets none, never an error. Folders
and files are left to the shell.
"""

import shlex

from automem.cli import COMMANDS, extra_commands
from automem.commands.arguments import Parser
from automem.errors import UsageError

TREES = {
    "rollout": "config",
    "pretrain": "pretrain",
    "crafter-policy": "crafter-policy",
    "select": "select",
    "proficiency": "proficiency",
    "evolve": "evolve",
    "run": "run",
    "audit": "audit",
    "metamemory": "metamemory",
    "serve": "serve",
}
"""Commands that take `key=value`, and the root of the tree that these change."""

BASH = """\
_automem() {
    local line="${COMP_LINE:0:$COMP_POINT}"
    local word="${line##* }"
    mapfile -t COMPREPLY < <(automem completion --line "$line" 2>/dev/null)
    # bash breaks words at "=", so that only what follows it is replaced
    if [[ "$word" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%%=*}="}")
    fi
    if [[ ${#COMPREPLY[@]} == 1 && "${COMPREPLY[0]}" == *= ]]; then compopt -o nospace; fi
}
complete -o default -F _automem automem
"""

ZSH = """\
#compdef automem
_automem() {
    local -a found
    found=("${(@f)$(automem completion --line "$LBUFFER" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then compadd -S '' -- "${found[@]}"; else _files; fi
}
compdef _automem automem
"""

FISH = """\
complete -c automem -a '(automem completion --line (commandline -cp | string collect))'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def main(argv: list[str]) -> int:
    """Print a shell's script, or with --line the candidates for its last word."""
    parser = Parser(
        "completion",
        "Tab completion of commands, config keys and their options.",
        [
            'eval "$(automem completion bash)"     # in ~/.bashrc',
            'eval "$(automem completion zsh)"      # in ~/.zshrc, after compinit',
            "automem completion fish | source      # in ~/.config/fish/config.fish",
        ],
    )
    parser.add_argument("shell", nargs="?", choices=sorted(SCRIPTS))
    parser.add_argument("--line", help="candidates for the last word of this line")
    options = parser.parse_args(argv)
    if options.line is not None:
        for candidate in candidates(options.line):
            print(candidate)
        return 0
    if options.shell is None:
        raise UsageError(f"which shell? one of {', '.join(sorted(SCRIPTS))}")
    print(SCRIPTS[options.shell], end="")
    return 0


def candidates(line: str) -> list[str]:
    """What the last word of the line up to the cursor may become."""
    words = line.split()
    last = "" if line[-1:].isspace() or not words else words[-1]
    before = words[1:] if not last else words[1:-1]
    if not before:
        names = [*COMMANDS, *extra_commands(), "help", "version"]
    elif before[0] in TREES:
        names = _override_names(TREES[before[0]], before[1:], last)
    elif before == ["completion"]:
        names = list(SCRIPTS)
    elif before == ["help"]:
        names = [*COMMANDS, *extra_commands()]
    else:
        names = []
    return sorted(name for name in names if name.startswith(last) and name != last)


def _override_names(root: str, before: list[str], last: str) -> list[str]:
    """`env=` and `rollout.workers=` while the key is typed, `env=crafter` after its `=`."""
    from automem.config import groups, known_keys, scaffolds

    config_dir = _config_dir(before)
    try:
        options = {**groups(config_dir), "scaffold": sorted(scaffolds(config_dir))}
        if "=" in last:
            key = last.partition("=")[0]
            return [f"{key}={option}" for option in options.get(key, ())]
        keys = known_keys(root, before, config_dir)
    except UsageError:
        return []
    return [f"{key}=" for key in {*options, *keys}]


def _config_dir(words: list[str]) -> str | None:
    for number, word in enumerate(words):
        if word.startswith("--config-dir="):
            return shlex.split(word.partition("=")[2])[0]
        if word == "--config-dir" and number + 1 < len(words):
            return words[number + 1]
    return None
