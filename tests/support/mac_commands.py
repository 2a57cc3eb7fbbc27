"""The commands of macOS as the far side of ssh finds them, imitated by their manual pages.

Each takes the options of its page (macOS 14, ``man 1 NAME``) and no others, and its options end at the first operand,
as getopt(3) of BSD has it: what was written for GNU's fails here as it does there. Only these are on the PATH: there is
no sha256sum, no setpriv, no ``sync FILE``; and no ``/proc``, which tests take out of the scripts.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from support.far_side import FarSide
from support.tools import require_tool

# The options of a page's synopsis, as getopts takes them, and what a wrong one ends with (EX_USAGE is 64).
_SYNOPSES = {
    "cat": ("belnstuv", 1),
    "chmod": ("fhvRHLPaAEinNC", 1),
    "cp": ("acfHhiLlNnPpRrsSvXx", 64),
    "date": ("jnRuI:r:v:f:z:", 1),
    "df": ("abcgHhIiklmnPtT:Y,", 1),
    "env": ("0iP:S:u:v", 1),
    # BSD's grep has long options, too, which nothing here uses.
    "grep": ("abcdDEFGHhIiJLlMmnOopqRSsUVvwXxyZz", 2),
    "id": ("AFGMPagnpru", 1),
    "ln": ("FfhinsPLw", 1),
    "ls": ("@ABCFGHILOPRSTUWabcdefghiklmnopqrstuvwxy1%,", 1),
    "mkdir": ("m:pv", 64),
    "mv": ("finhv", 64),
    "readlink": ("fn", 1),
    "rm": ("dfiIPRrvWx", 64),
    "rmdir": ("pv", 64),
    # A script of Perl's.
    "shasum": ("a:bctUp01", 1),
    "sleep": ("", 1),
    "tail": ("Fb:c:fn:qrv", 1),
    "tee": ("ai", 1),
    "tr": ("CcdsuU", 1),
    "uname": ("amnoprsv", 1),
}
_DD = """for word; do case ${word%%=*} in
bs | cbs | conv | count | fillchar | files | ibs | if | iseek | msgfmt | obs | of) ;;
oseek | seek | skip | speed | status) ;;
*) echo "dd: unknown operand ${word%%=*}" >&2; exit 1;;
esac; done
exec $REAL "$@"
"""
# A file with attributes, of which every one that a browser or Finder touched has some, is marked in a long listing.
_MARK = r"s/^\( *\([0-9][0-9]* \)\{0,1\}[-dl][-rwxsStT]\{9\}\)[.+]\{0,1\} /\1@ /"


def mac_side(folder: Path, shell: str = "bash", *, openssl: str = "libressl") -> FarSide:
    """Return a far side whose commands are those of a Mac.

    Args:
        folder: where they are put.
        shell: its sh; on a Mac bash 3.2, in its POSIX mode.
        openssl: ``libressl`` as it comes with macOS, ``0.9.8`` as it came with old ones (without ``-r``), or none.
    """
    far = FarSide(folder, shell, commands=())
    for name, (options, wrong) in _SYNOPSES.items():
        require_tool(name)
        far.shim(name, _checked(name, options, wrong) + _run(name))
    far.shim("tar", f'exec {require_tool("bsdtar", "libarchive-tools")} "$@"')
    far.shim("dd", _DD)
    # sync(8) knows no operands, and passes over them.
    far.shim("sync", "exec $REAL")
    # su(1) of BSD has other options than -s; and sudo asks for a password.
    far.shim("su", 'echo "su: illegal option -- s" >&2; exit 1')
    far.shim("sudo", 'echo "sudo: a password is required" >&2; exit 1')
    (far.programs / "perl").symlink_to(require_tool("perl"))
    if openssl == "libressl":
        far.shim("openssl", 'exec $REAL "$@"')
    elif openssl:
        far.shim("openssl", 'case "$*" in *-r*) echo "unknown option \'-r\'" >&2; exit 1;; esac; exec $REAL "$@"')
    return far


def login_shell() -> str:
    """Return the shell that a login on a Mac has: zsh."""
    return shutil.which("zsh") or require_tool("bash")


def _checked(name: str, options: str, wrong: int) -> str:
    return f"""while getopts ":{options}" o; do case $o in
\\?) echo "{name}: illegal option -- $OPTARG" >&2; echo "usage: {name} ..." >&2; exit {wrong};;
:) echo "{name}: option requires an argument -- $OPTARG" >&2; exit {wrong};;
esac; done
"""


def _run(name: str) -> str:
    if name == "ls":
        # Its status is that of ls, not of sed.
        return f"""said=$(POSIXLY_CORRECT=1 $REAL "$@"); code=$?
[ -z "$said" ] || printf '%s\\n' "$said" | /usr/bin/sed '{_MARK}'
exit $code
"""
    return 'POSIXLY_CORRECT=1 exec $REAL "$@"\n'
