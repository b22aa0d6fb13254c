"""What may be computed: one folder per operation, a plain reference beside each fast version."""
