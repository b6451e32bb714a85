"""A real S3 server on loopback (moto's), with credentials that only it knows."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

INSTALL = "pip install 'automem[s3]' 'moto[server]'"


@contextmanager
def s3_server(bucket: str = "automem") -> Iterator[str]:
    """Serves one empty bucket; the URL below which a test may write. Its address and keys are in
    the environment, which child processes and Ray's workers inherit."""
    threaded = pytest.importorskip("moto.server", reason=f"needs moto: {INSTALL}")
    s3fs = pytest.importorskip("s3fs", reason=f"needs s3fs: {INSTALL}")
    server = threaded.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # moto keeps its buckets in the process, beyond the server's life.
    httpx.post(f"http://{host}:{port}/moto-api/reset").raise_for_status()
    values = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        s3fs.S3FileSystem().mkdir(bucket)
        yield f"s3://{bucket}"
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
