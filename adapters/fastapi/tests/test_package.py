"""The package as others get it: the wheel in an empty environment, the README's examples, the generated code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from support import BINARY, ROOT, Program, free_port

PACKAGE = Path(__file__).parents[1]
README = (PACKAGE / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_generated_code_is_that_of_the_proto_file(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([PACKAGE / "scripts" / "generate", tmp_path], env=env, check=True)
    for name in ("decision_pb2.py", "decision_pb2.pyi"):
        ours = (PACKAGE / "src" / "quotad" / "v1" / name).read_text()
        assert ours == (tmp_path / "quotad" / "v1" / name).read_text(), "run adapters/fastapi/scripts/generate"


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_readme_runs(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    exec(compile(EXAMPLES[number], f"README example {number}", "exec"), {"__name__": "main"})


def test_every_warning_has_its_section() -> None:
    # The page is that of all adapters; each code is said by one of them at least.
    sources = [*(PACKAGE / "src").glob("**/*.py")]
    for adapter, kind in (("node", "ts"), ("tower", "rs")):
        sources += (ROOT / "adapters" / adapter / "src").glob(f"**/*.{kind}")
    said = set(re.findall(r"\b(W\d{3})\b", "".join(file.read_text() for file in sources)))
    described = set(
        re.findall(r"^## (W\d{3})$", (ROOT / "docs" / "adapters" / "warnings.md").read_text(), re.MULTILINE)
    )
    assert said == described


def test_every_setting_is_in_the_readme() -> None:
    from quotad import Options

    known = {"domain", "credentials", "insecure", "identity_headers", "cors_credentials"}
    missing = [name for name in Options.__annotations__ if name not in README and name not in known]
    assert missing == []


def test_the_wheel_works_in_an_empty_environment_with_the_first_example(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, PACKAGE)
    (wheel,) = tmp_path.glob("quotad-*.whl")
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", venv)
    # The newest versions that there are: the other tests run with pinned ones.
    pip = [venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    run(*pip, f"{wheel}[fastapi]", "uvicorn")
    (tmp_path / "main.py").write_text(EXAMPLES[0].replace("127.0.0.1:50051", "127.0.0.1:@PORT@"))
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "quotad.yaml").write_text((ROOT / "config" / "quotad.yaml").read_text())
    quotad = Program([BINARY, "--config", str(folder / "quotad.yaml"), "--listen", "127.0.0.1:0"], r"^ready in")
    try:
        listening = re.search(r"gRPC +127\.0\.0\.1:(\d+)", "".join(quotad.lines))
        assert listening is not None
        source = tmp_path / "main.py"
        source.write_text(source.read_text().replace("@PORT@", listening[1]))
        port = free_port()
        command = [str(venv / "bin" / "python"), "-m", "uvicorn", "main:app", "--app-dir", str(tmp_path)]
        server = Program([*command, "--port", str(port)], "Application startup complete")
        try:
            url = f"http://127.0.0.1:{port}/login"
            answers: list[int] = []
            end = time.monotonic() + 30
            # A deadline of 50 ms may pass on a busy machine: that request is a 503, and charges nothing or one.
            while 429 not in answers:
                assert time.monotonic() < end
                answers.append(httpx.post(url, timeout=30).status_code)
            assert answers.count(200) <= 10
            assert set(answers) - {503} == {200, 429}
        finally:
            server.stop()
    finally:
        quotad.stop()
