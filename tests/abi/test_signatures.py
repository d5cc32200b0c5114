"""The declarations against the specification: every call is there, with the type that programs import it by."""

import ast
from pathlib import Path

import pytest

from agentvm.abi.preview1 import PREVIEW1, UNSTABLE

#: Written by hand from the witx: i32 as i, i64 as l, and what comes back.
SIGNATURES = """
args_get ii:i                    args_sizes_get ii:i             clock_res_get ii:i
clock_time_get ili:i             environ_get ii:i                environ_sizes_get ii:i
fd_advise illi:i                 fd_allocate ill:i               fd_close i:i
fd_datasync i:i                  fd_fdstat_get ii:i              fd_fdstat_set_flags ii:i
fd_fdstat_set_rights ill:i       fd_filestat_get ii:i            fd_filestat_set_size il:i
fd_filestat_set_times illi:i     fd_pread iiili:i                fd_prestat_dir_name iii:i
fd_prestat_get ii:i              fd_pwrite iiili:i               fd_read iiii:i
fd_readdir iiili:i               fd_renumber ii:i                fd_seek ilii:i
fd_sync i:i                      fd_tell ii:i                    fd_write iiii:i
path_create_directory iii:i      path_filestat_get iiiii:i       path_filestat_set_times iiiilli:i
path_link iiiiiii:i              path_open iiiiillii:i           path_readlink iiiiii:i
path_remove_directory iii:i      path_rename iiiiii:i            path_symlink iiiii:i
path_unlink_file iii:i           poll_oneoff iiii:i              proc_exit i:
proc_raise i:i                   random_get ii:i                 sched_yield :i
sock_accept iii:i                sock_recv iiiiii:i              sock_send iiiii:i
sock_shutdown ii:i
"""
EXPECTED = dict(zip(SIGNATURES.split()[::2], SIGNATURES.split()[1::2], strict=True))
_LETTERS = {"i32": "i", "i64": "l"}


def _letters(kinds: tuple[str, ...]) -> str:
    return "".join(_LETTERS[kind] for kind in kinds)


def test_preview1_has_its_46_calls_with_the_types_of_the_witx() -> None:
    declared = {name: f"{_letters(s.wasm_params)}:{_letters(s.wasm_results)}" for name, s in PREVIEW1.items()}
    assert declared == EXPECTED
    assert len(declared) == 46


def test_unstable_has_the_same_types_and_no_sock_accept() -> None:
    declared = {name: f"{_letters(s.wasm_params)}:{_letters(s.wasm_results)}" for name, s in UNSTABLE.items()}
    assert declared == {name: text for name, text in EXPECTED.items() if name != "sock_accept"}
    assert len(declared) == 45
    assert {spec.module for spec in UNSTABLE.values()} == {"wasi_unstable"}


def _tests_of(part: str) -> list[str]:
    path = Path(__file__).with_name(f"test_{part}.py")
    found = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node.name for node in found if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


@pytest.mark.parametrize("name", PREVIEW1)
def test_every_call_has_a_test_in_the_file_of_its_part(name: str) -> None:
    part = PREVIEW1[name].handler.__module__.rpartition(".")[2]
    assert any(test.startswith(f"test_{name}_") for test in _tests_of(part))


@pytest.mark.parametrize(
    "spec", [*PREVIEW1.values(), *UNSTABLE.values()], ids=lambda spec: f"{spec.module}.{spec.name}"
)
def test_every_declaration_is_complete(spec) -> None:  # type: ignore[no-untyped-def]
    assert spec.summary.endswith(".")
    assert all(cause for cause in spec.fails_with.values())
    assert len(spec.raw_params) == len(spec.raw_signs) == len(spec.wasm_params)
