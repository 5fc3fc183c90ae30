"""Old output is dropped, and only that."""

import os

from fray.cluster.worker.tidying import drop_old_logs


def test_only_old_output_of_attempts_that_are_gone_is_dropped(tmp_path):
    for name in ("old.log", "old.log.1", "new.log", "here.log"):
        (tmp_path / name).write_text("text")
    written_at = (tmp_path / "new.log").stat().st_mtime - 100
    for name in ("old.log", "old.log.1", "here.log"):
        os.utime(tmp_path / name, (written_at, written_at))
    assert drop_old_logs(tmp_path, {"here"}, age_s=50) == 2
    assert sorted(p.name for p in tmp_path.glob("*.log*")) == ["here.log", "new.log"]
