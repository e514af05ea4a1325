"""Output for users: progress, contact sheets, plots."""
