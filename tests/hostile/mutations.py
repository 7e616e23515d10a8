"""Damaged copies of good files, from a seed: as by a bad disk, a truncated download or an attacker."""

import json
import random
import re
import struct

BOX_TYPES = (b"moov", b"mdat", b"trak", b"stsz", b"stco", b"stts", b"stsd", b"mvhd", b"tkhd", b"mdhd", b"ftyp", b"avcC")
HUGE = (0, 1, 7, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)
STRANGE = (-1, 0, 1, 7, 10**4, 10**9, 2**63, -(2**63), 1e308, -0.5, None, True, "", "../../x", "é" * 300, [], [[]], {})


def mutated(data: bytes, seed: int, other: bytes = b"") -> bytes:
    """A copy of `data` with one kind of damage; `other` is a second good file, for splices."""
    rng = random.Random(seed)
    kinds = [_flipped, _truncated, _spliced, _edited_header, _duplicated, _zeroed]
    if _json_span(data) is not None:
        kinds += [_edited_json] * 4
    return rng.choice(kinds)(data, other or data, rng)


def _flipped(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Single bits, half of the time all of them near the beginning, where headers are."""
    damaged = bytearray(data)
    end = len(data) if rng.random() < 0.5 else min(len(data), 512)
    for _ in range(rng.choice((1, 2, 8, 64, 512))):
        damaged[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _truncated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    keep = rng.choice((0, 1, 4, 8, 12, 64, rng.randrange(len(data)), len(data) - 1))
    return data[:keep] + rng.choice((b"", b"\0" * 16, rng.randbytes(64)))


def _spliced(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def _duplicated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    part = data[begin : begin + rng.choice((1, 8, 64, 1024))]
    return data[:begin] + part * rng.choice((2, 3, 50)) + data[begin:]


def _zeroed(data: bytes, other: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    length = min(rng.choice((1, 4, 64, 4096)), len(data) - begin)
    return data[:begin] + bytes([rng.choice((0, 255))]) * length + data[begin + length :]


def _edited_header(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A length or size field set to another number: of safetensors, of an MP4 box, or anywhere near the top."""
    damaged = bytearray(data)
    places = [match.start() - 4 for kind in BOX_TYPES for match in re.finditer(kind, data) if match.start() >= 4]
    # The field behind a box's type too: counts and sizes of tables lie 4 to 16 bytes after it.
    places += [place + rng.choice((8, 12, 16, 20)) for place in places] + [0, rng.randrange(min(len(data), 64))]
    width, order = rng.choice(((8, "little"), (4, "big"), (4, "little"), (2, "little")))
    place = max(0, min(rng.choice(places), len(data) - width))
    damaged[place : place + width] = (rng.choice(HUGE) % 256**width).to_bytes(width, order)
    return bytes(damaged)


def _json_span(data: bytes) -> tuple[int, int] | None:
    """Where the JSON of a JSON file, or of a safetensors header, begins and ends."""
    begin, end = 0, len(data)
    if data[8:9] == b"{":
        begin, end = 8, 8 + struct.unpack("<Q", data[:8])[0]
    return (begin, end) if data[begin : begin + 1] in (b"{", b"[") else None


def _edited_json(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One value replaced, removed or added, at any depth, with the length field kept right."""
    begin, end = _json_span(data) or (0, 0)
    tree = json.loads(data[begin:end])
    holder, keys = tree, list(tree) if isinstance(tree, dict) else range(len(tree))
    while keys and rng.random() < 0.7:
        key = rng.choice(list(keys))
        if not isinstance(holder[key], (dict, list)) or not holder[key]:
            break
        holder = holder[key]
        keys = holder.keys() if isinstance(holder, dict) else range(len(holder))
    if keys:
        key = rng.choice(list(keys))
        if isinstance(holder, dict) and rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = rng.choice(STRANGE)
    text = json.dumps(tree).encode()
    return (len(text).to_bytes(8, "little") if begin else b"") + text + data[end:]
