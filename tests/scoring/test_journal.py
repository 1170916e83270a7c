"""The journal: what was read comes back to the last bit, parts are whole or not there, and it
belongs to one run.
"""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from affect.local.reading import LocalReading
from scoring.chunks import Mark
from scoring.journal import Journal, JournalError
from tests.support.readings import reading

RUN = {"inputs": ["clip.mp4"], "every": 1}
NOBODY = LocalReading("clip.mp4", 7, 0.28, error="no_face", detail="no face")
BARE = LocalReading("a.png", None, None, 0, realism=0.1)


def _same(a: LocalReading, b: LocalReading) -> bool:
    return all(
        np.array_equal(getattr(a, part.name), getattr(b, part.name))
        if part.name == "identity"
        else getattr(a, part.name) == getattr(b, part.name)
        for part in fields(LocalReading)
    )


def test_what_was_read_comes_back(tmp_path: Path) -> None:
    pair = [reading(0, smile=1 / 3), reading(0, face=1, x=1e-17, person=3)]
    pictures = [pair, [NOBODY], [BARE]]
    journal = Journal.begin(tmp_path / "j", RUN)
    journal.add(pictures, Mark(0, {"number": 8, "pts": 123}))
    journal.flush()
    again = Journal.resume(tmp_path / "j", RUN)
    replayed = list(again.replay())
    assert [len(entries) for entries in replayed] == [2, 1, 1]
    assert all(
        _same(a, b)
        for was, now in zip(pictures, replayed, strict=True)
        for a, b in zip(was, now, strict=True)
    )
    assert again.mark == Mark(0, {"number": 8, "pts": 123})


def test_a_part_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path / "j", RUN)
    journal.add([[NOBODY]], Mark(0, {"done": 1}))
    journal.flush()
    (tmp_path / "j" / "part-00000001.tmp").write_bytes(b"half")
    again = Journal.resume(tmp_path / "j", RUN)
    again.add([[NOBODY]], Mark(0, {"done": 2}, complete=True))
    again.flush()
    assert len(list(Journal.resume(tmp_path / "j", RUN).replay())) == 2
    assert not list((tmp_path / "j").glob("*.tmp"))


def test_a_journal_belongs_to_one_run(tmp_path: Path) -> None:
    Journal.begin(tmp_path / "j", RUN)
    with pytest.raises(JournalError, match=r"another every \(1, now 5\)"):
        Journal.resume(tmp_path / "j", RUN | {"every": 5})
    (tmp_path / "j" / "run.json").write_text("{")
    with pytest.raises(JournalError, match="--overwrite"):
        Journal.resume(tmp_path / "j", RUN)


def test_nothing_new_makes_no_part(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path / "j", RUN)
    journal.flush()
    assert journal.parts == 0 and journal.mark is None
    assert not list(replace(journal).replay())
