"""What holds when several places set limits, and presets lie under all of them."""

import pytest

from agentvm import Limits
from agentvm.errors import InvalidLimit
from agentvm.limits.caps import Caps, resolve
from agentvm.limits.catalogue import SPECS
from agentvm.limits.layers import Accepts, Layer, merge
from agentvm.limits.presets import PRESETS

MIB = 1 << 20


def layer(place: str, **values: object) -> Layer:
    made = Layer()
    for name, value in values.items():
        made.set(name, value, f"{place} {name}", accepts=Accepts.BOTH)
    return made


def caps(merged: Layer) -> dict[str, object]:
    return dict(merged.limits().given())


def test_the_higher_layer_wins_and_is_named() -> None:
    low, high = layer("file", max_processes=1, max_sockets=1), layer("flag", max_processes=2)
    merged = merge([low, high])
    assert caps(merged) == {"max_processes": 2, "max_sockets": 1}
    assert {name: merged[name].source for name in merged} == {
        "max_processes": "flag max_processes",
        "max_sockets": "file max_sockets",
    }


@pytest.mark.parametrize("value", [64 * MIB, "64MiB"])
def test_a_lower_narrow_cap_is_lowered_to_a_higher_wide_one(value: object) -> None:
    merged = merge([layer("file", memory="1GiB"), layer("flag", max_memory_bytes=value)])
    assert caps(merged) == {"max_memory_bytes": 64 * MIB, "max_memory_per_process_bytes": 64 * MIB}
    assert merged["max_memory_per_process_bytes"].source == "file memory, lowered to max_memory_bytes"
    resolve(caps(merged))  # type: ignore[arg-type]


def test_what_a_middle_layer_lowered_counts_for_nothing_when_the_top_raises_it_again() -> None:
    layers = [layer("file", memory="1GiB"), layer("env", max_memory_bytes="64MiB"), layer("flag", max_memory_mb=2048)]
    assert caps(merge(layers)) == {"max_memory_bytes": 2048 * MIB, "max_memory_per_process_bytes": 1024 * MIB}


def test_a_higher_narrow_cap_that_widens_raises_a_lower_wide_one_and_others_are_refused() -> None:
    merged = merge([layer("file", max_filesystem_bytes="1MiB"), layer("flag", max_temp_storage_mb=500)])
    assert caps(merged) == {"max_filesystem_bytes": 500 * MIB, "max_temp_storage_bytes": 500 * MIB}
    assert merged["max_filesystem_bytes"].source.endswith(", raised to hold max_temp_storage_bytes")
    merged = merge([layer("file", max_open_fds=5), layer("flag", max_open_fds_per_process=6)])
    with pytest.raises(InvalidLimit, match="max_open_fds_per_process is 6, above max_open_fds, which is 5"):
        Caps(merged.limits())


def test_a_contradiction_within_one_layer_stays_one() -> None:
    for contradiction in (
        {"max_open_fds": 5, "max_open_fds_per_process": 6},
        {"max_filesystem_bytes": "1MiB", "max_temp_storage_bytes": "2MiB"},
    ):
        with pytest.raises(InvalidLimit, match="above max_"):
            Caps(merge([layer("file", **contradiction)]).limits())


def test_the_preset_of_the_highest_layer_lies_under_all_layers() -> None:
    merged = merge([layer("file", preset="compiler", max_processes=7), layer("flag", preset="tiny", max_open_fds=9)])
    expected = {**PRESETS["tiny"].caps, "max_processes": 7, "max_open_fds": 9}
    assert caps(merged) == expected
    assert merged["max_sockets"].source == "preset tiny"
    assert caps(merge([layer("file", preset="tiny"), layer("flag", preset="none")])) == {}


def test_limits_of_the_process_and_of_a_vm_are_told_apart() -> None:
    both = layer("flag", max_open_vms=3, max_processes=4)
    assert caps(both) == {"max_processes": 4}
    assert dict(both.host_limits().given()) == {"max_open_vms": 3}
    with pytest.raises(InvalidLimit, match=r"here is a limit of the whole process.* under \[host\]"):
        Layer().set("max_open_vms", 3, "here")
    with pytest.raises(InvalidLimit, match=r"here is a limit of each VM.* under \[resources\]"):
        Layer().set("on_output_full", "error", "here", accepts=Accepts.HOST)


def test_setting_a_limit_twice_is_refused_unless_it_may_repeat_itself() -> None:
    one = layer("flag", max_memory_mb=1)
    with pytest.raises(InvalidLimit, match="set twice, by flag max_memory_mb to 1MiB and by again to 1MiB"):
        one.set("max_memory_bytes", "1024KiB", "again")
    one.set("max_memory_bytes", "1024KiB", "again", may_repeat=True)
    with pytest.raises(InvalidLimit, match="set twice"):
        one.set("max_memory_bytes", "2MiB", "again", may_repeat=True)
    one.set("warn_percent", 70, "first")
    with pytest.raises(InvalidLimit, match="warn_percent is set twice, by first to 70 and by again to 71"):
        one.set("warnPercent", 71, "again", may_repeat=True)


# -- presets ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_consistent_and_says_what_it_is_for(name: str) -> None:
    preset = PRESETS[name]
    assert preset.name == name
    assert preset.summary.endswith(".")
    assert dict(Limits.preset(name).given()) == dict(preset.caps)
    defaults, in_force = Caps(Limits()), Caps(Limits.preset(name))
    for limit, cap in preset.caps.items():
        assert cap != defaults[limit], f"{limit} has that value by default"
        assert (cap < defaults[limit]) == (name == "tiny")
        assert in_force[limit] == cap
        assert SPECS[limit].minimum <= cap <= SPECS[limit].maximum


def test_what_is_given_wins_over_a_preset_in_every_spelling() -> None:
    limits = Limits.preset("tiny", maxProcesses=9, max_temp_storage_mb=500, memory="1MiB")
    given = dict(limits.given())
    assert (given["max_processes"], given["max_memory_bytes"]) == (9, MIB)
    assert given["max_filesystem_bytes"] == given["max_temp_storage_bytes"] == 500 * MIB
    assert Caps(Limits.preset("compiler", max_memory_bytes="1GiB"))["max_memory_per_process_bytes"] == 1024 * MIB


def test_an_unknown_preset_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidLimit, match="preset cannot be 'huge': it takes 'none' or 'tiny' or 'compiler'"):
        Limits.preset("huge")
