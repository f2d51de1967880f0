"""`spamd-admin plugins new`: write a plugin package whose tests pass as it stands. Overwrites nothing, installs nothing."""

import shutil
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from spamd import __version__
from spamd.hooks.manager import KIND_WORDS, NAME_FORM, load_plugins

TEMPLATES = Path(__file__).parent / "template"
FOLDER_MODE = 0o755


class Kind(StrEnum):
    """What a plugin can bring."""

    HEAD = "head"
    FREEZING = "freezing"
    DATASET = "dataset"


USAGE: Mapping[Kind, str] = {
    Kind.HEAD: "spamd-admin retrain --head $name ...",
    Kind.FREEZING: "spamd-admin retrain --freeze $name ...",
    Kind.DATASET: "spamd-admin retrain --dataset $name:PATH ...",
}


def new_plugin(
    name: Annotated[str, typer.Argument(help="What settings and options will call it: lower-case letters, digits and dashes.")],
    *,
    kind: Annotated[Kind, typer.Option(help="What it brings.")],
    into: Annotated[
        Path, typer.Option(metavar="DIR", exists=True, file_okay=False, help="Where its folder, spamd-NAME, is made.")
    ] = Path(),
) -> None:
    """Write a plugin package with README and tests, ready to be changed."""
    name = name.removeprefix("spamd-")
    if not NAME_FORM.fullmatch(name):
        raise typer.BadParameter(f"{name!r} is no name for a plugin; use lower-case letters, digits and dashes.")
    ours = load_plugins(drop_in_folder=None, use_entry_points=False, kinds=[kind.value])
    if (kind.value, name) in ours.owners:
        raise typer.BadParameter(f"{name!r} is a {KIND_WORDS[kind.value]} that comes with spamd; choose another name.")
    folder = into / f"spamd-{name}"
    write_package(folder, name, kind, KIND_WORDS[kind.value])
    typer.echo(f"wrote {folder}; next: pip install -e {folder} && pytest {folder}")


def write_package(folder: Path, name: str, kind: Kind, word: str) -> None:
    """Write the package, all of it or nothing.

    Args:
        folder: the folder to make.
        name: the name to register.
        kind: what the plugin brings.
        word: what that is called in a sentence.

    Raises:
        typer.BadParameter: the folder exists.
    """
    module = f"spamd_{name.replace('-', '_')}"
    values = {
        "name": name,
        "package": f"spamd-{name}",
        "module": module,
        "word": word,
        "usage": Template(USAGE[kind]).substitute(name=name),
        "version": __version__,
    }
    contents = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{module}.py": f"{kind}.py",
        f"test_{module}.py": f"test_{kind}.py",
    }
    if folder.exists():
        raise typer.BadParameter(f"{folder} exists and is left as it is; choose another name or another --into.")
    draft = Path(tempfile.mkdtemp(prefix=".spamd-plugin-", dir=folder.parent))
    try:
        for target, template in contents.items():
            text = Template((TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")).substitute(values)
            (draft / target).write_text(text, encoding="utf-8")
        draft.chmod(FOLDER_MODE)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
