#!/usr/bin/env python3
"""Exit 0 if every URL answers 200, else 1 with the reason: for the image's health check and for
probes, so that no other program has to be in the image.

Without arguments: $AUTOMEM_HEALTH_URLS (words), else the Ray node in this container. Ray answers
these paths without its token. Not covered: https.
"""

import os
import sys
import urllib.request

RAYLET = "http://127.0.0.1:52365/api/local_raylet_healthz"
TIMEOUT_S = 4.0


def main(urls: list[str]) -> int:
    """See the module's docstring."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for url in urls or os.environ.get("AUTOMEM_HEALTH_URLS", RAYLET).split():
        try:
            with opener.open(url, timeout=TIMEOUT_S) as answer:
                answer.read(1)
        except OSError as error:  # refused, timed out, or an HTTP status from 400 on
            print(f"{url}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
