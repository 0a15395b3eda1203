"""Files on a disk, in memory and in an S3-compatible store: found, read, and whole or not there at all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import object_store
import pytest

from ecoimpact import storage


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    with object_store.store() as address:
        yield address


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    return f"{object_store.use(s3_server, monkeypatch)}/a"


@pytest.fixture(params=["disk", "file", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A path or URL that is free to be used."""
    kind = request.param
    if kind == "s3":
        return str(request.getfixturevalue("s3"))
    if kind == "memory":
        import fsspec

        fsspec.filesystem("memory").store.clear()
        return "memory://a"
    return f"file://{tmp_path}/a" if kind == "file" else str(tmp_path / "a")


def names(url: str) -> list[str]:
    return [found.name for found in storage.files(*storage.resolve(url))[1]]


def test_files_are_written_listed_and_read(place: str) -> None:
    filesystem, path = storage.resolve(place)
    for name in ("one.csv", "day=1/two.csv", "day=1/three.txt", "_notes/x.csv", ".hidden.csv"):
        storage.put(filesystem, f"{path}/{name}", name.encode())
    assert names(place) == ["day=1/three.txt", "day=1/two.csv", "one.csv"]
    assert names(f"{place}/**/*.csv") == ["day=1/two.csv", "one.csv"]
    assert names(f"{place}/*.csv") == ["one.csv"]
    assert names(f"{place}/day=[12]/t?o.*") == ["day=1/two.csv"]
    assert names(f"{place}/one.csv") == ["one.csv"]
    base, (only,) = storage.files(filesystem, f"{path}/one.csv")
    assert (base, only.path, only.size) == (path, f"{path}/one.csv", 7)
    assert only.version or place.startswith("memory")
    assert storage.is_folder(filesystem, f"{path}/day=1")
    assert not storage.is_folder(filesystem, f"{path}/one.csv")
    assert storage.read(filesystem, f"{path}/day=1/two.csv") == b"day=1/two.csv"
    assert storage.read(filesystem, f"{path}/day=1/none.csv") is None
    storage.delete(filesystem, f"{path}/one.csv")
    storage.delete(filesystem, f"{path}/one.csv")
    assert names(place) == ["day=1/three.txt", "day=1/two.csv"]
    for nothing in (f"{place}/none", f"{place}/*.parquet", f"{place}/none/*"):
        with pytest.raises(FileNotFoundError):
            names(nothing)


def test_a_file_appears_whole_or_not_at_all(place: str) -> None:
    filesystem, path = storage.resolve(place)
    storage.put(filesystem, f"{path}/b.bin", b"before")
    unfinished: list[str] = []

    def broken() -> None:
        with storage.new_file(filesystem, f"{path}/b.bin") as file:
            file.write(b"x" * 100)
            assert names(place) == ["b.bin"]
            assert storage.read(filesystem, f"{path}/b.bin") == b"before"
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        broken()
    assert storage.read(filesystem, f"{path}/b.bin") == b"before"
    with storage.new_file(filesystem, f"{path}/b.bin") as file:
        file.write(b"after")
    assert storage.read(filesystem, f"{path}/b.bin") == b"after"
    storage.files(filesystem, path, unfinished=unfinished.append)
    assert unfinished == []


def test_what_a_crash_left_is_found(tmp_path: Path) -> None:
    filesystem, path = storage.resolve(tmp_path)
    (tmp_path / ".b.bin.part").write_bytes(b"half")
    (tmp_path / "c.bin").write_bytes(b"")
    unfinished: list[str] = []
    storage.files(filesystem, path, unfinished=unfinished.append)
    assert unfinished == [f"{path}/.b.bin.part"]


def test_a_name_may_look_like_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].csv").write_bytes(b"")
    assert names(str(tmp_path / "a[1].csv")) == ["a[1].csv"]


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("s3://", ValueError, "names no bucket"),
        ("nowhere://a/b", ValueError, "nowhere"),
        ("abfs://lake@account/a", ModuleNotFoundError, "adlfs"),
    ],
)
def test_what_cannot_be_reached_says_what_is_missing(url: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        storage.resolve(url)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ModuleNotFoundError, match="memory:// needs fsspec"):
        storage.resolve("memory://a")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"ecoimpact\[lake\]"):
        storage.resolve("/a")


def test_paths_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    wanted: Any = (tmp_path / "log").as_posix()
    assert {storage.resolve(each)[1] for each in ("log", "./log/", "~/log", Path("log"), f"file://{tmp_path}/log")} == {
        wanted
    }
