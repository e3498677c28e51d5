"""The parts that the algorithms share."""
