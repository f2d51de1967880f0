"""The house rules, read from the code itself: imports point down, each dependency has one door, nothing heavy loads unasked."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "spamd").rglob("*.py"))

MAX_LINES = 300

BELOW: dict[str, set[str]] = {
    "errors": set(),
    "verdict": {"errors"},
    "config": {"errors"},
    "interfaces": {"errors", "verdict"},
    "hooks": {"errors", "interfaces"},
    "mail": {"errors", "verdict"},
    "model": {"errors", "verdict", "interfaces", "hooks"},
    "inference": {"errors", "verdict", "interfaces", "mail", "model"},
    "training": {"errors", "verdict", "interfaces", "hooks", "mail", "model"},
    "fleet": {"errors", "config", "inference"},
    "loading": {"config", "hooks", "inference", "interfaces", "model", "service"},
    "service": {"errors", "verdict", "mail", "inference"},
    "smtp": {"errors", "verdict", "config", "mail", "service"},
    "spamc": {"errors", "verdict", "config", "mail", "service"},
    "doors": {"config", "service", "smtp", "spamc"},
}
"""What each part may import besides itself and `spamd.__version__`. `cli` and `daemon` stand above and may import everything."""

ABOVE_ALL = {"cli", "daemon"}

DOORS: dict[str, set[str]] = {
    "torch": {"model", "training", "inference"},
    "aiosmtpd": {"smtp"},
    "typer": {"cli"},
    "pluggy": {"hooks"},
    "email": {"mail"},
    "selectolax": {"mail"},
    "tiktoken": {"model"},
    "tokenizers": {"model"},
    "safetensors": {"model", "training"},
    "pandas": {"training"},
    "sklearn": {"training"},
    "matplotlib": {"training"},
    "jinja2": {"training"},
    "pydantic_settings": {"config"},
    "ray": {"fleet"},
    "uvloop": {"daemon"},
}
"""The parts that may import each library."""

NETWORK = {
    "aiohttp",
    "ftplib",
    "http",
    "httpx",
    "huggingface_hub",
    "imaplib",
    "poplib",
    "requests",
    "smtplib",
    "socketserver",
    "urllib.request",
    "urllib3",
}
"""Libraries that open connections."""

CONNECTING = {"model/fetch.py", "inference/remote.py"}
"""The modules outside smtp and spamc that open connections: for published weights, and to a fleet that scores for us."""

LISTENING = "service/listening.py"
"""The one module outside smtp and spamc that opens sockets: those that both listen on."""

SOCKETS = {"doors.py", "service/addresses.py", "service/door.py", "service/systemd.py", LISTENING}
"""Modules outside smtp and spamc that use sockets and open no connection: to resolve names, tell systemd, listen, accept."""

FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
"""Libraries whose files are programs."""

HEAVY = ("torch", "pandas", "sklearn", "numpy", "matplotlib", "tiktoken", "tokenizers", "safetensors", "aiosmtpd")

WALK_THE_HELP = """
import contextlib, io, sys
from typer.main import get_command
from spamd.cli import app
from spamd.cli.spamd import app as daemon

def paths(command, path=()):
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from paths(child, (*path, name))

for program in (app, daemon):
    for path in paths(get_command(program)):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            program([*path, "--help"], standalone_mode=False)
        assert "Usage" in out.getvalue(), path
        print(" ".join(path) or "(program)")
        print("loaded:", [name for name in %r if name in sys.modules])
