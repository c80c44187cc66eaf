import logging

import pytest
import torch

from miracle_lib.training import checkpoint as module
from miracle_lib.training.checkpoint import Checkpoint

STATE = {"epoch": 1, "history": [], "weights": torch.arange(1000.0)}


def test_a_state_comes_back_and_is_forgotten(tmp_path):
    checkpoint = Checkpoint(tmp_path / "a.pt")
    assert checkpoint.load() == {}
    checkpoint.save(STATE)
    state = checkpoint.load()
    assert torch.equal(state.pop("weights"), STATE["weights"])
    assert state == {"epoch": 1, "history": []}
    checkpoint.remove()
    assert checkpoint.load() == {}


@pytest.mark.parametrize("harm", ["cut", "empty", "text", "foreign", "flip"])
def test_what_is_no_state_is_set_aside_with_a_sentence(tmp_path, caplog, harm):
    caplog.set_level(logging.WARNING, "miracle_lib")
    path = tmp_path / "a.pt"
    checkpoint = Checkpoint(path)
    checkpoint.save(STATE)
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "text":
        path.write_text("hello")
    elif harm == "foreign":
        torch.save(STATE, path)
    else:
        content = bytearray(path.read_bytes())
        content[content.find(STATE["weights"].numpy().tobytes()) + 403] ^= 0x40  # one weight
        path.write_bytes(content)
    assert checkpoint.load() == {}
    assert "set aside as a.pt.damaged, training starts anew" in caplog.text
    assert not path.exists()
    assert (tmp_path / "a.pt.damaged").exists()


def test_a_state_of_another_version_is_not_continued(tmp_path, caplog, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "a.pt")
    checkpoint.save(STATE)
    monkeypatch.setattr(module, "_maker", lambda: b"other")
    assert checkpoint.load() == {}
    assert "was made by another version of the code or of its packages" in caplog.text
