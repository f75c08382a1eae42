"""Judges from a file, the judge without a model, and the set that all are examined with."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.adapters.judges import loading
from controller.adapters.judges.checks import UNSEEN
from controller.adapters.judges.embedding import Alike
from controller.adapters.judges.labelled import read_labelled
from controller.adapters.judges.loading import JudgeHandle, judge_named, load_judges
from controller.cli import app
from controller.core.shadow.comparison import Outcome
from controller.core.shadow.health import Sight
from controller.core.shadow.judgement import JudgeError
from controller.shadow.health import check_health
from tests.unit.shadow.cases import called, case, said, swapped

MODEL = "models: [{url: 'http://127.0.0.1:9/v1', name: m}], budget: {tokens: 1000}"


def written(directory: Path, text: str) -> Path:
    path = directory / "judges.yaml"
    path.write_text(text)
    return path


def loaded(directory: Path, judge: str = "{}") -> JudgeHandle:
    return load_judges(written(directory, f"judges: {{default: {judge}}}"))["default"]


def test_without_a_file_there_is_one_judge_of_checks() -> None:
    judges = load_judges(None)
    assert list(judges) == ["default"]
    assert judges["default"].sees == {Sight.FORM}
    assert judge_named(judges, "default") is judges["default"]
    with pytest.raises(JudgeError, match=r"no judge 'mine': spec\.shadow\.judge can be default") as caught:
        judge_named(judges, "mine")
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("judges: {}", "judges: "),
        ("judge: {}", "judges: Field required"),
        ("judges: {a: {model: x}}", "judges.a.model: not a field that is read here"),
        (
            "judges: {a: {models: [{url: 'x', name: m}], budget: {tokens: 1}}}",
            "judges.a.models.0.url: not a URL of HTTP",
        ),
        ("judges: {a: {models: [{url: 'http://x', name: m}]}}", "judges.a: models need a budget"),
        ("judges: {a: {budget: {tokens: 1}}}", "judges.a: budget and rubric are for models"),
        ("judges: {a: {rubric: helpfulness}}", "judges.a: budget and rubric are for models"),
        (
            "judges: {a: {models: [{url: 'http://x', name: m}], budget: {tokens: 1, cost: 2}}}",
            "judges.a: budget.cost needs the price of each model",
        ),
        (
            "judges: {a: {checks: {forbidden: ['(']}}}",
            "judges.a.checks.forbidden.0: not a regular expression",
        ),
        ("judges: {a: {embedding: {tieAbove: 1.5}}}", "judges.a.embedding.tieAbove: "),
        (
            "judges: {a: {" + MODEL + ", rubric: kindness}}",
            "judges.a.rubric: 'kindness' is none of correctness, helpfulness",
        ),
        (
            "judges: {a: {" + MODEL.replace("name: m", "name: m, timeout: soon") + "}}",
            "timeout: 'soon' is not a duration",
        ),
        (
            "judges: {a: {" + MODEL.replace("name: m", "name: m, apiKeyFile: none") + "}}",
            "none: No such file",
        ),
        ("judges: {a: {healthSet: none.yaml}}", "none.yaml: No such file"),
        ("judges: {a: [}", "is not YAML, at line 1"),
    ],
)
def test_a_file_that_is_not_understood_says_what_and_where(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are looked for below, they are no pattern
        load_judges(written(tmp_path, text))
    assert words in str(caught.value)


def test_the_extra_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(least: float) -> Alike:
        raise ImportError("no module named wordllama")

    monkeypatch.setattr(loading, "Alike", missing)
    with pytest.raises(ValueError, match=r"judges\.default\.embedding needs .*agentrollout\[embedding\]"):
        loaded(tmp_path, "{embedding: {}}")


def test_equal_judges_are_one_artifact_and_any_change_is_another(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    same = [
        MODEL,
        f"{MODEL}, concurrency: 9",
        MODEL.replace("tokens: 1000", "tokens: 2000"),
        MODEL.replace("name: m", "name: m, timeout: 5s, apiKeyFile: key, price: {input: 1, output: 2}"),
    ]
    others = [
        "checks: {}",
        "checks: {forbidden: [x]}",
        "embedding: {}",
        "embedding: {tieAbove: 0.9}",
        f"{MODEL}, rubric: correctness",
        f"{MODEL}, rubric: {{name: mine, version: '1', text: be kind}}",
        f"{MODEL}, rubric: {{name: mine, version: '2', text: be kind}}",
        MODEL.replace("name: m", "name: n"),
        MODEL.replace("name: m", "name: m, answersAs: n"),
        MODEL.replace("name: m", "name: m, maxOutputTokens: 500"),
        MODEL.replace("127.0.0.1", "localhost"),
    ]
    artifacts = {loaded(tmp_path, f"{{{judge}}}").judge.artifact_id for judge in same}
    assert len(artifacts) == 1
    artifacts |= {loaded(tmp_path, f"{{{judge}}}").judge.artifact_id for judge in others}
    assert len(artifacts) == 1 + len(others)
    assert all(artifact.startswith("sha256:") and len(artifact) == 71 for artifact in artifacts)


async def test_the_judge_without_a_model_says_what_it_cannot_see() -> None:
    judge = load_judges(None)["default"].judge
    found = await judge.judge(case("Canberra.", "Sydney.", "The capital of Australia?"))
    assert (found.outcome, found.reason, found.model, found.tokens) == (
        Outcome.TIE,
        f"the answers differ, and {UNSEEN}",
        "",
        0,
    )
    assert (await judge.judge(case("Canberra.", ""))).outcome is Outcome.LOSS


async def test_what_is_forbidden_is_the_files_to_say(tmp_path: Path) -> None:
    judge = loaded(tmp_path, "{checks: {forbidden: ['(?i)cancelled']}}").judge
    assert (
        await judge.judge(case("It is on its way.", "I have CANCELLED your order."))
    ).outcome is Outcome.LOSS


async def test_the_judge_without_a_model_is_fit_for_what_it_claims() -> None:
    handle = load_judges(None)["default"]
    health = await check_health(handle)
    assert health.fit
    assert health.consistency == health.injections == 1.0
    assert health.accuracy >= 0.95
    assert health.wrong == ("secret-told",), "it takes a refusal for a fault, even where it is right"
    assert health.judge_artifact == handle.judge.artifact_id


async def test_similarity_calls_nothing_but_ties(tmp_path: Path) -> None:
    handle = loaded(tmp_path, "{embedding: {tieAbove: 0.9}}")
    alike = await handle.judge.judge(
        case("The invoice is sent by mail today.", "The invoice is being sent by mail today.")
    )
    assert alike.outcome is Outcome.TIE
    assert "the answers are alike (cosine 0.9" in alike.reason
    for other in ("The invoice is not sent by mail today.", "Bananas are yellow.", ""):
        found = await handle.judge.judge(case("The invoice is sent by mail today.", other))
        assert "alike" not in found.reason
        assert (found.outcome is Outcome.TIE) is bool(other)
    assert (await check_health(handle)).fit


async def test_similarity_says_nothing_of_calls_errors_and_very_long_answers() -> None:
    alike = Alike(0.5)
    assert await alike.tie(case("It is on its way.", "It is now on its way.")) != ""
    assert await alike.tie(case(called("find", "{}", "It is so."), called("drop", "{}", "It is so."))) == ""
    assert await alike.tie(case(said("It is so.", 404), "It is so.")) == ""
    assert await alike.tie(case("It is so.", " ")) == ""
    assert await alike.tie(case("so " * 40_000, "so " * 40_001)) == ""
    assert alike.cosine("It is so.", "Is it?") == alike.cosine("Is it?", "It is so.")


def test_the_embedding_leaves_the_logs_of_the_process_alone() -> None:
    before = list(logging.getLogger().handlers), logging.getLogger().level
    Alike(0.9)
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before


def test_the_shipped_set_has_what_it_promises() -> None:
    pairs = read_labelled(None)
    kinds = Counter(pair.kind for pair in pairs if not pair.injection)
    assert sum(kinds.values()) >= 60
    assert sum(pair.injection for pair in pairs) >= 15
    assert kinds.keys() >= {
        "subtle factual error",
        "missing step",
        "wrong tool call",
        "verbosity without content",
        "refusal vs answer",
        "hallucinated reference",
        "language switch",
        "near tie",
        "format break",
        "empty",
        "constant answer",
    }
    sides = Counter(pair.expected for pair in pairs)
    assert abs(sides[Outcome.WIN] - sides[Outcome.LOSS]) <= 10, "no side wins by being a side"
    assert sides[Outcome.TIE] >= 5


async def test_form_is_all_that_the_judge_without_a_model_needs_where_the_set_says_so() -> None:
    judge = load_judges(None)["default"].judge
    for pair in read_labelled(None):
        if pair.needs is Sight.FORM:
            assert (await judge.judge(pair.case)).outcome is pair.expected, pair.name
            assert (await judge.judge(swapped(pair.case))).outcome is pair.expected.mirrored, pair.name


PAIR = "{name: n%d, kind: k, question: q, better: a, worse: b, injection: %s}"


def own_set(directory: Path, *pairs: str, count: int = 20, injection: str = "true") -> Path:
    rows = [*pairs, *(PAIR % (number, injection) for number in range(count))]
    path = directory / "set.yaml"
    path.write_text("pairs:\n" + "".join(f"- {row}\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (
            "{name: x, kind: k, question: q, better: a}",
            "pairs.0: give better and worse, or tie with two answers",
        ),
        (
            "{name: x, kind: k, question: q, better: a, worse: b, tie: [c, d]}",
            "pairs.0: give better and worse, or tie",
        ),
        (
            "{name: x, kind: k, question: q, tie: [c, d], injection: true}",
            "pairs.0: injection is about an answer",
        ),
        ("{name: n1, kind: k, question: q, better: a, worse: b}", "pairs: the name 'n1' stands there twice"),
        ("{name: x, kind: k, question: q, tie: [c]}", "pairs.0.tie.1: Field required"),
    ],
)
def test_a_set_of_ones_own_is_checked(tmp_path: Path, pair: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        read_labelled(own_set(tmp_path, pair))


def test_a_set_of_ones_own_needs_pairs_and_an_injection(tmp_path: Path) -> None:
    assert len(read_labelled(own_set(tmp_path))) == 20
    with pytest.raises(ValueError, match="at least 20 items"):
        read_labelled(own_set(tmp_path, count=19))
    with pytest.raises(ValueError, match="at least one must be an injection"):
        read_labelled(own_set(tmp_path, injection="false"))


def test_a_set_of_ones_own_is_what_the_judge_is_examined_with(tmp_path: Path) -> None:
    own_set(tmp_path)
    handle = loaded(tmp_path, "{healthSet: set.yaml}")
    health = asyncio.run(check_health(handle))
    assert (health.pairs, health.held_to, health.fit) == (20, 0, False)
    assert "accuracy is 0%" in health.problem


def test_the_command_shows_how_judges_do(tmp_path: Path) -> None:
    good = CliRunner().invoke(app, ["judge", "check"])
    assert good.exit_code == 0
    assert "default: fit to judge; wrong about secret-told (refusal vs answer)" in good.output
    assert "100.0%" in good.output
    own_set(tmp_path)
    path = written(tmp_path, "judges: {bad: {healthSet: set.yaml}, good: {}}")
    bad = CliRunner().invoke(app, ["judge", "check", "--judges", str(path)])
    assert bad.exit_code == 1
    assert "bad: not fit: accuracy is 0%" in bad.output
    assert "good: fit" in bad.output
    one = CliRunner().invoke(app, ["judge", "check", "--judges", str(path), "--judge", "good"])
    assert (one.exit_code, "bad" in one.output) == (0, False)


def test_the_command_names_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    missing = CliRunner().invoke(app, ["judge", "check", "--judges", str(tmp_path / "none.yaml")])
    assert missing.exit_code == 2
    assert "No such file" in missing.output
    unknown = CliRunner().invoke(app, ["judge", "check", "--judge", "mine"])
    assert unknown.exit_code == 2
    assert "--judge: there is no judge 'mine': it can be default" in unknown.output


def test_the_command_reads_the_environment_of_the_process(tmp_path: Path) -> None:
    path = written(tmp_path, "judges: {good: {}}")
    told = CliRunner(env={"AGENTROLLOUT_SHADOW_JUDGES": str(path)}).invoke(app, ["judge", "check"])
    assert "good: fit to judge" in told.output
