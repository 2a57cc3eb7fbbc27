"""Members made to do harm: each archive is refused with one clear error, or does none."""

from __future__ import annotations

import pytest

from support.arena import (
    WRONG_NAMES,
    Arena,
    assert_imported,
    assert_one_clear_error,
    assert_refused,
    deliver,
    delivered,
    delivered_in_all_ways,
    delivered_in_two_ways,
)
from support.hostile import (
    BLOCK,
    END,
    MADE,
    OTHER,
    base256,
    blob_name,
    header,
    long_name,
    member,
    octal,
    padded,
    pax,
    pax_record,
)


def named(name: bytes, how: str) -> bytes:
    """Return a member with a name in a header, in a GNU long name or in a PAX record."""
    if how == "header":
        return member(name, b"evil")
    if how == "long name":
        return long_name(name) + member(b"harmless", b"evil")
    return pax({b"path": name}) + member(b"harmless", b"evil")


LINK_KINDS = {"hard link": b"1", "symbolic link": b"2"}
DEVICE_KINDS = {"character device": b"3", "block device": b"4", "fifo": b"6"}


def hostile_members() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for what, name in WRONG_NAMES.items():
        for how in ("header", "long name", "pax"):
            found[f"{what} in a {how}"] = named(name, how)
    found["NUL in a long name"] = named(b"blobs/x\0../../outside/evil", "long name")
    found["NUL in a pax path"] = named(b"blobs/x\0../../outside/evil", "pax")
    found["prefix climbs"] = header(b"evil", 4, prefix=b"../../outside") + padded(b"evil")
    for what, kind in LINK_KINDS.items():
        found[what] = member(b"x", kind=kind, link=b"/outside/secret")
        found[f"{what} for blobs"] = member(b"blobs", kind=kind, link=b"../outside")
        found[f"{what} as a blob"] = member(blob_name(MADE.weights), kind=kind, link=b"../../outside/secret")
        found[f"{what} as a manifest"] = member(MADE.manifest_name, kind=kind, link=b"../outside/secret")
        found[f"{what} with content"] = member(b"x", b"evil" * 200, kind, link=b"../outside/secret")
        found[f"{what}, long"] = long_name(b"../" * 100, b"K") + member(b"x", kind=kind)
        found[f"{what}, pax"] = pax({b"linkpath": b"../outside"}) + member(b"blobs", kind=kind)
    for what, kind in DEVICE_KINDS.items():
        found[what] = member(b"x", kind=kind)
        found[f"{what} as a blob"] = member(blob_name(MADE.weights), kind=kind)
    found["folder as a blob"] = member(blob_name(MADE.weights), kind=b"5")
    found["folder as a blob, with a slash"] = member(blob_name(MADE.weights) + "/", kind=b"5")
    found["file with a slash as a blob"] = member(blob_name(MADE.weights) + "/")
    found["folder as a manifest"] = member(MADE.manifest_name, kind=b"5")
    for kind in (b"M", b"V", b"N", b"A", b"Z", b"\xff", b"X"):
        found[f"unknown kind {kind!r}"] = member(b"x", kind=kind)
    found.update(wrong_sizes())
    found.update(wrong_extensions())
    found["padding that is not zero"] = header(b"x", 4) + b"evil" + b"x" * (BLOCK - 4)
    found["empty block in the middle"] = bytes(BLOCK) + member(b"x")
    found["wrong sum"] = header(b"x", wrong_sum=True)
    found["blob with other content"] = member(blob_name(MADE.weights), b"x" * len(MADE.weights))
    found["blob with less content"] = member(blob_name(MADE.weights), MADE.weights[:-1])
    found["empty blob"] = member(blob_name(MADE.weights))
    return found


def wrong_sizes() -> dict[str, bytes]:
    sizes: dict[str, int | bytes] = {
        "negative, octal": b"-0000000001\0",
        "negative, base 256": base256(-1),
        "most negative": base256(-(2**94)),
        "2^63": base256(2**63),
        "2^63 - 1": base256(2**63 - 1),
        "2^63 - 512": base256(2**63 - 512),
        "2^64": base256(2**64),
        "2^87": base256(2**87),
        "8 GiB": octal(8 * 1024**3 - 1),
        "decimal": b"99999999999\0",
        "hexadecimal": b"0x1000\0",
        "rubbish": b"\x01\x02\x03",
        "blank in the middle": b"00 00000001\0",
    }
    found = {f"size {what}": header(b"x", size) for what, size in sizes.items()}
    found.update({f"size {what} of a blob": header(blob_name(MADE.weights).encode(), s) for what, s in sizes.items()})
    for text in (b"-1", b"18446744073709551616", b"9223372036854775808", b"9223372036854775807", b"1e3", b"0x10"):
        found[f"pax size {text.decode()}"] = pax({b"size": text}) + member(b"x")
    for text in (b"", b"1_0", b" 1", b"+1", "１".encode(), b"1\0", b"9" * 5000):
        found[f"pax size {text[:8]!r}"] = pax({b"size": text}) + member(b"x")
    return found


