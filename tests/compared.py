"""Whose answers are compared, in tests that do not care."""

from __future__ import annotations

from controller.core.shadow.comparison import Case, CaseAnswer
from controller.core.shadow.exchange import Side, Subject

SUBJECT = Subject("shop/agent", "agent-b", "sha256:b", "agent-a", "sha256:a", (), "default")
ANSWER = CaseAnswer(200, "text/plain", "hello", 0.1)
CASE = Case("1", Side.CANDIDATE, SUBJECT, "POST", "/", "hi", ANSWER, ANSWER, 1.0)
