"""All rows by name, in the order of the specification."""

from reliability import (
    disk,
    faults,
    folders,
    forged_turns,
    kills,
    locks,
    neighbors,
    nonfinite,
    power,
    resume,
    retention,
    rot,
    shards,
    text_streams,
)

MODULES = (
    kills,
    power,
    rot,
    resume,
    disk,
    retention,
    nonfinite,
    shards,
    text_streams,
    forged_turns,
    faults,
    neighbors,
    folders,
    locks,
)
ROWS = {module.ROW.name: module.ROW for module in MODULES}
