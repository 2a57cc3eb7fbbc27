"""The scripts that write on the far side; :mod:`ollama_ferry.places.ssh.scripts` says how they run.

One send at a time writes into a staging folder: ``LOCK`` runs as long as that takes, and the other scripts hold its
token against the lock's, at their start and before anything gets its name. The lock is a folder, which ``mkdir`` makes
for one alone on any file system. Whoever has it writes a new number into it at every heartbeat of its client, so that
nobody's clock counts. It is another's as soon as the processes that wrote under it are gone, or, where nobody can tell
(another machine, another boot), when no heartbeat came for as long as that other one has patience. After the latter
somebody may still write, so no file that was begun is written on: its bytes go into a new one.
"""

from __future__ import annotations

from ollama_ferry.places.ssh.scripts import COMMON, HASHING, STAGING, bare

_WRITING = r"""
# Enter the staging folder from the store: it belongs to us, and nobody else writes to it. $1 may be `mkdir`.
in_staging() {
    at=$store
    case $staging in blobs/*)
        at=$blobs; cd -P blobs 2>/dev/null && [ "$(here)" = "$at" ] || return 1;;
    esac
    at=$at/${staging##*/}
    [ -z "$1" ] || [ -d "./${staging##*/}" ] || "$1" "./${staging##*/}" 2>/dev/null
    cd -P "./${staging##*/}" 2>/dev/null && [ "$(here)" = "$at" ] || return 1
    set -- $(ls -ldn .)
    case $1:$3 in d*:"$me") ;; *) return 1;; esac
    case $1 in ?????w* | ????????w*) chmod go-w . || return 1;; esac
}
stage() { in_staging || die "closed $store/$staging"; }

# In the staging folder: is the lock still ours?
holds() { { IFS= read -r held < lock/token && [ "$held" = "$token" ]; } 2>/dev/null; }

# Bring files or a folder to the disk. A sync that knows no files (macOS, old ones) brings everything there. What can't
# be synced at all, such as a folder of some network disks, is no failure; all else is.
persist() {
    command -v sync >/dev/null 2>&1 || return 0
    case $(sync --help 2>&1) in *FILE*)
        said=$(sync "$@" 2>&1) && return 0
        case $said in
        *"nput/output"* | *"o space"* | *uota* | *tale*) return 1;;
        *"nvalid argument"* | *"not supported"* | *"not implemented"* | *"ermission denied"*) ;;
        *) return 1;;
        esac;;
    esac
    sync 2>/dev/null
}

# As root we write, by names, into folders of root's alone: who may change what is in one could lead a name elsewhere.
guard() {
    [ "$me" = 0 ] || return 0
    [ "${2:-$keeper}" = 0 ] || die "mixed ${2:-$keeper} $1"
}
guard_store() {
    guard "$store" "$link_owner"
    set -- $(ls -ldn .)
    case $me:$1 in 0:????????w*) die "mixed everybody $store";; esac
}

# A file of ours, or of root's that an earlier version left, under this one name only: nobody else writes to it.
clean() {
    set -- $(ls -ldn "$1" 2>/dev/null)
    case $1:$2 in -*:1) ;; *) return 1;; esac
    case $3 in 0 | "$me") ;; *) return 1;; esac
}
"""

