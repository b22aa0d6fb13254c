"""The daemon's own work: jobs in a store, requests on a socket, one child process a job."""
