"""What runs inside an iRODS agent, behind the rules."""
