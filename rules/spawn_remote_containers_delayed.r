# The delay server queues the task within half a minute. It runs as the user who calls this rule.
# A delayed rule does not wait for its task. To see its state: imeta ls -C <output collection>/<task id>
main {
  delay("<PLUSET>1s</PLUSET><INST_NAME>irods_rule_engine_plugin-irods_rule_language-instance</INST_NAME>") {
    container_dispatch("containers.run", "/tempZone/home/alice/task_config.json", "dsp_resc", "", "");
  }
}
INPUT null
OUTPUT ruleExecOut
