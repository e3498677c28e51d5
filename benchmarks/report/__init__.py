"""Tables and figures of the comparison, from the committed results."""
