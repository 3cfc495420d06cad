"""List scheduling of made-up jobs: time, GPUs, priorities, downloads and the disk."""

from overtrain.planning.jobs import Jobs, Planned
from overtrain.planning.schedule import Cost, Schedule, schedule
from overtrain.planning.work import Work


def planned(number: int, *after: int, **own: object) -> Planned:
    return Planned(number, own.pop("rule", "train"), {}, after, **{"gpus": 1} | own)


def run(
    jobs: list[Planned],
    seconds: list[float],
    gpus: int,
    works: dict[int, Work] | None = None,
    **own,
) -> Schedule | None:
    works = works or {}
    costs = {
        job.number: Cost(works.get(job.number, Work()), time, time)
        for job, time in zip(jobs, seconds, strict=True)
    }
    return schedule(Jobs(jobs), costs, gpus, **own)


def seconds(*arguments: object, **own: object) -> float:
    found = run(*arguments, **own)
    assert found is not None
    return found.seconds


def test_jobs_share_gpus_and_wait_for_what_they_need():
    jobs = [planned(0), planned(1), planned(2), planned(3, 0, 1)]
    assert seconds(jobs, [10, 10, 10, 5], 1) == 35
    assert seconds(jobs, [10, 10, 10, 5], 2) == 20  # the third with the last
    assert seconds(jobs, [10, 10, 10, 5], 3) == 15


def test_the_longest_remaining_path_goes_first():
    """One GPU is left for the short job or for the start of the chain."""
    jobs = [planned(0), planned(1), planned(2, 1)]
    assert seconds(jobs, [10, 6, 6], 2) == 12
    assert seconds(jobs, [10, 6, 6], 1) == 22


def test_a_priority_goes_before_it():
    jobs = [planned(0, priority=1), planned(1), planned(2, 1, gpus=0)]
    assert seconds(jobs, [10, 6, 20], 1) == 36
    jobs[0] = planned(0)
    assert seconds(jobs, [10, 6, 20], 1) == 26


def test_a_group_is_held_whole():
    """Four GPUs for the training and, where it is one group, for the evaluation."""
    apart = [planned(0, gpus=4), planned(1, 0), planned(2, gpus=3)]
    together = [planned(0, gpus=4, group=7), planned(1, 0, group=7), planned(2, gpus=3)]
    assert seconds(apart, [10, 10, 10], 4) == 20
    assert seconds(together, [10, 10, 10], 4) == 30
    assert {(unit.gpus, len(unit.levels)) for unit in Jobs(together).units} == {(4, 2), (3, 1)}


def test_too_few_gpus_for_a_job_is_no_time():
    assert run([planned(0, gpus=4)], [1], 3) is None


def test_what_is_done_is_neither_run_nor_waited_for():
    jobs = [planned(0, to_do=False), planned(1, 0)]
    assert seconds(jobs, [10, 5], 1) == 5


def test_downloads_come_one_after_the_other():
    jobs = [planned(n, gpus=0) for n in range(3)]
    download = Work(downloaded=1)
    assert seconds(jobs, [10, 10, 10], 1) == 10
    assert seconds(jobs, [10, 10, 10], 1, dict.fromkeys(range(3), download)) == 30


def test_what_running_jobs_ask_of_the_disk_stays_within_the_bound():
    jobs = [planned(n, disk_mb=60) for n in range(2)]
    assert seconds(jobs, [10, 10], 2) == 10
    assert seconds(jobs, [10, 10], 2, disk_mb=100) == 20
    assert seconds(jobs, [10, 10], 2, disk_mb=50) == 20  # as Snakemake: what asks for more has all


def test_the_disk_is_that_of_outputs_and_of_what_lies_beside_them_for_a_while():
    """Two trainings of 3 temporary and 4 beside; each evaluation reads one, and keeps 1."""
    jobs = [planned(0), planned(1), planned(2, 0), planned(3, 1)]
    train, evaluate = Work(temporary=3, scratch=4), Work(kept=1)
    works = {0: train, 1: train, 2: evaluate, 3: evaluate}

    def peak(gpus: int) -> float:
        found = run(jobs, [10, 10, 1, 1], gpus, works, there=100)
        assert found is not None
        return found.peak

    assert peak(2) == 100 + 14
    assert peak(1) == 100 + 10  # the second training beside what the first left


def test_temporary_outputs_go_after_their_last_reader():
    jobs = [planned(0), planned(1, 0), planned(2, 1), planned(3, 2)]
    works = {0: Work(temporary=5), 3: Work(scratch=4)}
    found = run(jobs, [1, 1, 1, 1], 1, works)
    assert found is not None and found.peak == 5  # gone when the last one starts
    jobs[2] = planned(2, 0, 1)
    jobs[3] = planned(3, 0, 2)
    found = run(jobs, [1, 1, 1, 1], 1, works)
    assert found is not None and found.peak == 9
