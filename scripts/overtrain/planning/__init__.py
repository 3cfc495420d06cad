"""What everything costs: formulas, the time that jobs ask for, the plan, what was spent."""
