"""Names and places of files, all within the host's own folders."""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path, PureWindowsPath
from typing import Any

import folder_paths
from comfy.cli_args import args

from ... import tav_core
from ...tav_core.atomic import make_folder
from ...tav_core.checks import LONGEST_NAME, check_path, check_text, shown

DATE = re.compile("%date:([^%]+)%")
NOT_IN_NAMES = re.compile(r'[<>:"|?*]')  # of Windows
BUNDLED = "bundled: cartwheel"  # the bundled clip in prompts of the API
BUNDLED_FILE = "tune-a-video-cartwheel.mp4"  # its copy in ComfyUI's input folder, which the page plays
BUNDLED_FILES = {BUNDLED: "cartwheel", BUNDLED_FILE: "cartwheel", "tune-a-video-cartwheel-2.mp4": "cartwheel-2"}
BUNDLED_CAPTION = "a red person jumps on the beach, flat colours"
TUNED_FOLDER = "tune_a_video"  # in ComfyUI's models folder
TUNED_SUFFIX = ".safetensors"
LORA_FOLDER = "loras"  # the host's own
STORE_FOLDER = "tune_a_video_store"  # likewise; the store of tunings and inversions
ENCODERS_FOLDER = "tune_a_video_encoders"  # likewise; CLIP, PickScore and DINOv2 for the measures


def register_folders() -> None:
    """Register the folders of tuned weights, store and encoders, so that extra_model_paths.yaml may add to them."""
    for name in (TUNED_FOLDER, STORE_FOLDER, ENCODERS_FOLDER):
        folder_paths.add_model_folder_path(name, str(Path(folder_paths.models_dir) / name))


def open_store() -> "tav_core.Store":
    """The store of tunings, inversions and source branches in the host's models folder."""
    return tav_core.Store(folder_paths.get_folder_paths(STORE_FOLDER)[0], remedy="Or switch keep off.")


def input_videos() -> list[str]:
    """Videos, GIFs, AVIF and animated WebP files in the host's input folder and its subfolders, by relative name."""
    folder = folder_paths.get_input_directory()
    files, _ = folder_paths.recursive_search(folder)
    videos = {*folder_paths.filter_files_content_types(files, ["video"])}
    videos |= {name for name in files if name.lower().endswith((".gif", ".avif"))}
    return sorted(
        videos | {name for name in files if name.lower().endswith(".webp") and _is_animated(Path(folder, name))}
    )


def _is_animated(path: Path) -> bool:
    from ...tav_core.video.pictures import is_animated_webp

    try:
        return is_animated_webp(path)
    except OSError:
        return False


def bundled_clip(file: str = BUNDLED_FILE) -> Path:
    """A clip that comes with the pack, by its name in BUNDLED_FILES."""
    return tav_core.BUNDLED_CLIPS[BUNDLED_FILES[file]]


def offer_bundled_clips() -> None:
    """Copy the bundled clips to the host's input folder: from there alone the page plays them."""
    for file in BUNDLED_FILES:
        copy = Path(folder_paths.get_input_directory()) / file
        if file == BUNDLED or copy.exists():
            continue
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundled_clip(file), copy)
        except OSError as error:
            logging.info(f"Tune-A-Video: {copy} cannot be written ({error}); the bundled clip has no preview.")


def input_file(name: str) -> Path:
    """The path of a file or folder within the host's input folder, or within the folder that its name ends with, as in
    "clip.mp4 [output]".

    Raises:
        TypeError: if the name is not text.
        ValueError: if the file lies outside or does not exist, or the name is not valid.
    """
    check_text("file", name)
    place = next((place for place in ("output", "temp") if name.endswith(f"[{place}]")), "input")
    root = Path(folder_paths.get_directory_by_type(place)).resolve()
    relative = check_path(name.removesuffix(f"[{place}]").strip() or ".")
    if os.sep == "/" and "\\" in name and not os.path.lexists(root / relative):  # in workflows saved on Windows
        relative = Path(*PureWindowsPath(relative).parts)
    path = Path(os.path.realpath(root / relative))  # unlike resolve(), it accepts names that are too long
    if not path.is_relative_to(root):
        raise ValueError(f"{shown(name)} lies outside of ComfyUI's {place} folder. Upload the file, or copy it there.")
    if not os.path.exists(path):  # noqa: PTH110 likewise
        raise ValueError(f"There is no {shown(name)} in ComfyUI's {place} folder. Upload it, or choose another file.")
    return path


def check_file(name: str | None, find: Callable[[str], Path]) -> bool | str:
    """True if there is a file of this name, else why not, as `validate_inputs` of a node returns it.

    Arguments:
        name: None for a linked name, whose value is not known yet.
        find: gives the path, or raises an error with the reason.
    """
    if name is not None:
        try:
            find(name)
        except (FileNotFoundError, TypeError, ValueError) as error:
            return str(error)
    return True


