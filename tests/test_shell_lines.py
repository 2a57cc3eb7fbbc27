"""What we print for people to type means the same to their shell, whatever is in a name."""

from __future__ import annotations

import shlex

import pytest

from ollama_ferry.shell_lines import folder_making, joined, one_then_other, quoted, removal, renaming, split_line


def test_a_posix_shell_reads_what_was_meant() -> None:
    assert quoted("/a b", "linux") == "'/a b'" and quoted("/a\n'", "linux") == "$'/a\\x0a\\x27'"
    assert shlex.split(joined(["rm", "a b", "$HOME", "it's"], "darwin")) == ["rm", "a b", "$HOME", "it's"]
    assert removal(["a", "b c"], "-rf", "linux") == "rm -rf a 'b c'"
    # BSD's mv knows no -T.
    assert renaming("a", "b", "linux") == "mv -nT a b" and renaming("a", "b", "darwin") == "mv -n a b"
    assert folder_making("a/b", "linux") == "mkdir -p a/b"
    assert one_then_other("a", "b", "linux") == "a && b"


@pytest.mark.parametrize(
    ("word", "line"),
    [
        (r"C:\Users\me\models", r"C:\Users\me\models"),
        (r"\\server\share\x.tar.gz", r"\\server\share\x.tar.gz"),
        (r"C:\Program Files\x.tar", r'"C:\Program Files\x.tar"'),
        # PowerShell makes a list of it, cmd one word.
        ("a,b", '"a,b"'),
        ("@me", '"@me"'),
        ("hf.co/a/b:Q4", "hf.co/a/b:Q4"),
        ("qwen*", '"qwen*"'),
        # A variable of PowerShell, and one of cmd.
        ("$models", "'$models'"),
        ("%TEMP%", "'%TEMP%'"),
        ("it's $1", "'it''s $1'"),
        ("模型", '"模型"'),
        ("", '""'),
    ],
)
def test_a_windows_shell_reads_what_was_meant(word: str, line: str) -> None:
    # about_Quoting_Rules, about_Parsing: in double quotes only $ and ` mean something, in single ones nothing does.
    assert quoted(word, "win32") == line


def test_lines_for_powershell() -> None:
    assert removal([r"C:\a b", r"C:\c"], platform="win32") == r'Remove-Item -LiteralPath "C:\a b",C:\c'
    assert removal(["a"], "-rf", "win32") == "Remove-Item -Recurse -Force -LiteralPath a"
    assert renaming("a", "b c", "win32") == 'Move-Item -LiteralPath a -Destination "b c"'
    assert folder_making(r"D:\models", "win32") == r"mkdir D:\models"
    # Windows PowerShell 5 has no &&.
    assert one_then_other("a", "b", "win32") == "a; if ($?) { b }"


def test_words_of_a_line() -> None:
    assert split_line("ssh -i '/a b/key' -p 22", "linux") == ["ssh", "-i", "/a b/key", "-p", "22"]
    line = r'"C:\Program Files\OpenSSH\ssh.exe" -i C:\Users\me\key'
    assert split_line(line, "win32") == [r"C:\Program Files\OpenSSH\ssh.exe", "-i", r"C:\Users\me\key"]
    with pytest.raises(ValueError):
        split_line('ssh "-i', "win32")
