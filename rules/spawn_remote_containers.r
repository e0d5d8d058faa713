main {
  container_dispatch("containers.run", "/tempZone/home/alice/task_config.json", "dsp_resc", "", "")
}
INPUT null
OUTPUT ruleExecOut