"""


def part_of(module: Path) -> str:
    """Name the part of spamd that a module belongs to: a folder, or a single file."""
    return module.relative_to(ROOT / "spamd").parts[0].removesuffix(".py")


def imports(module: Path, *, with_types: bool = True) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Yield line, module and names of each import, wherever it stands.

    Args:
        module: the file.
        with_types: whether imports for the type checker alone count.
    """
    tree = ast.parse(module.read_text(encoding="utf-8"))
    unseen = set() if with_types else {id(node) for block in ast.walk(tree) if _is_for_types(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            yield node.lineno, node.module or "", tuple(alias.name for alias in node.names)


def _is_for_types(node: ast.AST) -> bool:
    """Whether a block runs in the type checker only."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def reached(name: str, names: tuple[str, ...]) -> set[str]:
    """Name the parts of spamd that an import reaches."""
    if name == "spamd":
        return {part for part in names if part != "__version__"}
    return {name.split(".")[1]} if name.startswith("spamd.") else set()


def where(module: Path, line: int) -> str:
    """Name a place for a failing test's output."""
    return f"{module.relative_to(ROOT)}:{line}"


def test_every_part_has_its_place():
    """A new folder or module says here what stands below it."""
    parts = {part_of(module) for module in MODULES} - {"__init__"}

    assert set() == parts - set(BELOW) - ABOVE_ALL


def test_imports_point_down():
    """No part imports one that stands above or beside it."""
    wrong = [
        f"{where(module, line)}: {part_of(module)} imports {part}"
        for module in MODULES
        if part_of(module) not in ABOVE_ALL
        for line, name, names in imports(module)
        for part in reached(name, names) - {part_of(module)}
        if part not in BELOW.get(part_of(module), set())
    ]

    assert [] == wrong


def test_the_order_has_no_circle():
    """Following the order downwards ends: nothing is below itself."""
    seen: list[str] = []
    while len(seen) < len(BELOW):
        ready = [part for part, below in BELOW.items() if part not in seen and below <= set(seen)]
        assert ready, f"a circle among {set(BELOW) - set(seen)}"
        seen += ready


def test_only_hookimpl_comes_from_the_hooks():
    """Built-ins mark their functions like any plugin, and know nothing of how plugins are found."""
    wrong = [
        where(module, line)
        for module in MODULES
        if part_of(module) in {"model", "training"}
        for line, name, names in imports(module)
        if name.startswith("spamd.hooks") and names != ("hookimpl",)
    ]

    assert [] == wrong


@pytest.mark.parametrize("library", DOORS)
def test_each_dependency_has_one_door(library):
    """A library is imported by the parts that own it and by no other."""
    wrong = [
        where(module, line)
        for module in MODULES
        for line, name, _ in imports(module, with_types=False)
        if name.split(".")[0] == library and part_of(module) not in DOORS[library]
    ]

    assert [] == wrong


def test_the_network_has_three_doors():
    """`model fetch`, the fleet's client and the SMTP side alone open connections; the others hold no library that could."""
    wrong = [
        f"{where(module, line)}: {name}"
        for module in MODULES
        if module.relative_to(ROOT / "spamd").as_posix() not in CONNECTING and part_of(module) not in {"smtp", "spamc"}
        for line, name, names in imports(module)
        # A list of the codes of HTTP opens nothing.
        if (names != ("HTTPStatus",) and any(name == library or name.startswith(f"{library}.") for library in NETWORK))
        or (name in {"socket", "ssl"} and module.relative_to(ROOT / "spamd").as_posix() not in SOCKETS)
    ]

    assert [] == wrong


def test_connections_are_opened_by_smtp_alone():
    """No call that connects or listens stands outside the SMTP side."""
    opening = {"open_connection", "create_connection", "open_unix_connection", "start_server", "create_server", "urlopen"}
    wrong = [
        f"{where(module, node.lineno)}: {node.attr}"
        for module in MODULES
        if module.relative_to(ROOT / "spamd").as_posix() not in {*CONNECTING, LISTENING}
        if part_of(module) not in {"smtp", "spamc"}
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in opening
    ]

    assert [] == wrong


def test_nothing_is_unpickled():
    """No file that we read is a program: neither pickle nor what is built on it."""
    wrong = []
    for module in MODULES:
        wrong += [where(module, line) for line, name, _ in imports(module) if name.split(".")[0] in FORBIDDEN]
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner, name = node.func.value, node.func.attr
            is_torch = isinstance(owner, ast.Name) and owner.id == "torch" and name in {"load", "save"}
            is_pickle = name in {"read_pickle", "to_pickle"} or any(word.arg == "allow_pickle" for word in node.keywords)
            wrong += [where(module, node.lineno)] if is_torch or is_pickle else []

    assert [] == wrong


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_modules_are_short_and_introduced(module):
    """Each module says what it is, and none is past 300 lines."""
    text = module.read_text(encoding="utf-8")

    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert MAX_LINES >= len(text.splitlines())


def loaded_by(code: str) -> str:
    """Run code in a Python of its own and return what it prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("name", ["spamd", "spamd.cli", "spamd.hooks", "spamd.interfaces", "spamd.config", "spamd.mail.text"])
def test_imports_are_light(name):
    """Importing the package, the command line, what plugins need, settings or text loads no machinery."""
    assert "[]\n" == loaded_by(f"import sys, {name}; print([name for name in {HEAVY!r} if name in sys.modules])")


def test_help_is_light():
    """`--help` of both programs and of every command answers without torch, pandas or scikit-learn."""
    lines = loaded_by(WALK_THE_HELP % (HEAVY,)).splitlines()
    commands, loaded = lines[::2], lines[1::2]

    assert {"loaded: []"} == set(loaded), [
        command for command, found in zip(commands, loaded, strict=True) if found != "loaded: []"
    ]
    assert {"score", "retrain", "model fetch", "plugins new", "config check"} <= set(commands)
