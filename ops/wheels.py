"""Wheels as archives: which one is pinned for this machine, fetching it with pip, unpacking it."""

import contextlib
import errno
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

LOCK = Path(__file__).resolve().parent / "parts.lock"


class Failure(Exception):
    """Ends the run with one sentence that says what to do."""


class Pin(NamedTuple):
    package: str
    version: str
    machine: str
    tag: str
    size: int
    sha256: str


def read_pins(machine):
    """The pins for one machine, by package. Most packages have one; what is compiled for each
    Python has several, which are unpacked into one folder."""
    pins = {}
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            package, version, where, tag, size, sha256 = line.split()
            if where in (machine, "any"):
                pin = Pin(package, version, where, tag, int(size), sha256)
                pins.setdefault(package, []).append(pin)
    return pins


def this_machine():
    system, processor = platform.system(), platform.machine()
    machine = {
        ("Linux", "x86_64"): "linux-x86_64",
        ("Linux", "aarch64"): "linux-aarch64",
        ("Darwin", "arm64"): "macos-arm64",
    }.get((system, processor))
    if machine is None:
        raise Failure(
            f"There are no ready-made parts for {system} on {processor}: use Linux on x86-64 or "
            "arm64, macOS on Apple silicon, or docker compose."
        )
    if system == "Linux":
        library, version = platform.libc_ver()
        if library != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 28):
            found = f"{library} {version}".strip() or "another C library"
            raise Failure(
                "The ready-made parts need glibc 2.28 or newer (Debian 10, Ubuntu 20.04, or later) "
                f"and this system has {found}: use docker compose here."
            )
    return machine


# --- Fetching -----------------------------------------------------------------------------------


def download(pins, work, progress):
    """Fetches the wheels of pins that have one tag below `work` and gives them in the same order;
    `progress` is called again and again with the bytes so far.

    pip does it, because pip knows the user's mirror, proxy and certificates. The tag is spelt out,
    so that the wheel does not depend on the Python that runs this.
    """
    tag = pins[0].tag
    wheels, scratch = work / tag, work / "pip"
    make_folder(wheels)
    make_folder(scratch)
    requirements = work / "requirements.txt"
    requirements.write_text(
        "".join(f"{pin.package}=={pin.version} --hash=sha256:{pin.sha256}\n" for pin in pins)
    )
    _, abi, tag_platform = tag.split("-")
    python = f"3.{abi[3:]}" if abi.startswith("cp3") else "3.11"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--retries", "3"]
    command += ["--python-version", python, "--implementation", "cp"]
    command += ["--abi", abi, "--platform", tag_platform]
    command += ["--dest", str(wheels), "--requirement", str(requirements)]
    environment = dict(
        os.environ,
        TMPDIR=str(scratch),
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_NO_INPUT="1",
        PIP_REQUIRE_VIRTUALENV="0",
        PIP_ROOT_USER_ACTION="ignore",
        PYTHONWARNINGS="ignore",
    )
    size = sum(pin.size for pin in pins)
    pip = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        errors="replace",
    )
    try:
        said = wait(pip, lambda: progress(min(folder_size(scratch, wheels), size)))
    finally:
        if pip.poll() is None:
            pip.terminate()
            pip.wait()
    found = {plain(path.name.split("-")[0]): path for path in wheels.glob("*.whl")}
    if pip.returncode != 0 or len(found) < len(pins):
        explain(pins, said)
    return [found[plain(pin.package)] for pin in pins]


def plain(package):
    """A package's name as every spelling of it is compared: `ruamel.yaml` is `ruamel_yaml`."""
    return re.sub(r"[-_.]+", "-", package).lower()


def wait(process, meanwhile):
    while True:
        try:
            return process.communicate(timeout=0.1)[0]
        except subprocess.TimeoutExpired:
            meanwhile()


def explain(pins, said):
    """Turns what pip said into one sentence."""
    named = [pin for pin in pins if f"{pin.package}==" in said] or pins
    what, said_low = f"{named[0].package} {named[0].version}", said.lower()
    unreachable = ("connection", "timed out", "name resolution", "proxy", "ssl")
    if "no module named pip" in said_low:
        raise Failure(
            "python3 has no pip, which fetches the parts: install it with `sudo apt-get install "
            "python3-pip` (Debian, Ubuntu) or `brew install python3` (macOS)."
        )
    if "do not match the hashes" in said_low:
        raise Failure(
            f"What the package index gave for {what} is not what ops/parts.lock pins: it was "
            "refused. Try again, and check the mirror or proxy in `python3 -m pip config list`."
        )
    if "no space left" in said_low:
        raise OSError(errno.ENOSPC, "")
    if any(word in said_low for word in unreachable):
        raise Failure(
            f"The package index could not be reached for {what}: check the network (and proxy) and "
            "run this again; what is already fetched is kept."
        )
    if "no matching distribution" in said_low:
        raise Failure(
            f"The package index does not offer {what} for this machine: check the mirror in "
            "`python3 -m pip config list`."
        )
    raise Failure(f"pip could not fetch {what}: {last_line(said)}")


# --- Unpacking ----------------------------------------------------------------------------------


def unpack(wheel, folder, rename):
    """Unpacks what `rename` gives a path for, readable by everybody; programs stay executable."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = None if entry.is_dir() else rename(entry.filename)
            if path is None:
                continue
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            program = entry.external_attr >> 16 & 0o100
            os.chmod(target, 0o755 if program else 0o644)


def everything(path):
    return path


def only(*names, under=None):
    """A `rename` that keeps the files with these names (in a folder called `under`), flat."""

    def rename(path):
        folder, name = os.path.split(path)
        return name if name in names and under in (None, os.path.basename(folder)) else None

    return rename


# --- Small things -------------------------------------------------------------------------------


def make_folder(path):
    path.mkdir(mode=0o755, parents=True, exist_ok=True)


def folder_size(*folders):
    total = 0
    for folder in folders:
        for path, _, files in os.walk(folder):
            for name in files:
                # pip removes its scratch files while they are counted
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(path, name)).st_size
    return total


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"
