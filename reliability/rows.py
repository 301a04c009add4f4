"""All rows by name, in the order of the specification."""

from reliability import (
    bodies,
    cancels,
    disk,
    faults,
    folders,
    forged_turns,
    kills,
    locks,
    neighbors,
    nonfinite,
    overload,
    power,
    resume,
    retention,
    rot,
    shards,
    shutdowns,
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
    bodies,
    cancels,
    overload,
    faults,
    neighbors,
    shutdowns,
    folders,
    locks,
)
ROWS = {module.ROW.name: module.ROW for module in MODULES}
