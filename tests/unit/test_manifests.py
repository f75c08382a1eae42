"""AgentRollouts in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.core.traffic import WHOLE_PPM
from controller.manifests import ManifestError, read_rollout

EXAMPLES = Path(__file__).parents[2] / "examples"
MINIMAL = (EXAMPLES / "minimal.yaml").read_text()


def written(folder: Path, text: str) -> Path:
    path = folder / "rollout.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_read(path: Path) -> None:
    assert read_rollout(path).spec.stages[-1].weight_ppm == WHOLE_PPM


def test_the_one_rollout_is_found_among_other_objects(tmp_path: Path) -> None:
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n---\n"
    assert read_rollout(written(tmp_path, other + MINIMAL)).metadata.namespace == "default"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: ConfigMap", "has no AgentRollouts"),
        (f"{MINIMAL}\n---\n{MINIMAL}", "has 2 AgentRollouts"),
        ("a: [1", "line 1 is not YAML"),
        (MINIMAL + "  stages: [{weight: 200%}]", "spec.stages.0.weight: '200%' is not between"),
        (MINIMAL + "  stages: [{weight: 10%}]", "spec.stages: the last stage must have weight 100%"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ManifestError) as found:
        read_rollout(path)
    assert words in str(found.value)
    assert str(path) in str(found.value)


def test_a_file_that_is_not_there_or_not_text_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        read_rollout(tmp_path / "nothing.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="not even text"):
        read_rollout(tmp_path / "binary")
