"""Finds the plugins, checks them and joins what they offer: built-ins, installed packages, drop-in files.

The built-in heads, policies and datasets are registered by dotted name through the very hooks that outsiders use. Whatever a
plugin does wrong stops start-up as a `PluginError` that names it, since a filter that silently lost a plugin would score with
another head or train on other mail than its operator believes. Chooses nothing and makes nothing: callers (`cli`, `daemon`) look
names up with `lookup` and hand the factories down.

`SPAMD_TRACE_HOOKS=1` prints every hook call to standard error.
"""

import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import pluggy

from spamd.errors import DuplicateNameError, PluginError, UnknownNameError
from spamd.hooks import discovery, specs
from spamd.hooks.discovery import Candidate, Plugin, normalised
from spamd.interfaces import DatasetFactory, FreezingPolicy, HeadFactory

Kind = Literal["head", "freezing", "dataset"]

HOOKS: Mapping[Kind, str] = MappingProxyType(
    {
        "head": "spamd_register_heads",
        "freezing": "spamd_register_freezing_policies",
        "dataset": "spamd_register_datasets",
    }
)
"""Hook of each kind of thing that can be plugged in."""

KIND_WORDS: Mapping[Kind, str] = MappingProxyType({"head": "head", "freezing": "freezing policy", "dataset": "dataset"})
"""What each kind is called in a sentence."""

BUILT_INS: Mapping[Kind, str] = MappingProxyType(
    {"head": "spamd.model.heads", "freezing": "spamd.training.freezing", "dataset": "spamd.training.datasets"}
)
"""Module that registers the built-in ones of each kind; only the kinds asked for are imported."""

NAME_FORM = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

Factory = TypeVar("Factory")


@dataclass(frozen=True, slots=True)
class Plugins:
    """Everything on offer by name.

    Attributes:
        heads: name -> factory.
        freezing_policies: name -> policy.
        datasets: name -> factory.
        owners: (kind, name) -> package and version that brought it; kinds are `head`, `freezing` and `dataset`.
        found: every plugin, in the order of registration, disabled ones included.
        offers: plugin name -> the (kind, name) pairs that it registered.
    """

    heads: Mapping[str, HeadFactory]
    freezing_policies: Mapping[str, FreezingPolicy]
    datasets: Mapping[str, DatasetFactory]
    owners: Mapping[tuple[Kind, str], str]
    found: tuple[Plugin, ...]
    offers: Mapping[str, tuple[tuple[Kind, str], ...]]


def load_plugins(
    *,
    drop_in_folder: Path | None,
    disabled: Collection[str] = (),
    use_entry_points: bool = True,
    kinds: Collection[Kind] = tuple(HOOKS),
    extra_modules: Collection[str] = (),
) -> Plugins:
    """Find, import, check and join all plugins.

    Args:
        drop_in_folder: folder of single `.py` files, `plugins_dir` of the settings; it need not exist.
        disabled: plugins to leave out, by package, module or file name.
        use_entry_points: whether installed packages are looked for; tests say no.
        kinds: what to ask the plugins for. The daemon needs heads only and is spared what training imports.
        extra_modules: modules registered besides, by dotted name, so that a plugin's own tests need no installation.

    Returns:
        What is on offer, by name.

    Raises:
        DuplicateNameError: two plugins offer the same name; names both.
        PluginError: a plugin cannot be imported, misspells a hook, offers something unfit or is a file that others may write.
    """
    registry = pluggy.PluginManager(specs.PROJECT)
    registry.add_hookspecs(specs)
    switched_off = {normalised(name) for name in disabled}
    found: dict[str, Plugin] = {}
    candidates = chain(
        discovery.built_ins(BUILT_INS[kind] for kind in HOOKS if kind in kinds),
        discovery.packages() if use_entry_points else (),
        discovery.drop_ins(drop_in_folder),
        discovery.by_name(extra_modules),
    )
    for candidate in candidates:
        plugin = candidate.plugin
        if plugin.name in found:
            first = found[plugin.name]
            raise DuplicateNameError(f"two plugins have the same name: {first} and {plugin}; remove or rename one of them.")
        if candidate.aliases & switched_off:
            found[plugin.name] = replace(plugin, is_disabled=True)
            continue
        found[plugin.name] = plugin
        _register(registry, candidate)
    return _join(registry, found, kinds)