def file_stamp(name: str | None, find: Callable[[str], Path]) -> str:
    """A text that changes when the file changes, as `fingerprint_inputs` of a node returns it.

    A linked name is constant here: only a change upstream runs the node again.

    Arguments:
        name, find: as `check_file` takes them.
    """
    if name is None:
        return "linked"
    try:
        status = find(name).stat()
    except (OSError, TypeError, ValueError):
        return "missing"
    return f"{status.st_mtime_ns} {status.st_size}"


def next_output(prefix: str, suffix: str, width: int, height: int) -> tuple[Path, str]:
    """A free name in the host's output folder, numbered as the host does; and its subfolder.

    Raises:
        OSError: if the folder of the prefix cannot be made.
        ValueError: if it leads out of the output folder.
    """
    return _free_file(prefix, suffix, folder_paths.get_output_directory(), width, height)


def check_prefix(prefix: str | None, suffix: str) -> bool | str:
    """True if files of a prefix can have their full name, else why not, as `validate_inputs` of a node returns it.

    Arguments:
        prefix: None for a linked one, whose value is not known yet.
    """
    if not isinstance(prefix, str):
        return True
    name = re.split(r"[/\\]", DATE.sub(lambda found: _dated(found[1], datetime.now()), prefix))[-1]
    length = len(os.fsencode(f"{name}_00001_{suffix}"))
    if length <= LONGEST_NAME:
        return True
    return (
        f"Files of filename_prefix {shown(prefix)} would have names of {length} bytes, and at most {LONGEST_NAME} can "
        "be written. Give a shorter name."
    )


def next_tuned_file(prefix: str) -> Path:
    """A free name in the folder of tuned weights; same rules as `next_output`."""
    path, _ = _free_file(prefix, TUNED_SUFFIX, folder_paths.get_folder_paths(TUNED_FOLDER)[0])
    return path


def next_lora_file(prefix: str) -> Path:
    """A free name in the host's folder of LoRAs; same rules as `next_output`."""
    path, _ = _free_file(prefix, TUNED_SUFFIX, folder_paths.get_folder_paths(LORA_FOLDER)[0])
    return path


def tuned_files() -> list[str]:
    """Files of tuned weights by relative name."""
    return [name for name in folder_paths.get_filename_list(TUNED_FOLDER) if name.endswith(TUNED_SUFFIX)]


def tuned_file(name: str) -> Path:
    """The path of a file of tuned weights.

    Raises:
        FileNotFoundError: the host's own, if there is no such file.
        TypeError, ValueError: if the name is not text, or not valid.
    """
    check_text("file", name)
    return Path(folder_paths.get_full_path_or_raise(TUNED_FOLDER, name))


def video_metadata(prompt: Any, extra: Mapping[str, Any] | None) -> dict[str, str]:
    """The texts by which the host opens the workflow of a file; empty if it was started with --disable-metadata."""
    if args.disable_metadata:
        return {}
    texts = {name: json.dumps(value) for name, value in (extra or {}).items()}
    return texts if prompt is None else {**texts, "prompt": json.dumps(prompt)}


def _dated(pattern: str, now: datetime) -> str:
    """A date as the host's page writes it for its own nodes: yyyy-MM-dd, hhmmss; a single letter pads no zero."""
    parts = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def written(found: re.Match[str]) -> str:
        letters = found[0]
        return f"{now.year}"[-len(letters) :] if letters[0] == "y" else f"{parts[letters[0]]}".zfill(len(letters))

    return re.sub("yyyy|yy|dd?|MM?|hh?|mm?|ss?", written, pattern)


def _free_file(prefix: str, suffix: str, root: str, width: int = 0, height: int = 0) -> tuple[Path, str]:
    """A free name of a prefix within a folder, by the host's rules; and its subfolder."""
    check_text("filename_prefix", prefix)
    prefix = DATE.sub(lambda found: _dated(found[1], datetime.now()), prefix)
    if os.name == "nt":
        prefix = NOT_IN_NAMES.sub("_", prefix)
    try:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, root, width, height)
    except OSError as error:
        message = f"No file of filename_prefix {shown(prefix)} can be made in {root} ({error}). "
        raise OSError(f"{message}Give another name, or make the folder writable.") from error
    except Exception as error:  # the host raises no type of its own
        message = f"filename_prefix {shown(prefix)} leads out of {root}. Give a name, or subfolder/name."
        raise ValueError(message) from error
    while (path := Path(folder) / f"{name}_{counter:05}_{suffix}").exists():
        counter += 1
    make_folder(path.parent)
    return path, subfolder
