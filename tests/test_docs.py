"""What the documents say is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ["docs/design.md", "docs/pool.md"]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_figures_in_the_readme_are_those_of_the_committed_results() -> None:
    command = [sys.executable, "-m", "benchmarks.readme", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_the_first_program_of_the_readme_runs(tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(BLOCKS[0])
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "499999500000\n")


@pytest.mark.parametrize("block", BLOCKS[1:], ids=range(1, len(BLOCKS)))
def test_the_other_blocks_of_the_readme_are_valid(block) -> None:
    body = "".join(f"    {line}\n" for line in block.splitlines())
    compile(f"async def main():\n{body}", "README.md", "exec")


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", *DOCS])
def test_the_files_that_a_document_names_exist(file) -> None:
    text = (ROOT / file).read_text()
    linked = re.findall(r"\]\((?!http)([^)]+)\)", text)
    named = re.findall(
        r"`((?:tests|bridge|wire|transport|pool|worker)/[\w/]+\.py)`", text
    )
    for path in linked:
        assert (ROOT / file).parent.joinpath(path).exists(), path
    for path in named:
        assert (ROOT / path).exists() or (ROOT / "aioipc" / path).exists(), path
