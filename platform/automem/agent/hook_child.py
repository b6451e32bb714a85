"""What runs inside the isolation: one question about one moment, answered by a scaffold's hooks.py.

A script of its own that needs the standard library alone: its text is handed to Python with `-c`,
so nothing of this project has to be mounted. It takes one JSON line (limits, source, moment),
lowers its own limits for good, then runs the hook, and answers with one line. What it answers may
be a lie: the asker checks it.
"""

import json
import os
import resource
import sys


def limit(limits: dict[str, int]) -> None:
    """Hard limits: nothing in here can raise them again."""
    for name, value in limits.items():
        kind = getattr(resource, "RLIMIT_" + name)
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            value = min(value, most)
        resource.setrlimit(kind, (value, value))


def answer(question: dict) -> dict:
    """Fields and notices that the hook makes of the moment, or what it raised."""
    moment = question["moment"]
    hook: dict = {"__name__": "hooks", "__builtins__": __builtins__}
    try:
        exec(compile(question["source"], "hooks.py", "exec"), hook)
        moment["fields"] = hook["parse"](moment["observation"]) if "parse" in hook else {}
        lines = hook["notices"](moment) if "notices" in hook else []
        return {"fields": moment["fields"], "notices": list(lines)}
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
        place, frame = "", error.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code.co_filename == "hooks.py":
                place = f" in line {frame.tb_lineno}"
            frame = frame.tb_next
        return {"error": f"raised {type(error).__name__}{place}: {error}"[:400]}


def main() -> None:
    """One question, one answer."""
    question = json.loads(sys.stdin.buffer.readline())
    sys.path.extend(question["path"])
    reply = os.dup(1)
    os.dup2(2, 1)  # what a hook prints is nobody's answer
    limit(question["limits"])
    os.write(reply, json.dumps(answer(question)).encode() + b"\n")


if __name__ == "__main__":
    main()
