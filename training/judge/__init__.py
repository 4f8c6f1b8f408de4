"""Champion against challenger: scoring frozen rows, paired statistics, the gate, and its self-tests."""