# Parameters: the store, the staging folder, a token; who sends; whether to wait (`yes`), and after how many seconds
# without a heartbeat the lock of another one counts no more. The answer is `locked`, with `forced` behind it where
# somebody may still write, and what is in the staging folder; meanwhile `held`, since when and by whom, each second.
# A line is a heartbeat, and the end of the input the end.
LOCK = bare(
    COMMON,
    _WRITING,
    r"""
enter "$@"
IFS= read -r who; IFS= read -r wait; IFS= read -r patience
at=${store%/}
while [ -n "$rest" ]; do
    part=${rest%%/*}; rest=${rest#*/}
    case $part in '' | .) continue;; ..) die "closed $root";; esac
    mkdir "./$part" 2>/dev/null
    at=$at/$part; into "$part" "$at"
done
store=$(here); link_owner=$(owner_of .)
guard_store
for d in blobs manifests; do
    # Another send may make it at the same moment.
    [ -d "$d" ] || mkdir "$d" 2>/dev/null || [ -d "$d" ] || die "closed $store/$d"
done
locate manifests; guard "$place"
find_blobs; guard "$place"
machine="$(uname -n) $(cat /proc/sys/kernel/random/boot_id 2>/dev/null) $(readlink /proc/self/ns/pid 2>/dev/null)"

# Does any process that writes under the lock live, but for $1?
alive() {
    for p in lock/[0-9]*; do
        p=${p#lock/}; [ "$p" = "$1" ] || ! kill -0 "$p" 2>/dev/null || return 0
    done
    return 1
}
gone() { { IFS= read -r where < lock/machine; } 2>/dev/null && [ "$where" = "$machine" ] && ! alive none; }
state() { cat lock/token lock/beat lock/machine 2>/dev/null; }

# Only one at a time removes a lock, and only the one that it has looked at.
take() {
    if mkdir taking 2>/dev/null; then
        [ "$(state)" != "$seen" ] || rm -rf lock
        rmdir taking
    else
        [ "$still" -lt "$patience" ] || rmdir taking 2>/dev/null
        sleep 1; still=$((still + 1))
    fi
}

contend() {
    seen=; still=0; forced=0
    until mkdir lock 2>/dev/null; do
        [ -d lock ] || exit 9
        now=$(state)
        if [ "$now" != "$seen" ]; then seen=$now; still=0; fi
        if gone; then take
        elif [ "$still" -ge "$patience" ]; then forced=10; take
        else
            line=; { IFS= read -r line < lock/who; } 2>/dev/null
            [ "$wait" = yes ] || die "held $line"
            say "held $line" || exit 3
            sleep 1; still=$((still + 1))
        fi
    done
    say > "lock/$$" && say "$(date -u '+%Y-%m-%d %H:%M:%S UTC') $who" > lock/who && say "$token" > lock/token && \
        say "$machine" > lock/machine || { rm -rf lock; die write lock; }
    exit "$forced"
}

release() {
    tries=0
    while alive $$ || ! mkdir taking 2>/dev/null; do
        tries=$((tries + 1)); [ "$tries" -lt 20 ] || return
        sleep 1
    done
    if holds; then rm -rf lock; fi
    rmdir taking
    cd -P .. && rmdir "./${staging##*/}" 2>/dev/null
}

tries=0
while :; do
    (in_staging mkdir || exit 9; contend); code=$?
    # 9: whoever had it before has just removed the folder; or it is none of ours.
    [ "$code" = 9 ] || break
    tries=$((tries + 1)); [ "$tries" -lt 50 ] || die "closed $store/$staging"
done
case $code in 0) forced=;; 10) forced=forced;; *) exit 3;; esac
stage
trap 'release; exit 3' HUP INT TERM
say "locked $forced"
ls -ln 2>/dev/null | only_blobs; say .
n=0
while IFS= read -r line; do
    holds || die lost
    n=$((n + 1)); say "$n" > lock/beat
done
release
say end
""",
)

