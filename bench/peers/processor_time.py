"""What processes use of the processors."""

import psutil


def processor_seconds(pid: int) -> float:
    """What a process and its children have used so far, those that have ended included.

    Nothing for a process that is not there.
    """
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0.0
    total = 0.0
    for each in family:
        try:
            times = each.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
