"""Every error of storage is one sentence with a next step, and carries what it is about."""

from __future__ import annotations

from pathlib import Path

from storage.errors import Corrupt, DiskFull, InUse, NewerFormat, StorageError, StoreFailed

HERE = Path("/var/dmq")


def test_the_sentences() -> None:
    assert str(Corrupt(b"\x01a", "its checksum does not match")) == (
        "the record 0161 is damaged: its checksum does not match"
    )
    assert str(InUse(HERE)) == (
        "the store in /var/dmq is in use by another process; stop it, or choose another directory"
    )
    assert "in use by process 7 (dmq node start);" in str(InUse(HERE, 7, "dmq node start"))
    assert str(NewerFormat(HERE, 3, 2)) == (
        "the store in /var/dmq has format 3 and this version knows formats up to 2; "
        "run the newer version that wrote it"
    )
    assert str(DiskFull(HERE, 10, 20)) == (
        "the disk of /var/dmq is full: 10 bytes are free and 20 are needed; make room, or consume messages"
    )
    assert str(StoreFailed(HERE, "write", "Input/output error")) == (
        "the store in /var/dmq failed to write: Input/output error; "
        "check the disk and the system's log, then start again"
    )
    assert "make room on the disk" in str(StoreFailed(HERE, "write", "full", disk_full=True))


def test_all_are_storage_errors() -> None:
    for error in (Corrupt, InUse, NewerFormat, DiskFull, StoreFailed):
        assert issubclass(error, StorageError)
