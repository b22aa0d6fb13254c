"""The page of a job, for two uses: a file that is read offline, and what `alloy ui` serves."""
