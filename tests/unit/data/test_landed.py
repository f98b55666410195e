"""Files that no run has read are found; what was read is not read again for having been there."""

from __future__ import annotations

from pathlib import Path

from llmops_tasks.data import find_new_files, ingest, synthetic
from tests.support import tiny


def test_files_are_new_until_they_were_read_and_again_when_others_land(tmp_path: Path) -> None:
    landing = tmp_path / "in"
    usecase = str(tiny.usecase(tmp_path / "cases", Path("/no-model"), f"{landing.as_uri()}/*.csv"))
    assert find_new_files(usecase=usecase) == []  # nothing has landed
    synthetic.write_triage(out=tmp_path.joinpath("notes").as_uri(), notes=120, day_notes=60, reviewed_notes=60)
    landing.mkdir()
    source = (tmp_path / "notes" / "landing" / "history.csv").read_text()
    (landing / "one.csv").write_text(source)
    (run,) = find_new_files(usecase=usecase)
    assert (run["stage"], run["conf"]) == ("prepare_data", {}) and run["run_id"].startswith("due__")
    assert find_new_files(usecase=usecase) == [run]  # the same work has the same name
    ingest(usecase=usecase)
    assert find_new_files(usecase=usecase) == []
    (landing / "two.csv").write_text(source.replace("\nV", "\nW"))
    (other,) = find_new_files(usecase=usecase)
    assert other["run_id"] != run["run_id"]
    ingest(usecase=usecase)
    (landing / "two.csv").unlink()
    assert len(find_new_files(usecase=usecase)) == 1  # that a file went is news, too