def wrong_extensions() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for key in (b"path", b"size", b"linkpath", b"GNU.sparse.name", b"GNU.sparse.size", b"GNU.sparse.realsize"):
        found[f"global {key.decode()}"] = pax({key: b"1"}, b"g")
    found["global name that rings"] = pax({b"GNU.sparse.\x07\r\x1b[2J": b"1"}, b"g")
    found["global name that is another error"] = pax({b"GNU.sparse.\nerror: ": b"1"}, b"g")
    for key in (b"GNU.sparse.major", b"GNU.sparse.name", b"GNU.sparse.map", b"GNU.sparse.size", b"GNU.sparse.\x1b\x07"):
        found[f"pax {key!r}"] = pax({key: b"1"}) + member(b"x")
    found["sparse, old GNU"] = header(b"x", 512, b"S", magic=b"ustar  \0") + bytes(512)
    found["sparse, pax 1.0"] = pax(
        {
            b"GNU.sparse.major": b"1",
            b"GNU.sparse.minor": b"0",
            b"GNU.sparse.name": blob_name(MADE.weights).encode(),
            b"GNU.sparse.realsize": b"1099511627776",
        }
    ) + member(b"GNUSparseFile.0/x", padded(b"1\n1099511627775\n1\n") + b"x")
    for kind in (b"x", b"g", b"L", b"K"):
        found[f"extension {kind.decode()} of a GiB"] = header(b"x", 1024**3, kind)
        found[f"extension {kind.decode()} of 2^63"] = header(b"x", base256(2**63), kind)
        found[f"extension {kind.decode()} of a negative size"] = header(b"x", base256(-1024), kind)
        found[f"extension {kind.decode()} of 300 KiB"] = header(b"x", 300 * 1024, kind) + bytes(300 * 1024)
    found["long names without end"] = long_name(b"x") * 1000 + member(b"x")
    found["pax headers without end"] = pax({b"comment": b"x"}) * 1000 + member(b"x")
    found["global headers without end"] = pax({b"comment": b"x"}, b"g") * 1000 + member(b"x")
    found["extensions in turn without end"] = (long_name(b"x") + pax({b"a": b"b"}) + long_name(b"y", b"K")) * 300
    for what, content in {
        "a length beyond the end": b"99 path=x\n",
        "a length of zero": b"0 path=x\n",
        "a length that is too short": b"3 path=x\n",
        "a huge length": b"999999999999999999999999 path=x\n",
        "a negative length": b"-9 path=x\n",
        "no newline": b"9 path=xx",
        "no equals sign": b"7 path\n",
        "no name": b"5 =x\n",
        "rubbish": b"\xff" * 100,
        "zeros behind": pax_record(b"path", b"x") + bytes(4),
    }.items():
        found[f"pax record with {what}"] = header(b"x", len(content), b"x") + padded(content) + member(b"x")
    found["pax path to a wrong blob"] = pax({b"path": blob_name(MADE.weights).encode()}) + member(b"x", b"evil")
    hidden = member(b"../outside/evil", b"evil")
    found["a member hidden by a pax size"] = pax({b"size": b"0"}) + header(b"x", len(hidden)) + hidden
    return found


HOSTILE_MEMBERS = hostile_members()


@delivered
@pytest.mark.parametrize("what", HOSTILE_MEMBERS)
def test_hostile_member_before_a_model_is_refused(arena: Arena, what: str, delivery: str) -> None:
    done = deliver(arena, MADE.tar(before=HOSTILE_MEMBERS[what]), delivery)
    # A stream's blob of 8 EiB that may well come is too large for the disk.
    assert_refused(arena, done, *((4, 6) if what.startswith("size ") else (4,)))


@delivered_in_two_ways
@pytest.mark.parametrize("what", HOSTILE_MEMBERS)
def test_hostile_member_between_blobs_and_manifest_is_refused(arena: Arena, what: str, delivery: str) -> None:
    done = deliver(arena, MADE.tar(between=HOSTILE_MEMBERS[what]), delivery)
    assert_refused(arena, done)


