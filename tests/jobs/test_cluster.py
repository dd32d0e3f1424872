from __future__ import annotations

import itertools
import socket
import time

import pytest

from napari_usgseg.core.errors import ClusterError, UsgsegError
from napari_usgseg.jobs import cluster as module
from napari_usgseg.jobs.cluster import Cluster

distributed = pytest.importorskip("distributed")


def local(port: int = 0, workers: int = 1):
    """A scheduler and workers in threads of this process."""
    return distributed.LocalCluster(
        n_workers=workers, threads_per_worker=2, processes=False, dashboard_address=None,
        scheduler_port=port, protocol="tcp", host="127.0.0.1",
    )  # fmt: skip


def slowly(number: int) -> int:
    time.sleep(0.02)
    return number * number


def cannot(number: int) -> int:
    raise UsgsegError(f"no file {number} here")


def test_answers_come_in_order_and_few_chunks_are_taken_ahead():
    taken = []

    def chunks():
        for number in range(60):
            taken.append(number)
            yield number

    with local() as machines, Cluster(machines.scheduler_address) as cluster:
        found = cluster.map(slowly, chunks())
        assert next(found) == 0
        assert len(taken) <= 2 * module.AHEAD
        assert list(found) == [number * number for number in range(1, 60)]


def test_a_lost_scheduler_costs_no_answer_where_another_comes_to_its_place():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machines = local(port)
    try:
        with Cluster(machines.scheduler_address, patience=30) as cluster:
            found = cluster.map(slowly, range(40))
            begun = [next(found) for _ in range(5)]
            machines.close()
            machines = local(port)
            assert begun + list(found) == [number * number for number in range(40)]
    finally:
        machines.close()


def test_a_scheduler_that_stays_away_is_said_with_the_cure(monkeypatch):
    machines = local()
    with Cluster(machines.scheduler_address, patience=0.5) as cluster:
        found = cluster.map(slowly, range(40))
        next(found)
        machines.close()
        with pytest.raises(ClusterError, match=r"no scheduler answers .* goes on where"):
            list(found)


def test_a_scheduler_without_workers_is_said_with_the_cure(monkeypatch):
    monkeypatch.setattr(module, "_LOOK_AGAIN", 0.2)
    with (
        local(workers=0) as machines,
        Cluster(machines.scheduler_address, 0.5) as cluster,
        pytest.raises(ClusterError, match=r"no worker at .* start some"),
    ):
        list(cluster.map(slowly, range(3)))


def test_what_a_worker_cannot_do_at_all_ends_the_work_and_is_said():
    with (
        local() as machines,
        Cluster(machines.scheduler_address) as cluster,
        pytest.raises(ClusterError, match=r"no file 0 here.*install the same"),
    ):
        list(cluster.map(cannot, range(3)))


def test_another_version_on_a_worker_ends_the_work_and_is_said(monkeypatch):
    with local() as machines, Cluster(machines.scheduler_address) as cluster:
        seen = itertools.chain(["1.0"], itertools.repeat("0.9"))
        monkeypatch.setattr(module, "version", lambda name: next(seen))
        with pytest.raises(ClusterError, match=r"napari-usgseg [\d.]+ and not"):
            list(cluster.map(slowly, range(1)))


def test_an_address_where_nobody_is_is_said(monkeypatch):
    with pytest.raises(ClusterError, match=r"no scheduler answers at nonsense"):
        Cluster("nonsense://x:1", patience=0.1)
    with pytest.raises(ClusterError, match="dask scheduler"):
        Cluster("tcp://127.0.0.1:1", patience=0.1)
