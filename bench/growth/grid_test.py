"""Tests for grid.py: which meshes a growth experiment compares."""

import pytest

from bench.growth.grid import TENANTS, Axes, Cell, cells, crowding
from bench.tasks.options import BadPlan
from tasklog.partitions import Partitions


def test_each_mesh_differs_from_the_first_in_one_thing() -> None:
    """So that a difference has one cause; none is run twice."""
    axes = Axes(executors=(1, 2), replicas=(1, 3), partitions=(1, 4), backlogs=(0, 5_000))
    assert cells(axes) == (
        Cell(1, 1, 1),
        Cell(2, 1, 1),
        Cell(1, 3, 1),
        Cell(1, 1, 4),
        Cell(1, 1, 1, 5_000),
    )


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (Axes(executors=(0,)), "--executors must be numbers from 1 to 16, with commas between"),
        (Axes(replicas=()), "--replicas must be numbers from 1 to 16, with commas between"),
        (
            Axes(partitions=(1, 65)),
            "--partitions must be numbers from 1 to 64, with commas between",
        ),
        (Axes(backlogs=(7,)), "--backlogs must be 0 or from 1,000 to 10,000,000"),
    ],
)
def test_what_is_out_of_range_is_refused(axes: Axes, message: str) -> None:
    """Before the first mesh starts."""
    with pytest.raises(BadPlan) as caught:
        cells(axes)
    assert str(caught.value) == message


def test_the_load_reaches_every_one_of_four_partitions() -> None:
    """Else it would measure fewer streams than it says."""
    plan = Cell(1, 1, 4).plan(seconds=10.0, sync_always=None)
    partitions = Partitions(plan.mesh.task_partitions)
    assert {partitions.of(each.tenant) for each in plan.streams} == set(partitions.all)
    assert (len(plan.streams), sum(each.in_flight for each in plan.streams)) == (TENANTS, 64)
    assert plan.marks == (5.0, 15.0, 25.0, 35.0)


def test_four_executors_on_two_processors_are_told() -> None:
    """They take their time from each other; where each process may have its own, nothing is."""
    grid = cells(Axes(executors=(1, 2, 4), replicas=(1,), partitions=(1,), backlogs=(0,)))
    assert crowding(grid, 2) == (
        "Up to 12 processes work on 2 processors: the figures say what a further one costs there,"
        " not what it brings on a machine of its own. Nothing fails for that: tasks wait."
    )
    assert crowding(grid, 11)
    assert crowding(grid, 12) == ""