@delivered_in_two_ways
@pytest.mark.parametrize("what", HOSTILE_MEMBERS)
def test_hostile_member_behind_a_model_is_an_error(arena: Arena, what: str, delivery: str) -> None:
    done = deliver(arena, MADE.tar(after=HOSTILE_MEMBERS[what]), delivery)
    assert_one_clear_error(done, 4)
    # A stream has published the model by then, all of which was right.
    assert arena.new_files() in ({}, MADE.files)
    assert delivery != "tar" or arena.new_files() == {}


HARMLESS_MEMBERS = {
    "dots": member(b"./././x"),
    "C1 control characters": member("blobs/\x9b2J".encode()),
    "another direction": member("blobs/\u202egpj.exe".encode()),
    "comment for all": pax({b"comment": b"\x1b[2J"}, b"g") + member(b"x"),
    "identical blob": member(blob_name(MADE.weights), MADE.weights),
    "identical manifest": MADE.tar(end=b""),
    "folders": member(b"blobs", kind=b"5") + member(b"manifests/", kind=b"5") + member(b"blobs/sub/", kind=b"5"),
    "very old file": member(b"x", b"content", b"\0"),
    "manifest of no name": member(b"manifests/registry.ollama.ai/library/made/.DS_Store", b"\0\0\0\1Bud1"),
    "blob of another algorithm": member(f"blobs/sha512-{'a' * 128}", b"x"),
    "blob in capital letters": member(f"blobs/sha256-{'A' * 64}", b"x"),
    "archive in an archive": member(b"inner.tar", OTHER.tar()),
    "long name": member(b"folder/" * 90 + b"y", b"content"),
    "size in base 256": header(b"x", base256(4)) + padded(b"text"),
}

# What some tars read otherwise, and does no harm: nothing of it is published.
ODD_MEMBERS = {
    "NUL behind a name": header(b"notes\0../../outside/evil") + b"",
    "NUL before a name": header(b"\0../../outside/evil"),
    "no name": member(b""),
    "linkpath of a file": pax({b"linkpath": b"../outside/secret"}) + member(b"x"),
    "contiguous file": member(b"x", b"content", b"7"),
    "dump folder": member(b"x", b"Yname\0\0", b"D"),
    "another end": END,
}


@delivered_in_all_ways
@pytest.mark.parametrize("what", HARMLESS_MEMBERS)
def test_harmless_member_is_passed_over(arena: Arena, what: str, delivery: str) -> None:
    for data in (MADE.tar(before=HARMLESS_MEMBERS[what]), MADE.tar(after=HARMLESS_MEMBERS[what])):
        done = deliver(arena, data, delivery)
        assert_imported(arena, done, MADE)


@delivered_in_all_ways
@pytest.mark.parametrize("what", ODD_MEMBERS)
def test_odd_member_is_passed_over_where_that_is_asked_for(arena: Arena, what: str, delivery: str) -> None:
    data = MADE.tar(before=member("readme") + ODD_MEMBERS[what])
    assert_refused(arena, deliver(arena, data, delivery))
    assert_imported(arena, deliver(arena, data, delivery, "--lenient"), MADE)


@delivered
def test_two_manifests_of_one_name_are_an_error(arena: Arena, delivery: str) -> None:
    other = MADE.manifest + b" "
    for data in (MADE.tar(before=member(MADE.manifest_name, other)), MADE.tar(after=member(MADE.manifest_name, other))):
        done = deliver(arena, data, delivery)
        assert_one_clear_error(done, 4)
        # A stream has published whichever of the two came first; no more than that can be told there.
        either: tuple[dict[str, bytes], ...] = ({}, MADE.files, MADE.with_manifest(other).files)
        assert arena.new_files() in (either if delivery != "tar" else ({},))


@delivered_in_all_ways
def test_joined_archives_are_both_read_where_that_is_asked_for(arena: Arena, delivery: str) -> None:
    data = MADE.tar() + OTHER.tar()
    assert_refused(arena, deliver(arena, data, delivery))
    assert_imported(arena, deliver(arena, data, delivery, "--lenient"), MADE, OTHER)


@delivered
def test_link_that_a_later_member_is_to_be_written_through(arena: Arena, delivery: str) -> None:
    for link in (b"../outside", bytes(arena.outside)):
        for place in (b"blobs", b"manifests", b"models/blobs", b"."):
            for kind in LINK_KINDS.values():
                done = deliver(arena, MADE.tar(before=member(place, kind=kind, link=link)), delivery)
                assert_refused(arena, done)
