"""The structure of a configuration file, as a pydantic model; the only module that loads pydantic.

The model knows sections and their keys. What limits there are, and what they take, is declared in the catalogue.
"""

import difflib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from agentvm.errors import InvalidConfig
from agentvm.limits.names import snake_case, spellings
from agentvm.log import FORMATS, LEVELS

__all__ = ["Document", "LogSection", "MountSection", "validate"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LogSection(_Section):
    """`[log]`."""

    level: str | None = None
    format: str | None = None

    @field_validator("level", "format")
    @classmethod
    def _is_known(cls, word: str | None, info: ValidationInfo) -> str | None:
        words = LEVELS if info.field_name == "level" else FORMATS
        if word is not None and word not in words:
            raise ValueError(f"it takes {' or '.join(map(repr, words))}")
        return word


class MountSection(_Section):
    """One mount: a directory of the host, relative to that of the file."""

    host: str = Field(min_length=1)
    read_only: bool = False


class Document(_Section):
    """A whole file."""

    resources: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    host: dict[str, Any] = {}
    mounts: dict[str, MountSection] = {}
    log: LogSection = LogSection()
    cgroup: Literal["auto", "required", "off"] | None = None

    @field_validator("mounts", mode="before")
    @classmethod
    def _read_short_mounts(cls, mounts: object) -> object:
        """Read the short form of a mount, "src:ro"."""
        if not isinstance(mounts, Mapping):
            return mounts
        return {guest: _read_mount(mount) for guest, mount in mounts.items()}


def _read_mount(mount: object) -> object:
    if isinstance(mount, str):
        return {"host": mount.removesuffix(":ro"), "read_only": mount.endswith(":ro")}
    if isinstance(mount, Mapping):
        return mount
    raise ValueError('each is "DIRECTORY", "DIRECTORY:ro" or {host = "DIRECTORY", read_only = true}')


def validate(path: str, content: object) -> Document:
    """Return what a file says. Raises `InvalidConfig` for the first thing in it that cannot be."""
    if isinstance(content, Mapping) and "network" in content:
        raise InvalidConfig(
            f"{path}: [network] is not in this release, whose guests reach no network outside their VM: take it out",
            path=path,
            key="network",
        )
    try:
        return Document.model_validate(content)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise _refusal(path, next((d for d in details if d["type"] == "extra_forbidden"), details[0])) from None


def _refusal(path: str, details: ErrorDetails) -> InvalidConfig:
    *sections, key = map(str, details["loc"]) if details["loc"] else ("the file",)
    where = f"{path}: " + (f"[{'.'.join(sections)}] " if sections else "") + key
    if details["type"] == "extra_forbidden":
        text = f"there is no such {'key' if sections else 'section or key'}{_hint(sections, key)}"
    elif details["type"] == "missing":
        text = "it is missing"
    else:
        text = f"it cannot be {details['input']!r:.80}: {_accepted(details)}"
    return InvalidConfig(f"{where}: {text}", path=path, key=".".join((*sections, key)))


def _accepted(details: ErrorDetails) -> str:
    """Say what a key takes, in our own words where pydantic's are about Python."""
    context = details.get("ctx", {})
    words = {
        "value_error": str(context.get("error")),
        "literal_error": f"it takes {context.get('expected')}",
        "dict_type": "it is a section, a table of names and values",
        "model_type": "it is a section, a table of names and values",
        "string_type": "it takes text",
        "string_too_short": "it is empty",
        "bool_type": "it takes true or false",
    }
    return words.get(details["type"], details["msg"].lower())


def _hint(sections: list[str], key: str) -> str:
    """Name the nearest key, or all that there are; or say where a limit belongs."""
    if not sections and snake_case(key) in spellings():
        return "; a limit stands under [resources]"
    models: dict[str, type[_Section]] = {"log": LogSection, "mounts": MountSection}
    model = models[sections[0]] if sections else Document
    names = list(model.model_fields)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"