# Parameters: the store, the staging folder, the token, `fresh` where no file that was begun may be written on; then the
# blob's file name, its size, how much of it is there; then the rest of its bytes.
# Or for many small ones: `many` in place of the file name, the name of a folder; then a tar.
PUT = bare(
    COMMON,
    HASHING,
    _WRITING,
    r"""
enter "$@"
IFS= read -r fresh
find_blobs; guard "$place"
stage
holds || die lost
{ say > "lock/$$"; } 2>/dev/null || die lost
trap 'rm -f "lock/$$"' EXIT
IFS= read -r kind
if [ "$kind" = many ]; then
    IFS= read -r batch
    # What a batch that was cut has left is sent again.
    rm -rf "./$batch"
    mkdir "$batch" || die write
    # Of now, not of the tar's time: a server that prunes spares what is young.
    tar -C "$batch" -xmf - || die write
    set -- "$batch"/sha256-*
    [ -e "$1" ] || set --
    if [ $# -gt 0 ]; then
        chmod 644 "$@"
        before=$(ls -lni "$@") || die write
        bad=; good=0
        hashes=$(hash_files "$@") || die write
        while read -r h f; do
            f=${f#\*}
            if [ "$batch/sha256-$h" = "$f" ]; then good=$((good + 1)); else bad=${f##*/}; fi
        done <<EOT
$hashes
EOT
        [ -z "$bad" ] || die "bad $bad"
        [ "$good" = $# ] || die write
        persist "$@" || { rm -rf "./$batch"; die "sync $batch"; }
        [ "$(ls -lni "$@")" = "$before" ] || die "changed $batch"
        holds || die lost
        for f; do f=${f##*/}; [ ! -d "$f" ] || rm -rf "./$f"; done
        mv -f "$@" . || die write
    fi
    rmdir "$batch"
    say end
    exit
fi
name=$kind; f=$name.partial
IFS= read -r size; IFS= read -r offset
have=0; if clean "$f"; then have=$(size_of "$f"); fi
if [ "$have" -lt "$offset" ]; then die "have $have"; fi
begin() { rm -rf "./$1"; (set -C; : > "$1") 2>/dev/null || die write; }
if [ "$offset" = 0 ]; then begin "$f"
elif [ "$fresh" = fresh ] || [ "$(owner_of "$f")" != "$me" ]; then
    begin "$name.copy"
    cat "$f" >> "$name.copy" 2>/dev/null && mv -f "$name.copy" "$f" || { rm -f "$name.copy"; die write; }
fi
[ "$(size_of "$f")" = "$offset" ] || dd if=/dev/null of="$f" bs=1 seek="$offset" count=0 2>/dev/null || die write
[ "$(size_of "$f")" = "$offset" ] || die "changed $name"
inode=$(inode_of "$f")
discard() { if holds; then rm -f "$f"; fi; die "$@"; }
whole() { have=$(size_of "$f"); [ "$have" = "$size" ] || die "short $have"; }
if [ -n "$quick" ] || [ "$offset" != 0 ]; then
    # All of it is hashed when all is there, beside the sync. A tee would cost fast hashing more than it saves.
    cat >> "$f" 2>/dev/null
    whole
    persist "$f" </dev/null &
    syncing=$!
    h=$(hash < "$f")
    wait "$syncing" || discard "sync $name"
else
    h=$(tee -a "$f" 2>/dev/null | hash)
    whole
    persist "$f" || discard "sync $name"
fi
holds || die lost
h=${h%% *}
[ "sha256-$h" = "$name" ] || discard "bad $name"
clean "$f" && [ "$(inode_of "$f") $(size_of "$f")" = "$inode $size" ] || die "changed $name"
[ ! -d "$name" ] || rm -rf "./$name"
chmod 644 "$f" && mv -f "$f" "$name" || die write
say end
""",
)

