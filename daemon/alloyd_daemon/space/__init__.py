"""What takes room in the home and beside it, weighed and removed by a process of its own."""
