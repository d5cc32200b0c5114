"""(g) How late deadlines and kills are, alone and beside busy guests of another VM, and what a sibling pays for it."""

from tests.deadlines.measure import ENDS, KINDS, WakeUps, hello_seconds, lateness, percentile, running

__all__ = ["measure"]

MS = 1e3


def measure(trials: int = 40) -> str:
    lines = [f"p99 over {trials} trials, in ms; target: 20, beside 64 guests too", ""]
    with WakeUps() as bare:
        lines.append(f"{'guest':28}{'alone':>10}{'beside 1':>10}{'beside 8':>10}{'beside 64':>11}")
        for end in ENDS:
            for kind in KINDS:
                late = [percentile(lateness(kind, count, trials, end), 99) * MS for count in (0, 1, 8, 64)]
                row = "".join(f"{value:>10.1f}" for value in late)
                lines.append(f"{end + ', ' + kind:28}{row}")
        idle = percentile(hello_seconds(trials), 99)
        lines.append(f"hello of a sibling, idle: {idle * MS:.1f} (mark beside others: {(4 * idle + 0.020) * MS:.1f})")
        for kind in KINDS:
            with running(kind, 64):
                beside = percentile(hello_seconds(trials), 99)
            lines.append(f"hello beside 64 x {kind}: {beside * MS:.1f}")
    lines.append(f"wake-up of a bare thread meanwhile, p99: {percentile(bare.seconds, 99) * MS:.1f}")
    return "\n".join(lines)
