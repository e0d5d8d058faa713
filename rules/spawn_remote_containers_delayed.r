# The same task, queued by the delay server within half a minute, run as the user who calls this.
# A delayed rule does not wait for its task: imeta ls -C <output collection>/<task id> tells how far it is.
main {
  delay("<PLUSET>1s</PLUSET><INST_NAME>irods_rule_engine_plugin-irods_rule_language-instance</INST_NAME>") {
    container_dispatch("containers.run", "/tempZone/home/alice/task_config.json", "dsp_resc", "", "");
  }
}
INPUT null
OUTPUT ruleExecOut
