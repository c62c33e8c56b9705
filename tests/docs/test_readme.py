"""What the README says to type is typed, against the real pair."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path

from tests.pair import PATIENCE, Pair, Result, program, running_pair

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    """The fenced block behind `<!-- run: NAME -->`."""
    found = re.search(rf"<!-- run: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no block to run that is called {name}"
    return found[1]


def commands(text: str) -> list[str]:
    """The commands of a console block; a backslash at the end joins lines."""
    joined = text.replace("\\\n", " ")
    return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


async def shell(pair: Pair, command: str, **more: str) -> Result:
    """Run a command as a person's shell would, with `bridle` and `buf` on the path."""
    environment = pair.environment(**more)
    environment["PATH"] = f"{Path(program('bridle')).parent}:{environment['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        cwd=pair.work,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    return Result(process.returncode or 0, out.decode(), err.decode())


async def test_the_tour_of_the_readme_does_what_it_says(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        said: dict[str, str] = {}
        for command in commands(block("tour")):
            result = await shell(pair, command)
            assert result.code == 0, (command, result)
            said[" ".join(shlex.split(command)[1:3])] = result.out

    assert said["session interrupt"] == "sent\n"
    assert "the colour is green" in said["session transcript"]
    assert "INTERRUPTED" in said["session transcript"]


async def test_the_python_program_and_the_call_by_reflection_of_the_readme_run(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        program_text = shlex.quote(block("python"))
        ran = await shell(pair, f"{shlex.quote(sys.executable)} -c {program_text}")
        assert ran.code == 0, ran
        assert "turn_ended" in ran.out

        [curl] = commands(block("curl"))
        called = await shell(pair, curl.replace("127.0.0.1:7420", pair.address), TOKEN=pair.token)
        assert called.code == 0, called
        assert '"slug": "hello"' in called.out.replace('":"', '": "')


def test_the_two_commands_stand_at_the_top_of_the_readme() -> None:
    first = re.search(r"```\n(.*?)```", README, re.DOTALL)
    assert first
    assert re.findall(r"^make (\w+)", first[1], re.MULTILINE) == ["run", "test"]


def test_every_page_that_a_document_names_is_there() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} names {target}"


def test_every_target_that_a_document_names_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)) | set(
        re.findall(r"check-[a-z-]+", makefile)
    )
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "bench" / "README.md"]:
        for target in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")):
            assert target in targets, f"{page.name} names make {target}"


#: What the suite of the clients runs (tests/clients/test_collected_traces.py).
EXAMPLES = {
    "python": ("clients/python/example.py",),
    "go": ("clients/go/example/main.go", "clients/go/example/traces.go"),
    "java": ("clients/java/src/test/java/dev/bridle/example/Example.java",),
    "ts": ("clients/typescript/example/main.ts", "clients/typescript/example/page.ts"),
}


def test_how_to_trace_a_client_is_told_in_lines_of_the_examples() -> None:
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    section = page.partition("## Traces\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)
    assert {language for language, _ in blocks} == EXAMPLES.keys()
    for language, block in blocks:
        example = "\n".join(
            (ROOT / each).read_text(encoding="utf-8") for each in EXAMPLES[language]
        )
        for line in filter(None, block.splitlines()):
            assert line in example, f"no example has this line: {line}"
