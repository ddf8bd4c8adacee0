"""What commands print of strangers' names: nothing that a terminal would act on, and no line that a stranger began."""

import ast
import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from rich.table import Table

from tests.feature_store.deliveries import AS_OF, decision, deliver, outcome, post
from tests.weeks import deliver as deliver_week
from tests.weeks import tables
from upheld.common.command import command
from upheld.common.terminal import console, visible
from upheld.evaluation import evaluate
from upheld.evaluation.audit import command as audit_sample
from upheld.evaluation.weekly import command as weekly
from upheld.feature_store.extraction import command as features
from upheld.feature_store.ingest import command as ingest
from upheld.feature_store.ingest import expectations
from upheld.feature_store.ledger.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]
EVIL = "\x1b[31mEVIL\x1b]0;pwn\x07\u202eecafeb\x9b2J\nupheld ingest: all is well\u2028next"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Everything that was printed, after the check."""
    captured = capsys.readouterr()
    text = captured.out + captured.err
    acting = {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert acting <= {"\n", "\t"}
    return text


def test_every_character_that_acts_is_escaped_and_no_other() -> None:
    assert visible("naïve 日本語 🎉\u00a0x") == "naïve 日本語 🎉\u00a0x"
    assert visible("a\x00\x1b\x7f\x85\u200e\u202e\u2066\u2028\ufeff\ud800\U000e0041\n\t") == (
        r"a\u0000\u001b\u007f\u0085\u200e\u202e\u2066\u2028\ufeff\ud800\U000e0041\u000a\u0009"
    )
    assert visible("a\nb\tc\r", "\n\t") == "a\nb\tc\\u000d"


def test_ingest_tells_of_hostile_files_and_columns(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(expectations, "judge", lambda *_: {"success": True, "checks": []})
    delivery = deliver(tmp_path / "d", posts=[post()])
    folder = tmp_path / "d" / "posts"
    (folder / f"{EVIL.replace('/', '')}.txt").write_text("x")
    (folder / "twice.csv").write_text(f'post_id,"{EVIL}","{EVIL}"\n')
    (folder / "extra.csv").write_text(f'post_id,created_at,language,text,"{EVIL}"\n')
    for form in ([], ["--json"]):
        assert ingest.main([delivery, "--store", str(tmp_path / "store"), "--as-of", AS_OF.isoformat(), *form]) == 1
        text = said(capsys)
        assert "EVIL" in text and "\nupheld ingest: all is well" not in text
        if form:
            assert any(EVIL in file["path"] for file in json.loads(text[: text.rindex("}") + 1])["files"])


def test_names_in_errors_are_escaped(tmp_path, capsys) -> None:
    pd.DataFrame({"item_id": ["a"], EVIL: [1]}).to_csv(tmp_path / "scores.csv", index=False)
    assert evaluate.main(["--scores", str(tmp_path / "scores.csv"), "--out", str(tmp_path / "out")]) == 2
    assert ingest.main([f"{tmp_path}/{EVIL}\udcff"]) == 2
    text = said(capsys)
    assert len(text.splitlines()) == 2 and text.count("EVIL") == 2


def test_languages_and_categories_of_a_draw_are_escaped(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("UPHELD_AUDIT_SECRET", "0123456789abcdef")
    rows = [decision(f"d{n}", post_id=f"p{n}", category=EVIL, score=n / 40, language=EVIL) for n in range(40)]
    pd.DataFrame(rows).to_parquet(tmp_path / "decisions.parquet")
    arguments = ["--decisions", str(tmp_path / "decisions.parquet"), "--budget", "20", "--out", str(tmp_path / "plan.csv")]
    assert audit_sample.main([*arguments, "--store", str(tmp_path / "none")]) == 0
    text = said(capsys)
    assert "EVIL" in text and "\nupheld ingest: all is well" not in text


def test_model_names_of_a_week_are_escaped(tmp_path, capsys) -> None:
    delivery = deliver_week(tmp_path / "in", tables(300, models=(EVIL,)))
    assert weekly.main(["--week", "2026-W43", "--out", str(tmp_path / "out"), "--delivery", str(delivery)]) == 0
    text = said(capsys)
    assert "EVIL" in text and "\nupheld ingest: all is well" not in text


def test_what_is_known_of_a_post_is_escaped(capsys) -> None:
    row = {"kind": "text", "digest": "d", "extractor": "e", "version": "1", "extracted_at": "t"}
    rows = [row | {"reason": "r", "detail": EVIL, "values": {}}, row | {"reason": None, "detail": None, "values": {"said": EVIL}}]
    features.print_explained({"post_id": f"[red]{EVIL}", "rows": rows})
    assert "EVIL" in said(capsys)


def test_print_rich_and_an_error_go_through_one_place(capsys) -> None:
    @command("x")
    def main() -> None:
        print(EVIL)
        table = Table(EVIL)
        table.add_row(EVIL)
        for shown in (console(), console(stderr=False)):
            shown.print(EVIL, "[bold]mark[/bold]")
            shown.print(table)
        raise OSError(13, EVIL, EVIL)

    assert main([]) == 1
    assert said(capsys).count("EVIL") >= 6


def test_colours_of_our_own_get_through(capsys) -> None:
    @command("x")
    def main() -> None:
        shown = console(stderr=False, force_terminal=True, color_system="standard", highlight=False)
        shown.print("[bold]mark[/bold]\x1b[31m")

    assert main([]) == 0
    assert capsys.readouterr().out == "\x1b[1mmark\x1b[0m\\u001b[31m\n"


def test_no_console_is_made_anywhere_else() -> None:
    packages = [path.parent for path in ROOT.glob("*/__init__.py")]
    paths = [path for package in packages for path in package.rglob("*.py") if path.name != "terminal.py"]
    trees = {path: ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for path in paths}
    made = [
        f"{path}:{node.lineno}"
        for path, nodes in trees.items()
        for node in nodes
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Console"
    ]
    assert len(paths) > 100
    assert made == [], "make it with upheld.common.terminal.console"


def test_a_full_disk_is_one_line_and_keeps_what_was_there(tmp_path, monkeypatch) -> None:
    """The limit on the size of a file stands for the disk's: the same error, without a disk to fill."""
    monkeypatch.setattr(expectations, "judge", lambda *_: {"success": True, "checks": []})
    store = tmp_path / "store"
    rest = ["--store", str(store), "--as-of", AS_OF.isoformat()]
    assert ingest.main([deliver(tmp_path / "1", posts=[post()], review_outcomes=[outcome()]), *rest]) == 0
    large = deliver(tmp_path / "2", posts=[post(f"q{n}", text="x" * 1000 + str(n)) for n in range(2000)])
    limit = "import resource, signal, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000)); "
    limit += (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from upheld.feature_store.ingest import command as ingest; sys.exit(ingest.main())"
    )
    full = subprocess.run([sys.executable, "-c", limit, large, *rest], cwd=ROOT, capture_output=True, text=True)
    assert (full.returncode, len(full.stderr.splitlines())) == (1, 1), full.stderr
    assert "File too large" in full.stderr and "make room" in full.stderr
    assert [Ledger(store).read(table).num_rows for table in ("posts", "review_outcomes")] == [1, 1]
    assert ingest.main([large, *rest]) == 0


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("lance error: IO: No space left on device (28)")])
def test_a_full_disk_is_known_by_its_words(capsys, error) -> None:
    @command("x")
    def main() -> None:
        raise error

    assert main([]) == 1
    assert said(capsys).count("\n") == 1
