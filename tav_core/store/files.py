"""Safetensors files that are complete or not there at all, with their format and a checksum in the metadata.

The checksum covers names, types, shapes and bytes of all tensors and the other metadata, so a flipped bit in anything
that is read is detected. Files are read into memory, not mapped: the system kills a process that reads a mapped file
which another program truncates (SIGBUS).
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from ..atomic import WINDOWS, replacing

VERSION = "1"
MAX_HEADER = 100_000_000  # bytes, the limit of safetensors
MAX_METADATA = 50_000_000  # characters; losses and learning rates of 10^6 steps take up to 47 million
DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
WINDOWS_DISK_FULL = (39, 112)  # in messages of safetensors


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, independent of order and device.

    It reads one gigabyte per second and core. Tensors on the CPU are hashed in threads, for hashing releases the GIL.
    """
    on_cpu = all(tensor.is_cpu for tensor in tensors.values())
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1) if on_cpu else 1) as pool:
        parts = dict(zip(tensors, pool.map(_tensor_digest, tensors.values()), strict=True))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _tensor_digest(tensor: Tensor) -> str:
    tensor = tensor.detach()
    content = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()}"


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 over the tensors and all metadata but the checksum itself."""
    others = {key: value for key, value in metadata.items() if key != "checksum"}
    return hashlib.sha256((json.dumps(others, sort_keys=True) + digest(tensors)).encode()).hexdigest()


def write_file(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file that replaces an old one completely or not at all.

    Arguments:
        path: of the file, in a folder that exists.
        tensors: by name, of any type and device.
        metadata: strings by name; "version" and "checksum" are added.

    Raises:
        OSError: if it cannot be written, for example because the disk is full; the old file is whole then.
        ValueError: if the metadata are too long to be read back.
    """
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    described = {**metadata, "version": VERSION}
    if (length := sum(len(text) for text in described.values())) > MAX_METADATA:
        raise ValueError(f"Metadata must have at most {MAX_METADATA} characters, not {length}: shorten them.")
    described["checksum"] = checksum(content, described)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with replacing(path, temporary):
            save_file(content, temporary, described)
    except (OSError, SafetensorError) as error:
        raise _write_error(path, content, error) from error


def read_file(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file of `write_file`: tensors on the CPU, and metadata. Check them with `raise_if_damaged` before use.

    Arguments:
        path: of the file.
        kind: the required "format" in the metadata.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no complete safetensors file, or of another format or version; tensors are not read then.
    """
    with _opened(path) as file:  # opened once: it may be replaced meanwhile
        metadata = _checked_metadata(path, file, kind)
        file.seek(0)
        content = file.read()
    try:
        return load(content), metadata
    except (SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise _incomplete(path, error) from error


def read_metadata(path: Path, kind: str) -> dict[str, str]:
    """As `read_file`, without the tensors."""
    with _opened(path) as file:
        return _checked_metadata(path, file, kind)


def _opened(path: Path) -> BinaryIO:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    return path.open("rb")


def _checked_metadata(path: Path, file: BinaryIO, kind: str) -> dict[str, str]:
    try:
        metadata = _header_metadata(file)
    except (ValueError, RecursionError) as error:
        raise _incomplete(path, error) from error
    if metadata.get("format") != kind or metadata.get("version") != VERSION or "checksum" not in metadata:
        found = {key: metadata.get(key, "none")[:40] for key in ("format", "version", "checksum")}
        raise ValueError(
            f"{path} is not a file of save_tuned or of a store: expected format {kind!r}, version {VERSION} and a "
            f"checksum, found {found}. Give another file."
        )
    return metadata


def _header_metadata(file: BinaryIO) -> dict[str, str]:
    """The metadata in the header of a safetensors file: 8 bytes with a length, then JSON of that length.

    Raises:
        ValueError: if there is no such header.
    """
    length = int.from_bytes(file.read(8), "little")
    text = file.read(length) if length <= MAX_HEADER else b""
    if len(text) < length:
        raise ValueError("its header is truncated")
    header = json.loads(text)
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are not strings by name")
    return metadata


def raise_if_damaged(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Raise unless the content of a file matches its checksum.

    Raises:
        ValueError: if it does not.
    """
    if checksum(tensors, metadata) != metadata["checksum"]:
        raise ValueError(f"{path} is damaged: its content does not match its checksum. Delete it, or copy it again.")


def _incomplete(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is not a complete safetensors file ({error}). Save or copy it again.")


def _write_error(path: Path, tensors: Mapping[str, Tensor], error: Exception) -> OSError:
    codes = WINDOWS_DISK_FULL if WINDOWS else DISK_FULL
    said = [text.format(code) for code in codes for text in ("os error {})", "code: {},")]  # the latter up to 0.4
    full = getattr(error, "errno", None) in DISK_FULL or any(text in str(error) for text in said)
    if not full:
        return OSError(f"{path} cannot be written ({error}). Choose a folder on a disk that can be written to.")
    needed = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
    free = shutil.disk_usage(path.parent).free / 1e6
    return OSError(
        f"The disk is full: {path} needs {needed:.1f} MB, {free:.1f} MB are free. Free some space and start again; "
        "files written before are whole."
    )
