"""Paths of the namespace and keys of the under store: how they are spelled and what S3 can hold.

A path is absolute, starts with ``/``, has no empty, ``.`` or ``..`` part and no trailing slash; the root is ``/``. The
key of a path is the path without its leading slash.
"""

from __future__ import annotations

from rayfs.errors import InvalidPath

MAX_KEY_BYTES = 1024
"""S3's limit on a key in UTF-8 bytes, the under store's prefix included."""

MAX_NAME_BYTES = 255
"""Longest single name, as every local file system that ``copyToLocal`` may write to has it."""

RESERVED = ".rayfs"
"""Top-level name that RayFS keeps for itself in the under store."""


def normalize(path: str) -> str:
    """The one spelling of ``path``; ``InvalidPath`` says what is wrong with one that RayFS cannot hold."""
    if not path:
        raise InvalidPath("the path is empty; give an absolute path such as /out/a.parquet")
    if "\0" in path:
        raise InvalidPath(f"the path {path!r} holds a NUL character, which no file system can store", path)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidPath(f"the path {path!r} holds '..'; write the path without it", path)
    try:
        encoded = [part.encode("utf-8") for part in parts]
    except UnicodeEncodeError:
        raise InvalidPath(f"the path {path!r} is not valid Unicode, so S3 cannot hold it; rename it", None) from None
    for part, raw in zip(parts, encoded, strict=True):
        if len(raw) > MAX_NAME_BYTES:
            raise InvalidPath(
                f"the name {part[:40]!r}... has {len(raw)} bytes; a name may have at most {MAX_NAME_BYTES}", path
            )
    return "/" + "/".join(parts)


def check_storable(path: str, prefix_bytes: int) -> None:
    """Refuse a normal path whose key S3 cannot hold: too long with the prefix, or RayFS's own ``.rayfs``."""
    key = key_of(path)
    size = len(key.encode("utf-8")) + prefix_bytes
    if size > MAX_KEY_BYTES:
        raise InvalidPath(
            f"the path has {size} bytes with the under store's prefix and S3 holds at most {MAX_KEY_BYTES}; "
            "use a shorter one",
            path,
        )
    if key == RESERVED or key.startswith(RESERVED + "/"):
        raise InvalidPath(f"names below /{RESERVED} belong to RayFS itself; use another name", path)


def key_of(path: str) -> str:
    """Key of a normal path below the under store's prefix."""
    return path[1:]


def path_of(key: str) -> str:
    """Inverse of ``key_of``."""
    return "/" + key


def split(path: str) -> tuple[str, str]:
    """Parent and name of a normal path; the root is its own parent with an empty name."""
    parent, _, name = path.rpartition("/")
    return parent or "/", name


def parents(path: str) -> list[str]:
    """The path and its ancestors, from the root down: ``/a/b`` gives ``/``, ``/a``, ``/a/b``."""
    parts = path[1:].split("/") if path != "/" else []
    return ["/"] + ["/" + "/".join(parts[: at + 1]) for at in range(len(parts))]


def is_within(path: str, directory: str) -> bool:
    """Whether ``path`` is ``directory`` or below it."""
    return directory == "/" or path == directory or path.startswith(directory + "/")
