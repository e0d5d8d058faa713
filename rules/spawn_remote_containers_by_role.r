# Runs a task that names a role instead of a resource. The rule chooses a compute resource with this role.
main {
  container_dispatch("containers.run", "/tempZone/home/alice/task_by_role.json", "", "", "")
}
INPUT null
OUTPUT ruleExecOut
