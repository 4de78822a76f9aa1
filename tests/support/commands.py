"""Finds the commands that the README and the pages in docs/ ask people to type."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# A code span is a command if it begins with one of these and something follows.
PROGRAMS = ("charlm", "curl", "dvc", "git", "make", "mlflow", "pip", "pytest", "python", "ruff")
FENCE = re.compile(r"^```(?:bash|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ANY_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Command:
    """A command and the page that shows it."""

    text: str
    page: str


def documented_commands() -> list[Command]:
    """Return every command of every page, each text once, in the pages' order."""
    found: dict[str, Command] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in FENCE.findall(text):
            for command in _of_block(block):
                found.setdefault(command, Command(command, page.name))
        for span in SPAN.findall(ANY_FENCE.sub("", text)):
            if span.split()[0] in PROGRAMS and len(span.split()) > 1:
                found.setdefault(span, Command(span, page.name))
    return list(found.values())


def _of_block(block: str) -> list[str]:
    """Return the commands of a shell block: quotes and backslashes join lines, comments are removed."""
    commands, lines = [], ""
    for line in block.splitlines():
        lines += line
        if lines.rstrip().endswith("\\"):
            lines = lines.rstrip().removesuffix("\\")
            continue
        try:
            words = shlex.split(lines, comments=True)
        except ValueError:  # an open quote: the command continues on the next line
            lines += "\n"
            continue
        if words:
            commands.append(_without_comment(lines).strip())
        lines = ""
    return commands


def _without_comment(line: str) -> str:
    return re.sub(r"(?:^|\s{2,})#(?![^\n]*['\"]\S*$).*$", "", line)
