"""What runs on the far side: scripts for any POSIX sh, with the commands of GNU, BusyBox or macOS.

A script arrives on standard input, and so do its parameters, one a line: nothing that comes from a name or a path is
ever part of a command line or of a script, so no shell ever reads it as anything but text. After the parameters comes
the data. Answers are lines; the last one is ``end``.
"""

from __future__ import annotations

BOOTSTRAP = (
    """exec sh -c 'n=$(printf "\\nx"); n=${n%x}; s=; while IFS= read -r l && [ "$l" != "#end" ]; """
    """do s=$s$l$n; done; [ "$l" = "#end" ] && eval "$s"'"""
)
"""The one command line: read a script up to ``#end``, then run it. Any login shell passes it on as it is."""

# openssl comes first: it lets the processor do the hashing, three times as fast as the sha256sum of most systems.
_COMMON = r"""
LC_ALL=C; export LC_ALL; umask 022
say() { printf '%s\n' "$*"; }
die() { say "error $*"; exit 3; }
size_of() { set -- $(ls -lnL "$1" 2>/dev/null); say "${5:-0}"; }
quick=
safe() { sync "$1" 2>/dev/null || sync 2>/dev/null || :; }
if command -v openssl >/dev/null 2>&1 && h=$(openssl dgst -sha256 -r </dev/null 2>/dev/null) && \
   [ "${h%% *}" = e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 ]; then
    quick=1; hash() { openssl dgst -sha256 -r; }; hash_files() { openssl dgst -sha256 -r "$@"; }
elif command -v sha256sum >/dev/null 2>&1; then hash() { sha256sum; }; hash_files() { sha256sum -- "$@"; }
elif command -v shasum >/dev/null 2>&1; then hash() { shasum -a 256; }; hash_files() { shasum -a 256 -- "$@"; }
else die nohash; fi
own() { [ -z "$owner" ] || chown "$owner" "$@" 2>/dev/null || :; }
owner=
paths() {
    IFS= read -r root; IFS= read -r staging
    case $root in /*) ;; *) die closed;; esac
    case $staging in /*) ;; *) die closed;; esac
}
enter() {
    paths
    cd "$root" 2>/dev/null || die closed
    if [ "$(id -u)" = 0 ]; then set -- $(ls -ldn .); owner=$3:$4; fi
}
"""

