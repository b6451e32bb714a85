"""A driver to kill: `python -m support.play_toy RUN_DIR JSON` plays the toy rollout, or resumes it.

JSON: the changes for `toy_spec`. Prints `finished N pending M` at its end.
"""

import json
import sys
from pathlib import Path

from support.toy_world import toy_spec

from automem.rollout.run import resume_run, run_rollout


def main() -> None:
    run_dir, changes = Path(sys.argv[1]), json.loads(sys.argv[2])
    if (run_dir / "run.json").exists():
        result = resume_run(run_dir)
    else:
        result = run_rollout(toy_spec(**changes), run_dir)
    print(f"finished {len(result.finished)} pending {len(result.pending)}", flush=True)
    for episode in result.pending:
        print(f"{episode.episode}: {episode.reason}", flush=True)


if __name__ == "__main__":
    main()
