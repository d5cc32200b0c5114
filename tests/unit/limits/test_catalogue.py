"""What an operator asks for, and what is then in force."""

import pytest

from agentvm import Limits
from agentvm.errors import InvalidLimit
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import SPECS
from agentvm.limits.names import find_spec
from agentvm.limits.spec import UNLIMITED, Kind, Unit


def test_limits_take_text_and_numbers_and_know_what_was_given() -> None:
    limits = Limits(max_memory_bytes="64MiB", max_processes=3)
    assert dict(limits.given()) == {"max_memory_bytes": 64 << 20, "max_processes": 3}
    assert dict(Limits().given()) == {}
    assert dict(limits.replace(max_processes=4).given()) == {"max_memory_bytes": 64 << 20, "max_processes": 4}
    assert Limits(max_processes="3") == Limits(max_processes=3)


def test_a_bad_value_is_refused_at_once() -> None:
    with pytest.raises(InvalidLimit, match="max_processes cannot be 'many'"):
        Limits(max_processes="many")
    with pytest.raises(ValueError, match="max_processes"):
        Limits(max_processes=0)


@pytest.mark.parametrize(
    "spelling", ["max_open_fds", "--max-open-fds", " MAX_OPEN_FDS ", "max-open-fds", "max_open_files"]
)
def test_a_limit_is_found_by_its_spellings(spelling: str) -> None:
    assert find_spec(spelling).name == "max_open_fds"
    assert dict(Limits.of({spelling: 7}).given()) == {"max_open_fds": 7}


@pytest.mark.parametrize(
    ("name", "near"), [("max_memory", "max_memory_bytes"), ("max_proceses", "max_processes"), ("max_fuels", "max_fuel")]
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InvalidLimit, match=f"there is no limit '{name}'; did you mean .*{near}"):
        Limits.of({name: 1})


# -- caps -------------------------------------------------------------------------------------------------------------
def test_every_limit_has_a_cap() -> None:
    caps = Caps(Limits())
    assert set(caps) == set(SPECS)
    assert len(caps) == len(SPECS)
    for name, spec in SPECS.items():
        assert spec.default is None or caps[name] == spec.default


def test_a_limit_that_follows_another_has_its_cap_unless_it_is_given() -> None:
    assert Caps(Limits(max_filesystem_bytes=1000))["max_temp_storage_bytes"] == 1000
    assert Caps(Limits(max_filesystem_bytes=1000, max_temp_storage_bytes=10))["max_temp_storage_bytes"] == 10


def test_a_default_above_the_wider_cap_is_lowered_and_an_explicit_one_refused() -> None:
    caps = Caps(Limits(max_open_fds=5, max_memory_bytes="1MiB"))
    assert caps["max_open_fds_per_process"] == 5
    assert caps["max_memory_per_process_bytes"] == 1 << 20
    with pytest.raises(InvalidLimit, match=r"max_open_fds_per_process is 6, above max_open_fds, which is 5: raise"):
        Caps(Limits(max_open_fds=5, max_open_fds_per_process=6))
    assert Caps(Limits(max_open_fds=5, max_open_fds_per_process=5))["max_open_fds_per_process"] == 5


def test_caps_only_rise_and_all_or_none_do() -> None:
    caps = Caps(Limits(max_processes=4, max_sockets=4))
    caps.raise_to(Limits(max_processes=4, max_sockets=5))
    with pytest.raises(InvalidLimit, match="max_sockets can only be raised: it is 5, not more than 4"):
        caps.raise_to(Limits(max_processes=100, max_sockets=4))
    assert (caps["max_processes"], caps["max_sockets"]) == (4, 5)
    caps.raise_to(Limits(max_fuel="none"))
    with pytest.raises(InvalidLimit):
        caps.raise_to(Limits(max_fuel=5))


# -- declarations -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_declaration_is_complete(spec) -> None:  # type: ignore[no-untyped-def]
    assert spec.name.startswith("max_")
    assert spec.summary.endswith(".")
    assert spec.guest_sees
    assert (spec.default is None) == (spec.follows is not None)
    assert spec.errno is None or spec.kind is Kind.RATE or spec.errno.name in spec.guest_sees or spec.guest_sees
    assert spec.minimum <= spec.maximum
    if spec.default not in (None, UNLIMITED):
        assert spec.minimum <= spec.default <= spec.maximum
    if spec.unit is Unit.BYTES:
        assert "bytes" in spec.name
    for other in (spec.follows, spec.within):
        assert other is None or SPECS[other].unit is spec.unit


def test_a_setting_tells_how_to_raise_a_cap() -> None:
    spec = SPECS["max_open_fds"]
    assert spec.setting(512) == "Limits(max_open_fds=512) or --limit max_open_fds=512"
    assert spec.flag == "--max-open-fds"
