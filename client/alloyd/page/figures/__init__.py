"""One figure a file: a pure function from what a job left behind to a figure, or to none where there is nothing."""
