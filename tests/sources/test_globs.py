"""Globs with `**`, which must end although links lead to parent folders."""

import glob

import pytest

from pipeline.core.errors import UserError
from pipeline.params.text import DataParams
from pipeline.sources.finding import find_files, matching_files

NAMES = ["a.txt", "x/b.txt", "x/y/c.txt", "x/y/d.md", "z/e.txt", ".hidden/f.txt", "x/.g.txt"]


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    return tmp_path


@pytest.mark.parametrize("pattern", ["**/*.txt", "*/*.txt", "**", "x/**", "x/**/*.md", "**/y/**/*.txt", "[xz]/**/*"])
def test_the_same_files_match_as_with_glob(folder, pattern):
    found = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207  what it is compared with
    expected = sorted(name for name in found if (folder / name).is_file())
    assert expected
    assert matching_files(pattern, folder) == (folder, expected)
    assert matching_files(f"{folder}/{pattern}", folder)[1] == [f"{folder}/{name}"[1:] for name in expected]


def test_links_to_parent_folders_end(folder):
    """Three links to parents in each of two folders: following them would take 3 ** 40 steps."""
    for number in range(3):
        (folder / f"x/up{number}").symlink_to("..")
        (folder / f"z/over{number}").symlink_to(folder / "x")
    found = find_files(DataParams(source="**/*.txt"), root=folder, cache=folder / ".cache")
    assert [file.name for file in found] == ["a.txt", "x/b.txt", "x/y/c.txt", "z/e.txt"]
    assert len(matching_files("**/**/y/**/**/*.txt", folder)[1]) == 1


def test_a_link_that_the_glob_names_is_followed(folder):
    (folder / "link").symlink_to("x")
    assert matching_files("link/**/*.txt", folder)[1] == ["link/b.txt", "link/y/c.txt"]
    with pytest.raises(UserError, match="no files match"):
        find_files(DataParams(source="**/nothing/*.txt"), root=folder, cache=folder / ".cache")
