"""Print how many test cases passed and failed in a run of Bazel.

    count_tests.py BUILD-EVENT-FILE

Bazel itself counts targets; their cases are in the result files of pytest that
Bazel's events name. A target that could not be built counts as one failure. Of a test
that was tried again the last attempt counts; it is named, since it hides a defect.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

Event = dict[str, Any]


def count_cases(result: Path) -> Counter[str]:
    """Count the cases of one result file, which has an entry for each."""
    counts = Counter[str]()
    for case in ElementTree.parse(result).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            counts["failed"] += 1
        elif "skipped" in kinds:
            counts["skipped"] += 1
        else:
            counts["passed"] += 1
    return counts


def count_event(event: Event) -> Counter[str]:
    """Count what one event tells: a finished test or a target that failed."""
    if "testResult" in event:
        outputs = event["testResult"].get("testActionOutput", [])
        uris: list[str] = [output["uri"] for output in outputs if output["name"] == "test.xml"]
        counts = Counter[str]()
        for uri in uris:
            counts.update(count_cases(Path(unquote(urlparse(uri).path))))
        # Such as a test that was killed before it could write its results.
        if event["testResult"]["status"] != "PASSED" and not counts["failed"]:
            counts["failed"] += 1
        return counts
    if "targetCompleted" in event["id"] and not event.get("completed", {}).get("success"):
        return Counter({"failed": 1})
    return Counter[str]()


def last_attempts(events: Iterable[Event]) -> Iterator[Event]:
    """Leave out the attempts at a test that another one followed, and name that test."""
    kept = dict[tuple[Any, ...], Event]()
    for number, event in enumerate(events):
        if "testResult" not in event:
            kept[(number,)] = event
            continue
        of = event["id"].get("testResult", {})
        test = (of.get("label"), of.get("run"), of.get("shard"))
        if test in kept:
            print(f"needed another attempt: {of.get('label')}")
        kept[test] = event
    yield from kept.values()


def main(events: str) -> int:
    """Print the closing line; without a single test there is nothing to trust."""
    lines = Path(events).read_text().splitlines()
    counts = Counter[str]()
    for event in last_attempts(map(json.loads, lines)):
        counts.update(count_event(event))
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"{counts['passed']} passed, {counts['failed']} failed{skipped}")
    return 0 if counts["passed"] and not counts["failed"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
