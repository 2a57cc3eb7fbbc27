"""What runs on the far side: scripts for any POSIX sh, with the commands of GNU, BusyBox or macOS.

A script arrives on standard input, and so do its parameters, one a line: nothing that comes from a name or a path is
ever part of a command line that a shell reads, or of a script. After the parameters comes the data. Answers are lines;
the last one is ``end``.

As root, every script goes on as the owner of the store, before it reads or writes anything there (``arrive``). A folder
is entered once, by one name, and then looked at: it must be where it should be, whatever the paths to it became
meanwhile (``into``); inside, names are relative. This module has what reads; ``writing_scripts`` has
what writes.
"""

from __future__ import annotations

BOOTSTRAP = (
    """exec sh -c 'n=$(printf "\\nx"); n=${n%x}; s=; while IFS= read -r l && [ "$l" != "#end" ]; """
    """do s=$s$l$n; done; [ "$l" = "#end" ] && eval "$s"'"""
)
"""The one command line: read a script up to ``#end``, then run it. Any login shell passes it on as it is."""

STAGING = ".ollama-ferry-ssh"
"""The folder where blobs wait for their manifest; a user to whom that one does not belong has one with its number."""


def bare(*parts: str) -> str:
    """Join the parts of a script without comments and indentation: it crosses the line for every blob."""
    lines = (line.strip() for part in parts for line in part.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))


