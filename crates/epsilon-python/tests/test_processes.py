"""Processes that Python forks."""

import multiprocessing

import numpy as np
import pytest

import epsilon_zsl
from epsilon_zsl import metrics

SCORES, LABELS = np.array([[0.9], [0.2]]), np.array([[1], [0]])


def read(path, answer):
    """What may be done in a forked process, and what is refused there."""
    store = epsilon_zsl.TokenStore(path)
    tokens, _ = store[0]
    try:
        metrics.multilabel_average_precision(SCORES, LABELS)
        said = "computed"
    except epsilon_zsl.EpsilonError as error:
        said = str(error)
    answer.put((tokens.shape, said))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_reads_stores_and_refuses_to_compute(drawn):
    assert metrics.multilabel_average_precision(SCORES, LABELS) == 1
    forked = multiprocessing.get_context("fork")
    answer = forked.Queue()
    process = forked.Process(target=read, args=(drawn / "tokens", answer))
    process.start()
    shape, said = answer.get(timeout=30)
    process.join(timeout=30)
    store = epsilon_zsl.TokenStore(drawn / "tokens")
    assert shape == (store.tokens_per_image, store.width)
    assert "spawn" in said
