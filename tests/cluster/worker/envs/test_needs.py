"""What a project and a job ask for, and what of it makes another environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from fray.cluster.worker.envs import base
from fray.cluster.worker.envs.needs import Source, check_package, needs_of
from fray.errors import InvalidRequestError

PROJECT = """
[project]
name = "mine"
version = "{version}"
dependencies = ["tinydep>=1", "orjson"]
[project.optional-dependencies]
Gpu_Fast = ["cudalib"]
[tool.ruff]
line-length = {length}
"""

LOCK = """
version = 1
[[package]]
name = "mine"
source = {{ editable = "." }}
[[package]]
name = "tinydep"
version = "{version}"
source = {{ registry = "https://index" }}
"""


def project(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def pyproject(version: str = "1", length: int = 80) -> dict[str, str]:
    return {"pyproject.toml": PROJECT.format(version=version, length=length)}


def test_nothing_is_needed_where_nothing_is_asked_for(tmp_path):
    assert needs_of(None, (), ()).is_nothing
    assert needs_of(tmp_path, (), ()).is_nothing
    project(tmp_path, **{"pyproject.toml": '[project]\nname = "x"\nversion = "1"\n'})
    assert needs_of(tmp_path, (), ()).is_nothing


def test_a_lock_counts_before_hashes_before_the_project_before_requirements(tmp_path):
    project(tmp_path, **{"requirements.txt": "tinydep\n"})
    assert needs_of(tmp_path, (), ()).source is Source.REQUIREMENTS
    project(tmp_path, **pyproject())
    assert needs_of(tmp_path, (), ()).source is Source.PROJECT
    project(tmp_path, **{"requirements.txt": "tinydep==1 --hash=sha256:00\n"})
    assert needs_of(tmp_path, (), ()).source is Source.HASHES
    project(tmp_path, **{"uv.lock": LOCK.format(version="1")})
    assert needs_of(tmp_path, (), ()).source is Source.LOCK


def test_what_does_not_decide_about_packages_makes_no_other_environment(tmp_path):
    project(tmp_path, **pyproject("1", 80))
    before = needs_of(tmp_path, (), ()).key()
    project(tmp_path, **pyproject("2", 100), **{"mine.py": "print()"})
    assert needs_of(tmp_path, (), ()).key() == before


def test_what_decides_about_packages_makes_another_environment(tmp_path):
    project(tmp_path, **pyproject())
    keys = [needs_of(tmp_path, (), ()).key()]
    keys.append(needs_of(tmp_path, ["gpu-fast"], ()).key())
    keys.append(needs_of(tmp_path, (), ["more"]).key())
    keys.append(needs_of(tmp_path, (), ["more>1"]).key())
    keys.append(needs_of(tmp_path, (), ()).key("another interpreter"))
    text = pyproject()["pyproject.toml"]
    project(tmp_path, **{"pyproject.toml": text.replace("tinydep>=1", "tinydep>=2")})
    keys.append(needs_of(tmp_path, (), ()).key())
    project(tmp_path, **{"pyproject.toml": f'{text}\n[tool.uv]\nindex-url = "https://other"\n'})
    keys.append(needs_of(tmp_path, (), ()).key())
    project(tmp_path, **{"uv.lock": LOCK.format(version="1")})
    keys.append(needs_of(tmp_path, (), ()).key())
    project(tmp_path, **{"uv.lock": LOCK.format(version="2")})
    keys.append(needs_of(tmp_path, (), ()).key())
    assert len(set(keys)) == len(keys)
    assert needs_of(tmp_path, (), ["b", "a"]).key() == needs_of(tmp_path, (), ["a", "b"]).key()


def test_extras_are_those_of_the_project_however_they_are_spelled(tmp_path):
    project(tmp_path, **pyproject())
    assert "cudalib" in needs_of(tmp_path, ["gpu.fast"], ()).requirements
    with pytest.raises(InvalidRequestError, match="mine has no extra tpu; it has gpu-fast"):
        needs_of(tmp_path, ["tpu"], ())


def test_extras_without_a_project_are_refused(tmp_path):
    project(tmp_path, **{"requirements.txt": "tinydep\n"})
    with pytest.raises(InvalidRequestError, match=r"extras tpu .* no \[project\]"):
        needs_of(tmp_path, ["tpu"], ())


@pytest.mark.parametrize(
    "files",
    [
        {"requirements.txt": "-r more.txt\n"},
        {"requirements.txt": "orjson\n./libs/tools\n"},
        {"requirements.txt": "-e .\n"},
        {
            "uv.lock": LOCK.format(version="1").replace(
                'registry = "https://index"', 'path = "w.whl"'
            )
        },
        {"uv.lock": LOCK.format(version="1").replace("https://index", "wheels")},
        {"pyproject.toml": '[project]\nname = "x"\ndynamic = ["version", "dependencies"]\n'},
        {
            "pyproject.toml": '[project]\nname = "x"\nversion = "1"\ndependencies = ["t"]\n'
            '[tool.uv.sources]\nt = { path = "libs/t" }\n'
        },
    ],
)
def test_what_is_installed_from_the_project_s_own_files_depends_on_them(tmp_path, files):
    if "uv.lock" in files:
        project(tmp_path, **pyproject())
    project(tmp_path, **files)
    assert needs_of(tmp_path, (), ()).of_files


def test_a_lock_with_nothing_but_the_project_needs_nothing(tmp_path):
    project(tmp_path, **pyproject())
    project(tmp_path, **{"uv.lock": LOCK.partition('[[package]]\nname = "tinydep')[0].format()})
    assert needs_of(tmp_path, (), ()).is_nothing


@pytest.mark.parametrize("name", ["uv.lock", "pyproject.toml"])
def test_a_file_that_makes_no_sense_is_named(tmp_path, name):
    project(tmp_path, **pyproject())
    project(tmp_path, **{name: "[["})
    with pytest.raises(InvalidRequestError, match=f"{name} of the workspace makes no sense"):
        needs_of(tmp_path, (), ())


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("pyproject.toml", 'project = "mine"', "project"),
        ("pyproject.toml", '[project]\ndependencies = "numpy"', "project.dependencies"),
        ("pyproject.toml", "[project]\ndependencies = [1]", "project.dependencies"),
        ("pyproject.toml", '[project]\ndynamic = "version"', "project.dynamic"),
        (
            "pyproject.toml",
            '[project]\noptional-dependencies = ["numpy"]',
            "project.optional-dependencies",
        ),
        (
            "pyproject.toml",
            '[project.optional-dependencies]\ngpu = "cudalib"',
            "project.optional-dependencies",
        ),
        ("pyproject.toml", "tool = 1", "tool"),
        ("pyproject.toml", "[tool]\nuv = [1]", "tool.uv"),
        ("uv.lock", 'package = "numpy"', "package"),
        ("uv.lock", 'package = ["numpy"]', "package"),
        ("uv.lock", '[[package]]\nsource = "index"', "package"),
    ],
)
def test_a_file_whose_parts_are_of_another_kind_is_named_with_them(tmp_path, name, text, where):
    project(tmp_path, **pyproject())
    project(tmp_path, **{name: text})
    with pytest.raises(InvalidRequestError, match=f"{name} of the workspace .*: {where} is to be"):
        needs_of(tmp_path, (), ())


@pytest.mark.parametrize(
    "package",
    [
        "numpy",
        "numpy>=2,<3",
        "a[b]==1; python_version > '3'",
        "./libs/tools",
        ".",
        "git+https://host/repo@main",
        "https://host/w.whl",
        "tools @ file:///x",
    ],
)
def test_a_requirement_is_taken(package):
    check_package(package)


@pytest.mark.parametrize(
    "package", ["--index-url=https://evil", "-r x", "a b", "a\n--pre", "./a\n-e b"]
)
def test_what_is_no_requirement_is_refused(package):
    with pytest.raises(InvalidRequestError, match="is no requirement"):
        check_package(package)


def test_the_agent_s_environment_will_do_where_it_has_everything():
    assert base.satisfies(
        [
            "orjson>=3",
            "fray-actors",
            "aiohttp; python_version < '3'",
            "nothere; python_version < '3'",
        ]
    )
    assert not base.satisfies(["orjson>=3", "nothere"])
    assert not base.satisfies(["orjson>=1000"])
    assert not base.satisfies(["orjson @ https://host/orjson.whl"])
    assert not base.satisfies(["./libs/tools"])
    assert not base.satisfies(["aiohttp[nothere-extra]", "fray-actors>=1000"])
