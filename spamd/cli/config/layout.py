"""Settings on paper: as the TOML that is in force, as an example file, as a table for the page about settings.

Pure text from `spamd.config`; prints nothing. Called by `spamd-admin config show`, and by the tests that keep docs/settings.md
and systemd/spamd.toml equal to the code.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from spamd.config import KEYS, Settings
from spamd.config.sources import Key, variable

UNITS = ("seconds", "bytes", "tokens")


def settings_in_force(settings: Settings, origins: Mapping[Key, str]) -> str:
    """Lay out the settings as TOML that can be read back, each with where it comes from.

    Args:
        settings: the settings.
        origins: where each comes from.

    Returns:
        The lines.
    """
    lines = []
    for heading, keys in _by_section():
        lines += heading
        for key in keys:
            value = value_of(settings, key)
            entry = f"# {key[-1]} is unset" if value is None else f"{key[-1]} = {toml(value)}"
            lines.append(f"{entry}  # {origins[key]}")
    return "\n".join(lines)


def example() -> str:
    """Lay out a settings file in which every key stands commented out at its default, below what it means."""
    lines = [
        "# spamd's settings, each at its default. Take away the # of those that you change, and run: spamd-admin config check"
    ]
    for heading, keys in _by_section():
        lines += heading
        for key in keys:
            field = field_of(key)
            default = default_of(field)
            entry = f"# {key[-1]} =" if default is None else f"# {key[-1]} = {toml(default)}"
            lines += [f"# {field.description}", entry]
    return "\n".join(lines)


def table() -> str:
    """Lay out every key with unit, default and meaning as a Markdown table."""
    rows = ["| key | unit | default | meaning |", "|---|---|---|---|"]
    for key in KEYS:
        field = field_of(key)
        default = default_of(field)
        unit = next((unit for unit in UNITS if key[-1].endswith(f"_{unit}")), "")
        shown = "unset" if default is None else f"`{toml(default)}`"
        meaning = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{'.'.join(key)}` | {unit} | {shown} | {meaning} |")
    return "\n".join(rows)


def as_entries(settings: Settings, origins: Mapping[Key, str]) -> Iterator[dict[str, Any]]:
    """Yield key, value, origin and environment variable of each setting, fit for JSON."""
    for key in KEYS:
        value = value_of(settings, key)
        plain = str(value) if isinstance(value, Path) else value
        yield {"key": ".".join(key), "value": plain, "origin": origins[key], "variable": variable(key)}


def toml(value: Any) -> str:
    """Write one value as TOML."""
    if isinstance(value, str | Path):
        # JSON's escapes are TOML's, save that TOML wants DEL escaped too.
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml(name)} = {toml(part)}" for name, part in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def value_of(settings: Settings, key: Key) -> Any:
    """Return the value of a key."""
    value: Any = settings
    for part in key:
        value = getattr(value, part)
    return value


def field_of(key: Key) -> FieldInfo:
    """Return the definition of a key."""
    field = Settings.model_fields[key[0]]
    return type(field.default).model_fields[key[1]] if len(key) > 1 else field


def default_of(field: FieldInfo) -> Any:
    """Return a default as the documentation shows it: an example where the true one depends on the machine."""
    return field.examples[0] if field.examples else field.get_default(call_default_factory=True, validated_data={})


def _by_section() -> Iterator[tuple[list[str], Iterable[Key]]]:
    """Yield the lines that head each section, with its keys; the first section has no name."""
    for section, keys in groupby(KEYS, key=lambda key: key[0] if len(key) > 1 else ""):
        yield (["", f"[{section}]"] if section else []), keys