COMMON = r"""
LC_ALL=C; export LC_ALL; umask 022; unset CDPATH; set +C
# Whose links may lead anywhere: not those of an owner that root acts for.
me=$(id -u); own=$me; [ "$1" != as ] || own=0
say() { printf '%s\n' "$*"; }
die() { say "error $*"; exit 3; }
here() { env pwd -P 2>/dev/null || pwd -P; }
# Of a listing, the files that blobs are in: whoever writes there may put lines of an answer into a name.
only_blobs() { grep '^-.* sha256[-:][0-9a-f]*[.a-z]*$'; }
size_of() { set -- $(ls -lnL "$1" 2>/dev/null); say "${5:-0}"; }
owner_of() { set -- $(ls -ldn "$1" 2>/dev/null); say "${3:-nobody}"; }
inode_of() { set -- $(ls -di "$1" 2>/dev/null); say "${1:-none}"; }

# Enter a folder by one name. $2 is where that must lead: a link, or a folder that was swapped, is seen here.
into() {
    cd -P "./$1" 2>/dev/null || die "closed $2"
    [ "$(here)" = "$2" ] || die "link $2"
}

# Set $real to a path without links, and $link_owners to whoever could have made the links in it.
walk() {
    todo=$1/; real=; link_owners=; turns=0
    while [ -n "$todo" ]; do
        part=${todo%%/*}; todo=${todo#*/}
        case $part in
        '' | .) continue;;
        ..) real=${real%/*}; continue;;
        esac
        if [ -h "$real/$part" ]; then
            turns=$((turns + 1)); [ "$turns" -le 40 ] || die "closed $1"
            link_owners="$link_owners $(owner_of "$real/$part") $(owner_of "${real:-/}")"
            target=$(readlink "$real/$part") && [ -n "$target" ] || die "link $real/$part"
            case $target in /*) real=;; esac
            todo=$target/$todo
        else real=$real/$part; fi
    done
    real=${real:-/}
}

# Run a command as $uid:$gid, who may be called $name; $1 says by which program.
as() {
    how=$1; shift
    case $how in
    setpriv)
        if [ -n "$name" ]; then exec setpriv --reuid "$uid" --regid "$gid" --init-groups "$@"
        else exec setpriv --reuid "$uid" --regid "$gid" --clear-groups "$@"; fi;;
    chroot)
        if [ -n "$name" ]; then exec chroot --userspec="+$uid:+$gid" --skip-chdir / "$@"
        else exec chroot --userspec="+$uid:+$gid" --groups="+$gid" --skip-chdir / "$@"; fi;;
    sudo) exec sudo -n -u "#$uid" -g "#$gid" -- "$@";;
    su) [ -n "$name" ] || exit 1; exec su -s /bin/sh -c 'exec "$@"' -- "$name" sh "$@";;
    nsenter) exec nsenter -S "$uid" -G "$gid" "$@";;
    chpst) exec chpst -u ":$uid:$gid" "$@";;
    su-exec) exec su-exec "$uid:$gid" "$@";;
    perl) exec perl -MPOSIX -e '$g = splice @ARGV, 1, 1; $u = shift; $) = "$g $g"; POSIX::setgid($g);
        POSIX::setuid($u); exec @ARGV if $< == $u && $> == $u && $( == $g' "$uid" "$gid" "$@";;
    esac
}

# Go on as the owner of the folder that we are in, with this script from its start; or not at all.
become() {
    set -- $(ls -ld .); name=$3
    [ "$(id -u "$name" 2>/dev/null)" = "$uid" ] && gid=$(id -g "$name") || name=
    # The group of root is not handed on to whoever has been given a folder, nor any other that lists its members.
    [ -n "$name" ] || while IFS=: read -r group word n members; do
        [ "$n" != "$gid" ] || gid=65534
    done 2>/dev/null </etc/group
    [ "$gid" != 0 ] || gid=65534
    wanted="$uid $gid $(inode_of .)"
    for way in setpriv chroot sudo su nsenter chpst su-exec perl; do
        command -v "$way" >/dev/null 2>&1 || continue
        found=$(as "$way" sh -c 'set -- $(ls -di .); echo "$(id -u) $(id -g) $1"' </dev/null 2>/dev/null)
        [ "$found" != "$wanted" ] || as "$way" sh -c "$s" sh as "$root" "$staging" "$token" "$rest"
    done
    die "owner $uid"
}

# Enter the store, or the deepest folder on the way to it that is there; $rest is what is missing.
arrive() {
    case $1 in /*) ;; *) die closed;; esac
    d=$1; rest=
    while [ ! -d "$d" ]; do rest=${d##*/}/$rest; d=${d%/*}; d=${d:-/}; done
    walk "$d"
    cd -P "$d" 2>/dev/null || die "closed $d"
    # Some disks fold case.
    at=$(here)
    [ "$at" = "$real" ] || [ "$(say "$at" | tr A-Z a-z)" = "$(say "$real" | tr A-Z a-z)" ] || die "link $d"
    set -- $(ls -ldn .); uid=$3; gid=$4
    for link_owner in $link_owners; do
        case $link_owner in 0 | "$me" | "$uid") ;; *) die "link $d";; esac
    done
    [ "$me" != 0 ] || [ "$uid" = 0 ] || become
}

# Read which store is meant, and enter it.
enter() {
    if [ "$1" = as ]; then root=$2; staging=$3; token=$4; rest=$5
    else
        IFS= read -r root; IFS= read -r staging; IFS= read -r token
        arrive "$root"
    fi
    store=$(here); link_owner=$(owner_of .)
}

# Is a folder a mount of its own, as far as the system tells: maybe of the same disk, which nothing else shows?
mounted() (
    [ -r /proc/self/mountinfo ] || exit 1
    while read -r id above device top point more; do
        plain=
        while :; do
            case $point in *\\???*) ;; *) break;; esac
            code=${point#*\\}; more=${code#???}; code=${code%"$more"}
            plain=$plain${point%%\\*}$(printf "\\$code"); point=$more
        done
        [ "$plain$point" != "$1" ] || exit 0
    done </proc/self/mountinfo
    exit 1
)

# Is a folder a link, or on another disk? From there nothing is renamed into it.
apart() {
    [ ! -h "$1" ] && ! mounted "$(cd -P "./$1" 2>/dev/null && here)" || return 0
    df -P . "$1" 2>/dev/null | {
        read -r head; read -r fs blocks used free percent point; read -r fs2 blocks used free percent point2
        [ "$fs $point" != "$fs2 $point2" ]
    }
}

# Find where a folder of the store is, which may be a link: one of ours or of root's, or one of the store's owner to
# what is his. What it leads to is looked at from inside, where no path counts any more.
locate() {
    maker=$(owner_of "$1"); place=$store/$1
    if [ -h "$1" ]; then
        case $maker in 0 | "$me" | "$link_owner") ;; *) die "link $place";; esac
        place=$(cd -P "./$1" 2>/dev/null && here) && [ -n "$place" ] || die "closed $store/$1"
    fi
    keeper=$(cd -P "./$1" 2>/dev/null && [ "$(here)" = "$place" ] && owner_of .) || die "closed $store/$1"
    case $maker in
    0 | "$own") ;;
    *) [ "$place" = "$store/$1" ] || [ "$keeper" = "$maker" ] || die "link $store/$1";;
    esac
    [ "$(owner_of "$1")" = "$maker" ] || die "link $store/$1"
}

find_blobs() {
    [ -z "$rest" ] || die "closed $root"
    locate blobs
    blobs=$place
}

into_blobs() {
    cd -P blobs 2>/dev/null || die "closed $blobs"
    [ "$(here)" = "$blobs" ] || die "link $blobs"
}
"""

