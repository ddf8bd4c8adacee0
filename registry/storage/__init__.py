"""Where a store lies, and moving one."""
