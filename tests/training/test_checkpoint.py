import logging

import pytest
import torch

from miracle_lib.training.checkpoint import EXPECTED, Checkpoint

STATE = dict.fromkeys(EXPECTED, 1) | {"history": []}


def test_a_state_comes_back_and_is_forgotten(tmp_path):
    checkpoint = Checkpoint(tmp_path / "a.pt")
    assert checkpoint.load() == {}
    checkpoint.save(STATE)
    assert checkpoint.load() == STATE
    checkpoint.remove()
    assert checkpoint.load() == {}


@pytest.mark.parametrize("harm", ["cut", "empty", "text", "foreign", "list"])
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
    else:
        torch.save({"weights": 1} if harm == "foreign" else [1], path)
    assert checkpoint.load() == {}
    assert "set aside as a.pt.damaged, training starts anew" in caplog.text
    assert not path.exists()
    assert (tmp_path / "a.pt.damaged").exists()
