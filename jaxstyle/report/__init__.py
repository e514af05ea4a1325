"""What people look at: progress, contact sheets."""
