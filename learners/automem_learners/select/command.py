"""`automem select`: pick the turns that a memory specialist is to learn from.

Promise: an empty selection is an error, before any training; its folder is written all the same and
says why every turn was turned down.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automem.errors import UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """\
usage: automem select RUN... [selector=NAME] [out=FOLDER] [key=value ...]

Gives every turn of the memory role in the finished episodes of these runs a verdict with a reason,
and writes them to a folder with a report. RUN is a run's folder, a sweep's, or a glob.

selectors: {selectors}

examples:
  automem select runs/first
  automem select runs/first selector=provenance out=selections/first
  automem select runs/a runs/b selector=outcome selector.top_share=0.1 thin.per_episode=20
  automem select runs/first selector=random selector.match=selections/first out=selections/control
  automem select runs/first selector=attribution engine.model=embedded selector.threshold=0.5
  automem query runs/first "select file, text, retrieved, used from writes order by used desc"

Keys: conf/select.yaml and conf/selector/.
"""


_CHANGE = re.compile(r"[+~]*[\w.@]+=")
"""`key=value`; a path with a `=` in it has a `/` before."""


def main(argv: list[str]) -> int:
    """Run the command."""
    if not argv or any(argument in ("-h", "--help") for argument in argv):
        from automem.config import groups

        print(HELP.format(selectors=", ".join(groups().get("selector", []))))
        return 0
    from automem.config import compose

    named = [argument for argument in argv if not _CHANGE.match(argument)]
    changes = [argument for argument in argv if _CHANGE.match(argument)]
    unknown = [argument for argument in named if argument.startswith("-")]
    if unknown:
        raise UsageError(f"no option {unknown[0]}; settings are key=value, see automem select -h")
    if not named:
        raise UsageError("which run? automem select RUN... [key=value ...]; see automem select -h")
    return _select(named, compose("select", changes))


def _select(named: list[str], config: "DictConfig") -> int:
    """Hydra ends here."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from rich.console import Console

    from automem.errors import AutoMemError
    from automem.trace.query import find_runs
    from automem_learners.select.report import print_report
    from automem_learners.select.run import select
    from automem_learners.select.selection import read_selection
    from automem_learners.select.selector import read
    from automem_learners.select.thinning import Thinning

    runs = find_runs(named)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    thinning = read(Thinning, plain["thin"], "thin")
    try:
        selector = instantiate(plain["selector"], _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, AutoMemError):
            raise error.__cause__ from error
        raise UsageError(f"selector {plain['selector'].get('_target_')}: {error}") from error
    folder = _folder(plain["out"], selector.name, runs)
    kept = {name: plain[name] for name in ("selector", "thin")}
    report = select(runs, selector, thinning, folder, kept)
    print_report(report, Console(soft_wrap=True, highlight=False))
    print(f"written: {folder} (turns.parquet, report.json)")
    read_selection(folder)
    return 0


def _folder(out: str | None, selector: str, runs: list[Path]) -> Path:
    if out:
        folder = Path(out).expanduser()
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"out={out} is a file; give a folder")
        return folder
    return runs[0] / "selections" / selector
