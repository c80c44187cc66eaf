import pandas as pd

from miracle_lib.hierarchy.cache import cached_tables

TABLE = pd.DataFrame({"x": [1]})


def test_a_table_is_parsed_once_and_again_when_what_is_kept_is_damaged(tmp_path, caplog):
    source, parsed = tmp_path / "a.csv", []
    source.write_text("x")

    def parse():
        parsed.append(1)
        return (TABLE,)

    def read():
        return cached_tables(source, "demo", ("t",), parse, tmp_path / "cache")[0]

    assert read().equals(TABLE)
    assert read().equals(TABLE)
    assert len(parsed) == 1
    (kept,) = (tmp_path / "cache").rglob("*.parquet")
    kept.write_bytes(kept.read_bytes()[:20])
    assert read().equals(TABLE)
    assert len(parsed) == 2
    assert "parsed: t.parquet is damaged; it is made again" in caplog.messages


def test_another_content_is_parsed_anew(tmp_path):
    source = tmp_path / "a.csv"
    for content in ("1", "2"):
        source.write_text(content)
        table = pd.DataFrame({"x": [content]})
        kept = cached_tables(source, "demo", ("t",), lambda table=table: (table,), tmp_path)[0]
        assert kept["x"].tolist() == [content]
