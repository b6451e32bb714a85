"""Objects by name, on every kind of store that can be had here, S3 over HTTP among them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.s3_server import s3_server

from automem.errors import StoreError, UsageError
from automem.storage.store import Store, local_copy


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=["folder", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    return f"{tmp_path}/store" if request.param == "folder" else f"memory://{tmp_path.name}"


def test_what_is_written_is_read_listed_and_removed(url: str) -> None:
    store = Store(url)
    assert store.read("a/one") is None
    assert store.names() == []
    store.write("a/one", b"1")
    store.write("a/b/two", b"22")
    store.write("a/one", b"new")
    assert store.read("a/one") == b"new"
    assert store.names("a") == ["b", "one"]
    assert store.tree("a") == ["b/two", "one"]
    assert store.tree("nowhere") == []
    assert store.size("a") == 5
    store.remove("a/b")
    assert store.tree() == ["a/one"]
    store.remove("a/b")


def test_a_tree_comes_back_as_it_was(url: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for name, text in {"top.txt": "top", "deep/er/x.txt": "ä", "skipped/y": "y"}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    store = Store(url)
    store.put_tree(source, "tree", skip=["skipped"])
    assert store.get_tree("tree", target) == 2
    assert (target / "deep/er/x.txt").read_text() == "ä"
    assert not (target / "skipped").exists()


def test_what_never_changes_is_copied_once(url: str, tmp_path: Path) -> None:
    place = f"{url}/adapters/a" if "://" in url else f"file://{url}/adapters/a"
    Store(url).write("adapters/a/weights", b"w")
    folder = local_copy(place, tmp_path / "cache")
    assert (folder / "weights").read_bytes() == b"w"
    Store(url).remove("adapters/a")
    assert local_copy(place, tmp_path / "cache") == folder
    with pytest.raises(UsageError, match="nothing under this URL"):
        local_copy(f"{place}-other", tmp_path / "cache")
    assert local_copy(str(tmp_path)) == tmp_path


def test_a_store_that_is_away_is_a_store_error(bucket: str) -> None:
    with pytest.raises(StoreError, match="no-such-bucket"):
        Store("s3://no-such-bucket/x").write("name", b"")


@pytest.mark.parametrize(
    ("url", "message"), [("gs://bucket", "pip install gcsfs"), ("nonsense://x", "expected a URL")]
)
def test_a_url_that_cannot_be_used_says_what_to_do(url: str, message: str) -> None:
    if url.startswith("gs:"):
        try:
            import gcsfs  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("gcsfs is installed, so nothing is missing")
    with pytest.raises(UsageError, match=message):
        Store(url)
