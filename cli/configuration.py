"""Configuration files: ./dmq.toml, then $XDG_CONFIG_HOME/dmq/dmq.toml; dmq.toml(5).

Flags and the environment go before both.  A file that is not there does not count; a key that is not
known is an error, because it was meant to do something.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dmqnode.errors import UsageError

KEYS = {
    "client": ("nodes", "timeout", "token_file"),
    "node": (
        "data",
        "listen",
        "advertise",
        "join",
        "name",
        "zone",
        "weight",
        "cluster",
        "replicas",
        "write_quorum",
        "dead_after",
        "memory_limit",
        "disk_reserve",
        "max_connections",
        "max_frame",
        "credit",
        "keepalive",
        "log_format",
        "tokens",
    ),
}
"""Every section and its keys."""


def xdg(variable: str, fallback: str) -> Path:
    """Return a directory of the XDG base directory specification: the variable, or its default at home.

    Errors: UsageError where there is neither.
    """
    named = os.environ.get(variable, "")
    if os.path.isabs(named):
        return Path(named)
    try:
        return Path.home() / fallback
    except RuntimeError:
        raise UsageError(f"you have no home directory; set HOME or {variable} to a directory") from None


def path_of(what: str, text: str) -> Path:
    """Return a path as given with `what`, a flag or key, where ~ and ~USER are homes.

    Errors: UsageError for a home that nobody knows.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"{what}: there is no home directory for {text!r}; write the path in full") from None


def config_paths() -> list[Path]:
    """Return where configuration is looked for, the strongest first."""
    here = Path("dmq.toml")
    try:
        return [here, xdg("XDG_CONFIG_HOME", ".config") / "dmq" / "dmq.toml"]
    except UsageError:
        return [here]  # who has no home has no configuration there


def read_section(section: str, file: Path | None = None) -> dict[str, Any]:
    """Return the settings of one section, from `file` or from all files that are there.

    Errors: UsageError for a file that cannot be read, is not TOML or has a key that is not known.
    """
    settings: dict[str, Any] = {}
    for path in [file] if file is not None else config_paths():
        if file is None and not path.is_file():
            continue
        settings = {**_read(path).get(section, {}), **settings}
    return settings


def _read(path: Path) -> dict[str, dict[str, Any]]:
    import tomllib

    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    for section, keys in found.items():
        if section not in KEYS or not isinstance(keys, dict):
            raise UsageError(f"{path}: [{section}] is not known; there are [client] and [node]")
        for key, value in keys.items():
            if key not in KEYS[section]:
                known = ", ".join(KEYS[section])
                raise UsageError(f"{path}: [{section}] has no key {key!r}; it has {known}")
            _check_kind(path, section, key, value)
    return found


def _check_kind(path: Path, section: str, key: str, value: Any) -> None:
    several = key in ("nodes", "join")
    pieces = value if several and isinstance(value, list) else [value]
    kinds = (str,) if several else (str, int, float)
    if not all(isinstance(piece, kinds) and not isinstance(piece, bool) for piece in pieces):
        wanted = "a list of texts" if several else "a text or a number"
        raise UsageError(f"{path}: {key} in [{section}] is {value!r}; it must be {wanted}")
