"""Evaluators: one leaf each, registered at ``alloyd_daemon.evaluator.EVALUATORS``."""
