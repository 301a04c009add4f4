"""All rows by name, in the order of the specification."""

from reliability import kills, power, rot

ROWS = {module.ROW.name: module.ROW for module in (kills, power, rot)}
