import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from devkit import builder, golang
from devkit.builder import Module, Program, cached, ensure_built
from devkit.errors import DevkitError
from devkit.process import wait_until
from devkit.toolchain import Toolchain

MakeGo = Callable[..., Path]


@pytest.fixture
def module(tmp_path: Path) -> Module:
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "go.mod").write_text("module example\n\ngo 1.26.0\n")
    (folder / "go.sum").write_text("")
    return Module(folder, ("-ldflags", "-s -w"))


@pytest.fixture
def program(module: Module) -> Program:
    return Program("tool", module, "example/tool")


@pytest.fixture
def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeGo:
    """Put a `go` on PATH, alone, that answers with a version and notes each build in a file beside it."""
    folder = tmp_path / "go-on-path"
    folder.mkdir()
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path / "no-scripts"))
    monkeypatch.setenv("PATH", str(folder))

    def make(version: str = "1.26.3", on_build: str = 'open(sys.argv[3], "w").write("built")') -> Path:
        go = folder / "go"
        go.write_text(
            f"#!{sys.executable}\nimport os, sys, time\n"
            f'if sys.argv[1] == "env":\n    print("go{version}")\n    sys.exit()\n'
            f'with open("{folder}/builds", "a") as builds:\n    builds.write(" ".join(sys.argv) + "\\n")\n{on_build}\n'
        )
        go.chmod(go.stat().st_mode | stat.S_IXUSR)
        return folder

    return make


def quiet() -> Console:
    return Console(file=StringIO())


def builds(folder: Path) -> list[str]:
    return (folder / "builds").read_text().splitlines() if (folder / "builds").exists() else []


def test_a_program_is_built_once_with_the_flags_of_its_module(
    program: Program, fake_go: MakeGo, tmp_path: Path
) -> None:
    folder = fake_go()
    for _ in range(2):
        ensure_built([program], tmp_path / "cache", quiet())
    assert cached(program, tmp_path / "cache").read_text() == "built"
    assert len(builds(folder)) == 1
    assert builds(folder)[0].endswith("-ldflags -s -w example/tool")


def test_of_two_builders_at_once_one_builds_and_the_other_says_that_it_waits(
    program: Program, fake_go: MakeGo, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    folder = fake_go(
        on_build=f'while not os.path.exists("{gate}"):\n    time.sleep(0.01)\nopen(sys.argv[3], "w").write("built")'
    )
    outputs = [StringIO(), StringIO()]
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(ensure_built, [program], tmp_path / "cache", Console(file=output, width=300))
            for output in outputs
        ]
        wait_until(
            lambda: any("waiting for it" in output.getvalue() for output in outputs),
            timeout=10,
            what="the second",
        )
        gate.touch()
        for run in runs:
            run.result(timeout=10)
    assert len(builds(folder)) == 1


def test_other_dependencies_or_flags_are_another_build(
    program: Program, module: Module, tmp_path: Path
) -> None:
    places = {cached(program, tmp_path)}
    (module.folder / "go.sum").write_text("example.com/a v1.0.0 h1:x\n")
    places.add(cached(program, tmp_path))
    places.add(cached(Program("tool", Module(module.folder, ("-tags", "x")), "example/tool"), tmp_path))
    assert len(places) == 3


def test_a_failed_build_shows_the_compilers_words_and_leaves_nothing(
    program: Program, fake_go: MakeGo, tmp_path: Path
) -> None:
    fake_go(on_build='open(sys.argv[3], "w").write("half")\nsys.exit("dial tcp: no route to proxy")')
    with pytest.raises(DevkitError, match=r"no route to proxy(.|\n)*GOPROXY"):
        ensure_built([program], tmp_path / "cache", quiet())
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [path.name for path in left] in ([], ["build.lock"])


def test_what_a_killed_build_left_is_removed_by_the_next(
    program: Program, fake_go: MakeGo, tmp_path: Path
) -> None:
    fake_go()
    half = cached(program, tmp_path / "cache").parent.parent / "building-killed" / "tool"
    half.parent.mkdir(parents=True)
    half.write_text("half")
    ensure_built([program], tmp_path / "cache", quiet())
    assert not half.parent.exists()
    assert cached(program, tmp_path / "cache").read_text() == "built"


def test_a_lock_whose_owner_is_gone_does_not_block(program: Program, fake_go: MakeGo, tmp_path: Path) -> None:
    fake_go()
    lock = cached(program, tmp_path / "cache").parent.parent / "build.lock"
    lock.parent.mkdir(parents=True)
    die_holding_it = f"import filelock, os; filelock.FileLock({str(lock)!r}).acquire(); os._exit(0)"
    subprocess.run([sys.executable, "-c", die_holding_it], check=True)
    ensure_built([program], tmp_path / "cache", quiet())
    assert cached(program, tmp_path / "cache").exists()


def test_without_go_the_message_names_the_ways_out(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        DevkitError, match=r"needs Go 1\.26\.0.*there is none.*make setup.*KUBEBUILDER_ASSETS"
    ):
        ensure_built([program], tmp_path / "cache", quiet())


def test_a_go_that_is_too_old_is_named(program: Program, fake_go: MakeGo, tmp_path: Path) -> None:
    folder = fake_go(version="1.22.1")
    with pytest.raises(DevkitError, match=rf"{folder}/go is 1\.22\.1"):
        ensure_built([program], tmp_path / "cache", quiet())


def test_the_wheels_go_is_taken_where_the_machines_own_is_too_old(
    fake_go: MakeGo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fake_go(version="1.27.3")
    wheel = tmp_path / "scripts"
    folder.rename(wheel)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(wheel))
    folder.mkdir()
    fake_go(version="1.22.1")
    assert golang.find_go((1, 26)).path == wheel / "go"


def test_a_build_does_not_depend_on_what_the_user_set(
    fake_go: MakeGo, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go()
    for name, value in (
        ("GOFLAGS", "-mod=mod"),
        ("CGO_ENABLED", "1"),
        ("GOOS", "plan9"),
        ("GOPROXY", "https://proxy"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HOME", raising=False)
    environment = golang.build_environment(golang.find_go((1, 26)))
    assert environment["GOFLAGS"] == "-trimpath -buildvcs=false"
    assert (environment["CGO_ENABLED"], environment["GOTOOLCHAIN"]) == ("0", "local")
    assert environment["GOPROXY"] == "https://proxy"
    assert "GOOS" not in environment
    assert environment["HOME"]


def test_assets_of_the_user_come_before_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etcd").touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    toolchain = Toolchain(cache=tmp_path / "cache", console=quiet())
    assert toolchain.find("etcd") == tmp_path / "etcd"
    with pytest.raises(DevkitError, match=r"no kube-apiserver in it: fix or unset it"):
        toolchain.find("kube-apiserver")


def test_every_pinned_module_is_there() -> None:
    for program in builder.PROGRAMS.values():
        assert golang.required_version(program.module.folder / "go.mod") >= (1, 26)
        assert program.package.split("/cmd/")[0] in (program.module.folder / "go.mod").read_text()
