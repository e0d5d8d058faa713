# A task that names a role instead of a resource: a compute resource that bears the role is chosen.
main {
  container_dispatch("containers.run", "/tempZone/home/alice/task_by_role.json", "", "", "")
}
INPUT null
OUTPUT ruleExecOut
