"""Fetches pinned packages with the registries' own clients, pip and npm; keeps them, and checks them by sha256."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tests.support.cache import cache_folder

__all__ = ["Package", "Unavailable", "fetch", "registry_answers"]

TIMEOUT_SECONDS = 300


class Unavailable(Exception):
    """A package can't be had here; the text says why."""


@dataclass(frozen=True, slots=True)
class Package:
    """One file of a registry: `kind` is wheel, sdist (both pip) or npm. `sha256` is the file's."""

    kind: str
    name: str
    version: str
    sha256: str
    #: For pip's metadata step of an sdist, which runs the package's own setup.
    env: tuple[tuple[str, str], ...] = ()

    @property
    def client(self) -> str:
        return "npm" if self.kind == "npm" else "pip"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


# Tiny, and with no dependencies: whether these can be had tells whether the registry answers at all.
PROBES = {
    "pip": Package(
        "wheel", "annotated-types", "0.7.0", "1f02e8b43a8fbbc3f3e0d4f0f4bfc8131bcb4eebe8849b8e5c773f3a1c582a53"
    ),
    "npm": Package("npm", "is-number", "7.0.0", "7b75c1057198cf97696909a9bee176c9c5e9bcb5b03bf3ecef2f484defadd51e"),
}


@lru_cache
def fetch(package: Package) -> Path:
    """Return the package's file, downloaded if it is not kept yet. Raises `Unavailable`, at once if a registry that
    did not answer before would have to be asked again."""
    kept = cache_folder("packages") / f"{package.name}-{package.version}-{package.sha256[:16]}"
    if kept.is_file() and digest(kept) == package.sha256:
        return kept
    problem = registry_problem(package.client)
    if problem:
        raise Unavailable(f"{package}: the registry does not answer: {problem}")
    with tempfile.TemporaryDirectory() as folder:
        found = download(package, Path(folder))
        if digest(found) != package.sha256:
            raise Unavailable(f"{package}: {found.name} has sha256 {digest(found)}, {package.sha256} is pinned")
        partial = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(found, partial)
        partial.rename(kept)
    return kept


def registry_answers(client: str) -> bool:
    """Whether the registry behind pip or npm can be reached, asked once."""
    return registry_problem(client) is None


@lru_cache
def registry_problem(client: str) -> str | None:
    """Why the registry can't be reached, or None if it can."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            download(PROBES[client], Path(folder))
        except Unavailable as reason:
            return str(reason)
    return None


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def download(package: Package, folder: Path) -> Path:
    """Ask the client for one file into `folder`. Raises `Unavailable` with the last thing that it said."""
    if package.client == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise Unavailable(f"{package}: npm is not installed")
        command = [npm, "pack", "--silent", f"{package.name}@{package.version}"]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--retries", "1", "--timeout", "20", "--dest", "."]
        command += ["--only-binary" if package.kind == "wheel" else "--no-binary", package.name]
        command += [f"{package.name}=={package.version}"]
    environment = {**os.environ, **dict(package.env)}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{package}: {package.client} took more than {TIMEOUT_SECONDS} s") from None
    files = list(folder.iterdir())
    if done.returncode or len(files) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise Unavailable(f"{package}: {package.client} failed: {lines[-1].strip()[:200]}")
    return files[0]
