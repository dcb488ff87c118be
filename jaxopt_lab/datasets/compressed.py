"""Compressed files: unpacked in bounded pieces, so that none can fill the memory."""

from __future__ import annotations

import bz2
import io
import lzma
import zipfile
import zlib
from typing import Any

from jaxopt_lab.core.errors import UserError

MAX_BYTES = 2**30
"""A table that holds more bytes, unpacked, is refused unless an option allows it."""
_PIECE = 2**22
_FORMATS = {
    b"\x1f\x8b": ("gzip", lambda: zlib.decompressobj(31)),
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMADecompressor),
}


def unpack(data: bytes, name: str, max_bytes: int | None = MAX_BYTES) -> bytes:
    """Unpack a gzip, bzip2 or xz file, or a zip archive of one file; others stay as they are.

    Args:
      data: the file.
      name: for messages.
      max_bytes: refuse to unpack more; None for no limit.

    Returns:
      The content.

    Raises:
      UserError: if it is damaged, too large, or an archive of several files.
    """
    check_size(len(data), name, max_bytes)
    for magic, (kind, make) in _FORMATS.items():
        if data.startswith(magic):
            try:
                return _unpack_stream(data, name, max_bytes, make)
            except UserError:
                raise
            except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError):
                raise UserError(f"{name} is a damaged or incomplete {kind} file") from None
    if data.startswith(b"PK\x03\x04"):
        return _unpack_zip(data, name, max_bytes)
    return data


def check_size(size: int, name: str, max_bytes: int | None) -> None:
    """Refuse a table of more bytes than are allowed."""
    if max_bytes is not None and size > max_bytes:
        raise UserError(
            f"{name} holds more than {max_bytes / 2**30:.3g} GiB of table;"
            " if the memory is there, raise the limit with --max-gib"
        )


def _unpack_stream(data: bytes, name: str, max_bytes: int | None, make: Any) -> bytes:
    """Unpack all members of a stream, piece by piece."""
    pieces: list[bytes] = []
    size, view = 0, memoryview(data)
    while len(view):
        member, position = make(), 0
        while not member.eof:
            # zlib keeps unread input in `unconsumed_tail`, the others inside.
            rest = getattr(member, "unconsumed_tail", b"")
            hungry = getattr(member, "needs_input", True)
            chunk = rest
            if not rest and hungry:
                chunk = view[position : position + _PIECE]
                position += len(chunk)
            piece = member.decompress(chunk, _PIECE)
            size += len(piece)
            check_size(size, name, max_bytes)
            pieces.append(piece)
            if not member.eof and not piece and position >= len(view) and not _has_more(member):
                raise EOFError
        used = position - len(member.unused_data)
        view = view[used:]
        if not bytes(view[:64]).strip(b"\0"):  # padding behind the last member
            break
    return b"".join(pieces)


def _has_more(member: Any) -> bool:
    return bool(getattr(member, "unconsumed_tail", b"")) or not getattr(member, "needs_input", True)


def _unpack_zip(data: bytes, name: str, max_bytes: int | None) -> bytes:
    """The only file of an archive; an Excel workbook stays packed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            members = [m for m in members if not m.filename.startswith("__MACOSX/")]
            check_size(sum(member.file_size for member in members), name, max_bytes)
            names = [member.filename for member in members]
            if "xl/workbook.xml" in names:
                return data
            if "mimetype" in names and "content.xml" in names:
                raise UserError(f"{name} is an OpenDocument file; save it as .xlsx or CSV")
            if len(members) != 1:
                shown = ", ".join(names[:5])
                raise UserError(f"{name} is an archive of {len(names)} files ({shown}); give one")
            with archive.open(members[0]) as stream:
                content = stream.read() if max_bytes is None else stream.read(max_bytes + 1)
            check_size(len(content), name, max_bytes)
            return content
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError):
        raise UserError(f"{name} is a damaged zip or Excel file") from None
    except (RuntimeError, NotImplementedError) as error:
        raise UserError(f"cannot unpack {name}: {error}") from None
