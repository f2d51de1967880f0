"""Where settings come from, and how what is wrong with them is put into words.

Reads the TOML file, knows the names of the environment variables and turns each fault into `place: key: reason`. Knows no setting
by name: `spamd.config.sections` does.
"""

import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spamd.errors import ConfigError

PREFIX = "SPAMD_"
DELIMITER = "__"

Key = tuple[str, ...]


def read_toml(file: Path) -> dict[str, Any]:
    """Parse a TOML file into plain values.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}.") from None
    except ValueError as error:
        # A number of more than 4,300 digits is a plain ValueError.
        raise ConfigError(f"{file}: is not TOML: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{file}: is not TOML that anybody wrote: brackets stand in brackets by the thousand.") from None


def variable(key: Sequence[str]) -> str:
    """Name the environment variable of a key: `SPAMD_SMTP__LISTEN` for `("smtp", "listen")`."""
    return PREFIX + DELIMITER.join(key).upper()


def origin(key: Key, file: Path | None, values: Mapping[str, Any], environment: Collection[str]) -> str:
    """Say where the value of a key comes from.

    Args:
        key: section and key, or a key that stands above all sections.
        file: the file that was read, if any.
        values: what it held.
        environment: names of the variables that are set.

    Returns:
        The variable's name, the file's path, or `default`.
    """
    name = variable(key)
    for candidate in sorted(environment):
        if candidate.upper() == name:
            return candidate
    for part in key:
        if not isinstance(values, Mapping) or part not in values:
            return "default"
        values = values[part]
    return str(file)


def misplaced_variables(known: Collection[Key], environment: Iterable[str]) -> Iterator[str]:
    """Find variables that look like ours and set nothing.

    A name with two underscores can only be meant for us, and so can a near miss of a key. Others may begin with `SPAMD_` for
    reasons of their own: Kubernetes sets `SPAMD_PORT` for a service that is called spamd.

    Args:
        known: all keys.
        environment: names of the variables that are set.

    Yields:
        One sentence for each.
    """
    sections = {key[0] for key in known if len(key) > 1}
    single = {variable(key): key for key in known if len(key) == 1}
    for name in sorted(environment):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in single:
            continue
        section, *parts = upper.removeprefix(PREFIX).lower().split(DELIMITER)
        if section in sections and not parts:
            yield f"{name}: names a section and not a key; write {upper}{DELIMITER}KEY=value."
        elif section in sections and len(parts) > 1:
            yield f"{name}: names a part of a value; write {variable((section, parts[0]))} as JSON."
        elif section in sections:
            continue
        elif parts or get_close_matches(upper, single, n=1, cutoff=0.85):
            yield f"{name}: unknown variable{_suggestion(upper, map(variable, known))}"


def describe(error: ValidationError, known: Collection[Key], place: Callable[[Key], str]) -> Iterator[str]:
    """Put each fault of a validation into words.

    Args:
        error: what pydantic found.
        known: all keys.
        place: says where the value of a key comes from.

    Yields:
        One line for each fault: place, key and reason.
    """
    for fault in error.errors(include_url=False):
        location = tuple(map(str, fault["loc"]))
        key = next((location[:length] for length in (2, 1) if location[:length] in known), location)
        dotted = ".".join(key)
        if fault["type"] == "extra_forbidden":
            kind = "section" if isinstance(fault["input"], dict) else "key"
            reason = f"unknown {kind}{_suggestion(dotted, _names(known, kind))}"
        elif fault["type"] == "value_error":
            reason = str(fault["ctx"]["error"])
        else:
            reason = f"{fault['msg'][0].lower()}{fault['msg'][1:]}, not {fault['input']!r}."
        yield f"{place(key)}: {dotted}: {reason}"


def _names(known: Collection[Key], kind: str) -> set[str]:
    """Names that an unknown one may have been meant for."""
    return {".".join(key) for key in known} if kind == "key" else {key[0] for key in known if len(key) > 1}


def _suggestion(name: str, names: Iterable[str]) -> str:
    """Suggest the nearest name; a key that stands under a wrong section, or under none, is found by its last part."""
    names = sorted(names)
    near = [other for other in names if other.rpartition(".")[2] == name.rpartition(".")[2]]
    near = near or get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else "."