# Parameters: the store, the staging folder, the token; the blobs' file names, each with its size behind a blank, `.`;
# the folder of the manifest below manifests/, its tag, its size; then its bytes.
COMMIT = bare(
    COMMON,
    _WRITING,
    "hashing() {",
    HASHING,
    "}",
    r"""
enter "$@"
guard_store
find_blobs; guard "$place"
locate manifests; guard "$place"
top=$place
exact=; case $(mv --help 2>&1) in *-T*) exact=-T;; esac
out=../blobs; case $staging in blobs/*) out=..;; esac
# Where the system lets a folder be held open and be named by that, no path is left to be swapped.
held=; if [ -d /proc/self/fd/ ] && [ -r . ] && [ -r blobs ]; then
    held=/proc/self/fd
    exec 6<. 4<blobs/.
    [ "$(cd -P $held/6 && here)" = "$store" ] && [ "$(cd -P $held/4 && here)" = "$blobs" ] || die "link $blobs"
    out=$held/4
fi

# What was copied, and not renamed, is hashed and made safe again.
require() {
    hashing
    for f; do
        [ -f "$f" ] || die "missing $f"
        h=$(hash < "$f")
        [ "sha256-${h%% *}" = "$f" ] || { rm -f "$@"; die "bad $f"; }
    done
    persist "$@" || { rm -f "$@"; die "sync blobs"; }
}

# Both work on $wants: up to 200 times `NAME:SIZE`, with blanks around.
named() { for w in $wants; do set -- "$@" "${w%:*}"; done; ls "$@" 2>/dev/null; }
publish() (
    stage
    holds || die lost
    found=$(named -ln)
    while read -r kind links owner group n more; do
        case $kind:$links in -*:1) ;; *) continue;; esac
        case $owner in 0 | "$me") ;; *) continue;; esac
        case $wants in *" ${more##* }:$n "*) set -- "$@" "${more##* }";; esac
    done <<EOT
$found
EOT
    [ $# != 0 ] || exit 0
    inodes=$(ls -i "$@")
    mv -f "$@" "$out/" || die write
    cd -P "$out" && [ "$(here)" = "$blobs" ] || die "link $blobs"
    [ "$(ls -i "$@" 2>/dev/null)" = "$inodes" ] || require "$@"
)
present() (
    into_blobs
    found=$(named -lnL); seen=" "
    while read -r kind links owner group n more; do
        case $kind in -*) seen="$seen${more##* }:$n ";; esac
    done <<EOT
$found
EOT
    for w in $wants; do case $seen in *" $w "*) ;; *) die "missing ${w%:*}";; esac; done
)
groups=0; count=0; wants=" "
keep() { groups=$((groups + 1)); eval "group_$groups=\$wants"; publish || exit 3; wants=" "; count=0; }
while IFS=" " read -r b n && [ "$b" != . ]; do
    wants="$wants$b:$n "; count=$((count + 1))
    [ "$count" -lt 200 ] || keep
done
[ "$count" = 0 ] || keep
(into_blobs; persist .) || die "sync blobs"
check() { i=0; while [ "$i" -lt "$groups" ]; do i=$((i + 1)); eval "wants=\$group_$i"; present || exit 3; done; }
check
IFS= read -r folder; IFS= read -r tag; IFS= read -r size

(stage; holds) || die lost
write_manifest() {
    rm -f "./$1"
    # Its mode is that of our umask: by its name, where others may write too, it might be another file that gets it.
    (set -C; cat > "$1") 2>/dev/null || die write
    [ "$(size_of "$1")" = "$size" ] || { rm -f "$1"; die short manifest; }
    persist "$1" || { rm -f "$1"; die sync manifest; }
}
# It waits where a rename is enough to give it its name: in the staging folder, or, where that is on another disk, in
# manifests/, too high up to count as one.
up=; part=$folder/; while [ -n "$part" ]; do part=${part#*/}; up=../$up; done
aside=; case $staging in blobs/*) aside=1;; *) ! apart manifests || aside=1;; esac
from=$up../$staging/manifest
hold() { write_manifest "$1"; [ -z "$held" ] || { exec 5<.; from=$held/5/$1; }; }
[ -n "$aside" ] || [ -n "$held" ] || (stage; write_manifest manifest) || exit 3
(
    if [ -z "$aside" ] && [ -n "$held" ]; then stage; hold manifest; cd -P $held/6; fi
    cd -P manifests 2>/dev/null || die "closed $store/manifests"
    [ "$(here)" = "$top" ] || die "link $store/manifests"
    if [ -n "$aside" ]; then from=$upSTAGING-$me; hold "${from##*/}"; fi
    at=$top; rest=$folder/
    while [ -n "$rest" ]; do
        part=${rest%%/*}; rest=${rest#*/}; at=$at/$part
        ! mkdir "./$part" 2>/dev/null || persist . || die "sync $at"
        into "$part" "$at"
        guard "$at" "$(owner_of .)"
    done
    [ ! -d "./$tag" ] || die "write $at/$tag is a folder"
    inode=$(inode_of "$from")
    mv -f $exact "$from" "./$tag" || die write
    [ "$(inode_of "./$tag")" = "$inode" ] || persist "./$tag" || die "sync $at"
    persist . || die "sync $at"
) || exit 3
check
say end
""".replace("STAGING", STAGING),
)
