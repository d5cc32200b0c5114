"""Programs that turn files into files: a solver, a renderer, an assembler with linker and object copier."""

import struct
import zlib

import pytest

from agentvm import AgentVM
from tests.support.real_guests import real_guest
from tests.support.reference import ReferenceVM

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

SOLVABLE = """(set-logic QF_BV)
(declare-fun x () (_ BitVec 8))
(assert (= (bvmul x #x03) #x2d))
(assert (bvult x #x20))
(check-sat)
"""
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48">
<rect width="64" height="48" fill="#123456"/><circle cx="32" cy="24" r="10" fill="red"/></svg>"""
ASSEMBLY = """
    .section .text
    .global main
main:
    ldi r24, 0x2a
    out 0x05, r24
loop:
    rjmp loop
    .section .data
message:
    .ascii "hello"
"""
#: What turns the assembly into Intel hex: program, arguments, and the file that it makes.
PIPELINE = (
    ("avr-as", ["-mmcu=avr5", "-o", "/b.o", "/b.s"], "b.o"),
    ("avr-ld", ["-r", "-o", "/b.elf", "/b.o"], "b.elf"),
    ("avr-objcopy", ["-O", "ihex", "/b.elf", "/b.hex"], "b.hex"),
)


def test_boolector_says_satisfiable_by_exit_status_10(vm: AgentVM) -> None:
    vm.fs.write("/t.smt2", SOLVABLE.encode())
    result = vm.run(real_guest("boolector"), args=["-m", "/t.smt2"])
    assert result.exit_code == 10
    assert result.stdout.startswith(b"sat\n")
    assert b"#b00001111" in result.stdout


def test_boolector_says_unsatisfiable_by_exit_status_20(vm: AgentVM) -> None:
    problem = SOLVABLE.replace("(check-sat)", "(assert (bvult #x1f x))\n(check-sat)")
    result = vm.run(real_guest("boolector"), stdin=problem.encode())
    assert (result.exit_code, result.stdout) == (20, b"unsat\n")


def test_resvg_renders_a_png(vm: AgentVM) -> None:
    vm.fs.write("/c.svg", SVG.encode())
    result = vm.run(real_guest("resvg"), args=["/c.svg", "/c.png"])
    assert (result.exit_code, result.stderr) == (0, b"")
    png = vm.fs.read("/c.png")
    assert png[:16] == b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    assert struct.unpack(">II", png[16:24]) == (64, 48)
    start = png.index(b"IDAT")
    size = struct.unpack(">I", png[start - 4 : start])[0]
    # 48 rows of 64 pixels of 4 bytes, each with one byte for the filter.
    assert len(zlib.decompress(png[start + 4 : start + 4 + size])) == 48 * (64 * 4 + 1)


def test_resvg_without_its_input_fails_by_itself(vm: AgentVM) -> None:
    result = vm.run(real_guest("resvg"), args=["/missing.svg", "/c.png"])
    assert result.exit_code not in (0, None)
    assert result.stdout + result.stderr != b""


def test_assembler_linker_and_objcopy_make_the_same_bytes_as_elsewhere(vm: AgentVM) -> None:
    vm.fs.write("/b.s", ASSEMBLY.encode())
    with ReferenceVM() as reference:
        (reference.root / "b.s").write_text(ASSEMBLY)
        for name, args, made in PIPELINE:
            program = real_guest(name)
            expected = reference.run(program, args)
            result = vm.run(program, args=args)
            assert (result.exit_code, result.stdout, result.stderr) == (0, expected.stdout, expected.stderr), name
            assert vm.fs.read(f"/{made}") == (reference.root / made).read_bytes(), made
    assert vm.fs.read("/b.hex").splitlines() == [b":060000008AE285B900C090", b":0500000068656C6C6FE7", b":00000001FF"]


def test_assembler_reports_a_mistake(vm: AgentVM) -> None:
    vm.fs.write("/b.s", b"    nonsense r1\n")
    result = vm.run(real_guest("avr-as"), args=["-mmcu=avr5", "-o", "/b.o", "/b.s"])
    assert result.exit_code == 1
    assert b"unknown opcode" in result.stderr
