"""Work divided among threads: in order, without a trace, and the same for any number of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
import torch

from radarbook.radar.array import qar50
from radarbook.radar.imaging import Grid, back_project, project
from radarbook.radar.meshes import sphere
from radarbook.radar.simulate import simulate
from radarbook.radar.waveform import qar50_waveform
from radarbook.threads import allowed, alone, divide


@pytest.fixture
def three_threads() -> Iterator[None]:
    known = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(known)


@pytest.mark.usefixtures("three_threads")
def test_pieces_come_in_order_from_several_threads_that_compute_alone() -> None:
    meet = threading.Barrier(3, timeout=60)

    def work(n: int) -> tuple[int, int, int]:
        if n < 3:
            meet.wait()  # passes only if three pieces run at the same time
        return n, allowed(), torch.get_num_threads()

    with torch.no_grad(), alone():
        assert list(divide(work, 20)) == [(n, 1, 1) for n in range(20)]
        assert allowed() == 3
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_no_more_threads_than_are_wanted() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def work(n: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.002)
        with lock:
            running -= 1
        return n

    with torch.no_grad():
        assert list(divide(work, 12, most=2)) == list(range(12))
    assert most <= 2


@pytest.mark.usefixtures("three_threads")
def test_an_error_in_a_piece_is_raised_and_the_rest_is_dropped() -> None:
    begun = []

    def work(n: int) -> int:
        begun.append(n)
        if n == 2:
            raise ValueError("piece two")
        threading.Event().wait(0.01)
        return n

    with torch.no_grad(), pytest.raises(ValueError, match="piece two"):
        list(divide(work, 1000))
    assert len(begun) < 500
    with torch.no_grad():  # the pool is as before
        assert list(divide(lambda n: n, 5)) == list(range(5))


@pytest.mark.usefixtures("three_threads")
def test_gradients_are_recorded_in_the_calling_thread() -> None:
    x = torch.ones(4, requires_grad=True)
    total = torch.stack(list(divide(lambda n: x[n] * n, 4))).sum()
    total.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 2, 3]
    with torch.no_grad():
        (piece,) = divide(lambda n: x * 2, 1)
    assert not piece.requires_grad


@pytest.mark.usefixtures("three_threads")
def test_alone_ends_with_an_error_too() -> None:
    @alone()
    def fails() -> None:
        assert torch.get_num_threads() == 1
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fails()
    assert torch.get_num_threads() == 3
    assert allowed() == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("three_threads")
def test_a_forked_process_has_threads_of_its_own() -> None:
    with torch.no_grad():
        list(divide(lambda n: n, 6))
        child = os.fork()
        if child == 0:
            done = list(divide(lambda n: n, 6)) == list(range(6))
            os._exit(0 if done else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    array, waveform = qar50(), qar50_waveform(12)
    vertices, triangles = sphere((0.01, -0.02, 0.33), 0.05, 4e-3)
    grid = Grid.regular(0.2, 40, 0.28, 0.36, 12)
    # Gradients, too: of the signal's power with respect to the vertices.
    found = []
    known = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            points = vertices.float().requires_grad_()
            signal = simulate(points, triangles, array, waveform)
            signal.abs().square().sum().backward()
            assert points.grad is not None
            signal = signal.detach()
            with torch.no_grad():
                volume = back_project(signal, array, waveform, grid)
                back = project(volume, array, waveform, grid)
                direct = simulate(vertices, triangles, array, waveform, method="direct")
            found.append((signal, points.grad, volume, back, direct))
    finally:
        torch.set_num_threads(known)
    for one, three in zip(*found, strict=True):
        assert torch.equal(one, three)