# openssl comes first: it lets the processor do the hashing, three times as fast as the sha256sum of most systems.
HASHING = r"""
quick=
if command -v openssl >/dev/null 2>&1 && h=$(openssl dgst -sha256 -r </dev/null 2>/dev/null) && \
   [ "${h%% *}" = e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 ]; then
    quick=1; hash() { openssl dgst -sha256 -r; }; hash_files() { openssl dgst -sha256 -r "$@"; }
elif command -v sha256sum >/dev/null 2>&1; then hash() { sha256sum; }; hash_files() { sha256sum -- "$@"; }
elif command -v shasum >/dev/null 2>&1; then hash() { shasum -a 256; }; hash_files() { shasum -a 256 -- "$@"; }
else die nohash; fi
"""

# Parameters: the store, or an empty line; then the manifests to print, or `*`, and `.`.
LOOK = bare(
    COMMON,
    r"""
usable() { [ -d "$1/manifests" ] || [ -d "$1/manifests-v2" ]; }
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
find_root() {
    IFS= read -r wanted
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
}
if [ "$1" = as ]; then rest=$5
else
    say ferry 1
    find_root
    say "root $root"
    staging=; token=
    arrive "$root"
fi
if command -v tar >/dev/null 2>&1 && [ -z "$FERRY_NO_TAR" ]; then say tar yes; fi
d=.; [ -n "$rest" ] || [ ! -d blobs ] || d=blobs
df -Pk "$d" 2>/dev/null | { read -r head; read -r fs blocks used free more; say "free $free"; }
[ ! -d blobs ] || [ -n "$rest" ] || [ -x blobs ] || die "closed $root/blobs"
base=; if [ -z "$rest" ] && [ -d blobs ] && apart blobs; then base=blobs/; fi
staging=${base}STAGING
if [ -z "$rest" ] && { [ -e "$staging" ] || [ -h "$staging" ]; }; then
    set -- $(ls -ldn "$staging")
    case $1:$3 in d*:"$me") ;; *) staging=$staging-$me;; esac
fi
say "staging $staging"
say "user $me"
if [ -n "$rest" ]; then say end; exit; fi
say blobs; ls -lnL blobs 2>/dev/null | only_blobs; say .
say staged; [ -h "$staging" ] || ls -ln "$staging" 2>/dev/null | only_blobs; say .
give() {
    if [ -f "$1" ] && [ -r "$1" ]; then
        n=$(size_of "$1")
        # Larger ones are no manifests.
        if [ "$n" -le 4194304 ]; then say "$kind $n $1"; cat "$1"; say; fi
    fi
}
# Run $1 with each file four levels down whose path may be a name; where links lead round in a circle there is no end.
each() {
    folders=0; files=0
    for a in *; do for b in "$a"/*; do for c in "$b"/*; do
        folders=$((folders + 1)); [ "$folders" -le 60000 ] || die "circle $root/manifests/$c"
        for f in "$c"/*; do
            case $f in *[!A-Za-z0-9_.:/%-]*) continue;; esac
            files=$((files + 1)); [ "$files" -le 20000 ] || die "circle $root/manifests/$f"
            "$1" "$f"
        done
    done; done; done
}
wants=
while IFS= read -r m && [ "$m" != . ]; do
    wants="$wants$m
"
done
# List the folder $1 under the word $2, and print manifests of it under the word $3.
show() {
    cd -P "$1" 2>/dev/null || return 0
    kind=$3; say "$2"; each say; say .
    while IFS= read -r m && [ -n "$m" ]; do
        if [ "$m" = "*" ]; then each give; else give "$m"; fi
    done <<EOT
$wants
EOT
    return 0
}
(show manifests names manifest) || exit
(show manifests-v2 newer-names newer-manifest) || exit
say end
""".replace("STAGING", STAGING),
)

# Parameters: the store, the staging folder and a token (neither is used), the blobs' file names, `.`.
HASH = bare(
    COMMON,
    HASHING,
    r"""
enter "$@"
find_blobs
into_blobs
while IFS= read -r b && [ "$b" != . ]; do
    if [ -f "$b" ]; then h=$(hash < "$b"); say "hash $b ${h%% *}"; else say "hash $b missing"; fi
done
say end
""",
)

# Parameters: as of HASH, but with an offset on a line of its own after each file name. The answer is the bytes, blob by
# blob, each behind a line with its length.
GET = bare(
    COMMON,
    r"""
enter "$@"
find_blobs
into_blobs
while IFS= read -r b && [ "$b" != . ]; do
    IFS= read -r offset
    if [ -f "$b" ] && [ -r "$b" ]; then
        say "blob $(($(size_of "$b") - offset)) $b"
        if [ "$offset" = 0 ]; then cat "$b"; else tail -c +$((offset + 1)) "$b"; fi
    else say "none $b"; fi
done
say end
""",
)