# Parameters: the store, or an empty line; then the manifests to print, or `*`, and `.`.
LOOK = (
    _COMMON
    + r"""
say ferry 1
IFS= read -r wanted
usable() { [ -d "$1/manifests" ]; }
unit() {
    for u in /etc/systemd/system/ollama.service.d/*.conf /etc/systemd/system/ollama.service; do
        [ -r "$u" ] || continue
        while IFS= read -r line; do
            case $line in Environment=*OLLAMA_MODELS=*)
                line=${line#*OLLAMA_MODELS=}; line=${line%%\"*}; say "${line%% *}"; return;;
            esac
        done < "$u"
    done
}
root=
if [ -n "$wanted" ]; then
    case $wanted in
        "~") root=$HOME;;
        "~/"*) root=$HOME/${wanted#"~/"};;
        /*) root=$wanted;;
        *) root=$PWD/$wanted;;
    esac
else
    first=; shut=
    for c in "$OLLAMA_MODELS" "$(unit)" /usr/share/ollama/.ollama/models /var/snap/ollama/common/models \
             "$HOME/.ollama/models"; do
        case $c in /*) ;; *) continue;; esac
        if usable "$c"; then root=$c; break; fi
        d=$c; while [ ! -e "$d" ] && [ "$d" != / ]; do d=${d%/*}; d=${d:-/}; done
        if [ -d "$d" ] && [ ! -x "$d" ]; then shut=$c; fi
        [ -n "$first" ] || { [ -d "${c%/models}" ] && first=$c; }
    done
    [ -n "$root" ] || { [ -n "$shut" ] && die "closed $shut"; root=$first; }
    [ -n "$root" ] || die nostore
fi
case $root in /*) ;; *) die nostore;; esac
say "root $root"
say "os $(uname -s 2>/dev/null)"
say "uid $(id -u)"
if command -v tar >/dev/null 2>&1 && [ -z "$FERRY_NO_TAR" ]; then say tar yes; fi
d=$root; while [ ! -d "$d" ]; do d=${d%/*}; d=${d:-/}; done
if [ -d "$root/blobs" ]; then d=$root/blobs; fi
if [ ! -x "$d" ]; then die "closed $d"; fi
if [ -w "$d" ]; then say writable; fi
df -Pk "$d" 2>/dev/null | { read -r head; read -r fs blocks used free rest; say "free $free"; }
staging=$root/.ollama-ferry-ssh
if [ -h "$root/blobs" ]; then staging=$root/blobs/.ollama-ferry-ssh; fi
say "staging $staging"
say blobs; ls -lnL "$root/blobs" 2>/dev/null; say .
say staged; ls -lnL "$staging" 2>/dev/null; say .
give() {
    if [ -f "$1" ] && [ -r "$1" ]; then
        n=$(size_of "$1")
        # Larger ones are no manifests.
        if [ "$n" -le 4194304 ]; then say "manifest $n $1"; cat "$1"; say; fi
    fi
}
if cd "$root/manifests" 2>/dev/null; then
    say names; for f in */*/*/*; do say "$f"; done; say .
    while IFS= read -r m && [ "$m" != . ]; do
        if [ "$m" = "*" ]; then for f in */*/*/*; do give "$f"; done; else give "$m"; fi
    done
fi
say end
"""
)

# Parameters: the store, the staging folder, the blob's file name, its size, how much of it is there; then the rest.
# Or for many small ones: the store, the staging folder, `many`, the name of a folder; then a tar.
PUT = (
    _COMMON
    + r"""
make_store() {
    d=$1; list=
    while [ ! -d "$d" ]; do list="$d
$list"; p=${d%/*}; d=${p:-/}; done
    if [ "$(id -u)" = 0 ]; then set -- $(ls -ldn "$d"); owner=$3:$4; fi
    while IFS= read -r d; do [ -z "$d" ] || { mkdir "$d" 2>/dev/null && own "$d"; }; done <<EOT
$list
EOT
}
paths
make_store "$root"
cd "$root" 2>/dev/null || die closed
if [ "$(id -u)" = 0 ]; then set -- $(ls -ldn .); owner=$3:$4; fi
for d in blobs manifests "$staging"; do
    [ -d "$d" ] || { mkdir "$d" 2>/dev/null && own "$d"; } || die closed
done
[ ! -h "$staging" ] || die closed
IFS= read -r kind
cd "$staging" || die closed
if [ "$kind" = many ]; then
    IFS= read -r batch
    # What a batch that was cut has left is sent again.
    rm -rf "$batch"
    mkdir "$batch" || die closed
    cd "$batch" || die closed
    tar -xf - || die write
    set -- sha256-*
    [ -e "$1" ] || set --
    if [ $# -gt 0 ]; then
        bad=; good=0
        hashes=$(hash_files "$@") || die write
        while read -r h f; do
            f=${f#\*}
            if [ "sha256-$h" = "$f" ]; then good=$((good + 1)); else bad=$f; fi
        done <<EOT
$hashes
EOT
        [ -z "$bad" ] || die "bad $bad"
        [ "$good" = $# ] || die write
        chmod 644 "$@"; own "$@"
        sync "$@" 2>/dev/null || sync 2>/dev/null || :
        mv -f "$@" .. || die write
    fi
    cd .. && rmdir "$batch"
    say end
    exit
fi
name=$kind; f=$name.partial
IFS= read -r size; IFS= read -r offset
have=$(size_of "$f")
if [ "$have" -lt "$offset" ]; then die "have $have"; fi
if [ "$offset" = 0 ]; then : > "$f" || die write
elif [ "$have" -gt "$offset" ]; then dd if=/dev/null of="$f" bs=1 seek="$offset" count=0 2>/dev/null || die write; fi
if [ -n "$quick" ]; then
    # Fast hashing is done when all is there, beside the sync: a tee would cost more than it saves.
    cat >> "$f" 2>/dev/null
    have=$(size_of "$f")
    if [ "$have" != "$size" ]; then die "short $have"; fi
    safe "$f" </dev/null &
    h=$(hash < "$f")
    wait
else
    h=$({ [ "$offset" = 0 ] || cat "$f"; tee -a "$f" 2>/dev/null; } | hash)
    have=$(size_of "$f")
    if [ "$have" != "$size" ]; then die "short $have"; fi
    safe "$f"
fi
h=${h%% *}
if [ "sha256-$h" != "$name" ]; then rm -f "$f"; die "bad $name"; fi
chmod 644 "$f"; own "$f"
mv -f "$f" "$name" || die write
say end
"""
)