def lookup(mapping: Mapping[str, Factory], kind: str, name: str) -> Factory:
    """Return what is registered under a name.

    Args:
        mapping: what is on offer, one of the mappings of `Plugins`.
        kind: what it is called in a sentence: `head`, `freezing policy` or `dataset`.
        name: the name asked for.

    Returns:
        What stands under that name.

    Raises:
        UnknownNameError: nobody registered it; suggests the nearest name and lists all on offer.
    """
    if name in mapping:
        return mapping[name]
    near = get_close_matches(name, mapping, n=1)
    suggestion = f" Did you mean {near[0]!r}?" if near else ""
    on_offer = ", ".join(sorted(mapping)) or "none"
    raise UnknownNameError(f"no plugin registers a {kind} called {name!r}.{suggestion} On offer: {on_offer}.")


def _register(registry: pluggy.PluginManager, candidate: Candidate) -> None:
    """Import one plugin and let pluggy check its hooks; every failure names the plugin."""
    plugin = candidate.plugin
    try:
        module = candidate.load()
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"plugin {plugin} cannot be loaded: {type(error).__name__}: {error}. "
            f"Mend it, remove it or leave it out with SPAMD_DISABLED_PLUGINS={plugin.name}"
        ) from error
    forgotten = [key for key in dir(module) if key.startswith("spamd_register_") and not _is_marked(getattr(module, key))]
    if forgotten:
        raise PluginError(f"plugin {plugin} has {forgotten[0]}() without @hookimpl, so that it would never be called; add it.")
    try:
        registry.register(module, plugin.name)
        registry.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        reason = " ".join(str(error).partition(" in plugin <")[0].split())
        raise PluginError(f"plugin {plugin} does not fit the hooks: {reason}. They are {', '.join(HOOKS.values())}.") from None


def _is_marked(function: Any) -> bool:
    """Whether a function bears `@hookimpl`."""
    return hasattr(function, f"{specs.PROJECT}_impl")


def _join(registry: pluggy.PluginManager, found: Mapping[str, Plugin], kinds: Collection[Kind]) -> Plugins:
    """Call the hooks of every plugin and join what they return."""
    joined: dict[Kind, dict[str, Any]] = {kind: {} for kind in HOOKS}
    owners: dict[tuple[Kind, str], Plugin] = {}
    for kind in (kind for kind in HOOKS if kind in kinds):
        for implementation in registry.hook.__dict__[HOOKS[kind]].get_hookimpls():
            plugin = found[implementation.plugin_name]
            for name, factory in _call(plugin, kind, implementation.function).items():
                if name in joined[kind]:
                    first = owners[kind, name]
                    raise DuplicateNameError(
                        f"two plugins register the {KIND_WORDS[kind]} {name!r}: {first} of {first.owner} and {plugin} of "
                        f"{plugin.owner}; rename one, or leave a plugin out with SPAMD_DISABLED_PLUGINS."
                    )
                joined[kind][name] = factory
                owners[kind, name] = plugin
    return Plugins(
        heads=MappingProxyType(joined["head"]),
        freezing_policies=MappingProxyType(joined["freezing"]),
        datasets=MappingProxyType(joined["dataset"]),
        owners=MappingProxyType({key: plugin.owner for key, plugin in owners.items()}),
        found=tuple(found.values()),
        offers={name: tuple(key for key, plugin in owners.items() if plugin.name == name) for name in found},
    )


def _call(plugin: Plugin, kind: Kind, function: Callable[[], Any]) -> Mapping[str, Any]:
    """Call one plugin's hook and check what it returns."""
    hook = HOOKS[kind]
    try:
        offered = function()
    except (Exception, SystemExit) as error:
        raise PluginError(f"plugin {plugin} failed in {hook}(): {type(error).__name__}: {error}") from error
    if not isinstance(offered, Mapping):
        raise PluginError(f"plugin {plugin} returned {type(offered).__name__} from {hook}(); return a mapping, name -> factory.")
    for name, factory in offered.items():
        if not isinstance(name, str) or not NAME_FORM.fullmatch(name):
            raise PluginError(f"plugin {plugin} offers the name {name!r} in {hook}(); use lower-case letters, digits and dashes.")
        if not callable(factory):
            raise PluginError(f"plugin {plugin} offers {name!r} in {hook}() as {factory!r}, which cannot be called.")
    if os.environ.get("SPAMD_TRACE_HOOKS", "0") not in {"", "0"}:
        sys.stderr.write(f"spamd hook: {hook}() of {plugin} -> {', '.join(offered) or 'nothing'}\n")
    return offered
