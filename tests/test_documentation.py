"""The README and the pages are true: trees, settings, hooks, plugin, commands and links are checked against the code."""

import inspect
import re
from pathlib import Path

import pytest
from typer.main import get_command

from spamd import cli
from spamd.cli.config.layout import table
from spamd.config import load_settings
from spamd.hooks import specs
from spamd.hooks.manager import load_plugins

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}
EVERYTHING = "\n".join([README, *PAGES.values()])
HOOKS = sorted(name for name in vars(specs) if name.startswith("spamd_"))


def between(marker: str, page: str) -> str:
    """Return a page's text between two markers."""
    match = re.search(rf"<!-- {marker} -->\n(.*?)<!-- /{marker} -->", page, re.DOTALL)
    assert match, f"the page has no {marker} markers"
    return match.group(1)


def listed_paths(page: str) -> list[str]:
    """Return the paths that a page's tree names."""
    return [line.split()[0] for line in between("tree", page).splitlines() if line.strip() and not line.startswith("```")]


def test_layout_lists_every_module() -> None:
    """The page about the layout names each module of the package once, and no other."""
    paths = listed_paths(PAGES["layout.md"])
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / "spamd").rglob("*.py")}
    modules -= {path for path in modules if path.endswith("__init__.py") and path not in paths}

    assert sorted(modules) == sorted(path for path in paths if path.startswith("spamd/") and path.endswith(".py"))


def test_readme_lists_every_folder_of_the_package() -> None:
    """The README's tree names each folder of the package once, and no other."""
    folders = {f"spamd/{file.parent.name}/" for file in (ROOT / "spamd").glob("*/__init__.py")}
    listed = [path for path in listed_paths(README) if path.startswith("spamd/") and path != "spamd/"]

    assert sorted(folders) == sorted(listed)


@pytest.mark.parametrize("page", ["README.md", "docs/layout.md"])
def test_trees_name_only_what_exists(page: str) -> None:
    """Every path in a tree exists."""
    assert [] == [path for path in listed_paths((ROOT / page).read_text(encoding="utf-8")) if not (ROOT / path).exists()]


def test_tree_lists_the_top_level() -> None:
    """Whatever lies at the top of the repository stands in the README's tree, but for what tools leave there."""
    left_by_tools = {"__pycache__", "build", "dist"}
    top = {file.name for file in ROOT.iterdir() if not file.name.startswith(".") or file.name == ".ci"} - left_by_tools
    listed = {path.split("/")[0] for path in listed_paths(README)}

    assert set() == top - listed


def test_settings_table_is_the_settings() -> None:
    """The table of settings is the one that the settings themselves make."""
    assert table().strip() == between("settings", PAGES["settings.md"]).strip()


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_are_documented(name: str) -> None:
    """Each hook has a section of its page, headed by its signature."""
    arguments = ", ".join(inspect.signature(getattr(specs, name)).parameters)

    assert f"## `{name}({arguments})`\n" in PAGES["plugins.md"]


@pytest.mark.parametrize("name", HOOKS)
def test_hook_contracts_are_complete(name: str) -> None:
    """Each hook's docstring says when it is called, what it returns, how it merges and fails, and has an example."""
    contract = inspect.getdoc(getattr(specs, name))
    example = re.search(r"Example: (\S+)", contract)

    assert [] == [word for word in ("Called:", "Returns:", "Merging:", "Errors:") if word not in contract]
    assert (ROOT / example.group(1)).exists()


def test_plugin_of_the_readme_runs(tmp_path: Path) -> None:
    """The plugin that the README shows works as a file dropped in."""
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    (tmp_path / "biases.py").write_text(code)
    policy = load_plugins(drop_in_folder=tmp_path, use_entry_points=False).freezing_policies["biases-only"]

    assert ["h.0.bias", "head.weight"] == policy(["h.0.weight", "h.0.bias", "head.weight"], 0)


def test_settings_of_the_readme_are_settings(tmp_path: Path) -> None:
    """Each piece of a settings file that README and settings page show is one that spamd takes."""
    pieces = re.findall(r"```toml\n(.*?)```", README + PAGES["settings.md"], re.DOTALL)
    for number, piece in enumerate(pieces):
        file = tmp_path / f"{number}.toml"
        file.write_text(piece)
        load_settings(file)

    assert pieces


def test_commands_of_the_readme_exist() -> None:
    """Each `spamd-admin` command that the pages name is one."""
    root = get_command(cli.app)
    named = set(re.findall(r"spamd-admin ([a-z]+)(?: ([a-z]+))?", re.sub(r"\s+", " ", EVERYTHING)))
    unknown = []
    for first, second in named:
        command = root.commands.get(first)
        if command is None or (hasattr(command, "commands") and second and second not in command.commands):
            unknown.append(f"{first} {second}")

    assert [] == unknown


def test_links_of_the_readme_lead_somewhere() -> None:
    """Each relative link of the README leads to a file."""
    links = re.findall(r"\]\(([^)#:]+)\)", README)

    assert [] == [link for link in links if not (ROOT / link).exists()]


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as links name them."""
    texts = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_links_of_the_pages_lead_somewhere(page: Path) -> None:
    """Each relative link of a page under docs/ leads to a file, and to a heading in it where it names one."""
    links = re.findall(r"\]\(([^)#:]*)#?([^)]*)\)", page.read_text(encoding="utf-8"))
    targets = [((page.parent / path) if path else page, anchor) for path, anchor in links]

    assert [] == [(path, anchor) for path, anchor in targets if not path.exists() or (anchor and anchor not in headings(path))]
