"""All rows by name, in the order of the specification."""

from reliability import (
    disk,
    folders,
    kills,
    locks,
    nonfinite,
    power,
    resume,
    retention,
    rot,
    shards,
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
    folders,
    locks,
)
ROWS = {module.ROW.name: module.ROW for module in MODULES}
