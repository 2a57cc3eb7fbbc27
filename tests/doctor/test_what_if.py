"""docs/what-if.md and doctor say the same, in the same words."""

from __future__ import annotations

import json
from pathlib import Path

from ollama_ferry.doctor.what_if import WHAT_IF
from support.command_line import ferry
from support.odd_stores import every_oddity

PAGE = (Path(__file__).parents[2] / "docs/what-if.md").read_text(encoding="utf-8")
DOCTOR = (Path(__file__).parents[2] / "docs/doctor.md").read_text(encoding="utf-8")


def test_the_page_has_a_line_for_each_and_doctor_prints_it(tmp_path: Path) -> None:
    for code, (question, answer) in WHAT_IF.items():
        assert f"| {question} | {answer} |" in PAGE, code
        assert f"`{code}`" in DOCTOR, code
    odd = every_oddity(tmp_path)
    findings = json.loads(ferry("doctor", "--models", odd.root, "--json").stdout)["findings"]
    told = {finding["code"]: finding["what_if"] for finding in findings}
    assert {"refused-name", "digest-form", "no-weights", "newer-layout", "missing-blob", "damaged-manifest"} < set(told)
    text = " ".join(ferry("doctor", "--models", odd.root).stdout.split())
    for code, answer in told.items():
        assert answer == WHAT_IF.get(code, ("", None))[1], code
        if answer:
            assert text.count(" ".join(answer.split())) == 1, code
