"""Reading files from a zip that may come from anybody: everything is checked before the first byte is unpacked."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from featviz_core.errors import ExperimentError

MAX_ENTRIES = 200_000
"""Most files and folders in a zip."""

MAX_DIRECTORY = 64 * 2**20
"""Longest table of contents, in bytes."""

MAX_FILE = 128 * 2**20
"""Largest file that is unpacked, in bytes."""

MAX_TOTAL = 16 * 2**30
"""Most bytes that all files together may unpack to."""

MAX_RATIO = 200
"""How many times its packed size a file may unpack to, once it is larger than `SMALL`: pictures are packed already."""

SMALL = 2**20
"""Up to this many bytes a file may be packed as tightly as it likes."""

_PACK_AGAIN = "Pack the folder again with an ordinary zip program."
# Method 0 and 8. The others are rare, and LZMA takes as much memory as the file says.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENTRY = b"PK\x01\x02"
_ENCRYPTED = 0x1
_DRIVE = re.compile(r"[A-Za-z]:")


class ZipFiles:
    """The files in a zip (`source`: its bytes, or its path), which is called `title` in messages.

    Names not marked as UTF-8 are read as UTF-8, else as GBK, else as the zip format's own code page 437. A zip that
    could harm (too many entries, too large, overlapping ones, links, paths that lead outside) is refused as a whole
    by `ExperimentError`; so is one file that is encrypted, damaged or packed too tightly when it is read.
    Can be sent to other processes and used by many threads.
    """

    def __init__(self, source: bytes | Path, title: str) -> None:
        self._source, self._title = source, title
        self._opened: tuple[int, zipfile.ZipFile, dict[str, zipfile.ZipInfo]] | None = None

    def __getstate__(self) -> tuple[bytes | Path, str]:
        return self._source, self._title

    def __setstate__(self, state: tuple[bytes | Path, str]) -> None:
        self._source, self._title = state
        self._opened = None

    def names(self) -> Iterable[str]:
        """The files' names, with `/` between folders."""
        return list(self._open()[1])

    def read(self, name: str) -> bytes:
        """A file's content. Raises `ExperimentError` where it cannot be unpacked."""
        archive, entries = self._open()
        info = entries[name]
        _check_file(info, name)
        with _explained(name), archive.open(info) as file:
            return file.read(info.file_size)

    def _open(self) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
        """The archive and its checked table of contents; opened once in every process, forked ones included."""
        if self._opened is None or self._opened[0] != os.getpid():
            with _explained(self._title):
                file = io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source.open("rb")
                archive = _parsed(_Guarded(file, self._title))
            self._opened = (os.getpid(), archive, _checked(archive.infolist(), self._title))
        return self._opened[1:]


class _Guarded:
    """A file that refuses to hand out a table of contents that is too long to be read."""

    def __init__(self, file: BinaryIO, title: str) -> None:
        self._file, self._title = file, title
        self.seek, self.tell, self.close, self.seekable = file.seek, file.tell, file.close, file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if data.startswith(_ENTRY) and (len(data) > MAX_DIRECTORY or data.count(_ENTRY) > MAX_ENTRIES):
            why = f"At most {MAX_ENTRIES:,} files and folders are looked through."
            raise ExperimentError(f"{self._title} holds too many files.", why=why, do="Pack a part of the pictures.")
        return data


def _parsed(file: Any) -> zipfile.ZipFile:
    for encoding in ("utf-8", "gbk"):
        try:
            return zipfile.ZipFile(file, metadata_encoding=encoding)
        except UnicodeDecodeError:
            continue
    return zipfile.ZipFile(file, metadata_encoding="cp437")


# What may not be in a zip


def _checked(infos: list[zipfile.ZipInfo], title: str) -> dict[str, zipfile.ZipInfo]:
    """The files by their names. Raises `ExperimentError` for a zip that means harm."""
    _check_total(infos, title)
    _check_overlaps(infos, title)
    files: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.replace("\\", "/")
        _check_name(name, title)
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            why = f"{shown(name)} is a link or a device, not a file."
            raise ExperimentError(f"{title} is not opened.", why=why, do="Pack the files themselves.")
        if not name.endswith("/"):
            files[name] = info
    return files


def _check_total(infos: list[zipfile.ZipInfo], title: str) -> None:
    total = sum(info.file_size for info in infos)
    if total > MAX_TOTAL:
        raise ExperimentError(
            f"{title} is too large when unpacked.",
            why=f"Its files say they have {total / 2**30:,.1f} GB; at most {MAX_TOTAL / 2**30:.0f} GB are read.",
            do="Pack a part of the pictures, or start the app with `-- --data FOLDER`.",
        )


def _check_overlaps(infos: list[zipfile.ZipInfo], title: str) -> None:
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            why = f"{shown(info.filename)} lies on top of another file in it, as in archives made to do harm."
            raise ExperimentError(f"{title} is not opened.", why=why, do=_PACK_AGAIN)
        end = info.header_offset + zipfile.sizeFileHeader + info.compress_size  # type: ignore[attr-defined]


def _check_name(name: str, title: str) -> None:
    if name.startswith("/") or _DRIVE.match(name) or ".." in name.split("/"):
        why = f"{shown(name)} leads outside of the archive."
        raise ExperimentError(f"{title} is not opened.", why=why, do=_PACK_AGAIN)


def _check_file(info: zipfile.ZipInfo, name: str) -> None:
    why = ""
    if info.flag_bits & _ENCRYPTED:
        why = "It is encrypted."
    elif info.compress_type not in _METHODS:
        why = f"It is packed by method {info.compress_type}; expected stored or deflated."
    elif info.file_size > MAX_FILE:
        why = f"It has {info.file_size / 2**20:,.0f} MB; at most {MAX_FILE / 2**20:.0f} MB are unpacked."
    elif info.file_size > max(SMALL, MAX_RATIO * info.compress_size):
        why = f"It says it unpacks to more than {MAX_RATIO} times its size."
    if why:
        raise ExperimentError(f"{shown(name)} is not unpacked.", why=why, do=_PACK_AGAIN)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except ExperimentError:
        raise
    except OSError as error:
        raise ExperimentError(f"{shown(name)} cannot be read.", why=error.strerror or str(error)) from error
    except Exception as error:  # zipfile raises whatever damaged bytes lead it into
        said = shown(str(error)[:200]) or type(error).__name__
        why = f"It is damaged, cut off, or no zip: {said.rstrip('.')}."
        raise ExperimentError(f"{shown(name)} cannot be unpacked.", why=why, do=_PACK_AGAIN) from error


def shown(name: str) -> str:
    """A file's name as it can be shown: no control characters, none that turn the direction of writing."""
    return "".join(character if character.isprintable() else "\ufffd" for character in name)
