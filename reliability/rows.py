"""All rows by name, in the order of the specification."""

from reliability import disk, kills, locks, nonfinite, power, retention, rot, shards

ROWS = {
    module.ROW.name: module.ROW
    for module in (kills, power, rot, disk, retention, nonfinite, shards, locks)
}
