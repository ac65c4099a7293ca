"""What the documents say is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def read(file: str) -> str:
    return (ROOT / file).read_text()


DOCS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))
BLOCKS = re.findall(r"```python\n(.*?)```", read("README.md"), re.DOTALL)
PROGRAM = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
PROGRAMS = [(f, *match) for f in DOCS for match in PROGRAM.findall(read(f))]


def test_the_figures_in_the_documents_are_those_of_the_committed_results() -> None:
    command = [sys.executable, "-m", "benchmarks.documents", "--check"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def check_program(program: Path, text: str, output: str) -> None:
    program.write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, output, "")


def test_the_first_program_of_the_readme_runs(tmp_path) -> None:
    check_program(tmp_path / "program.py", BLOCKS[0], "499999500000\n")


def test_the_readme_s_block_of_the_broker_runs(tmp_path) -> None:
    (block,) = (block for block in BLOCKS if "aioipc.Broker()" in block)
    main = f"async def main():\n{indented(block)}\nanyio.run(main)\n"
    text = f"import anyio\nimport aioipc\n{main}"
    check_program(tmp_path / "program.py", text, "499999500000\n")


@pytest.mark.parametrize(
    ("file", "text", "output"), PROGRAMS, ids=[file for file, *_ in PROGRAMS]
)
def test_the_programs_of_the_docs_print_what_they_say(
    file, text, output, tmp_path
) -> None:
    check_program(tmp_path / "program.py", text, output)


def test_each_block_of_the_docs_is_a_program_with_its_output() -> None:
    for file in DOCS:
        assert read(file).count("```python") == len(PROGRAM.findall(read(file))), file


def indented(block: str) -> str:
    return "".join(f"    {line}\n" for line in block.splitlines())


@pytest.mark.parametrize("block", BLOCKS[1:], ids=range(1, len(BLOCKS)))
def test_the_other_blocks_of_the_readme_are_valid(block) -> None:
    compile(f"async def main():\n{indented(block)}", "README.md", "exec")


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", *DOCS])
def test_the_files_that_a_document_names_exist(file) -> None:
    text = read(file)
    linked = re.findall(r"\]\((?!http)([^)#]+)", text)
    linked += re.findall(r"src(?:set)?=\"([^\"]+)\"", text)
    named = re.findall(
        r"`((?:tests|examples|bridge|broker|wire|transport|pool|worker|memory)/[\w/]+\.py)`",
        text,
    )
    for path in linked:
        assert (ROOT / file).parent.joinpath(path).exists(), path
    for path in named:
        assert (ROOT / path).exists() or (ROOT / "aioipc" / path).exists(), path
