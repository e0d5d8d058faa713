"""The code behind the rules and policies. It runs inside an iRODS agent."""
