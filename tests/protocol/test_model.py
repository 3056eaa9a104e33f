"""The model of the protocol, docs/protocol.pml, searched by spin: it has no error, and each rule taken out is missed."""

from __future__ import annotations

import re
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.required import need

MODEL = Path(__file__).parents[2] / "docs" / "protocol.pml"

# Bytes that the search of one scope may take; the largest of the default run takes 0.3 GiB.
MEMORY = 4 << 30
SOAK_MEMORY = 8 << 30

# Every search of the newest commit forgets what was made, but not every one comes after a lost race; and the trimmer
# has no end.
COMMON = {"Writer: :: raced -> FORGOTTEN(me)", "Trimmer: -end-"}
SEARCHES = "Collector: :: raced -> FORGOTTEN(me)"
# With fewer possibilities, there are no backups in one commit.
FEWER = "Writer: phase = BEGIN; saw = 0;"

# Scopes, each with the statements that no order of steps reaches. Any other would mean that the search passes something
# over, and nothing is proven by it.
SCOPES: dict[str, set[str]] = {
    "WRITERS": COMMON,
    "WRITERS TICKS=4": COMMON,
    "SLEEPER": {*COMMON, SEARCHES, FEWER},
    "COLLECT": set(),
    "RESUME": set(),
    "COLLECTS": {FEWER},
    "COMPACT": {FEWER},
    "COMPACTS": set(),
    "ROLLBACK": set(),
}

# Left to `make soak`: the other scopes have all that is in these, but not that much of it.
LONG = {"COLLECTS", "WRITERS TICKS=4"}

# What is taken out, and the scope that notices.
BROKEN: dict[str, str] = {
    "BREAK_ADOPTED_UNREAD": "WRITERS",
    "BREAK_ADOPTS": "RESUME",
    "BREAK_ATTEMPT": "ROLLBACK",
    "BREAK_ATTEMPT BREAK_REFUSE_CONDEMNED SECOND_LINE": "RESUME",
    "BREAK_COMPACT_REVISION": "COMPACTS",
    "BREAK_COMPACT_ROOTS": "COMPACT",
    "BREAK_COPY_UNREAD": "COMPACTS",
    "BREAK_COUNT": "WRITERS",
    "BREAK_CREATE": "WRITERS",
    "BREAK_DECIDE_AGAIN": "RESUME",
    "BREAK_DECIDE_CONDEMN": "COLLECT",
    "BREAK_DELETE_EARLY": "COLLECT",
    "BREAK_EPOCHS": "COLLECT",
    "BREAK_LOST_ANSWER": "WRITERS",
    "BREAK_NAMES": "RESUME",
    "BREAK_OPERATION": "WRITERS",
    "BREAK_PARENT": "COMPACT",
    "BREAK_PIN": "COLLECT",
    "BREAK_PROBE": "WRITERS",
    "BREAK_PROBE_ORDER": "WRITERS",
    "BREAK_REACHABLE": "COLLECT",
    "BREAK_SEEN": "ROLLBACK",
    "BREAK_TAKEOVER": "RESUME",
    "BREAK_TRIM_LATEST": "WRITERS",
    "BREAK_TRIM_MILESTONES TICKS=3": "WRITERS",
}

# Each covers for the other, so only without both it goes wrong.
SECOND_LINE = ("BREAK_ATTEMPT", "SECOND_LINE")


@dataclass(frozen=True)
class Found:
    """What a search found. `unreached`: (process, source line) of statements that were never executed."""

    text: str
    errors: int
    states: int
    complete: bool
    unreached: set[tuple[str, str]]


@pytest.fixture(scope="module")
def tools() -> None:
    """Skips without spin and a C compiler, unless BLOCKVAULT_REQUIRE names spin: then it fails."""
    packages = "spin gcc libc6-dev"
    need(
        "spin",
        f"the model checker needs: apt-get install -y --no-install-recommends {packages}",
        "spin",
        "gcc",
    )


