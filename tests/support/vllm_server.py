"""vLLM's own OpenAI server, for comparisons."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


@contextmanager
def vllm_server(model: Path, port: int) -> Iterator[str]:
    """vLLM's own OpenAI server on the same model and cores, ready for adapters as ours is."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
               "--served-model-name", "current", "--port", str(port), "--dtype", "float32",
               "--max-model-len", "1024", "--host", "127.0.0.1", "--kv-cache-memory-bytes",
               str(1_000_000_000), "--gpu-memory-utilization", "0.3",
               "--no-enable-chunked-prefill", "--enable-lora",
               "--max-lora-rank", "64"]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR"})
    try:
        ends = time.monotonic() + 300
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > ends:
                    raise SystemExit("vLLM's own server did not come up") from None
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)
