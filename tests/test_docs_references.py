"""What code cites of the documents is there, and what docs/statistics.md names of the code is there too."""

import ast
import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
NOT_OURS = ("data", "store")  # what runs leave there
DOCS = REPOSITORY / "docs"
STATISTICS = (DOCS / "statistics.md").read_text(encoding="utf-8")
SUFFIXES = (".py", ".j2", ".css", ".yaml")
CITED = re.compile(r"docs/(?P<file>[\w-]+\.md)(?:#(?P<anchor>[\w-]+)|, (?P<section>[A-Z][\w' -]*))?")
NOT_SHIPPED = re.compile(r"\b(?:STATISTICS|DESIGN)(?:\.md)?\b")  # the plans of the authors, which nobody else has


def citing_files() -> list[Path]:
    """Product code, tests and benchmarks, this file left out."""
    folders = [path for path in REPOSITORY.iterdir() if path.is_dir() and not path.name.startswith(".") and path.name not in NOT_OURS]
    found = [path for folder in folders for path in folder.rglob("*") if path.suffix in SUFFIXES]
    return sorted({*found, *REPOSITORY.glob("*.py"), *REPOSITORY.glob("*.yaml")} - {Path(__file__).resolve()})


def headings(text: str) -> list[str]:
    """Headings of all levels below the title, in order; code blocks left out."""
    return re.findall(r"^##+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)


def anchor(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def broken(text: str) -> list[str]:
    """Citations in a text whose document, section or anchor is not there."""
    wrong = []
    for found in CITED.finditer(text):
        path = DOCS / found["file"]
        there = headings(path.read_text(encoding="utf-8")) if path.is_file() else None
        if there is None:
            wrong.append(f"{found[0]}: there is no docs/{found['file']}")
        elif found["section"] and found["section"].rstrip() not in there:
            wrong.append(f"{found[0]}: {found['file']} has no such heading, only {', '.join(there)}")
        elif found["anchor"] and found["anchor"] not in map(anchor, there):
            wrong.append(f"{found[0]}: {found['file']} has no such anchor")
    return wrong


def test_every_citation_of_a_document_finds_its_section() -> None:
    texts = {path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8") for path in citing_files()}
    assert {name: wrong for name, text in texts.items() if (wrong := broken(text))} == {}
    sections = {found["section"] for text in texts.values() for found in CITED.finditer(text) if found["file"] == "statistics.md"}
    assert len(sections - {None}) > 10  # the code does cite its methods


def test_nothing_cites_what_is_not_shipped() -> None:
    files = [*citing_files(), *DOCS.glob("*.md"), REPOSITORY / "README.md"]
    assert [path.relative_to(REPOSITORY).as_posix() for path in files if NOT_SHIPPED.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "text",
    [
        "docs/nowhere.md",
        "(docs/statistics.md, Guesswork)",
        "docs/statistics.md#guesswork",
        "docs/statistics.md, Reviewers. And more",
        "docs/architecture.md, Rooms",
    ],
)
def test_a_broken_citation_is_found(text: str) -> None:
    assert len(broken(text)) == 1


def test_citations_are_read_to_their_end() -> None:
    assert (
        broken("docs/statistics.md, Reviewers' error). docs/statistics.md, Drift; docs/statistics.md#drift-of-contents: docs/logos.md.")
        == []
    )


def test_every_module_that_the_statistics_name_exists() -> None:
    named = {name.strip("{}") for name in re.findall(r"`([^`\s]+\.py\}*)`", STATISTICS)}
    modules = {name for name in named if not name.startswith("test_")}
    assert len(modules) > 40
    assert sorted(name for name in modules if not (REPOSITORY / name).is_file()) == []


def test_every_test_that_the_statistics_name_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", STATISTICS)
    assert len([function for _, function in named if function]) > 50
    assert STATISTICS.count("`test_") == len(named)
    found = {path.name: path for path in (REPOSITORY / "tests").rglob("test_*.py")}
    assert sorted({file for file, _ in named} - set(found)) == []
    functions = {
        file: {node.name for node in ast.parse(found[file].read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}
        for file in {file for file, _ in named}
    }
    assert [f"{file}::{function}" for file, function in named if function and function not in functions[file]] == []


def test_every_link_and_every_parameter_of_the_statistics_exists() -> None:
    there = {anchor(heading) for heading in headings(STATISTICS)}
    assert sorted(set(re.findall(r"\]\(#([^)]+)\)", STATISTICS)) - there) == []
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    named = {pair for pair in re.findall(r"`([a-z_]+)\.([a-z_]+)`", STATISTICS) if pair[1] not in ("py", "yaml")}
    assert len(named) > 30
    assert sorted(f"{section}.{key}" for section, key in named if key not in (params.get(section) or {})) == []
