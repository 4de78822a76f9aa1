from pipeline.core import kernel_cache


def test_machine_code_is_invalidated_by_a_change_of_the_file_or_of_its_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_cache, "ROOT", tmp_path)
    sources = {
        "a": "import numpy\nfrom pipeline.b import f",
        "b": "from pipeline.c.kernels import d\nfrom pipeline.a import g",
        "c/kernels/d": "",
        "other": "",
    }
    for name, source in sources.items():
        path = tmp_path / f"pipeline/{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)

    def source_hash():
        kernel_cache.source_hash.cache_clear()
        return kernel_cache.source_hash(tmp_path / "pipeline/a.py")

    before = source_hash()
    for name, matters in (("a", True), ("b", True), ("c/kernels/d", True), ("other", False)):
        path = tmp_path / f"pipeline/{name}.py"
        path.write_text(f"{sources[name]}\n# changed")
        assert (source_hash() != before) == matters
        path.write_text(sources[name])
    assert source_hash() == before
    kernel_cache.source_hash.cache_clear()
