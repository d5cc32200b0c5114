"""The caps of a VM as somebody outside the kernel may look at them, and in words for an agent's prompt."""

from collections.abc import Iterator, Mapping

from agentvm.limits.amount import format_amount
from agentvm.limits.catalogue import SPECS
from agentvm.limits.spec import UNLIMITED, Cap, LimitSpec, Scope

__all__ = ["LimitsView"]

#: What a program has to reckon with: a title, and the limits that say how much there is.
_ROWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("memory", ("max_memory_bytes", "max_memory_per_process_bytes")),
    ("CPU, of one core", ("max_cpu_percent",)),
    ("CPU time", ("max_cpu_time_seconds",)),
    ("instructions", ("max_fuel", "max_fuel_per_process")),
    ("running time", ("max_wall_time_seconds",)),
    ("processes", ("max_processes",)),
    ("open files", ("max_open_fds", "max_open_fds_per_process")),
    ("files", ("max_filesystem_bytes",)),
    ("files in /tmp", ("max_temp_storage_bytes",)),
    ("number of files", ("max_inodes",)),
    ("size of a file", ("max_file_bytes",)),
    ("writes to host directories", ("max_host_write_bytes",)),
    ("output that is kept", ("max_log_bytes",)),
    ("output that is streamed", ("max_output_bytes",)),
    ("disk reads", ("max_disk_read_bytes_per_second", "max_disk_read_operations_per_second")),
    ("disk writes", ("max_disk_write_bytes_per_second", "max_disk_write_operations_per_second")),
)
_FOR_EACH = {Scope.PROCESS: " for each process", Scope.VM: " in all", Scope.FILE: ""}
#: What happens past a cap where a setting has another value than its default.
_OTHERWISE = {
    "max_log_bytes": ("on_output_full", "discard", "only the head and the tail are kept"),
    "max_memory_bytes": ("on_memory_full", "kill", "the process that asks for more is killed"),
}


class LimitsView(Mapping[str, Cap]):
    """Every limit's name with its cap in force, as of the moment at which it was asked for."""

    def __init__(self, caps: Mapping[str, Cap], settings: Mapping[str, str | int]) -> None:
        self._caps = caps
        #: The settings in force, by name.
        self.settings = settings

    def __getitem__(self, name: str) -> Cap:
        return self._caps[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._caps)

    def __len__(self) -> int:
        return len(self._caps)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self._caps)!r})"

    def describe(self) -> str:
        """Return a short text for the prompt of an agent that works in this VM: what there is, and what happens past
        it."""
        lines = ["You work in a small Linux-like machine with hard limits; nothing in it can raise them.", ""]
        lines += [line for title, names in _ROWS if (line := self._row(title, names))]
        lines += [
            "",
            "What is used now: cat /proc/agentvm/usage (JSON: used, peak, cap, percent and refused of every limit).",
            "All caps: cat /proc/agentvm/limits.",
        ]
        return "\n".join(lines)

    def _row(self, title: str, names: tuple[str, ...]) -> str:
        capped = [SPECS[name] for name in names if self._caps[name] != UNLIMITED]
        if not capped:
            return ""
        amounts = ", ".join(self._amount(spec) for spec in capped)
        return f"- {title}: {amounts}; past it: {self._past(capped[0])}"

    def _amount(self, spec: LimitSpec) -> str:
        return format_amount(spec.unit, self._caps[spec.name]) + _FOR_EACH[spec.scope]

    def _past(self, spec: LimitSpec) -> str:
        setting, value, text = _OTHERWISE.get(spec.name, ("", "", ""))
        return text if setting and self.settings[setting] == value else spec.guest_sees