# Parameters: the store, the staging folder, the blobs' file names, `.`, the folder of the manifest below manifests/,
# its tag, its size; then its bytes.
COMMIT = (
    _COMMON
    + r"""
enter
publish() {
    own "$@"
    (cd "$staging" && mv -f "$@" "$root/blobs/") || die write
}
all=
set --
while IFS= read -r b && [ "$b" != . ]; do
    if [ -f "$staging/$b" ]; then set -- "$@" "$b"; fi
    all="$all $b"
    if [ $# -ge 200 ]; then publish "$@"; set --; fi
done
if [ $# -gt 0 ]; then publish "$@"; fi
safe blobs
for b in $all; do [ -f "blobs/$b" ] || die "missing $b"; done
IFS= read -r folder; IFS= read -r tag; IFS= read -r size
[ -d "$staging" ] || { mkdir "$staging" && own "$staging"; } || die closed
m=$staging/manifest
cat > "$m" || die write
[ "$(size_of "$m")" = "$size" ] || die "short manifest"
chmod 644 "$m"; own "$m"
safe "$m"
d=manifests; rest=$folder/
[ -d "$d" ] || { mkdir "$d" && own "$d"; } || die closed
while [ -n "$rest" ]; do
    d=$d/${rest%%/*}; rest=${rest#*/}
    [ -d "$d" ] || { mkdir "$d" && own "$d"; } || die closed
done
[ ! -d "$d/$tag" ] || die "write $d/$tag is a folder"
mv -f "$m" "$d/$tag" || die write
safe "$d"
for b in $all; do [ -f "blobs/$b" ] || die "missing $b"; done
rmdir "$staging" 2>/dev/null
say end
"""
)

# Parameters: the store, the staging folder (not used), the blobs' file names, `.`.
HASH = (
    _COMMON
    + r"""
enter
cd blobs 2>/dev/null || die closed
while IFS= read -r b && [ "$b" != . ]; do
    if [ -f "$b" ]; then h=$(hash < "$b"); say "hash $b ${h%% *}"; else say "hash $b missing"; fi
done
say end
"""
)

# Parameters: the store, the staging folder (not used), then a file name and an offset a line each, and `.`. The answer
# is the bytes, blob by blob, each behind a line with its length.
GET = (
    _COMMON
    + r"""
enter
cd blobs 2>/dev/null || die closed
while IFS= read -r b && [ "$b" != . ]; do
    IFS= read -r offset
    if [ -f "$b" ] && [ -r "$b" ]; then
        say "blob $(($(size_of "$b") - offset)) $b"
        if [ "$offset" = 0 ]; then cat "$b"; else tail -c +$((offset + 1)) "$b"; fi
    else say "none $b"; fi
done
say end
"""
)