def search(
    directory: Path,
    *names: str,
    flags: tuple[str, ...] = ("-DCOLLAPSE",),
    options: tuple[str, ...] = ("-m100000", "-w22"),
    memory: int = MEMORY,
    level: str = "-O2",
) -> Found:
    """Search the model with these names defined. Raises subprocess.CalledProcessError when it is no model."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=directory, check=True, text=True, capture_output=True, preexec_fn=limit
        )

    made = run("spin", *(f"-D{name}" for name in names), "-a", str(MODEL))
    assert "Error" not in made.stdout, made.stdout
    run("gcc", level, "-w", "-DSAFETY", *flags, "-o", "pan", "pan.c")
    text = run("./pan", "-E", *options).stdout
    errors = re.search(r"errors: (\d+)", text)
    states = re.search(r"(\d+(?:\.\d+)?(?:e\+\d+)?) states, stored", text)
    assert errors is not None, text
    assert states is not None, text
    # These words say that the search was cut short.
    cut = [
        word
        for word in ("Search not completed", "max search depth too small", "out of memory")
        if word in text
    ]
    return Found(text, int(errors[1]), int(float(states[1])), not cut, _unreached(text))


def _unreached(text: str) -> set[tuple[str, str]]:
    lines = MODEL.read_text(encoding="utf-8").splitlines()
    process, found = "", set()
    for line in text.splitlines():
        if begin := re.match(r"unreached in proctype (\w+)", line):
            process = begin[1]
        elif place := re.match(r"\s+\S*protocol\.pml:(\d+), state \d+, \"(.*)\"", line):
            end = place[2] == "-end-"
            found.add((process, "-end-" if end else lines[int(place[1]) - 1].strip()))
    return found


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    "scope", [pytest.param(scope, marks=[pytest.mark.soak] if scope in LONG else []) for scope in SCOPES]
)
def test_nothing_goes_wrong(scope: str, tmp_path: Path) -> None:
    found = search(tmp_path, *scope.split())
    assert found.errors == 0, found.text
    assert found.complete, found.text
    print(f"{scope}: {found.states} states")
    # A model in which nothing happens has no error either.
    assert {f"{process}: {line}" for process, line in found.unreached} == SCOPES[scope]


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("broken", BROKEN)
def test_a_rule_that_is_taken_out_is_missed(broken: str, tmp_path: Path) -> None:
    found = search(tmp_path, BROKEN[broken], *broken.split(), level="-O1")
    assert found.errors == 1, f"the search of {BROKEN[broken]} does not notice that {broken}"
    violated = re.search(r"assertion violated (.*) \(at depth", found.text)
    assert violated is not None, found.text
    # These are the limits of the model itself.
    assert "<" not in re.sub("<<", "", violated[1]), f"not an invariant: {violated[1]}"


def test_the_page_names_what_is_there() -> None:
    """Tests and mistakes of the model that docs/protocol.md cites."""
    page = MODEL.with_suffix(".md").read_text(encoding="utf-8")
    sources = {
        path: path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py")
    }
    tests = {name for text in sources.values() for name in re.findall(r"def (test_\w+)", text)}
    tests |= {path.stem for path in sources}
    assert set(re.findall(r"`(test_\w+)`", page)) <= tests
    model = MODEL.read_text(encoding="utf-8")
    cited = re.findall(r"^\| [\d, ]+ \|([^|]*)\|", page, re.MULTILINE)
    mistakes = {name for cell in cited for name in re.findall(r"`(\w+)`", cell)}
    assert mistakes == set(re.findall(r"\bBREAK_([A-Z_]*[A-Z])\b", model))


def test_every_mistake_of_the_model_is_tried() -> None:
    named = set(re.findall(r"\bBREAK_[A-Z_]*[A-Z]\b", MODEL.read_text(encoding="utf-8")))
    assert named == {name for broken in BROKEN for name in broken.split() if name.startswith("BREAK_")}


@pytest.mark.usefixtures("tools")
def test_the_second_line_holds(tmp_path: Path) -> None:
    """Rule 11 without rule 4: a run that lost its attempt still never names what was condemned."""
    found = search(tmp_path, "RESUME", *SECOND_LINE)
    assert found.errors == 0, found.text


@pytest.mark.usefixtures("tools")
@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 13))
def test_all_at_once(seed: int, tmp_path: Path) -> None:
    """Everybody together is too much to be searched to the end: each seed searches elsewhere, for ten minutes.

    States are kept as bits only, so some are taken for others and passed over.
    """
    found = search(
        tmp_path,
        "ALL",
        flags=("-DBITSTATE", "-DT_RAND", "-DP_RAND"),
        options=("-m200000", "-w33", "-k3", "-Q10", f"-RS{seed}"),
        memory=SOAK_MEMORY,
    )
    assert found.errors == 0, found.text
    assert found.states > 1_000_000, found.text
