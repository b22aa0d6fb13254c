"""From an outline to bytes: plan, budget, schedule, stages, blends, and the merge itself."""
