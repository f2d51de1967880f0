"""Each hook does what its docstring says, asked through the manager as start-up asks it."""

import inspect
import sys
from types import ModuleType

import pytest

from spamd.hooks import hookimpl, specs
from spamd.hooks.manager import HOOKS, load_plugins
from spamd.interfaces import LabeledMessage
from spamd.verdict import Label

pytestmark = pytest.mark.usefixtures("_light_built_ins")


def load_module(monkeypatch, **functions):
    """Load one module made of hook implementations, beside the built-ins."""
    module = ModuleType("made_here")
    for name, function in functions.items():
        setattr(module, name, hookimpl(function))
    monkeypatch.setitem(sys.modules, "made_here", module)
    return load_plugins(drop_in_folder=None, use_entry_points=False, extra_modules=["made_here"])


def test_hook_spamd_register_heads(monkeypatch):
    """A head factory is found by name and called with width, classes and options."""
    plugins = load_module(
        monkeypatch, spamd_register_heads=lambda: {"wide": lambda width, num_classes, **options: (width, num_classes, options)}
    )

    assert (32, 2, {"depth": 2}) == plugins.heads["wide"](32, 2, depth=2)
    assert "made_here" == plugins.owners["head", "wide"]


def test_hook_spamd_register_freezing_policies(monkeypatch):
    """A freezing policy is found by name and chooses among parameter names without torch."""
    plugins = load_module(monkeypatch, spamd_register_freezing_policies=lambda: {"first": lambda names, epoch: {names[epoch]}})

    assert {"head.weight"} == plugins.freezing_policies["first"](["trunk.wte.weight", "head.weight"], 1)


def test_hook_spamd_register_datasets(monkeypatch, tmp_path):
    """A dataset factory is found by name and yields labelled messages from a path."""

    def one_message(path, **options):
        return [LabeledMessage(b"Subject: x\r\n\r\n", Label.HAM, f"{path} {options['part']}")]

    plugins = load_module(monkeypatch, spamd_register_datasets=lambda: {"one": one_message})

    assert [f"{tmp_path} 7"] == [message.origin for message in plugins.datasets["one"](tmp_path, part="7")]


@pytest.mark.parametrize("hook", HOOKS.values())
def test_each_hook_tells_its_whole_contract(hook):
    """Each docstring says when it is called, what to return, how answers merge, what goes wrong and where an example is."""
    text = inspect.getdoc(getattr(specs, hook))

    assert [] == [part for part in ("Called:", "Returns:", "Merging:", "Errors:", "Example:") if part not in text]


def test_every_hook_has_a_kind():
    """The manager asks for each hook that the specification holds, and for no other."""
    expected = {name for name in dir(specs) if name.startswith("spamd_register_")}

    assert expected == set(HOOKS.values())
