"""HumanEval and MBPP: conversion of their rows, and the scorer of Python programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textgym.data.literals import from_literal
from textgym.data.rows import Row
from textgym.tasks.judgement import Judgement, nothing


def convert(row: Row) -> Row:
    """Add prompt, reference and tests to a row of HumanEval or MBPP; return others unchanged."""
    if "canonical_solution" in row and "entry_point" in row:
        return {**row, "reference": row["canonical_solution"]}
    if "test_list" in row and "code" in row:
        tests = _listed(row["test_list"])
        shown = tests[:1]
        # The test in the prompt is not used: a program could look it up.
        more = [*tests[1:], *_listed(row.get("challenge_test_list"))]
        hidden = [test for test in more if test.split() != tests[0].split()]
        text = row.get("text") or row.get("prompt") or ""
        setup = row.get("test_setup_code") or "\n".join(_listed(row.get("test_imports")))
        return {
            **row,
            "prompt": "\n".join(['"""', text, *shown, '"""']),
            "reference": "\n" + row["code"].replace("\r\n", "\n"),
            "test_list": hidden or shown,
            "test_setup_code": setup,
        }
    return row


def _listed(values: Any) -> list[str]:
    """The strings in a column: a list, an array, or a list as text (CSV files)."""
    values = from_literal(values)
    if isinstance(values, str):
        return [values] if values.strip() else []
    return [] if values is None else [str(value) for value in values]


def judge_public(completion: str, row: Mapping[str, Any]) -> Judgement:
    """Judge a Python program by its unit tests, or by the reference if it has none."""
    if "entry_point" in row or "test_list" in row:
        from textgym.rewards.code.unit_tests import judge_program

        verdict = judge_program(row["prompt"], completion, row)
        if verdict is not None:
            tests = f"{verdict.passed} of {verdict.total} tests"
            why = f": {verdict.reason} ({verdict.detail})" if verdict.detail else ""
            return Judgement().add(tests, f"passed{why}", verdict.score)
    words = completion.split()
    if words and words == str(row.get("reference", "")).split():
        return Judgement().add("the text", "the reference, up to white space", 1.0)
    return nothing("the text", "not the reference; the row has no tests")
