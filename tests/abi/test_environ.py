"""preview1 environ: what a program finds around it."""

from tests.abi.rig import Boot, Rig


def test_environ_sizes_get_counts_the_variables_and_their_nuls(boot: Boot) -> None:
    rig = boot(env={"A": "1", "LONG": "é=x"})
    rig.ok("environ_sizes_get", 16, 20, writes=[(16, 8)])
    assert (rig.number(16), rig.number(20)) == (2, len("A=1\0LONG=é=x\0".encode()))


def test_environ_get_writes_name_value_strings(boot: Boot) -> None:
    rig = boot(env={"A": "1", "B": ""})
    rig.ok("environ_get", 100, 200, writes=[(100, 8), (200, 7)])
    assert rig.read(200, 8) == b"A=1\0B=\0?"
    assert [rig.number(100), rig.number(104)] == [200, 204]


def test_environ_get_of_nothing_writes_nothing(rig: Rig) -> None:
    rig.ok("environ_sizes_get", 16, 20)
    assert (rig.number(16), rig.number(20)) == (0, 0)
    rig.ok("environ_get", 100, 200, writes=[])
