from pipeline.tracking import progress as module
from pipeline.tracking.progress import throughput


def test_what_is_quick_says_nothing(capsys):
    with throughput("ingest", 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")


def test_what_took_long_says_one_line(capsys, monkeypatch):
    clock = iter([0.0, 12.5])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with throughput("ingest", None) as advance:
        advance(1_000_000_000)
        advance(250_000_000)
    assert capsys.readouterr().err == "ingest: 1.2 GB in 12.5 s, 100 MB/s\n"
