"""The renderer of templates, and the process that renders those of strangers.

A script of its own: it imports Jinja2 and nothing of this project. Started as a program it takes
JSON lines: an empty object (is it up?), the templates' sources, then one per rendering; and answers
each with a line. It limits its own memory, time per answer and output before it looks at anything.
"""

import json
import resource
import signal
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import jinja2
import jinja2.sandbox

MAX_CHARS = 400_000
"""Of one rendered text."""
MAX_MEMORY_BYTES = 1_000_000_000


class RenderError(Exception):
    """A template that does not compile or render; the message names template and line."""


class TemplateSet:
    """Compiled templates."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        self._templates: dict[str, jinja2.Template] = {}
        for name, source in sources.items():
            try:
                self._templates[name] = environment.from_string(source)
            except jinja2.TemplateSyntaxError as error:
                raise RenderError(f"{name}.j2 line {error.lineno}: {error.message}") from error

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """The template's text, stripped at its end."""
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._templates[name].generate(values):
                size += len(piece)
                if size > MAX_CHARS:
                    raise RenderError(f"{name}.j2 renders more than {MAX_CHARS} characters")
                pieces.append(piece)
        except RenderError:
            raise
        except Exception as error:
            line = _line_of(error)
            raise RenderError(f"{name}.j2{line} does not render: {error or 'no memory'}") from error
        return "".join(pieces).rstrip()


def _line_of(error: Exception) -> str:
    """Where in the template it was raised."""
    line, frame = "", error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == "<template>":
            line = f" line {frame.tb_lineno}"
        frame = frame.tb_next
    return line


def main() -> None:
    """Answer until the asker is gone."""
    answer_s = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    templates: TemplateSet | None = None
    for line in sys.stdin.buffer:
        # Nobody may be left to kill this process: the signal's default action does it.
        signal.alarm(answer_s)
        request = json.loads(line, object_hook=lambda data: SimpleNamespace(**data))
        try:
            answer = {"text": ""}
            if templates is None and vars(request):
                templates = TemplateSet(vars(request))
            elif templates is not None:
                answer = {"text": templates.render(request.template, vars(request.values))}
        except RenderError as error:
            answer = {"error": str(error)[:2000]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        signal.alarm(0)


if __name__ == "__main__":
    main()
