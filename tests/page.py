"""What a page of `docs/` tells its reader to paste, for tests that do just that.

    page = Page("postfix.md")
    page.block("After the queue", 1)  # the second fenced block under that heading
    page.files("Through the proxy")  # path -> text of the blocks under it that are files

Knows nothing of what the blocks do. Used by `mta/`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`(/[^`\n]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Page:
    """One page.

    Args:
        name: its file's name.
    """

    def __init__(self, name: str) -> None:
        self.text = (DOCS / name).read_text(encoding="utf-8")
        self.sections = dict(SECTION.findall(self.text))

    def block(self, heading: str, number: int = 0) -> str:
        """Return a fenced block that names its language.

        Args:
            heading: of the section that it stands in.
            number: counted from 0 in the section.
        """
        return BLOCK.findall(self.sections[heading])[number][1]

    def files(self, heading: str) -> dict[str, str]:
        """Return the files that a section shows, path -> text."""
        return dict(FILE.findall(self.sections[heading]))


def with_ports(text: str, ports: Mapping[int, int]) -> str:
    """Put our ports in the place of a page's."""
    return re.sub(rf"(?<!\d)({'|'.join(map(str, ports))})(?!\d)", lambda port: str(ports[int(port[0])]), text)
