"""What the host has, and what it lacks: the checks of `imagebuild doctor` and before a build."""
